"""preprocess: raw recordings and their annotations -> one continuous, filtered signal per
recording, and tables.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from eegdm import artifacts
from eegdm.config import Config, CorpusConfig, SignalConfig, check_resolved, with_settings
from eegdm.console import say, track
from eegdm.data import sidecars
from eegdm.data.corpora import (
    Source,
    Survey,
    describe_people,
    read_events,
    refuse_open_rows,
    survey,
    table_labels,
    table_path,
)
from eegdm.data.events import classes_of, refuse_other_classes
from eegdm.data.files import file_name, signal_files, signal_state
from eegdm.data.montage import CHBMIT, TCP, Derivation, referential
from eegdm.data.plan import plan_channels
from eegdm.data.reading import open_recording, opening_of
from eegdm.data.signal import Filtering
from eegdm.data.signal import preprocess as prepare
from eegdm.data.units import list_names
from eegdm.effects import lines_without_effect
from eegdm.errors import UserError, failure_reason
from eegdm.executor import KILLED, map_unordered
from eegdm.layout import content_config, destination, labels_of, own_folder

# Two small files per finished recording, its row and its events: what a resumed run need not do
# again
ROWS_FOLDER = "parts"
ROW_COLUMNS = [
    "recording",
    "file",
    "sha256",
    "subject",
    "session",
    "run",
    "split",
    "sfreq",
    "n_times",
    "ch_names",
    "channel_ids",
    "status",
    "reason",
    "signal",
]
EVENT_TYPES = {
    "recording": "string",
    "channel": "string",
    "onset_s": "float64",
    "duration_s": "float64",
    "label": "string",
}


class RecordingJob(NamedTuple):
    """One recording and where its signal goes."""

    source: Source
    root: Path  # the corpus
    folder: Path  # the artefact
    run: str  # of :func:`eegdm.artifacts.building`


def run(config: Config) -> Path:
    """Write ``recordings/``: signals, `recordings.parquet`, `events.parquet`.

    Raises:
        UserError: no recordings found, none could be used, or (``run.strict``) some failed.
    """
    check_resolved(config, "preprocess")
    for line in lines_without_effect(config, "preprocess"):
        say(line)
    corpus = _with_source(config)
    surveyed = survey(corpus)
    if corpus.events == "table":
        refuse_open_rows(corpus)
    sources = surveyed.sources
    config = _with_mains(_with_classes(replace(config, corpus=corpus)), sources)
    inputs = _identity(sources, corpus)
    # First, since it writes the files that are there now into the plan of an unfinished folder,
    # which would be refused as another's otherwise
    _accept_sources(own_folder(config, "recordings"), sources, corpus)
    folder = destination(config, "recordings", inputs)
    content = content_config(config, "recordings")
    say(f"preprocess: {len(sources)} recordings in {corpus.source} -> {folder}")
    for line in describe_people(surveyed):
        say(f"preprocess: {line}")
    with artifacts.building(folder, "recordings", content, inputs):
        run_id = artifacts.run_of(folder)
        root = Path(corpus.source or "")
        jobs = [RecordingJob(source, root, folder, run_id) for source in sources]
        todo = [job for job in jobs if not _is_done(job)]
        if todo or not artifacts.is_finished(folder):
            # From here on the folder changes: unfinished, so that no stage reads it meanwhile
            artifacts.reopen(folder)
            work = functools.partial(process_recording, corpus=corpus, signal=config.signal)
            with closing(
                map_unordered(work, todo, config.run.workers, config.run.cluster)
            ) as results:
                for job, result in track(results, "preprocess", len(todo)):
                    if isinstance(result, BaseException):
                        _give_up(job, corpus, result)
            _write_tables(folder, jobs, corpus)
            artifacts.finish(folder, _facts_of(folder, surveyed, config), unlisted=(ROWS_FOLDER,))
    _print_outcome(folder, config)
    return folder


def _with_source(config: Config) -> CorpusConfig:
    """Return the corpus settings with a source; the synthetic corpus is written if it is not there
    yet.
    """
    corpus = config.corpus
    if corpus.name == "synthetic" and corpus.source is None:
        from eegdm.data.synthetic.layouts import write_tuev

        made: dict[str, Any] = {
            "n_train": corpus.n_train,
            "n_eval": corpus.n_eval,
            "minutes": corpus.minutes,
            "seed": corpus.seed,
        }
        folder = Path(config.run.root) / "synthetic" / f"corpus-{artifacts.fingerprint(made)}"
        with artifacts.storage_faults(folder, "root="):
            if not folder.is_dir():
                say(
                    f"preprocess: writing {corpus.n_train} + {corpus.n_eval} synthetic recordings"
                    f" to {folder}"
                )
                artifacts.make_folder(folder.parent, "root=")
                # At once or not at all: a corpus of half its subjects would be read as a whole one
                with artifacts.atomic_folder(folder) as temporary:
                    write_tuev(temporary, **made)
        corpus = replace(corpus, source=str(folder))
    if corpus.source is None:
        raise UserError(f"corpus={corpus.name}: say where the recordings are with source=FOLDER")
    return corpus


def _with_classes(config: Config) -> Config:
    """Return the configuration with the classes that a table's labels make, if none were typed;
    labels that are none of those typed are refused before any recording is read.
    """
    corpus = config.corpus
    if corpus.events != "table" or corpus.name not in ("folder", "bids"):
        return config
    classes = classes_of(table_labels(corpus), corpus.label_map)
    if "corpus.classes" in config.explicit:
        refuse_other_classes(classes, corpus.classes)
        return config
    background = config.windows.background
    if "windows.background" in config.explicit and background and background not in classes:
        # First, where a binary loss wants it
        classes = [background, *classes]
    if not classes:
        return config
    events = classes
    if "corpus.event_classes" in config.explicit:
        refuse_other_classes(corpus.event_classes, classes)
        events = corpus.event_classes
    elif background in classes:
        events = [name for name in classes if name != background]
    say(
        f"preprocess: {len(classes)} classes, the labels in {corpus.table}: {', '.join(classes)}"
        " (corpus.classes=[...] sets others or another order)"
    )
    return with_settings(
        config, {"corpus.classes": list(classes), "corpus.event_classes": list(events)}
    )


def _with_mains(config: Config, sources: list[Source]) -> Config:
    """Return the configuration with the notch at the frequency of the power line that BIDS's
    sidecars agree on, if no notch was typed.
    """
    notch = config.signal.notch
    mains = sidecars.mains_of(source.file for source in sources)
    if not mains or not notch or "signal.notch" in config.explicit or set(mains) == set(notch):
        return config
    if len(mains) > 1:
        counts = ", ".join(f"{hz:g} Hz ({n} recordings)" for hz, n in mains.most_common())
        say(
            f"preprocess: warning: PowerLineFrequency is {counts}; the notch is at"
            f" {', '.join(f'{hz:g}' for hz in notch)} Hz: signal.notch=[...] sets it"
        )
        return config
    (hz,) = mains
    say(
        f"preprocess: notch at {hz:g} Hz, the PowerLineFrequency of {mains[hz]} recordings"
        " (signal.notch=[...] sets another)"
    )
    return with_settings(config, {"signal.notch": [hz]})


# ---------------------------------------------------------------------------------- one recording


def process_recording(job: RecordingJob, corpus: CorpusConfig, signal: SignalConfig) -> None:
    """Read, derive, filter and resample one recording; write its signal, then its part.

    Raises:
        UserError: why this recording can't be used, or that the run it was begun for has ended.
    """
    with artifacts.writing(job.folder, job.run):
        _preprocess_one(job, corpus, signal)


def _preprocess_one(job: RecordingJob, corpus: CorpusConfig, signal: SignalConfig) -> None:
    montage = {"tcp": TCP, "chbmit": CHBMIT}.get(signal.montage)
    units = sidecars.sidecars_of(job.source.file).units
    raw = open_recording(job.source.file, signal.unit, units=units, wanted=montage or TCP)
    sidecars.apply(raw, job.source.file)
    if montage is None:
        derivations, channel_notes = _referential(raw, signal.n_referential)
    else:
        _, derivations, channel_notes = plan_channels(raw, montage, signal.missing)
    filtering = Filtering(signal.sfreq, signal.highpass, signal.lowpass, tuple(signal.notch))
    path = job.folder / _signal_name(job.source.recording)
    with artifacts.atomic_path(path) as temporary:
        prepared = prepare(
            raw,
            derivations,
            filtering,
            keep_raw=signal.per_window,
            out=lambda shape: artifacts.memory_map(temporary, shape),
        )
        n_times = prepared.signal.shape[1]
    events = read_events(job.source, corpus, raw)
    notes = [
        *opening_of(raw).notes,
        *sidecars.notes_of(raw),
        *channel_notes,
        *prepared.notes,
        *events.attrs["notes"],
        *(
            []
            if len(events) or corpus.events == "none"
            else [f"no events: {_where_sought(job.source, corpus)}"]
        ),
    ]
    row = _recording_row(
        job.source,
        corpus,
        status="ok",
        reason="; ".join(notes),
        sha256=artifacts.sha256(*signal_files(job.source.file)),
        sfreq=prepared.sfreq,
        n_times=n_times,
        ch_names=[d.name for d in derivations],
        channel_ids=[d.channel_id for d in derivations],
        signal=_signal_name(job.source.recording),
    )
    # The row last: a recording counts as done by it, so signal and events must be there before
    artifacts.write_table(
        _part_path(job, ".parquet"),
        events.assign(recording=job.source.recording)[[*EVENT_TYPES]].astype(EVENT_TYPES),
    )
    _write_row(job, row, _stamp_of(job))


def _referential(raw: Any, n_channels: int) -> tuple[list[Derivation], list[str]]:
    """The first channels of a file; they are taken by their place, so a bad one is only noted."""
    derivations = referential(raw.ch_names, n_channels)
    bads = list_names([d.name for d in derivations if d.name in raw.info["bads"]])
    note = f"marked as bad in the recording, used all the same: {bads}"
    return derivations, [note] if bads else []


def _give_up(job: RecordingJob, corpus: CorpusConfig, error: BaseException) -> None:
    """List a recording with the reason why it can't be used; a fault of the disk that is written to
    ends the run instead.
    """
    if artifacts.is_storage_fault(error, job.folder):
        raise error
    # A fault of the machine may be gone next time, one of the file is not
    is_passing = (
        isinstance(error, OSError | MemoryError)
        or str(error) == KILLED
        or not all(f.is_file() for f in _files(job))
    )
    row = _recording_row(job.source, corpus, status="failed", reason=failure_reason(error))
    # Without a stamp the next run tries again
    _write_row(job, row, None if is_passing else _stamp_of(job))


def _where_sought(source: Source, corpus: CorpusConfig) -> str:
    if corpus.events in ("rec", "csv_bi", "csv", "bids", "summary"):
        return (
            f"{source.annotation.name} holds none"
            if source.annotation
            else "no annotation file beside it"
        )
    return (
        "no row in the table" if corpus.events == "table" else "no annotation within the recording"
    )


def _signal_name(recording: str) -> str:
    return f"signals/{file_name(recording)}.npy"


def _recording_row(source: Source, corpus: CorpusConfig, **values: Any) -> dict[str, Any]:
    file = source.file.relative_to(Path(corpus.source or "")).as_posix()
    known: dict[str, Any] = {
        "recording": source.recording,
        "file": file,
        "subject": source.subject,
        "session": source.session,
        "run": source.run,
        "split": source.split,
        "ch_names": [],
        "channel_ids": [],
    }
    return {column: {**known, **values}.get(column) for column in ROW_COLUMNS}


# --------------------------------------------------------------------------------------- resuming


def _stamp_of(job: RecordingJob) -> list[Any]:
    """What tells that the files of a recording have not changed: name, size and time of the
    recording; name, size and content of its annotations.
    """
    # A recording is large, and its time will do; of annotations the content decides.
    recording, *beside = _files(job)
    stamps: list[Any] = [[_below_root(recording, job.root), *signal_state(recording)]]
    for file in beside:
        content = _content(file, artifacts.file_state(file))
        stamps.append([_below_root(file, job.root), file.stat().st_size, content])
    return stamps


# A table holds the annotations of all recordings: it is read once, and again where it has changed
@functools.lru_cache(maxsize=8)
def _content(file: Path, state: tuple[int, ...]) -> str:
    return artifacts.sha256(file)


def _is_same_file(then: list[Any], now: list[Any]) -> bool:
    """Compare two stamps of one file; version 0.1.0 knew an annotation's time, not its content."""
    comparable = type(then[2]) is type(now[2])
    return then[:2] == now[:2] and (not comparable or then[2] == now[2])


def _below_root(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def _files(job: RecordingJob) -> list[Path]:
    beside = (job.source.annotation, *sidecars.sidecar_files(job.source.file))
    return [job.source.file, *(f for f in beside if f is not None)]


def _part_path(job: RecordingJob, suffix: str) -> Path:
    """Where a recording's row (.json) or its events (.parquet) wait for the tables."""
    return job.folder / ROWS_FOLDER / f"{file_name(job.source.recording)}{suffix}"


def _write_row(job: RecordingJob, row: dict[str, Any], stamp: list[Any] | None) -> None:
    artifacts.write_json(_part_path(job, ".json"), {"stamp": stamp, "row": row})


def _is_done(job: RecordingJob) -> bool:
    path = _part_path(job, ".json")
    if not path.is_file():
        return False
    row = artifacts.read_json(path)["row"]
    signal = row["signal"]
    if signal is not None and not (job.folder / signal).is_file():
        return False
    if signal is not None and not _part_path(job, ".parquet").is_file():
        return False
    return not _is_changed(job, row["sha256"])


def _is_changed(job: RecordingJob, sha256: str | None) -> bool:
    """Whether a recording or its annotations are others than those that were read; a file of
    another time is compared by its hash, where one is known.
    """
    path = _part_path(job, ".json")
    then = artifacts.read_json(path)["stamp"] if path.is_file() else None
    now = _stamp_of(job)
    if then is not None and len(then) == len(now) and all(map(_is_same_file, then, now)):
        return False
    if then is not None and not all(map(_is_same_file, then[1:], now[1:])):
        return True
    return sha256 is None or artifacts.sha256(*signal_files(job.source.file)) != sha256


# ---------------------------------------------------------------------------- which files they are


def _identity(sources: list[Source], corpus: CorpusConfig) -> dict[str, str]:
    """What tells the raw files of these recordings from others: relative path and size of each,
    and the table.
    """
    root = Path(corpus.source or "")
    sizes = sorted([_below_root(s.file, root), signal_state(s.file)[0]] for s in sources)
    files = {"files": artifacts.fingerprint(sizes)}
    return files | ({"table": artifacts.sha256(table_path(corpus))} if corpus.table else {})


def _accept_sources(folder: Path, sources: list[Source], corpus: CorpusConfig) -> None:
    """Refuse to put recordings of other files into a finished folder, from which backbones and
    classifiers may have been made. An unfinished folder takes the files that are there now, and so
    does a finished one in the place of files that could not be read.

    Raises:
        UserError: files are new, gone or changed since the folder was finished.
    """
    if artifacts.is_finished(folder) and (differences := _other_files(folder, sources, corpus)):
        raise UserError(
            f"{folder}: is finished, and holds recordings of other files than {corpus.source}:"
            f" {', '.join(differences)}. Give these another root= or recipe=, or remove the folder"
            " to make it anew"
        )
    plan = folder / artifacts.PLAN
    begun = artifacts.read_json(plan) if plan.is_file() else {}
    inputs = _identity(sources, corpus)
    if begun.get("format") == artifacts.FORMAT and begun["inputs"] != inputs:
        artifacts.write_json(plan, {**begun, "inputs": inputs})


def _other_files(folder: Path, sources: list[Source], corpus: CorpusConfig) -> list[str]:
    """In what the files of a finished folder differ from those found now, in words."""
    root = Path(corpus.source or "")
    table = artifacts.read_table(folder / "recordings.parquet")
    hashes = {
        row.file: row.sha256 if isinstance(row.sha256, str) else None  # None: it could not be read
        for row in table.itertuples()
    }
    there = {_below_root(source.file, root): source for source in sources}
    changed = {
        name
        for name in there.keys() & hashes.keys()
        if hashes[name] is not None
        and _is_changed(RecordingJob(there[name], root, folder, ""), hashes[name])
    }
    kinds = {
        "new": there.keys() - hashes.keys(),
        "gone": hashes.keys() - there.keys(),
        "changed": changed,
    }
    return [f"{len(names)} {kind} (such as {min(names)})" for kind, names in kinds.items() if names]


# ----------------------------------------------------------------------------------------- tables


def _write_tables(folder: Path, jobs: list[RecordingJob], corpus: CorpusConfig) -> None:
    recordings = pd.DataFrame(
        [artifacts.read_json(_part_path(job, ".json"))["row"] for job in jobs], columns=ROW_COLUMNS
    )
    text = [
        "recording",
        "file",
        "sha256",
        "subject",
        "session",
        "run",
        "split",
        "status",
        "reason",
        "signal",
    ]
    recordings = recordings.astype(
        {**dict.fromkeys(text, "string"), "sfreq": "Float64", "n_times": "Int64"}
    )
    # Nothing came about: the next run may have other settings, such as the ones that mend it
    if not (recordings.status == "ok").any():
        artifacts.abandon(folder)
        reasons = "; ".join(f"{r.recording}: {r.reason}" for r in recordings.head(3).itertuples())
        raise UserError(
            f"{corpus.source}: none of {len(recordings)} recordings could be used ({reasons})"
        )
    artifacts.write_table(folder / "recordings.parquet", recordings)
    usable = [job for job, status in zip(jobs, recordings.status, strict=True) if status == "ok"]
    events = pd.concat(
        [artifacts.read_table(_part_path(job, ".parquet")) for job in usable], ignore_index=True
    )
    artifacts.write_table(folder / "events.parquet", events.astype(EVENT_TYPES))


def _facts_of(folder: Path, surveyed: Survey, config: Config) -> dict[str, Any]:
    recordings = artifacts.read_table(folder / "recordings.parquet")
    events = artifacts.read_table(folder / "events.parquet")
    good = recordings[recordings.status == "ok"]
    return {
        "recordings": len(good),
        "failed": len(recordings) - len(good),
        "subjects": int(good.subject.nunique()),
        "subjects_from": surveyed.subjects_from,
        "subject_warnings": [*surveyed.subject_warnings, *_same_bytes(good)],
        "hours": round(float((good.n_times / good.sfreq).sum()) / 3600, 4),
        "events": len(events),
        "labels": labels_of(config),
        "events_per_label": {
            str(k): int(v) for k, v in events.label.value_counts().sort_index().items()
        },
    }


def _same_bytes(recordings: pd.DataFrame) -> Iterator[str]:
    """Say which files are copies of each other and count as different people's."""
    for _, rows in recordings.groupby("sha256", sort=False):
        if rows.subject.nunique() > 1:
            yield (
                f"{rows.file.iloc[0]} and {rows.file.iloc[1]} are the same file and count as"
                f" recordings of {rows.subject.nunique()} people; remove one, or name one subject"
                " in the table"
            )


def _print_outcome(folder: Path, config: Config) -> None:
    recordings = artifacts.read_table(folder / "recordings.parquet")
    for r in recordings[recordings.status != "ok"].itertuples():
        say(f"  failed   {r.file}: {r.reason}")
    noted = recordings[(recordings.status == "ok") & (recordings.reason != "")]
    for reason, rows in noted.groupby("reason", sort=False):
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        say(f"  noted    {rows.file.iloc[0]}{more}: {reason}")
    s = artifacts.open_artifact(folder, "recordings").summary
    for warning in _same_bytes(recordings[recordings.status == "ok"]):
        say(f"preprocess: warning: {warning}")
    classes = classes_of(s["events_per_label"], config.corpus.label_map)
    if others := [name for name in classes if name not in config.corpus.classes]:
        say(
            f"preprocess: warning: events are labelled {', '.join(map(repr, others[:5]))},"
            f" which is none of corpus.classes={list(config.corpus.classes)}: name the classes"
            " for training"
        )
    say(
        f"preprocess: {s['recordings']} recordings of {s['subjects']} subjects, {s['hours']:.2f} h,"
        f" {s['events']} events; {s['failed']} failed"
    )
    if config.run.strict and s["failed"]:
        raise UserError(
            f"{s['failed']} recordings failed and run.strict=true; the reasons are above and in"
            f" {folder}/recordings.parquet"
        )
