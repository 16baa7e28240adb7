"""One small run of everything that a user can call, for an environment with other versions of the
dependencies than the tests have: `make test-versions`. It needs no pytest.

Results are not compared with golden numbers here; finite values of the right shape, and the files
that the documents promise, show that every library is called in a way that it knows.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import pkgutil
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS)]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"


def main(parts: list[str]) -> None:
    print_versions()
    with tempfile.TemporaryDirectory() as folder:
        if "core" in parts:
            import_every_module()
            classifier, backbone, recording = run_stages(Path(folder))
            predict_and_embed(classifier, backbone, recording, Path(folder))
            generate(backbone, Path(folder))
        if "installed" in parts:
            run_what_readme_shows(classifier, recording)
        if "braindecode" in parts:
            train_in_braindecode()
    print(f"{' and '.join(parts)}: every part runs")


def print_versions() -> None:
    """The versions of what EEGDM and its extras require by name, as far as it is installed."""
    names = {re.split(r"[^\w-]", line)[0] for line in importlib.metadata.requires("eegdm") or []}
    found = []
    for name in sorted(names, key=str.lower):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    print(", ".join(found))


def import_every_module() -> None:
    """All but those that run something or need an extra when they are imported."""
    import eegdm

    names = {module.name for module in pkgutil.walk_packages(eegdm.__path__, "eegdm.")}
    for name in sorted(names - {"eegdm.__main__", "eegdm.braindecode"}):
        importlib.import_module(name)


def run(*words: object) -> None:
    """A command, which succeeds; a library that is about to change says so in a warning, which a
    user should not meet.
    """
    from stages.tiny import command_line

    finished = command_line(*words)
    assert finished.returncode == 0 and "Warning" not in finished.stderr, (words, finished.stderr)


def run_stages(folder: Path) -> tuple[Path, Path, Path]:
    """The five stages through the command line, with what the extras are for: a dask cluster,
    loggers, a job of submitit. Return the classifier, the backbone and a recording.
    """
    from distributed import LocalCluster

    from stages.tiny import SIZES, write_corpora

    write_corpora(folder)
    words = ["corpus=tuev", f"root={folder / 'runs'}", *SIZES]
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        run("preprocess", *words, f"source={folder / 'tuev'}", f"cluster={address}")
    run("pretrain", *words, "run.loggers=[tensorboard,wandb]")
    run("sweep", "cache", *words, "--launcher", "local")
    run("cache", *words)
    run("finetune", *words)
    run("report", *words)
    results = folder / "runs" / "tuev" / "base"
    for pattern in (
        "backbone/logs/events.out.tfevents.*",
        "backbone/logs/wandb/offline-run-*/run-*.wandb",
        "report/report.html",
    ):
        assert list(results.glob(pattern)), pattern
    recording = next((folder / "tuev").rglob("eval/**/*.edf"))
    return results / "classifier" / "seed=0", results / "backbone", recording


def predict_and_embed(classifier: Path, backbone: Path, recording: Path, folder: Path) -> None:
    """Events, their page, a copy with the events in it, and embeddings."""
    import numpy as np

    out = folder / "predicted"
    run("predict", recording, "--model", classifier, "--out", out, "--copy", "fif")
    run("embed", recording, "--model", backbone, "--out", out / "embedded.npz")
    run("info", classifier, "--verify")
    suffixes = {path.name.rpartition("_")[2] for path in out.iterdir()}
    assert {"events.tsv", "probabilities.parquet", "report.html"} <= suffixes, suffixes
    with np.load(out / "embedded.npz") as stored:
        embedding = stored["embeddings"]
    assert embedding.size and np.isfinite(embedding).all()


def generate(backbone: Path, folder: Path) -> None:
    """A window of each channel, as a recording."""
    import mne
    import numpy as np

    run("generate", "--model", backbone, "--out", folder / "drawn_raw.fif")
    raw = mne.io.read_raw(folder / "drawn_raw.fif", verbose="ERROR")
    assert len(raw.ch_names) == 22 and np.isfinite(raw.get_data()).all()


def run_what_readme_shows(classifier: Path, recording: Path) -> None:
    """README's first lines of Python, with the package installed and not read from a checkout."""
    import eegdm

    assert TESTS.parent / "src" not in Path(eegdm.__file__).parents, eegdm.__file__
    readme = (TESTS.parent / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"## In Python\n\n```python\n(.*?)```", readme, re.DOTALL)
    for shown, real in (
        ("runs/synthetic/demo/classifier/seed=0", classifier),
        ("recording.edf", recording),
    ):
        assert shown in block, shown
        block = block.replace(shown, str(real))
    found: dict[str, Any] = {}
    exec(block, found)
    assert len(found["prediction"].windows) and found["embeddings"].values.size
    run("embed", recording.parent, "--model", "mini", "--out", recording.parents[1] / "embedded")


def train_in_braindecode() -> None:
    """Two epochs of braindecode's classifier on noise."""
    import numpy as np
    from braindecode import EEGClassifier

    from eegdm import SSMDP
    from eegdm.braindecode import EEGDM

    x = np.random.default_rng(0).standard_normal((6, 3, 1000)).astype("float32") * 3e-5
    y = np.array([0, 1] * 3)
    channels = [{"ch_name": name} for name in ("C3", "Cz", "C4")]
    model = EEGDM.from_backbone(
        SSMDP(d_model=8, n_blocks=2, d_state=4, d_cond=8, d_embed=8),
        n_outputs=2,
        n_times=1000,
        sfreq=200.0,
        chs_info=channels,
        fusion={"n_tokens": 2, "n_heads": 2, "depth": 1},
    )
    before = model.final_layer.weight.detach().clone()
    # braindecode drops a last batch that is not full, so six windows are two whole batches
    classifier = EEGClassifier(model, max_epochs=2, batch_size=3, train_split=None, verbose=0)
    trained = classifier.fit(x, y)
    assert (model.final_layer.weight.detach() != before).any(), "nothing was trained"
    probabilities = trained.predict_proba(x)
    assert probabilities.shape == (6, 2) and np.isfinite(probabilities).all()


if __name__ == "__main__":
    main(sys.argv[1:] or ["core", "braindecode"])
