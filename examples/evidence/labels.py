"""Does pretraining help? Scores on unseen subjects over the number of labels learned from, for four
ways to train the same network.

    python examples/evidence/labels.py --root runs/labels --seeds 0,1,2 recipe=small

Ways: the backbone pretrained and frozen, random and frozen, pretrained and trained on with the
classifier, and from scratch (random, trained with the classifier). All validate on the whole
validation part. Each training takes about --steps optimizer steps, however few the labels ("all":
as the recipe says). Recordings and the pretrained backbone are made once, under --root; rows of
--root/labels.csv that are there are not made again. Words at the end are settings of every stage.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from ledger import Ledger, markdown

from eegdm.checkpoints.load import load
from eegdm.compose import compose
from eegdm.console import run_main
from eegdm.evaluation.metrics import scores
from eegdm.evaluation.scoring import logits_from_table, score_samples
from eegdm.opening import open_data
from eegdm.stages import run_stage

WAYS = {
    "pretrained, frozen": [],
    "random weights, frozen": ["backbone=random"],
    "pretrained, fine-tuned": ["latents.cached=false", "finetune.train_backbone=true"],
    "from scratch": ["backbone=random", "latents.cached=false", "finetune.train_backbone=true"],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--labels", default="10,30,100,300,all")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--ways", default=";".join(WAYS), help="separated by semicolons")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument(
        "words", nargs="*", help="settings, such as recipe=small corpus=tuev source=DIR"
    )
    args = parser.parse_args()
    ledger = Ledger(args.root / "labels.csv")
    for stage in ("preprocess", "pretrain"):
        run_stage(stage, [*args.words, f"root={args.root / 'shared'}"])
    for labels in args.labels.split(","):
        for way in args.ways.split(";"):
            for seed in map(int, args.seeds.split(",")):
                key = {"labels": labels, "way": way, "seed": seed}
                ledger.add(
                    key,
                    lambda n=labels, w=way, s=seed: score(
                        args.root, args.words, n, w, s, args.steps
                    ),
                )
    summary = ledger.table.groupby(["labels", "way"], sort=False)[
        ["kappa", "balanced_accuracy"]
    ].agg(["mean", lambda x: x.std(ddof=0)])
    summary.columns = [
        f"{name}, {'mean' if what == 'mean' else 'std'}" for name, what in summary.columns
    ]
    print(markdown(summary.reset_index()))


def score(
    root: Path, words: list[str], labels: str, way: str, seed: int, steps: int
) -> dict[str, Any]:
    """Train one way on so many labels and score it on the test part."""
    base = compose([*words, f"root={root / 'shared'}"])
    shared = root / "shared" / base.corpus.name / base.recipe
    here = root / way.replace(", ", "-").replace(" ", "-")
    typed = [*words, f"recordings={shared / 'recordings'}", *WAYS[way]]
    typed += [] if "backbone=random" in typed else [f"backbone={shared / 'backbone'}"]
    if "latents.cached=false" not in typed:
        typed += [f"latents={run_stage('cache', [*typed, f'root={here}'])}"]
    typed += [f"root={here / labels}", f"seed={seed}", *_training(base, labels, steps)]
    classifier = run_stage("finetune", typed)
    config = compose(typed)
    config, data = open_data(config)
    found = score_samples(
        config,
        data,
        load(str(classifier)),
        data.part("test"),
    )  # type: ignore[arg-type]
    result = scores(found.label.to_numpy(), logits_from_table(found))
    return {
        "learned from": int((data.samples.split == "train").sum()),
        **{name: result[name] for name in ("kappa", "balanced_accuracy") if name in result},
    }


def _training(base: Any, labels: str, steps: int) -> list[str]:
    """Epochs that come to so many steps; patience is a fifth of them."""
    if labels == "all":
        return []
    batch = min(base.finetune.batch_size, int(labels))
    epochs = max(1, round(steps / math.ceil(int(labels) / batch)))
    patience = max(1, epochs // 5)
    return [
        f"finetune.max_samples={labels}",
        f"finetune.batch_size={batch}",
        f"finetune.epochs={epochs}",
        f"finetune.patience={patience}",
        f"finetune.patience_from={2 * patience}",
    ]


if __name__ == "__main__":
    run_main(main)
