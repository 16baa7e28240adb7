"""One recording of a folder of features: reading it, making what it lacks, and the file that says
what came of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eegdm import artifacts
from eegdm.data import sidecars
from eegdm.data.corpora import Source
from eegdm.data.files import file_name, signal_files
from eegdm.data.montage import CHANNEL_ID
from eegdm.data.windows import WindowGrid
from eegdm.errors import failure_reason
from eegdm.executor import KILLED
from eegdm.features.extractors import Extractor
from eegdm.features.store import array_path
from eegdm.inference.chunks import read_batches
from eegdm.inference.embedding import prepare_windows
from eegdm.inference.preparation import PreparationSettings, Prepared

PARTS, WORK = "parts", "work"
"""What belongs to the unfinished folder: a file per recording that says what came of it, and the
signals under way."""


LISTS = ("ch_names", "taken_for", "distance_mm", "origins", "notes")
"""What a recording has several of."""


class Cut(NamedTuple):
    """How recordings are treated and cut into windows, the same for all of a folder."""

    settings: PreparationSettings
    window_s: float
    step_s: float | None
    batch_size: int


class Job(NamedTuple):
    """One recording, where its features go, and which it lacks."""

    source: Source
    root: Path  # the recordings
    folder: Path  # the store
    run: str  # of :func:`eegdm.artifacts.building`
    lacking: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The recording's path below the folder of all."""
        return self.source.file.relative_to(self.root).as_posix()

    @property
    def part(self) -> Path:
        """The file that says what came of the recording."""
        return self.folder / PARTS / f"{file_name(self.source.recording)}.json"


def process(job: Job, cut: Cut, extractors: Sequence[Extractor]) -> None:
    """Read one recording and make the features that it lacks; then write its part.

    Raises:
        UserError: why this recording can't be used, or that the run it was begun for is over.
    """
    with artifacts.writing(job.folder, job.run):
        work = job.folder / WORK / job.part.stem
        shutil.rmtree(work, ignore_errors=True)
        try:
            stamp = _stamp(job)
            prepared, windows = prepare_windows(
                job.source.file, cut.settings, cut.window_s, cut.step_s, work
            )
            wanted = [extractor for extractor in extractors if extractor.name in job.lacking]
            _extract_features(job, prepared, windows, wanted, cut.batch_size)
            row = {
                **_known(job),
                "sfreq": prepared.sfreq,
                "duration_s": prepared.duration_s,
                "n_times": prepared.n_times,
                "n_windows": len(windows.starts),
                "ch_names": prepared.ch_names,
                "taken_for": prepared.taken_for,
                "distance_mm": prepared.distance_mm,
                "origins": prepared.origins,
                "status": "ok",
                "notes": prepared.notes,
            }
            _write_part(job, row, stamp)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _extract_features(
    job: Job,
    prepared: Prepared,
    windows: WindowGrid,
    extractors: Sequence[Extractor],
    batch_size: int,
) -> None:
    """Run extractors over all windows; each array has its name when it is whole."""
    ids = [CHANNEL_ID[name] for name in prepared.taken_for]
    streams: dict[str, Any] = {}
    with ExitStack() as stack:
        for batch in read_batches(windows, prepared.read, prepared.spread(), batch_size):
            for extractor in extractors:
                values = extractor(batch, windows.sfreq, ids)
                if extractor.name not in streams:
                    path = array_path(job.folder, extractor.name, job.source.recording)
                    temporary = stack.enter_context(artifacts.atomic_path(path))
                    streams[extractor.name] = stack.enter_context(open(temporary, "wb"))
                    shape = (len(windows.starts), *values.shape[1:])
                    artifacts.begin_array(streams[extractor.name], shape)
                streams[extractor.name].write(np.ascontiguousarray(values, "<f4").tobytes())


def give_up(job: Job, error: BaseException) -> None:
    """List a recording with the reason why it can't be used; a fault of the disk that is written to
    ends the run instead.
    """
    if artifacts.is_storage_fault(error, job.folder):
        raise error
    is_passing = (
        isinstance(error, OSError | MemoryError)
        or str(error) == KILLED
        or not job.source.file.is_file()
    )
    reason = failure_reason(error).replace(f"{job.root}/", "").removeprefix(f"{job.file}: ")
    row = {**_known(job), "status": "failed", "reason": reason}
    _write_part(job, row, None if is_passing else _stamp(job))


def _known(job: Job) -> dict[str, Any]:
    size = job.source.file.stat().st_size if job.source.file.is_file() else 0
    lists: dict[str, Any] = {name: [] for name in LISTS}
    return {"file": job.file, "size": size, "reason": "", **lists}


def _stamp(job: Job) -> list[list[Any]]:
    """What tells that a recording and the sidecars that describe it have not changed: name, size
    and time.
    """
    states = [(file, file.stat()) for file in _read_files(job)]
    return [
        [file.relative_to(job.root).as_posix(), state.st_size, state.st_mtime_ns]
        for file, state in states
    ]


def _read_files(job: Job) -> list[Path]:
    return [*signal_files(job.source.file), *sidecars.sidecar_files(job.source.file)]


def is_changed(job: Job, part: dict[str, Any]) -> bool:
    """Whether a recording is another than the one that was read; of another time, its bytes are
    compared.
    """
    if part["stamp"] is None:
        return True
    then, now = part["stamp"], _stamp(job)
    if [state[:2] for state in then] != [state[:2] for state in now]:
        return True
    return then != now and part["sha256"] != [artifacts.sha256(file) for file in _read_files(job)]


def read_part(job: Job) -> dict[str, Any] | None:
    return artifacts.read_json(job.part) if job.part.is_file() else None


def _write_part(job: Job, row: dict[str, Any], stamp: list[list[Any]] | None) -> None:
    digests = [artifacts.sha256(file) for file in _read_files(job)] if stamp else []
    artifacts.write_json(job.part, {"stamp": stamp, "sha256": digests, "row": row})
