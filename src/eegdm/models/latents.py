"""Tokens: what is read from the backbone, and of which version of the signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from eegdm.errors import UserError
from eegdm.models.backbone import SSMDP, Compat
from eegdm.models.diffusion import (
    BETA_END,
    BETA_START,
    NOISE_SETTINGS,
    SCHEDULES,
    noise_schedule,
)
from eegdm.models.pooling import PART, SFREQ, pool, pool_bounds

__all__ = ["FORWARDS", "TokenSpec", "extract", "pool", "pool_bounds"]

FORWARDS = ("none", "noiseless", "noisy")


@dataclass(frozen=True)
class TokenSpec:
    """How tokens are made; the default is the published one.

    Args:
        query: activities to read, each "gate", "filter" or "inter".
        pool: how each of them is pooled over time, "std" or "mean".
        step: diffusion step that the backbone is given, counted from 0.
        forward: the signal goes in raw ("none"), scaled by sqrt(abar_step) ("noiseless"), or with
            noise as well ("noisy").
        schedule: noise schedule of that forward process, see
            :class:`~eegdm.models.diffusion.NoiseSchedule`; likewise ``n_steps``, ``beta_start`` and
            ``beta_end``.
        n_steps: diffusion steps.
        window: length of a pool, in samples at 200 Hz.
        stride: from one pool to the next, in samples at 200 Hz.
        first_block: the first block to read.
        last_block: the block before which to stop; None: all.
        beta_start: first beta of a linear schedule.
        beta_end: last beta of a linear schedule.

    Raises:
        UserError: an unknown or impossible value.
    """

    query: tuple[str, ...] = ("gate",)
    pool: tuple[str, ...] = ("std",)
    step: int = 1
    forward: str = "none"
    schedule: str = "squaredcos_cap_v2"
    n_steps: int = 50
    window: int = 200
    stride: int = 200
    first_block: int = 0
    last_block: int | None = None
    beta_start: float = BETA_START
    beta_end: float = BETA_END

    def __post_init__(self) -> None:
        if self.forward not in FORWARDS:
            raise UserError(
                f"forward={self.forward!r} is unknown; choose from {', '.join(FORWARDS)}"
            )
        if not 0 <= self.step < self.n_steps:
            raise UserError(
                f"step={self.step} is not one of the {self.n_steps} diffusion steps"
                f" 0..{self.n_steps - 1}"
            )
        betas = (self.beta_start, self.beta_end)
        if self.schedule not in SCHEDULES or not all(0 <= beta <= 1 for beta in betas):
            raise UserError(
                f"schedule={self.schedule!r} with betas {self.beta_start}..{self.beta_end}: choose"
                f" from {', '.join(SCHEDULES)}, and betas of 0..1"
            )
        if not 2 <= self.window <= PART or self.stride < 1:
            raise UserError(
                f"window={self.window}, stride={self.stride}: a pool holds 2..{PART} samples and"
                " moves by 1 or more"
            )

    @property
    def blocks(self) -> slice:
        return slice(self.first_block, self.last_block)

    @property
    def noise(self) -> dict[str, Any]:
        """The arguments of :func:`eegdm.models.diffusion.noise_schedule`."""
        return {name: getattr(self, name) for name in NOISE_SETTINGS}

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict; :meth:`from_dict` undoes it."""
        return asdict(self) | {"query": list(self.query), "pool": list(self.pool)}

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> TokenSpec:
        unknown = settings.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise UserError(
                f"tokens: unknown settings {', '.join(sorted(unknown))}; they come from another"
                " version of eegdm"
            )
        # JSON knows no tuples, and a frozen dataclass that holds lists has no hash
        frozen: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in settings.items()
        }
        return cls(**frozen)


def extract(
    backbone: SSMDP,
    x: Float[Tensor, "batch channel time"],
    channels: Sequence[int] | Int[Tensor, " channel"],
    spec: TokenSpec,
    sfreq: float = SFREQ,
    noise: Float[Tensor, "batch channel time"] | None = None,
    compat: Compat = None,
) -> Float[Tensor, "batch block pool query channel feature"]:
    """Return the tokens that ``spec`` describes of ``x``, in model units at ``sfreq`` Hz.

    Args:
        backbone: the network that is read, under the caller's grad mode.
        x: signals in model units (100 µV, companded).
        channels: the channel id of each channel.
        spec: what is read.
        sfreq: sampling rate of ``x``, Hz.
        noise: standard normal, needed for ``forward="noisy"`` alone.
        compat: see :class:`SSMDP`.

    Raises:
        UserError: noise is missing, or what :meth:`SSMDP.tokens` raises.
    """
    return backbone.tokens(
        _forward_process(x, spec, noise),
        channels,
        query=spec.query,
        pool=spec.pool,
        step=spec.step,
        sfreq=sfreq,
        window=spec.window,
        stride=spec.stride,
        compat=compat,
        blocks=spec.blocks,
    )


def _forward_process(
    x: Float[Tensor, "batch channel time"],
    spec: TokenSpec,
    noise: Float[Tensor, "batch channel time"] | None,
) -> Float[Tensor, "batch channel time"]:
    if spec.forward == "none":
        return x
    level = noise_schedule(**spec.noise).alphas_cumprod[spec.step].item()
    if spec.forward == "noiseless":
        return level**0.5 * x
    if noise is None:
        raise UserError(
            "forward=noisy: the tokens depend on noise; pass noise=, standard normal and shaped as"
            " the signal"
        )
    return level**0.5 * x + (1 - level) ** 0.5 * noise
