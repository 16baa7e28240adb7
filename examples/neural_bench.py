"""Rows of NeuralBench for a backbone: its tokens, frozen, probed by the benchmark's own code.

    pip install neuralbench==0.4.0        # needs Python 3.12
    python examples/neural_bench.py                                         # synthetic recordings
    python examples/neural_bench.py --data DIR --tasks mental_arithmetic,seizure   # the benchmark's

NeuralBench takes a built ``torch.nn.Module`` that accepts windows of any channels and any length,
with the channels' names; it filters the recordings, cuts windows, puts a head of its own on the
model, trains that head and scores people whom it did not learn from. What it is given here are the
logs of the tokens of each channel, averaged over the seconds of a window and standardised by what
is usual in the windows that the head learns from. The filters are those that the backbone's own
recordings had; where these were scaled to one spread per recording, each window is scaled by its
own.

Without ``--data``, the recordings are synthetic and lie in the layout of EEGMAT, which is the data
set of the benchmark's task `mental_arithmetic`: 36 people, two recordings each, of whom alpha waves
tell which is which.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from edfio import Edf, EdfSignal
from torch import Tensor, nn

from eegdm.braindecode import EEGDM
from eegdm.checkpoints.load import load_backbone
from eegdm.console import run_main
from eegdm.errors import UserError

N_PEOPLE, SFREQ, DURATION_S = 36, 500, 10
ELECTRODES = (
    *("Fp1", "Fp2", "F3", "F4", "F7", "F8", "T3", "T4", "C3", "C4"),
    *("T5", "T6", "P3", "P4", "O1", "O2", "Fz", "Cz", "Pz"),
)
QUICK = {
    "trainer_config.n_epochs": 5,
    "data.batch_size": 8,
    "data.num_workers": 0,
    "lightning_optimizer_config.optimizer.lr": 3e-3,
    "lightning_optimizer_config.scheduler.kwargs.max_lr": 3e-3,
}
"""For synthetic recordings: a few epochs of small batches and large steps."""


class Tokens(nn.Module):
    """A frozen backbone as NeuralBench takes a model: windows in, features of each channel out.

    Args:
        model: backbone: a folder, checkpoint or hub id.
    """

    def __init__(self, model: str) -> None:
        super().__init__()
        self.backbone = load_backbone(model)
        self.sfreq = float(self.backbone.info["signal"]["sfreq"])
        sizes = self.backbone.config
        # Without labels; as eegdm's own linear head standardises what it is given.
        self.standardise = nn.BatchNorm1d(sizes["n_blocks"] * sizes["d_model"], affine=False)

    def forward(self, x: Tensor, channel_positions: Tensor, ch_names: list[str]) -> Tensor:
        """Return features (batch, channel, feature) of windows (batch, channel, time) in volts.

        The channels' names tell the backbone where they are; the benchmark wants that a model
        accepts ``channel_positions`` too.
        """
        reader = EEGDM.from_backbone(
            self.backbone,
            n_outputs=1,
            chs_info=[{"ch_name": name} for name in ch_names],
            n_times=x.shape[2],
            sfreq=self.sfreq,
            fusion={"kind": "linear", "per_channel": True},
        )
        features = reader.to(x.device)(x, return_features=True)["features"]
        features = features.unflatten(1, (x.shape[1], -1))
        return self.standardise(features.transpose(1, 2)).transpose(1, 2)

    def preprocessing(self) -> dict[str, Any]:
        """The benchmark's settings by which recordings become what the backbone has learned."""
        signal = self.backbone.info["signal"]
        return {
            "data.neuro.frequency": self.sfreq,
            "data.neuro.filter": [signal["highpass"], signal["lowpass"]],
            "data.neuro.notch_filter": signal["notch"],
            "data.neuro.scaler": None,
            "data.neuro.clamp": None,
        }


def write_synthetic(data: Path) -> None:
    """Write recordings of 36 people in the place where the benchmark looks for EEGMAT."""
    folder = data / "Zyma2019Electroencephalograms" / "download" / "eegmat" / "1.0.0"
    folder.mkdir(parents=True)
    for who in range(N_PEOPLE):
        for run in (1, 2):
            signals = [
                EdfSignal(row, SFREQ, label=f"EEG {name}", physical_dimension="uV")
                for name, row in zip(ELECTRODES, simulated(who, run), strict=True)
            ]
            Edf(signals, data_record_duration=1).write(folder / f"Subject{who:02d}_{run}.edf")
    people = pd.DataFrame({"Subject": [f"Subject{who:02d}" for who in range(N_PEOPLE)]})
    people = people.assign(Age=20, Gender="F", **{"Number of subtractions": 1, "Count quality": 1})
    people.to_csv(folder / "subject-info.csv", index=False)


def simulated(who: int, run: int) -> np.ndarray:
    """A recording (channel, time) in µV of somebody whose alpha waves are weaker in run 2."""
    rng = np.random.default_rng([who, run])
    n_times = SFREQ * DURATION_S
    spectrum = np.fft.rfft(rng.standard_normal((len(ELECTRODES), n_times)))
    noise = np.fft.irfft(spectrum / np.sqrt(1 + np.arange(spectrum.shape[-1])), n_times)
    phase = rng.uniform(0, 2 * np.pi, (len(ELECTRODES), 1))
    alpha = np.sin(20 * np.pi * np.arange(n_times) / SFREQ + phase)
    strength = rng.uniform(0, 6) + (4 if run == 1 else 0)
    return 20 * noise / noise.std() + strength * alpha


def rows(model: Tokens, data: Path, tasks: list[str], overrides: dict[str, Any]) -> pd.DataFrame:
    """The benchmark's rows of a model on tasks whose data are below a folder."""
    places = {"DATA_DIR": data, "CACHE_DIR": data / "cache", "SAVE_DIR": data / "results"}
    others = {"USER": "", "ENTITY_NAME": "", "PROJECT_NAME": "eegdm", "WANDB_HOST": ""}
    slurm = {"SLURM_PARTITION": "", "SLURM_CONSTRAINT": "", "N_CPUS": 1, "CLUSTER": None}
    settings = data / "neuralbench.json"
    settings.write_text(json.dumps({**others, **slurm, **{k: str(v) for k, v in places.items()}}))
    # The benchmark reads where its folders are when it is imported.
    os.environ["NEURALBENCH_CONFIG"] = str(settings)
    from neuralbench import evaluate_model

    return evaluate_model(
        model,
        "eeg",
        tasks,
        name="eegdm",
        overrides={**model.preprocessing(), **overrides},
        download=False,
        prepare=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mini", help="backbone: a folder, checkpoint or hub id")
    parser.add_argument("--data", type=Path, help="folder with the benchmark's data sets")
    parser.add_argument("--tasks", default="mental_arithmetic", help="separated by commas")
    args = parser.parse_args()
    torch.set_num_threads(1 if args.data is None else torch.get_num_threads())
    model = Tokens(args.model)
    with tempfile.TemporaryDirectory() as folder:
        if args.data is None:
            write_synthetic(Path(folder))
        found = rows(
            model,
            args.data or Path(folder),
            args.tasks.split(","),
            QUICK if args.data is None else {},
        )
    if found.empty:
        raise UserError("no experiment has finished; the benchmark's messages above say why")
    told = found.filter(regex="^(task_name|dataset_name|seed|test/.*)$")
    print(told.to_string(index=False))


if __name__ == "__main__":
    run_main(main)
