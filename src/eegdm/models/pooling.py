"""Where pooling windows lie in a signal, and how activities are pooled over them.

Positions are laid out at 200 Hz and then rounded to samples: the pool over u..v at 200 Hz covers
round(u f/200) .. round(v f/200) at f Hz, whatever the rate. A signal longer than the 5 s the
backbone was trained on is cut in parts of 5 s, each taken on its own; no pool crosses a cut.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from eegdm.errors import UserError

SFREQ = 200.0
"""Sampling rate, Hz, that the backbone is trained at and pooling windows are counted in."""
PART = 1000
"""Samples at 200 Hz that the backbone sees at once: 5 s, its training length."""
POOLS = ("std", "mean")


class Part(NamedTuple):
    """A stretch that the backbone takes on its own, in samples of the signal, and its pools, in
    samples of the part.
    """

    start: int
    stop: int
    pools: list[tuple[int, int]]


def parts(n_times: int, window: int = 200, stride: int = 200, sfreq: float = SFREQ) -> list[Part]:
    """Cut a signal of ``n_times`` samples at ``sfreq`` Hz in parts of 5 s; a tail without a whole
    pool is left out.

    Args:
        n_times: samples of the signal.
        window: length of a pool, in samples at 200 Hz.
        stride: from one pool to the next, in samples at 200 Hz.
        sfreq: sampling rate of the signal, Hz.

    Raises:
        UserError: not one pool fits.
    """

    def at(position: int) -> int:
        return round(position * sfreq / SFREQ)

    layout = []
    for start in range(0, PART * (int(n_times * SFREQ / (PART * sfreq)) + 1), PART):
        # Positions are rounded, never lengths: rounding errors do not add up over the pools
        first, last = at(start), min(at(start + PART), n_times)
        ends = ((at(u), at(u + window)) for u in range(start, start + PART - window + 1, stride))
        pools = [(u - first, v - first) for u, v in ends if v <= last]
        if pools:
            layout.append(Part(first, last, pools))
    if not layout:
        raise UserError(
            f"a signal of {n_times} samples at {sfreq:g} Hz holds no pool of {window} samples at"
            f" 200 Hz within 5 s; give at least {at(window)} samples, or a shorter pooling window"
        )
    return layout


def pool_bounds(
    n_times: int, window: int = 200, stride: int = 200, sfreq: float = SFREQ
) -> list[tuple[int, int]]:
    """Return (start, stop) of every pool in a signal of ``n_times`` samples, in order of time; see
    :func:`parts`.
    """
    return [
        (part.start + u, part.start + v)
        for part in parts(n_times, window, stride, sfreq)
        for u, v in part.pools
    ]


def pool(
    activities: Float[Tensor, "batch time feature"], bounds: list[tuple[int, int]], kind: str
) -> Float[Tensor, "batch pool feature"]:
    """Pool over time.

    Args:
        activities: of each sample.
        bounds: (start, stop) of each pool, in samples.
        kind: "std" (unbiased, n-1) or "mean".
    """
    reduce = {"std": _std, "mean": _over_time}[kind]
    starts = [start for start, _ in bounds]
    sizes = {stop - start for start, stop in bounds}
    steps = {later - earlier for earlier, later in zip(starts, starts[1:], strict=False)}
    # All pools at once, as a view, unless rounding to samples made them uneven
    if len(sizes) == 1 and len(steps) <= 1:
        (size,), step = sizes, steps.pop() if steps else 1
        return reduce(activities[:, starts[0] : bounds[-1][1]].unfold(1, size, step))
    return torch.stack([reduce(activities[:, start:stop].mT) for start, stop in bounds], dim=1)


def _over_time(x: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch"]:
    return x.mean(dim=-1)


def _std(x: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch"]:
    """As ``x.std(dim=-1)``, which is many times slower on a CPU; the gradient at a constant x is
    0.
    """
    return (
        torch.linalg.vector_norm(x - x.mean(dim=-1, keepdim=True), dim=-1)
        / (x.shape[-1] - 1) ** 0.5
    )
