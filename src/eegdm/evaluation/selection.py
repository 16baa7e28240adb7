"""Which finished classifiers belong together: those of one plan, which differ in seed and fold
alone.

A mean over classifiers that were made with different settings, splits or data is the mean of
nothing. Classifiers are therefore grouped by the plan in their folders, not by where they lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from eegdm import artifacts
from eegdm.artifacts import Artifact
from eegdm.config import Config
from eegdm.errors import UserError
from eegdm.layout import (
    MODEL_UNITS,
    READERS_LABELS,
    command,
    finished_classifiers,
    finished_folders,
)
from eegdm.models.locate import find_model
from eegdm.opening import typed_conflicts

_COMPARED_SETTINGS = (
    *READERS_LABELS,
    *MODEL_UNITS,
    "windows",
    "latents",
    "fusion",
    "finetune",
)
OWN_OF_ITS_FOLD = "pretrained for its fold"


@dataclass(frozen=True)
class Finished:
    """A finished classifier, and the plan that it was made by.

    Attributes:
        name: fold and seed, as `fold 1, seed 0`, or what its path is called.
        fingerprint: of its folder, or of the file.
        config: of its plan; empty for a published file or a downloaded model.
        inputs: kind of folder -> fingerprint, as in its plan.
        backbone: the folder of the backbone whose tokens it reads, where that was found.
        finished_at: when its manifest was written, seconds.
    """

    name: str
    path: Path
    fingerprint: str
    config: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    backbone: Artifact | None = None
    finished_at: float = 0.0

    @property
    def seed(self) -> int | None:
        """Seed of its training, None where no plan says it."""
        return self.config.get("seed")

    @property
    def fold(self) -> int | None:
        """The fold that it is tested on, None without folds."""
        windows = self.config.get("windows", {})
        return windows.get("fold") if windows.get("split") == "kfold" else None


class LeftOut(NamedTuple):
    """A finished classifier that a report is not about."""

    name: str
    fingerprint: str
    reason: str


class Selection(NamedTuple):
    """The classifiers of one plan, by fold and seed, and those that were left out."""

    runs: list[Finished]
    left_out: list[LeftOut]


def read_classifier(path: Path, backbones: Mapping[str, Artifact], name: str = "") -> Finished:
    """Read what identifies a classifier: the plan of its folder, or the bytes of its file."""
    if not artifacts.is_finished(path):
        files = find_model(path)
        weights = files if isinstance(files, Path) else files.weights
        return Finished(name or path.name, path, artifacts.sha256(weights))
    made = artifacts.read_manifest(path, "classifier")
    run = Finished(
        name,
        path,
        made.fingerprint,
        made.config,
        made.inputs,
        backbones.get(made.inputs.get("backbone", "")),
        (path / artifacts.MANIFEST).stat().st_mtime,
    )
    numbered = [f"fold {run.fold}"] if run.fold is not None else []
    numbered += [f"seed {run.seed}"] if run.seed is not None else []
    return run if name else replace(run, name=", ".join(numbered) or path.name)


def backbones_near(config: Config, paths: Sequence[Path] = ()) -> dict[str, Artifact]:
    """Find backbone folders by fingerprint: the one typed, and those below each root.

    Args:
        paths: classifiers below other roots, whose backbones lie there.
    """
    typed = [Path(config.run.backbone)] if config.run.backbone else []
    roots = dict.fromkeys([Path(config.run.root), *(p.parents[3] for p in paths if _placed(p))])
    folders = [p for p in typed if artifacts.is_finished(p)]
    folders += [p for root in roots for p in finished_folders(root, "backbone")]
    manifests = [artifacts.read_manifest(p) for p in folders]
    return {made.fingerprint: made for made in reversed(manifests) if made.kind == "backbone"}


def _placed(path: Path) -> bool:
    return path.parent.name == "classifier" and len(path.parents) > 3


def select(config: Config) -> Selection:
    """Choose the classifiers that a report is about.

    These are the ones that agree with all that was typed; where they are of several plans, the
    plan with the most classifiers, and of equals the one that was finished last.

    Raises:
        UserError: none is finished, none agrees with what was typed, or classifiers that were
            named by ``run.classifiers`` are of different plans.
    """
    if config.run.classifiers:
        return _named(config)
    finished = _finished(config, config.recipe)
    place = Path(config.run.root) / config.corpus.name / config.recipe / "classifier"
    if not finished:
        raise UserError(
            f"{place}: holds no finished classifier; run `{command(config, 'classifier')}` first"
        )
    conflicts = {run.path: _conflicts(config, run) for run in finished}
    asked = [run for run in finished if not conflicts[run.path]]
    if not asked:
        made = "; ".join(f"{run.name} was made with {conflicts[run.path]}" for run in finished[:3])
        raise UserError(
            f"{place}: no finished classifier is as typed ({made}). Leave that out, or run"
            " `eegdm finetune` with it"
        )
    chosen = max(_groups(asked), key=_rank)
    return Selection(chosen, _left_out(finished, chosen, conflicts))


def select_beside(config: Config, recipe: str, runs: Sequence[Finished]) -> list[Finished]:
    """Choose the classifiers of another recipe to show beside these: of one plan, of their folds,
    divided and cut like them if there are any such.

    Raises:
        UserError: the recipe has no finished classifier of these folds.
    """
    finished = _finished(config, recipe)
    folds = {run.fold for run in runs}
    same = [run for run in finished if run.fold in folds]
    if not same:
        words = f"corpus={config.corpus.name} recipe={recipe}"
        what = (
            "its finished classifiers are of other folds"
            if finished
            else "no classifier is finished"
        )
        raise UserError(f"{what}; run `eegdm finetune {words}` first")
    wanted = _windows(runs[0])
    return max(_groups(same), key=lambda group: (_windows(group[0]) == wanted, *_rank(group)))


def finished_recipes(config: Config) -> list[str]:
    """Names of the recipes of this corpus and root that have a finished classifier."""
    place = Path(config.run.root) / config.corpus.name
    return sorted(p.parent.name for p in place.glob("*/classifier") if finished_folders_in(p))


def finished_folders_in(place: Path) -> list[Path]:
    """Finished folders right below a folder."""
    return [p.parent for p in place.glob(f"*/{artifacts.MANIFEST}")]


def _finished(config: Config, recipe: str) -> list[Finished]:
    paths = finished_classifiers(config, recipe)
    backbones = backbones_near(config, paths)
    runs = [read_classifier(path, backbones) for path in paths]
    return sorted(runs, key=_order)


def _order(run: Finished) -> tuple[int, int, str]:
    return (-1 if run.fold is None else run.fold, run.seed or 0, run.path.name)


def _named(config: Config) -> Selection:
    """The classifiers that ``run.classifiers`` names, in its order."""
    paths = [Path(p) for p in config.run.classifiers]
    names = [p.name if p.suffix else f"{p.parent.name}/{p.name}" for p in paths]
    backbones = backbones_near(config, paths)
    runs = [
        read_classifier(p, backbones, n if names.count(n) == 1 else p.as_posix())
        for n, p in zip(names, paths, strict=True)
    ]
    plans = _plans(runs)
    for run, plan in zip(runs, plans, strict=True):
        if differing := _differences(plan, plans[0]):
            raise UserError(
                f"run.classifiers: {run.name} differs from {runs[0].name} in more than seed and"
                f" fold ({differing}); report each of them by itself"
            )
    return Selection(runs, [])


def _conflicts(config: Config, run: Finished) -> str:
    """How a classifier differs from what the user typed; nothing if it does not."""
    conflicts = [c for c in typed_conflicts(config, run.config) if c.startswith(_COMPARED_SETTINGS)]
    if "run.seed" in config.explicit and run.seed not in (None, config.run.seed):
        conflicts.append(f"seed={run.seed}, not {config.run.seed}")
    return "; ".join(conflicts)


# ------------------------------------------------------------------------------------------ groups


def _groups(runs: Sequence[Finished]) -> list[list[Finished]]:
    """The runs of each plan, each fold and seed once."""
    groups: dict[str, list[Finished]] = {}
    for run, plan in zip(runs, _plans(runs), strict=True):
        group = groups.setdefault(artifacts.fingerprint(plan), [])
        if (run.fold, run.seed) not in [(other.fold, other.seed) for other in group]:
            group.append(run)
    return list(groups.values())


def _rank(group: Sequence[Finished]) -> tuple[int, float]:
    return len(group), max(run.finished_at for run in group)


def _plans(runs: Sequence[Finished]) -> list[dict[str, Any]]:
    """What each run was made by and from, without its seed, its fold and what follows from them."""
    return [_plan(run, _is_own_of_its_fold(run, runs)) for run in runs]


def _is_own_of_its_fold(run: Finished, runs: Sequence[Finished]) -> bool:
    """Whether a backbone that was not found is taken for one that was pretrained for its fold: no
    other fold reads it, and its fold reads no other.
    """
    unknown = [other for other in runs if other.backbone is None]
    pairs = {(other.fold, other.inputs.get("backbone")) for other in unknown}
    of_run = (run.fold, run.inputs.get("backbone"))
    alone = [pair for pair in pairs if of_run[0] == pair[0] or of_run[1] == pair[1]] == [of_run]
    return run.backbone is None and run.fold is not None and alone


def _plan(run: Finished, own_of_its_fold: bool) -> dict[str, Any]:
    """Latents are left out: they follow from recordings, backbone and settings."""
    plan = _without_fold(run.config)
    if run.backbone is not None:
        plan["backbone"] = {**_without_fold(run.backbone.config), "inputs": run.backbone.inputs}
    else:
        plan["backbone"] = OWN_OF_ITS_FOLD if own_of_its_fold else run.inputs.get("backbone")
    plan["recordings"] = run.inputs.get("recordings")
    return plan


def _without_fold(config: Mapping[str, Any]) -> dict[str, Any]:
    plan = deepcopy(dict(config))
    plan.pop("seed", None)
    plan.get("windows", {}).pop("fold", None)
    return plan


def _windows(run: Finished) -> dict[str, Any]:
    return {k: v for k, v in run.config.get("windows", {}).items() if k != "fold"}


def _left_out(
    finished: Sequence[Finished], chosen: Sequence[Finished], conflicts: Mapping[Path, str]
) -> list[LeftOut]:
    plans = dict(zip([run.path for run in finished], _plans(finished), strict=True))
    reported, left_out = plans[chosen[0].path], []
    for run in finished:
        if run not in chosen:
            differing = _differences(plans[run.path], reported)
            reason = conflicts[run.path] or differing or f"same fold and seed as {run.name}"
            left_out.append(LeftOut(run.path.name, run.fingerprint, reason))
    return left_out


def _differences(plan: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The first differences of two plans, as `finetune.max_lr=0.01, not 0.001`."""
    values, wanted_values = dict(_leaves(plan)), dict(_leaves(wanted))
    names = [n for n in {**values, **wanted_values} if values.get(n) != wanted_values.get(n)]
    shown = [f"{name}={values.get(name)}, not {wanted_values.get(name)}" for name in names[:3]]
    return "; ".join(shown) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")


def _leaves(plan: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plan.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
