"""Rows of Open EEG Bench for a backbone: its tokens, frozen, probed by the benchmark's own code.

    pip install open-eeg-bench
    python examples/openeegbench.py                                       # simulated data
    python examples/openeegbench.py --datasets arithmetic_zyma2019,tuev      # the benchmark's

The benchmark gives windows at 100 Hz in µV, with any channels and of any length; it builds the
model, loads its weights, puts a head of its own on it and scores people whom that head did not
learn from. What it takes as a model is :class:`eegdm.braindecode.EEGDM` with a linear readout: the
logs of the tokens of each channel, without a transformer, so that nothing but the head is trained.

Its windows are high-passed at 0.1 Hz only, so they are not filtered as the backbone's were (0.5 to
45 Hz, a notch), and each is scaled by its own spread instead of its recording's.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from braindecode.datasets import BaseConcatDataset, create_from_X_y
from open_eeg_bench import benchmark
from open_eeg_bench.backbone import PretrainedBackbone
from open_eeg_bench.dataset import Dataset, PredefinedSplitter
from open_eeg_bench.experiment import Experiment
from open_eeg_bench.finetuning import Frozen
from open_eeg_bench.head import FlattenHead
from open_eeg_bench.training import RidgeProbingTraining

from eegdm.braindecode import EEGDM
from eegdm.console import run_main

SFREQ, N_TIMES, N_PEOPLE, N_WINDOWS = 100, 400, 10, 24
ELECTRODES = ["Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "C3", "Cz", "C4", "P3", "Pz", "P4", "O1"]


def as_the_benchmark_takes_it(model: str, folder: Path) -> dict[str, Any]:
    """The arguments of ``benchmark()`` that describe a backbone; its weights go into a file."""
    built = EEGDM.from_backbone(
        model,
        n_outputs=2,
        chs_info=[{"ch_name": "Cz"}],
        n_times=N_TIMES,
        sfreq=float(SFREQ),
        unit="uV",
        fusion={"kind": "linear", "per_channel": True},
    )
    kept = ("backbone", "tokens", "fusion", "unit", "mu", "spread", "whiten", "train_backbone")
    weights = {k: v for k, v in built.state_dict().items() if k.startswith("backbone.")}
    path = folder / "backbone.pth"
    torch.save(weights, path)
    config = built.get_config()
    return {
        "model_cls": "eegdm.braindecode.EEGDM",
        "checkpoint_path": str(path),
        "model_kwargs": {name: config[name] for name in kept},
    }


class Simulated(Dataset):
    """People whose alpha waves come and go, in the form of the benchmark's data."""

    def load(self) -> BaseConcatDataset:
        return BaseConcatDataset([window for who in range(N_PEOPLE) for window in simulated(who)])


def simulated(who: int) -> list[Any]:
    """The windows of somebody."""
    rng = np.random.default_rng(who)
    label = np.arange(N_WINDOWS) % 2
    spectrum = np.fft.rfft(rng.standard_normal((N_WINDOWS, len(ELECTRODES), N_TIMES)))
    noise = np.fft.irfft(spectrum / np.sqrt(1 + np.arange(spectrum.shape[-1])), N_TIMES)
    phase = rng.uniform(0, 2 * np.pi, (N_WINDOWS, len(ELECTRODES), 1))
    alpha = np.sin(20 * np.pi * np.arange(N_TIMES) / SFREQ + phase)
    strength = rng.uniform(0, 6, (N_WINDOWS, 1, 1)) + 4 * label[:, None, None]
    x = (20 * noise / noise.std() + strength * alpha).astype(np.float32)
    windows = create_from_X_y(x, label, drop_last_window=False, sfreq=SFREQ, ch_names=ELECTRODES)
    windows.set_description({"subject": [f"{who:02d}"] * N_WINDOWS}, overwrite=True)
    return windows.datasets


def row_of_simulated(arguments: dict[str, Any]) -> pd.DataFrame:
    names = [f"{who:02d}" for who in range(N_PEOPLE)]
    experiment = Experiment(
        backbone=PretrainedBackbone(**arguments),
        head=FlattenHead(),
        finetuning=Frozen(),
        training=RidgeProbingTraining(),
        dataset=Simulated(
            hf_id="simulated",
            revision="none",
            n_classes=2,
            splitter=PredefinedSplitter(
                metadata_key="subject",
                train_values=names[:5],
                val_values=names[5:7],
                test_values=names[7:],
            ),
        ),
    )
    found = experiment.run()
    return pd.DataFrame(
        [{"dataset": "simulated", "balanced accuracy": found["test_balanced_accuracy"]}]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mini", help="backbone: a folder, checkpoint or hub id")
    parser.add_argument("--datasets", help="names of the benchmark's, separated by commas")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments = as_the_benchmark_takes_it(args.model, Path(folder))
        if args.datasets is None:
            print(row_of_simulated(arguments).to_string(index=False))
            return
        rows = benchmark(
            **arguments,
            datasets=args.datasets.split(","),
            finetuning_strategies=["ridge_probe"],
            infra={"folder": folder},
        )
        print(rows.to_string(index=False))


if __name__ == "__main__":
    run_main(main)
