"""One small run of everything that a user can call, for an environment with other versions of the
dependencies than the tests have: `make test-versions`. It needs no pytest.

Results are not compared with golden numbers here; finite values of the right shape, and the files
that the documents promise, show that every library is called in a way that it knows.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS)]
os.environ.setdefault("OMP_NUM_THREADS", "1")


def main(parts: list[str]) -> None:
    print_versions()
    with tempfile.TemporaryDirectory() as folder:
        if "core" in parts:
            classifier, backbone, recording = run_stages(Path(folder))
            predict_and_embed(classifier, recording, Path(folder))
            generate(backbone, Path(folder))
        if "braindecode" in parts:
            train_in_braindecode()
    print(f"{' and '.join(parts)}: every part runs")


def print_versions() -> None:
    """The versions of what EEGDM requires by name."""
    required = [r for r in importlib.metadata.requires("eegdm") or [] if "extra ==" not in r]
    names = [re.match(r"[\w-]+", requirement)[0] for requirement in required]  # type: ignore[index]
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(names)))


def run_stages(folder: Path) -> tuple[Path, Path, Path]:
    """The five stages through the command line; the classifier, the backbone and a recording."""
    from stages.tiny import SIZES, command_line, write_corpora

    write_corpora(folder)
    words = ["corpus=tuev", f"root={folder / 'runs'}", f"source={folder / 'tuev'}", *SIZES]
    for stage in ("preprocess", "pretrain", "cache", "finetune", "report"):
        given = [word for word in words if stage == "preprocess" or "source=" not in word]
        finished = command_line(stage, *given)
        assert finished.returncode == 0, finished.stderr
        # a library that is about to change says so in a warning, which a user should not meet
        assert "Warning" not in finished.stderr, finished.stderr
    results = folder / "runs" / "tuev" / "base"
    assert (results / "report" / "report.html").is_file()
    recording = next((folder / "tuev").rglob("eval/**/*.edf"))
    return results / "classifier" / "seed=0", results / "backbone", recording


def predict_and_embed(classifier: Path, recording: Path, folder: Path) -> None:
    """Events, their page, a copy with the events in it, and embeddings."""
    import numpy as np

    from stages.tiny import command_line

    out = folder / "predicted"
    options = ("--model", classifier, "--out", out, "--copy", "fif")
    for words in (
        ("predict", recording, *options),
        ("embed", recording, "--model", "mini", "--out", out / "embedded.npz"),
        ("info", classifier, "--verify"),
    ):
        finished = command_line(*words)
        assert finished.returncode == 0, (words, finished.stderr)
    suffixes = {path.name.rpartition("_")[2] for path in out.iterdir()}
    assert {"events.tsv", "probabilities.parquet", "report.html"} <= suffixes, suffixes
    with np.load(out / "embedded.npz") as stored:
        embedding = stored["embeddings"]
    assert embedding.size and np.isfinite(embedding).all()


def generate(backbone: Path, folder: Path) -> None:
    """A window of each channel, as a recording."""
    import mne
    import numpy as np

    from stages.tiny import command_line

    finished = command_line("generate", "--model", backbone, "--out", folder / "drawn_raw.fif")
    assert finished.returncode == 0, finished.stderr
    raw = mne.io.read_raw(folder / "drawn_raw.fif", verbose="ERROR")
    assert len(raw.ch_names) == 22 and np.isfinite(raw.get_data()).all()


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
    trained = EEGClassifier(model, max_epochs=2, train_split=None, verbose=0).fit(x, y)
    probabilities = trained.predict_proba(x)
    assert probabilities.shape == (6, 2) and np.isfinite(probabilities).all()


if __name__ == "__main__":
    main(sys.argv[1:] or ["core", "braindecode"])
