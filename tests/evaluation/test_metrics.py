"""Scores against scikit-learn and the golden numbers; what is undefined; calibration, thresholds,
intervals.
"""

import json
from functools import partial

import numpy as np
import pytest
from sklearn import metrics as reference

from conftest import golden_folder
from eegdm.errors import UserError
from eegdm.evaluation import metrics

N_CLASSES = 5


@pytest.fixture(params=range(3))
def multiclass(request):
    """Labels and logits that agree now and then; with seed 2, class 3 is neither a label nor
    predicted.
    """
    rng = np.random.default_rng(request.param)
    label = rng.choice(N_CLASSES, 200, p=[0.6, 0.2, 0.1, 0.05, 0.05])
    logits = rng.normal(size=(200, N_CLASSES)) + 1.5 * np.eye(N_CLASSES)[label]
    if request.param == 2:
        label[label == 3] = 0
        logits[:, 3] = -10.0
    return label, logits


@pytest.fixture(params=range(3))
def detector(request):
    """Rare events; probabilities on a coarse grid, so that many are equal."""
    rng = np.random.default_rng(request.param)
    label = (rng.random(500) < 0.1).astype(int)
    return label, np.round(rng.normal(size=500) + 1.5 * label - 1.0, 1)


def test_multiclass_scores_equal_scikit_learn(multiclass):
    label, logits = multiclass
    predicted = logits.argmax(axis=1)
    found = metrics.multiclass_scores(label, logits, N_CLASSES)
    assert found["kappa"] == pytest.approx(reference.cohen_kappa_score(label, predicted), abs=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(
        reference.balanced_accuracy_score(label, predicted), abs=1e-12
    )
    assert found["weighted_f1"] == pytest.approx(
        reference.f1_score(label, predicted, average="weighted"), abs=1e-12
    )
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(label, predicted), abs=1e-12)
    assert (
        found["confusion"]
        == reference.confusion_matrix(label, predicted, labels=range(N_CLASSES)).tolist()
    )
    names = ("precision", "recall", "f1", "support")
    table = np.array([[c[name] or 0.0 for c in found["per_class"]] for name in names])
    wanted = reference.precision_recall_fscore_support(
        label, predicted, labels=range(N_CLASSES), zero_division=0.0
    )
    np.testing.assert_allclose(table, np.array(wanted), atol=1e-12)


def test_binary_scores_equal_scikit_learn(detector):
    label, logit = detector
    found = metrics.binary_scores(label, logit)
    predicted = logit > 0
    assert found["balanced_accuracy"] == pytest.approx(
        reference.balanced_accuracy_score(label, predicted), abs=1e-12
    )
    assert found["auc_pr"] == pytest.approx(
        reference.average_precision_score(label, logit), abs=1e-12
    )
    assert found["auroc"] == pytest.approx(reference.roc_auc_score(label, logit), abs=1e-12)
    assert found["confusion"] == reference.confusion_matrix(label, predicted).tolist()


@pytest.mark.parametrize("logit", [[2.0, 1.0, 0.0], [0.5, 0.5, 0.5], [1.0, 0.0, 0.0]])
def test_ranking_where_the_last_window_is_an_event(logit):
    label, logit = np.array([0, 1, 1]), np.array(logit)
    found = metrics.binary_scores(label, logit)
    assert found["auc_pr"] == pytest.approx(
        reference.average_precision_score(label, logit), abs=1e-12
    )
    assert found["auroc"] == pytest.approx(reference.roc_auc_score(label, logit), abs=1e-12)


def test_sensitivity_at_a_false_alarm_rate_is_the_best_over_all_thresholds(detector):
    label, logit = detector
    found = metrics.binary_scores(label, logit, false_alarm_rates=(0.0, 0.02, 0.2, 1.0))[
        "sensitivity_at"
    ]
    for entry in found:
        allowed = [
            np.mean(logit[label == 1] >= threshold)
            for threshold in [np.inf, *logit]
            if np.mean(logit[label == 0] >= threshold) <= entry["false_alarm_rate"]
        ]
        assert entry["sensitivity"] == pytest.approx(max(allowed), abs=1e-12)


@pytest.fixture(scope="module")
def golden():
    from safetensors.numpy import load_file

    folder = golden_folder("open")
    return (
        load_file(folder / "expected.safetensors"),
        json.loads((folder / "expected.json").read_text())["metrics"],
    )


def test_golden_multiclass(golden):
    arrays, wanted = golden
    found = metrics.multiclass_scores(arrays["crit_labels"], arrays["crit_logits"], 6)
    assert found["balanced_accuracy"] == pytest.approx(wanted["sk_bacc"], abs=1e-12)
    assert found["kappa"] == pytest.approx(wanted["sk_kappa"], abs=1e-12)
    assert found["weighted_f1"] == pytest.approx(wanted["sk_wf1"], abs=1e-12)


def test_golden_binary(golden):
    arrays, wanted = golden
    found = metrics.scores(arrays["crit_bin_labels"], arrays["crit_bin_logits"][:, None])
    assert found["balanced_accuracy"] == pytest.approx(wanted["sk_bin_bacc"], abs=1e-12)
    assert found["auc_pr"] == pytest.approx(wanted["sk_average_precision"], abs=1e-12)
    assert found["auroc"] == pytest.approx(wanted["sk_auroc"], abs=1e-12)


def test_two_logits_of_a_detector_count_as_their_difference(detector):
    label, logit = detector
    other = (
        np.random.default_rng(5).integers(-8, 8, len(logit)) / 4
    )  # quarters: sums and differences are exact
    logit = np.round(4 * logit) / 4
    two = np.stack([other, logit + other], axis=1)
    assert metrics.scores(label, two) == metrics.scores(label, logit[:, None])


def test_what_is_undefined_is_none_with_a_reason():
    label, logit = np.zeros(4, dtype=int), np.array([-1.0, 1.0, 2.0, -2.0])
    found = metrics.binary_scores(label, logit)
    assert (found["auroc"], found["auc_pr"], found["balanced_accuracy"]) == (None, None, None)
    said = "every window is of class 0; two classes are needed"
    for name in ("balanced_accuracy", "auc_pr", "auroc", "sensitivity_at"):
        assert found["undefined"][name] == said
    assert found["sensitivity_at"] == [
        {"false_alarm_rate": rate, "sensitivity": None} for rate in metrics.FALSE_ALARM_RATES
    ]
    assert metrics.binary_scores(label[:1], logit[:1])["undefined"]["auroc"] == said
    assert found["per_class"][1]["recall"] is None
    json.dumps(found, allow_nan=False)


def test_kappa_of_one_class_predicted_rightly_is_undefined():
    found = metrics.multiclass_scores(np.full(3, 1), np.eye(3)[[1, 1, 1]], 3)
    assert found["kappa"] is None and found["balanced_accuracy"] is None and found["n"] == 3
    assert (
        found["undefined"]["kappa"]
        == "every window is of one class and was predicted so: agreement by chance is complete"
    )
    assert (
        found["undefined"]["balanced_accuracy"]
        == "every window is of class 1; two classes are needed"
    )
    assert (
        found["undefined"]["recall of class 2"] == "no window is of this class"
        and "recall of class 1" not in found["undefined"]
    )
    assert found["accuracy"] == 1.0
    assert found["undefined"]["precision of class 0"] == "never predicted"
    json.dumps(found, allow_nan=False)


def test_two_classes_are_enough_for_balanced_accuracy():
    found = metrics.multiclass_scores(np.array([0, 1, 1]), np.eye(2)[[0, 0, 1]], 2)
    assert found["balanced_accuracy"] == 0.75 and found["undefined"] == {}


@pytest.mark.parametrize(
    ("label", "logits", "said"),
    [
        ([], np.zeros((0, 2)), "^no window to score: "),
        ([0, 2], np.zeros((2, 2)), "allowed are 0 to 1"),
        ([0, 1], np.full((2, 2), np.nan), "^some logits are not finite: "),
        ([0, 1, 1], np.zeros((2, 2)), "do not fit"),
    ],
)
def test_what_cannot_be_scored_is_refused(label, logits, said):
    with pytest.raises(UserError, match=said):
        metrics.multiclass_scores(np.array(label, dtype=int), logits, 2)


def test_class_probabilities_of_one_logit_are_the_sigmoid():
    logit = np.array([[-800.0], [-1.0], [0.0], [800.0]])
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-logit[:, 0] / 2.0))
    np.testing.assert_allclose(
        metrics.class_probabilities(logit, temperature=2.0)[:, 1], sigmoid, atol=1e-15
    )


def test_class_probabilities_are_the_softmax_of_each_window():
    logits = np.array(
        [[0.0, np.log(3.0)], [-1000.0, -1000.0], [1000.0, 1000.0 + np.log(4.0)]], np.float32
    )
    found = metrics.class_probabilities(logits)
    assert found.dtype == np.float64
    np.testing.assert_allclose(
        found, [[0.25, 0.75], [0.5, 0.5], [0.2, 0.8]], atol=1e-4
    )  # float32 holds 1000 to 6e-5


def test_calibration_of_true_probabilities_is_good_and_of_sharpened_ones_bad():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 3))
    probabilities = metrics.class_probabilities(logits)
    label = (rng.random((20_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    good = metrics.calibration(label, probabilities)
    bad = metrics.calibration(label, metrics.class_probabilities(logits, temperature=0.25))
    assert good["expected_calibration_error"] < 0.02 < 0.15 < bad["expected_calibration_error"]
    assert sum(b["count"] for b in good["bins"]) == 20_000
    assert good["bins"][0]["predicted"] is None  # the likeliest of three classes has at least 1/3


def test_calibration_by_hand():
    found = metrics.calibration(np.array([1, 0, 1, 0]), np.array([0.9, 1.0, 0.2, 0.1]), n_bins=2)
    assert found["bins"][0] == {
        "low": 0.0,
        "high": 0.5,
        "count": 2,
        "predicted": pytest.approx(0.15),
        "observed": 0.5,
    }
    assert found["bins"][1]["observed"] == 0.5
    assert found["expected_calibration_error"] == pytest.approx(0.5 * 0.35 + 0.5 * 0.45)


def test_calibration_has_ten_bins_of_equal_width_whether_windows_are_in_them_or_not():
    found = metrics.calibration(np.array([1, 0, 0]), np.array([0.0, 0.25, 0.55]))["bins"]
    assert [(b["low"], b["high"]) for b in found] == [(k / 10, (k + 1) / 10) for k in range(10)]
    assert [b["count"] for b in found] == [1, 0, 1, 0, 0, 1, 0, 0, 0, 0]
    assert [b["observed"] for b in found] == [
        1.0,
        None,
        0.0,
        None,
        None,
        0.0,
        None,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_fit_temperature_finds_the_temperature_the_labels_were_drawn_at(true_temperature):
    rng = np.random.default_rng(1)
    logits = 2 * rng.normal(size=(20_000, 4))
    cumulated = metrics.class_probabilities(logits, true_temperature).cumsum(axis=1)
    label = (rng.random((20_000, 1)) > cumulated).sum(axis=1)
    assert metrics.fit_temperature(logits, label) == pytest.approx(true_temperature, rel=0.05)


def test_fit_temperature_of_perfect_logits_sharpens_them():
    assert 0.05 <= metrics.fit_temperature(np.array([[-3.0], [4.0]]), np.array([0, 1])) < 0.2


def test_fit_temperature_of_wrong_logits_is_its_upper_bound():
    assert metrics.fit_temperature(np.array([[-3.0], [4.0]]), np.array([1, 0])) == pytest.approx(
        20.0, rel=1e-3
    )


def test_event_threshold_has_the_largest_f1_of_all(detector):
    label, logit = detector
    probability = metrics.class_probabilities(logit[:, None])[:, 1]
    found = reference.f1_score(label, probability > metrics.fit_event_threshold(label, probability))
    best = max(
        reference.f1_score(label, probability >= threshold) for threshold in np.unique(probability)
    )
    assert found == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(
    ("label", "threshold"),
    [([1, 0, 0], 0.75), ([0, 1, 1], 0.05), ([1, 0, 1], 0.05), ([1, 1, 0], 0.35)],
)
def test_event_threshold_lies_halfway_to_the_next_window_or_to_zero(label, threshold):
    assert metrics.fit_event_threshold(np.array(label), np.array([0.9, 0.6, 0.1])) == pytest.approx(
        threshold
    )


def test_event_threshold_needs_an_event():
    with pytest.raises(UserError, match="^no validation window is an event"):
        metrics.fit_event_threshold(np.zeros(3, dtype=int), np.array([0.1, 0.2, 0.3]))


def _mean_score(value: np.ndarray) -> dict:
    return {"accuracy": float(value.mean())}


def test_bootstrap_of_a_mean_has_the_known_width():
    value = np.random.default_rng(0).normal(size=400)
    found = metrics.bootstrap((value,), np.arange(400), _mean_score, n=2000)["accuracy"]
    half_width = 1.96 * value.std() / np.sqrt(400)
    assert found["value"] == value.mean()
    assert found["low"] == pytest.approx(value.mean() - half_width, abs=0.1 * half_width)
    assert found["high"] == pytest.approx(value.mean() + half_width, abs=0.1 * half_width)


def test_bootstrap_draws_whole_units():
    """Ten subjects of 40 equal windows tell as much as ten windows: an interval sqrt(40) wider than
    of free windows.
    """
    subject = np.repeat(np.arange(10), 40)
    value = np.random.default_rng(0).normal(size=10)[subject]
    widths = []
    for unit in (subject, np.arange(400)):
        interval = metrics.bootstrap((value,), unit, _mean_score)["accuracy"]
        widths.append(interval["high"] - interval["low"])
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(40), rel=0.15)


def test_bootstrap_is_a_function_of_the_seed(multiclass):
    label, logits = multiclass
    run = partial(
        metrics.bootstrap,
        (label, logits),
        np.arange(200) // 20,
        metrics.scores,
        n=20,
    )
    assert run(seed=1) == run(seed=1) != run(seed=2)


def test_bootstrap_takes_the_percentiles_of_a_thousand_draws():
    value, drawn = np.random.default_rng(0).normal(size=30), []

    def score(value):
        drawn.append(float(value.mean()))
        return {"accuracy": drawn[-1]}

    found = metrics.bootstrap((value,), np.arange(30), score)["accuracy"]
    assert len(drawn) == 1001 and drawn[-1] == found["value"]
    assert [found["low"], found["high"]] == np.percentile(drawn[:-1], [2.5, 97.5]).tolist()
    assert metrics.bootstrap((value,), np.arange(30), score, seed=0)["accuracy"] == found


def test_bootstrap_says_how_many_draws_were_undefined_and_needs_two_units():
    label, logits = np.array([0, 0, 1, 1]), np.array([[-1.0], [1.0], [2.0], [3.0]])
    found = metrics.bootstrap((label, logits), np.array([0, 0, 1, 1]), metrics.scores, n=100)[
        "auroc"
    ]
    assert 20 < found["n_undefined"] < 80  # half of the draws take one of the two units twice
    alone = metrics.bootstrap((label, logits), np.zeros(4), metrics.scores)["auroc"]
    assert alone == {"value": 1.0, "low": None, "high": None, "n_undefined": 0}


def test_summarise_gives_mean_and_population_std_in_percent():
    found = metrics.summarise([{"kappa": 0.70, "n": 5}, {"kappa": 0.74, "n": 5}])
    assert found == {"kappa": {"mean": 72.0, "std": 2.0}}
    assert metrics.summarise([{"kappa": 0.7}, {"kappa": None}]) == {
        "kappa": {"mean": None, "std": None}
    }
    assert metrics.summarise([{"kappa": 1 / 3}]) == {"kappa": {"mean": 33.33, "std": 0.0}}
    assert metrics.summarise([{"kappa": 0.1}, {"kappa": 0.123456}])["kappa"] == {
        "mean": 11.17,
        "std": 1.17,
    }
    assert str(metrics.summarise([{"kappa": -1e-9}])["kappa"]["mean"]) == "0.0"  # not -0.0
