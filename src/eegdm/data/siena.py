"""The seizure lists of the Siena Scalp EEG database: a text of each patient, written by hand, with
times of day.

Sources: the database's page, https://physionet.org/content/siena-scalp-eeg/1.0.0/, and for what the
lists misspell the description of its BIDS copy at NEMAR, https://doi.org/10.82901/nemar.nm000385.
Times count from the clock of the recording's own header, which is that of its first sample.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from eegdm.data.chbmit import SEIZURE_LABEL
from eegdm.data.events import Event, event_table, read_any_text, shown
from eegdm.errors import UserError

MISSPELT = {
    "pn01.edf": "PN01-1.edf",
    "pno6-1.edf": "PN06-1.edf",
    "pno6-2.edf": "PN06-2.edf",
    "pno6-4.edf": "PN06-4.edf",
    "pn11-.edf": "PN11-1.edf",
}
"""Files as the lists name them, in lower case, and as they are called."""
MISTAKEN = {
    # An hour after the end of the recording; the BIDS copies have a seizure of 60 s.
    ("PN00-3.edf", "seizure end", "19.29.29"): "18.29.29",
    # Three hours before the header's clock, by which the recording ends when the list says.
    ("PN14-3.edf", "registration start", "16.17.45"): "19.17.45",
}
"""Times that are known to be wrong: file, what the line says, its time; and what is right."""

_DAY_S = 24 * 60 * 60
# Of 41 recordings, 39 start when their list says, PN14-3 is above, and PN05-3 starts 10 s earlier.
_CLOCKS_DIFFER_S = 10

# "1 6.49.25" stands in the list of PN10, "16:13.23" in that of PN12.
_CLOCK = r"\d ?\d[.:]\d\d[.:]\d\d"
_LINES = {
    what: re.compile(pattern, re.IGNORECASE)
    for what, pattern in {
        "heading": r"Seizure n *\d+ *(\([a-z ]+\))? *:?",
        "file": r"File name: *(?P<said>\S+\.edf)",
        "registration start": rf"Registration start time: *(?P<said>{_CLOCK})",
        "registration end": rf"Registration end time: *(?P<said>{_CLOCK})",
        "seizure start": rf"(Seizure )?start time: *(?P<said>{_CLOCK})( *\(clinical onset\))?"
        rf"( *; *(?P<instead>{_CLOCK}) *\(electric onset\))?",
        "seizure end": rf"(Seizure )?end time: *(?P<said>{_CLOCK})( *op?pure"
        rf" *(?P<instead>{_CLOCK}))?",
    }.items()
}
# Other lines are not read (channels, electrodes, titles), but none that says when or in which file.
_TELLS = re.compile(r"time:|\d[.:]\d|\.edf|^seizure n", re.IGNORECASE)


@dataclass
class _Listed:
    """What a list says of one recording: times of day in s, seizures as (start, end)."""

    registration_s: int | None = None
    seizures: list[tuple[int, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_seizures_of(file: Path, seizure_list: Path, raw: Any) -> pd.DataFrame:
    """Return the seizures of one recording as its patient's list has them.

    Args:
        file: the recording; every recording of the database is listed.
        seizure_list: the patient's ``Seizures-list-PN00.txt``.
        raw: the opened recording, an ``mne.io.Raw`` with the clock of its header.

    Returns:
        An event table; ``attrs["notes"]`` are sentences on lines that give two times, of which the
            second is taken (the onset in the EEG, and the earlier of two ends), and on clocks that
            differ.

    Raises:
        UserError: a line that says when or in which file is not understood, the list does not know
            the recording, its clock is not the header's, or a seizure ends after the recording.
    """
    listed = _read_list(seizure_list).get(file.name.lower())
    if listed is None or not listed.seizures:
        raise UserError(
            f"{seizure_list}: lists no seizure of {file.name}, although every recording of the"
            " database holds one; download both again"
        )
    differs_s, start_s = _clocks(file, seizure_list, listed, raw.info["meas_date"])
    notes = listed.notes
    if differs_s:
        notes = [
            *notes,
            f"{seizure_list.name} lets the recording begin {abs(differs_s)} s"
            f" {'later' if differs_s > 0 else 'earlier'} than its header, which is used",
        ]
    table = event_table(
        # A recording may run past midnight.
        Event(None, (start - start_s) % _DAY_S, (end - start) % _DAY_S, SEIZURE_LABEL)
        for start, end in listed.seizures
    )
    length_s = raw.n_times / raw.info["sfreq"]
    if late := [end for end in table.onset_s + table.duration_s if end > length_s]:
        raise UserError(
            f"{seizure_list}: a seizure of {file.name} ends at {late[0]:g} s, the recording at"
            f" {length_s:g} s"
        )
    table.attrs["notes"] = notes
    return table


def _clocks(
    file: Path, seizure_list: Path, listed: _Listed, started: datetime | None
) -> tuple[int, int]:
    """By how many seconds a list lets a recording begin later than its header, and the header's
    time of day in seconds.
    """
    if started is None or listed.registration_s is None:
        silent = file.name if started is None else seizure_list
        raise UserError(
            f"{silent}: does not say when {file.name} begins, so that its seizures, which are"
            " listed by times of day, have no place in it; events=none reads it without"
        )
    start_s = started.hour * 3600 + started.minute * 60 + started.second
    differs_s = (listed.registration_s - start_s + _DAY_S // 2) % _DAY_S - _DAY_S // 2
    if abs(differs_s) > _CLOCKS_DIFFER_S:
        raise UserError(
            f"{seizure_list}: lets {file.name} begin at {_clock(listed.registration_s)}, its header"
            f" at {_clock(start_s)}; is this the file of the database?"
        )
    return differs_s, start_s


def _read_list(path: Path) -> dict[str, _Listed]:
    """Read a list: what it says of each recording, by file name in lower case."""
    text, _ = read_any_text(path)
    reader = _Reader()
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            reader.take(" ".join(line.split()))
        except UserError as fault:
            raise UserError(f"{path}:{number}: {fault}") from fault
    if reader.start is not None:
        raise UserError(f"{path}: a seizure of {reader.file} has no end")
    n_seizures = sum(len(listed.seizures) for listed in reader.recordings.values())
    if reader.n_headings != n_seizures or not n_seizures:
        raise UserError(
            f"{path}: has {reader.n_headings} headings (Seizure n 1) and the times of"
            f" {n_seizures} seizures"
        )
    return reader.recordings


class _Reader:
    """Takes lines one after the other; a file's name holds until the next one."""

    def __init__(self) -> None:
        self.recordings: dict[str, _Listed] = {}
        self.file = ""
        self.start: int | None = None  # of a seizure that has not ended
        self.n_headings = 0

    def take(self, line: str) -> None:
        """Add what one line says.

        Raises:
            UserError: it is not understood, or does not fit those before.
        """
        matches = ((what, pattern.fullmatch(line)) for what, pattern in _LINES.items())
        what, match = next(((what, m) for what, m in matches if m), ("", None))
        if match is None:
            if _TELLS.search(line):
                raise UserError(f"{shown(line)} is not a line of a seizure list of Siena")
        elif what == "heading":
            self.n_headings += 1
        elif what == "file":
            self.file = MISSPELT.get(match["said"].lower(), match["said"])
            self.recordings.setdefault(self.file.lower(), _Listed())
        elif not self.file:
            raise UserError(f"{shown(line)} comes before the first File name")
        else:
            self._take_time(what, match["said"], match.groupdict().get("instead"))

    def _take_time(self, what: str, said: str, instead: str | None) -> None:
        listed = self.recordings[self.file.lower()]
        time_s = _seconds(instead or MISTAKEN.get((self.file, what, said), said))
        if instead:
            listed.notes.append(
                f"of two times of a {what}, {said} and {instead}, the second is used"
            )
        if what == "registration start":
            if listed.registration_s not in (None, time_s):
                raise UserError(f"lets {self.file} begin at two times")
            listed.registration_s = time_s
        elif what == "seizure start":
            if self.start is not None:
                raise UserError("a seizure starts before the last has ended")
            self.start = time_s
        elif what == "seizure end":
            if self.start is None or time_s == self.start:
                raise UserError("a seizure ends that has not started before")
            listed.seizures.append((self.start, time_s))
            self.start = None


def _seconds(clock: str) -> int:
    hours, minutes, seconds = (int(part) for part in re.split("[.:]", clock.replace(" ", "")))
    if hours > 23 or minutes > 59 or seconds > 59:
        raise UserError(f"{shown(clock)} is not a time of day")
    return hours * 3600 + minutes * 60 + seconds


def _clock(time_s: int) -> str:
    return f"{time_s // 3600:02d}.{time_s // 60 % 60:02d}.{time_s % 60:02d}"
