"""Where results lie: runs/<corpus>/<recipe>/{recordings,backbone,latents,classifier/seed=N,report},
shared between recipes.

With split=kfold, what depends on the fold lies in a folder of the fold: backbone/fold=K,
latents/fold=K, classifier/fold=K,seed=N.

A stage stamps its sections of the configuration into the folder it makes. A recipe whose part
equals another recipe's uses that folder instead of making it again. A later stage takes over what
the folders it reads were made with; only a setting that the user typed and that contradicts them is
refused.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from eegdm import artifacts
from eegdm.artifacts import Artifact
from eegdm.config import Config, section
from eegdm.errors import UserError

COMMAND = {
    "recordings": "preprocess",
    "backbone": "pretrain",
    "latents": "cache",
    "classifier": "finetune",
    "report": "report",
}

# What identifies the content of each artefact, beside its inputs. Paths, devices and worker counts
# never do.
_SECTIONS: dict[str, tuple[str, ...]] = {
    "recordings": ("corpus", "signal"),
    "backbone": ("windows", "backbone", "diffusion", "pretrain"),
    "latents": ("windows", "latents"),
    "classifier": ("windows", "latents", "fusion", "finetune"),
    "report": (),
}
_NOT_CONTENT: dict[str, tuple[str, ...]] = {
    "recordings": ("corpus.source", "corpus.table", "signal.mu"),
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
# What a stage takes over from a folder it reads: dotted names or sections.
_ADOPTED: dict[str, tuple[str, ...]] = {
    "recordings": ("corpus", "signal"),
    "backbone": ("backbone", "diffusion", "signal.mu"),
    "latents": ("latents", "windows"),
    "classifier": ("windows", "latents", "fusion", "finetune", "signal.mu"),
}


def content_config(config: Config, kind: str) -> dict[str, Any]:
    """Return the part of the configuration that identifies an artefact of this kind."""
    content = section(config, *_SECTIONS[kind])
    for name in _NOT_CONTENT[kind]:
        group, key = name.split(".")
        content[group].pop(key, None)
    if kind in ("backbone", "latents", "classifier"):
        content["signal"] = {"mu": config.signal.mu}
    if kind in ("backbone", "classifier"):
        content["seed"] = config.run.seed
    if config.run.compat and kind != "recordings":
        content["compat"] = config.run.compat
    return content


def own_folder(config: Config, kind: str) -> Path:
    """Return the folder of this run's artefact."""
    parts = (
        [f"fold={config.windows.fold}"]
        if config.windows.split == "kfold" and kind in ("backbone", "latents", "classifier")
        else []
    )
    parts += [f"seed={config.run.seed}"] if kind == "classifier" else []
    if kind == "report" and config.run.rate != 1.0:
        kind = f"report,rate={config.run.rate:g}"
    return _recipe_folder(config) / kind / ",".join(parts)


def _recipe_folder(config: Config) -> Path:
    return Path(config.run.root) / config.corpus.name / config.recipe


def finished_classifiers(config: Config, recipe: str) -> list[Path]:
    """Return the folders of a recipe's finished classifiers, by fold and seed."""
    found = (
        p.parent
        for p in (_recipe_folder(config).parent / recipe / "classifier").glob(
            f"*/{artifacts.MANIFEST}"
        )
    )
    return sorted(found, key=lambda path: [int(number) for number in numbers(path).values()])


def numbers(classifier: Path) -> dict[str, str]:
    """Return fold and seed that a classifier's folder is named after, as in `fold=1,seed=0`."""
    return dict(part.partition("=")[::2] for part in classifier.name.split(","))  # type: ignore[misc]


def destination(config: Config, kind: str, inputs: dict[str, str]) -> Path:
    """Return where to write: this run's folder, or the finished folder of another recipe that holds
    just what would be made.
    """
    own, wanted = own_folder(config, kind), content_config(config, kind)
    if (own / artifacts.PLAN).exists():
        artifacts.refuse_mismatch(
            own,
            artifacts.read_json(own / artifacts.PLAN),
            {"kind": kind, "config": wanted, "inputs": inputs},
        )
        return own
    if kind in ("classifier", "report"):
        return own
    for other in _siblings(config, kind):
        plan = artifacts.read_json(other / artifacts.PLAN)
        if not artifacts.differences(plan["config"], wanted) and plan["inputs"] == inputs:
            return other
    return own


def _siblings(config: Config, kind: str) -> list[Path]:
    """Finished folders of this kind that other recipes made, of the same corpus and root."""
    own = own_folder(config, kind)
    below = own.relative_to(_recipe_folder(config)).as_posix()
    found = _recipe_folder(config).parent.glob(f"*/{below}/{artifacts.MANIFEST}")
    return sorted(p.parent for p in found if p.parent != own)


def upstream(config: Config, kind: str, inputs: dict[str, str] | None = None) -> Artifact:
    """Open the artefact that this run reads and take over what it was made with.

    Args:
        config: changed in place: sections that describe the artefact become those of its manifest.
        kind: "recordings", "backbone" or "latents".
        inputs: fingerprints that the artefact must have been made from.

    Raises:
        UserError: not there, unfinished, made from other inputs, or made with something other than
            the user typed.
    """
    artifact = artifacts.open_artifact(_find(config, kind, inputs), kind)
    if kind == "latents" and artifact.config.get("compat") != config.run.compat:
        raise UserError(
            f"{artifact.path}: was made with compat={artifact.config.get('compat') or 'null'}, this"
            f" run wants {config.run.compat or 'null'}; run `eegdm cache` with it in another root="
        )
    for name, value in (inputs or {}).items():
        if name in artifact.inputs and artifact.inputs[name] != value:
            raise UserError(
                f"{artifact.path}: was made from another {name} folder; run `eegdm {COMMAND[kind]}`"
                f" again in another root=, or point {kind}= to a matching folder"
            )
    adopt(config, artifact)
    return artifact


def _find(config: Config, kind: str, inputs: dict[str, str] | None) -> Path:
    override = getattr(config.run, kind, None)
    if override:
        return Path(override)
    own = own_folder(config, kind)
    if artifacts.is_finished(own):
        return own
    wanted = content_config(config, kind)
    candidates = []
    for other in _siblings(config, kind):
        plan = artifacts.read_json(other / artifacts.PLAN)
        if inputs and any(plan["inputs"].get(k) not in (None, v) for k, v in inputs.items()):
            continue
        if not artifacts.differences(_seedless(plan["config"]), _seedless(wanted)):
            return other
        if kind == "recordings" and not _conflicts(config, plan["config"]):
            candidates.append(other)
    if len(candidates) == 1:
        return candidates[0]
    hint = f"; or point {kind}= to one of {', '.join(map(str, candidates))}" if candidates else ""
    began = "is unfinished" if (own / artifacts.PLAN).exists() else "is not there"
    raise UserError(
        f"{own}: {began}; run `eegdm {COMMAND[kind]} corpus={config.corpus.name}"
        f" recipe={config.recipe}` first{hint}"
    )


def _seedless(content: dict[str, Any]) -> dict[str, Any]:
    """A classifier of any seed may use a backbone of any seed."""
    return {name: value for name, value in content.items() if name != "seed"}


def _conflicts(config: Config, made_with: dict[str, Any]) -> list[str]:
    """Settings that the user typed and that contradict a folder, as `name=typed (folder:
    value)`.
    """
    conflicts = []
    for name in dict.fromkeys(config.explicit):
        group, _, key = name.partition(".")
        found = made_with.get(group)
        if isinstance(found, dict) and key in found:
            typed = getattr(getattr(config, group), key, None)
            if typed != found[key]:
                conflicts.append(f"{name}={found[key]!r}, not {typed!r}")
    return conflicts


def adopt(config: Config, artifact: Artifact) -> None:
    """Take over the settings that an artefact was made with, in place; refuse what the user typed
    differently.
    """
    conflicts = [
        c for c in _conflicts(config, artifact.config) if c.startswith(_ADOPTED[artifact.kind])
    ]
    if conflicts:
        raise UserError(
            f"{artifact.path} was made with {'; '.join(conflicts)}. Leave that out, or run "
            f"`eegdm {COMMAND[artifact.kind]}` with it in another root= or recipe="
        )
    for name in _ADOPTED[artifact.kind]:
        group, _, key = name.partition(".")
        made_with = artifact.config.get(group, {})
        _update(
            getattr(config, group),
            {key: made_with[key]} if key and key in made_with else made_with if not key else {},
        )


def _update(target: Any, values: dict[str, Any]) -> None:
    known = {f.name for f in fields(target)}
    for key, value in values.items():
        if key in known:
            current = getattr(target, key)
            _update(current, value) if is_dataclass(current) else setattr(target, key, value)
