"""LFT: a training step, and logits of cached tokens

Ours and the plain one hold the same weights and take turns, so that another job on the machine
meets both. The floor is the matrix products alone, at the rate that this machine reaches on a large
product, measured in between.

    python -m benchmarks.fusion [--smoke]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from eegdm.models.fusion import LatentFusionTransformer
from eegdm.models.reference import FusionTransformer

SMALL = {"n_blocks": 2, "n_pools": 2, "d_model": 32, "n_tokens": 4, "depth": 1}
SIDE = 1024  # of the square product that the machine's rate is measured on


def run(smoke: bool) -> list[dict[str, object]]:
    """Return one row per case: seconds (the least of all turns), ratio to plain, share of the
    floor, greatest difference.
    """
    torch.manual_seed(0)
    size = SMALL if smoke else {}
    ours = LatentFusionTransformer(**size)
    plain = FusionTransformer(**size)
    plain.load_state_dict(ours.state_dict())
    cases = [("training step", 32, 4), ("logits", 32, 8), ("logits", 1, 40)]
    return [_row(ours, plain, kind, batch, 1 if smoke else turns) for kind, batch, turns in cases]


def _row(
    ours: LatentFusionTransformer, plain: FusionTransformer, kind: str, batch: int, turns: int
) -> dict[str, object]:
    c = ours.config
    tokens = torch.rand(batch, c["n_blocks"], c["n_pools"], 1, 22, c["d_model"])
    square = torch.rand(SIDE, SIDE)
    work = {
        "plain": _work(kind, plain, tokens),
        "ours": _work(kind, ours, tokens),
        "product": lambda: square @ square,
    }
    seconds = _by_turns(work, turns)
    with torch.inference_mode():
        expected, got = plain.eval()(tokens), ours.eval()(tokens)
    rate = 2 * SIDE**3 / seconds["product"]
    flop = batch * _flop_of_a_window(ours, training=kind != "logits")
    return {
        "work": f"LFT {kind}",
        "batch": batch,
        "plain (s)": seconds["plain"],
        "ours (s)": seconds["ours"],
        "ratio": seconds["plain"] / seconds["ours"],
        "GFLOP": flop / 1e9,
        "floor (s)": flop / rate,
        "most that the ratio can be": seconds["plain"] * rate / flop,
        "difference": float((got - expected).abs().max() / expected.abs().max()),
    }


def _work(kind: str, model: nn.Module, tokens: Tensor) -> Callable[[], object]:
    """Return what is timed; the rate of the steps is 0, so that both keep equal weights."""
    if kind == "logits":

        @torch.inference_mode()
        def logits() -> Tensor:
            return model.eval()(tokens)

        return logits
    label = torch.arange(len(tokens)) % model.out.out_features
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=0.0,
        weight_decay=0.0,
        fused=isinstance(model, LatentFusionTransformer),
    )

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.train()(tokens), label).backward()
        optimizer.step()

    return step


def _by_turns(work: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Return the least seconds of each, after one turn to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(turns + 1):
        for name, function in work.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(found[1:]) for name, found in seconds.items()}


def _flop_of_a_window(model: LatentFusionTransformer, training: bool) -> float:
    """Count the operations of all matrix products, attention's included; backward takes twice
    those, less the tokens' gradients.
    """
    c = model.config
    width, n, keys = c["d_model"], c["n_tokens"], 22 * c["n_queries"]
    product = 2 * width * width
    block = c["n_pools"] * (n * product * (6 + 2 * c["ff"]) + 4 * width * n * (n + keys))
    projected = c["n_pools"] * keys * 2 * product
    long = c["n_pools"] * n
    layer = long * product * (4 + 2 * c["ff"]) + 4 * width * long * long
    forward = c["n_blocks"] * (block + projected) + c["depth"] * layer
    return 3 * forward - c["n_blocks"] * projected if training else forward


if __name__ == "__main__":
    for row in run("--smoke" in sys.argv):
        print(
            "  ".join(
                f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}"
                for name, value in row.items()
            )
        )
