"""The features behave as scikit-learn's transformers do, and are the backbone's tokens."""

from __future__ import annotations

import pickle
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eegdm import EEGDM, SSMDP
from eegdm.data.montage import TCP
from eegdm.data.signal import compand
from eegdm.errors import UserError
from eegdm.sklearn import EEGDMFeatures

CH_NAMES, SFREQ = ["C3", "Cz", "T3-C3", "O2"], 250.0
NEAREST = [TCP.index(name) for name in ("C3-P3", "C3-CZ", "T3-C3", "T6-O2")]
SIZE = {"d_model": 8, "n_blocks": 3, "d_state": 8, "d_cond": 8, "d_embed": 8}


@pytest.fixture(scope="module")
def backbone() -> SSMDP:
    torch.manual_seed(0)
    model = SSMDP(**SIZE).eval()
    for block in model.blocks:
        torch.nn.init.normal_(
            block.condition.weight
        )  # zero in an untrained backbone, which would not heed channel and step
    return model


@pytest.fixture
def X() -> np.ndarray:
    """Twelve windows of 2 s in volts; the last six are three times as large."""
    noise = np.random.default_rng(0).normal(scale=20e-6, size=(12, 4, 500))
    return noise * np.repeat([1.0, 3.0], 6)[:, None, None]


Y = np.repeat([0, 1], 6)


def features(backbone: SSMDP | str | Path, **options: object) -> EEGDMFeatures:
    return EEGDMFeatures(
        backbone, **{"ch_names": CH_NAMES, "sfreq": SFREQ, "device": "cpu", **options}
    )


def epochs(X: np.ndarray, ch_names: list[str] = CH_NAMES) -> mne.EpochsArray:
    return mne.EpochsArray(X, mne.create_info(ch_names, SFREQ, "eeg"), verbose="ERROR")


@pytest.mark.parametrize("mu", [0.0, 20.0, 255.0])
def test_windows_are_companded_as_in_pretraining(
    backbone: SSMDP, X: np.ndarray, tmp_path: Path, mu: float
) -> None:
    X = 10 * X  # well above 100 µV
    stored = backbone.save_pretrained(tmp_path, info={"signal": {"mu": mu}})
    expected = features(backbone, mu=mu).fit_transform(X)
    np.testing.assert_array_equal(features(stored).fit_transform(X), expected)
    other = features(stored, mu=100.0).fit_transform(X)
    assert np.abs(other - expected).max() > 1e-3


def test_a_classifier_s_backbone_keeps_what_the_classifier_says_of_it(X: np.ndarray) -> None:
    sizes = {"backbone": SIZE, "fusion": {"n_heads": 2, "depth": 1}, "n_times": 500}
    torch.manual_seed(0)
    model = EEGDM(**sizes, sfreq=SFREQ, signal={"mu": 20.0}, compat="published").eval()
    x = torch.from_numpy(compand(10 * X * 1e4, 20.0)).float()
    with torch.inference_mode():
        tokens = model.backbone.tokens(x, NEAREST, sfreq=SFREQ, compat="published")
        rightly = model.backbone.tokens(x, NEAREST, sfreq=SFREQ)
    assert not torch.equal(tokens[:, :, :2], rightly)
    found = features(model).fit_transform(10 * X)
    expected = tokens.mean(dim=2).numpy().reshape(12, -1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_features_are_the_backbone_s_tokens(backbone: SSMDP, X: np.ndarray) -> None:
    x = torch.from_numpy(compand(X * 1e4)).float()
    with torch.inference_mode():
        tokens = backbone.tokens(
            x,
            NEAREST,
            query=["gate", "inter"],
            pool=["std", "mean"],
            step=2,
            sfreq=250.0,
            blocks=slice(1, 3),
        )
    options = {"query": ["gate", "inter"], "pool": ["std", "mean"], "step": 2, "first_block": 1}
    side_by_side = features(backbone, over_time="concat", **options).fit_transform(X)
    assert side_by_side.dtype == np.float32 and side_by_side.shape == (12, 2 * 2 * 2 * 4 * 8)
    np.testing.assert_allclose(side_by_side, tokens.numpy().reshape(12, -1), rtol=1e-5, atol=1e-6)
    mean = features(backbone, **options).fit_transform(X)
    np.testing.assert_allclose(
        mean, tokens.mean(dim=2).numpy().reshape(12, -1), rtol=1e-5, atol=1e-6
    )


def test_names_tell_each_feature(backbone: SSMDP, X: np.ndarray) -> None:
    estimator = features(
        backbone, over_time="concat", query=["gate", "inter"], pool=["std", "mean"], first_block=1
    ).fit(X)
    names = list(estimator.get_feature_names_out())
    values = estimator.transform(X)
    assert len(set(names)) == len(names) == values.shape[1]
    x = torch.from_numpy(compand(X * 1e4)).float()
    with torch.inference_mode():
        tokens = backbone.tokens(x, NEAREST, query="inter", pool="mean", sfreq=250.0).numpy()
    np.testing.assert_allclose(
        values[:, names.index("b2_s1_inter_mean_T3-C3_f5")],
        tokens[:, 2, 1, 0, 2, 5],
        rtol=1e-5,
        atol=1e-6,
    )


def test_channels_are_the_nearest_of_the_22(backbone: SSMDP, X: np.ndarray) -> None:
    assert features(backbone).fit(X).channel_ids_ == NEAREST
    assert (
        features(backbone, ch_names=["C4", *CH_NAMES[1:]]).fit_transform(X)
        != features(backbone).fit_transform(X)
    ).any()


def test_the_montage_s_pairs_are_derived(backbone: SSMDP, X: np.ndarray) -> None:
    estimator = features(backbone, montage="tcp").fit(X)
    assert estimator.ch_names_ == ["T3-C3", "C3-CZ"]
    pairs = np.stack([X[:, 2], X[:, 0] - X[:, 1]], axis=1)
    np.testing.assert_array_equal(
        estimator.transform(X), features(backbone, ch_names=["T3-C3", "C3-CZ"]).fit_transform(pairs)
    )


def test_units_epochs_and_batches_change_nothing(backbone: SSMDP, X: np.ndarray) -> None:
    expected = features(backbone).fit_transform(X)
    for found in (
        features(backbone, unit="uV").fit_transform(X * 1e6),
        features(backbone, ch_names=None, sfreq=None).fit_transform(epochs(X)),
        features(backbone, ch_names=None, sfreq=None).fit_transform([epochs(X[:5]), epochs(X[5:])]),
        features(backbone, batch_size=5).fit_transform(X),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_windows_are_filtered_if_asked(backbone: SSMDP, X: np.ndarray) -> None:
    mains = X + 200e-6 * np.sin(2 * np.pi * 50 * np.arange(500) / SFREQ)
    wanted = features(backbone).fit_transform(
        mne.filter.notch_filter(mains, SFREQ, [50.0], verbose="ERROR")
    )
    np.testing.assert_array_equal(features(backbone, notch=[50]).fit_transform(mains), wanted)
    wanted = features(backbone).fit_transform(
        mne.filter.filter_data(X, SFREQ, 2.0, 40.0, verbose="ERROR")
    )
    np.testing.assert_array_equal(
        features(backbone, highpass=2.0, lowpass=40.0).fit_transform(X), wanted
    )


def test_a_model_may_be_a_folder_or_a_classifier(
    backbone: SSMDP, X: np.ndarray, tmp_path: Path
) -> None:
    expected = features(backbone).fit_transform(X)
    folder = backbone.save_pretrained(tmp_path / "backbone")
    np.testing.assert_array_equal(features(folder).fit_transform(X), expected)
    classifier = EEGDM(backbone, {"n_heads": 2, "n_tokens": 2, "depth": 1})
    np.testing.assert_array_equal(features(classifier).fit_transform(X), expected)


def test_parameters_clone_and_set(backbone: SSMDP, X: np.ndarray, tmp_path: Path) -> None:
    estimator = features(str(backbone.save_pretrained(tmp_path))).fit(X)
    copied = clone(estimator)
    assert copied.get_params() == estimator.get_params() and not hasattr(copied, "backbone_")
    copied.set_params(over_time="concat", step=3)
    assert (copied.over_time, copied.step) == ("concat", 3) and copied.fit_transform(X).shape[
        1
    ] == 2 * estimator.transform(X).shape[1]
    with pytest.raises(ValueError, match="Invalid parameter"):
        copied.set_params(stpe=3)


def test_clone_of_a_model_object_gives_the_same_features(backbone: SSMDP, X: np.ndarray) -> None:
    np.testing.assert_array_equal(
        clone(features(backbone)).fit_transform(X), features(backbone).fit_transform(X)
    )


def test_a_pickled_estimator_needs_no_files(backbone: SSMDP, X: np.ndarray, tmp_path: Path) -> None:
    folder = backbone.save_pretrained(tmp_path / "backbone")
    estimator = features(folder).fit(X)
    expected, kept = estimator.transform(X), pickle.dumps(estimator)
    folder.rename(tmp_path / "moved")
    np.testing.assert_array_equal(pickle.loads(kept).transform(X), expected)


def test_not_fitted(backbone: SSMDP, X: np.ndarray) -> None:
    with pytest.raises(NotFittedError):
        features(backbone).transform(X)
    with pytest.raises(NotFittedError):
        features(backbone).get_feature_names_out()


def test_input_and_model_stay_as_they_are(backbone: SSMDP, X: np.ndarray) -> None:
    before, weights = (
        X.copy(),
        {name: tensor.clone() for name, tensor in backbone.state_dict().items()},
    )
    for unit in ("V", "uV"):
        features(backbone, unit=unit, montage="tcp", notch=[50]).fit_transform(
            X if unit == "V" else (X * 1e6)
        )
    np.testing.assert_array_equal(X, before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in backbone.state_dict().items())


def test_fitting_twice_or_after_other_windows_is_the_same(backbone: SSMDP, X: np.ndarray) -> None:
    estimator = features(backbone)
    first = estimator.fit(X).transform(X)
    np.testing.assert_array_equal(estimator.fit(X).transform(X), first)
    np.testing.assert_array_equal(estimator.fit(X[:3] * 2).transform(X), first)


def test_set_output(backbone: SSMDP, X: np.ndarray) -> None:
    estimator = features(backbone).fit(X)
    table = estimator.set_output(transform="pandas").transform(X)
    assert isinstance(table, pd.DataFrame) and list(table.columns) == list(
        estimator.get_feature_names_out()
    )
    np.testing.assert_array_equal(
        table.to_numpy(), estimator.set_output(transform="default").transform(X)
    )


@pytest.mark.parametrize(
    "options, change, message",
    [
        ({}, lambda X: X[:, :3], "X has 3 channels, ch_names names 4: C3, Cz, T3-C3, O2"),
        ({}, lambda X: X[0], r"X has shape \(4, 500\); windows are \(window, channel, time\)"),
        ({}, lambda X: X[:0], "at least one"),
        (
            {},
            lambda X: np.where(np.arange(500) == 7, np.nan, X),
            "missing or infinite, first in window 0, channel 0",
        ),
        ({}, lambda X: X * 1e6, "X, taken as V: suspect units: .* unit= says in what X is"),
        ({"unit": "uV"}, lambda X: X, "X, taken as uV: suspect units"),
        ({}, lambda X: X * 0, "all channels are flat"),
        ({"ch_names": None}, lambda X: X, "give ch_names= and sfreq="),
        (
            {"ch_names": ["C3", "Cz", "EOG", "O2"]},
            lambda X: X,
            "channels EOG: their names give no place on the head",
        ),
        (
            {"ch_names": ["C3", "Cz", "C3", "O2"]},
            lambda X: X,
            "ch_names names 'C3' repeatedly; leave out all but one, or number them",
        ),
        ({"unit": "µV"}, lambda X: X, "unit='µV': choose from V, mV, uV"),
        ({"montage": "average"}, lambda X: X, "montage='average': choose from own, tcp"),
        ({"over_time": "max"}, lambda X: X, "over_time='max': choose from mean, concat"),
        ({"query": "gates"}, lambda X: X, "query='gates' is unknown"),
        ({"last_block": 4}, lambda X: X, "not within the backbone's 0..3"),
        ({}, lambda X: X[..., :200], "holds no pool"),
    ],
)
def test_what_is_refused_when_fitting(
    backbone: SSMDP, X: np.ndarray, options: dict, change, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        features(backbone, **options).fit(change(X))


def test_other_windows_than_it_was_fitted_on_are_refused(backbone: SSMDP, X: np.ndarray) -> None:
    estimator = features(backbone).fit(X)
    with pytest.raises(
        UserError,
        match=(
            "4 channels, 400 samples at 250 Hz; it was fitted on 4 channels, 500 samples at 250 Hz"
        ),
    ):
        estimator.transform(X[..., :400])
    with pytest.raises(UserError, match="it was fitted on C3, Cz, T3-C3, O2, in that order"):
        estimator.transform(epochs(X, ["C4", "Cz", "T3-C3", "O2"]))
    with pytest.raises(UserError, match="suspect units"):
        estimator.transform(X * 1e6)


def test_no_model_is_refused(X: np.ndarray) -> None:
    with pytest.raises(UserError, match="model is a Linear"):
        features(torch.nn.Linear(1, 1)).fit(X)


@pytest.mark.parametrize("as_epochs", [False, True])
def test_pipeline_and_cross_validation(backbone: SSMDP, X: np.ndarray, as_epochs: bool) -> None:
    data = epochs(X) if as_epochs else X
    scores = cross_val_score(
        make_pipeline(features(backbone), StandardScaler(), LogisticRegression()),
        data,
        Y,
        cv=3,
        error_score="raise",
    )
    assert scores.tolist() == [1.0, 1.0, 1.0]  # amplitudes alone tell these classes apart


@pytest.mark.ci
def test_grid_search_in_two_processes(backbone: SSMDP, X: np.ndarray, tmp_path: Path) -> None:
    steps = make_pipeline(
        features(backbone.save_pretrained(tmp_path)), StandardScaler(), LogisticRegression()
    )
    grid = {"eegdmfeatures__query": ["gate", "inter"], "eegdmfeatures__first_block": [0, 2]}
    search = GridSearchCV(steps, grid, cv=3, n_jobs=2, error_score="raise").fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all() and search.best_score_ == 1.0
    assert (search.predict(X) == Y).all()


def test_own_channels_and_the_montage_have_the_names_that_predict_has(
    backbone: SSMDP, X: np.ndarray
) -> None:
    for channels, older in (("file", "own"), ("montage", "tcp")):
        np.testing.assert_array_equal(
            features(backbone, channels=channels).fit_transform(X),
            features(backbone, montage=older).fit_transform(X),
        )
    with pytest.raises(UserError, match="channels='tcp': choose from file, montage"):
        features(backbone, channels="tcp").fit(X)


@pytest.mark.parametrize("channels", ["file", "montage"])
def test_labels_that_only_look_like_electrodes_are_refused(
    backbone: SSMDP, X: np.ndarray, channels: str
) -> None:
    with pytest.raises(UserError, match="(?i)not taken for electrodes of the 10-20 system: A1 to"):
        features(backbone, ch_names=["A1", "A2", "A3", "A4"], channels=channels).fit(X)


@pytest.mark.parametrize("channels", ["file", "montage"])
def test_channels_in_the_brain_are_refused_whatever_their_names(
    backbone: SSMDP, X: np.ndarray, channels: str
) -> None:
    in_brain = epochs(X, ["C3", "Cz", "F3", "O2"]).set_channel_types(
        dict.fromkeys(["C3", "Cz", "F3", "O2"], "seeg"), verbose="ERROR"
    )
    with pytest.raises(UserError, match="Intracranial channels by their type are left out"):
        features(backbone, ch_names=None, sfreq=None, channels=channels).fit(in_brain)


def test_of_names_with_one_meaning_the_signal_is_derived_or_neither(
    backbone: SSMDP, X: np.ndarray
) -> None:
    expected = features(backbone, channels="montage", ch_names=["Cz", "C4", "F3", "C3"])
    dummy = np.concatenate([np.zeros((12, 1, 500)), X], axis=1)
    found = features(backbone, channels="montage", ch_names=["C3-0", "Cz", "C4", "F3", "C3-1"])
    with pytest.warns(UserWarning, match="'C3-1' is taken for C3, 'C3-0' does not move"):
        np.testing.assert_array_equal(found.fit_transform(dummy), expected.fit_transform(X))
    with pytest.warns(UserWarning, match="'C3-0' and 'C3-1' have one meaning"):
        found.fit(np.concatenate([X[:, :1] * 2, X], axis=1))
    assert found.ch_names_ == ["C4-CZ"]
