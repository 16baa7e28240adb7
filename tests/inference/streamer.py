"""An amplifier, as another process: it sends a recording as a stream of the Lab Streaming Layer,
faster than real time, in microvolts and float32.

Usage: python streamer.py RECORDING NAME [GAP_AT_S GAP_S]: after that time it disconnects, and
connects again that much later by its own clock.
"""

from __future__ import annotations

import sys
import time

import mne
import numpy as np
from mne_lsl import lsl

CHUNK = 64


def connected(name: str, raw: mne.io.BaseRaw) -> lsl.StreamOutlet:
    """An outlet that somebody listens to."""
    about = lsl.StreamInfo(name, "eeg", len(raw.ch_names), raw.info["sfreq"], "float32", name)
    about.set_channel_names(raw.ch_names)
    about.set_channel_units("microvolts")
    outlet = lsl.StreamOutlet(about)
    print("ready", flush=True)
    assert outlet.wait_for_consumers(120.0)
    return outlet


def send(recording: str, name: str, gap_at_s: float = -1.0, gap_s: float = 0.0) -> None:
    """Send the recording, then wait to be stopped."""
    raw = mne.io.read_raw(recording, preload=True, verbose="ERROR")
    sfreq, microvolts = raw.info["sfreq"], (1e6 * raw.get_data()).T.astype(np.float32)
    start_s, outlet = lsl.local_clock(), connected(name, raw)
    for at in range(0, len(microvolts), CHUNK):
        if gap_at_s >= 0 and at == round(gap_at_s * sfreq):
            time.sleep(1.0)  # so that all that was sent is received
            outlet._del()
            start_s += gap_s
            outlet = connected(name, raw)
        chunk = microvolts[at : at + CHUNK]
        outlet.push_chunk(chunk, timestamp=start_s + (at + len(chunk)) / sfreq)
        time.sleep(0.005)
    sys.stdin.read()


if __name__ == "__main__":
    recording, name, *gap = sys.argv[1:]
    send(recording, name, *map(float, gap))
