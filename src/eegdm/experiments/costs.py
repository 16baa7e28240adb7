"""What a plan will take before it is run: disk from the sizes of arrays, time from a few steps that
are timed on this machine.

Times are rough: they scale a step of few windows to all of them, take every epoch that may be run,
and leave disks and reports out. They are estimated here because no library knows these stages, and
whoever starts a plan must know whether it takes hours or weeks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eegdm import artifacts
from eegdm.config import Config
from eegdm.console import file_size
from eegdm.experiments.plans import Step
from eegdm.processes import available_cores

TOKEN_BYTES = {"float16": 2, "float32": 4, "int8": 1}
_TIMED_ROWS = 2  # single-channel windows, or windows of tokens, in a step that is timed on a CPU
_TIMED_SFREQ = 256  # of the minute of noise that is filtered
_TRAINED_SHARE = {
    "tuev": 0.8,
    "chbmit": 20 / 24,
}  # of the corpus's training part (TUEV), of its patients (CHB-MIT)


class CorpusSize(NamedTuple):
    """How much a corpus holds, as a recipe cuts it."""

    seconds: float
    channels: int
    windows: float  # distinct ones
    train_windows: float
    train_samples: float


class Cost(NamedTuple):
    """Bytes and seconds of a step; None where the raw recordings must be read first to know."""

    disk: float | None
    seconds: float | None


class Pace(NamedTuple):
    """Seconds that this machine takes."""

    filter: float  # a second of a recording, in one process
    learn: float  # a single-channel window, forward and backward
    read: float  # a single-channel window, forward
    fuse: float  # a window of tokens through the fusion transformer, forward and backward


_paces: dict[str, Pace] = {}


def costs(steps: list[Step]) -> list[Cost]:
    """Estimate each step; one that is finished costs nothing."""
    sizes = {
        step.config.corpus.name: corpus_size(step) for step in steps if step.kind == "recordings"
    }
    return [
        Cost(0, 0) if step.finished else cost(step, sizes.get(step.config.corpus.name))
        for step in steps
    ]


def corpus_size(step: Step) -> CorpusSize | None:
    """Count what a finished recordings folder holds, or what can be told of the raw files without
    reading their signals.
    """
    if artifacts.is_finished(step.folder):
        return _of_recordings(step.folder, step.config)
    from eegdm.compose import compose

    config = compose(step.words)
    return (
        _of_files(config)
        if config.corpus.source is not None and Path(config.corpus.source).is_dir()
        else None
    )


def _of_recordings(folder: Path, config: Config) -> CorpusSize:
    from eegdm.data.recordings import Recordings
    from eegdm.data.windows import assign_splits, distinct, make_samples

    recordings = Recordings(folder, label_map=config.corpus.label_map)
    table = recordings.table
    samples = make_samples(table, recordings.events, config.windows, config.corpus.classes)
    split = dict(
        zip(
            table.recording,
            assign_splits(table, config.corpus.name, config.windows, recordings.events),
            strict=True,
        )
    )
    train = samples[samples.recording.map(split) == "train"]
    seconds = float((table.n_times / table.sfreq).sum())
    return CorpusSize(
        seconds, len(recordings.ch_names), len(distinct(samples)), len(distinct(train)), len(train)
    )


def _of_files(config: Config) -> CorpusSize | None:
    """From headers and, for TUEV, the lines of its .rec files; other corpora would have to be
    opened.
    """
    from eegdm.data.corpora import find_sources
    from eegdm.data.montage import CHBMIT, TCP
    from eegdm.data.reading import read_edf_header

    name = config.corpus.name
    if name not in _TRAINED_SHARE:
        return None
    sources = find_sources(config.corpus)
    seconds = sum(
        header.n_records * header.record_s for header in (read_edf_header(s.file) for s in sources)
    )
    if name == "chbmit":
        windows = seconds / config.windows.duration_s
        return CorpusSize(
            seconds,
            len(CHBMIT),
            windows,
            windows * _TRAINED_SHARE[name],
            windows * _TRAINED_SHARE[name],
        )
    counts = {s.recording: _rec_lines(s.annotation) for s in sources if s.annotation is not None}
    train = [counts[s.recording] for s in sources if s.split == "train" and s.recording in counts]
    train_windows, train_samples = (
        _TRAINED_SHARE[name] * sum(column) for column in zip(*train, strict=True)
    )
    return CorpusSize(
        seconds,
        len(TCP),
        sum(windows for windows, _ in counts.values()),
        train_windows,
        train_samples,
    )


def _rec_lines(path: Path) -> tuple[int, int]:
    """Distinct windows and samples that a .rec file names."""
    rows = [
        line.split(",")[1:3]
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    return len({tuple(row) for row in rows}), len(rows)


# --------------------------------------------------------------------------------------- one step


def cost(step: Step, size: CorpusSize | None) -> Cost:
    """Estimate one step that is yet to be done."""
    if step.kind == "report":
        return Cost(0, 0)
    config = step.config
    if step.kind in ("backbone", "classifier"):
        disk: float | None = 4.0 * sum(
            p.numel() for p in _models(config)[0 if step.kind == "backbone" else 1].parameters()
        )
    else:
        disk = None if size is None else _disk(step.kind, config, size)
    return Cost(disk, None if size is None else _step_seconds(step.kind, config, size))


def _disk(kind: str, config: Config, size: CorpusSize) -> float:
    if kind == "recordings":
        sfreq = 256.0 if config.signal.per_window else config.signal.sfreq
        return 4.0 * size.seconds * sfreq * size.channels
    fusion = _models(config)[1].fusion.config
    per_row = (
        config.backbone.n_blocks * fusion["n_pools"] * fusion["n_queries"] * config.backbone.d_model
    )
    return TOKEN_BYTES[config.latents.dtype] * per_row * size.channels * size.windows


def _step_seconds(kind: str, config: Config, size: CorpusSize) -> float:
    pace = measure(config)
    if kind == "recordings":
        return (
            0.0
            if config.signal.per_window
            else size.seconds * pace.filter / (config.run.workers or available_cores())
        )
    if kind == "backbone":
        windows = min(size.train_windows, config.pretrain.max_windows or size.train_windows)
        return config.pretrain.epochs * windows * size.channels * pace.learn
    if kind == "latents":
        return size.windows * size.channels * pace.read
    read_anew = (
        0.0
        if config.latents.cached
        else size.channels * (pace.learn if config.finetune.train_backbone else pace.read)
    )
    return config.finetune.epochs * size.train_samples * (pace.fuse + read_anew)


def measure(config: Config) -> Pace:
    """Time a few windows on the device that the settings name; once for each size of network."""
    key = artifacts.fingerprint(
        [asdict(part) for part in (config.signal, config.backbone, config.fusion, config.latents)]
        + [config.windows.duration_s, config.run.device]
    )
    if key not in _paces:
        _paces[key] = _measure(config)
    return _paces[key]


def _measure(config: Config) -> Pace:
    import torch

    from eegdm.data.filtering import Filtering, conditioned
    from eegdm.processes import pick_device

    where = pick_device(config.run.device)
    backbone, classifier = (model.to(where) for model in _models(config))
    # A GPU takes as long for a few windows as for a batch.
    rows = _TIMED_ROWS if where.type == "cpu" else config.pretrain.batch_size
    n_times = round(config.windows.duration_s * config.signal.sfreq)
    x = torch.randn(rows, 1, min(n_times, 1000), device=where)
    ids = torch.zeros(rows, dtype=torch.long, device=where)
    share = n_times / x.shape[-1]  # longer windows are read in parts
    f = classifier.fusion.config
    tokens = torch.randn(
        rows,
        f["n_blocks"],
        f["n_pools"],
        f["n_queries"],
        f["n_channels"],
        f["d_model"],
        device=where,
    )

    filtering = Filtering(
        config.signal.sfreq,
        config.signal.highpass,
        config.signal.lowpass,
        tuple(config.signal.notch),
    )
    minute = np.random.default_rng(0).standard_normal((f["n_channels"], 60 * _TIMED_SFREQ))

    def prepare() -> None:
        for _ in conditioned(
            lambda start, stop: minute[:, start:stop],
            minute.shape[1],
            _TIMED_SFREQ,
            filtering,
            minute.shape[1],
        ):
            pass

    def learn() -> None:
        backbone(x, ids, ids).square().mean().backward()

    def read() -> None:
        with torch.inference_mode():
            backbone(x, ids, ids)

    def fuse() -> None:
        classifier.logits_from_tokens(tokens).square().mean().backward()

    learn_s, read_s, fuse_s = (_timed(step, where) / rows for step in (learn, read, fuse))
    return Pace(_timed(prepare, where) / 60, share * learn_s, share * read_s, fuse_s)


def _timed(step: Callable[[], None], where: Any) -> float:
    """Seconds of the second run; the first one sets things up."""
    import torch

    step()
    if where.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if where.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _models(config: Config) -> tuple[Any, Any]:
    from eegdm.data.montage import CHBMIT, TCP
    from eegdm.models.eegdm import EEGDM
    from eegdm.opening import make_backbone, token_spec

    backbone, c = make_backbone(config), config.fusion
    fusion = {
        "n_tokens": c.n_tokens,
        "n_heads": c.n_heads,
        "ff": c.ff,
        "depth": c.depth,
        "kind": c.kind,
        "standardise": c.standardise,
    }
    classes = (
        config.corpus.classes[1:] if config.finetune.loss == "binary" else config.corpus.classes
    )
    channels = CHBMIT if config.signal.montage == "chbmit" else TCP
    n_times = round(config.windows.duration_s * config.signal.sfreq)
    return backbone, EEGDM(
        backbone, fusion, token_spec(config), channels, classes, config.signal.sfreq, n_times
    )


# --------------------------------------------------------------------------------------- in words


def describe_costs(steps: list[Step]) -> Iterator[str]:
    """Yield the lines of `eegdm reproduce TABLE --dry-run`."""
    estimates = costs(steps)
    common = [word for word in steps[0].words if all(word in step.words for step in steps)]
    yield f"each command with {' '.join(common)}"
    for step, (disk, seconds) in zip(steps, estimates, strict=True):
        state = "finished" if step.finished else f"{_disk_text(disk):>9} {_time_text(seconds):>9}"
        shared = f"   shared by {', '.join(step.recipes)}" if len(step.recipes) > 1 else ""
        words = " ".join(word for word in step.words if word not in common)
        yield f"{state:>19}   eegdm {step.stage} {words}{shared}"
    to_do = [cost for step, cost in zip(steps, estimates, strict=True) if not step.finished]
    begun = f"{len(to_do)} of {len(steps)} steps to do"
    if any(None in cost for cost in to_do):
        yield f"{begun}; what they take is known once the recordings are there"
        return
    disk, seconds = (
        sum(cost.disk or 0.0 for cost in to_do),
        sum(cost.seconds or 0.0 for cost in to_do),
    )
    yield (
        f"{begun}: about {_disk_text(disk)} of disk, {_time_text(seconds)} on this machine if every"
        " epoch is run"
    )


def _disk_text(n_bytes: float | None) -> str:
    return "?" if n_bytes is None else file_size(n_bytes)


def _time_text(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
