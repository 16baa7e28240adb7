"""From settings to what a stage reads: recordings, backbone, tokens, labelled samples, classifiers.

:func:`resolve` is the one place that opens the inputs of a stage. It returns a new configuration,
in which the settings that describe an input are those that the input was made with, and checks
what will really be used. A stage that has called it never changes its configuration again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor
from torch.utils.data import Dataset

from eegdm import artifacts
from eegdm.artifacts import Artifact
from eegdm.checkpoints.load import load
from eegdm.config import Config, check_resolved, with_settings
from eegdm.console import say
from eegdm.data.batches import SignalWindows, generator
from eegdm.data.montage import TCP
from eegdm.data.recordings import Recordings
from eegdm.data.signal import ModelUnits
from eegdm.data.tokens import CachedTokens, TokenStore
from eegdm.data.windows import (
    LEFT_OUT,
    PUBLISHED_SPLIT,
    WINDOW_KEY,
    assign_splits,
    distinct,
    make_samples,
)
from eegdm.effects import lines_without_effect
from eegdm.errors import UserError
from eegdm.layout import (
    COMMAND,
    MODEL_UNITS,
    READERS_LABELS,
    TOKENS,
    command,
    content_config,
    model_units,
    own_folder,
    siblings,
)
from eegdm.models.backbone import SSMDP
from eegdm.models.diffusion import NoiseSchedule
from eegdm.models.eegdm import EEGDM, backbone_of
from eegdm.models.latents import TokenSpec
from eegdm.models.pretrained import weights_fingerprint
from eegdm.processes import initial_weights

READS = {
    "preprocess": (),
    "pretrain": ("recordings",),
    "cache": ("recordings", "backbone"),
    "finetune": ("recordings", "backbone", "latents"),
    "report": ("recordings",),
    "distill": ("recordings",),
}
"""The kinds of folders that each stage reads; latents only where tokens are stored."""

# What a stage takes over from a folder it reads: dotted names or sections.
_ADOPTED: dict[str, tuple[str, ...]] = {
    "recordings": ("corpus", "signal"),
    "backbone": ("backbone", "diffusion", *MODEL_UNITS),
    "latents": ("latents", "windows"),
    "classifier": (*READERS_LABELS, "windows", "latents", "fusion", "finetune", *MODEL_UNITS),
}


# What must not be typed otherwise, though no later stage takes it over.
_COMPARED: dict[str, tuple[str, ...]] = {"backbone": ("pretrain",)}


@dataclass(frozen=True)
class Inputs:
    """What a stage reads, open.

    Attributes:
        recordings: the recordings folder.
        backbone: the model that tokens come from; None for stages that need none.
        teacher: the model that distill learns from; None for other stages.
        latents: the folder of stored tokens; None where they are computed on the fly.
        fingerprints: kind of each input -> what identifies it, as the stage's own plan states it.
    """

    recordings: Artifact
    backbone: SSMDP | None
    latents: Artifact | None
    fingerprints: dict[str, str]
    teacher: EEGDM | SSMDP | None = None


def resolve(config: Config, stage: str) -> tuple[Config, Inputs]:
    """Open what a stage reads, and return the configuration that it will really use.

    Args:
        config: as the command line composed it; it stays as it is.
        stage: one of :data:`READS` that reads recordings.

    Returns:
        A new, checked configuration, whose sections that describe an input are those that the input
        was made with; and the open inputs.

    Raises:
        UserError: an input is missing, unfinished, was made from other inputs or with something
            other than the user typed; or settings contradict each other.
    """
    # In the order of the data: each input must have been made from those before it, and what it was
    # made with decides where the next one is looked for
    reads = READS[stage]
    config, recordings = open_input(config, "recordings")
    fingerprints = {"recordings": recordings.fingerprint}
    backbone, latents, teacher = None, None, None
    if "backbone" in reads:
        config, backbone, fingerprints["backbone"] = _open_backbone(config, fingerprints)
    if "latents" in reads and config.latents.cached:
        config, latents = open_input(config, "latents", fingerprints)
        fingerprints["latents"] = latents.fingerprint
    if stage == "distill":
        config, teacher, fingerprints["teacher"] = _open_teacher(config)
    for line in lines_without_effect(config, stage):
        say(line)
    inputs = Inputs(recordings, backbone, latents, fingerprints, teacher)
    return check_resolved(config, stage), inputs


# ----------------------------------------------------------------------------------- input folders


def open_input(
    config: Config, kind: str, made_from: Mapping[str, str] | None = None
) -> tuple[Config, Artifact]:
    """Open the folder that this run reads, and take over what it was made with.

    Args:
        config: of this run; it stays as it is.
        kind: "recordings", "backbone" or "latents".
        made_from: fingerprints of inputs that the folder must have been made from.

    Returns:
        The configuration with what the folder was made with, and the folder.

    Raises:
        UserError: not there, unfinished, made from other inputs, or made with something other than
            the user typed.
    """
    artifact = artifacts.open_artifact(_find(config, kind, made_from), kind)
    # Not taken over: a run without published errors must not begin to have them by what it reads
    compat = artifact.config.get("compat")
    if kind == "latents" and compat != config.run.compat:
        raise UserError(
            f"{artifact.path}: was made with compat={compat or 'null'}, this run wants"
            f" {config.run.compat or 'null'}; run `eegdm cache` with it in another root="
        )
    for name, value in (made_from or {}).items():
        if name in artifact.inputs and artifact.inputs[name] != value:
            raise UserError(
                f"{artifact.path}: was made from another {name} folder; run"
                f" `eegdm {COMMAND[kind]}` again in another root=, or point {kind}= to a matching"
                " folder"
            )
    return adopted(config, artifact), artifact


def _find(config: Config, kind: str, made_from: Mapping[str, str] | None) -> Path:
    override = getattr(config.run, kind, None)
    if override:
        return Path(override)
    folder = own_folder(config, kind)
    for place in _places(config, kind, folder):
        if artifacts.is_finished(place) and (kind != "latents" or _is_made_from(place, made_from)):
            return place
    if artifacts.is_finished(folder):
        return folder  # made from something else, which is refused where it is opened
    wanted = content_config(config, kind)
    equal, candidates = [], []
    for other in siblings(config, kind):
        plan = artifacts.read_json(other / artifacts.PLAN)
        if not _is_made_from(other, made_from):
            continue
        # Inputs are compared by fingerprint above, of those kinds that this run has opened
        content = {**plan, "config": _seedless(plan["config"]), "inputs": {}}
        if not artifacts.plan_differences(content, {"config": _seedless(wanted), "inputs": {}}):
            equal.append(other)
            continue
        # Made with other settings, but none that was typed: it brings its own
        if kind == "recordings" and not typed_conflicts(config, plan["config"]):
            candidates.append(other)
    if kind == "recordings" and len({_files_of(path) for path in equal}) > 1:
        equal, candidates = [], equal  # made of different files: the user says which
    if equal:
        return equal[0]
    if len(candidates) == 1:
        return candidates[0]
    hint = f"; or point {kind}= to one of {', '.join(map(str, candidates))}" if candidates else ""
    began = "is unfinished" if (folder / artifacts.PLAN).exists() else "does not exist"
    raise UserError(f"{folder}: {began}; run `{command(config, kind)}` first{hint}")


def _places(config: Config, kind: str, folder: Path) -> list[Path]:
    """Where this run's own folder may lie: the tokens of a backbone that no fold trained are
    stored once for all folds, which version 0.1.0 did once per fold.
    """
    if kind != "latents" or config.windows.split != "kfold":
        return [folder]
    shared = folder.parent if folder.name.startswith("fold=") else folder
    return [folder, shared, shared / f"fold={config.windows.fold}"]


def _is_made_from(folder: Path, made_from: Mapping[str, str] | None) -> bool:
    inputs = artifacts.read_json(folder / artifacts.PLAN)["inputs"]
    return all(inputs.get(name) in (None, value) for name, value in (made_from or {}).items())


def _files_of(folder: Path) -> str:
    """What identifies the files that a recordings folder was made of."""
    return str(artifacts.read_json(folder / artifacts.PLAN)["inputs"])


def _seedless(content: dict[str, Any]) -> dict[str, Any]:
    """A classifier of any seed may use a backbone of any seed."""
    return {name: value for name, value in content.items() if name != "seed"}


def adopted(config: Config, artifact: Artifact) -> Config:
    """Return the configuration with the settings that an artefact was made with, and with the
    labels that it recommends to its readers, unless the user typed others.

    Raises:
        UserError: the user typed something else.
    """
    compared = (*_ADOPTED[artifact.kind], *_COMPARED.get(artifact.kind, ()))
    conflicts = [c for c in typed_conflicts(config, artifact.config) if c.startswith(compared)]
    if conflicts:
        raise UserError(
            f"{artifact.path} was made with {'; '.join(conflicts)}. Leave that out, or run"
            f" `eegdm {COMMAND[artifact.kind]}` with it in another root= or recipe="
        )
    values: dict[str, Any] = {}
    for name in _ADOPTED[artifact.kind]:
        section, _, key = name.partition(".")
        made_with = artifact.config.get(section, {})
        if key:
            made_with = {key: made_with[key]} if key in made_with else {}
        values |= dict(_known_settings(getattr(config, section), made_with, f"{section}."))
    recommended = artifact.summary.get("labels", {})
    values |= {name: recommended[name] for name in recommended if name not in config.explicit}
    return with_settings(config, values)


def _known_settings(section: Any, values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    """The dotted names and values of settings that this version has, of nested sections too."""
    known = []
    for f in fields(section):
        if f.name in values:
            nested = getattr(section, f.name)
            if is_dataclass(nested):
                known += _known_settings(nested, values[f.name], f"{prefix}{f.name}.")
            else:
                known.append((f"{prefix}{f.name}", values[f.name]))
    return known


def typed_conflicts(config: Config, made_with: Mapping[str, Any]) -> list[str]:
    """Settings that the user typed and that contradict a folder, as `name=value in the folder,
    not value typed`.
    """
    conflicts = []
    for name in dict.fromkeys(config.explicit):
        typed: Any = config
        made: Any = made_with
        for key in name.split("."):
            typed = getattr(typed, key, None)
            made = made.get(key, _ABSENT) if isinstance(made, Mapping) else _ABSENT
        if made is not _ABSENT and typed != made:
            conflicts.append(f"{name}={made!r}, not {typed!r}")
    return conflicts


# None is a value that a folder may have
_ABSENT = object()


# ------------------------------------------------------------------------------------------ models


def make_backbone(config: Config) -> SSMDP:
    """Build the backbone with random weights, by torch's own random state."""
    c = config.backbone
    return SSMDP(
        d_model=c.d_model,
        n_blocks=c.n_blocks,
        d_state=c.d_state,
        d_cond=c.d_cond,
        d_embed=c.d_embed,
        n_channel_ids=len(TCP),
    )


def make_schedule(config: Config) -> NoiseSchedule:
    """Build the noise schedule."""
    c = config.diffusion
    return NoiseSchedule(c.n_steps, c.schedule, c.beta_start, c.beta_end)


def token_spec(config: Config, blocks: bool = True) -> TokenSpec:
    """Return how tokens are read; with ``blocks=False`` of all blocks, as they are stored."""
    c, d, f = config.latents, config.diffusion, config.fusion
    return TokenSpec(
        query=tuple(c.query),
        pool=tuple(c.pool),
        step=c.step,
        forward=c.forward,
        schedule=d.schedule,
        n_steps=d.n_steps,
        window=c.window,
        stride=c.stride,
        first_block=f.first_block if blocks else 0,
        last_block=f.last_block if blocks else None,
        beta_start=d.beta_start,
        beta_end=d.beta_end,
    )


def _open_backbone(config: Config, fingerprints: Mapping[str, str]) -> tuple[Config, SSMDP, str]:
    """The backbone that this run reads and what identifies it: its folder's fingerprint, or that
    of its weights.
    """
    chosen = config.run.backbone
    if chosen == "random":
        content = content_config(config, "backbone")
        identity = content["backbone"]
        if config.latents.forward != "none":  # only then does the noise schedule reach the tokens
            identity = identity | {"diffusion": content["diffusion"]}
        # One backbone for all seeds of the classifier, as a pretrained one is
        with initial_weights(seed=0):
            return config, make_backbone(config), f"random, {artifacts.fingerprint(identity)}"
    if chosen is None or artifacts.is_finished(Path(chosen)):
        config, made = open_input(config, "backbone", fingerprints if chosen is None else None)
        return config, SSMDP.from_pretrained(made.path), made.fingerprint
    # From elsewhere, without a manifest: what the model says of itself stands for one
    backbone = backbone_of(load(chosen))
    made_with = {"backbone": backbone.config, **_stated(backbone)}
    return (
        _as_stated(config, f"{chosen}: is a backbone", made_with),
        backbone,
        weights_fingerprint(backbone),
    )


def _stated(backbone: SSMDP) -> dict[str, Mapping[str, Any]]:
    """What a backbone says of its noise, and of the units of its signals."""
    info = backbone.info
    return {
        "diffusion": info.get("diffusion", {}),
        "signal": _units_in(info.get("signal", {})),
    }


def _as_stated(config: Config, model: str, made_with: Mapping[str, Any]) -> Config:
    """The configuration with what a model says of itself, unless the user typed otherwise."""
    if conflicts := typed_conflicts(config, made_with):
        raise UserError(f"{model} with {'; '.join(conflicts)}; leave that out")
    values = [
        setting
        for section, settings in made_with.items()
        for setting in _known_settings(getattr(config, section), settings, f"{section}.")
    ]
    return with_settings(config, dict(values))


def _open_teacher(config: Config) -> tuple[Config, EEGDM | SSMDP, str]:
    """The model that a student learns from and what identifies it, as :func:`_open_backbone`."""
    chosen = config.run.model
    if chosen is None:
        raise UserError("distill: name the teacher with model=, a backbone or a classifier")
    teacher = load(chosen, compat=config.run.compat)
    if not isinstance(teacher, EEGDM | SSMDP):
        raise UserError(
            f"{chosen}: is a {type(teacher).__name__}; give distill a backbone or a classifier"
        )
    kind, made_with = "backbone", _stated(backbone_of(teacher))
    if isinstance(teacher, EEGDM):
        kind, spec = "classifier", teacher.spec.to_dict()
        made_with["latents"] = {name: spec[name] for name in TOKENS}
    config = _as_stated(config, f"{chosen}: is a {kind}", made_with)
    if artifacts.is_finished(Path(chosen)):
        return config, teacher, artifacts.open_artifact(Path(chosen)).fingerprint
    return config, teacher, weights_fingerprint(teacher)


_SPLIT_SETTINGS = (
    "split",
    "kfold_unit",
    "n_folds",
    "fold",
    "val_fraction",
    "test_fraction",
    "split_seed",
    "leave_out",
)


def open_classifier(
    config: Config, path: Path, recordings: Artifact
) -> tuple[Config, EEGDM, Inputs]:
    """Open a classifier and what it is scored on. Classes and channels meet by name.

    On the recordings that it learned from, a classifier brings its own split, and its tokens are
    read if they are stored. Of other recordings the published test part is scored, or all
    (split=none) where a corpus has none, unless the user typed a split.

    Args:
        config: of the run that scores it; it stays as it is.
        path: a folder that `finetune`, `convert` or `save_pretrained` wrote, or a published file.
        recordings: what the classifier is scored on.

    Returns:
        The configuration with the classifier's settings, the model, and what its samples are read
        from.

    Raises:
        UserError: it is a backbone, was made with something other than the user typed, or takes
            another sampling frequency than the recordings'.
    """
    model = load(str(path), compat=config.run.compat)
    if not isinstance(model, EEGDM):
        raise UserError(f"{path}: is a backbone; report needs classifiers")
    latents, fingerprints = None, {"recordings": recordings.fingerprint}
    if artifacts.is_finished(path):
        made = artifacts.open_artifact(path, "classifier")
        elsewhere = made.inputs.get("recordings") != recordings.fingerprint
        config = adopted(config, _without_split(config, made) if elsewhere else made)
        config = with_settings(config, {"run.compat": made.config.get("compat")})
        if not elsewhere:
            fingerprints = made.inputs
        if "latents" in fingerprints and config.run.rate == 1.0:
            made_from = {k: fingerprints[k] for k in ("recordings", "backbone")}
            config, latents = open_input(config, "latents", made_from)
    else:
        elsewhere = True
        config = _as_model(config, model, path)
    # Where a corpus has a published division, its test part is what nobody has learned from.
    is_divided = config.corpus.name in PUBLISHED_SPLIT or "windows.split" in config.explicit
    if elsewhere and not is_divided:
        config = with_settings(config, {"windows.split": "none"})
    # The model last: on its own classes and sizes it has the last word
    sizes = dict(_known_settings(config.backbone, model.backbone.config, "backbone."))
    config = with_settings(config, {**_classes_of(config, model), **sizes})
    _refuse_other_rate(config, model, path, recordings)
    inputs = Inputs(recordings, None, latents, fingerprints)
    return check_resolved(config, "report"), model, inputs


def _without_split(config: Config, made: Artifact) -> Artifact:
    """A classifier's artefact without what holds of the recordings that it learned from alone."""
    settings = {**made.config, "windows": dict(made.config["windows"])}
    for name in _SPLIT_SETTINGS:
        settings["windows"].pop(name, None)
    settings["corpus"] = {
        name: value
        for name, value in made.config.get("corpus", {}).items()
        # Other files have other texts, which the classifier's map would leave out
        if f"corpus.{name}" not in config.explicit and name != "label_map"
    }
    return replace(made, config=settings)


def _as_model(config: Config, model: EEGDM, path: Path) -> Config:
    """The configuration with what a model says of itself that no stage of this run has made."""
    duration_s = model.n_times / model.sfreq
    if "windows.duration_s" in config.explicit and config.windows.duration_s != duration_s:
        raise UserError(
            f"windows.duration_s={config.windows.duration_s:g}: {path} takes windows of"
            f" {duration_s:g} s; leave that out"
        )
    binary = len(model.classes) == 1
    values = {
        "windows.duration_s": duration_s,
        "latents.cached": False,
        "latents.forward": model.spec.forward,
        "finetune.loss": "binary" if binary else "cross_entropy",
        "finetune.monitor": "auroc" if binary else "kappa",
        "run.compat": model.compat,
    }
    units = {f"signal.{key}": value for key, value in _units_in(model.signal).items()}
    return with_settings(config, values | units)


def _units_in(signal: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a model says of its signals, the settings that belong to it."""
    return {key: value for key, value in signal.items() if f"signal.{key}" in MODEL_UNITS}


def _classes_of(config: Config, model: EEGDM) -> dict[str, Any]:
    """The classes that samples are labelled with: the model's, in the order of its logits."""
    decision = model.decision
    if len(model.classes) > 1:
        classes = list(model.classes)
    elif len(decision.get("classes", ())) == 2:
        classes = list(decision["classes"])
    else:
        others = [name for name in config.corpus.classes if name not in model.classes]
        classes = [others[0] if others else "background", *model.classes]
    events = decision.get("event_classes") or [
        name for name in config.corpus.event_classes if name in classes
    ]
    return {"corpus.classes": classes, "corpus.event_classes": list(events)}


def _refuse_other_rate(config: Config, model: EEGDM, path: Path, recordings: Artifact) -> None:
    """Windows of another sampling frequency are another signal; only run.rate asks for that."""
    sfreq = recordings.config["signal"]["sfreq"]
    if config.run.rate == 1.0 and not config.signal.per_window and sfreq != model.sfreq:
        raise UserError(
            f"{path}: learned from signals of {model.sfreq:g} Hz, {recordings.path} holds"
            f" {sfreq:g} Hz; run `eegdm preprocess` with signal.sfreq={model.sfreq:g} in another"
            " root="
        )


# ---------------------------------------------------------------------------------- labelled data


class LabelledData(NamedTuple):
    """Recordings, the token source and the samples of each part."""

    recordings: Recordings
    store: TokenStore | None  # None: tokens are computed on the fly
    samples: pd.DataFrame  # with a column `split`
    inputs: dict[str, str]
    channels: tuple[str, ...]  # of the model that learns from them or is scored on them
    # for each recording what its tokens are centred by; None: they are not centred
    references: Mapping[str, Tensor] | None = None

    def part(self, name: str) -> pd.DataFrame:
        """Return the samples of one part (train, val, test), numbered anew."""
        return self.samples[self.samples.split == name].reset_index(drop=True)


def open_recordings(config: Config, inputs: Inputs) -> Recordings:
    """Open a recordings folder as this run reads it: companding, rate, labels."""
    return Recordings(
        inputs.recordings.path,
        ModelUnits.of(model_units(config)),
        config.run.rate,
        config.corpus.label_map,
    )


def label_data(
    config: Config, inputs: Inputs, channels: Sequence[str] | None = None
) -> LabelledData:
    """Open recordings and tokens, and list the labelled samples with their split.

    Args:
        config: resolved.
        inputs: what :func:`resolve` or :func:`open_classifier` opened.
        channels: those of a model that is scored; None: all that the recordings have.

    Raises:
        UserError: no sample, or an empty part of the split.
    """
    recordings = open_recordings(config, inputs)
    samples = make_samples(
        recordings.table, recordings.events, config.windows, config.corpus.classes
    )
    split = assign_splits(recordings.table, config.corpus.name, config.windows, recordings.events)
    samples["split"] = samples.recording.map(
        dict(zip(recordings.table.recording, split, strict=True))
    )
    if config.finetune.max_samples is not None:
        train = samples.index[samples.split == "train"]
        kept = few_labels(
            samples.label[train].to_numpy(), config.finetune.max_samples, config.run.seed
        )
        samples.loc[train.difference(train[kept]), "split"] = LEFT_OUT
    if config.run.compat == "published" and config.windows.policy == "grid+seizure":
        samples = samples.sort_values(WINDOW_KEY, kind="stable", ignore_index=True)
    store = TokenStore(inputs.latents.path) if inputs.latents else None
    return LabelledData(
        recordings,
        store,
        samples,
        inputs.fingerprints,
        tuple(channels or recordings.ch_names),
    )


def open_data(config: Config) -> tuple[Config, LabelledData]:
    """Resolve the configuration of a fine-tuning and list its samples, for use outside stages."""
    config, inputs = resolve(config, "finetune")
    return config, label_data(config, inputs)


def few_labels(label: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return the rows, in order, of at most ``n`` samples drawn class by class in turn: rare
    classes give all they have.

    A larger ``n`` of the same seed keeps the rows of a smaller one.
    """
    # Each class hands out one sample per turn; a stable sort by turn keeps the random order within
    order = generator("few labels", seed).permutation(len(label))
    turn = pd.Series(label[order]).groupby(label[order]).cumcount().to_numpy()
    return np.sort(order[np.argsort(turn, kind="stable")[:n]])


def make_dataset(config: Config, data: LabelledData, samples: pd.DataFrame) -> Dataset:
    """Return the samples as tokens (stored) or as signals (on the fly)."""
    if data.store is not None:
        blocks = slice(config.fusion.first_block, config.fusion.last_block)
        return CachedTokens(
            data.store, data.recordings.table, samples, data.channels, blocks, data.references
        )
    noisy = config.latents.forward == "noisy"
    return SignalWindows(
        data.recordings, samples, data.channels, noisy, config.run.seed, data.references
    )


def shared_windows(samples: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Return one sample per distinct window, and for each sample the row of its window."""
    windows = distinct(samples)
    windows["row"] = np.arange(len(windows))
    return windows.assign(label=0), samples.merge(windows, on=WINDOW_KEY, how="left").row.to_numpy()
