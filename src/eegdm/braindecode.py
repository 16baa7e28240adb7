"""EEGDM as a braindecode model: windows of any channels in, logits out, by braindecode's contract.

Needs the extra `braindecode`; `docs/braindecode.md` tells how to install it beside a torch without
CUDA.
"""

from __future__ import annotations

import functools
import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from braindecode.models.base import EEGModuleMixin
from braindecode.models.util import build_model_config
from braindecode.version import __version__ as braindecode_version
from jaxtyping import Float
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.library import custom_op

from eegdm.artifacts import write_json
from eegdm.checkpoints.load import load_backbone
from eegdm.data.channels import PER_VOLT
from eegdm.data.montage import TCP
from eegdm.data.names import read_names
from eegdm.data.positions import match_to_montage
from eegdm.data.signal import ModelUnits
from eegdm.errors import UserError
from eegdm.models.backbone import SSMDP
from eegdm.models.eegdm import EEGDM as Classifier
from eegdm.models.eegdm import make_fusion, noise_of
from eegdm.models.latents import TokenSpec, extract
from eegdm.models.locate import CONFIG_FILE, WEIGHTS_FILE
from eegdm.models.pooling import pool_bounds

MODEL_UNITS_PER_UNIT = {"V": PER_VOLT, "mV": PER_VOLT * 1e-3, "uV": PER_VOLT * 1e-6}
"""Model units (100 µV) in each unit."""


class EEGDM(  # type: ignore[call-arg]  # mypy takes the mixin for an object
    EEGModuleMixin,
    nn.Module,
    license="apache-2.0",
    library_name="eegdm",
    tags=["eeg"],
    docs_url="https://arxiv.org/abs/2508.14086",
):
    """Diffusion backbone and latent fusion transformer of Puah et al. 2025.

    A state-space network reads each channel on its own and its activities, pooled over each second,
    become tokens; a transformer fuses the tokens of all channels. Use :meth:`from_backbone` for a
    trained backbone; the constructor's has random weights. Any channels and sampling rate are
    taken: a channel is conditioned on the nearest of the 22 that the backbone knows, one whose
    place its name does not tell on the mean of them all, with a warning.

    Parameters
    ----------
    n_outputs : int
        Number of classes.
    n_chans : int
        Number of channels; follows from `chs_info` where that is given.
    chs_info : list of dict
        A dict for each channel, as in `info["chs"]` of MNE; only `ch_name` is read, which gives the
        channel's place on the head.
    n_times : int
        Samples of a window.
    input_window_seconds : float
        Length of a window, s; any two of this, `n_times` and `sfreq` give the third.
    sfreq : float
        Sampling rate, Hz.
    backbone : dict or None
        Arguments of :class:`eegdm.SSMDP`; None: the published size.
    tokens : dict or None
        What is read from the backbone, see :class:`eegdm.models.latents.TokenSpec`; None: as
        published.
    fusion : dict or None
        Those of the arguments of :class:`eegdm.LatentFusionTransformer` that do not follow from the
        others, such as `depth`. With `kind` "linear" there is no transformer: the final layer is
        given the logs of tokens, averaged over channels, or with `per_channel` of each channel.
    unit : str
        Unit of the windows: V (as MNE has them), mV or uV. They should have been filtered to 0.1-75
        Hz.
    mu : float
        Companding of amplitudes above 100 µV, as in pretraining; 0 leaves them.
    spread : float or None
        Scale each window so that its robust spread (median over channels) is this many model units;
        None leaves the scale. In pretraining that is the spread of the recording, which a window
        alone does not tell.
    whiten : list of float or None
        Filter that whitens each channel, as in pretraining; None: no filter.
    train_backbone : bool
        Whether the backbone learns too; published: no. At full size that wants a GPU. The weights
        of a frozen backbone get no gradients; windows that require them do (saliency).

    Raises
    ------
    UserError
        If `unit` is unknown, or `tokens` wants a noisy forward process or has unknown entries.
    ValueError
        From braindecode, if sizes are missing or contradict each other.

    References
    ----------
    .. [eegdm] Puah, J. H. et al. (2025). EEGDM: EEG Representation Learning via Generative
    Diffusion Model. arXiv:2508.14086.
    """

    if TYPE_CHECKING:  # the mixin's, which mypy does not see
        n_outputs: int
        n_chans: int
        n_times: int
        sfreq: float
        _chs_info: list[dict[str, Any]] | None
    final_layer: nn.Linear

    def __init__(
        self,
        n_outputs: int | None = None,
        n_chans: int | None = None,
        chs_info: list[dict] | None = None,
        n_times: int | None = None,
        input_window_seconds: float | None = None,
        sfreq: float | None = None,
        *,
        backbone: dict[str, Any] | None = None,
        tokens: dict[str, Any] | None = None,
        fusion: dict[str, Any] | None = None,
        unit: str = "V",
        mu: float = 255.0,
        spread: float | None = None,
        whiten: list[float] | None = None,
        train_backbone: bool = True,
    ) -> None:
        super().__init__(n_outputs, n_chans, chs_info, n_times, input_window_seconds, sfreq)
        # The mixin keeps these, with what it inferred: the arguments may be None.
        del n_outputs, n_chans, chs_info, n_times, input_window_seconds, sfreq
        if unit not in MODEL_UNITS_PER_UNIT:
            raise UserError(f"unit={unit!r}: choose from {', '.join(MODEL_UNITS_PER_UNIT)}")
        self.unit, self.train_backbone = unit, train_backbone
        self.model_units = ModelUnits.of({"mu": mu, "spread": spread, "whiten": whiten})
        self.spec = TokenSpec.from_dict(tokens or {})
        if self.spec.forward == "noisy":
            raise UserError(
                "tokens: forward=noisy needs noise, which braindecode's models are not given;"
                " choose none or noiseless"
            )
        self.backbone = _with_mean_channel(SSMDP(**(backbone or {}))).requires_grad_(train_backbone)
        self._channel_ids = self._conditions()
        # A custom operation takes tensors and text: all else that reading depends on goes as JSON.
        names = [name for name, _ in self.backbone.named_parameters()]
        self._reading = json.dumps(
            [self.backbone.config, self.spec.to_dict(), self._channel_ids, self.sfreq, names]
        )
        self.fusion = make_fusion(self._token_shape(), fusion or {})
        n_features = self.fusion.out.in_features
        self.fusion.out = nn.Identity()  # type: ignore[assignment]  # the decision is braindecode's final_layer
        self.final_layer = nn.Linear(n_features, self.n_outputs)

    @classmethod
    def from_backbone(
        cls,
        path_or_hub_id: SSMDP | Classifier | str | Path,
        *,
        train_backbone: bool = False,
        **options: Any,
    ) -> Self:
        """Return a model that starts from a trained backbone.

        Parameters
        ----------
        path_or_hub_id
            A backbone or classifier (of which the backbone is taken): the model, its folder,
            checkpoint or hub id.
        train_backbone
            Whether the backbone learns on; published: no.
        **options
            The constructor's other arguments, but `backbone`. `mu`, `spread`, `whiten` and the
            noise schedule in `tokens` are by default those of the backbone's pretraining.

        Returns
        -------
        EEGDM
            A model of its own: the backbone's weights are copied, the fusion's and the final
            layer's are random.

        Raises
        ------
        UserError
            If there is no such model, or it can't be read; or what the constructor raises.
        """
        trained = load_backbone(path_or_hub_id)
        options["tokens"] = noise_of(trained) | (options.get("tokens") or {})
        units = asdict(ModelUnits.of(trained.info.get("signal", {})))
        # As JSON has it, which braindecode writes arguments to
        units["whiten"] = None if units["whiten"] is None else list(units["whiten"])
        model = cls(backbone=trained.config, train_backbone=train_backbone, **units | options)
        model.backbone.load_state_dict(_with_mean_channel(trained).state_dict())
        return model

    def forward(
        self, x: Float[Tensor, "batch channel time"], return_features: bool = False
    ) -> Float[Tensor, "batch output"] | dict[str, Tensor | None]:
        """Return the logits of windows.

        Parameters
        ----------
        x
            Windows (batch, channel, time) in `unit`, of `n_chans` channels and `n_times` samples.
        return_features
            Return what the final layer is given, by braindecode's names.

        Returns
        -------
        tensor of shape (batch, n_outputs), or dict
            Logits; with ``return_features`` a dict of `features` (batch, feature) and `cls_token`,
            which is None.

        Raises
        ------
        UserError
            If ``x`` has another shape.
        """
        if x.ndim != 3 or x.shape[1:] != (self.n_chans, self.n_times):
            raise UserError(
                f"x has shape {tuple(x.shape)}; this model takes (batch, {self.n_chans},"
                f" {self.n_times})"
            )
        features = self.fusion(self._tokens(self._model_units(x)))
        if return_features:
            return {"features": features, "cls_token": None}
        return self.final_layer(features)

    def reset_head(self, n_outputs: int) -> None:
        """Replace the final layer by an untrained one.

        Parameters
        ----------
        n_outputs
            Number of classes of the new layer.
        """
        EEGModuleMixin._set_n_outputs(self, n_outputs)
        old = self.final_layer
        self.final_layer = nn.Linear(
            old.in_features, n_outputs, device=old.weight.device, dtype=old.weight.dtype
        )

    def _save_pretrained(self, save_directory: str | Path) -> None:
        """Write config.json and model.safetensors, and no pickle beside them."""
        config = {**build_model_config(self), "braindecode_version": braindecode_version}
        write_json(Path(save_directory) / CONFIG_FILE, config)
        save_model(self, str(Path(save_directory) / WEIGHTS_FILE))

    @staticmethod
    def _serialize_chs_info(chs_info: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        """As braindecode's, without places that are unknown: MNE has them as NaN, which JSON has
        not.
        """
        kept = EEGModuleMixin._serialize_chs_info(chs_info)
        return kept and [
            {key: value for key, value in info.items() if key != "loc" or np.isfinite(value).all()}
            for info in kept
        ]

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **options: Any) -> Self:
        """As braindecode's, but weights that are missing or left over are an error."""
        return super()._from_pretrained(strict=strict, **options)

    def _conditions(self) -> list[int]:
        """The backbone's id of each channel, the last of its table for a channel without a known
        place.
        """
        nowhere = self.backbone.config["n_channel_ids"] - 1
        ids = _nearest_channel_ids(
            [info.get("ch_name") or "" for info in self._chs_info or [{}] * self.n_chans], nowhere
        )
        if n_unknown := ids.count(nowhere):
            warnings.warn(
                f"{n_unknown} of {len(ids)} channels have no name that gives their place on the"
                " head (chs_info); they are conditioned on the mean of all channels",
                stacklevel=3,
            )
        return ids

    def _token_shape(self) -> dict[str, Any]:
        """The arguments of the fusion transformer that follow from the other parts."""
        return {
            "n_blocks": len(self.backbone.chosen_blocks(self.spec.blocks)),
            "n_pools": len(
                pool_bounds(self.n_times, self.spec.window, self.spec.stride, self.sfreq)
            ),
            "n_queries": len(self.spec.query),
            "n_channels": self.n_chans,
            "n_classes": 1,
            "d_model": self.backbone.config["d_model"],
        }

    def _model_units(
        self, x: Float[Tensor, "batch channel time"]
    ) -> Float[Tensor, "batch channel time"]:
        return self.model_units.shown_alone(x, MODEL_UNITS_PER_UNIT[self.unit])

    def _tokens(
        self, x: Float[Tensor, "batch channel time"]
    ) -> Float[Tensor, "batch block pool query channel feature"]:
        # An exported program holds operations only: the backbone becomes one of them.
        exporting = _is_exporting() or torch.jit.is_tracing()
        wanted = self.train_backbone or x.requires_grad  # of weights; or of the signal: saliency
        graph = wanted and torch.is_grad_enabled() and not exporting
        if (exporting or torch.compiler.is_compiling()) and not graph:
            return _read_backbone(x, list(self.backbone.parameters()), self._reading)
        with torch.set_grad_enabled(graph):
            return _extract(self.backbone, x, self._channel_ids, self.spec, self.sfreq)


def _nearest_channel_ids(ch_names: list[str], nowhere: int) -> list[int]:
    names = read_names(ch_names)
    placed = match_to_montage(names, TCP) if names.leads else []
    ids = {p.derivation.name: p.derivation.channel_id for p in placed}
    return [ids.get(name, nowhere) for name in ch_names]


def _with_mean_channel(backbone: SSMDP) -> SSMDP:
    """Return a copy that knows one channel more: the mean of them all, for those that are
    nowhere.
    """
    copied = SSMDP(**{**backbone.config, "n_channel_ids": backbone.config["n_channel_ids"] + 1})
    tensors = backbone.state_dict()
    table = tensors["channel_embed.weight"]
    copied.load_state_dict(
        {**tensors, "channel_embed.weight": torch.cat([table, table.mean(0, keepdim=True)])}
    )
    return copied


# --------------------------------- the backbone in compiled models: as it is, or as one operation

_extract = torch.compiler.disable(extract)
"""Its loops over tiles that fit a CPU's caches, and its own backward pass, are no gain for a
compiler, which takes minutes over them.
"""


def _is_exporting() -> bool:
    """Not by ``torch.compiler.is_exporting``: PyTorch before 2.7 lacks it, and in some later
    versions (2.9 is one) it is true in ``torch.compile`` too, which then has no gradients.
    """
    return getattr(torch.compiler, "_is_exporting_flag", False)


# PyTorch names operations namespace::name, and before 2.6 it can't infer the schema from
# annotations that are strings.
@custom_op(
    "eegdm::read_backbone",
    mutates_args=(),
    schema="(Tensor x, Tensor[] weights, str reading) -> Tensor",
)
def _read_backbone(x: Tensor, weights: list[Tensor], reading: str) -> Tensor:
    """Tokens without gradients, as an operation that exported programs can hold."""
    config, spec, channel_ids, sfreq, names = json.loads(reading)
    backbone = _empty_backbone(json.dumps(config))
    with torch.no_grad():
        return torch.func.functional_call(
            _Extracting(backbone),
            {f"backbone.{name}": weight for name, weight in zip(names, weights, strict=True)},
            (x, channel_ids, TokenSpec.from_dict(spec), sfreq),
        ).contiguous()


@_read_backbone.register_fake
def _(x: Tensor, weights: list[Tensor], reading: str) -> Tensor:
    config, spec, channel_ids, sfreq, _ = json.loads(reading)
    read = TokenSpec.from_dict(spec)
    n_blocks = len(range(config["n_blocks"])[read.blocks])
    n_pools = len(pool_bounds(x.shape[2], read.window, read.stride, sfreq))
    return x.new_empty(
        x.shape[0], n_blocks, n_pools, len(read.query), len(channel_ids), config["d_model"]
    )


class _Extracting(nn.Module):
    """Calls :func:`extract` as a module's forward, which is what ``functional_call`` calls."""

    def __init__(self, backbone: SSMDP) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, *arguments: Any) -> Tensor:
        return extract(self.backbone, *arguments)


@functools.lru_cache(maxsize=4)
def _empty_backbone(config: str) -> SSMDP:
    # Without memory: the weights come with each call.
    with torch.device("meta"):
        backbone = SSMDP(**json.loads(config))
    return backbone.eval()
