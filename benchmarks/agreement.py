"""Agreement with golden numbers and with the plain implementation, on this device.

The error is the largest difference in units of the largest magnitude; gradients are compared with
the plain ones in double precision. In float32 (without TF32) more than the limit ends the run:
nothing is worth timing that computes something else. In bf16 the limit is that of
`run.precision=bf16-mixed`, whose blocks stay in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks import models, timing
from eegdm.checkpoints.published import load_original
from eegdm.models.diffusion import NoiseSchedule

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "open"
LIMIT, BF16_LIMIT = 1e-5, 2e-2
GENERATION_LIMIT = 1e-4  # fifty steps, each with the errors of those before


def run(smoke: bool) -> list[dict[str, object]]:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return [*_golden(), *_plain(smoke)]


def _row(what: str, against: str, got: Tensor, expected: Tensor, limit: float) -> dict[str, object]:
    off = timing.error(got.float().cpu(), expected.float().cpu(), limit)
    return {"what": what, "against": against, "error": off, "limit": limit}


@torch.no_grad()
def _golden() -> list[dict[str, object]]:
    """Models of the golden set, whose numbers were computed elsewhere on a CPU."""
    expected = {
        name: tensor
        for file in sorted(GOLDEN.glob("expected*.safetensors"))
        for name, tensor in load_file(file).items()
    }

    def on_device(name: str) -> Tensor:
        return expected[name].to(timing.DEVICE)

    backbone = load_original(GOLDEN / "backbone.ckpt", weights="ema").to(timing.DEVICE)
    classifier = load_original(GOLDEN / "classifier.ckpt", weights="ema").to(timing.DEVICE)
    condition = on_device("bk_t")[:, 0], on_device("bk_ch")[:, 0]
    found = {
        "bk_v_ema": backbone(on_device("bk_x"), *condition),
        "tokens_gate_std": backbone.tokens(on_device("x22"), range(22))[:, :, None],
        "logits_ema": classifier(on_device("x22")),
    }
    return [_row(name, "golden", got, expected[name], LIMIT) for name, got in found.items()]


def _plain(smoke: bool) -> list[dict[str, object]]:
    """The fast implementation and `eegdm.models.reference`, with equal weights."""
    pairs = models.backbones(smoke), models.fusions(smoke)
    channel = torch.arange(4, device=timing.DEVICE)
    x, tokens_in = models.noise(4, 1, 1000), models.noise(2, models.N_CHANNELS, 1000)

    def gradients(model: nn.Module) -> Tensor:
        if model is pairs[0][1]:
            # In float32 the plain gradients of log_dt are off by 9e-4, ours by 2e-4
            model = copy.deepcopy(model).double()
        weights = [weight for _, weight in sorted(model.named_parameters())]
        signal = x.to(weights[0].dtype)
        found = torch.autograd.grad(model(signal, 7 + channel, channel).square().sum(), weights)
        return torch.cat([(g / g.abs().max().clamp_min(1e-30)).flatten() for g in found])

    @torch.no_grad()
    def tokens(model: nn.Module) -> Tensor:
        knows_channels = model is pairs[0][0]
        return model.tokens(tokens_in, *([range(models.N_CHANNELS)] if knows_channels else []))

    @torch.no_grad()
    def velocity(model: nn.Module) -> Tensor:
        return model(x, 7 + channel, channel)

    @torch.no_grad()
    def generated(model: nn.Module) -> Tensor:
        schedule, drawn = NoiseSchedule(10), x
        for step in reversed(range(schedule.n_steps)):
            v = model(drawn, torch.full_like(channel, step), channel)
            drawn, _ = schedule.reverse_step(drawn, v, step, x.flip(0) if step else None)
        return drawn

    kinds: dict[str, tuple[Callable[[nn.Module], Tensor], float]] = {
        "velocity": (velocity, LIMIT),
        "gradients of each weight": (gradients, 30 * LIMIT),
        "tokens": (tokens, LIMIT),
        "generation, 10 steps": (generated, GENERATION_LIMIT),
    }
    (fast, plain), (fusion, plain_fusion) = pairs
    rows = [
        _row(what, "plain", work(fast), work(plain), limit) for what, (work, limit) in kinds.items()
    ]
    with torch.no_grad():
        c = fusion.config
        given = models.noise(3, c["n_blocks"], c["n_pools"], 1, models.N_CHANNELS, c["d_model"])
        expected = plain_fusion(given)
        rows.append(_row("logits of tokens", "plain", fusion(given), expected, LIMIT))
        with torch.autocast(timing.DEVICE.type, torch.bfloat16):
            in_bf16 = fusion(given)
        rows.append(_row("logits of tokens, bf16", "float32", in_bf16, expected, BF16_LIMIT))
        with torch.autocast(timing.DEVICE.type, torch.bfloat16):
            in_bf16 = tokens(fast)
        rows.append(_row("tokens, bf16", "float32", in_bf16, tokens(plain), BF16_LIMIT))
    return rows
