"""Recordings, events and windows: everything between files on disk and arrays of EEG. Knows nothing
of models.
"""
