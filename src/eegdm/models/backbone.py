"""SSMDP: the state-space network that denoises one EEG channel and whose activities become tokens.

Source: EEGDM, arXiv 2508.14086 v3, section "SSMDP"; without arguments the published size, 5,931,649
parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, cast

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from eegdm.errors import UserError
from eegdm.models import residual
from eegdm.models.pooling import PART, POOLS, SFREQ, parts, pool
from eegdm.models.pretrained import Pretrained
from eegdm.models.residual import Activities
from eegdm.models.s4d import S4D
from eegdm.models.threads import over_rows

QUERIES = ("gate", "filter", "inter")
Compat = Literal["published"] | None

_SAMPLES_AT_ONCE = {"cpu": 12_000}
_SAMPLES_AT_ONCE_ELSEWHERE = 512_000
"""Samples, over all rows, that a thread leads through all blocks at once without gradients: a
window of 22 channels on two threads, whose stream stays in a CPU's last cache; what fills an
accelerator.
"""


class Block(nn.Module):
    """A residual block: norm, condition, widen, SSMs, gate. ``next`` and ``skip`` lead on; the last
    block has no next.
    """

    def __init__(self, d_model: int, d_state: int, d_cond: int, last: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.condition = nn.Linear(d_cond, d_model)
        self.widen = nn.Linear(d_model, 2 * d_model)
        self.ssm = S4D(2 * d_model, d_state)
        self.next = None if last else nn.Linear(d_model, d_model)
        self.skip = nn.Linear(d_model, d_model)
        # A fresh block ignores step and channel, and learns from there how much of them it needs
        nn.init.zeros_(self.condition.weight)
        nn.init.zeros_(self.condition.bias)

    def forward(
        self,
        x: Float[Tensor, "batch time feature"],
        condition: Float[Tensor, "batch cond"],
        rate: float,
        compute_next: bool = True,
    ) -> tuple[Activities, Float[Tensor, "batch time feature"]]:
        """Return the activities and the next block's input: ``x`` itself without ``compute_next``.

        In plain modules, for autograd; what need not be recorded goes through
        :mod:`eegdm.models.residual`.

        Args:
            x: the stream.
            condition: of step and channel.
            rate: factor of dt, see :class:`S4D`.
            compute_next: whether a later block is wanted.
        """
        h = self.norm(x) + self.condition(condition)[:, None]
        gate, filtered = self.ssm(self.widen(h), rate).chunk(2, dim=-1)
        gate, filtered = gate.sigmoid(), filtered.tanh()
        inter = gate * filtered
        next_input = x + self.next(inter) if compute_next and self.next is not None else x
        return Activities(gate, filtered, inter), next_input

    def lead(self) -> residual.Lead:
        """Return the weights to [next stream, skips] stacked: one product with both reads the
        activities once.
        """
        leads = [self.skip] if self.next is None else [self.next, self.skip]
        return residual.Lead(
            *(torch.cat([getattr(lead, name) for lead in leads]) for name in ("weight", "bias"))
        )

    def folded(
        self, condition: Float[Tensor, "batch cond"], spectrum: Complex[Tensor, "wide bin"]
    ) -> residual.Folded:
        """Return the weights up to the gates, with all that does not depend on the stream folded
        in.
        """
        constant = self.widen(self.norm.bias + self.condition(condition)).to(
            self.widen.weight.dtype
        )
        # tanh y = 2 sigmoid(2 y) - 1: with the filter's half doubled, one sigmoid serves both
        double = torch.ones_like(self.widen.bias)
        double[len(double) // 2 :] = 2
        return residual.Folded(
            constant * double, self.widen.weight * self.norm.weight * double[:, None], spectrum
        )


class SSMDP(Pretrained, nn.Module):
    """Predicts the diffusion velocity of one channel, given the step and the channel's id.

    Signals are in model units (100 µV, companded); steps count from 0. ``compat="published"``
    repeats two errors of the published code: dt is scaled by f/200 instead of 200/f, with pools of
    200 samples at any rate, and in signals of several parts channels and parts are mixed up.

    Args:
        d_model: features per sample (H).
        n_blocks: residual blocks.
        d_state: SSM states, two per conjugate pair of modes.
        d_cond: width of the condition vector.
        d_embed: width of the step and channel embeddings; even, at least 4.
        n_channel_ids: channels that the backbone can be conditioned on.
        compat: what the methods do where their own ``compat`` is None; None: no error.

    Raises:
        UserError: an odd or too small ``d_state`` or ``d_embed``, or (in the methods) a signal,
            channels or a precision that the model does not take.
    """

    def __init__(
        self,
        d_model: int = 128,
        n_blocks: int = 20,
        d_state: int = 128,
        d_cond: int = 512,
        d_embed: int = 128,
        n_channel_ids: int = 22,
        compat: Compat = None,
    ) -> None:
        super().__init__()
        if d_state < 2 or d_state % 2 or d_embed < 4 or d_embed % 2:
            raise UserError(
                f"d_state={d_state}, d_embed={d_embed}: both must be even, at least 2 and 4"
            )
        self.config: dict[str, Any] = {
            "d_model": d_model,
            "n_blocks": n_blocks,
            "d_state": d_state,
            "d_cond": d_cond,
            "d_embed": d_embed,
            "n_channel_ids": n_channel_ids,
            "compat": compat,
        }
        self.compat = compat
        self.lift = nn.Linear(1, d_model)
        self.blocks = nn.ModuleList(
            Block(d_model, d_state, d_cond, last=i == n_blocks - 1) for i in range(n_blocks)
        )
        self.head = _head(d_model)
        self.step_mlp = _condition_mlp(d_embed, d_cond)
        self.channel_embed = nn.Embedding(n_channel_ids, d_embed)
        self.channel_mlp = _condition_mlp(d_embed, d_cond)

    def forward(
        self,
        x: Float[Tensor, "batch 1 time"],
        step: Int[Tensor, " batch"],
        channel: Int[Tensor, " batch"],
        sfreq: float = SFREQ,
        compat: Compat = None,
    ) -> Float[Tensor, "batch 1 time"]:
        """Return the velocity of noised signals.

        Args:
            x: noised signals of one channel each, in model units (100 µV, companded).
            step: diffusion step of each, counted from 0.
            channel: channel id of each, 0 .. ``n_channel_ids`` - 1.
            sfreq: sampling rate of ``x``, Hz.
            compat: "published" repeats the published errors; None: as the model was built.

        Returns:
            The predicted velocity of each signal, in model units.
        """
        x, rate = self._checked(x), _rate(sfreq, compat or self.compat)
        condition = self._condition(step, channel)
        blocks = [
            (block.folded(condition, block.ssm.spectrum(x.shape[2], rate)), block.lead())
            for block in self._blocks
        ]
        return self.head(residual.sum_of_skips(self._lifted(x), blocks).mT).mT

    def activations(
        self,
        x: Float[Tensor, "batch 1 time"],
        step: Int[Tensor, " batch"],
        channel: Int[Tensor, " batch"],
        query: str = "gate",
        sfreq: float = SFREQ,
        compat: Compat = None,
    ) -> Float[Tensor, "batch block time feature"]:
        """Return the activities of every block at each sample.

        Args:
            x: signals of one channel each, in model units.
            step: diffusion step of each, counted from 0.
            channel: channel id of each.
            query: "gate" (0..1), "filter" (-1..1) or "inter", their product.
            sfreq: sampling rate of ``x``, Hz.
            compat: as in :meth:`forward`.
        """
        _check_choices("query", (query,), QUERIES)
        rate, everywhere = _rate(sfreq, compat or self.compat), range(len(self.blocks))

        def queried(activities: Activities) -> Float[Tensor, "row time feature"]:
            return getattr(activities, query)

        return self._walk(x, step, channel, rate, everywhere, queried)

    def tokens(
        self,
        x: Float[Tensor, "batch channel time"],
        channels: Sequence[int] | Int[Tensor, " channel"],
        query: str | Sequence[str] = "gate",
        pool: str | Sequence[str] = "std",
        step: int = 1,
        sfreq: float = SFREQ,
        window: int = 200,
        stride: int = 200,
        compat: Compat = None,
        blocks: slice = slice(None),
    ) -> Float[Tensor, "batch block pool query channel feature"]:
        """Return pooled activities of every channel, pools in order of time.

        A signal longer than 5 s is taken in parts of 5 s, each on its own. Runs under the caller's
        grad mode; without gradients the memory is bounded whatever the number of rows.

        Args:
            x: signals in model units (100 µV, companded).
            channels: the channel id of each channel of ``x``.
            query: what to read: "gate", "filter", "inter", or several of them.
            pool: how to pool it over time: "std" or "mean"; one for each query.
            step: the diffusion step that the backbone is given, counted from 0.
            sfreq: sampling rate of ``x``, Hz.
            window: length of a pool, in samples at 200 Hz, 2..1000.
            stride: from one pool to the next, in samples at 200 Hz.
            compat: as in :meth:`forward`.
            blocks: the blocks to read; those after it are not computed.

        Returns:
            Tokens in the unit of the activities; pools as :func:`eegdm.models.pooling.parts` lays
            them out.

        Raises:
            UserError: an unknown query or pool, channel ids that do not fit, or a signal without a
                whole pool.
        """
        compat = compat or self.compat
        rate, reads = _rate(sfreq, compat), _reads(query, pool)
        ids = self._channel_ids(channels, x.shape[1])
        if compat == "published":
            x = _mix_parts(x)
        chosen = self.chosen_blocks(blocks)
        layout = parts(x.shape[2], window, stride, SFREQ if compat == "published" else sfreq)
        rows, row_ids = x.flatten(0, 1)[:, None], ids.repeat(len(x)).to(x.device)
        of_parts = [
            self._read(
                rows[..., part.start : part.stop], row_ids, step, rate, part.pools, reads, chosen
            )
            for part in layout
        ]
        return torch.cat(of_parts, dim=2).unflatten(0, x.shape[:2]).permute(0, 2, 3, 4, 1, 5)

    def chosen_blocks(self, blocks: slice) -> range:
        """Return the indices of ``blocks``; refuse what is none, or beyond the last."""
        n_blocks = len(self.blocks)
        chosen = range(n_blocks)[blocks]
        if not chosen or (blocks.stop or 0) > n_blocks:
            raise UserError(
                f"blocks {blocks.start or 0}..{blocks.stop or n_blocks} are not within the"
                f" backbone's 0..{n_blocks}"
            )
        return chosen

    def _read(
        self,
        rows: Float[Tensor, "row 1 time"],
        ids: Int[Tensor, " row"],
        step: int,
        rate: float,
        bounds: list[tuple[int, int]],
        reads: list[tuple[str, str]],
        chosen: range,
    ) -> Float[Tensor, "row block pool query feature"]:
        """Pool as activities come, so that they never exist at full length but for gradients."""

        def pooled(activities: Activities) -> Float[Tensor, "row pool query feature"]:
            return torch.stack(
                [pool(getattr(activities, query), bounds, kind) for query, kind in reads], dim=2
            )

        steps = torch.full_like(ids, step)
        return self._walk(rows, steps, ids, rate, chosen, pooled)

    def _walk(
        self,
        x: Float[Tensor, "row 1 time"],
        step: Int[Tensor, " row"],
        channel: Int[Tensor, " row"],
        rate: float,
        chosen: range,
        read_activities: Callable[[Activities], Tensor],
    ) -> Float[Tensor, "row block ..."]:
        """Return what ``read_activities`` makes of each chosen block's activities; what comes after
        the last of them is not computed.
        """
        x = self._checked(x)
        condition = self._condition(step, channel)
        blocks = list(islice(self._blocks, chosen.stop))
        if torch.is_grad_enabled():
            # Autograd keeps all activities anyway, so that plain modules are as good
            values, stream = [], self._lifted(x).mT
            for index, block in enumerate(blocks):
                activities, stream = block(stream, condition, rate, index + 1 < len(blocks))
                if index in chosen:
                    values.append(read_activities(activities))
            return torch.stack(values, dim=1)
        # Before the rows are divided: kernels are not a matter of rows
        spectra = [block.ssm.spectrum(x.shape[2], rate) for block in blocks]

        def work_on(rows: slice) -> Float[Tensor, "row block ..."]:
            return torch.cat([through_blocks(group) for group in _groups(rows, x)])

        def through_blocks(group: slice) -> Float[Tensor, "row block ..."]:
            stream, values = self._lifted(x[group]), []
            for index, (block, spectrum) in enumerate(zip(blocks, spectra, strict=True)):
                value = residual.read(
                    stream,
                    block.folded(condition[group], spectrum),
                    read_activities if index in chosen else None,
                    block.next if index + 1 < len(blocks) else None,
                )
                if value is not None:
                    values.append(value)
            return torch.stack(values, dim=1)

        return torch.cat(over_rows(x, work_on))

    def _condition(
        self, step: Int[Tensor, " row"], channel: Int[Tensor, " row"]
    ) -> Float[Tensor, "row cond"]:
        precision = self.lift.weight.dtype
        embedded = step_embedding(step, self.channel_embed.embedding_dim).to(precision)
        condition = self.step_mlp(embedded) + self.channel_mlp(self.channel_embed(channel))
        return condition.to(precision)

    def _lifted(self, x: Float[Tensor, "row 1 time"]) -> Float[Tensor, "row feature time"]:
        """Return the first block's stream."""
        # A broadcast product: nn.Linear would need x transposed
        return (x * self.lift.weight + self.lift.bias[:, None]).relu()

    def _checked(self, x: Float[Tensor, "batch 1 time"]) -> Float[Tensor, "batch 1 time"]:
        """Return ``x`` in the precision of the weights; refuse what gives no or wrong numbers."""
        # A trace would record the loops over rows for this one shape, and be wrong for others
        if torch.jit.is_tracing():
            raise UserError(
                "torch.jit.trace can't record the backbone, whose loops depend on the signal's"
                " shape; trace or export eegdm.braindecode.EEGDM, where it is one operation"
            )
        if x.ndim != 3 or x.shape[1] != 1:
            raise UserError(
                f"x has shape {tuple(x.shape)}; the backbone takes (batch, 1, time), one channel"
                " a row"
            )
        precision = self.lift.weight.dtype
        if precision not in (torch.float32, torch.float64):
            raise UserError(
                f"the backbone's weights are {precision}, too coarse for the frequencies of its"
                " kernels; keep the model in float32 (model.float()) and use torch.autocast for"
                " half precision"
            )
        if x.dtype != precision and not torch.is_autocast_enabled(x.device.type):
            raise UserError(
                f"x is {x.dtype}, the backbone's weights are {precision}; give x.to({precision})"
            )
        return x.to(precision)

    @property
    def _blocks(self) -> Iterable[Block]:
        return cast("Iterable[Block]", self.blocks)

    def _channel_ids(
        self, channels: Sequence[int] | Int[Tensor, " channel"], n_channels: int
    ) -> Int[Tensor, " channel"]:
        ids = torch.as_tensor(channels).cpu()
        n_ids = self.channel_embed.num_embeddings
        if len(ids) != n_channels or not bool(((ids >= 0) & (ids < n_ids)).all()):
            raise UserError(
                f"channels={ids.tolist()} for a signal of {n_channels} channels: give each"
                f" channel's id, 0..{n_ids - 1}"
            )
        return ids


def known_compat(compat: str | None) -> Compat:
    """Return a setting from outside (a file, the command line), or refuse it."""
    if compat is None:
        return None
    if compat != "published":
        raise UserError(f"compat={compat!r} is unknown; leave it out, or say published")
    return "published"


def step_embedding(step: Int[Tensor, " batch"], width: int) -> Float[Tensor, "batch width"]:
    """Return [sin(t f), cos(t f)] with f_i = exp(-i ln(10000)/(w/2-1)), i = 0 .. w/2-1, for each
    step t. w is the ``width``.
    """
    n_frequencies = width // 2
    index = torch.arange(n_frequencies, device=step.device)
    phase = step[:, None] * torch.exp(-index * (math.log(10_000) / (n_frequencies - 1)))
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


def _condition_mlp(d_embed: int, d_cond: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(d_embed, d_cond), nn.SiLU(), nn.Linear(d_cond, d_cond), nn.SiLU()
    )


def _head(d_model: int) -> nn.Sequential:
    """Return the readout, whose output starts at zero."""
    hidden, velocity = nn.Linear(d_model, d_model), nn.Linear(d_model, 1)
    # Zero is the mean of the velocity: training begins there, and not at the noise of 20 skips
    nn.init.kaiming_normal_(hidden.weight)
    nn.init.zeros_(velocity.weight)
    nn.init.zeros_(velocity.bias)
    return nn.Sequential(hidden, nn.ReLU(), velocity)


def _groups(rows: slice, x: Float[Tensor, "row 1 time"]) -> Iterator[slice]:
    """Yield the rows that go through all blocks together before the next begin."""
    samples = _SAMPLES_AT_ONCE.get(x.device.type, _SAMPLES_AT_ONCE_ELSEWHERE)
    # Each thread has a part of the cache
    step = max(1, samples * torch.get_num_threads() // x.shape[-1])
    for start in range(rows.start, rows.stop, step):
        yield slice(start, min(start + step, rows.stop))


def _rate(sfreq: float, compat: Compat) -> float:
    """Return the factor of dt: a lower sampling rate makes a longer step (published: the other
    way).
    """
    published = known_compat(compat) == "published"
    if not sfreq > 0:
        raise UserError(f"sfreq={sfreq}: a sampling rate in Hz is above 0")
    return sfreq / SFREQ if published else SFREQ / sfreq


def _reads(query: str | Sequence[str], pool: str | Sequence[str]) -> list[tuple[str, str]]:
    queries = (query,) if isinstance(query, str) else tuple(query)
    pools = (pool,) if isinstance(pool, str) else tuple(pool)
    _check_choices("query", queries, QUERIES)
    _check_choices("pool", pools, POOLS)
    if len(queries) != len(pools):
        raise UserError(f"query={list(queries)} and pool={list(pools)}: give one pool per query")
    return list(zip(queries, pools, strict=True))


def _check_choices(name: str, values: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    for value in values:
        if value not in allowed:
            raise UserError(f"{name}={value!r} is unknown; choose from {', '.join(allowed)}")


def _mix_parts(x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch channel time"]:
    """Reorder as the published code does: cut as (channel, part), then taken for (part,
    channel).
    """
    batch, n_channels, n_times = x.shape
    if n_times <= PART:
        return x
    if n_times % PART:
        raise UserError(
            f"compat=published takes up to {PART} samples or a multiple of that, got {n_times}"
        )
    return x.reshape(batch, n_times // PART, n_channels, PART).transpose(1, 2).reshape(x.shape)
