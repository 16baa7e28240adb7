"""Synthetic EEG corpora on disk, in the layouts that users have: TUEV, CHB-MIT, a folder, BIDS."""

from eegdm.data.synthetic.layouts import write_bids, write_chbmit, write_folder, write_tuev

__all__ = ["write_bids", "write_chbmit", "write_folder", "write_tuev"]
