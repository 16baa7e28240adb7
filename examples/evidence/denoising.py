"""Has the backbone learned to denoise EEG? Its loss at each noise level on held-out recordings,
beside the best linear denoiser.

    python examples/evidence/denoising.py --out denoising.csv \
        --learned runs/a/folder/mini_a/recordings \
        --test runs-9-10=runs/eval/folder/mini/recordings:S001R(09|10) \
        --test chbmit=runs/chbmit/folder/mini/recordings \
        --backbone mini-A=runs/a/folder/mini_a/backbone \
        --backbone untrained=random:runs/a/folder/mini_a/backbone

The linear denoiser is Wiener's, for finite windows: the conditional mean of the velocity if the
companded signal of a channel were Gaussian and stationary with the autocorrelation of the
recordings learned from. Every denoiser sees the same windows and noise. Printed is the mean squared
error of the velocity, by step and on average; 1 is what a denoiser that says 0 has.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from ledger import Ledger, markdown
from scipy.linalg import toeplitz

from eegdm.checkpoints.load import load
from eegdm.console import run_main
from eegdm.data.batches import generator
from eegdm.data.recordings import Recordings
from eegdm.data.windows import grid
from eegdm.models.backbone import SSMDP
from eegdm.models.diffusion import NoiseSchedule

RANDOM = "random:"
ROWS_AT_ONCE = 32


class Rows(NamedTuple):
    """Single-channel windows."""

    x: Float[np.ndarray, "row time"]  # model units
    channel: np.ndarray


def read(text: str, duration_s: float, most: int) -> Rows:
    """Read windows of all channels of FOLDER or FOLDER:REGEX (searched in the recording's id), at
    most so many, spread evenly.
    """
    folder, _, pattern = text.partition(":")
    recordings = Recordings(Path(folder))
    n_times = round(duration_s * recordings.sfreq)
    table = recordings.table[recordings.table.recording.str.contains(re.compile(pattern))]
    places = [(r, start) for r in table.itertuples() for start in grid(r.n_times, n_times, n_times)]
    chosen = np.unique(np.linspace(0, len(places) - 1, most).round().astype(int))
    cut = [
        (places[i][0], recordings.window(places[i][0].recording, int(places[i][1]), n_times))
        for i in chosen
    ]
    return Rows(
        np.concatenate([x for _, x in cut]),
        np.concatenate([np.array(r.channel_ids) for r, _ in cut]),
    )


def autocovariance(x: Float[np.ndarray, "row time"]) -> Float[np.ndarray, " lag"]:
    """Biased autocovariance about zero, mean over rows: positive semi-definite as a Toeplitz
    matrix.
    """
    n = x.shape[1]
    return (
        np.fft.irfft((np.abs(np.fft.rfft(x.astype(np.float64), n=2 * n)) ** 2).mean(axis=0))[:n] / n
    )


class Wiener:
    """The best linear predictor of the velocity from x_t, channel by channel.

    With x_t = a x0 + s eps and covariance C = U diag(c) U' of x0: E[v | x_t] = U diag(a s (1 - c) /
    (a² c + s²)) U' x_t.
    """

    def __init__(self, learned: Rows) -> None:
        covariance = {
            k: toeplitz(autocovariance(learned.x[learned.channel == k]))
            for k in np.unique(learned.channel)
        }
        covariance[-1] = toeplitz(
            autocovariance(learned.x)
        )  # for a channel that was not among those learned from
        self.bases = {k: np.linalg.eigh(c) for k, c in covariance.items()}

    def __call__(self, noised: np.ndarray, level: float, channel: np.ndarray) -> np.ndarray:
        a, s, found = level**0.5, (1 - level) ** 0.5, np.empty(noised.shape)
        for k in np.unique(channel):
            c, u = self.bases[k if k in self.bases else -1]
            c = np.maximum(c, 0.0)
            found[channel == k] = (
                noised[channel == k] @ u * (a * s * (1 - c) / (a**2 * c + s**2))
            ) @ u.T
        return found


def network(backbone: SSMDP, step: int) -> Callable[[np.ndarray, float, np.ndarray], np.ndarray]:
    """The backbone as a denoiser at one step."""

    @torch.inference_mode()
    def denoise(noised: np.ndarray, _: float, channel: np.ndarray) -> np.ndarray:
        x, ids = torch.from_numpy(noised.astype(np.float32))[:, None], torch.from_numpy(channel)
        parts = zip(x.split(ROWS_AT_ONCE), ids.split(ROWS_AT_ONCE), strict=True)
        return torch.cat([backbone(some, torch.full_like(i, step), i) for some, i in parts])[
            :, 0
        ].numpy()

    return denoise


def loss(
    denoise: Callable[[np.ndarray, float, np.ndarray], np.ndarray],
    rows: Rows,
    schedule: NoiseSchedule,
    step: int,
) -> float:
    """Mean squared error of the velocity at one step, with noise that belongs to the step."""
    level = schedule.alphas_cumprod[step].item()
    noise = generator(0, 4, step).standard_normal(rows.x.shape, dtype=np.float32)
    a, s = level**0.5, (1 - level) ** 0.5
    return float(
        (
            (denoise(a * rows.x + s * noise, level, rows.channel) - (a * noise - s * rows.x)) ** 2
        ).mean()
    )


def open_backbone(text: str) -> SSMDP:
    """A backbone's folder; `random:FOLDER` is a network of its size with seeded random weights."""
    found = load(text.removeprefix(RANDOM))
    assert isinstance(found, SSMDP), f"{text} is no backbone"
    if text.startswith(RANDOM):
        torch.manual_seed(0)
        found = SSMDP(**found.config)
    return found.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--learned",
        required=True,
        help="recordings that the linear denoiser learns from, FOLDER[:REGEX]",
    )
    parser.add_argument(
        "--test", action="append", required=True, help="NAME=FOLDER[:REGEX], several times"
    )
    parser.add_argument(
        "--backbone",
        action="append",
        required=True,
        help="NAME=FOLDER or NAME=random:FOLDER, several times",
    )
    parser.add_argument(
        "--windows", type=int, default=60, help="most windows (of all channels) of each set"
    )
    parser.add_argument("--duration", type=float, default=5.0, help="length of a window, s")
    parser.add_argument(
        "--steps", default="0,1,2,5,10,20,30,40,49", help="noise levels, of 0 to 49; all: every one"
    )
    args = parser.parse_args()
    schedule, ledger = NoiseSchedule(), Ledger(args.out)
    steps = (
        range(schedule.n_steps)
        if args.steps == "all"
        else [int(step) for step in args.steps.split(",")]
    )
    wiener = Wiener(read(args.learned, args.duration, 10 * args.windows))
    backbones = {
        name: open_backbone(folder)
        for name, _, folder in (text.partition("=") for text in args.backbone)
    }
    for name, _, folder in (text.partition("=") for text in args.test):
        rows = read(folder, args.duration, args.windows)
        for step in steps:
            denoisers = {
                "Wiener": wiener,
                **{b: network(model, step) for b, model in backbones.items()},
            }
            for who, denoise in denoisers.items():
                key = {"test": name, "denoiser": who, "step": step}
                ledger.add(key, lambda d=denoise, r=rows, t=step: {"loss": loss(d, r, schedule, t)})
    table = ledger.table.pivot_table(index="step", columns=["test", "denoiser"], values="loss")
    table.columns = [": ".join(column) for column in table.columns]
    print(markdown(table.reset_index()))
    print(
        "\nover these steps: "
        + ", ".join(f"{name} {value:.4f}" for name, value in table.mean().items())
    )


if __name__ == "__main__":
    run_main(main)
