"""A synthetic study in which a model's tokens carry the label and those of random weights don't."""

from __future__ import annotations

import numpy as np
import pytest

from eegdm.evaluation.across_people import LabelledWindows
from eegdm.evaluation.identity import ACROSS, RECORDINGS, WITHIN, identity_table
from eegdm.evaluation.study import (
    AS_THEY_ARE,
    BAND_POWER,
    CENTRED,
    CLASSICAL,
    COVARIANCE,
    RANDOM,
    Networks,
    Results,
    readouts,
    study,
)

N_PEOPLE, N_EACH, SHAPE = 16, 12, (3, 6, 5)
NETWORKS = Networks("mini", ["mini"], ["twin 0", "twin 1"])


STRENGTH = 0.4
"""Of the label in the model's tokens, beside noise of 1."""


def windows_of(single: bool = False) -> LabelledWindows:
    person = np.repeat(np.arange(N_PEOPLE), N_EACH)
    label = person % 2 if single else np.tile(np.repeat([0, 1], N_EACH // 2), N_PEOPLE)
    return LabelledWindows(label, person, 2 * person + (0 if single else label), ["rest", "task"])


def features_of(windows: LabelledWindows, strength: float) -> dict[str, np.ndarray]:
    """Tokens whose deep blocks hold the label, with the given strength; everything else holds
    nothing but who it is.
    """
    rng = np.random.default_rng(0)

    def tokens(gain: float) -> np.ndarray:
        who = rng.normal(size=(N_PEOPLE, *SHAPE))[windows.person]
        what = np.zeros((2, *SHAPE))
        what[:, :, 3:] = gain * rng.normal(size=(2, SHAPE[0], 3, SHAPE[2]))
        noise = rng.normal(size=(len(windows.label), *SHAPE))
        return np.exp(0.3 * (who + what[windows.label] + noise)).astype(np.float32)

    found = readouts("mini", tokens(strength))
    for twin in NETWORKS.twins:
        found |= readouts(twin, tokens(0.0))
    for name in (BAND_POWER, COVARIANCE):
        found[name] = rng.normal(size=(len(windows.label), 12)).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def results() -> Results:
    windows = windows_of()
    return study(features_of(windows, STRENGTH), windows, NETWORKS, n_permutations=40)


def test_the_label_is_found_where_it_is(results: Results) -> None:
    main = results.scores.query("level == 'window' and score == 'auroc'")
    main = main[main.n_people.isna()].set_index(["treatment", "features"])
    for treatment in (AS_THEY_ARE, CENTRED):
        assert main.loc[(treatment, "mini"), "value"] > 0.8
        assert abs(main.loc[(treatment, RANDOM), "value"] - 0.5) < 0.1
        assert main.loc[(treatment, NETWORKS.with_model), "value"] > 0.75
    assert main.loc[(CENTRED, "mini"), "value"] > main.loc[(AS_THEY_ARE, "mini"), "value"]


def test_differences_say_so(results: Results) -> None:
    main = results.differences.query("level == 'window' and score == 'auroc'")
    main = main[main.n_people.isna()].set_index(["treatment", "features", "minus"])
    for treatment in (AS_THEY_ARE, CENTRED):
        assert main.loc[(treatment, "mini", RANDOM), "low"] > 0.1
        assert main.loc[(treatment, NETWORKS.with_model, CLASSICAL), "low"] > 0.1


def test_more_people_are_worth_more(results: Results) -> None:
    of_model = results.scores.query(
        "features == 'mini' and level == 'window' and score == 'auroc' and treatment == @CENTRED"
    )
    by_people = of_model.set_index(of_model.n_people.fillna(99)).value
    assert by_people[2] < by_people[8] <= by_people[99] + 0.02


def test_chance_is_where_it_should_be(results: Results) -> None:
    chance = results.chance.query("score == 'auroc' and level == 'window'").set_index(
        ["treatment", "features"]
    )
    for treatment in (AS_THEY_ARE, CENTRED):
        assert chance.loc[(treatment, "mini"), "p"] == pytest.approx(1 / 41)
        assert chance.loc[(treatment, BAND_POWER), "p"] > 0.05
        for name in ("mini", BAND_POWER, COVARIANCE, CLASSICAL):
            row = chance.loc[(treatment, name)]
            spread = (row.high - row.low) / 4  # 95 % of the labellings lie within 4 of these
            assert row.low < 0.5 < row.high
            assert abs(row["mean"] - 0.5) < 3 * spread / np.sqrt(row.n)


@pytest.mark.ci
def test_without_any_label_nothing_is_claimed() -> None:
    """Intervals of scores hold 0.5 and those of differences 0, in most of several studies."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(5):
        person = np.repeat(np.arange(N_PEOPLE), N_EACH)
        halves = np.where(rng.random(N_PEOPLE) < 0.5, 1, 0)[person]
        label = np.tile(np.repeat([0, 1], N_EACH // 2), N_PEOPLE) ^ halves
        windows = LabelledWindows(label, person, 2 * person + label, ["rest", "task"])
        features = features_of(windows_of(), 1.0)
        results = study(features, windows, NETWORKS, n_permutations=0)
        main = results.scores.query("level == 'window' and score == 'auroc' and n_people.isna()")
        found += [(row.low, 0.5, row.high) for row in main.itertuples()]
        pairs = results.differences.query(
            "level == 'window' and score == 'auroc' and n_people.isna()"
        )
        found += [(row.low, 0.0, row.high) for row in pairs.itertuples()]
    inside = np.mean([low <= truth <= high for low, truth, high in found])
    assert inside > 0.85


@pytest.mark.ci
def test_people_of_one_class_are_not_centred() -> None:
    windows = windows_of(single=True)
    results = study(features_of(windows, 2.0), windows, NETWORKS, n_permutations=10)
    for table in (results.scores, results.differences, results.chance, results.choices):
        assert set(table.treatment) == {AS_THEY_ARE}
    main = results.scores.query("features == 'mini' and level == 'person' and score == 'auroc'")
    assert main.value.iloc[0] > 0.8


@pytest.mark.ci
def test_a_study_repeats_itself(results: Results) -> None:
    windows = windows_of()
    again = study(features_of(windows, STRENGTH), windows, NETWORKS, n_permutations=40)
    for one, other in zip(results, again, strict=True):
        assert one.equals(other)


def test_readouts_are_logs_of_tokens() -> None:
    tokens = np.random.default_rng(0).gamma(2.0, size=(4, 3, 8, 5)).astype(np.float32)
    found = readouts("x", tokens)
    logs = np.log(tokens)
    np.testing.assert_allclose(found["x: all blocks"], logs.mean(1).reshape(4, -1), rtol=1e-5)
    np.testing.assert_allclose(
        found["x: all blocks per channel"], logs.reshape(4, -1), rtol=1e-5, atol=1e-6
    )
    deep = logs[:, :, 4:]
    np.testing.assert_allclose(found["x: deep blocks"], deep.mean(1).reshape(4, -1), rtol=1e-5)
    np.testing.assert_allclose(
        found["x: deep blocks per channel"], deep.reshape(4, -1), rtol=1e-5, atol=1e-6
    )


def test_features_with_a_sign_are_taken_as_they_are() -> None:
    tokens = np.random.default_rng(0).gamma(2.0, size=(4, 3, 8, 5)).astype(np.float32)
    tokens[..., 2] -= 2.0
    tokens[0, 0, 0, 1] = 0.0
    found = readouts("x", tokens)["x: all blocks per channel"].reshape(tokens.shape)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[..., 2], tokens[..., 2])
    np.testing.assert_allclose(found[..., 3], np.log(tokens[..., 3]), rtol=1e-5, atol=1e-6)


def test_identity_is_found_where_it_is() -> None:
    windows, rng = windows_of(), np.random.default_rng(0)
    n = len(windows.label)
    of_person = 10 * rng.normal(size=(N_PEOPLE, 8))[windows.person] + rng.normal(size=(n, 8))
    of_recording = of_person + 10 * rng.normal(size=(2 * N_PEOPLE, 8))[windows.recording]
    nothing = rng.normal(size=(n, 8))
    arrays = {"person": of_person, "recording": of_recording, "nothing": nothing}
    found = identity_table(arrays, windows).set_index(["features", "what"])
    assert found.loc[("person", WITHIN), "accuracy"] > 0.99
    assert found.loc[("person", ACROSS), "accuracy"] > 0.99
    assert abs(found.loc[("person", RECORDINGS), "accuracy"] - 0.5) < 0.15
    assert found.loc[("recording", WITHIN), "accuracy"] > 0.8
    assert found.loc[("recording", RECORDINGS), "accuracy"] > 0.99
    for what in (WITHIN, ACROSS):
        assert abs(found.loc[("nothing", what), "accuracy"] - 1 / N_PEOPLE) < 0.1
        assert found.loc[("nothing", what), "chance"] == pytest.approx(1 / N_PEOPLE)
    assert found.loc[("nothing", RECORDINGS), "chance"] == pytest.approx(0.5)
    single = identity_table({"nothing": nothing}, windows_of(single=True))
    assert list(single.what) == [WITHIN]
