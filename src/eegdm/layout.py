"""Where results lie: runs/<corpus>/<recipe>/{recordings,backbone,latents,classifier/seed=N,report},
shared between recipes.

With split=kfold, what depends on the fold lies in a folder of the fold: backbone/fold=K,
latents/fold=K where each fold trained a backbone, classifier/fold=K,seed=N.

A stage stamps its sections of the configuration into the folder it makes. A recipe whose part
equals another recipe's uses that folder instead of making it again. A later stage takes over what
the folders it reads were made with; only a setting that the user typed and that contradicts them is
refused.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from eegdm import artifacts
from eegdm.config import Config, section

COMMAND = {
    "recordings": "preprocess",
    "backbone": "pretrain",
    "latents": "cache",
    "classifier": "finetune",
    "report": "report",
}

READERS_LABELS = ("corpus.label_map", "corpus.classes", "corpus.event_classes")
"""How events become classes: settings of whoever reads recordings, never of the recordings."""

MODEL_UNITS = ("signal.mu", "signal.spread", "signal.whiten")
"""What a model is shown of recordings: settings of whoever reads them, and part of the model."""

TOKENS = ("query", "pool", "step", "forward", "window", "stride")
"""Settings of the section `latents` that say what tokens are; the others, how they are stored."""

# What identifies the content of each artefact, beside its inputs. Paths, devices and worker counts
# never do.
_IDENTIFYING_SECTIONS: dict[str, tuple[str, ...]] = {
    "recordings": ("corpus", "signal"),
    "backbone": ("windows", "backbone", "diffusion", "pretrain"),
    "latents": ("windows", "latents"),
    "classifier": ("windows", "latents", "fusion", "finetune"),
    "report": (),
}
_NOT_CONTENT: dict[str, tuple[str, ...]] = {
    "recordings": ("corpus.source", "corpus.table", *READERS_LABELS, *MODEL_UNITS),
    "backbone": (),
    "latents": (
        "windows.labels",
        "windows.background",
        "windows.min_overlap_s",
        "windows.split",
        "windows.kfold_unit",
        "windows.n_folds",
        "windows.fold",
        "windows.val_fraction",
        "windows.test_fraction",
        "windows.split_seed",
        "windows.leave_out",
        "latents.cached",
        "latents.batch_size",
    ),
    "classifier": ("latents.shard_windows", "latents.batch_size"),
    "report": (),
}


_WHERE = {
    "run.root": "root",
    "windows.split": "split",
    "windows.n_folds": "windows.n_folds",
    "windows.fold": "fold",
}
"""Typed settings that decide where a folder lies, as they are typed."""


def command(config: Config, kind: str) -> str:
    """Return the command that makes this run's folder of a kind, with what was typed of its
    place.
    """
    typed = {
        name: getattr(getattr(config, name.split(".")[0]), name.split(".")[1])
        for name in _WHERE
        if name in config.explicit
    }
    words = [f"corpus={config.corpus.name}", f"recipe={config.recipe}"]
    words += [f"{_WHERE[name]}={value}" for name, value in typed.items()]
    return f"eegdm {COMMAND[kind]} {shlex.join(words)}"


def content_config(config: Config, kind: str) -> dict[str, Any]:
    """Return the part of the configuration that identifies an artefact of this kind."""
    content = section(config, *_IDENTIFYING_SECTIONS[kind])
    not_content = set(_NOT_CONTENT[kind])
    if config.windows.background is None:  # then labels decide which windows there are
        not_content -= {"windows.background", "windows.labels", "windows.min_overlap_s"}
    for name in not_content:
        group, key = name.split(".")
        content[group].pop(key, None)
    # Companding belongs to readers: recordings of any mu are the same, what learned from them not
    if kind in ("backbone", "latents", "classifier"):
        content["signal"] = model_units(config)
    if kind in ("backbone", "classifier"):
        content["seed"] = config.run.seed
    if kind == "backbone" and config.run.model is not None:
        # It learns tokens, and generates nothing
        content["latents"] = {name: getattr(config.latents, name) for name in TOKENS}
        for name in ("samples", "samples_every"):
            del content["pretrain"][name]
    if kind == "classifier":
        content["corpus"] = {name.split(".")[1]: value for name, value in labels_of(config).items()}
    elif kind in ("backbone", "latents") and _follows_events(config):
        # Windows lie around these events; into which classes they are grouped does not matter.
        content["corpus"] = {"labels": sorted(config.corpus.label_map)}
    # Only where it is set, as version 0.1.0 wrote it; recordings have signal.per_window instead
    if config.run.compat and kind != "recordings":
        content["compat"] = config.run.compat
    return content


def model_units(config: Config) -> dict[str, Any]:
    """Return the settings of what a model is shown, as they stand in the section `signal`."""
    return {name.split(".")[1]: getattr(config.signal, name.split(".")[1]) for name in MODEL_UNITS}


def labels_of(config: Config) -> dict[str, Any]:
    """Return the settings by which a reader turns events into classes, by dotted name."""
    return {name: getattr(config.corpus, name.split(".")[1]) for name in READERS_LABELS}


def _follows_events(config: Config) -> bool:
    """Whether which labels count decides on windows, or on who is divided into parts."""
    return config.windows.policy != "grid" or config.windows.background is None


def own_folder(config: Config, kind: str) -> Path:
    """Return the folder of this run's artefact."""
    parts = [f"fold={config.windows.fold}"] if _depends_on_fold(config, kind) else []
    parts += [f"seed={config.run.seed}"] if kind == "classifier" else []
    if kind == "report" and config.run.rate != 1.0:
        kind = f"report,rate={config.run.rate:g}"
    return _recipe_folder(config) / kind / ",".join(parts)


def _depends_on_fold(config: Config, kind: str) -> bool:
    """Whether each fold has a folder of its own: tokens differ between folds only if each fold
    trained a backbone.
    """
    if config.windows.split != "kfold":
        return False
    if kind == "latents":
        return config.run.backbone is None
    return kind in ("backbone", "classifier")


def _recipe_folder(config: Config) -> Path:
    return Path(config.run.root) / config.corpus.name / config.recipe


def finished_classifiers(config: Config, recipe: str) -> list[Path]:
    """Return the folders of a recipe's finished classifiers; which of them belong together
    their plans say, see :mod:`eegdm.evaluation.selection`.
    """
    place = _recipe_folder(config).parent / recipe / "classifier"
    return sorted(p.parent for p in place.glob(f"*/{artifacts.MANIFEST}"))


def finished_folders(root: Path, kind: str) -> list[Path]:
    """Return all finished folders of a kind below a root: of every corpus, recipe and fold."""
    # Directly below, or one deeper in the folders of folds and seeds
    manifests = [
        *root.glob(f"*/*/{kind}/{artifacts.MANIFEST}"),
        *root.glob(f"*/*/{kind}/*/{artifacts.MANIFEST}"),
    ]
    return sorted(path.parent for path in manifests)


def destination(config: Config, kind: str, inputs: dict[str, str]) -> Path:
    """Return where to write: this run's folder, or the finished folder of another recipe that holds
    just what would be made.
    """
    folder, wanted = own_folder(config, kind), content_config(config, kind)
    # What was begun here is resumed here, even if another recipe has finished the same since
    if (folder / artifacts.PLAN).exists():
        artifacts.refuse_mismatch(
            folder,
            artifacts.read_json(folder / artifacts.PLAN),
            {"kind": kind, "config": wanted, "inputs": inputs},
        )
        return folder
    # These are what recipes are compared by: each has its own, even where two are alike
    if kind in ("classifier", "report"):
        return folder
    for other in siblings(config, kind):
        plan = artifacts.read_json(other / artifacts.PLAN)
        changes = artifacts.plan_differences(plan, {"config": wanted, "inputs": inputs})
        if not changes and plan["inputs"].keys() == inputs.keys():
            return other
    return folder


def siblings(config: Config, kind: str) -> list[Path]:
    """Finished folders of this kind that other recipes made, of the same corpus and root."""
    folder = own_folder(config, kind)
    below = folder.relative_to(_recipe_folder(config)).as_posix()
    manifests = _recipe_folder(config).parent.glob(f"*/{below}/{artifacts.MANIFEST}")
    return sorted(path.parent for path in manifests if path.parent != folder)
