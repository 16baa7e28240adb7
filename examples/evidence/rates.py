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
from pathlib import Path
from typing import Any

from ledger import Ledger, markdown

from eegdm.checkpoints.load import load
from eegdm.compose import compose
from eegdm.config import with_settings
from eegdm.console import run_main
from eegdm.evaluation.metrics import scores
from eegdm.evaluation.scoring import logits_from_table, score_samples
from eegdm.evaluation.selection import select
from eegdm.opening import label_data, open_classifier, resolve

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
    for path in [run.path for run in select(config).runs]:
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
    at_rate = with_settings(config, {"run.rate": rate / TRAINED_HZ})
    own, inputs = resolve(at_rate, "report")
    own, _, inputs = open_classifier(own, path, inputs.recordings)
    data = label_data(own, inputs)
    model = load(str(path), compat="published" if way == "published" else None)
    found = score_samples(own, data, model, data.part("test"))  # type: ignore[arg-type]
    result = scores(found.label.to_numpy(), logits_from_table(found))
    return {
        name: result[name]
        for name in ("kappa", "balanced_accuracy", "weighted_f1", "auc_pr", "auroc")
        if name in result
    }


if __name__ == "__main__":
    run_main(main)
