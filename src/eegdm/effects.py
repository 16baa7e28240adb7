"""Which typed settings a stage uses: one that is typed without effect is reported, never ignored.

Settings that contradict the stage's inputs are refused where the inputs are opened
(:mod:`eegdm.opening`); here it is about those that nothing would read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from eegdm.config import Config

_READERS = ("pretrain", "distill", "cache", "finetune", "report")
_TRAININGS = ("pretrain", "distill", "finetune")
ALL = ("preprocess", *_READERS)

# The stages that a setting, or all settings of a section, can have an effect on. Settings of an
# earlier stage are in it where a later one compares them with what its inputs were made with.
STAGES_OF: dict[str, tuple[str, ...]] = {
    "recipe": ALL,
    "corpus": ALL,
    "corpus.source": ("preprocess",),
    "corpus.table": ("preprocess",),
    "signal": ALL,
    "signal.mu": _READERS,
    "signal.spread": _READERS,
    "signal.whiten": _READERS,
    "windows": _READERS,
    "backbone": _READERS[:4],
    "diffusion": _READERS[:4],
    "pretrain": _READERS[:4],
    "pretrain.samples": ("pretrain", "cache", "finetune"),
    "pretrain.samples_every": ("pretrain", "cache", "finetune"),
    "latents": _READERS[1:],
    "latents.batch_size": ("cache",),
    "latents.cached": _READERS[2:],
    "latents.dtype": _READERS[2:],
    "latents.shard_windows": _READERS[2:],
    "fusion": ("finetune", "report"),
    "finetune": ("finetune", "report"),
    "run.root": ALL,
    "run.recordings": _READERS,
    "run.backbone": ("cache", "finetune", "report"),
    "run.model": ("distill",),
    "run.latents": ("finetune", "report"),
    "run.classifiers": ("report",),
    "run.rate": ("report",),
    "run.compare": ("report",),
    "run.seed": (*_TRAININGS, "report"),
    "run.compat": ALL,
    "run.device": _READERS,
    "run.devices": _READERS,
    "run.nodes": _TRAININGS,
    "run.precision": _TRAININGS,
    "run.workers": ("preprocess", *_TRAININGS, "report"),
    "run.cluster": ("preprocess", "cache"),
    "run.loggers": _TRAININGS,
    "run.strict": ("preprocess",),
}


class _Condition(NamedTuple):
    """Settings that have an effect only where another one has some value."""

    names: tuple[str, ...]
    holds: Callable[[Config], bool]
    needs: str


def _windows_follow_events(config: Config) -> bool:
    return config.windows.policy == "event"


def _is_all_published(config: Config) -> bool:
    """Whether the split is one whose validation people are published too."""
    return config.windows.split == "published" and config.corpus.name in ("tusz", "chbmit")


_CONDITIONS = (
    _Condition(
        ("corpus.n_train", "corpus.n_eval", "corpus.minutes", "corpus.seed"),
        lambda c: c.corpus.name == "synthetic" and "corpus.source" not in c.explicit,
        "corpus=synthetic without source=",
    ),
    _Condition(("corpus.pattern",), lambda c: c.corpus.name == "folder", "corpus=folder"),
    _Condition(("corpus.table",), lambda c: c.corpus.events == "table", "events=table"),
    _Condition(
        ("signal.n_referential",),
        lambda c: c.signal.montage == "referential",
        "signal.montage=referential",
    ),
    _Condition(("windows.edge",), _windows_follow_events, "windows.policy=event"),
    _Condition(
        ("windows.step_s", "windows.labels", "windows.background"),
        lambda c: not _windows_follow_events(c),
        "windows.policy=grid",
    ),
    _Condition(
        ("windows.min_overlap_s",),
        lambda c: not _windows_follow_events(c) and c.windows.labels == "overlap",
        "windows.policy=grid and labels=overlap",
    ),
    _Condition(
        ("windows.fold", "windows.n_folds", "windows.kfold_unit"),
        lambda c: c.windows.split == "kfold",
        "split=kfold",
    ),
    _Condition(
        ("windows.test_fraction",),
        lambda c: c.windows.split in ("subject", "session", "run", "recording"),
        "a split by subject, session, run or recording",
    ),
    _Condition(
        ("windows.val_fraction",),
        lambda c: c.windows.split not in ("column", "kfold", "none") and not _is_all_published(c),
        "a split by subject, session, run or recording, or a published one without validation",
    ),
    _Condition(
        ("windows.split_seed",),
        lambda c: c.windows.split not in ("column", "none") and not _is_all_published(c),
        "a split that chooses at random",
    ),
    _Condition(
        ("diffusion.beta_start", "diffusion.beta_end"),
        lambda c: c.diffusion.schedule == "linear",
        "diffusion.schedule=linear",
    ),
    _Condition(
        ("pretrain.samples_every",), lambda c: c.pretrain.samples > 0, "pretrain.samples above 0"
    ),
    _Condition(
        ("latents.dtype", "latents.shard_windows"), lambda c: c.latents.cached, "stored tokens"
    ),
    _Condition(("fusion.n_tokens",), lambda c: c.fusion.kind == "lft", "fusion.kind=lft"),
)


def without_effect(config: Config, stage: str) -> Iterator[tuple[str, str]]:
    """Yield each typed setting that this stage would not use, and where it has an effect.

    Args:
        config: as the stage will use it.
        stage: its name.
    """
    # A word may have been typed twice; one line about it is enough
    for name in dict.fromkeys(config.explicit):
        stages = stages_of(name)
        if stage not in stages:
            yield name, f"it belongs to {', '.join(stages)}"
            continue
        for condition in _CONDITIONS:
            if name in condition.names and not condition.holds(config):
                yield name, f"it needs {condition.needs}"


_WHICH_FOLDER = tuple(
    f"run.{name}" for name in ("root", "recordings", "backbone", "latents", "seed", "compat")
)
"""Settings of a run that tell which folder it is about."""


def stages_of(name: str) -> tuple[str, ...]:
    """Return the stages that a setting can have an effect on."""
    # From the setting up to its section: the nearest entry holds
    while name not in STAGES_OF:
        name = name.rpartition(".")[0]
    return STAGES_OF[name]


def lines_without_effect(config: Config, stage: str) -> Iterator[str]:
    """Yield a line for each typed setting without effect on this stage."""
    for name, why in without_effect(config, stage):
        yield f"{stage}: {name} has no effect here ({why})"


def finished_line(config: Config, stage: str, folder: Path) -> str:
    """Return the line of a stage that finds its work done, with what was typed in vain."""
    idle = [
        name
        for name in dict.fromkeys(config.explicit)
        if name.startswith("run.") and name not in _WHICH_FOLDER and stage in stages_of(name)
    ]
    vain = f"; {', '.join(idle)} changes nothing in it" if idle else ""
    return f"{stage}: {folder} is finished{vain}"
