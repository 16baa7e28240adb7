"""Scaling by the spread and whitening are settings of a backbone, which everyone who reads with it
applies.
"""

from __future__ import annotations

import json
from pathlib import Path

import mne
import numpy as np
import pytest
import torch

import eegdm
from eegdm.artifacts import read_table
from eegdm.config import WindowConfig
from eegdm.data.recordings import Recordings
from eegdm.data.signal import ModelUnits, robust_spread
from eegdm.data.synthetic.layouts import write_folder
from eegdm.data.tokens import TokenStore
from eegdm.data.windows import assign_splits
from eegdm.errors import UserError
from eegdm.models.backbone import SSMDP
from eegdm.stages import run_stage
from stages.tiny import SIZES

UNITS = {"mu": 0.0, "spread": 0.35, "whiten": [1.5, -1.2, 0.2]}
TYPED = ["signal.mu=0", "signal.spread=0.35", "signal.whiten=[1.5,-1.2,0.2]"]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("units")
    write_folder(folder / "source", "table", n_subjects=4, n_runs=1, minutes=1.2, seed=1)
    words = [
        "corpus=folder",
        f"source={folder / 'source'}",
        "events=table",
        f"table={folder / 'source' / 'events.csv'}",
        f"root={folder / 'runs'}",
        "split=subject",
        "windows.policy=grid",
        "corpus.classes=[SPSW,GPED,PLED,EYEM,ARTF,BCKG]",
        "signal.sfreq=100",
        "signal.lowpass=45",
        *SIZES,
    ]
    run_stage("preprocess", words)
    run_stage("pretrain", [*words, *TYPED])
    return words


@pytest.fixture(scope="module")
def backbone(words: list[str]) -> Path:
    root = Path(words[4].removeprefix("root="))
    return root / "folder" / "base" / "backbone"


def file_of(words: list[str], recording: str) -> Path:
    (file,) = Path(words[1].removeprefix("source=")).rglob(f"{Path(recording).name}.*")
    return file


def test_a_backbone_says_what_it_was_shown(backbone: Path) -> None:
    stated = json.loads((backbone / "config.json").read_text())["signal"]
    assert UNITS.items() <= stated.items() and stated["sfreq"] == 100.0


def test_stored_tokens_and_embeddings_of_the_file_are_those_of_scaled_and_whitened_windows(
    words: list[str], backbone: Path
) -> None:
    """Computed step by step from the recording; cache and embed were told nothing."""
    latents = run_stage("cache", [*words, "latents.dtype=float32"])
    opened = Recordings(backbone.parent / "recordings")
    windows = read_table(latents / "windows.parquet")
    first = windows.iloc[0]
    signal = opened.signal(first.recording)
    units = ModelUnits.of(UNITS)
    cut = signal[:, first.start_sample : first.start_sample + first.n_times]
    low, high = np.percentile(signal, (25, 75), axis=1)
    shown = units.shown(cut, float(np.median(high - low)) / 1.349)
    model = eegdm.load(str(backbone))
    expected = (
        model.tokens(torch.from_numpy(shown[None]), range(len(shown)), sfreq=100.0).detach().numpy()
    )
    store = TokenStore(latents)
    key = (first.recording, int(first.start_sample), int(first.n_times))
    stored = store.read(key, slice(None))
    np.testing.assert_allclose(stored, np.moveaxis(expected[0], 3, 0), rtol=1e-3, atol=1e-5)

    found = eegdm.embed(file_of(words, first.recording), backbone, tokens=True)
    (place,) = np.flatnonzero(found.about.onset_s == first.start_sample / 100)
    np.testing.assert_allclose(found.values[place], expected[0], rtol=1e-3, atol=1e-5)


def test_a_classifier_marks_a_recording_alike_in_microvolts_and_in_millivolts(
    words: list[str],
) -> None:
    """The spread takes out any factor; the classifier knows so from its backbone."""
    folder = run_stage("finetune", [*words, "latents.cached=false", "finetune.epochs=1"])
    classifier = eegdm.load(str(folder))
    assert UNITS.items() <= classifier.signal.items()
    file = next(Path(words[1].removeprefix("source=")).rglob("*.edf"))
    raw = mne.io.read_raw_edf(file, preload=True, verbose="ERROR")
    louder = raw.copy().apply_function(lambda x: 3 * x, picks="all", verbose="ERROR")
    one, other = (eegdm.predict(r, classifier) for r in (raw, louder))
    columns = list(classifier.classes)
    np.testing.assert_allclose(one.windows[columns], other.windows[columns], atol=1e-4)
    assert any("robust spread" in step for step in one.steps)
    assert any("whitened" in step for step in one.steps)


def test_generated_eeg_is_as_large_and_as_sampled_as_typical_recordings(
    words: list[str], backbone: Path, tmp_path: Path
) -> None:
    """Shown to the model again, it is what the reverse process ended with."""
    made = eegdm.generate(str(backbone), ["F7-T3", "T3-C3"], n=2, sampler="ddim", steps=4)
    assert made.sfreq == 100.0 and made.signal.shape == (2, 2, 500)
    recordings = Recordings(backbone.parent / "recordings")
    learned = recordings.table.recording[
        assign_splits(recordings.table, "folder", WindowConfig(split="subject"), None) == "train"
    ]
    spreads = [robust_spread(recordings.signal(name)) for name in learned]
    stated = eegdm.load(str(backbone)).info["typical_spread_uv"]
    assert stated == pytest.approx(100 * np.median(spreads), abs=1e-3)
    shown = ModelUnits.of(UNITS).shown(1e4 * made.signal, stated / 100)
    louder = SSMDP.from_pretrained(backbone)
    louder.info["typical_spread_uv"] = 2 * stated
    twice = eegdm.generate(louder, ["F7-T3", "T3-C3"], n=2, sampler="ddim", steps=4)
    np.testing.assert_allclose(twice.signal, 2 * made.signal, rtol=1e-6, atol=1e-12)
    again = ModelUnits.of(UNITS).recovered(shown.astype(np.float64), stated / 100)
    np.testing.assert_allclose(again / 1e4, made.signal, rtol=1e-4, atol=1e-9)
    del louder.info["typical_spread_uv"]
    with pytest.raises(UserError, match="does not say how large they were"):
        eegdm.generate(louder, n=1)


def test_a_model_of_braindecode_scales_and_whitens_each_window(backbone: Path) -> None:
    braindecode = pytest.importorskip("eegdm.braindecode")
    chs_info = [{"ch_name": name} for name in ("F7-T3", "T3-C3", "C3-CZ")]
    model = braindecode.EEGDM.from_backbone(
        backbone, n_outputs=2, chs_info=chs_info, n_times=500, sfreq=100.0
    ).eval()
    x = 3e-5 * np.random.default_rng(2).standard_normal((2, 3, 500)).astype(np.float32)
    units = ModelUnits.of(UNITS)
    shown = np.stack([units.shown(window, robust_spread(window)) for window in x])
    np.testing.assert_allclose(model._model_units(torch.from_numpy(x)), shown, atol=2e-5)
    with torch.inference_mode():
        loud, quiet = model(torch.from_numpy(7 * x)), model(torch.from_numpy(x))
    torch.testing.assert_close(loud, quiet, rtol=1e-4, atol=1e-4)
    again = braindecode.EEGDM.from_config(json.loads(json.dumps(model.get_config())))
    assert again.model_units == model.model_units == units


def test_the_population_is_told_in_the_units_of_surprise(words: list[str], backbone: Path) -> None:
    """Most seconds of the recordings that a model learned from lie inside, and those of one ten
    times too loud outside, though it is shown both alike.
    """
    recordings = Recordings(backbone.parent / "recordings")
    splits = assign_splits(recordings.table, "folder", WindowConfig(split="subject"), None)
    learned = recordings.table.recording[splits == "train"].iloc[0]
    raw = mne.io.read_raw_edf(file_of(words, learned), preload=True, verbose="ERROR")
    outside = []
    for factor in (1.0, 10.0):
        louder = raw.copy().apply_function(lambda x, k=factor: k * x, verbose="ERROR")
        found = eegdm.surprise(louder, str(backbone), missing="drop")
        outside.append(float((found.seconds.population > 1).mean()))
    assert outside[0] < 0.1 and outside[1] > 0.5


def test_other_units_than_the_backbone_s_are_refused(words: list[str], backbone: Path) -> None:
    with pytest.raises(UserError, match=r"signal\.spread=0\.35, not 1\.0"):
        run_stage("cache", [*words, "signal.spread=1"])
    with pytest.raises(UserError, match="rate=native: this model's whitening filter"):
        eegdm.embed(next(Path(words[1][7:]).rglob("*.edf")), backbone, rate="native")
    with pytest.raises(UserError, match="leave out signal.spread and signal.whiten"):
        run_stage("preprocess", ["corpus=chbmit", "signal.per_window=true", "signal.spread=1"])
