"""Events: who says what happened when, read from each kind of annotation into one kind of table.

An event table is a DataFrame in the file's order with the columns ``channel`` (a name of
:data:`eegdm.data.montage.TCP`, or None for the whole recording), ``onset_s`` and ``duration_s``
(from the start of the recording; a duration of NaN is that of the whole recording), ``label``
(text). Readers refuse a file with a fault in one line that names the first bad row and counts the
others; they never mend a row. What BIDS allows and no window can use is left out and counted in
``attrs["notes"]``. CHB-MIT's own formats are in
:mod:`eegdm.data.chbmit`, those of TUSZ in :mod:`eegdm.data.tuh`.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pandas as pd
from pyarrow import ArrowException

from eegdm import artifacts
from eegdm.config import did_you_mean
from eegdm.data.montage import CHANNEL_ID, TCP, bipolar
from eegdm.errors import UserError
from eegdm.tuev import TUEV_CLASSES

TABLE_TIMES = ("onset_s", "duration_s")
"""Both or neither: a table without them labels whole recordings."""
TIME_LIKE = re.compile(
    r"(onset|start|begin|time|t|latency|offset|end|stop|duration|length|samples?)(_s)?"
)
"""Names of columns that hold times, though by another name than a table's."""
TABLE_OPTIONAL = ("channel", "subject", "session", "run", "split")
SPLITS = ("train", "val", "test")

log = logging.getLogger(__name__)

# float() alone takes 1_0, nan and Arabic digits too.
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_UP_TO_4_DIGITS = re.compile(r"\d{1,4}", re.ASCII)


class Event(NamedTuple):
    """One row of an event table."""

    channel: str | None
    onset_s: float
    duration_s: float
    label: str


def event_table(events: Iterable[Event]) -> pd.DataFrame:
    """Return events as a DataFrame; an empty one has the same columns and types."""
    rows = list(events)
    return pd.DataFrame(
        {
            "channel": pd.Series([event.channel for event in rows], dtype=object),
            "onset_s": pd.Series([event.onset_s for event in rows], dtype="float64"),
            "duration_s": pd.Series([event.duration_s for event in rows], dtype="float64"),
            "label": pd.Series([event.label for event in rows], dtype=object),
        }
    )


def map_labels(events: pd.DataFrame, label_map: Mapping[str, str]) -> pd.DataFrame:
    """Rename labels to classes and leave out events whose label is not named; an empty map keeps
    all as they are.

    A key with ``*`` stands for every label of that shape (``sz*``: all of SzCORE's seizure types);
    an exact key goes before it.
    """
    if not label_map:
        return events
    classes = events.label.map(
        {label: _class_of(label, label_map) for label in events.label.unique()}
    )
    has_class = classes.notna()
    return events[has_class].assign(label=classes[has_class].astype(object)).reset_index(drop=True)


def classes_of(labels: Iterable[str], label_map: Mapping[str, str]) -> list[str]:
    """The classes that labels become by a map (see :func:`map_labels`), sorted."""
    mapped = (_class_of(label, label_map) if label_map else label for label in labels)
    return sorted({name for name in mapped if name})


def refuse_other_classes(labels: Iterable[str], classes: Iterable[str]) -> None:
    """Refuse labels that are none of the classes, each with its nearest."""
    classes = list(classes)
    if others := [name for name in labels if name not in classes]:
        raise UserError(
            f"events are labelled {', '.join(map(shown, others[:5]))}, which is none of"
            f" corpus.classes={classes}{did_you_mean(others[0], classes)}; add it there, or leave"
            " it out by corpus.label_map"
        )


def _class_of(label: str, label_map: Mapping[str, str]) -> str | None:
    if label in label_map:
        return label_map[label]
    # The first pattern that fits, in the order in which the map was written.
    return next(
        (name for key, name in label_map.items() if "*" in key and fnmatchcase(label, key)), None
    )


# ----------------------------------------------------------------------------- what readers share


def read_text(path: Path) -> str:
    """Return a text file (UTF-8, any line ends), or say in one line why it can't be read."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: can't be read as text ({getattr(error, 'strerror', None) or error})"
        ) from error


def read_any_text(path: Path) -> tuple[str, list[str]]:
    """Return a text file that people write, and a note if it is not UTF-8 and was read as
    Windows-1252, the Latin-1 of European spreadsheets.

    One with zero bytes (UTF-16, binary) is refused.
    """
    try:
        return read_text(path), []
    except UserError as fault:
        if not isinstance(fault.__cause__, UnicodeDecodeError):
            raise
        # Nearly any bytes are some text in Windows-1252: UTF-16 and binary files are refused first.
        content = Path(path).read_bytes()
        if b"\0" in content or content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            raise fault from None
    note = f"{Path(path).name} is not UTF-8 and was read as Latin-1 (Windows-1252)"
    return text.replace("\r\n", "\n").replace("\r", "\n"), [note]


def parse_rows(
    path: Path, rows: Iterable[tuple[Any, Any]], parse: Callable[[Any], Any]
) -> list[Any]:
    """Parse (row number, row) pairs; raise one UserError that names the first bad row and counts
    the others.
    """
    parsed, faults = [], []
    for number, row in rows:
        try:
            parsed.append(parse(row))
        except UserError as fault:
            faults.append(f"{path}:{number}: {fault}")
    if faults:
        others = f" (and {len(faults) - 1} more bad rows)" if len(faults) > 1 else ""
        raise UserError(faults[0] + others)
    return parsed


def shown(text: str) -> str:
    """A stranger's text, quoted on one line and not too long."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def parse_seconds(name: str, text: str) -> float:
    """Return a time that stands in a file, or say that it is not a number of seconds from 0 on."""
    value = float(text) if _DECIMAL.fullmatch(text) else math.nan
    if not 0 <= value < math.inf:
        raise UserError(f"{name}={shown(text)} must be a number of seconds from 0 on")
    return value


def _parse_integer(name: str, text: str, low: int, high: int) -> int:
    if not _UP_TO_4_DIGITS.fullmatch(text) or not low <= int(text) <= high:
        raise UserError(f"{name}={shown(text)} must be a whole number from {low} to {high}")
    return int(text)


# ------------------------------------------------------------------------------------------- TUEV


def read_rec(path: Path) -> pd.DataFrame:
    """Read a TUEV ``.rec`` file: rows ``channel,start_s,end_s,code``, channel 0..21 in TCP order,
    code 1..6 in order of TUEV_CLASSES.

    Blank lines are no rows. ``onset_s + duration_s`` gives back ``end_s`` within 1e-9 s.

    Raises:
        UserError: a row has another shape, an unknown channel or code, a time that is not a number
            from 0 on, or ends before it starts.
    """
    lines = enumerate(read_text(path).split("\n"), start=1)
    return event_table(
        parse_rows(path, ((number, line) for number, line in lines if line.strip()), _rec_event)
    )


def _rec_event(line: str) -> Event:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 4:
        raise UserError(f"{shown(line)} must be channel,start_s,end_s,code")
    channel = _parse_integer("channel", fields[0], 0, len(TCP) - 1)
    start, end = parse_seconds("start_s", fields[1]), parse_seconds("end_s", fields[2])
    code = _parse_integer("code", fields[3], 1, len(TUEV_CLASSES))
    if end <= start:
        raise UserError(f"end_s={fields[2]} must be after start_s={fields[1]}")
    # Of binary fractions 3.3 - 1.1 is 2.1999999999999997.
    return Event(TCP[channel], start, round(end - start, 9), TUEV_CLASSES[code - 1])


# ----------------------------------------------------------------------------------------- tables


def read_event_table(path: Path, root: Path | None = None) -> pd.DataFrame:
    """Read the events of many recordings from CSV, TSV or Parquet with the columns file, onset_s,
    duration_s and label.

    Without the columns onset_s and duration_s, or where both cells are empty, a label is of the
    whole recording (onset_s 0, duration_s NaN). Optional columns: channel (a TCP pair, old or new
    names), subject, session, run, split (train, val, test); an empty cell is None. A row without a
    label is not an event (its label here is ""): with times it is an open row, a stretch that
    nobody has marked yet; with none (NaN) it says whose its file is, or its split. ``file`` is a
    path below the corpus folder or a bare file name, to compare with recordings that were found;
    never opened. A CSV may have semicolons, with decimal commas in its times.

    Args:
        path: the table.
        root: the corpus folder; absolute paths below it are taken as relative ones.

    Returns:
        An event table with the further columns file, subject, session, run, split. Faults count
            lines of text files, and the rows of Parquet, from 1.

    Raises:
        UserError: unreadable, a column is missing, or a row is at fault.
    """
    cells = read_cells(Path(path))
    for note in cells.attrs.get("notes", []):
        log.warning("%s", note)
    # A misspelt column must not turn events into labels of whole recordings.
    times = TABLE_TIMES if _has_times(cells) else ()
    require_columns(path, cells, ("file", *times, "label"))
    for name in (*TABLE_TIMES, *TABLE_OPTIONAL):
        if name not in cells:
            cells[name] = ""
    rows = parse_rows(
        path,
        zip(cells.index, cells.to_dict("records"), strict=True),
        lambda row: _table_row(row, root),
    )
    table = event_table(event for event, _ in rows)
    for name in ("file", "subject", "session", "run", "split"):
        table[name] = pd.Series([about[name] for _, about in rows], dtype=object)
    return table


def _has_times(cells: pd.DataFrame) -> bool:
    """Whether a table gives times, be it one of them only or by other names; else its labels are of
    whole recordings.
    """
    return any(
        bool(TIME_LIKE.fullmatch(name.lower()) or did_you_mean(name.lower(), TABLE_TIMES))
        for name in cells.columns
    )


def _table_row(row: dict[str, str], root: Path | None) -> tuple[Event, dict[str, str | None]]:
    about = {name: row[name] or None for name in ("subject", "session", "run", "split")}
    if about["split"] not in (None, *SPLITS):
        raise UserError(
            f"split={shown(row['split'])} must be"
            f" {', '.join(SPLITS)}{did_you_mean(row['split'], SPLITS)}"
        )
    return _table_event(row), {"file": _relative(row["file"], root), **about}


def _table_event(row: dict[str, str]) -> Event:
    if not any(row[name] for name in ("onset_s", "duration_s", "label")):
        return Event(None, math.nan, math.nan, "")
    if not row["onset_s"] and not row["duration_s"]:
        return Event(_channel(row["channel"]), 0.0, math.nan, row["label"])
    onset, duration = (
        parse_seconds("onset_s", row["onset_s"]),
        parse_seconds("duration_s", row["duration_s"]),
    )
    return Event(_channel(row["channel"]), onset, duration, row["label"])


def _relative(file: str, root: Path | None) -> str:
    # Compared as text and never opened, but a path out of the folder is a mistake in any case.
    path = PurePosixPath(file)
    if root is not None and path.is_absolute() and path.is_relative_to(root.absolute()):
        path = path.relative_to(root.absolute())
    if not file or path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"file={shown(file)} must be a path below the folder of the corpus, or a file name"
        )
    return path.as_posix()


def _channel(name: str) -> str | None:
    """The TCP channel that a cell names; None for an empty one."""
    if not name:
        return None
    canonical = "-".join(bipolar(name) or ())
    if canonical not in CHANNEL_ID:
        raise UserError(
            f"channel={shown(name)} is none of the TCP pairs"
            f" {', '.join(TCP)}{did_you_mean(name.upper(), TCP)}; leave it empty for the whole"
            " recording"
        )
    return canonical


def require_columns(path: Path, cells: pd.DataFrame, names: Iterable[str]) -> None:
    """Refuse a table that lacks one of these columns."""
    missing = [name for name in names if name not in cells]
    if missing:
        wanted = "; ".join(
            f"has no column {name!r}{did_you_mean(name, cells.columns)}" for name in missing
        )
        raise UserError(
            f"{path}: {wanted}; its columns are"
            f" {', '.join(shown(name) for name in cells.columns[:30])}"
        )


def read_cells(path: Path) -> pd.DataFrame:
    """All cells of a table as stripped text, "" where there is none; the index counts lines
    (Parquet: rows) from 1.
    """
    if path.suffix.lower() in (".csv", ".tsv"):
        return read_delimited(path)
    if path.suffix.lower() not in (".parquet", ".pq"):
        raise UserError(f"{path}: a table must be .csv, .tsv or .parquet")
    frame = artifacts.read_table(path)
    try:
        # By pandas's nullable types, whole numbers in a column with gaps are "1", not "1.0".
        cells = frame.convert_dtypes().astype("string").fillna("").astype(object)
    except (ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: holds text that is not UTF-8") from error
    cells.columns = cells.columns.map(str)
    cells.index = pd.RangeIndex(1, len(cells) + 1)
    return cells


def read_delimited(path: Path, comment: str | None = None) -> pd.DataFrame:
    """All cells of a delimited text file, as :func:`read_cells` has them, without the lines that
    begin with ``comment``.
    """
    text, notes = read_any_text(path)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(text)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}") from error
    rows = [
        (line, row)
        for line, row in rows
        if any(row) and not (comment and row[0].startswith(comment))
    ]
    if not rows:
        raise UserError(f"{path}: is empty; the first line must name the columns")
    (_, header), *body = rows
    if len(set(header)) < len(header):
        raise UserError(
            f"{path}: names a column twice: {', '.join(shown(name) for name in header[:30])}"
        )

    def fitting(row: list[str]) -> list[str]:
        if len(row) != len(header):
            raise UserError(f"has {len(row)} cells, the header has {len(header)}")
        return row

    cells = pd.DataFrame(
        parse_rows(path, body, fitting),
        columns=header,
        index=[line for line, _ in body],
        dtype=object,
    )
    # Spreadsheets that separate cells by semicolons do so because they write decimal commas.
    if delimiter == ";":
        for name in (name for name in TABLE_TIMES if name in cells):
            cells[name] = cells[name].str.replace(",", ".")
    cells.attrs["notes"] = notes
    return cells


def _delimiter(text: str) -> str:
    """What separates the cells of a CSV: spreadsheets of many countries write semicolons."""
    header = next((line for line in text.split("\n") if line.strip()), "")
    return ";" if ";" in header and "," not in header else ","


# ------------------------------------------------------------------- files' own annotations, BIDS


def from_annotations(raw: Any) -> pd.DataFrame:
    """Return all annotations of an ``mne.io.Raw`` as events; an annotation of one TCP channel keeps
    it.

    MNE's onsets count from the start of the measurement, these from the first sample that `raw`
    still has.
    """
    notes = raw.annotations
    # Of a cropped recording, MNE's onsets still count from where it once began.
    onsets = notes.onset - raw.first_time
    rows = zip(notes.ch_names, onsets, notes.duration, notes.description, strict=True)
    return event_table(
        Event(_single_channel(names), float(onset), float(length), str(text))
        for names, onset, length, text in rows
    )


def _single_channel(names: tuple[str, ...]) -> str | None:
    canonical = "-".join(bipolar(names[0]) or ()) if len(names) == 1 else ""
    return canonical if canonical in CHANNEL_ID else None


def read_bids_events(path: Path) -> pd.DataFrame:
    """Read a BIDS ``*_events.tsv``: SzCORE's dialect (label in ``eventType``: ``bckg``, ``sz...``)
    or plain ``trial_type``.

    Rows without a label are left out. In plain BIDS a duration of ``n/a`` is an instant, and a row
    whose onset is ``n/a`` or before the recording is left out and counted in ``attrs["notes"]``. In
    SzCORE's dialect each of these is a fault: what a seizure's row leaves open would be taken for
    background. Events are of the whole recording: SzCORE's ``channels`` is not read.

    Raises:
        UserError: unreadable, a column is missing, or a time is not a number from 0 on.
    """
    cells = read_cells(Path(path))
    label = "eventType" if "eventType" in cells else "trial_type"
    require_columns(path, cells, ("onset", "duration", label))
    labelled = cells[~cells[label].isin(["", "n/a"])]
    notes = list(cells.attrs.get("notes", []))
    if label == "trial_type":
        # BIDS: "n/a" is an instant, which has a place all the same.
        labelled = labelled.assign(duration=labelled.duration.replace("n/a", "0"))
        is_placed = labelled.onset.map(lambda text: text != "n/a" and not _is_negative(text))
        if not is_placed.all():
            first = labelled.index[~is_placed.to_numpy(bool)][0]
            notes.append(
                f"{(~is_placed).sum()} of {len(labelled)} rows of {Path(path).name} have an onset"
                f" that is n/a or before the recording and are left out (line {first}:"
                f" onset={shown(labelled.onset[first])})"
            )
            labelled = labelled[is_placed]

    def event(row: dict[str, str]) -> Event:
        return Event(
            None,
            parse_seconds("onset", row["onset"]),
            parse_seconds("duration", row["duration"]),
            row[label],
        )

    table = event_table(
        parse_rows(path, zip(labelled.index, labelled.to_dict("records"), strict=True), event)
    )
    table.attrs["notes"] = notes
    return table


def _is_negative(text: str) -> bool:
    return bool(_DECIMAL.fullmatch(text)) and float(text) < 0
