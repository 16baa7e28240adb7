"""What storing tokens in fewer bits costs a classifier.

One classifier per seed is trained on float32 tokens and scored on the float32, float16 and int8
tokens of the same test events; then one is trained on each format with the same seed, and the
differences of kappa are given with their 95 % interval (Student's t over the seeds). Recipe `small`
on synthetic EEG:

    python -m benchmarks.token_formats --root runs/formats
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

BY_HAND = "python -m benchmarks.token_formats --root runs/formats"
FORMATS = ("float32", "float16", "int8")
SIZE = [
    "corpus.n_train=5",
    "corpus.n_eval=11",
    "corpus.minutes=10",
    "pretrain.epochs=6",
    "pretrain.max_windows=50",
    "finetune.epochs=6",
    "finetune.patience_from=6",
]
SMOKE = [
    "corpus.n_train=5",
    "corpus.n_eval=1",
    "corpus.minutes=1.2",
    "pretrain.epochs=1",
    "pretrain.max_windows=4",
    "finetune.epochs=1",
    "finetune.patience_from=1",
    "backbone.n_blocks=2",
    "fusion.depth=1",
]


def run(smoke: bool) -> list[dict[str, object]]:
    """Return the table at smoke size, made in a folder that is thrown away."""
    import tempfile

    with tempfile.TemporaryDirectory() as root:
        return compare(Path(root), [*SMOKE], n_seeds=2)


def compare(root: Path, size: list[str], n_seeds: int) -> list[dict[str, object]]:
    """Run the stages below ``root`` (finished ones are kept) and return one row per format."""
    from eegdm.stages import run_stage

    words = ["corpus=synthetic", "recipe=small", *size, f"root={root}"]
    recordings = run_stage("preprocess", words)
    backbone = run_stage("pretrain", words)
    exact = run_stage("cache", [*words, "latents.dtype=float32"])
    runs, bytes_ = {}, {}
    for name in FORMATS:
        latents = _recoded(exact, name, root / name / "latents")
        runs[name] = [
            *words,
            f"root={root / name}",
            f"recordings={recordings}",
            f"backbone={backbone}",
            f"latents={latents}",
            f"latents.dtype={name}",
        ]
        bytes_[name] = sum(f.stat().st_size for f in (latents / "shards").glob("*.npy"))
    scored: dict[str, list[dict[str, Any]]] = {name: [] for name in FORMATS}
    retrained: dict[str, list[float]] = {name: [] for name in FORMATS}
    for seed in range(n_seeds):
        classifiers = {
            name: run_stage("finetune", [*runs[name], f"seed={seed}"]) for name in FORMATS
        }
        wanted = _predictions(runs["float32"], classifiers["float32"])
        for name in FORMATS:
            found = _predictions(runs[name], classifiers["float32"])
            scored[name].append(
                {
                    **_kappa(found),
                    "error": np.abs(found["logits"] - wanted["logits"]).max(),
                    "changed": float(
                        (found["logits"].argmax(1) != wanted["logits"].argmax(1)).mean()
                    ),
                    "scale": np.abs(wanted["logits"]).max(),
                }
            )
            retrained[name].append(_kappa(_predictions(runs[name], classifiers[name]))["kappa"])
    return [_row(name, bytes_, scored, retrained) for name in FORMATS]


def _recoded(latents: Path, dtype: str, folder: Path) -> Path:
    """Write a float32 latents folder again in another format, as `eegdm cache` would; extraction is
    the same for all.
    """
    from eegdm import artifacts
    from eegdm.data.tokens import shard_name, write_shard

    if dtype == "float32" or artifacts.is_finished(folder):
        return latents if dtype == "float32" else folder
    made = artifacts.open_artifact(latents, "latents")
    config = {**made.config, "latents": {**made.config["latents"], "dtype": dtype}}
    windows = artifacts.read_table(made / "windows.parquet")
    with artifacts.building(folder, "latents", config, made.inputs):
        for shard in windows.shard.unique():
            write_shard(folder, int(shard), np.load(made / shard_name(int(shard))), dtype)
        artifacts.write_table(folder / "windows.parquet", windows)
        artifacts.finish(folder)
    return folder


def _predictions(words: list[str], classifier: Path) -> dict[str, Any]:
    """Labels and logits of the test events by a classifier, on the tokens that the words name."""
    from eegdm.compose import compose
    from eegdm.evaluation.scoring import logits_from_table, score_samples
    from eegdm.models.eegdm import EEGDM
    from eegdm.opening import open_data

    config = compose(words)
    config, data = open_data(config)
    test = data.part("test")
    table = score_samples(config, data, EEGDM.from_pretrained(classifier), test)
    return {"label": table.label.to_numpy(), "logits": logits_from_table(table)}


def _kappa(found: dict[str, Any]) -> dict[str, Any]:
    from eegdm.evaluation.metrics import scores

    return {
        "kappa": 100 * scores(found["label"], found["logits"])["kappa"],
        "events": len(found["label"]),
    }


def _row(
    name: str,
    bytes_: dict[str, int],
    scored: dict[str, list[dict[str, Any]]],
    retrained: dict[str, list[float]],
) -> dict[str, object]:
    base = scored["float32"]
    moved = [one["kappa"] - exact["kappa"] for one, exact in zip(scored[name], base, strict=True)]
    gained = np.array(retrained[name]) - np.array(retrained["float32"])
    return {
        "tokens": name,
        "test events": base[0]["events"],
        "MiB": round(bytes_[name] / 2**20, 2),
        "float32 bytes over these": round(bytes_["float32"] / bytes_[name], 3),
        "kappa x100, trained on float32, by seed": [round(one["kappa"], 3) for one in scored[name]],
        "largest change of kappa": round(max(moved, key=abs), 3),
        "largest logit difference": float(max(one["error"] for one in scored[name])),
        "largest logit": float(max(one["scale"] for one in base)),
        "decisions changed, %": round(100 * max(one["changed"] for one in scored[name]), 3),
        "kappa x100, retrained, by seed": [round(value, 3) for value in retrained[name]],
        "retrained minus float32, mean and 95 % interval": _interval(gained),
    }


def _interval(differences: np.ndarray) -> str:
    """Mean and 95 % interval of paired differences, by Student's t."""
    from scipy.stats import t

    half = t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return (
        f"{differences.mean():+.2f} [{differences.mean() - half:+.2f},"
        f" {differences.mean() + half:+.2f}]"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("runs/formats"),
        help="where the stages write; finished ones are kept",
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--smoke", action="store_true", help="the smallest run that goes through every line"
    )
    parser.add_argument(
        "settings", nargs="*", help="key=value words in place of those of the documented run"
    )
    chosen = parser.parse_args()
    rows = (
        run(True) if chosen.smoke else compare(chosen.root, [*SIZE, *chosen.settings], chosen.seeds)
    )
    print(json.dumps(rows, indent=2))
