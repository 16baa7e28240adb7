"""LFT: the transformer that fuses the tokens of all channels and blocks into a decision.

Learned fusion tokens, some per pool, go up the backbone's blocks; at each they attend to one
another and to that block's tokens of all channels. A classification stack then sees the fusion
tokens of all pools together. Source: EEGDM, arXiv
2508.14086 v3; without arguments the published size, 6,898,950 parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from eegdm.errors import UserError
from eegdm.models.backbone import Compat
from eegdm.models.pretrained import Pretrained

FUSION_KINDS = ("lft", "none", "mean")


_SHORT, _MANY = 1024, 256
"""A CPU mixes by batched products where scores of one head (tokens times keys) are at most, and
heads of all windows at least, so many: SDPA's tiles are mostly overhead there. Never in a compiled
or exported program, which must not depend on the number of windows.
"""


def attend(
    attention: nn.MultiheadAttention,
    query: Float[Tensor, "batch token feature"],
    key: Float[Tensor, "batch key feature"],
    mask: Bool[Tensor, "batch key"] | None = None,
) -> Float[Tensor, "batch token feature"]:
    """Equals ``attention(query, key, key, key_padding_mask=~mask)[0]``, without making the weights;
    mask True = attend.
    """
    width, n_heads = attention.embed_dim, attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    # What attends to itself takes one product for all three
    if key is query:
        q, k, v = _heads(F.linear(query, weight, bias), 3, n_heads)
    else:
        (q,) = _heads(F.linear(query, weight[:width], bias[:width]), 1, n_heads)
        k, v = _heads(F.linear(key, weight[width:], bias[width:]), 2, n_heads)
    # See _SHORT and _MANY
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    batched = q.device.type == "cpu" and not recorded
    batched = batched and q.shape[2] * k.shape[2] <= _SHORT and len(q) * n_heads >= _MANY
    mix = _mix_batched if batched else F.scaled_dot_product_attention
    mixed = mix(q, k, v, None if mask is None else mask[:, None, None])
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))


def _heads(
    x: Float[Tensor, "batch token width"], n_parts: int, n_heads: int
) -> tuple[Float[Tensor, "batch head token feature"], ...]:
    """Part queries, keys and values that lie side by side, and their heads."""
    return x.unflatten(-1, (n_parts, n_heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def _mix_batched(
    q: Float[Tensor, "batch head token feature"],
    k: Float[Tensor, "batch head key feature"],
    v: Float[Tensor, "batch head key feature"],
    mask: Bool[Tensor, "batch 1 1 key"] | None,
) -> Float[Tensor, "batch head token feature"]:
    """Scaled dot-product attention with scores laid out (key, token): the softmax then runs along
    SIMD lanes.
    """
    keys, columns, values = k.flatten(0, 1), q.flatten(0, 1).mT, v.flatten(0, 1).mT
    # With beta=0 the first argument is not read: baddbmm is here for alpha, which saves a pass
    scores = torch.baddbmm(q.new_empty(1), keys, columns, beta=0, alpha=q.shape[-1] ** -0.5)
    if mask is not None:
        scores = scores.unflatten(0, q.shape[:2]).masked_fill(~mask.mT, -torch.inf).flatten(0, 1)
    return (values @ scores.softmax(dim=1)).unflatten(0, q.shape[:2]).mT


class FusionBlock(nn.Module):
    """Fusion tokens attend to one another, then to one block's tokens of all channels, which are
    not normalised; a feed-forward layer follows.
    """

    def __init__(self, d_model: int, n_heads: int, ff: int) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(d_model)
        self.self_attn = nn.MultiheadAttention(d_model, n_heads, batch_first=True)
        self.cross_norm = nn.LayerNorm(d_model)
        self.cross_attn = nn.MultiheadAttention(d_model, n_heads, batch_first=True)
        self.ff_norm = nn.LayerNorm(d_model)
        self.ff = _feed_forward(d_model, ff)

    def forward(
        self,
        z: Float[Tensor, "group token feature"],
        keys: Float[Tensor, "batch key feature"],
        mask: Bool[Tensor, "batch key"] | None,
    ) -> Float[Tensor, "batch token feature"]:
        """Return the fusion tokens after all three steps.

        Args:
            z: fusion tokens of each window and pool; or of each pool alone, where those of all
                windows are alike: they attend to one another once for all windows.
            keys: one block's tokens of each window and pool, pools first.
            mask: True where a key is present.
        """
        # Tokens that are alike in all windows are repeated only after they attended to one another
        z = self.self_attend(z)
        z = z.expand(keys.shape[0] // z.shape[0], -1, -1, -1).flatten(0, 1)
        z = z + attend(self.cross_attn, self.cross_norm(z), keys, mask)
        return z + self.ff(self.ff_norm(z))

    def self_attend(
        self, z: Float[Tensor, "group token feature"]
    ) -> Float[Tensor, "group token feature"]:
        """Return the fusion tokens after they attended to one another."""
        h = self.self_norm(z)
        return z + attend(self.self_attn, h, h)


class StackLayer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, d_model: int, n_heads: int, ff: int) -> None:
        super().__init__()
        self.attn_norm = nn.LayerNorm(d_model)
        self.attn = nn.MultiheadAttention(d_model, n_heads, batch_first=True)
        self.ff_norm = nn.LayerNorm(d_model)
        self.ff = _feed_forward(d_model, ff)

    def forward(
        self, x: Float[Tensor, "batch token feature"], mask: Bool[Tensor, "batch token"] | None
    ) -> Float[Tensor, "batch token feature"]:
        h = self.attn_norm(x)
        x = x + attend(self.attn, h, h, mask)
        return x + self.ff(self.ff_norm(x))


class LatentFusionTransformer(Pretrained, nn.Module):
    """Classifies the tokens of a window.

    ``kind`` "lft" is the method; its ablations have neither fusion tokens nor fusion blocks: "none"
    gives all tokens straight to the stack, "mean" their mean over blocks (published with ``depth``
    34 and 35). Any number of channels is welcome to "lft"; the ablations know a channel by its
    place, ``n_channels`` at most.

    Args:
        n_blocks: blocks of the backbone that tokens come from.
        n_pools: pools in a window.
        n_queries: kinds of activities.
        n_channels: channels; for "lft" what is usual, for the ablations the maximum.
        n_classes: logits.
        d_model: features of a token.
        n_tokens: fusion tokens per pool.
        n_heads: of every attention.
        ff: width of the feed-forward layers, in ``d_model``.
        depth: layers of the classification stack.
        kind: "lft", "none" or "mean".
        standardise: subtract a mean from the tokens and divide by a spread first (set by
            :meth:`fit_tokens`). Published: no. A small backbone's tokens are all nearly alike, and
            a short training can't tell them apart otherwise.

    Raises:
        UserError: an unknown kind, or heads that do not divide ``d_model``.
    """

    token_mean: Tensor
    token_spread: Tensor

    def __init__(
        self,
        n_blocks: int = 20,
        n_pools: int = 5,
        n_queries: int = 1,
        n_channels: int = 22,
        n_classes: int = 6,
        d_model: int = 128,
        n_tokens: int = 16,
        n_heads: int = 8,
        ff: int = 4,
        depth: int = 8,
        kind: str = "lft",
        standardise: bool = False,
    ) -> None:
        super().__init__()
        if kind not in FUSION_KINDS:
            raise UserError(
                f"fusion kind={kind!r} is unknown; choose from {', '.join(FUSION_KINDS)}"
            )
        if d_model % n_heads:
            raise UserError(
                f"d_model={d_model} can't be shared among n_heads={n_heads}; choose heads that"
                " divide it"
            )
        self.config: dict[str, Any] = {
            "n_blocks": n_blocks,
            "n_pools": n_pools,
            "n_queries": n_queries,
            "n_channels": n_channels,
            "n_classes": n_classes,
            "d_model": d_model,
            "n_tokens": n_tokens,
            "n_heads": n_heads,
            "ff": ff,
            "depth": depth,
            "kind": kind,
            "standardise": standardise,
        }
        self.kind, self.standardise = kind, standardise
        if standardise:
            self.register_buffer("token_mean", torch.zeros(n_blocks, 1, n_queries, 1, d_model))
            self.register_buffer("token_spread", torch.ones(n_blocks, 1, n_queries, 1, d_model))
        if kind == "lft":
            self.fusion_tokens = nn.Parameter(torch.rand(n_pools, n_tokens, d_model))
            self.fusion_blocks = nn.ModuleList(
                FusionBlock(d_model, n_heads, ff) for _ in range(n_blocks)
            )
            self.position = nn.Parameter(torch.rand(n_pools, n_tokens, d_model))
        else:
            n_levels = n_blocks if kind == "none" else 1
            self.position = nn.Parameter(
                torch.rand(n_levels * n_pools * n_queries * n_channels, d_model)
            )
        self.stack = nn.ModuleList(StackLayer(d_model, n_heads, ff) for _ in range(depth))
        self.out = nn.Linear(d_model, n_classes)

    def forward(
        self,
        tokens: Float[Tensor, "batch block pool query channel feature"],
        mask: Bool[Tensor, "batch channel"] | None = None,
        compat: Compat = None,
    ) -> Float[Tensor, "batch class"]:
        """Return logits. A padded batch with its mask equals its members one by one.

        Args:
            tokens: as :func:`eegdm.models.latents.extract` makes them.
            mask: True where a channel is there; None: all are.
            compat: "published" takes tokens with too few pools, as the published code does at
                sampling rates below 200 Hz: the first pools are fused, the other pools' fusion
                tokens enter the stack as they were learned.

        Raises:
            UserError: tokens of another shape, or a window without any channel.
        """
        present = None
        if self.kind == "lft":
            sequence = (self.fuse(tokens, mask, compat) + self.position).flatten(1, 2)
        else:
            sequence, present = self._flatten(tokens, mask)
        for layer in self.stack:
            sequence = layer(sequence, present)
        return self.out(_mean_of_present(sequence, present))

    @torch.no_grad()
    def fit_tokens(
        self,
        tokens: Float[Tensor, "batch block pool query channel feature"],
        mask: Bool[Tensor, "batch channel"] | None = None,
    ) -> None:
        """Take the mean and spread of each block's features from tokens of the training part
        (``standardise`` alone).

        Args:
            tokens: of windows of the training part.
            mask: True where a channel is there; None: all are.
        """
        if mask is None:
            mask = tokens.new_ones(tokens.shape[0], tokens.shape[4], dtype=torch.bool)
        # Absent channels weigh nothing: their tokens are zeros that no electrode has recorded
        weight = mask.to(tokens.dtype)[:, None, None, None, :, None].expand_as(tokens)
        over, count = (0, 2, 4), weight.sum((0, 2, 4), keepdim=True)
        mean = (tokens * weight).sum(over, keepdim=True) / count
        variance = ((tokens - mean).square() * weight).sum(over, keepdim=True) / count
        self.token_mean.copy_(mean[0])
        # A feature that never changes must not become NaN
        self.token_spread.copy_(variance[0].sqrt().clamp(min=1e-6))

    def fuse(
        self,
        tokens: Float[Tensor, "batch block pool query channel feature"],
        mask: Bool[Tensor, "batch channel"] | None = None,
        compat: Compat = None,
    ) -> Float[Tensor, "batch fused token feature"]:
        """Return the fusion tokens of each pool after the last block; arguments as in
        :meth:`forward`.

        Raises:
            UserError: another kind than "lft", which has no fusion tokens; or as :meth:`forward`.
        """
        if self.kind != "lft":
            raise UserError(
                f"fusion kind={self.kind!r} has no fusion tokens; only kind='lft' fuses"
            )
        tokens, mask = self._checked(tokens, mask, compat)
        batch, _, n_pools, n_queries = tokens.shape[:4]
        z = self.fusion_tokens[:n_pools]
        # As the keys lie: pools folded into the batch, queries beside channels
        if mask is not None:
            mask = mask.repeat_interleave(n_pools, dim=0).repeat(1, n_queries)
        for i, block in enumerate(cast("Iterable[FusionBlock]", self.fusion_blocks)):
            z = block(z, tokens[:, i].flatten(2, 3).flatten(0, 1), mask)
        untouched = self.fusion_tokens[n_pools:].expand(batch, -1, -1, -1)
        return torch.cat([z.unflatten(0, (batch, n_pools)), untouched], dim=1)

    def _flatten(
        self,
        tokens: Float[Tensor, "batch block pool query channel feature"],
        mask: Bool[Tensor, "batch channel"] | None,
    ) -> tuple[Float[Tensor, "batch token feature"], Bool[Tensor, "batch token"] | None]:
        """Return the stack's input in the ablations, and which of it is there."""
        tokens, mask = self._checked(tokens, mask, compat=None)
        if self.kind == "mean":
            tokens = tokens.mean(dim=1, keepdim=True)
        levels = tokens.shape[1:4]
        position = self.position.unflatten(0, (*levels, self.config["n_channels"]))[
            ..., : tokens.shape[4], :
        ]
        if mask is not None:
            mask = mask[:, None, None, None].expand(-1, *levels, -1).flatten(1)
        return (tokens + position).flatten(1, 4), mask

    def _checked(
        self,
        tokens: Float[Tensor, "batch block pool query channel feature"],
        mask: Bool[Tensor, "batch channel"] | None,
        compat: Compat,
    ) -> tuple[
        Float[Tensor, "batch block pool query channel feature"],
        Bool[Tensor, "batch channel"] | None,
    ]:
        """Return the arguments, tokens standardised and absent channels set to zero; refuse what
        does not fit.
        """
        if tokens.ndim != 6:
            raise UserError(
                f"tokens have shape {tuple(tokens.shape)}, not (batch, block, pool, query, channel,"
                " feature)"
            )
        axes = ("n_blocks", "n_pools", "n_queries", "n_channels", "d_model")
        got = dict(zip(axes, tokens.shape[1:], strict=True))
        wanted = {axis: self.config[axis] for axis in axes}
        if got["n_channels"] < wanted["n_channels"] or self.kind == "lft":
            wanted["n_channels"] = got["n_channels"]
        if compat == "published" and got["n_pools"] < wanted["n_pools"]:
            wanted["n_pools"] = got["n_pools"]
        if got != wanted:
            faults = ", ".join(
                f"{axis}={got[axis]} (not {wanted[axis]})"
                for axis in axes
                if got[axis] != wanted[axis]
            )
            raise UserError(
                f"tokens have {faults}; give the classifier tokens made as those it was trained on"
            )
        if self.standardise:
            tokens = (tokens - self.token_mean) / self.token_spread
        # Attention without a mask is faster, and most batches lack no channel
        if mask is None or bool(mask.all()):
            return tokens, None
        if not bool(mask.any(dim=1).all()):
            raise UserError(
                "the channel mask leaves a window without any channel; leave that window out"
            )
        # A missing channel may hold anything, also NaN, which a weight of zero would not remove
        return tokens.masked_fill(~mask[:, None, None, None, :, None], 0.0), mask


def _mean_of_present(
    x: Float[Tensor, "batch token feature"], mask: Bool[Tensor, "batch token"] | None
) -> Float[Tensor, "batch feature"]:
    if mask is None:
        return x.mean(dim=1)
    return (x * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def _feed_forward(d_model: int, ff: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(d_model, ff * d_model), nn.GELU(), nn.Linear(ff * d_model, d_model)
    )
