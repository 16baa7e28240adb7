"""Gaps: places where time passed that a recording holds no samples of.

Each format has its own word for one. All are found here, and treated alike: filters and windows
would join what does not belong together, and every later onset would be wrong.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eegdm.data.edf import EdfHeader, record_stamps
from eegdm.errors import UserError

if TYPE_CHECKING:
    import mne

# An instant in which samples were joined: EEGLAB (-99 where events are numbers), BrainVision, MNE's
# concatenation, ANT. Writers such as pybv put "Comment/" before a name.
_JOINT = re.compile(
    r"(?:\w+/)?(?:boundary|-99(?:\.0)?|New Segment/.*|(?:EDGE|BAD) boundary|Amplifier"
    r" (?:dis|re)connected)",
    re.IGNORECASE,
)
_GDF_JOINT = "32766"  # GDF's code of an event for the start of a new segment
# A stretch whose samples stand for none: FIF, EGI, Neuralynx and others by MNE; ANT.
_SKIP = re.compile(r"BAD_ACQ_SKIP|BAD_disconnection", re.IGNORECASE)
_EXACT_S = 1e-3  # by which stamps of records may differ from their distance
_CLOCK = (0.01, 1e-4)  # s and s/s by which a Persyst recorder's clock may differ from its samples
_DAY_S = 86_400.0


class Gap(NamedTuple):
    """Where a recording is interrupted."""

    at_s: float
    """Seconds of data before it."""
    word: str
    """What in the file says so."""


def refuse_gaps(name: str, gaps: list[Gap]) -> None:
    """Refuse a recording with gaps.

    Raises:
        UserError: says where the first is and what to do.
    """
    if not gaps:
        return
    first = min(gaps)
    count = "1 gap" if len(gaps) == 1 else f"{len(gaps)} gaps"
    raise UserError(
        f"{name} has {count}, the first after {first.at_s:g} s ({first.word}); split it there into"
        " files without gaps, for example with crop() and save() of MNE-Python"
    )


def annotated_gaps(raw: mne.io.BaseRaw) -> list[Gap]:
    """Return the gaps that annotations mark within the data.

    A joint at the first sample or behind the last, as many programs write it, is none; nor is a
    skip that lasts to the end (see `without_trailing_skip`).
    """
    sfreq, gaps = float(raw.info["sfreq"]), []
    is_gdf = any(str(file).lower().endswith(".gdf") for file in raw.filenames)
    for onset_s, duration_s, text in _annotation_spans(raw):
        start, stop = round(onset_s * sfreq), round((onset_s + duration_s) * sfreq)
        # Marks before the first sample or behind the last one interrupt nothing.
        is_skip = _SKIP.fullmatch(text) and stop > max(start, 0) and start < raw.n_times
        says_so = _JOINT.fullmatch(text) or _SKIP.fullmatch(text)
        is_joint = (says_so or (is_gdf and text == _GDF_JOINT)) and 0 < start < raw.n_times
        if is_skip or is_joint:
            gaps.append(Gap(max(onset_s, 0.0), f"annotation {ascii(text.rstrip('/'))}"))
    return sorted(set(gaps))


def without_trailing_skip(raw: mne.io.BaseRaw) -> tuple[mne.io.BaseRaw, list[str]]:
    """Leave out samples at the end that are marked as no data, as MNE pads EDF files; and say so.

    The recording is not changed: one that is cut is a copy.
    """
    sfreq, keep = float(raw.info["sfreq"]), int(raw.n_times)
    for onset_s, duration_s, text in sorted(_annotation_spans(raw), reverse=True):
        start, stop = round(onset_s * sfreq), round((onset_s + duration_s) * sfreq)
        # Onset and duration are rounded apart, so the mark may end a sample too early.
        if _SKIP.fullmatch(text) and 0 < start < keep <= stop + 1:
            keep = start
    if keep == raw.n_times:
        return raw, []
    left_out_s = (raw.n_times - keep) / sfreq
    cut = raw.copy().crop(tmax=(keep - 1) / sfreq, verbose="ERROR")
    marks = [k for k, text in enumerate(cut.annotations.description) if _SKIP.fullmatch(text)]
    at_end = [
        k for k in marks if round((cut.annotations.onset[k] - cut.first_time) * sfreq) >= keep
    ]
    # crop() leaves a mark of no length at the new end.
    cut.annotations.delete(at_end)
    return cut, [f"the last {left_out_s:.3g} s are marked as no data and were left out"]


def _annotation_spans(raw: mne.io.BaseRaw) -> list[tuple[float, float, str]]:
    """Annotations as onset from the first sample and duration, in s, and text."""
    notes = raw.annotations
    onsets, durations = notes.onset - raw.first_time, np.nan_to_num(notes.duration)
    return [
        (float(onset), float(duration), str(text))
        for onset, duration, text in zip(onsets, durations, notes.description, strict=True)
    ]


def edf_gaps(path: Path, header: EdfHeader) -> list[Gap]:
    """Return the gaps between records by their time stamps, whether the header calls them
    continuous (EDF+C) or not (EDF+D).

    Raises:
        UserError: the header says that there may be gaps and the stamps can't be read.
    """
    stamps = record_stamps(path, header)
    rounded_s = stamps.resolution_s
    # Stamps with fewer decimals than a record's length (0.125 s in hundredths) can't be even; then
    # a step of their rounding is not a gap.
    is_even = np.isclose(header.record_s / rounded_s, round(header.record_s / rounded_s), 0, 1e-6)
    allowed_s = _EXACT_S if is_even else max(_EXACT_S, rounded_s)
    expected_s = np.diff(stamps.record) * header.record_s
    jumps = np.flatnonzero(np.abs(np.diff(stamps.onset_s) - expected_s) > allowed_s)
    return [
        Gap(float(stamps.record[k + 1] * header.record_s), "time stamps of its records")
        for k in jumps
    ]


def persyst_gaps(path: Path, sfreq: float, n_times: int) -> list[Gap]:
    """Return the gaps by the sample times in a Persyst .lay file, seconds since midnight.

    A clock may drift against the samples by 100 ppm, and pass midnight.
    """
    # Names of patients may be in any encoding; Latin-1 reads all bytes, and the times are ASCII.
    text = path.read_bytes().decode("latin-1")
    section = re.search(r"^\[SampleTimes\]\s*$(.*?)(?=^\[|\Z)", text, re.M | re.S | re.I)
    pairs = re.findall(r"^\s*(\d+)\s*=\s*([0-9.]+)\s*$", section[1] if section else "", re.M)
    times = sorted((int(sample), float(time)) for sample, time in pairs if int(sample) < n_times)
    gaps = []
    for (sample, time), (after, time_after) in zip(times, times[1:], strict=False):
        passed_s = (after - sample) / sfreq
        # Within half a day on either side: at midnight the clock starts from 0 again.
        excess_s = (time_after - time - passed_s + _DAY_S / 2) % _DAY_S - _DAY_S / 2
        if abs(excess_s) > _CLOCK[0] + _CLOCK[1] * passed_s:
            gaps.append(Gap(after / sfreq, "its SampleTimes"))
    return gaps
