"""How far tokens move when the same 5 s of EEG are sampled at another rate: the right way, and the
published way.

A full-size backbone of seeded random weights reads a recording that MNE resampled to each rate; its
tokens are compared with those at 200 Hz by ||difference|| / ||reference|| over all blocks, pools,
channels and features. The published way multiplies dt by f/200 instead of 200/f and pools 200
samples whatever the rate, so that it has another number of pools; those that both have are
compared. Below 160 Hz there is no room for the band up to 75 Hz; the last column compares with the
tokens at 200 Hz of the same narrower band, so that only the rate differs.

    python examples/sampling_rate.py [RECORDING]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eegdm import SSMDP
from eegdm.data.montage import TCP, Derivation, derive
from eegdm.data.signal import Filtering, compand, open_recording, preprocess
from eegdm.models.pooling import pool

RECORDING = Path(__file__).parents[2] / "shared" / "data" / "eegmmidb" / "S001R03.edf"
REFERENCE_HZ, RATES_HZ = 200, (100, 128, 160, 190, 250, 500)
STARTS_S, DURATION_S = (20, 60), 5
POOL = 200  # samples; at 200 Hz a second
ROWS_AT_ONCE = 4  # single channels whose activities of all blocks are held at once


def lowpass_at(sfreq: int) -> float:
    """The low-pass in Hz, as `eegdm preprocess` chooses it for a file of that rate."""
    return Filtering().effective(sfreq)[0].lowpass


def windows(
    path: Path, plan: list[Derivation], sfreq: int, lowpass: float
) -> Float[Tensor, "window channel time"]:
    """Read the windows at ``sfreq`` Hz, filtered, resampled and companded as `eegdm preprocess` and
    the readers do it.
    """
    filtering = Filtering(sfreq=float(sfreq), lowpass=lowpass)
    signal = preprocess(open_recording(path), plan, filtering).signal
    cut = [signal[:, start * sfreq : (start + DURATION_S) * sfreq] for start in STARTS_S]
    return torch.from_numpy(compand(np.stack(cut)))


def right_tokens(
    backbone: SSMDP, x: Float[Tensor, "window channel time"], ids: list[int], sfreq: int
) -> Float[Tensor, "window block pool channel feature"]:
    """dt x 200/f, pools of f samples."""
    return backbone.tokens(x, ids, sfreq=sfreq)[:, :, :, 0]


def published_tokens(
    backbone: SSMDP, x: Float[Tensor, "window channel time"], ids: list[int], sfreq: int
) -> Float[Tensor, "window block pool channel feature"]:
    """dt x f/200, pools of 200 samples; pooled here, since the published code takes no window that
    is longer than 1000 samples.
    """
    found = torch.cat(list(_published_rows(backbone, x, ids, sfreq)))
    return found.unflatten(0, x.shape[:2]).permute(0, 2, 3, 1, 4)


def _published_rows(
    backbone: SSMDP, x: Float[Tensor, "window channel time"], ids: list[int], sfreq: int
) -> Iterator[Float[Tensor, "row block pool feature"]]:
    rows, channel = x.flatten(0, 1)[:, None], torch.tensor(ids).repeat(len(x))
    bounds = [(start, start + POOL) for start in range(0, x.shape[-1] - POOL + 1, POOL)]
    for some, some_ids in zip(rows.split(ROWS_AT_ONCE), channel.split(ROWS_AT_ONCE), strict=True):
        gate = backbone.activations(
            some, torch.ones_like(some_ids), some_ids, sfreq=sfreq, compat="published"
        )
        yield pool(gate.flatten(0, 1), bounds, "std").unflatten(0, gate.shape[:2])


def distance(
    tokens: Float[Tensor, "window block pool channel feature"],
    reference: Float[Tensor, "window block pool channel feature"],
) -> float:
    """||difference|| / ||reference|| over the pools that both have, in order of time."""
    n_pools = min(tokens.shape[2], reference.shape[2])
    reference = reference[:, :, :n_pools]
    return float((tokens[:, :, :n_pools] - reference).norm() / reference.norm())


@torch.inference_mode()
def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDING
    plan = derive(open_recording(path).ch_names, TCP, missing="drop")
    ids = [channel.channel_id for channel in plan]
    torch.manual_seed(0)
    backbone = SSMDP().eval()
    references = {
        lowpass: right_tokens(
            backbone, windows(path, plan, REFERENCE_HZ, lowpass), ids, REFERENCE_HZ
        )
        for lowpass in {lowpass_at(sfreq) for sfreq in (*RATES_HZ, REFERENCE_HZ)}
    }
    reference = references[lowpass_at(REFERENCE_HZ)]
    print(
        f"{path.name}: {len(STARTS_S)} windows of {DURATION_S} s, {len(ids)} channels, against"
        f" {REFERENCE_HZ} Hz\n"
    )
    print("| rate, Hz | right way | published way | right way, same band |\n|---|---|---|---|")
    for sfreq in RATES_HZ:
        x = windows(path, plan, sfreq, lowpass_at(sfreq))
        right = right_tokens(backbone, x, ids, sfreq)
        published = published_tokens(backbone, x, ids, sfreq)
        off = (
            distance(right, reference),
            distance(published, reference),
            distance(right, references[lowpass_at(sfreq)]),
        )
        print(f"| {sfreq} | {off[0]:.1%} | {off[1]:.1%} | {off[2]:.1%} |", flush=True)


if __name__ == "__main__":
    main()
