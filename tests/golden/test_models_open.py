"""Models and diffusion against the numbers that the published research code printed (golden set
`open`).

Tolerance: 1e-5 of a tensor's largest magnitude, 2e-5 for a whole generation. The copy kept with the
tests holds the same tensors in several files of less than 1 MiB.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from conftest import golden_folder
from eegdm.checkpoints.published import load_original
from eegdm.models import residual
from eegdm.models.backbone import SSMDP, step_embedding
from eegdm.models.diffusion import NoiseSchedule, sample
from eegdm.models.eegdm import EEGDM

OPEN = golden_folder("open")
GOLDEN = {
    name: tensor
    for file in sorted(OPEN.glob("expected*.safetensors"))
    for name, tensor in load_file(file).items()
}
FACTS = json.loads((OPEN / "expected.json").read_text())
TCP_IDS, CHBMIT_IDS = range(22), FACTS["use_cond16"]
TOLERANCE = 1e-5


@cache
def model(name: str, weights: str, compat: str | None = None) -> SSMDP | EEGDM:
    return load_original(OPEN / f"{name}.ckpt", weights=weights, compat=compat)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def agrees(name: str, got: Tensor, tolerance: float = TOLERANCE) -> None:
    expected = GOLDEN[name]
    assert got.shape == expected.shape
    error = ((got - expected).abs().max() / expected.abs().max()).item()
    assert error <= tolerance, f"{name} is {error:.1e} of its scale off"


def as_stored(tokens: Tensor) -> Tensor:
    """Tokens with the axis that golden has after the blocks, always 1."""
    return tokens[:, :, None]


def as_tokens(name: str) -> Tensor:
    return GOLDEN[name][:, :, 0]


def condition_inputs() -> tuple[Tensor, Tensor]:
    return GOLDEN["bk_t"][:, 0], GOLDEN["bk_ch"][:, 0]


# --------------------------------------------------------------------------------------- backbone


def test_sizes() -> None:
    assert (
        sum(p.numel() for p in model("backbone", "ema").parameters())
        == FACTS["n_params"]["backbone"]
    )
    assert (
        sum(p.numel() for p in model("classifier", "ema").fusion.parameters())
        == FACTS["n_params"]["lft"]
    )


@pytest.mark.parametrize(
    ("name", "length", "rate"),
    [
        ("kernel_rate1", 1000, 1.0),
        ("kernel_rate095", 1000, 0.95),
        ("kernel_rate095_L950", 950, 0.95),
    ],
)
def test_kernels(name: str, length: int, rate: float) -> None:
    agrees(name, model("backbone", "online").blocks[FACTS["kernel_layer"]].ssm.kernel(length, rate))


def test_convolution() -> None:
    agrees(
        "conv_out", model("backbone", "online").blocks[FACTS["kernel_layer"]].ssm(GOLDEN["conv_in"])
    )


def test_conditions() -> None:
    backbone, (step, channel) = model("backbone", "online"), condition_inputs()
    agrees("step_embed", step_embedding(torch.arange(50), 16))
    agrees("step_embed_128", step_embedding(torch.arange(50), 128))
    condition = backbone.step_mlp(step_embedding(step, 16)) + backbone.channel_mlp(
        backbone.channel_embed(channel)
    )
    agrees("bk_cond_online", condition[:, None])


@pytest.mark.parametrize(
    ("name", "weights", "n_times"),
    [
        ("bk_v_online", "online", 1000),
        ("bk_v_ema", "ema", 1000),
        ("bk_v_online_short", "online", 237),
    ],
)
def test_velocity(name: str, weights: str, n_times: int) -> None:
    agrees(name, model("backbone", weights)(GOLDEN["bk_x"][..., :n_times], *condition_inputs()))


@pytest.mark.parametrize("query", ["gate", "filter"])
def test_activations(query: str) -> None:
    got = model("backbone", "ema").activations(
        GOLDEN["bk_x"][:1], torch.tensor([1]), torch.tensor([5]), query
    )
    agrees(f"act_{query}", got[0])


def test_residual_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, streams, read = model("backbone", "ema"), [], residual.read

    def keep(x: Tensor, *rest: Any) -> Tensor | None:
        streams.append(x[0].mT.clone())  # the block leads it on in place
        return read(x, *rest)

    monkeypatch.setattr(residual, "read", keep)
    backbone.activations(GOLDEN["bk_x"][:1], torch.tensor([1]), torch.tensor([5]))
    agrees("act_residual", torch.stack(streams[1:]))


# ----------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("query", ["gate", "filter"])
@pytest.mark.parametrize("pool", ["std", "mean"])
def test_tokens(query: str, pool: str) -> None:
    agrees(
        f"tokens_{query}_{pool}",
        as_stored(model("backbone", "ema").tokens(GOLDEN["x22"], TCP_IDS, query, pool)),
    )


def test_tokens_of_two_queries() -> None:
    got = model("backbone", "ema").tokens(
        GOLDEN["x22"], TCP_IDS, ["gate", "filter"], ["std", "mean"]
    )
    agrees("tokens_two_queries", as_stored(got))


def test_tokens_of_two_parts() -> None:
    backbone = model("backbone", "ema")
    agrees("tokens16_straight", as_stored(backbone.tokens(GOLDEN["x16"], CHBMIT_IDS)))
    agrees(
        "tokens16_asis", as_stored(backbone.tokens(GOLDEN["x16"], CHBMIT_IDS, compat="published"))
    )


def test_tokens_at_the_published_rate() -> None:
    backbone = model("backbone", "ema", "published")
    agrees("tokens_rate095", as_stored(backbone.tokens(GOLDEN["x22_190hz"], TCP_IDS, sfreq=190.0)))
    rows, step = GOLDEN["x22_190hz"][0, :3, None], torch.ones(3, dtype=torch.long)
    gate = backbone.activations(rows, step, torch.arange(3), "gate", sfreq=190.0)
    agrees("v_rate095_hint_gate_last", gate[None, :, -1])


# ------------------------------------------------------------------------------------- classifier


@pytest.mark.parametrize("weights", ["online", "ema"])
def test_logits(weights: str) -> None:
    agrees(f"logits_{weights}", model("classifier", weights)(GOLDEN["x22"]))


def test_logits_from_cached_tokens() -> None:
    agrees(
        "logits_ema_cached",
        model("classifier", "ema").logits_from_tokens(as_tokens("tokens_gate_std")),
    )


def test_fusion_tokens() -> None:
    agrees(
        "lft_rep_ema", model("classifier", "ema").fusion.fuse(as_tokens("tokens_gate_std"))[:, None]
    )


@pytest.mark.parametrize("weights", ["online", "ema"])
def test_binary_logits_as_published(weights: str) -> None:
    agrees(f"logits16_{weights}", model("classifier_bin16", weights, "published")(GOLDEN["x16"]))


def test_binary_logits() -> None:
    classifier = model("classifier_bin16", "ema")
    agrees("logits16_ema_straight", classifier(GOLDEN["x16"]))
    agrees("logits16_ema_straight", classifier.logits_from_tokens(as_tokens("tokens16_straight")))


@pytest.mark.parametrize("weights", ["online", "ema"])
def test_logits_at_the_published_rate(weights: str) -> None:
    agrees(
        f"logits_rate095_{weights}",
        model("classifier", weights, "published")(GOLDEN["x22_190hz"], sfreq=190.0),
    )


# -------------------------------------------------------------------------------------- diffusion


@pytest.mark.parametrize(
    ("kind", "suffix", "ending"), [("squaredcos_cap_v2", "cos", ""), ("linear", "lin", "_lin")]
)
def test_forward_process(kind: str, suffix: str, ending: str) -> None:
    schedule = NoiseSchedule(50, kind)
    agrees(f"betas_{suffix}", schedule.betas)
    agrees(f"alphas_cumprod_{suffix}", schedule.alphas_cumprod)
    x0, eps, step = GOLDEN["q_x0"], GOLDEN["q_eps"], GOLDEN["q_t"][:, 0]
    agrees(f"q_xt{ending}", schedule.add_noise(x0, eps, step))
    agrees(f"q_v{ending}", schedule.velocity(x0, eps, step))


def test_reverse_steps() -> None:
    rows = zip(GOLDEN["p_x"], GOLDEN["p_v"], FACTS["p_t"], GOLDEN["p_noise"], strict=True)
    previous, clean = zip(*(NoiseSchedule().reverse_step(*row) for row in rows), strict=True)
    agrees("p_prev", torch.stack(previous))
    agrees("p_x0hat", torch.stack(clean))


def test_generation() -> None:
    noise = torch.cat([GOLDEN["gen_xT"][None], GOLDEN["gen_noise"]])
    drawn = sample(
        model("backbone", "ema"), NoiseSchedule(), GOLDEN["bk_ch"][:2, 0], noise, last_step=1
    )
    agrees("gen_out", drawn, tolerance=2e-5)
