"""MOABB's contract, on arrays as it gives them: microvolts (trial, channel, time), labels as texts,
pipelines from YAML that are cloned for each fold. CI does not install MOABB, whose dependencies
change pins of requirements.lock; docs/moabb.md shows the example's output.
"""

from __future__ import annotations

import importlib
import pickle
import re
from typing import Any

import mne
import numpy as np
import pytest
import yaml
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline

from conftest import ROOT
from eegdm.errors import UserError
from eegdm.sklearn import EEGDMFeatures

EXAMPLE = ROOT / "examples" / "moabb"
CONFIG = yaml.safe_load((EXAMPLE / "eegdm.yml").read_text(encoding="utf-8"))
N_TRIALS, SECONDS = 24, 3


def pipeline() -> Pipeline:
    """The pipeline of the file, as MOABB makes it: `name` of module `from` with `parameters`."""
    return make_pipeline(
        *(
            getattr(importlib.import_module(part["from"]), part["name"])(
                **part.get("parameters", {})
            )
            for part in CONFIG["pipeline"]
        )
    )


@pytest.fixture(scope="module")
def trials() -> tuple[mne.EpochsArray, np.ndarray]:
    """Trials in volts with a rhythm of 10 Hz over one hemisphere, and whose hand they are of."""
    features = CONFIG["pipeline"][0]["parameters"]
    names, sfreq = features["ch_names"], features["sfreq"]
    rng = np.random.default_rng(0)
    label = np.array(["left_hand", "right_hand"] * (N_TRIALS // 2))
    times = np.arange(SECONDS * sfreq + 1) / sfreq
    volts = 2e-5 * rng.standard_normal((N_TRIALS, len(names), len(times)))
    for trial, hand in enumerate(label):
        side = names.index("C3" if hand == "left_hand" else "C4")
        volts[trial, side] += 4e-5 * np.sin(20 * np.pi * times + trial)
    info = mne.create_info(names, sfreq, "eeg")
    return mne.EpochsArray(volts, info, verbose="ERROR"), label


def test_the_pipeline_tells_hands_apart_across_people(
    trials: tuple[mne.EpochsArray, np.ndarray],
) -> None:
    epochs, label = trials
    microvolts = 1e6 * epochs.get_data()  # as MOABB's unit_factor does
    person = np.repeat(np.arange(3), N_TRIALS // 3)
    found = cross_val_score(
        pipeline(), microvolts, label, groups=person, cv=GroupKFold(3), scoring="roc_auc"
    )
    assert found.min() > 0.95
    by_chance = np.random.default_rng(1).permutation(label)
    guessed = cross_val_score(
        pipeline(), microvolts, by_chance, groups=person, cv=GroupKFold(3), scoring="roc_auc"
    )
    assert 0.2 < guessed.mean() < 0.8


def test_microvolts_and_epochs_in_volts_are_the_same(
    trials: tuple[mne.EpochsArray, np.ndarray],
) -> None:
    """With `return_epochs=True` MOABB gives epochs, which say all that the file has to say."""
    epochs, _ = trials
    arrays = pipeline()[0].fit_transform(1e6 * epochs.get_data())
    own = EEGDMFeatures("mini", first_block=4).fit_transform(epochs)
    assert np.allclose(arrays, own, rtol=1e-5) and arrays.shape == (N_TRIALS, 4 * 32 * 3)
    with pytest.raises(UserError, match="unit"):
        clone(pipeline()[0]).set_params(unit="V").fit(1e6 * epochs.get_data())


def test_a_pipeline_is_cloned_pickled_and_named_as_moabb_does(
    trials: tuple[mne.EpochsArray, np.ndarray],
) -> None:
    epochs, label = trials
    microvolts = 1e6 * epochs.get_data()
    fitted = clone(pipeline()).fit(microvolts, label)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict(microvolts), fitted.predict(microvolts))
    assert set(fitted.classes_) == {"left_hand", "right_hand"}
    # By this text MOABB knows whether it has scored a pipeline before
    assert repr(pipeline()) == repr(clone(pipeline())) and " at 0x" not in repr(pipeline())


def test_the_example_s_paradigm_has_the_channels_and_rate_of_the_file() -> None:
    text = (EXAMPLE / "run.py").read_text(encoding="utf-8")
    paradigm: dict[str, Any] = CONFIG["pipeline"][0]["parameters"]
    (channels,) = re.findall(r"channels=(\[.*?\])", text)
    assert yaml.safe_load(channels) == paradigm["ch_names"]
    assert re.findall(r"resample=(\d+)", text) == [str(paradigm["sfreq"])]
    (name,) = re.findall(r"import (\w+Imagery)\n", text)
    assert name in CONFIG["paradigms"]
