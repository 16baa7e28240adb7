"""How like real EEG a backbone's EEG is, for each sampler and number of steps, beside the floor
that real EEG sets itself.

    python examples/evidence/generation.py --out generation \
        --backbone runs/table/synthetic/base/backbone \
        --recordings runs/table/synthetic/base/recordings --samples 16

Writes distances.csv (a row per source and channel: DDPM, DDIM and DPM-Solver++ with 50, 20, 10 and
5 steps, and the floor, two halves of the real windows that share no recording) and the windows
drawn, as .npy files that are not drawn again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ledger import markdown

from eegdm.artifacts import atomic_path, open_artifact
from eegdm.checkpoints.load import load
from eegdm.console import run_main
from eegdm.data.recordings import Recordings
from eegdm.data.signal import expand
from eegdm.data.windows import grid
from eegdm.evaluation.generation_quality import DISTANCE_SENTENCES, compare
from eegdm.models.backbone import SSMDP
from eegdm.models.diffusion import NoiseSchedule, sample_with

# ddpm with all of the schedule's steps is the published one
SAMPLERS = [(name, n) for name in ("ddpm", "ddim", "dpmsolver++") for n in (50, 20, 10, 5)]
ROWS_AT_ONCE = 64


def real_windows(recordings: Recordings, n_times: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows (channel, window, time), µV, spread evenly over the recordings that have all
    channels, and whose recording each is.
    """
    names = recordings.ch_names
    rows = [r for r in recordings.table.itertuples() if list(r.ch_names) == names]
    places = [
        (r.recording, int(start)) for r in rows for start in grid(r.n_times, n_times, n_times)
    ]
    chosen = [
        places[i] for i in np.unique(np.linspace(0, len(places) - 1, most).round().astype(int))
    ]
    cut = [np.array(recordings.signal(name)[:, start : start + n_times]) for name, start in chosen]
    return 100 * np.stack(cut, axis=1), np.array([name for name, _ in chosen])


def draw(
    backbone: SSMDP,
    schedule: NoiseSchedule,
    sampler: tuple[str, int],
    ids: Sequence[int],
    n: int,
    n_times: int,
    sfreq: float,
) -> np.ndarray:
    """Draw windows (channel, window, time) in model units (100 µV, companded), of any length and
    from the same start for every sampler, which `eegdm.generate` does not offer.
    """
    channel = torch.tensor(list(ids)).repeat_interleave(n)
    start = torch.randn(len(channel), 1, n_times, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    drawn = [
        sample_with(backbone, schedule.sampler(*sampler), rows, noise, generator, sfreq)
        for rows, noise in zip(channel.split(ROWS_AT_ONCE), start.split(ROWS_AT_ONCE), strict=True)
    ]
    return torch.cat(drawn).reshape(len(ids), n, n_times).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument(
        "--recordings",
        type=Path,
        required=True,
        help="real EEG to compare with, prepared as the backbone's was",
    )
    parser.add_argument(
        "--samples", type=int, default=16, help="windows drawn of each channel, by each sampler"
    )
    parser.add_argument("--real", type=int, default=200, help="most real windows")
    parser.add_argument("--duration", type=float, default=5.0, help="length of a window, s")
    args = parser.parse_args()
    backbone, made, recordings = (
        load(str(args.backbone)),
        open_artifact(args.backbone, "backbone").config,
        Recordings(args.recordings),
    )
    assert isinstance(backbone, SSMDP)
    d, mu = made["diffusion"], made["signal"]["mu"]
    schedule = NoiseSchedule(d["n_steps"], d["schedule"], d["beta_start"], d["beta_end"])
    n_times = round(args.duration * recordings.sfreq)
    real, unit = real_windows(recordings, n_times, args.real)
    ids = list(recordings.table.channel_ids.iloc[0])
    generated = {}
    for sampler in (s for s in SAMPLERS if s[1] <= schedule.n_steps):
        name = f"{sampler[0]}-{sampler[1]}"
        path = args.out / f"{name}.npy"
        if not path.is_file():
            drawn = draw(
                backbone.eval(), schedule, sampler, ids, args.samples, n_times, recordings.sfreq
            )
            with atomic_path(path) as temporary:
                np.save(temporary, drawn)
        drawn = np.load(path, allow_pickle=False)
        generated[name] = 100 * (expand(drawn, mu) if mu else drawn)
        print(f"{name}: {drawn.shape[1]} windows of {drawn.shape[0]} channels", flush=True)
    table = compare(real, unit, generated, recordings.sfreq, recordings.ch_names)
    table.to_csv(args.out / "distances.csv", index=False)
    print(
        "\n"
        + "\n".join(f"{name}: {text}" for name, text in DISTANCE_SENTENCES.items())
        + "\n\nmean over channels:\n"
    )
    print(
        markdown(table.groupby("source", sort=False)[list(DISTANCE_SENTENCES)].mean().reset_index())
    )


if __name__ == "__main__":
    run_main(main)
