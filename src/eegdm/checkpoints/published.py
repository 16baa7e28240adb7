"""The published checkpoints (`backbone.ckpt`, `classifier.ckpt`, `chbmit_classifier.ckpt`): what
they hold, as models of ours.

Every key of the state dict is accounted for, and every setting is taken over, has the one value
that the published recipes use, or says nothing about the model; anything else is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eegdm.checkpoints.torch_archive import Checkpoint, open_checkpoint
from eegdm.config import SignalConfig
from eegdm.data.montage import CHBMIT, TCP
from eegdm.errors import UserError
from eegdm.models.backbone import SSMDP
from eegdm.models.eegdm import EEGDM
from eegdm.models.locate import joined
from eegdm.models.pretrained import (
    build_empty,
    fill,
    refuse_not_finite,
    refuse_other_tensors,
    shapes,
    with_compat,
)
from eegdm.tuev import TUEV_CLASSES

if TYPE_CHECKING:
    from torch import Tensor, nn

# A file holds the weights three times: the trainer's, ema-pytorch's copy of these, and its average
WEIGHTS = {"ema": "ema.ema_model.", "online": "model."}
_COPIES = ("model.", "ema.online_model.", "ema.ema_model.")
_BOOKKEEPING = ("ema.initted", "ema.step")
_OPTIONAL = ("criterion.pos_weight", "criterion.weight")
_PER_CHANNEL = ("extractor.cond", "extractor.diffusion_steps")

# ------------------------------------------------------------------------------- names of weights

_BACKBONE_NAMES = (
    (r"lift\.", "in_layer.0."),
    (r"head\.", "out_layer."),
    (r"step_mlp\.", "t_embed_in."),
    (r"channel_embed\.", "label_embed."),
    (r"channel_mlp\.", "label_embed_in."),
    (r"blocks\.(\d+)\.norm\.", r"layers.\1.prenorm1."),
    (r"blocks\.(\d+)\.condition\.", r"layers.\1.cond_linear."),
    (r"blocks\.(\d+)\.widen\.", r"layers.\1.pre_layer."),
    (r"blocks\.(\d+)\.next\.", r"layers.\1.linear_next."),
    (r"blocks\.(\d+)\.skip\.", r"layers.\1.linear_skip."),
    (r"blocks\.(\d+)\.ssm\.D", r"layers.\1.layer.D"),
    (r"blocks\.(\d+)\.ssm\.log_decay", r"layers.\1.layer.kernel.A_real"),
    (r"blocks\.(\d+)\.ssm\.frequency", r"layers.\1.layer.kernel.A_imag"),
    (r"blocks\.(\d+)\.ssm\.log_dt", r"layers.\1.layer.kernel.inv_dt"),
    (r"blocks\.(\d+)\.ssm\.([BC])", r"layers.\1.layer.kernel.\2"),
)
_FUSION_NAMES = (
    (r"fusion_tokens", "decoder.cls_token"),
    (r"fusion_blocks\.(\d+)\.self_norm\.", r"decoder.tower.0.\1.norms.0."),
    (r"fusion_blocks\.(\d+)\.cross_norm\.", r"decoder.tower.0.\1.norms.1."),
    (r"fusion_blocks\.(\d+)\.ff_norm\.", r"decoder.tower.0.\1.norms.2."),
    (r"fusion_blocks\.(\d+)\.self_attn\.", r"decoder.tower.0.\1.layers.0."),
    (r"fusion_blocks\.(\d+)\.cross_attn\.", r"decoder.tower.0.\1.layers.1."),
    (r"fusion_blocks\.(\d+)\.ff\.", r"decoder.tower.0.\1.layers.2."),
    (r"position", "classifier.pos_embed"),
    (r"stack\.(\d+)\.attn_norm\.", lambda m: f"classifier.stack.norms.{2 * int(m[1])}."),
    (r"stack\.(\d+)\.ff_norm\.", lambda m: f"classifier.stack.norms.{2 * int(m[1]) + 1}."),
    (r"stack\.(\d+)\.attn\.", lambda m: f"classifier.stack.layers.{2 * int(m[1])}."),
    (r"stack\.(\d+)\.ff\.", lambda m: f"classifier.stack.layers.{2 * int(m[1]) + 1}."),
    (r"out\.", "classifier.linear."),
)


def original_name(ours: str) -> str:
    """Return what the original calls a weight of :class:`EEGDM` (`backbone.`, `fusion.`) or
    :class:`SSMDP`.
    """
    if ours.startswith("backbone."):
        return "extractor.model." + original_name(ours.removeprefix("backbone."))
    fusion = ours.startswith("fusion.")
    # The first pattern that fits: each is anchored, and none is the beginning of another
    for pattern, theirs in _FUSION_NAMES if fusion else _BACKBONE_NAMES:
        renamed, n = re.subn(f"^{pattern}", theirs, ours.removeprefix("fusion."))
        if n:
            return renamed
    raise KeyError(f"{ours} has no name in the original")


# --------------------------------------------------------------------------------------- settings

_BACKBONE_SWITCHES = {
    "in_channels": (1,),
    "n_ssm": (None,),
    "kernel_init": ("diag-lin",),
    "kernel_mode": ("diag",),
    "bidirectional": (True,),
    "local_cond_ch": (0,),
    "have_null_class": (False,),
    "self_gated": (False,),
}
_BACKBONE_SIZES = {
    "d_model": "d_model",
    "n_layer": "n_blocks",
    "d_state": "d_state",
    "d_cond": "d_cond",
    "d_cond_embed": "d_embed",
    "n_class": "n_channel_ids",
}
_FUSION_SWITCHES = {
    "rescale": (False,),
    "pool_merge": ("share",),
    "multi_query_merge": ("seq", "share"),
    "d_embed": (None,),
    "init_weight": (False,),
    "embed_query": (False,),
    "d_query_embed": (None,),
    "have_ch_pos_embed": (False,),
    "ch_order": (list(TCP),),
    "clst_dim": ("TP",),
    "clst_pos_embed_dim": ("",),
    "stack_struct": ("scf",),
    "dropout": (0,),
    "have_crossnorm": (False,),
    "across_pool_stack_struct": ("",),
    "n_ap_clst": (0,),
    "classifier_use_ap_clst": (False,),
    "classifier_have_pos_embed": (True,),
    "classifier_pos_embed_dim": ("TPN",),
    "classifier_final_act": ("pool",),
}
_FUSION_TAKEN = (
    "start",
    "end",
    "diffusion_t",
    "query",
    "reduce",
    "L",
    "window_size",
    "window_step",
    "n_clst",
    "num_heads",
    "ff",
    "classifier_stack_struct",
    "n_class",
)
_FUSION_OPTIONAL = ("use_cond", "cat_ch_pos_embed", "ch_pos_emb_sym", "ap_clst_dim")
_CLASSIFIER_SWITCHES = {"cls_version": (1,), "fwd_with_noise": (None, False, True)}
_BACKBONE_FILE_SWITCHES = {"target_dist": (None,), "kde_kwargs": (None,)}
_NOISE_SWITCHES = {"prediction_type": ("v_prediction",)}
_NOISE_TAKEN = {
    "num_train_timesteps": "n_steps",
    "beta_schedule": "schedule",
    "beta_start": "beta_start",
    "beta_end": "beta_end",
}
_TRAINING = ("ema_kwargs", "opt_kwargs", "sch_kwargs", "criterion_kwargs", "lrd_kwargs")
_FORWARDS = {None: "none", False: "noiseless", True: "noisy"}


class ModelDescription(NamedTuple):
    """What a file says it is: a class of ours, the arguments to build it, and facts for
    `config.json` and the card.
    """

    model_class: type[SSMDP | EEGDM]
    config: dict[str, Any]
    info: dict[str, Any]


def translate_settings(file: Checkpoint) -> ModelDescription:
    """Translate a checkpoint's settings.

    Raises:
        UserError: settings that are missing, unknown, or switch on what eegdm leaves out.
    """
    try:
        if "diffusion_model_checkpoint" in file.hyper_parameters:
            return _describe_classifier(file)
        return _describe_backbone(file)
    except UserError:
        raise
    # A stranger's settings may be anything at any depth: what the code trips over is refused here
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise UserError(
            f"{file.path}: is not a published checkpoint, its settings can't be understood"
            f" ({error!r:.200})"
        ) from error


def _describe_backbone(file: Checkpoint) -> ModelDescription:
    settings = _accepted(
        file.path,
        file.hyper_parameters,
        _BACKBONE_FILE_SWITCHES,
        ("model_kwargs", "noise_sch_kwargs"),
        ("gen_kwargs", *_TRAINING),
    )
    sizes = _accepted(file.path, settings["model_kwargs"], _BACKBONE_SWITCHES, _BACKBONE_SIZES)
    noise = _accepted(file.path, settings["noise_sch_kwargs"], _NOISE_SWITCHES, _NOISE_TAKEN)
    companded = bool(settings.get("gen_kwargs", {}).get("inv_data_trans"))
    config = {ours: sizes[theirs] for theirs, ours in _BACKBONE_SIZES.items()}
    info = {
        "diffusion": {ours: noise[theirs] for theirs, ours in _NOISE_TAKEN.items()},
        "signal": asdict(SignalConfig(mu=255.0 if companded else 0.0)),
    }
    return ModelDescription(SSMDP, config, info)


def _describe_classifier(file: Checkpoint) -> ModelDescription:
    settings = _accepted(
        file.path,
        file.hyper_parameters,
        _CLASSIFIER_SWITCHES,
        ("diffusion_model_checkpoint", "model_kwargs", "is_binary"),
        ("data_is_cached", "run_test_together", *_TRAINING),
    )
    lft = _accepted(
        file.path, settings["model_kwargs"], _FUSION_SWITCHES, _FUSION_TAKEN, _FUSION_OPTIONAL
    )
    channels = [TCP[index] for index in lft.get("use_cond") or range(len(TCP))]
    if re.fullmatch("(sf)+", lft["classifier_stack_struct"]) is None:
        raise UserError(
            f"{file.path}: uses classifier_stack_struct={lft['classifier_stack_struct']!r:.80};"
            " eegdm reads sf, repeated"
        )
    if settings["is_binary"] != (lft["n_class"] == 1):
        raise UserError(
            f"{file.path}: has is_binary={settings['is_binary']} with n_class={lft['n_class']}; a"
            " binary classifier has 1"
        )
    config = {
        "backbone": _backbone_sizes(file, "model.extractor.model."),
        "fusion": {
            "n_tokens": lft["n_clst"],
            "n_heads": lft["num_heads"],
            "ff": lft["ff"],
            "depth": len(lft["classifier_stack_struct"]) // len("sf"),
        },
        "tokens": {
            "query": lft["query"],
            "pool": lft["reduce"],
            "step": lft["diffusion_t"],
            "forward": _FORWARDS[settings["fwd_with_noise"]],
            "window": lft["window_size"],
            "stride": lft["window_step"],
            "first_block": lft["start"],
            "last_block": lft["end"],
        },
        "channels": channels,
        "n_times": lft["L"],
        **_corpus_of(channels, lft["n_class"]),
    }
    return ModelDescription(EEGDM, config, {})


def _corpus_of(channels: list[str], n_classes: int) -> dict[str, Any]:
    """Return classes, signal and decision of the corpus that a classifier was trained on, which its
    file does not name.
    """
    if n_classes == 1:
        signal = SignalConfig(
            highpass=0.5, notch=[60.0], montage="chbmit" if channels == list(CHBMIT) else "tcp"
        )
        binary = {"classes": ["background", "seizure"], "event_classes": ["seizure"]}
        return {"classes": ["seizure"], "signal": asdict(signal), "decision": binary}
    if n_classes != len(TUEV_CLASSES):
        return {
            "classes": [f"class {index}" for index in range(n_classes)],
            "signal": asdict(SignalConfig()),
        }
    decision: dict[str, Any] = {
        "classes": list(TUEV_CLASSES),
        "event_classes": list(TUEV_CLASSES[:-1]),
    }
    decision["resolution_s"] = 1.0  # TUEV's events last 1 s, in the middle of the 5 s window
    return {"classes": list(TUEV_CLASSES), "signal": asdict(SignalConfig()), "decision": decision}


def _backbone_sizes(file: Checkpoint, prefix: str) -> dict[str, int]:
    """Read a backbone's sizes off its weights, as a classifier's file does not state them."""

    def shape(name: str) -> tuple[int, ...]:
        if prefix + name not in file.state_dict:
            raise UserError(
                f"{file.path}: its tensors do not fit the model that its settings describe: it"
                f" lacks {prefix}{name}"
            )
        return file.state_dict[prefix + name].shape

    n_channel_ids, d_embed = shape("label_embed.weight")
    blocks = {
        name.removeprefix(prefix).split(".")[1]
        for name in file.state_dict
        if name.startswith(f"{prefix}layers.")
    }
    return {
        "d_model": shape("in_layer.0.weight")[0],
        "n_blocks": len(blocks),
        "d_state": 2 * shape("layers.0.layer.kernel.A_real")[1],
        "d_cond": shape("t_embed_in.2.weight")[0],
        "d_embed": d_embed,
        "n_channel_ids": n_channel_ids,
    }


def _accepted(
    path: Path,
    settings: Any,
    switches: dict[str, tuple],
    taken: Collection[str],
    idle: Collection[str] = (),
) -> dict[str, Any]:
    """Return the settings: all `taken` are there, every switch has a value that we support, and
    beyond `idle` there is nothing else.
    """
    if missing := set(taken) - settings.keys():
        raise UserError(
            f"{path}: is not a published checkpoint: its settings lack {joined(missing)}"
        )
    if unknown := settings.keys() - switches.keys() - set(taken) - set(idle):
        raise UserError(f"{path}: has settings that no published checkpoint has: {joined(unknown)}")
    for name, supported in switches.items():
        if settings.get(name, supported[0]) not in supported:
            raise UserError(
                f"{path}: uses the original's experimental switch {name}={settings[name]!r:.80},"
                f" which eegdm leaves out; it reads {name}={supported[0]!r:.80}"
            )
    return settings


# ---------------------------------------------------------------------------------------- weights


def load_original(
    path: str | Path, weights: str = "ema", compat: str | None = None
) -> SSMDP | EEGDM:
    """Return the model of a published checkpoint, in eval mode on the CPU; nothing that the file
    names is executed.

    Args:
        path: a `.ckpt` file. A classifier's holds its backbone too.
        weights: "ema", or "online".
        compat: "published" repeats the published code's errors. The published CHB-MIT classifier
            was trained with them: without it its 10 s windows are read rightly, but not as they
            were in its training.

    Returns:
        A backbone or a classifier, whichever the file holds.

    Raises:
        UserError: not such a file, refused by the restricted pickle, missing or left-over keys,
            NaN, or unsupported settings.
    """
    return read_original(path, weights, compat)[0]


def read_original(
    path: str | Path, weights: str = "ema", compat: str | None = None
) -> tuple[SSMDP | EEGDM, dict[str, Any]]:
    """As :func:`load_original`, with the facts that go beside the model: data, recipe, licence,
    source, settings of training.
    """
    if weights not in WEIGHTS:
        raise UserError(f"weights={weights!r} is unknown; choose from {', '.join(WEIGHTS)}")
    with open_checkpoint(Path(path)) as file:
        model_class, config, info = translate_settings(file)
        settings = with_compat(file.path, model_class, config, compat)
        model = build_empty(file.path, model_class, settings, len(file.state_dict))
        names = {ours: original_name(ours) for ours in shapes(model)}
        # By the headers: the numbers are read only once every tensor is accounted for
        _account(file, model, names)
        tensors = file.read_all()
    refuse_not_finite(file.path, tensors)
    _check_copies(file.path, config, tensors, names if weights == "online" else {})
    chosen = {
        ours: tensors[WEIGHTS[weights] + names[ours]].reshape(shape)
        for ours, shape in shapes(model).items()
    }
    fill(file.path, model, chosen)
    return model, {**info, **_about(file, weights)}


def _account(file: Checkpoint, model: nn.Module, names: dict[str, str]) -> None:
    """Refuse a file whose state dict has not exactly the keys and shapes of the model, three times,
    and the known bookkeeping.
    """
    wanted: dict[str, tuple[int, ...]] = dict.fromkeys(_BOOKKEEPING, ())
    for copy in _COPIES:
        for ours, shape in shapes(model).items():
            wanted[copy + names[ours]] = _core(shape)
        if isinstance(model, EEGDM):
            for name in _PER_CHANNEL:
                wanted[copy + name] = _core((len(model.channels), 1))
    stored = {name: _core(header.shape) for name, header in file.state_dict.items()}
    wanted |= {name: stored[name] for name in _OPTIONAL if name in stored}
    refuse_other_tensors(file.path, wanted, stored)


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without leading axes of length 1, which the original keeps in some places and
    we do not.
    """
    while shape[:1] == (1,):
        shape = shape[1:]
    return shape


def _check_copies(
    path: Path, config: dict[str, Any], tensors: dict[str, Tensor], online: dict[str, str]
) -> None:
    """Refuse a file that contradicts itself: on channel ids and step, or (if used) between its two
    copies of the online weights.
    """
    if "channels" in config:
        ids = [TCP.index(name) for name in config["channels"]]
        steps = [config["tokens"]["step"]] * len(ids)
        for copy in _COPIES:
            for name, values in zip(_PER_CHANNEL, (ids, steps), strict=True):
                if (got := tensors[copy + name].flatten().tolist()) != values:
                    raise UserError(f"{path}: {copy}{name} is {got}, its settings say {values}")
    differing = [
        theirs
        for theirs in online.values()
        if not tensors["model." + theirs].equal(tensors["ema.online_model." + theirs])
    ]
    if differing:
        raise UserError(
            f"{path}: holds two unequal copies of the online weights, in {joined(differing)}; take"
            " weights=ema"
        )


def _about(file: Checkpoint, weights: str) -> dict[str, Any]:
    training = {
        name: file.hyper_parameters[name] for name in _TRAINING if name in file.hyper_parameters
    }
    return {
        "data": (
            "Not stated in the checkpoint. The published ones were trained on the TUH EEG Events"
            " corpus (backbone, classifier) and CHB-MIT (chbmit_classifier, on the same backbone)."
        ),
        "recipe": "Not stated in the checkpoint. The published ones follow the recipe `base`.",
        "metrics": "Not stated in the checkpoint; `eegdm report` measures.",
        "licence": (
            "Not stated in the checkpoint: ask the authors of the published weights (jhpuah/eegdm"
            " on the Hugging Face hub)."
        ),
        "source": {"file": file.path.name, "weights": weights, **file.progress},
        "training": training,
    }
