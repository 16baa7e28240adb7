"""What a sampling rate other than the trained one costs: classifiers of a finished run, tested on
resampled windows, no retraining.

    python examples/evidence/rates.py --out rates.csv --rates 160,180,190,200,250 \
        corpus=synthetic recipe=small root=runs/table

The words name a run whose classifiers are finished. "right" steps the SSM by 200/f and pools f
samples to the second; "published" steps it by f/200 and keeps pools of 200 samples, as the
published code does (it takes no rate above the trained one).
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

from ledger import Ledger, markdown

from eegdm.artifacts import open_artifact
from eegdm.checkpoints.load import load
from eegdm.cli import run_main
from eegdm.compose import compose
from eegdm.evaluation.metrics import scores
from eegdm.layout import adopt, finished_classifiers, upstream
from eegdm.stages.finetune import label_data, logits_of, predict

TRAINED_HZ = 200.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rates", default="160,180,190,200,250")
    parser.add_argument("words", nargs="*", help="settings that name a finished run")
    args = parser.parse_args()
    config, ledger = compose(args.words), Ledger(args.out)
    for path in finished_classifiers(config, config.recipe):
        for rate in map(float, args.rates.split(",")):
            for way in ("right", "published"):
                if way == "right" or rate <= TRAINED_HZ:
                    key = {"classifier": path.name, "rate_Hz": rate, "way": way}
                    ledger.add(key, lambda p=path, r=rate, w=way: score(config, p, r, w))
    columns = [
        name
        for name in ("kappa", "balanced_accuracy", "weighted_f1", "auc_pr")
        if name in ledger.table
    ]
    print(markdown(ledger.table.groupby(["rate_Hz", "way"])[columns].mean().reset_index()))


def score(config: Any, path: Path, rate: float, way: str) -> dict[str, Any]:
    """Scores of one classifier on the test windows, resampled to a rate."""
    own = copy.deepcopy(config)
    own.run.rate = rate / TRAINED_HZ
    source = upstream(own, "recordings")
    adopt(own, open_artifact(path, "classifier"))
    data = label_data(own, source, None, {})
    model = load(str(path), compat="published" if way == "published" else None)
    found = predict(
        own, data, model, data.samples[data.samples.split == "test"].reset_index(drop=True)
    )  # type: ignore[arg-type]
    result = scores(found.label.to_numpy(), logits_of(found), own.finetune.loss == "binary")
    return {
        name: result[name]
        for name in ("kappa", "balanced_accuracy", "weighted_f1", "auc_pr", "auroc")
        if name in result
    }


if __name__ == "__main__":
    run_main(main)
