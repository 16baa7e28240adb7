"""The forward noise process, its reversal, and samplers; tables and fast samplers are those of
diffusers.

x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, t = 0 .. T-1; the network predicts v = sqrt(abar_t)
eps - sqrt(1 - abar_t) x_0 (Salimans & Ho 2022, arXiv 2202.00512). diffusers is imported when a
schedule is made: it takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eegdm.errors import UserError
from eegdm.models.pooling import SFREQ

SCHEDULES = ("squaredcos_cap_v2", "linear")
SAMPLERS = ("ddpm", "ddim", "dpmsolver++")
BETA_START, BETA_END = 1e-4, 0.05
NOISE_SETTINGS = ("schedule", "n_steps", "beta_start", "beta_end")
"""The settings that make a noise schedule, as the configuration and config.json name them; one
without the others describes another schedule.
"""

Denoiser = Callable[..., Tensor]
"""Called as ``(x, step, channel, sfreq)``, returns the velocity: an SSMDP."""


class NoiseSchedule:
    """``n_steps`` noise levels: ``betas`` and ``alphas_cumprod`` (step,), float32 on the CPU.

    Args:
        n_steps: diffusion steps, T.
        kind: "squaredcos_cap_v2" (Nichol & Dhariwal 2021; it has no use for the betas' ends) or
            "linear".
        beta_start: the first beta, 0..1, of "linear".
        beta_end: the last one.

    Raises:
        UserError: an unknown kind.
    """

    betas: Float[Tensor, " step"]
    alphas_cumprod: Float[Tensor, " step"]

    def __init__(
        self,
        n_steps: int = 50,
        kind: str = "squaredcos_cap_v2",
        beta_start: float = BETA_START,
        beta_end: float = BETA_END,
    ) -> None:
        if kind not in SCHEDULES:
            raise UserError(
                f"noise schedule {kind!r} is unknown; choose from {', '.join(SCHEDULES)}"
            )
        self.n_steps = n_steps
        self._settings: dict[str, Any] = {
            "num_train_timesteps": n_steps,
            "beta_schedule": kind,
            "beta_start": beta_start,
            "beta_end": beta_end,
            "prediction_type": "v_prediction",
        }
        self._ddpm = _scheduler("ddpm", self._settings)
        self.betas, self.alphas_cumprod = self._ddpm.betas, self._ddpm.alphas_cumprod

    def add_noise(
        self,
        x0: Float[Tensor, " batch *rest"],
        noise: Float[Tensor, " batch *rest"],
        step: Int[Tensor, " batch"],
    ) -> Float[Tensor, " batch *rest"]:
        """Return x_t, each row at its own step.

        Args:
            x0: clean signals.
            noise: standard normal.
            step: of each row, 0 .. T-1.
        """
        return self._ddpm.add_noise(x0, noise, step)

    def velocity(
        self,
        x0: Float[Tensor, " batch *rest"],
        noise: Float[Tensor, " batch *rest"],
        step: Int[Tensor, " batch"],
    ) -> Float[Tensor, " batch *rest"]:
        """Return what the network is to predict, each row at its own step; arguments as in
        :meth:`add_noise`.
        """
        return self._ddpm.get_velocity(x0, noise, step)

    def reverse_step(
        self,
        x_t: Float[Tensor, "*any"],
        v: Float[Tensor, "*any"],
        step: int,
        noise: Float[Tensor, "*any"] | None,
    ) -> tuple[Float[Tensor, "*any"], Float[Tensor, "*any"]]:
        """Return x_{t-1} and the predicted clean signal, clipped to +-1 as published (100 µV).

        Equals diffusers' DDPMScheduler (``fixed_small`` variance), which can't be given the noise.
        At step 0 none is added.

        Args:
            x_t: the noised signals, model units.
            v: their predicted velocity.
            step: t, the same for all.
            noise: standard normal, to add; None at step 0 alone.

        Raises:
            UserError: noise is missing.
        """
        level = self.alphas_cumprod[step]
        previous = self.alphas_cumprod[step - 1] if step > 0 else torch.ones(())
        # In float32 not quite betas[step]; as diffusers computes it, for the same numbers
        beta = 1 - level / previous
        x0 = (level.sqrt() * x_t - (1 - level).sqrt() * v).clamp(-1, 1)
        mean = (
            previous.sqrt() * beta / (1 - level) * x0
            + (1 - beta).sqrt() * (1 - previous) / (1 - level) * x_t
        )
        if step == 0:
            return mean, x0
        if noise is None:
            raise UserError(
                f"the reverse step from {step} adds noise; give it, standard normal and shaped as"
                " the signal"
            )
        return mean + ((1 - previous) / (1 - level) * beta).sqrt() * noise, x0

    def sampler(self, name: str, n_steps: int) -> Any:
        """Return diffusers' scheduler "ddpm", "ddim" or "dpmsolver++" for this schedule, set to
        visit ``n_steps`` of its steps.

        Steps are spaced from the noisy end, so that sampling begins where the forward process ends.

        Raises:
            UserError: an unknown name, or more steps than the schedule has.
        """
        if name not in SAMPLERS or not 1 <= n_steps <= self.n_steps:
            raise UserError(
                f"sampler {name!r} with {n_steps} steps: choose from {', '.join(SAMPLERS)},"
                f" 1..{self.n_steps} steps"
            )
        scheduler = _scheduler(name, self._settings | {"timestep_spacing": "trailing"})
        scheduler.set_timesteps(n_steps)
        return scheduler


def noise_schedule(
    schedule: str, n_steps: int, beta_start: float, beta_end: float
) -> NoiseSchedule:
    """Return the noise schedule of :data:`NOISE_SETTINGS`."""
    return NoiseSchedule(n_steps, schedule, beta_start, beta_end)


def _scheduler(name: str, settings: dict[str, Any]) -> Any:
    import diffusers

    classes: dict[str, Any] = {
        "ddpm": diffusers.DDPMScheduler,
        "ddim": diffusers.DDIMScheduler,
        "dpmsolver++": diffusers.DPMSolverMultistepScheduler,  # the "++" form is its default
    }
    return classes[name](**settings)


@torch.no_grad()
def sample(
    backbone: Denoiser,
    schedule: NoiseSchedule,
    channel: Int[Tensor, " batch"],
    noise: Float[Tensor, "step batch 1 time"],
    last_step: int = 0,
    sfreq: float = SFREQ,
) -> Float[Tensor, "batch 1 time"]:
    """Draw signals by the whole reverse process, steps T-1 .. ``last_step``.

    Args:
        backbone: predicts the velocity.
        schedule: the one that the backbone learned with.
        channel: the channel id of each signal.
        noise: T times standard normal: what to start from, then what steps T-1 .. 1 add.
        last_step: 0 goes to the end; the published code stops at 1, which leaves the noise that
            step adds, of std 0.0345.
        sfreq: sampling rate of the signals, Hz.

    Returns:
        Signals in model units (100 µV, companded).

    Raises:
        UserError: not one set of noise for each step.
    """
    if len(noise) != schedule.n_steps:
        raise UserError(
            f"noise for {len(noise)} steps; the schedule has {schedule.n_steps}: give one set for"
            " each"
        )
    x = noise[0]
    for step in reversed(range(last_step, schedule.n_steps)):
        v = backbone(x, torch.full_like(channel, step), channel, sfreq)
        # Set 0 of the noise was the start, so that step T-1 adds set 1, and step 1 the last
        added = noise[schedule.n_steps - step] if step > 0 else None
        x, _ = schedule.reverse_step(x, v, step, added)
    return x


@torch.no_grad()
def sample_with(
    backbone: Denoiser,
    sampler: Any,
    channel: Int[Tensor, " batch"],
    start: Float[Tensor, "batch 1 time"],
    generator: torch.Generator | list[torch.Generator] | None = None,
    sfreq: float = SFREQ,
) -> Float[Tensor, "batch 1 time"]:
    """Draw signals with a sampler from :meth:`NoiseSchedule.sampler`, starting from standard normal
    noise.

    Args:
        backbone: predicts the velocity.
        sampler: set to the steps that it is to visit.
        channel: the channel id of each signal.
        start: standard normal.
        generator: what "ddpm" draws its noise from, one for all signals or one for each; the others
            need none.
        sfreq: sampling rate of the signals, Hz.

    Returns:
        Signals in model units (100 µV, companded).
    """
    x = start
    # Only "ddpm" has a parameter of this name
    drawing = {} if generator is None else {"generator": generator}
    for step in sampler.timesteps.tolist():
        v = backbone(x, torch.full_like(channel, step), channel, sfreq)
        x = sampler.step(v, step, x, **drawing).prev_sample
    return x
