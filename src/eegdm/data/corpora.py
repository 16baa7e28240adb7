"""Corpora: which recordings a folder holds, whose they are, where their events stand, and the
published splits.

A layout is found by its folders and file names; recordings are opened later, one by one (of FIF
files, the headers are read, which alone know the parts of a split one).
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
from eegdm.data import chbmit, events, people, runs, siena, tuh
from eegdm.data.files import EXTENSIONS, extension, recording_ids, sort_out, visible
from eegdm.errors import UserError

BIDS_EXTENSIONS = (".edf", ".bdf", ".vhdr", ".set")
"""The formats that EEG-BIDS allows."""
TUH_PARTS = {"train": "train", "dev": "val", "eval": "test"}
"""The folders of TUAB and TUSZ (TUAB has no dev), and what they are for."""
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


class Survey(NamedTuple):
    """What was found below a corpus's folder.

    Attributes:
        sources: the recordings, sorted by id.
        subjects_from: what named the subjects, for print and manifest.
        subject_warnings: sentences on what makes doubtful who was recognised.
        left_out: a sentence on files that belong to another recording; "" if there is none.
    """

    sources: list[Source]
    subjects_from: str
    subject_warnings: list[str]
    left_out: str


# What names a subject
_BY_LAYOUT, _BY_TABLE, _BY_PATTERN = "the corpus's layout", "the table", "corpus.pattern"
_BY_KNOWN_NAMES, _BY_FOLDERS, _BY_FILES = (
    "names like sub-01 or S001R04",
    "folder names",
    "file names",
)


class _Place(NamedTuple):
    """A file and what the layout says of it; subject "": nothing."""

    file: Path
    subject: str
    session: str | None = None
    run: str | None = None
    split: str | None = None
    named_by: str = _BY_LAYOUT


def find_sources(corpus: CorpusConfig) -> list[Source]:
    """List the recordings below ``corpus.source``, sorted by id; see :func:`survey`."""
    return survey(corpus).sources


def survey(corpus: CorpusConfig) -> Survey:
    """List the recordings below ``corpus.source`` and say how their subjects were recognised.

    Raises:
        UserError: no such folder, nothing in the corpus's layout, file names that
            ``corpus.pattern`` does not fit, or a table that contradicts itself or names none of the
            files.
    """
    root = _root(corpus)
    layout = _LAYOUTS[corpus.name]
    every = {place.file: place for place in layout.find(root, corpus)}
    files = sort_out(every)
    places = [every[file] for file in files.recordings]
    if not places:
        raise UserError(
            f"{root}: holds no recordings as corpus={corpus.name} lays them out; looked for"
            f" {layout.looked_for}{files.left_out and f' ({files.left_out})'}"
        )
    places = _guessed(root, places)
    if corpus.events == "table":
        places = _apply_table_metadata(root, places, corpus)
    nameless = [place.file for place in places if not place.subject]
    if nameless:
        raise UserError(
            f"{nameless[0]}: corpus.pattern={corpus.pattern} finds no subject in its path below"
            f" {root} ({len(nameless)} of {len(places)} files); name subjects in the table, or give"
            " a pattern that fits all"
        )
    names = [place.file.relative_to(root).as_posix() for place in places]
    sources = [
        Source(name, *place[:5], _annotation(place.file, corpus))
        for name, place in zip(recording_ids(names), places, strict=True)
    ]
    # What a layout or a table says is not a guess; only recognised names can be wrong.
    doubtful = [i for i, p in enumerate(places) if p.named_by not in (_BY_LAYOUT, _BY_TABLE)]
    warnings = people.doubts([names[i] for i in doubtful], [places[i].subject for i in doubtful])
    return Survey(sorted(sources), _subjects_from(places), list(warnings), files.left_out)


def describe_people(found: Survey) -> Iterator[str]:
    """Yield who was recognised from what, with examples, what makes that doubtful, and which files
    were left out.
    """
    files = {source.subject: source.file.name for source in reversed(found.sources)}
    examples = [f"{files[subject]} -> {subject}" for subject in sorted(files)[:3]]
    n = len(files)
    yield (
        f"{n} {'person' if n == 1 else 'people'} in {len(found.sources)} recordings,"
        f" recognised by {found.subjects_from}: {', '.join(examples)}"
    )
    for warning in found.subject_warnings:
        yield f"warning: {warning}"
    if found.left_out:
        yield found.left_out


def _subjects_from(places: Sequence[_Place]) -> str:
    count = Counter(place.named_by for place in places)
    if len(count) == 1:
        return next(iter(count))
    return ", ".join(f"{what} ({n} recordings)" for what, n in count.most_common())


def _guessed(root: Path, places: list[_Place]) -> list[_Place]:
    """Let folders, or the files' names, name the subjects that nothing else named."""
    unnamed = [i for i, place in enumerate(places) if place.named_by == _BY_FILES]
    subjects, are_folders = people.guess(
        [places[i].file.relative_to(root).as_posix() for i in unnamed]
    )
    places = list(places)
    for i, subject, is_folder in zip(unnamed, subjects, are_folders, strict=True):
        named_by = _BY_FOLDERS if is_folder else _BY_FILES
        places[i] = places[i]._replace(subject=subject, named_by=named_by)
    return places


def _root(corpus: CorpusConfig) -> Path:
    if not corpus.source:
        raise UserError(f"corpus={corpus.name}: say where the recordings are with source=DIR")
    root = Path(corpus.source)
    if not root.is_dir():
        raise UserError(f"source={root}: is not a folder")
    return root


# ---------------------------------------------------------------------------------------- layouts


class _Layout(NamedTuple):
    find: Callable[[Path, CorpusConfig], Iterable[_Place]]
    looked_for: str


def _tuev(root: Path, corpus: CorpusConfig) -> Iterator[_Place]:
    base = root / "edf" if (root / "edf").is_dir() else root
    for file in visible(root, base.glob("train/*/*.edf")):
        yield _Place(file, file.stem.split("_")[0], split="train")
    # Only the training files are named after their patient; in eval the folder's number is all
    # that tells people apart.
    for file in visible(root, base.glob("eval/*/*.edf")):
        yield _Place(file, file.parent.name, split="test")


def _tuab(root: Path, corpus: CorpusConfig) -> Iterator[_Place]:
    for label in tuh.TUAB_LABELS:
        yield from _tuh(root, f"{label}/*/*.edf")


def _tusz(root: Path, corpus: CorpusConfig) -> Iterator[_Place]:
    yield from _tuh(root, "*/*/*/*.edf")


def _tuh(root: Path, below: str) -> Iterator[_Place]:
    """Recordings that lie so below the parts of a TUH corpus and are named as TUH names them."""
    base = root / "edf" if (root / "edf").is_dir() else root
    named = {
        (file, split): tuh.read_name(file)
        for part, split in TUH_PARTS.items()
        for file in visible(root, base.glob(f"{part}/{below}"))
    }
    strange = [file for (file, _), name in named.items() if name is None]
    if strange:
        others = f", nor are {len(strange) - 1} others" if len(strange) > 1 else ""
        raise UserError(
            f"{strange[0]}: is not named by subject, session and token as TUH's recordings are"
            f" (aaaaaaac_s001_t000.edf){others}; give it back its name, or move it out of {root}"
        )
    for (file, split), name in named.items():
        if name is not None:
            yield _Place(file, *name, split)


def _chbmit(root: Path, corpus: CorpusConfig) -> Iterator[_Place]:
    for file in visible(root, root.glob("chb[0-9][0-9]/*.edf")):
        patient = file.parent.name
        yield _Place(
            file,
            SAME_PERSON.get(patient, patient),
            session=patient,
            run=file.stem.removeprefix(patient).lstrip("_"),
        )


def _siena(root: Path, corpus: CorpusConfig) -> Iterator[_Place]:
    for file in visible(root, root.glob("PN[0-9][0-9]/*.edf")):
        patient = file.parent.name
        yield _Place(file, patient, run=file.stem.removeprefix(patient).lstrip("-"))


def _eegmmidb(root: Path, corpus: CorpusConfig) -> Iterator[_Place]:
    yield from _runs(visible(root, root.glob("S[0-9][0-9][0-9]/*.edf")), runs.EEGMMIDB_NAME)


def _eegmat(root: Path, corpus: CorpusConfig) -> Iterator[_Place]:
    yield from _runs(visible(root, root.glob("Subject*.edf")), runs.EEGMAT_NAME)


def _runs(files: Iterable[Path], name: re.Pattern[str]) -> Iterator[_Place]:
    for file in files:
        if match := name.fullmatch(file.stem):
            yield _Place(file, match["subject"], run=match["run"])


def _bids(root: Path, corpus: CorpusConfig) -> Iterator[_Place]:
    files = [*root.glob("sub-*/eeg/*_eeg.*"), *root.glob("sub-*/ses-*/eeg/*_eeg.*")]
    for file in visible(root, files):
        if file.suffix in BIDS_EXTENSIONS:
            # "sub-01_task-rest_run-02_eeg": pairs of key and value, and the kind of data.
            entities = dict(part.split("-", 1) for part in file.stem.split("_") if "-" in part)
            subject = file.relative_to(root).parts[0].removeprefix("sub-")
            yield _Place(file, subject, entities.get("ses"), entities.get("run"))


def _folder(root: Path, corpus: CorpusConfig) -> Iterator[_Place]:
    pattern = _pattern(corpus)
    is_default = corpus.pattern == CorpusConfig().pattern
    for file in visible(root, root.rglob("*")):
        suffix = extension(file.name)
        if suffix and file.is_file():
            match = pattern.search(file.relative_to(root).as_posix())
            groups = match.groupdict() if match else {}
            subject = groups.get("subject") or ""
            named_by = _BY_KNOWN_NAMES if is_default else _BY_PATTERN
            # A name that is all subject (rec12.edf) may as well number the recordings.
            if is_default and subject in ("", file.name.removesuffix(suffix)):
                named_by = _BY_FILES
            yield _Place(file, subject, groups.get("session"), groups.get("run"), None, named_by)


_LAYOUTS = {
    "tuev": _Layout(_tuev, "edf/train/<subject>/<file>.edf and edf/eval/<nnn>/<file>.edf"),
    "synthetic": _Layout(_tuev, "edf/train/<subject>/<file>.edf and edf/eval/<subject>/<file>.edf"),
    "tuab": _Layout(
        _tuab,
        "edf/train|eval/normal|abnormal/01_tcp_ar/<subject>_<session>_<token>.edf",
    ),
    "tusz": _Layout(
        _tusz,
        "edf/train|dev|eval/<subject>/<session>/<montage>/<subject>_<session>_<token>.edf",
    ),
    "chbmit": _Layout(_chbmit, "chb01/chb01_01.edf ... chb24/chb24_22.edf"),
    "siena": _Layout(_siena, "PN00/PN00-1.edf ... PN17/PN17-2.edf"),
    "eegmmidb": _Layout(_eegmmidb, "S001/S001R01.edf ... S109/S109R14.edf"),
    "eegmat": _Layout(_eegmat, "Subject00_1.edf ... Subject35_2.edf"),
    "bids": _Layout(_bids, "sub-*/[ses-*/]eeg/*_eeg" + "|".join(BIDS_EXTENSIONS)),
    "folder": _Layout(_folder, "files that end in " + ", ".join(EXTENSIONS) + ", at any depth"),
}


def _pattern(corpus: CorpusConfig) -> re.Pattern[str]:
    groups = ("subject", "session", "run")
    try:
        pattern = re.compile(corpus.pattern)
    except re.error as error:
        raise UserError(
            f"corpus.pattern={corpus.pattern}: is not a valid regular expression ({error})"
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


# Who knows what happened in a run
_RUNS = {"eegmmidb": runs.eegmmidb_events, "eegmat": runs.eegmat_events}


def _expected_annotation(file: Path, corpus: CorpusConfig) -> Path | None:
    if corpus.events == "rec":
        return file.with_suffix(".rec")
    if corpus.events in ("csv_bi", "csv"):
        return file.with_suffix(f".{corpus.events}")
    if corpus.events == "summary":
        return file.with_name(f"{file.parent.name}-summary.txt")
    if corpus.events == "seizure_list":
        return file.with_name(f"Seizures-list-{file.parent.name}.txt")
    if corpus.events == "bids":
        return file.with_name(file.stem.removesuffix("_eeg") + "_events.tsv")
    return table_path(corpus) if corpus.events == "table" and corpus.table else None


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
            for this recording; ``attrs["notes"]`` are sentences on the rows that were left out.

    Raises:
        UserError: annotations are missing or at fault, or an event starts after the end of the
            recording: one of TUEV, TUSZ or CHB-MIT, or all of them else.
    """
    table = _read_events(source, corpus, raw)
    return _within(table, source, corpus, raw.n_times / raw.info["sfreq"])


def events_beside(source: Source, corpus: CorpusConfig, duration_s: float) -> pd.DataFrame:
    """Return the events of one recording as :func:`read_events` does, without opening it.

    Args:
        source: one of :func:`find_sources`.
        corpus: the settings that it was found with; its events stand beside the recording, in a
            table or a file, or in the name of a folder.
        duration_s: the length of the recording in seconds.

    Raises:
        UserError: as :func:`read_events`.
    """
    return _within(_events_beside(source, corpus), source, corpus, duration_s)


def _within(
    table: pd.DataFrame, source: Source, corpus: CorpusConfig, length: float
) -> pd.DataFrame:
    """Events with their durations, without those that start after the recording's end."""
    notes = list(table.attrs.get("notes", []))
    # An event without a duration is of the whole recording.
    table = table.assign(duration_s=table.duration_s.fillna(length))
    late = table.onset_s > length
    if late.any():
        first_s = table.onset_s[late].iloc[0]
        # One late row of a table is a slip; of a corpus's own files, or where all rows are late,
        # it means that the annotation is another recording's.
        if late.all() or corpus.events in ("rec", "csv_bi", "csv", "summary"):
            raise UserError(
                f"{source.annotation or source.file}: an event starts at {first_s:g} s,"
                f" {source.file.name} ends at {length:g} s"
            )
        notes.append(
            f"{late.sum()} of {len(late)} events start after the recording's end ({length:g} s)"
            f" and are left out, the first at {first_s:g} s"
        )
        table = table[~late].reset_index(drop=True)
    table.attrs = {"notes": notes}
    return table


def _read_events(source: Source, corpus: CorpusConfig, raw: Any) -> pd.DataFrame:
    if corpus.events == "none":
        return events.event_table([])
    if corpus.events == "annotations":
        return events.from_annotations(raw)
    if corpus.events == "runs":
        assert source.run is not None
        return _RUNS[corpus.name](source.run, raw)
    if corpus.events == "seizure_list":
        return siena.read_seizures_of(source.file, _annotation_of(source, corpus), raw)
    return _events_beside(source, corpus)


def _events_beside(source: Source, corpus: CorpusConfig) -> pd.DataFrame:
    if corpus.events == "folders":
        label = source.file.parents[1].name
        return events.event_table([events.Event(None, 0.0, float("nan"), label)])
    annotation = _annotation_of(source, corpus)
    if corpus.events == "table":
        return _table_events(source, corpus)
    if corpus.events == "summary":
        return events.event_table(chbmit.read_seizures_of(source.file, annotation))
    readers = {
        "rec": events.read_rec,
        "csv_bi": tuh.read_seizures,
        "csv": tuh.read_seizures,
        "bids": events.read_bids_events,
    }
    return readers[corpus.events](annotation)


def _annotation_of(source: Source, corpus: CorpusConfig) -> Path:
    if source.annotation is None:
        raise UserError(
            f"{source.file}: has no annotations ({_expected_annotation(source.file, corpus)} is"
            " missing); events=none reads it without"
        )
    return source.annotation


# ------------------------------------------------------------------------------------------ table


def table_path(corpus: CorpusConfig) -> Path:
    """Where ``corpus.table`` lies: below the current folder, else below ``corpus.source``.

    Raises:
        UserError: in neither.
    """
    root, table = Path(corpus.source or ""), Path(corpus.table or "")
    for path in (table, root / table):
        if path.is_file():
            return path
    raise UserError(
        f"table={table}: can't be read (No such file in the current folder {Path.cwd()}, nor in"
        f" source={root})"
    )


def _rows_by_file(corpus: CorpusConfig) -> dict[str, pd.DataFrame]:
    """The rows of a table by what stands in ``file``, read once per process and state of the
    file.
    """
    path = table_path(corpus)
    # Each recording asks for the table; in a notebook it may be edited between two runs.
    state = path.stat()
    return _read_table(path, Path(corpus.source or ""), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read_table(path: Path, root: Path, mtime_ns: int, size: int) -> dict[str, pd.DataFrame]:
    return dict(tuple(events.read_event_table(path, root).groupby("file", sort=False)))


def _rows_of(file: Path, root: Path, table: dict[str, pd.DataFrame]) -> pd.DataFrame | None:
    """The rows that name a file by its path below the root, or by its bare name, in the table's
    order.
    """
    # A file in the root has one name for both; its rows must not count twice.
    names = dict.fromkeys([file.relative_to(root).as_posix(), file.name])
    rows = [table[name] for name in names if name in table]
    return pd.concat(rows).sort_index() if rows else None


def _table_events(source: Source, corpus: CorpusConfig) -> pd.DataFrame:
    rows = _rows_of(source.file, Path(corpus.source or ""), _rows_by_file(corpus))
    if rows is None:
        return events.event_table([])
    return rows.loc[rows.onset_s.notna(), list(events.Event._fields)].reset_index(drop=True)


def refuse_open_rows(corpus: CorpusConfig) -> None:
    """Refuse a table with open rows, where what they leave open would be taken for background."""
    rows = pd.concat(_rows_by_file(corpus).values()).sort_index()
    left_open = rows[(rows.label == "") & rows.onset_s.notna()]
    if len(left_open):
        first = left_open.iloc[0]
        others = f" (and {len(left_open) - 1} more such rows)" if len(left_open) > 1 else ""
        raise UserError(
            f"{corpus.table}: the label of {first.file} at {first.onset_s:g} s is empty{others};"
            " fill it in, or leave onset_s and duration_s empty too if the row is not an event"
        )


def table_labels(corpus: CorpusConfig) -> list[str]:
    """The labels that stand in a corpus's table, as they are, sorted."""
    rows = pd.concat(_rows_by_file(corpus).values())
    return sorted(set(rows.label) - {""})


def _apply_table_metadata(root: Path, places: list[_Place], corpus: CorpusConfig) -> list[_Place]:
    """Let a table say subject, session, run and split of the files that it names."""
    table = _rows_by_file(corpus)
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


def _refuse_two_whole_labels(rows: pd.DataFrame | None, corpus: CorpusConfig) -> None:
    """Refuse different labels that are each said to be of the same whole recording."""
    if rows is None:
        return
    whole = rows[rows.duration_s.isna() & (rows.label != "")]
    # The same label twice is a repeated row, not a contradiction.
    labels = list(whole[whole.channel.isna()].label.unique())
    if len(labels) > 1:
        raise UserError(
            f"{corpus.table}: gives {whole.file.iloc[0]} more than one label for the whole"
            f" recording: {', '.join(map(repr, labels[:3]))}; give onset_s and duration_s, or one"
            " label"
        )


def _overridden(place: _Place, rows: pd.DataFrame | None, corpus: CorpusConfig) -> _Place:
    _refuse_two_whole_labels(rows, corpus)
    columns = {}
    for name in ("subject", "session", "run", "split"):
        values = [] if rows is None else list(rows[name].dropna().unique())
        if len(values) > 1:
            raise UserError(
                f"{corpus.table}: gives {place.file.name} more than one {name}:"
                f" {', '.join(map(repr, values[:3]))}"
            )
        if values:
            columns[name] = values[0]
    if "subject" in columns:
        columns["named_by"] = _BY_TABLE
    return place._replace(**columns)


# ------------------------------------------------------------------------------- published splits


def tuev_validation_subjects(
    subjects: Iterable[str], seed: int = 4523, fraction: float = 0.2
) -> list[str]:
    """The training subjects of TUEV that validate as published, sorted: numpy's legacy choice
    without replacement.
    """
    names = sorted(set(subjects))
    if not names:
        return []
    # The published subjects are those that this legacy generator picks; numpy's newer ones differ.
    picked = np.random.RandomState(seed).choice(
        names, size=int(fraction * len(names)), replace=False
    )
    return sorted(picked.tolist())


def chbmit_split(patient: int) -> str:
    """The published part of CHB-MIT that a patient is in: 1-20 train, 21-22 val, 23-24 test."""
    if not 1 <= patient <= 24:
        raise UserError(f"CHB-MIT has patients 1 to 24, not {patient}")
    return "train" if patient <= 20 else "val" if patient <= 22 else "test"
