"""Synthetic EEG: sources, recordings, and corpora in the layouts of real ones."""
