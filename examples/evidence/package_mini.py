"""Put the backbone that `mini.sh` trained into the package, with a card that describes its training
data and how its loss fell.

    python examples/evidence/package_mini.py \
        --backbone runs/mini/mini/folder/mini/backbone --minutes 30
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from eegdm.artifacts import open_artifact
from eegdm.console import run_main
from eegdm.models.backbone import SSMDP
from eegdm.models.locate import PACKAGED

DATA = """\
The model was trained, without labels, on all open recordings with which this project is tested:

- PhysioNet EEG Motor Movement/Imagery (eegmmidb 1.0.0), subject 1, runs 3 to 10: 8 recordings of
  125 s, 20 of the 22 TCP channels (A1 and A2 are absent), 160 Hz; rest, executed and imagined
  movement.
- CHB-MIT Scalp EEG 1.0.0: 22 excerpts of 10 to 50 s from patients 1, 2 and 3, half of them within a
  seizure.

These are {hours:.2f} h of EEG in {n} recordings, a tenth of which served for validation. The
signals were filtered to 0.1-75 Hz (the limit at 160 Hz), notch-filtered at 60 Hz, resampled to
200 Hz and companded. The recordings are from four people: the model has seen next to nothing of how
EEG differs between people, ages, states and devices, and does not support any statement about
them."""
RECIPE = """\
`examples/evidence/mini.sh ../shared/data runs/mini`: recipe `mini`, seed {seed}, {epochs} epochs of {steps} steps
with 64 single-channel windows of 5 s each, {minutes} min on one CPU core. The loss is the mean squared
error of the velocity over all noise levels; a network that has learned nothing has a loss of 1:

| epoch | training | validation |
|---|---|---|
{curve}"""  # noqa: E501
LICENCE = """\
The recordings are under the Open Data Commons Attribution License (ODC-By 1.0), PhysioNet
(Goldberger et al. 2000; Schalk et al. 2004, BCI2000; Shoeb 2009, CHB-MIT). The weights are under
the licence of this package."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--minutes", type=int, required=True, help="how long the training took")
    parser.add_argument("--out", type=Path, default=PACKAGED / "mini")
    args = parser.parse_args()
    open_artifact(args.backbone, "backbone")
    model, curves = SSMDP.from_pretrained(args.backbone), pd.read_csv(args.backbone / "curves.csv")
    trained_on = model.info["data"]
    curve = "\n".join(
        f"| {int(r.epoch) + 1} | {r.train_loss:.3f} | {r.val_loss:.3f} |"
        for r in curves.itertuples()
    )
    steps = int(curves.step.iloc[-1]) // len(curves)
    info = {
        **model.info,
        "data": DATA.format(hours=trained_on["hours"], n=trained_on["recordings"]),
        "recipe": RECIPE.format(
            seed=model.info["recipe"]["seed"],
            epochs=len(curves),
            steps=steps,
            minutes=args.minutes,
            curve=curve,
        ),
        "licence": LICENCE,
        "license": "apache-2.0",
    }
    print(model.save_pretrained(args.out, info=info))


if __name__ == "__main__":
    run_main(main)
