"""Put the backbone that `mini.sh` trained into the package, with a card that says whom it learned
from, how its loss fell, and what its tokens were worth on people whom it never met.

    for set in adhd:12 guinea_bissau:20; do
      eegdm evaluate DATA/people/${set%:*} --table DATA/people/${set%:*}/events.csv \
          --model runs/mini/folder/people/backbone --windows ${set#*:} --missing drop \
          --out runs/mini/${set%:*}            # guinea_bissau: --channels file
    done
    python examples/evidence/package_mini.py --backbone runs/mini/folder/people/backbone \
        --minutes 30 --evaluation runs/mini/adhd --evaluation runs/mini/guinea_bissau
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from eegdm import artifacts
from eegdm.console import run_main
from eegdm.evaluation.study import BAND_POWER, CLASSICAL, RANDOM, Evaluation
from eegdm.models.backbone import SSMDP
from eegdm.models.locate import PACKAGED
from eegdm.report.evaluation_page import read_evaluation
from eegdm.report.evaluation_words import number

DATA = """\
The model was trained, without labels, on open recordings of {people} people ({hours:.2f} h in {n}
recordings):

- EEGMAT 1.0.0 (PhysioNet), 24 people at rest and at mental arithmetic, 20 of the 22 TCP channels;
- PhysioNet EEG Motor Movement/Imagery (eegmmidb 1.0.0), subject 1, runs 3 to 10: rest, executed and
  imagined movement, 20 channels;
- CHB-MIT Scalp EEG 1.0.0, 22 excerpts of 10 to 50 s from patients 1, 2 and 3, half of them within a
  seizure, 16 channels.

A tenth of the people served for validation: nothing was learned from them but the whitening filter,
which is that of all recordings. Signals were filtered to
0.5-45 Hz, notch-filtered at 50 and 60 Hz, resampled to 100 Hz, scaled by the recording's robust
spread and whitened. Most of the people are healthy young adults; the model has seen little of other
ages, states and devices."""
RECIPE = """\
`examples/evidence/mini.sh DATA ROOT`: recipe `people`, seed {seed}, {epochs} epochs of {steps} steps
with 32 single-channel windows of 5 s each, {minutes} min on one CPU core. The loss is the mean squared
error of the velocity over all noise levels (a network that has learned nothing has a loss of 1), of
people whom it never met. The head-room is the way from a linear denoiser that knows the mean
spectrum (0) to one that knows each window's own (1):

| epoch | training | validation | share of the head-room |
|---|---|---|---|
{curve}"""  # noqa: E501
TABLE = """\
Linear heads on tokens of people whom the model never met (`eegdm evaluate`; learned from other
people; intervals over people, widened for shared heads):

| set | score | `mini` | random weights | band power | band power + covariance |
|---|---|---|---|---|---|
{rows}"""
LICENCE = """\
The recordings are under the Open Data Commons Attribution License (ODC-By 1.0), PhysioNet
(Goldberger et al. 2000; Zyma et al. 2019, EEGMAT; Schalk et al. 2004, BCI2000; Shoeb 2009,
CHB-MIT). The weights are under the licence of this package."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--minutes", type=int, required=True, help="how long the training took")
    parser.add_argument("--evaluation", type=Path, action="append", default=[])
    parser.add_argument("--out", type=Path, default=PACKAGED / "mini")
    args = parser.parse_args()
    artifacts.open_artifact(args.backbone, "backbone")
    model, curves = SSMDP.from_pretrained(args.backbone), pd.read_csv(args.backbone / "curves.csv")
    trained_on, loss = model.info["data"], model.info["metrics"]
    curve = "\n".join(
        f"| {int(r.epoch) + 1} | {r.train_loss:.3f} | {r.val_loss:.3f} | {r.val_headroom:.2f} |"
        for r in curves.itertuples()
    )
    found = [read_evaluation(folder) for folder in args.evaluation]
    rows = "\n".join(_row(one) for one in found if one is not None)
    losses = "\n".join(f"- {name}: {value}" for name, value in loss.items())
    info = {
        **model.info,
        "data": DATA.format(
            people=trained_on["subjects"], hours=trained_on["hours"], n=trained_on["recordings"]
        ),
        "recipe": RECIPE.format(
            seed=model.info["recipe"]["seed"],
            epochs=len(curves),
            steps=int(curves.step.iloc[-1]) // len(curves),
            minutes=args.minutes,
            curve=curve,
        ),
        "metrics": f"{losses}\n\n{TABLE.format(rows=rows)}" if rows else losses,
        "licence": LICENCE,
        "license": "apache-2.0",
    }
    print(model.save_pretrained(args.out, info=info))


def _row(evaluation: Evaluation) -> str:
    about, scores = evaluation.about, evaluation.results.scores
    level, score = about.headline
    own = scores[(scores.treatment == about.treatment) & scores.n_people.isna()]
    own = own[(own.level == level) & (own.score == score)].set_index("features")
    cells = [
        f"{number(r.value)} [{number(r.low)}, {number(r.high)}]"
        for r in (own.loc[name] for name in (about.networks.model, RANDOM, BAND_POWER, CLASSICAL))
    ]
    classes = " or ".join(about.classes)
    said = f"{evaluation.page.parent.name}: {classes}, {about.people} people"
    return f"| {said} | {score} ({level}) | {' | '.join(cells)} |"


if __name__ == "__main__":
    run_main(main)
