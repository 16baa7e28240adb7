"""Put the backbone that `mini.sh` trained into the package, with a card that says what it has seen
and how its loss fell.

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
All the open recordings that this project tests with, without labels:

- PhysioNet EEG Motor Movement/Imagery (eegmmidb 1.0.0), subject 1, runs 3 to 10: 8 recordings of 125 s, 20 of the 22
  TCP channels (no A1, A2), 160 Hz; rest, executed and imagined movement.
- CHB-MIT Scalp EEG 1.0.0, 22 excerpts of 10 to 50 s of patients 1, 2 and 3, half of them within a seizure.

{hours:.2f} h in all, of {n} recordings, a tenth of which validates; 0.1 to 75 Hz (what 160 Hz allows), notch at 60 Hz, 200 Hz,
companded. Four people: it knows next to nothing of how EEG differs between people, ages, states and devices, and is of no
use for any statement about them."""  # noqa: E501
RECIPE = """\
`examples/evidence/mini.sh ../shared/data runs/mini`: recipe `mini`, seed {seed}, {epochs} epochs of {steps} steps of 64
single-channel windows of 5 s, {minutes} min on one core of a CPU. Loss (mean squared error of the velocity over all noise
levels; a network that has learned nothing has 1):

| epoch | training | validation |
|---|---|---|
{curve}"""  # noqa: E501
LICENCE = """\
The recordings: Open Data Commons Attribution License (ODC-By 1.0), PhysioNet (Goldberger et al. 2000; Schalk et al. 2004,
BCI2000; Shoeb 2009, CHB-MIT). The weights: that of this package."""  # noqa: E501


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--minutes", type=int, required=True, help="what the training took")
    parser.add_argument("--out", type=Path, default=PACKAGED / "mini")
    args = parser.parse_args()
    open_artifact(args.backbone, "backbone")
    model, curves = SSMDP.from_pretrained(args.backbone), pd.read_csv(args.backbone / "curves.csv")
    told = model.info["data"]
    curve = "\n".join(
        f"| {int(r.epoch) + 1} | {r.train_loss:.3f} | {r.val_loss:.3f} |"
        for r in curves.itertuples()
    )
    steps = int(curves.step.iloc[-1]) // len(curves)
    info = {
        **model.info,
        "data": DATA.format(hours=told["hours"], n=told["recordings"]),
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
