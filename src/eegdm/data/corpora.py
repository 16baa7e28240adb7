"""Corpora: which recordings a folder holds, whose they are, where their events stand, and the
published splits.

A layout is found by its folders and file names alone; recordings are opened later, one by one.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from eegdm.config import CorpusConfig, did_you_mean
from eegdm.data import chbmit, events
from eegdm.errors import UserError

EXTENSIONS = (".edf", ".bdf", ".gdf", ".vhdr", ".set", ".fif", ".fif.gz", ".cnt")
"""Files that hold one recording and that MNE reads (`corpus=folder`)."""
BIDS_EXTENSIONS = (".edf", ".bdf", ".vhdr", ".set")
"""The formats that EEG-BIDS allows."""
SAME_PERSON = {"chb21": "chb01"}
"""CHB-MIT's case 21 was recorded from the subject of case 1, 1.5 years later (its SUBJECT-INFO)."""

log = logging.getLogger(__name__)


class Source(NamedTuple):
    """A recording that was found, not yet opened.

    Attributes:
        recording: its id: posix path below the corpus folder without suffix; with it where two
            files would share an id.
        file: the file to open.
        subject: what must not be in two parts of a split by subject.
        session: None if the corpus does not say, like run.
        split: "train", "val" or "test" where the corpus itself (or a table) says so.
        annotation: the file that holds its events, if it has one.
    """

    recording: str
    file: Path
    subject: str
    session: str | None
    run: str | None
    split: str | None
    annotation: Path | None


class _Place(NamedTuple):
    """A file and what the layout says of it; subject "": nothing."""

    file: Path
    subject: str
    session: str | None = None
    run: str | None = None
    split: str | None = None


def find_sources(corpus: CorpusConfig) -> list[Source]:
    """List the recordings below ``corpus.source``, sorted by id.

    Raises:
        UserError: no such folder, nothing in the corpus's layout, file names that
            ``corpus.pattern`` does not fit, or a table that contradicts itself or names none of the
            files.
    """
    root = _root(corpus)
    layout = _LAYOUTS[corpus.name]
    places = sorted(layout.find(root, corpus))
    if not places:
        raise UserError(
            f"{root}: holds no recordings as corpus={corpus.name} lays them out; looked for"
            f" {layout.looked_for}"
        )
    if corpus.events == "table":
        places = _told_by_table(root, places, corpus)
    nameless = [place.file for place in places if not place.subject]
    if nameless:
        raise UserError(
            f"{nameless[0]}: corpus.pattern={corpus.pattern} finds no subject in its path below"
            f" {root} ({len(nameless)} of {len(places)} files); name subjects in the table, or give"
            " a pattern that fits all"
        )
    ids = recording_ids([place.file.relative_to(root).as_posix() for place in places])
    sources = [
        Source(name, *place, _annotation(place.file, corpus))
        for name, place in zip(ids, places, strict=True)
    ]
    return sorted(sources)


def _root(corpus: CorpusConfig) -> Path:
    if not corpus.source:
        raise UserError(f"corpus={corpus.name}: say where the recordings are with source=DIR")
    root = Path(corpus.source)
    if not root.is_dir():
        raise UserError(f"source={root}: is no folder")
    return root


def recording_ids(files: Sequence[str]) -> list[str]:
    """Drop the suffixes of relative paths, except where two would become the same.

    >>> recording_ids(["a/x.edf", "a/x.bdf", "b/x.edf"])
    ['a/x.edf', 'a/x.bdf', 'b/x']
    """
    stems = [file.removesuffix(_extension(file)) for file in files]
    count = Counter([*stems, *files])
    return [stem if count[stem] == 1 else file for stem, file in zip(stems, files, strict=True)]


def _extension(file: str) -> str:
    """The suffix as it stands in the file's name: the longest of EXTENSIONS, whatever its case."""
    fitting = [extension for extension in EXTENSIONS if file.lower().endswith(extension)]
    return file[-len(max(fitting, key=len)) :] if fitting else ""


# ---------------------------------------------------------------------------------------- layouts


class _Layout(NamedTuple):
    find: Callable[[Path, CorpusConfig], Iterable[_Place]]
    looked_for: str


def _tuev(root: Path, corpus: CorpusConfig) -> Iterator[_Place]:
    base = root / "edf" if (root / "edf").is_dir() else root
    for file in _visible(root, base.glob("train/*/*.edf")):
        yield _Place(file, file.stem.split("_")[0], split="train")
    for file in _visible(root, base.glob("eval/*/*.edf")):
        yield _Place(file, file.parent.name, split="test")


def _chbmit(root: Path, corpus: CorpusConfig) -> Iterator[_Place]:
    for file in _visible(root, root.glob("chb[0-9][0-9]/*.edf")):
        patient = file.parent.name
        yield _Place(
            file,
            SAME_PERSON.get(patient, patient),
            session=patient,
            run=file.stem.removeprefix(patient).lstrip("_"),
        )


def _bids(root: Path, corpus: CorpusConfig) -> Iterator[_Place]:
    files = [*root.glob("sub-*/eeg/*_eeg.*"), *root.glob("sub-*/ses-*/eeg/*_eeg.*")]
    for file in _visible(root, files):
        if file.suffix in BIDS_EXTENSIONS:
            entities = dict(part.split("-", 1) for part in file.stem.split("_") if "-" in part)
            subject = file.relative_to(root).parts[0].removeprefix("sub-")
            yield _Place(file, subject, entities.get("ses"), entities.get("run"))


def _folder(root: Path, corpus: CorpusConfig) -> Iterator[_Place]:
    pattern = _pattern(corpus)
    for file in _visible(root, root.rglob("*")):
        if _extension(file.name) and file.is_file():
            match = pattern.search(file.relative_to(root).as_posix())
            found = match.groupdict() if match else {}
            yield _Place(file, found.get("subject") or "", found.get("session"), found.get("run"))


_LAYOUTS = {
    "tuev": _Layout(_tuev, "edf/train/<subject>/<file>.edf and edf/eval/<nnn>/<file>.edf"),
    "synthetic": _Layout(_tuev, "edf/train/<subject>/<file>.edf and edf/eval/<subject>/<file>.edf"),
    "chbmit": _Layout(_chbmit, "chb01/chb01_01.edf ... chb24/chb24_22.edf"),
    "bids": _Layout(_bids, "sub-*/[ses-*/]eeg/*_eeg" + "|".join(BIDS_EXTENSIONS)),
    "folder": _Layout(_folder, "files that end in " + ", ".join(EXTENSIONS) + ", at any depth"),
}


def _visible(root: Path, files: Iterable[Path]) -> Iterator[Path]:
    """Leave out hidden files and folders, such as the ``._x.edf`` that macOS leaves beside
    copies.
    """
    return (
        file
        for file in files
        if not any(part.startswith(".") for part in file.relative_to(root).parts)
    )


def _pattern(corpus: CorpusConfig) -> re.Pattern[str]:
    groups = ("subject", "session", "run")
    try:
        pattern = re.compile(corpus.pattern)
    except re.error as error:
        raise UserError(
            f"corpus.pattern={corpus.pattern}: is no regular expression ({error})"
        ) from error
    unknown = [name for name in pattern.groupindex if name not in groups]
    if unknown or "subject" not in pattern.groupindex:
        fault = (
            f"has a group {unknown[0]!r}{did_you_mean(unknown[0], groups)}"
            if unknown
            else "has no group (?P<subject>...)"
        )
        raise UserError(
            f"corpus.pattern={corpus.pattern}: {fault}; groups are subject, and if you like session"
            " and run"
        )
    return pattern


# ----------------------------------------------------------------------------------------- events


def _expected_annotation(file: Path, corpus: CorpusConfig) -> Path | None:
    if corpus.events == "rec":
        return file.with_suffix(".rec")
    if corpus.events == "summary":
        return file.with_name(f"{file.parent.name}-summary.txt")
    if corpus.events == "bids":
        return file.with_name(file.stem.removesuffix("_eeg") + "_events.tsv")
    return Path(corpus.table) if corpus.events == "table" and corpus.table else None


def _annotation(file: Path, corpus: CorpusConfig) -> Path | None:
    expected = _expected_annotation(file, corpus)
    return expected if expected and expected.is_file() else None


def read_events(source: Source, corpus: CorpusConfig, raw: Any) -> pd.DataFrame:
    """Return the events of one recording as ``corpus.events`` says, labels as they stand in the
    file (see ``events.map_labels``).

    Args:
        source: one of :func:`find_sources`.
        corpus: the settings that it was found with.
        raw: the opened recording, an ``mne.io.Raw``.

    Returns:
        An event table (:mod:`eegdm.data.events`), empty if the annotations are there and hold none
            for this recording.

    Raises:
        UserError: annotations are missing or at fault, or an event starts after the end of the
            recording.
    """
    found = _read_events(source, corpus, raw)
    length = raw.n_times / raw.info["sfreq"]
    late = found[found.onset_s > length]
    if len(late):
        raise UserError(
            f"{source.annotation or source.file}: an event starts at {late.onset_s.iloc[0]:g} s, "
            f"{source.file.name} ends at {length:g} s"
        )
    return found


def _read_events(source: Source, corpus: CorpusConfig, raw: Any) -> pd.DataFrame:
    if corpus.events == "none":
        return events.event_table([])
    if corpus.events == "annotations":
        return events.from_annotations(raw)
    if source.annotation is None:
        raise UserError(
            f"{source.file}: has no annotations ({_expected_annotation(source.file, corpus)} is"
            " missing); events=none reads it without"
        )
    if corpus.events == "table":
        return _table_events(source, corpus)
    if corpus.events == "summary":
        return events.event_table(chbmit.read_seizures_of(source.file, source.annotation))
    return {"rec": events.read_rec, "bids": events.read_bids_events}[corpus.events](
        source.annotation
    )


# ------------------------------------------------------------------------------------------ table


def _table(path: str | None) -> dict[str, pd.DataFrame]:
    """The rows of a table by what stands in ``file``, read once per process and state of the
    file.
    """
    try:
        state = Path(path or "").stat()
    except OSError as error:
        raise UserError(f"table={path}: can't be read ({error.strerror})") from error
    return _read_table(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read_table(path: str, mtime_ns: int, size: int) -> dict[str, pd.DataFrame]:
    return dict(tuple(events.read_table(Path(path)).groupby("file", sort=False)))


def _rows_of(file: Path, root: Path, table: dict[str, pd.DataFrame]) -> pd.DataFrame | None:
    """The rows that name a file by its path below the root, or by its bare name, in the table's
    order.
    """
    names = dict.fromkeys([file.relative_to(root).as_posix(), file.name])
    rows = [table[name] for name in names if name in table]
    return pd.concat(rows).sort_index() if rows else None


def _table_events(source: Source, corpus: CorpusConfig) -> pd.DataFrame:
    rows = _rows_of(source.file, Path(corpus.source or ""), _table(corpus.table))
    if rows is None:
        return events.event_table([])
    return rows.loc[rows.label != "", list(events.Event._fields)].reset_index(drop=True)


def _told_by_table(root: Path, places: list[_Place], corpus: CorpusConfig) -> list[_Place]:
    """Let a table say subject, session, run and split of the files that it names."""
    table = _table(corpus.table)
    named = Counter(
        name
        for place in places
        for name in {place.file.relative_to(root).as_posix(), place.file.name}
    )
    shared = [name for name in table if named[name] > 1]
    if shared:
        raise UserError(
            f"{corpus.table}: {shared[0]!r} is the name of {named[shared[0]]} files below {root};"
            " write their paths"
        )
    strange = [name for name in table if name not in named]
    if len(strange) == len(table):
        raise UserError(
            f"{corpus.table}: names none of the {len(places)} recordings below {root}; "
            f"expected for example {places[0].file.relative_to(root).as_posix()!r}"
        )
    if strange:
        log.warning(
            "%s: %d of %d files are not below %s, the first is %r",
            corpus.table,
            len(strange),
            len(table),
            root,
            strange[0],
        )
    return [_overridden(place, _rows_of(place.file, root, table), corpus) for place in places]


def _overridden(place: _Place, rows: pd.DataFrame | None, corpus: CorpusConfig) -> _Place:
    told = {}
    for name in ("subject", "session", "run", "split"):
        values = [] if rows is None else list(rows[name].dropna().unique())
        if len(values) > 1:
            raise UserError(
                f"{corpus.table}: gives {place.file.name} more than one {name}:"
                f" {', '.join(map(repr, values[:3]))}"
            )
        if values:
            told[name] = values[0]
    return place._replace(**told)


# ------------------------------------------------------------------------------- published splits


def tuev_validation_subjects(
    subjects: Iterable[str], seed: int = 4523, fraction: float = 0.2
) -> list[str]:
    """The training subjects of TUEV that validate as published, sorted: numpy's legacy choice
    without replacement (SPEC 1).
    """
    names = sorted(set(subjects))
    if not names:
        return []
    picked = np.random.RandomState(seed).choice(
        names, size=int(fraction * len(names)), replace=False
    )
    return sorted(picked.tolist())


def chbmit_split(patient: int) -> str:
    """The published part of CHB-MIT that a patient is in: 1-20 train, 21-22 val, 23-24 test."""
    if not 1 <= patient <= 24:
        raise UserError(f"CHB-MIT has patients 1 to 24, not {patient}")
    return "train" if patient <= 20 else "val" if patient <= 22 else "test"
