"""A linear classifier of tokens: what few labels allow where a transformer would need many."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from eegdm.errors import UserError
from eegdm.models.backbone import Compat


class LinearHead(nn.Module):
    """Classifies the tokens of a window by the logs of their means over its pools, standardised.

    The tokens must be standard deviations (``pool="std"``). An absent channel is left out of the
    mean over channels; where each channel has weights of its own, it counts as average.

    Args:
        n_blocks, n_queries, n_channels, d_model: the axes of the tokens; there may be any number of
            pools, and without ``per_channel`` any number of channels.
        n_classes: logits.
        per_channel: give each channel weights of its own; else the logs are averaged over channels.
        floor: what is added to the tokens before the log is taken.
    """

    value_mean: Tensor
    value_spread: Tensor

    def __init__(
        self,
        n_blocks: int = 20,
        n_queries: int = 1,
        n_channels: int = 22,
        n_classes: int = 2,
        d_model: int = 128,
        per_channel: bool = False,
        floor: float = 1e-3,
    ) -> None:
        super().__init__()
        if not floor > 0:
            raise UserError(f"floor={floor}: must be above 0, for a log is taken")
        self.config: dict[str, Any] = {
            "n_blocks": n_blocks,
            "n_queries": n_queries,
            "n_channels": n_channels,
            "n_classes": n_classes,
            "d_model": d_model,
            "per_channel": per_channel,
            "floor": floor,
        }
        self.per_channel, self.floor = per_channel, floor
        shape = (n_channels if per_channel else 1, n_blocks * n_queries * d_model)
        self.register_buffer("value_mean", torch.zeros(shape))
        self.register_buffer("value_spread", torch.ones(shape))
        self.out = nn.Linear(shape[0] * shape[1], n_classes)

    def forward(
        self,
        tokens: Float[Tensor, "batch block pool query channel feature"],
        mask: Bool[Tensor, "batch channel"] | None = None,
        compat: Compat = None,
    ) -> Float[Tensor, "batch class"]:
        """Return logits. ``compat`` changes nothing: the published code has no such head."""
        return self.classify(tokens.mean(dim=2), mask)

    def classify(
        self,
        pooled: Float[Tensor, "batch block query channel feature"],
        mask: Bool[Tensor, "batch channel"] | None = None,
    ) -> Float[Tensor, "batch class"]:
        """Return logits of tokens that are averaged over pools.

        Args:
            mask: True where a channel is there; a missing one may hold anything.

        Raises:
            UserError: tokens of other axes, or a window without any channel.
        """
        self._check(pooled, mask)
        values = (self.values(pooled, mask) - self.value_mean) / self.value_spread
        if self.per_channel and mask is not None:
            values = values.masked_fill(~mask[:, :, None], 0.0)
        return self.out(values.flatten(1))

    def values(
        self,
        pooled: Float[Tensor, "batch block query channel feature"],
        mask: Bool[Tensor, "batch channel"] | None = None,
    ) -> Float[Tensor, "batch place value"]:
        """Return what is weighted, before it is standardised: of each channel, or of all in one
        place.
        """
        logs = (pooled.permute(0, 3, 1, 2, 4).flatten(2) + self.floor).log()
        if self.per_channel:
            return logs
        if mask is None:
            return logs.mean(dim=1, keepdim=True)
        present = mask[:, :, None]
        total = logs.masked_fill(~present, 0.0).sum(dim=1, keepdim=True)
        return total / present.sum(dim=1, keepdim=True)

    def _check(self, pooled: Tensor, mask: Tensor | None) -> None:
        axes = ("n_blocks", "n_queries", "n_channels", "d_model")
        got = dict(zip(axes, pooled.shape[1:], strict=True))
        faults = [
            f"{axis}={got[axis]} (not {self.config[axis]})"
            for axis in axes
            if got[axis] != self.config[axis] and (self.per_channel or axis != "n_channels")
        ]
        if faults:
            raise UserError(
                f"tokens have {', '.join(faults)}; give the classifier tokens made as those it was"
                " trained on"
            )
        if mask is not None and not bool(mask.any(dim=1).all()):
            raise UserError(
                "the channel mask leaves a window without any channel; leave that window out"
            )
