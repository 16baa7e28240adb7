"""EEGDM: backbone and fusion transformer in one, windows of EEG in, logits out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from eegdm.data.montage import CHANNEL_ID, TCP
from eegdm.errors import UserError
from eegdm.models.backbone import SSMDP, Compat
from eegdm.models.centring import CENTRES, divided, reference_of
from eegdm.models.fusion import LatentFusionTransformer
from eegdm.models.latents import TokenSpec, extract
from eegdm.models.linear import LinearHead
from eegdm.models.pooling import SFREQ, pool_bounds
from eegdm.models.pretrained import TEACHER, Pretrained
from eegdm.tuev import TUEV_CLASSES

LINEAR = "linear"
_AT_ONCE = 16  # windows of a reference


class EEGDM(Pretrained, nn.Module):
    """A classifier of EEG windows; without arguments the published TUEV model at full size.

    Args:
        backbone: the network that is read, or its arguments.
        fusion: the classifier of tokens, or those of its arguments that do not follow from the
            others; ``kind`` "linear" is a :class:`LinearHead`, any other a
            :class:`LatentFusionTransformer`.
        tokens: what is read from the backbone.
        channels: names of the channels of a window, in order: of TCP, or with ``taken_for`` any.
        taken_for: for each channel the name of TCP that the backbone takes it for; without it,
            ``channels`` are these names.
        classes: names of the classes; one alone is a binary decision with one logit.
        sfreq: sampling rate of the windows, Hz.
        n_times: samples of a window.
        signal: how recordings were filtered and companded; kept for those who read recordings, not
            used here.
        decision: which classes are events, thresholds and the like; kept, not used here.
        compat: "published" for classifiers that were trained with the published errors; see
            :class:`SSMDP`.
        centre: None, or over what its tokens are centred, "recording" or "subject"; see
            :mod:`eegdm.models.centring`. Such a classifier needs a :meth:`reference`.

    Raises:
        UserError: an unknown channel, or parts that do not fit one another.
    """

    def __init__(
        self,
        backbone: SSMDP | dict[str, Any] | None = None,
        fusion: LatentFusionTransformer | LinearHead | dict[str, Any] | None = None,
        tokens: TokenSpec | dict[str, Any] | None = None,
        channels: Sequence[str] = TCP,
        classes: Sequence[str] = TUEV_CLASSES,
        sfreq: float = SFREQ,
        n_times: int = 1000,
        signal: dict[str, Any] | None = None,
        decision: dict[str, Any] | None = None,
        compat: Compat = None,
        taken_for: Sequence[str] | None = None,
        centre: str | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.classes = tuple(channels), tuple(classes)
        self.taken_for = None if taken_for is None else tuple(taken_for)
        if self.taken_for is not None:
            _check_own(self.channels, self.taken_for)
        self.channel_ids = _ids_of(self.taken_for or self.channels)
        self.sfreq, self.n_times, self.compat = sfreq, n_times, compat
        self.signal, self.decision = dict(signal or {}), dict(decision or {})
        self.spec = tokens if isinstance(tokens, TokenSpec) else TokenSpec.from_dict(tokens or {})
        self.backbone = backbone if isinstance(backbone, SSMDP) else SSMDP(**(backbone or {}))
        self.centre = centre
        if centre is not None:
            _check_centre(centre, self.spec)
        shape = self._token_shape()
        if not isinstance(fusion, LatentFusionTransformer | LinearHead):
            fusion = make_fusion(shape, fusion or {})
        self.fusion = fusion
        _check_fit(shape, fusion.config)

    @property
    def config(self) -> dict[str, Any]:  # type: ignore[override]  # computed: signal and decision may be set later
        """The JSON-able arguments that build this model again."""
        return {
            "backbone": self.backbone.config,
            "fusion": self._fusion_config(),
            "tokens": self.spec.to_dict(),
            "channels": list(self.channels),
            "classes": list(self.classes),
            "sfreq": self.sfreq,
            "n_times": self.n_times,
            "signal": self.signal,
            "decision": self.decision,
            "compat": self.compat,
            **({} if self.taken_for is None else {"taken_for": list(self.taken_for)}),
            **({} if self.centre is None else {"centre": self.centre}),
        }

    def _fusion_config(self) -> dict[str, Any]:
        """A transformer's config names its own kind."""
        linear = {"kind": LINEAR} if isinstance(self.fusion, LinearHead) else {}
        return {**linear, **self.fusion.config}

    def forward(
        self,
        x: Float[Tensor, "batch channel time"],
        mask: Bool[Tensor, "batch channel"] | None = None,
        sfreq: float | None = None,
        noise: Float[Tensor, "batch channel time"] | torch.Generator | None = None,
        reference: Float[Tensor, "... block query channel feature"] | None = None,
    ) -> Float[Tensor, "batch class"]:
        """Return logits of windows.

        Args:
            x: windows in model units (100 µV, companded), channels as in ``channels``.
            mask: True where a channel is there; a missing one may hold anything.
            sfreq: the windows' sampling rate, Hz, if it is not the model's.
            noise: for tokens with ``forward="noisy"``: standard normal noise, or a seeded generator
                to draw it from.
            reference: for a classifier of centred tokens: of the person whose windows these are.

        Raises:
            UserError: other channels than the model's, a reference that is missing or not wanted,
                or what :func:`extract` raises.
        """
        self._check_reference(reference)
        if x.ndim != 3 or x.shape[1] != len(self.channels):
            raise UserError(
                f"x has shape {tuple(x.shape)}; the model takes (batch, {len(self.channels)},"
                f" time): {', '.join(self.channels)}"
            )
        if isinstance(noise, torch.Generator):
            # A generator draws on its own device alone; one of the CPU serves models on any
            noise = torch.randn(x.shape, generator=noise, device=noise.device, dtype=x.dtype).to(
                x.device
            )
        sfreq = self.sfreq if sfreq is None else sfreq
        tokens = extract(self.backbone, x, self.channel_ids, self.spec, sfreq, noise, self.compat)
        return self.logits_from_tokens(tokens, mask, reference)

    @torch.no_grad()
    def reference(
        self, x: Float[Tensor, "window channel time"], sfreq: float | None = None
    ) -> Float[Tensor, "block query channel feature"]:
        """Return what is usual for a person, which a classifier of centred tokens divides by.

        Args:
            x: windows of the person in model units, channels as in ``channels``, spread over a
                recording; :func:`eegdm.predict` takes those of
                :meth:`eegdm.data.windows.WindowGrid.reference`. A channel that the person lacks may
                hold anything, for a mask leaves it out later.
            sfreq: the windows' sampling rate, Hz, if it is not the model's.

        Raises:
            UserError: one window alone, or what :func:`extract` raises.
        """
        sfreq = self.sfreq if sfreq is None else sfreq
        pooled = [
            extract(
                self.backbone, part, self.channel_ids, self.spec, sfreq, compat=self.compat
            ).mean(dim=2)
            for part in x.split(_AT_ONCE)
        ]
        return reference_of(torch.cat(pooled).float())

    def centred(
        self,
        tokens: Float[Tensor, "batch block pool query channel feature"],
        reference: Float[Tensor, "... block query channel feature"] | None,
    ) -> Float[Tensor, "batch block pool query channel feature"]:
        """Return tokens as the classifier of tokens takes them: centred, if it learned from such.

        Raises:
            UserError: the reference is missing or not wanted.
        """
        self._check_reference(reference)
        return tokens if reference is None else divided(tokens, reference)

    def _check_reference(self, reference: Tensor | None) -> None:
        if self.centre is not None and reference is None:
            raise UserError(
                f"this classifier learned from tokens that are centred per {self.centre}: it needs"
                " reference=, which model.reference makes of windows of the same person;"
                " eegdm.predict does that for a recording"
            )
        if self.centre is None and reference is not None:
            raise UserError(
                "this classifier learned from tokens that are not centred; leave reference= out"
            )

    def logits_from_tokens(
        self,
        tokens: Float[Tensor, "batch block pool query channel feature"],
        mask: Bool[Tensor, "batch channel"] | None = None,
        reference: Float[Tensor, "... block query channel feature"] | None = None,
    ) -> Float[Tensor, "batch class"]:
        """Return logits of tokens.

        Args:
            tokens: made as ``spec`` says, not centred.
            mask: True where a channel is there.
            reference: as in :meth:`forward`; one for all windows, or one for each.

        Raises:
            UserError: a reference that is missing or not wanted, or other tokens than the
                classifier's.
        """
        return self.fusion(self.centred(tokens, reference), mask, self.compat)

    def _token_shape(self) -> dict[str, int]:
        """The arguments of the classifier of tokens that follow from the other parts."""
        return {
            "n_blocks": len(self.backbone.chosen_blocks(self.spec.blocks)),
            "n_pools": len(
                pool_bounds(self.n_times, self.spec.window, self.spec.stride, self.sfreq)
            ),
            "n_queries": len(self.spec.query),
            "n_channels": len(self.channels),
            "n_classes": len(self.classes),
            "d_model": self.backbone.config["d_model"],
        }


def backbone_of(model: EEGDM | SSMDP) -> SSMDP:
    """Return a backbone, or that of a classifier, which it shares its weights with.

    A classifier's settings describe its backbone too: the published errors, the noise schedule, and
    how signals were treated. The backbone that is returned has them as its own.
    """
    if isinstance(model, SSMDP):
        return model
    # A shallow copy shares the weights; its settings are replaced, never changed, since the
    # classifier keeps the old ones
    backbone = copy.copy(model.backbone)
    backbone.compat = model.compat or backbone.compat
    backbone.config = {**backbone.config, "compat": backbone.compat}
    signal = model.signal or backbone.info.get("signal", {})
    backbone.info = {**backbone.info, "diffusion": model.spec.noise, "signal": signal}
    if TEACHER in model.info:
        backbone.info[TEACHER] = model.info[TEACHER]
    return backbone


def noise_of(backbone: SSMDP) -> dict[str, Any]:
    """Return the settings of the noise schedule that a backbone learned with: what its file says,
    the published ones where it says nothing.

    Raises:
        UserError: the file describes a schedule in words that this version does not know.
    """
    published, stated = TokenSpec().noise, dict(backbone.info.get("diffusion", {}))
    if unknown := sorted(stated.keys() - published.keys()):
        raise UserError(
            "the model's config.json describes its diffusion in words that this version does not"
            f" know: {', '.join(unknown)}; known are {', '.join(published)}"
        )
    return published | stated


def make_fusion(
    shape: dict[str, int], arguments: dict[str, Any]
) -> LatentFusionTransformer | LinearHead:
    if arguments.get("kind") != LINEAR:
        return LatentFusionTransformer(**(shape | arguments))
    of_tokens = {axis: size for axis, size in shape.items() if axis != "n_pools"}
    return LinearHead(**(of_tokens | {k: v for k, v in arguments.items() if k != "kind"}))


def _check_centre(centre: str, spec: TokenSpec) -> None:
    if centre not in CENTRES:
        raise UserError(f"centre={centre!r} is unknown; choose from {', '.join(CENTRES)}")
    if set(spec.pool) != {"std"} or spec.forward == "noisy":
        raise UserError(
            f"centre={centre}: tokens have pool {', '.join(spec.pool)} and forward={spec.forward};"
            " only standard deviations (pool std) without noise can be centred"
        )


def _check_own(channels: tuple[str, ...], taken_for: tuple[str, ...]) -> None:
    if len(taken_for) != len(channels) or len(set(channels)) != len(channels):
        raise UserError(
            f"taken_for names {len(taken_for)} channels for {len(channels)}, of which"
            f" {len(set(channels))} differ; name one for each, and each once"
        )


def _ids_of(channels: tuple[str, ...]) -> list[int]:
    unknown = [name for name in channels if name not in CHANNEL_ID]
    if unknown or not channels:
        raise UserError(
            f"channels={list(channels)}: {', '.join(unknown) or 'nothing'} is not of the montage; "
            f"choose from {', '.join(TCP)}"
        )
    return [CHANNEL_ID[name] for name in channels]


def _check_fit(shape: dict[str, int], fusion: dict[str, Any]) -> None:
    faults = [
        f"{axis}={fusion[axis]} (the model has {size})"
        for axis, size in shape.items()
        if fusion.get(axis, size) != size
    ]
    if faults:
        raise UserError(
            f"fusion has {', '.join(faults)}: build it for this backbone, these channels and"
            " windows"
        )
