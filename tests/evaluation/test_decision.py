"""From probabilities to events, by a rule that a model carries and a caller may change."""

from __future__ import annotations  # noqa: I001

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from inference.small import small_model

from eegdm.errors import UserError
from eegdm.evaluation.decision import (
    RecordingDecision,
    Rule,
    apply_rule,
    find_events,
    rule_of,
    smoothed,
)

RULE = Rule(("A", "B", "BCKG"), ("A", "B"), threshold=0.5, min_duration_s=1.0)


def windows(*rows: tuple[float, float]) -> pd.DataFrame:
    a, b = np.array(rows).T
    return pd.DataFrame(
        {
            "onset_s": 2.0 + np.arange(len(rows)),
            "duration_s": 1.0,
            "A": a,
            "B": b,
            "BCKG": 1 - a - b,
        }
    )


def test_neighbouring_windows_of_a_class_are_one_event() -> None:
    events = find_events(
        windows((0.1, 0), (0.6, 0.1), (0.9, 0), (0.2, 0.5), (0.1, 0.1), (0, 0.8)), RULE
    )
    assert events[["onset_s", "duration_s", "label"]].values.tolist() == [
        [3.0, 2.0, "A"],
        [5.0, 1.0, "B"],
        [7.0, 1.0, "B"],
    ]
    assert events.probability.tolist() == pytest.approx([0.9, 0.5, 0.8])


def test_threshold_minimum_duration_and_smoothing_are_respected() -> None:
    table = windows((0.6, 0), (0, 0), (0.6, 0), (0.6, 0), (0.7, 0))
    assert len(find_events(table, RULE)) == 2
    assert len(find_events(table, replace(RULE, threshold=0.65))) == 1
    assert find_events(table, replace(RULE, min_duration_s=2.0)).onset_s.tolist() == [4.0]
    smooth = find_events(table, replace(RULE, smoothing_s=3.0, threshold=0.35))
    assert smooth[["onset_s", "duration_s"]].values.tolist() == [[3.0, 4.0]]


def test_smoothing_is_the_mean_of_the_neighbours_that_exist() -> None:
    rng = np.random.default_rng(0)
    table = windows(*rng.uniform(0, 0.5, (9, 2)))
    for seconds, reach in ((0.0, 0), (1.0, 0), (3.0, 1), (5.0, 2), (100.0, 4)):
        found = smoothed(table, replace(RULE, smoothing_s=seconds))
        expected = [
            table[["A", "B"]].iloc[max(0, i - reach) : i + reach + 1].mean() for i in range(9)
        ]
        assert np.allclose(found, expected, atol=1e-12)


def test_no_window_over_the_threshold_is_no_event() -> None:
    assert find_events(windows((0.1, 0.1), (0.2, 0.1)), RULE).empty


def test_a_model_without_a_rule_has_its_background_left_out() -> None:
    rule = rule_of(small_model(classes=["seizure", "Background"], decision={}))
    assert rule.event_classes == ("seizure",)
    assert rule.resolution_s == 5.0


def test_one_logit_is_the_second_of_two_classes() -> None:
    rule = rule_of(small_model(classes=["seizure"], decision={}))
    assert (rule.classes, rule.event_classes) == (("background", "seizure"), ("seizure",))


def test_each_part_of_the_rule_can_be_changed() -> None:
    changes = {
        "threshold": 0.1,
        "min_duration_s": 7.0,
        "smoothing_s": 2.0,
        "temperature": 3.0,
        "event_classes": ("GPED",),
    }
    rule = rule_of(small_model(), **changes)
    assert {name: getattr(rule, name) for name in changes} == changes
    assert rule_of(small_model(), **dict.fromkeys(changes)) == rule_of(small_model())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"threshold": 1.5}, r"threshold=1.5: must be a number within 0..1"),
        ({"temperature": 0.0}, r"temperature=0.0"),
        ({"min_duration_s": -1.0}, r"min_duration_s=-1.0"),
        ({"smoothing_s": float("nan")}, r"smoothing_s=nan"),
        ({"event_classes": ("SEIZ",)}, r"event class 'SEIZ' is none of the model's: SPSW, GPED"),
        ({"event_classes": ()}, r"no class is an event"),
        ({"decide": "person"}, r"decide='person': must be events or recording"),
        (
            {"decide": "recording", "threshold": 0.4},
            r"threshold=0.4 has no effect with decide=recording",
        ),
        ({"decide": "recording", "smoothing_s": 0.0}, r"smoothing_s=0 has no effect"),
    ],
)
def test_what_no_rule_can_be_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        rule_of(small_model(), **changes)


def test_a_strangers_decision_is_checked() -> None:
    with pytest.raises(UserError, match="unknown setting 'colour'"):
        rule_of(small_model(decision={"colour": "red"}))
    with pytest.raises(UserError, match="names 3 classes for 6 logits"):
        rule_of(small_model(decision={"classes": ["a", "b", "c"]}))


# ------------------------------------------------------------------------------- whole recordings


def test_a_recording_has_the_class_of_the_highest_mean() -> None:
    """Most windows are likeliest B, the mean is A, and no threshold or duration matters."""
    table = windows((0.9, 0.1), (0.9, 0.1), (0.3, 0.4), (0.3, 0.4), (0.3, 0.4))
    rule = replace(RULE, decide="recording", threshold=0.99, min_duration_s=9.0, smoothing_s=3.0)
    decision, events = apply_rule(table, rule, 30.0)
    assert decision is not None and decision.label == "A" and decision.n_windows == 5
    expected = {"A": 2.7 / 5, "B": 1.4 / 5, "BCKG": 0.9 / 5}
    assert decision.probability == pytest.approx(expected)
    assert events.values.tolist() == [[0.0, 30.0, "A", pytest.approx(0.54)]]
    assert apply_rule(table, RULE, 30.0)[0] is None


def test_a_recording_of_the_background_is_no_event() -> None:
    decision, events = apply_rule(
        windows((0.3, 0.3), (0.3, 0.3), (0.9, 0.0)), replace(RULE, decide="recording"), 9.0
    )
    assert decision is not None and decision.label == "A" and len(events) == 1
    decision, events = apply_rule(
        windows((0.2, 0.3), (0.2, 0.3), (0.7, 0.0)), replace(RULE, decide="recording"), 9.0
    )
    assert decision is not None and decision.label == "BCKG" and events.empty
    assert list(events) == ["onset_s", "duration_s", "label", "probability"]


def test_a_person_is_decided_about_by_the_windows_of_all_their_recordings() -> None:
    rng = np.random.default_rng(0)
    tables = [windows(*rng.uniform(0, 0.5, (n, 2))) for n in (2, 7, 31)]
    rule = replace(RULE, decide="recording")
    of_each = [RecordingDecision.of_windows(table, rule) for table in tables]
    together = RecordingDecision.of_windows(pd.concat(tables), rule)
    found = RecordingDecision.of_recordings(of_each)
    assert found.probability == pytest.approx(together.probability)
    assert (found.label, found.n_windows) == (together.label, 40)
    assert RecordingDecision.of_recordings(of_each[:1]) == of_each[0]
