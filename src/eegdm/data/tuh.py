"""The corpora of Temple University Hospital: what names of their recordings say, and TUSZ's
annotations.

All of them but TUEV name a recording by subject, session and token: ``aaaaaaac_s001_t000.edf``. A
subject has the same eight letters in all of them. The formats are those of the corpora's own
AAREADME.txt (TUAB v3.0.1, TUSZ v2.0.3).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from eegdm.data.events import (
    Event,
    event_table,
    parse_rows,
    parse_seconds,
    read_delimited,
    require_columns,
    shown,
)
from eegdm.data.files import visible
from eegdm.data.montage import TCP
from eegdm.errors import UserError

TUAB_LABELS = ("normal", "abnormal")
"""The names of the folders that say which recordings are which."""
BACKGROUND = "bckg"
ALL_CHANNELS = "TERM"
"""What stands for a channel where an annotation is of all of them."""

_NAME = re.compile(r"(?P<subject>[a-z]{8})_(?P<session>s\d{3})_(?P<token>t\d{3})", re.ASCII)
# TUEV's training files are named aaaaaaar_00000001.edf; those of its evaluation name nobody.
_SUBJECT = re.compile(r"[a-z]{8}(?=_)", re.ASCII)
# TUSZ writes T4-A2 where this package, with the method's publication, has A2-T4: the same place.
_CHANNELS = {
    name: channel for channel in TCP for name in (channel, "-".join(reversed(channel.split("-"))))
}


class Name(NamedTuple):
    """What a file's name says."""

    subject: str
    session: str
    token: str


def read_name(file: Path) -> Name | None:
    """Return what the name of a recording says; None if it is not named as TUH names them."""
    match = _NAME.fullmatch(file.stem)
    return Name(**match.groupdict()) if match else None


def subjects_below(folder: Path) -> set[str]:
    """Return the subjects whose names the EDF files below a folder of any TUH corpus begin with.

    No file is opened. The evaluation files of TUEV name nobody.
    """
    matches = (_SUBJECT.match(file.name) for file in visible(folder, folder.rglob("*.edf")))
    return {match[0] for match in matches if match}


def read_seizures(path: Path) -> pd.DataFrame:
    """Read a ``.csv_bi`` or ``.csv`` of TUSZ: rows with channel, start_time, stop_time and label,
    in any order of columns, after comment lines that begin with ``#``.

    Rows of background are checked and left out: what holds no event is background. In a ``.csv``
    they stand beside seizures on other channels, and would be counted against these.

    Args:
        path: the file; times in it are seconds from the start of the recording.

    Returns:
        An event table; the labels are ``seiz`` (``.csv_bi``) or types such as ``fnsz``. The channel
            is None for all channels (``TERM``), else a name of ``TCP``, whichever electrode of the
            pair the file names first.

    Raises:
        UserError: unreadable, a column is missing, or a row has an unknown channel, no label, a
            time that is not a number from 0 on, or a seizure that ends before it starts.
    """
    cells = read_delimited(Path(path), comment="#")
    require_columns(path, cells, ("channel", "start_time", "stop_time", "label"))
    rows = parse_rows(path, zip(cells.index, cells.to_dict("records"), strict=True), _event)
    return event_table(event for event in rows if event.label != BACKGROUND)


def _event(row: dict[str, str]) -> Event:
    start = parse_seconds("start_time", row["start_time"])
    stop = parse_seconds("stop_time", row["stop_time"])
    if not row["label"]:
        raise UserError("label is empty")
    if stop <= start and row["label"] != BACKGROUND:
        raise UserError(
            f"stop_time={row['stop_time']} must be after start_time={row['start_time']}"
        )
    # Of binary fractions 3.3 - 1.1 is 2.1999999999999997.
    return Event(_channel(row["channel"]), start, round(stop - start, 9), row["label"])


def _channel(name: str) -> str | None:
    if name == ALL_CHANNELS:
        return None
    if name not in _CHANNELS:
        raise UserError(
            f"channel={shown(name)} must be {ALL_CHANNELS} or one of the TCP pairs {', '.join(TCP)}"
        )
    return _CHANNELS[name]
