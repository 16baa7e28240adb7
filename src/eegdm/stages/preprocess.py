"""preprocess: raw recordings and their annotations -> one continuous, filtered signal per
recording, and tables.
"""

from __future__ import annotations

import functools
import re
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from eegdm import artifacts
from eegdm.config import Config, CorpusConfig, SignalConfig, check_resolved
from eegdm.console import say, track
from eegdm.data.corpora import Source, find_sources, read_events
from eegdm.data.events import map_labels
from eegdm.data.montage import CHBMIT, TCP, derive, referential
from eegdm.data.signal import Filtering, open_recording
from eegdm.data.signal import preprocess as prepare
from eegdm.errors import UserError
from eegdm.executor import KILLED, each
from eegdm.layout import content_config, destination

# Two small files per finished recording, its row and its events; what a resumed run need not do
# again
PARTS = "parts"
COLUMNS = [
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


class Job(NamedTuple):
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
    corpus = _with_source(config)
    folder = destination(config, "recordings", inputs={})
    sources = find_sources(corpus)
    say(f"preprocess: {len(sources)} recordings in {corpus.source} -> {folder}")
    with artifacts.building(folder, "recordings", content_config(config, "recordings"), inputs={}):
        run_id = artifacts.run_of(folder)
        jobs = [Job(source, Path(corpus.source or ""), folder, run_id) for source in sources]
        todo = [job for job in jobs if not _is_done(job)]
        if todo or not _is_complete(folder, jobs):
            artifacts.reopen(folder)
            work = functools.partial(process, corpus=corpus, signal=config.signal)
            with closing(each(work, todo, config.run.workers, config.run.cluster)) as results:
                for job, result in track(results, "preprocess", len(todo)):
                    if isinstance(result, BaseException):
                        _give_up(job, corpus, result)
            _write_tables(folder, jobs, corpus)
            artifacts.finish(folder, _summary(folder), unlisted=(PARTS,))
    _tell(folder, config.run.strict)
    return folder


def _with_source(config: Config) -> CorpusConfig:
    """Return the corpus settings with a source; the made-up corpus is written if it is not there
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
        folder = Path(config.run.root) / "synthetic" / f"made-up-{artifacts.fingerprint(made)}"
        if not folder.is_dir():
            say(
                f"preprocess: writing {corpus.n_train} + {corpus.n_eval} made-up recordings to"
                f" {folder}"
            )
            with artifacts.atomic_folder(folder) as temporary:
                write_tuev(temporary, **made)
        corpus.source = str(folder)
    if corpus.source is None:
        raise UserError(f"corpus={corpus.name}: say where the recordings are with source=FOLDER")
    return corpus


# ---------------------------------------------------------------------------------- one recording


def process(job: Job, corpus: CorpusConfig, signal: SignalConfig) -> None:
    """Read, derive, filter and resample one recording; write its signal, then its part.

    Raises:
        UserError: why this recording can't be used, or that the run it was begun for is over.
    """
    with artifacts.writing(job.folder, job.run):
        _process(job, corpus, signal)


def _process(job: Job, corpus: CorpusConfig, signal: SignalConfig) -> None:
    raw = open_recording(job.source.file)
    montage = {"tcp": TCP, "chbmit": CHBMIT}.get(signal.montage)
    plan = (
        referential(raw.ch_names, signal.n_referential)
        if montage is None
        else derive(raw.ch_names, montage, signal.missing)
    )
    filtering = Filtering(signal.sfreq, signal.highpass, signal.lowpass, tuple(signal.notch))
    path = job.folder / _signal_name(job.source.recording)
    with artifacts.atomic_path(path) as temporary:
        prepared = prepare(
            raw,
            plan,
            filtering,
            keep_raw=signal.per_window,
            out=lambda shape: _memory_map(temporary, shape),
        )
        n_times = prepared.signal.shape[1]
    events = map_labels(read_events(job.source, corpus, raw), corpus.label_map)
    notes = [
        *prepared.notes,
        *(
            []
            if len(events) or corpus.events == "none"
            else [f"no events: {_where_sought(job.source, corpus)}"]
        ),
    ]
    row = _row(
        job.source,
        corpus,
        status="ok",
        reason="; ".join(notes),
        sha256=artifacts.sha256(job.source.file),
        sfreq=prepared.sfreq,
        n_times=n_times,
        ch_names=[d.name for d in plan],
        channel_ids=[d.channel_id for d in plan],
        signal=_signal_name(job.source.recording),
    )
    artifacts.write_table(
        _part_path(job, ".parquet"),
        events.assign(recording=job.source.recording)[[*EVENT_TYPES]].astype(EVENT_TYPES),
    )
    _write_part(job, row, _stamp(job))


def _memory_map(path: Path, shape: tuple[int, ...]) -> np.memmap:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    artifacts.reserve(path)
    return array


def _give_up(job: Job, corpus: CorpusConfig, error: BaseException) -> None:
    """List a recording with the reason why it can't be used; a fault of the disk that is written to
    ends the run instead.
    """
    if artifacts.is_storage_fault(error, job.folder):
        raise error
    is_passing = (
        isinstance(error, OSError | MemoryError)
        or str(error) == KILLED
        or not all(f.is_file() for f in _files(job))
    )
    row = _row(job.source, corpus, status="failed", reason=_one_line(error))
    _write_part(
        job, row, None if is_passing else _stamp(job)
    )  # without a stamp the next run tries again


def _where_sought(source: Source, corpus: CorpusConfig) -> str:
    if corpus.events in ("rec", "bids", "summary"):
        return (
            f"{source.annotation.name} holds none"
            if source.annotation
            else "no annotation file beside it"
        )
    return (
        "no row in the table"
        if corpus.events == "table"
        else "no annotation in the file that corpus.label_map keeps"
    )


def _slug(recording: str) -> str:
    """File name of a recording: its id, with anything that is no plain name replaced and a
    fingerprint added.
    """
    plain = re.sub(r"[^A-Za-z0-9._+=-]+", "_", recording.replace("/", "__")).lstrip(".")
    return (
        plain
        if plain == recording.replace("/", "__") and len(plain) < 150
        else f"{plain[:120]}-{artifacts.fingerprint(recording)}"
    )


def _signal_name(recording: str) -> str:
    return f"signals/{_slug(recording)}.npy"


def _row(source: Source, corpus: CorpusConfig, **values: Any) -> dict[str, Any]:
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
    return {column: {**known, **values}.get(column) for column in COLUMNS}


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{error.__class__.__name__}: {text}"[:500]


# --------------------------------------------------------------------------------------- resuming


def _stamp(job: Job) -> list[Any]:
    """What tells that the files of a recording have not changed: name, size and time of the
    recording and its annotations.
    """
    return [
        [
            f.relative_to(job.root).as_posix() if f.is_relative_to(job.root) else f.name,
            f.stat().st_size,
            f.stat().st_mtime_ns,
        ]
        for f in _files(job)
    ]


def _files(job: Job) -> list[Path]:
    return [f for f in (job.source.file, job.source.annotation) if f is not None]


def _part_path(job: Job, suffix: str) -> Path:
    """Where a recording's row (.json) or its events (.parquet) wait for the tables."""
    return job.folder / PARTS / f"{_slug(job.source.recording)}{suffix}"


def _write_part(job: Job, row: dict[str, Any], stamp: list[Any] | None) -> None:
    artifacts.write_json(_part_path(job, ".json"), {"stamp": stamp, "row": row})


def _is_done(job: Job) -> bool:
    path = _part_path(job, ".json")
    if not path.is_file():
        return False
    part = artifacts.read_json(path)
    signal = part["row"]["signal"]
    return part["stamp"] == _stamp(job) and (
        signal is None
        or ((job.folder / signal).is_file() and _part_path(job, ".parquet").is_file())
    )


def _is_complete(folder: Path, jobs: list[Job]) -> bool:
    """Whether the finished tables list just these recordings."""
    if not artifacts.is_finished(folder):
        return False
    listed = artifacts.read_table(folder / "recordings.parquet").recording
    return set(listed) == {job.source.recording for job in jobs}


# ----------------------------------------------------------------------------------------- tables


def _write_tables(folder: Path, jobs: list[Job], corpus: CorpusConfig) -> None:
    recordings = pd.DataFrame(
        [artifacts.read_json(_part_path(job, ".json"))["row"] for job in jobs], columns=COLUMNS
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


def _summary(folder: Path) -> dict[str, Any]:
    recordings = artifacts.read_table(folder / "recordings.parquet")
    events = artifacts.read_table(folder / "events.parquet")
    good = recordings[recordings.status == "ok"]
    return {
        "recordings": len(good),
        "failed": len(recordings) - len(good),
        "subjects": int(good.subject.nunique()),
        "hours": round(float((good.n_times / good.sfreq).sum()) / 3600, 4),
        "events": len(events),
        "events_per_label": {
            str(k): int(v) for k, v in events.label.value_counts().sort_index().items()
        },
    }


def _tell(folder: Path, strict: bool) -> None:
    recordings = artifacts.read_table(folder / "recordings.parquet")
    for r in recordings[recordings.status != "ok"].itertuples():
        say(f"  failed   {r.file}: {r.reason}")
    noted = recordings[(recordings.status == "ok") & (recordings.reason != "")]
    for reason, rows in noted.groupby("reason", sort=False):
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        say(f"  noted    {rows.file.iloc[0]}{more}: {reason}")
    s = artifacts.open_artifact(folder, "recordings").summary
    say(
        f"preprocess: {s['recordings']} recordings of {s['subjects']} subjects, {s['hours']:.2f} h,"
        f" {s['events']} events; {s['failed']} failed"
    )
    if strict and s["failed"]:
        raise UserError(
            f"{s['failed']} recordings failed and run.strict=true; the reasons are above and in"
            f" {folder}/recordings.parquet"
        )
