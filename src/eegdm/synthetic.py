"""Synthetic EEG corpora on disk, in the layouts that users have: TUEV, TUAB, TUSZ, CHB-MIT,
Siena, a folder, BIDS.
"""

from eegdm.data.synthetic.layouts import (
    write_bids,
    write_chbmit,
    write_folder,
    write_siena,
    write_tuab,
    write_tuev,
    write_tusz,
)

__all__ = [
    "write_bids",
    "write_chbmit",
    "write_folder",
    "write_siena",
    "write_tuab",
    "write_tuev",
    "write_tusz",
]
