"""Band power against a slow reference and Parseval; the linear probe and chance against what they
must be.
"""

import numpy as np
import pytest

from eegdm.errors import UserError
from eegdm.evaluation import baselines, metrics

SFREQ = 200.0


def test_band_power_equals_a_periodogram_of_each_channel():
    from scipy.signal import periodogram

    windows = np.random.default_rng(0).normal(size=(3, 2, 1000)) + 5.0
    found = baselines.band_power(windows, SFREQ).reshape(3, 2, 5)
    for i, channel in np.ndindex(3, 2):
        frequency, density = periodogram(
            windows[i, channel], SFREQ, window=np.hanning(1000), detrend="constant"
        )
        means = [
            density[(frequency >= low) & (frequency < high)].mean()
            for low, high in baselines.BANDS.values()
        ]
        np.testing.assert_allclose(found[i, channel], np.log10(means), atol=1e-9)


@pytest.mark.parametrize(("hertz", "band"), [(2.0, 0), (6.0, 1), (10.0, 2), (20.0, 3), (50.0, 4)])
def test_an_oscillation_is_in_its_band(hertz, band):
    seconds = np.arange(1000) / SFREQ
    found = baselines.band_power(np.sin(2 * np.pi * hertz * seconds)[None, None], SFREQ)[0]
    assert found.argmax() == band


def test_band_power_does_not_depend_on_the_chunk_and_takes_flat_channels(monkeypatch):
    windows = np.random.default_rng(0).normal(size=(5, 2, 400))
    windows[:, 1] = 0.3
    whole = baselines.band_power(windows, SFREQ)
    monkeypatch.setattr(baselines, "_WINDOWS_AT_ONCE", 2)
    np.testing.assert_array_equal(whole, baselines.band_power(windows, SFREQ))
    assert np.isfinite(whole).all() and (whole[:, 5:] == -12.0).all()


def test_band_power_refuses_what_holds_no_gamma():
    with pytest.raises(UserError, match="gamma"):
        baselines.band_power(np.zeros((1, 1, 500)), 50.0)


@pytest.fixture
def three_clouds():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 3], 60)
    return rng.normal(size=(180, 8)) + 2.5 * np.eye(8)[label], label


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 1.0, 3.0]])
def test_linear_probe_parts_clouds_and_never_says_a_class_it_has_not_seen(three_clouds, weights):
    x, label = three_clouds
    logits = baselines.linear_probe(
        x[::2], label[::2], x[1::2], 4, seed=0, unit=np.arange(90) % 6, weights=weights
    )
    assert metrics.multiclass_scores(label[1::2], logits, 4)["kappa"] > 0.8
    assert (logits[:, 2] == -30.0).all()
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1.0, atol=1e-6)


def test_linear_probe_takes_two_classes_and_a_class_too_rare_for_folds(three_clouds):
    x, label = three_clouds
    two = label < 2
    assert baselines.linear_probe(x[two], label[two], x, 2, seed=0).shape == (180, 2)
    rare = np.r_[:60, 60]
    logits = baselines.linear_probe(x[rare], label[rare], x[rare], 2, seed=0)
    assert (
        logits[-1, 1] > logits[:-1, 1].max()
    )  # the one window of class 1 is the likeliest to be it


def test_linear_probe_of_noise_is_regularised_to_chance():
    """200 features of noise, 60 windows: without regularisation the log loss would be far above ln
    2.
    """
    rng = np.random.default_rng(0)
    label = np.arange(120) % 2
    x = rng.normal(size=(120, 200))
    logits = baselines.linear_probe(x[:60], label[:60], x[60:], 2, seed=0)
    assert -logits[np.arange(60), label[60:]].mean() < 0.8


def test_linear_probe_refuses_one_class():
    with pytest.raises(UserError, match="two classes"):
        baselines.linear_probe(
            np.zeros((4, 2)), np.zeros(4, dtype=int), np.zeros((1, 2)), 2, seed=0
        )


def test_pooled_tokens_are_two_means_and_leave_absent_channels_out():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(3, 2, 5, 1, 4, 6)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 0]], bool)
    tokens[~mask[:, None, None, None].repeat(2, 1).repeat(5, 2)] = (
        99.0  # whatever an absent channel holds
    )
    found = baselines.pooled_tokens(tokens, mask)
    assert found.shape == (3, 2 * 6 + 4 * 6)
    for window in range(3):
        there = np.flatnonzero(mask[window])
        per_block = tokens[window][..., there, :].mean(axis=(1, 2, 3))
        per_channel = np.zeros((4, 6))
        per_channel[there] = tokens[window][..., there, :].mean(axis=(0, 1, 2))
        np.testing.assert_allclose(
            found[window], np.concatenate([per_block.ravel(), per_channel.ravel()]), atol=1e-6
        )


def test_chance_is_what_blind_guessing_comes_to():
    rng = np.random.default_rng(0)
    train, test = rng.choice(3, 300, p=[0.2, 0.7, 0.1]), rng.choice(3, 400, p=[0.3, 0.5, 0.2])
    found = baselines.chance(train, test, 3)
    assert found["majority class"] == metrics.multiclass_scores(test, np.eye(3)[np.full(400, 1)], 3)
    guesses = [
        metrics.multiclass_scores(test, np.eye(3)[rng.choice(train, 400)], 3) for _ in range(2000)
    ]
    for name in ("kappa", "balanced_accuracy", "weighted_f1", "accuracy"):
        drawn = [g[name] for g in guesses]
        assert found["label prior"][name] == pytest.approx(np.mean(drawn), abs=0.003)


def test_binary_chance_equals_the_scores_of_a_constant():
    train, test = np.array([0, 0, 0, 1]), np.array([0, 1, 0, 0, 1])
    found = baselines.chance(train, test, 2)
    assert found["majority class"] == metrics.binary_scores(test, np.full(5, -1.0))
    assert found["label prior"]["auroc"] == 0.5
    assert found["label prior"]["sensitivity_at"][0] == {
        "false_alarm_rate": 0.01,
        "sensitivity": 0.01,
    }


def test_chance_is_weighted_like_the_classifier():
    train, test = np.array([0, 0, 0, 1]), np.array([0, 1, 0, 0, 1])
    found = baselines.chance(train, test, 2, weights=[1.0, 5.0])
    assert found["majority class"] == metrics.binary_scores(test, np.full(5, 1.0))
    assert found["label prior"]["per_class"][1]["recall"] == pytest.approx(5 / 8)


def test_chance_without_a_class_in_the_test_part_has_no_ranking():
    found = baselines.chance(np.array([0, 1]), np.array([0, 0]), 2)
    assert found["label prior"]["auroc"] is None and found["majority class"]["kappa"] is None


# -------------------------------------------------------------- beside scikit-learn's own tools


def unequal(n: int, share: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of which a few tell two classes apart a little; `share` of class 0 to one of 1."""
    rng = np.random.default_rng(seed)
    label = (np.arange(n) % (share + 1) == 0).astype(int)
    x = rng.normal(size=(n, 30))
    x[:, :5] += 0.5 * label[:, None]
    return x, label


@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")
@pytest.mark.parametrize("share", [3, 20])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("monitor", ["kappa", "balanced_accuracy"])
def test_unequal_classes_reach_what_scikit_learns_own_tools_reach(share, weighted, monitor):
    from sklearn import metrics as reference
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import PredefinedSplit
    from sklearn.preprocessing import StandardScaler

    score = {"kappa": reference.cohen_kappa_score}.get(monitor, reference.balanced_accuracy_score)
    (x, y), (val_x, val_y), (test_x, test_y) = (unequal(1260, share, seed) for seed in range(3))
    weights = [1.0, float(share)] if weighted else None
    logits = baselines.linear_probe(
        x, y, test_x, 2, 0, validation=(val_x, val_y), monitor=monitor, weights=weights
    )
    scale = StandardScaler().fit(x)
    search = LogisticRegressionCV(
        Cs=baselines._REGULARISATION,
        cv=PredefinedSplit(np.r_[np.full(len(y), -1), np.zeros(len(val_y))]),
        scoring=reference.make_scorer(score),
        class_weight=None if weights is None else dict(enumerate(weights)),
        refit=False,
        max_iter=2000,
    ).fit(scale.transform(np.r_[x, val_x]), np.r_[y, val_y])
    theirs = score(test_y, search.predict(scale.transform(test_x)))
    ours = metrics.scores(test_y, logits)
    assert ours[monitor] >= theirs - 0.02
    assert ours["auroc"] == pytest.approx(reference.roc_auc_score(test_y, logits[:, 1]), abs=1e-12)
    if weighted:
        assert ours["balanced_accuracy"] > 0.65


def test_the_penalty_is_chosen_by_the_monitor_and_not_by_the_log_loss(monkeypatch):
    """With noise for validation labels the log loss wants the strongest penalty; the monitor's best
    is another one.
    """
    (x, y), (val_x, _) = unequal(400, 3, 0), unequal(200, 3, 1)
    rng = np.random.default_rng(5)
    val_y = rng.permutation(np.arange(200) % 4 == 0).astype(int)
    chosen = {}
    for monitor in (None, "kappa"):
        chosen[monitor] = baselines._best_penalty([(x, y, val_x, val_y)], 2, monitor, None)
    kappa = {}
    for c in baselines._REGULARISATION:
        model = baselines._regression(c, y, None).fit(x, y)
        logits = baselines._log_probabilities(model, val_x, 2)
        kappa[c] = metrics.multiclass_scores(val_y, logits, 2)["kappa"]
    assert kappa[chosen["kappa"]] == max(kappa.values()) > kappa[chosen[None]]


def test_where_validation_holds_one_class_the_log_loss_decides():
    (x, y), (val_x, _) = unequal(400, 3, 0), unequal(50, 3, 1)
    one = np.zeros(50, int)
    parts = [(x, y, val_x, one)]
    assert baselines._best_penalty(parts, 2, "kappa", None) == baselines._best_penalty(
        parts, 2, None, None
    )
