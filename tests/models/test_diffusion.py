"""The diffusion process: tables by formula, identities, diffusers' steps, and a denoiser that knows
the answer.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from eegdm.errors import UserError
from eegdm.models.diffusion import NoiseSchedule, sample, sample_with

CHANNEL = torch.tensor([3, 4])


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def clean() -> Tensor:
    return (0.4 * noise(2, 1, 300, seed=7)).clamp(-1, 1)


class Oracle:
    """The velocity of a denoiser that knows the clean signal; notes the steps it was asked for."""

    def __init__(self, schedule: NoiseSchedule, x0: Tensor) -> None:
        self.schedule, self.x0, self.steps = schedule, x0, []

    def __call__(self, x: Tensor, step: Tensor, channel: Tensor, sfreq: float) -> Tensor:
        assert torch.equal(channel, CHANNEL) and len(step.unique()) == 1
        self.steps.append(int(step[0]))
        level = self.schedule.alphas_cumprod[step][:, None, None]
        eps = (x - level.sqrt() * self.x0) / (1 - level).sqrt()
        return level.sqrt() * eps - (1 - level).sqrt() * self.x0


def test_cosine_betas_are_the_formula() -> None:
    def g(u: float) -> float:
        return np.cos(np.pi / 2 * (u + 0.008) / 1.008) ** 2

    expected = [min(1 - g((i + 1) / 50) / g(i / 50), 0.999) for i in range(50)]
    schedule = NoiseSchedule()
    np.testing.assert_allclose(schedule.betas, expected, rtol=1e-5)
    np.testing.assert_allclose(
        schedule.alphas_cumprod, np.cumprod(1 - np.array(expected)), rtol=1e-4
    )
    assert schedule.alphas_cumprod[1].sqrt().item() == pytest.approx(0.99728, abs=1e-5)


def test_linear_betas_run_between_their_ends() -> None:
    schedule = NoiseSchedule(kind="linear")
    np.testing.assert_allclose(schedule.betas, np.linspace(1e-4, 0.05, 50), rtol=1e-5)
    assert schedule.alphas_cumprod[49].item() == pytest.approx(0.28, abs=0.005)


@pytest.mark.parametrize("kind", ["squaredcos_cap_v2", "linear"])
def test_noised_signal_and_velocity_give_the_clean_signal_back(kind: str) -> None:
    schedule, step = NoiseSchedule(kind=kind), torch.tensor([0, 1, 25, 49])
    x0, eps = noise(4, 1, 100), noise(4, 1, 100, seed=2)
    x_t, v = schedule.add_noise(x0, eps, step), schedule.velocity(x0, eps, step)
    level = schedule.alphas_cumprod[step][:, None, None]
    torch.testing.assert_close(
        level.sqrt() * x_t - (1 - level).sqrt() * v, x0, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        (1 - level).sqrt() * x_t + level.sqrt() * v, eps, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("step", [49, 48, 20, 1, 0])
def test_reverse_step_is_that_of_diffusers(step: int) -> None:
    schedule = NoiseSchedule()
    x_t, v = noise(2, 1, 100), noise(2, 1, 100, seed=2)
    generator = torch.Generator().manual_seed(9)
    expected = schedule.sampler("ddpm", 50).step(v, step, x_t, generator=generator)
    x_prev, x0 = schedule.reverse_step(x_t, v, step, noise(2, 1, 100, seed=9))
    torch.testing.assert_close(x_prev, expected.prev_sample, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(x0, expected.pred_original_sample, rtol=1e-6, atol=1e-6)


def test_whole_reverse_process_ends_at_the_clean_signal() -> None:
    schedule, x0 = NoiseSchedule(), clean()
    oracle = Oracle(schedule, x0)
    drawn = sample(oracle, schedule, CHANNEL, noise(50, 2, 1, 300))
    assert oracle.steps == list(range(49, -1, -1))
    torch.testing.assert_close(drawn, x0, rtol=1e-3, atol=1e-3)


def test_stopping_at_step_1_leaves_noise() -> None:
    schedule, x0, draws = NoiseSchedule(), clean(), noise(50, 2, 1, 300)
    oracle = Oracle(schedule, x0)
    left = (
        sample(oracle, schedule, CHANNEL, draws, last_step=1)
        - schedule.alphas_cumprod[0].sqrt() * x0
    )
    assert oracle.steps == list(range(49, 0, -1))
    assert left.std().item() == pytest.approx(
        (1 - schedule.alphas_cumprod[0]).sqrt().item(), rel=0.1
    )
    x_t, one = torch.zeros(1), torch.ones(1)
    added = (
        schedule.reverse_step(x_t, x_t, 1, one)[0] - schedule.reverse_step(x_t, x_t, 1, 0 * one)[0]
    )
    assert added.item() == pytest.approx(0.0345, abs=5e-5)


def test_whole_process_equals_that_of_diffusers() -> None:
    schedule, x0, generator = NoiseSchedule(), clean(), torch.Generator().manual_seed(11)
    draws = torch.stack([torch.randn(2, 1, 300, generator=generator) for _ in range(50)])
    ours = sample(Oracle(schedule, x0), schedule, CHANNEL, draws)
    generator = torch.Generator().manual_seed(11)
    start = torch.randn(2, 1, 300, generator=generator)
    theirs = sample_with(
        Oracle(schedule, x0), schedule.sampler("ddpm", 50), CHANNEL, start, generator
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "n_steps"), [("ddpm", 10), ("ddim", 10), ("ddim", 50), ("dpmsolver++", 10)]
)
def test_samplers_end_at_the_clean_signal(name: str, n_steps: int) -> None:
    schedule, x0 = NoiseSchedule(), clean()
    oracle = Oracle(schedule, x0)
    generator = torch.Generator().manual_seed(3) if name == "ddpm" else None
    drawn = sample_with(
        oracle, schedule.sampler(name, n_steps), CHANNEL, noise(2, 1, 300), generator
    )
    assert len(oracle.steps) == n_steps and oracle.steps[0] == 49
    torch.testing.assert_close(drawn, x0, rtol=1e-2, atol=1e-2)


def test_refusals() -> None:
    schedule = NoiseSchedule(10)
    with pytest.raises(UserError, match="noise schedule 'cosine' is unknown"):
        NoiseSchedule(kind="cosine")
    with pytest.raises(UserError, match="sampler 'euler' with 5 steps: choose from ddpm, ddim"):
        schedule.sampler("euler", 5)
    with pytest.raises(UserError, match="1..10 steps"):
        schedule.sampler("ddim", 11)
    with pytest.raises(UserError, match="noise for 9 steps; the schedule has 10"):
        sample(Oracle(schedule, clean()), schedule, CHANNEL, noise(9, 2, 1, 300))
    with pytest.raises(UserError, match="the reverse step from 5 adds noise"):
        schedule.reverse_step(noise(2, 3), noise(2, 3), 5, None)


def test_importing_the_models_spares_diffusers() -> None:
    code = "import sys, eegdm.models.eegdm; print('diffusers' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "False\n"
    )
