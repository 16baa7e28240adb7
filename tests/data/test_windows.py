"""Windows, labels and splits, against the published rules and against slow, obvious loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from eegdm.config import TUEV_CLASSES, WindowConfig
from eegdm.data.windows import (
    TUEV_EVENTS,
    assign_splits,
    describe_event_counts,
    distinct,
    events_per_split,
    grid,
    long_events,
    main_labels,
    make_samples,
    pretraining_view,
    without_windows,
)
from eegdm.errors import UserError


def recordings(n_times: int = 12_000, n: int = 1, **columns: list) -> pd.DataFrame:
    base = {
        "recording": [f"r{i}" for i in range(n)],
        "subject": [f"s{i}" for i in range(n)],
        "session": None,
        "run": None,
        "split": None,
        "sfreq": 200.0,
        "n_times": n_times,
        "ch_names": [["FP1-F7", "F7-T3"]] * n,
        "channel_ids": [[0, 1]] * n,
        "status": "ok",
    }
    return pd.DataFrame(base | columns)


def events(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(
        [("r0", *r) for r in rows],
        columns=["recording", "channel", "onset_s", "duration_s", "label"],
    )


def test_an_event_of_one_second_gets_two_seconds_on_either_side() -> None:
    samples = make_samples(
        recordings(), events(("FP1-F7", 20.0, 1.0, "SPSW")), WindowConfig(), list(TUEV_CLASSES)
    )
    assert samples.drop(columns="recording").values.tolist() == [[3600, 1000, 0, "FP1-F7", 20.0]]


@pytest.mark.parametrize(("edge", "expected"), [("wrap", [-300, 9000, 11500]), ("skip", [9000])])
def test_windows_over_the_edge(
    edge: str, expected: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    table = events(
        ("FP1-F7", 0.5, 1.0, "BCKG"),
        ("FP1-F7", 47.0, 1.0, "GPED"),
        ("FP1-F7", 59.5, 1.0, "GPED"),
        ("FP1-F7", 61.0, 1.0, "GPED"),
    )
    samples = make_samples(recordings(), table, WindowConfig(edge=edge), list(TUEV_CLASSES))
    assert samples.start_sample.tolist() == expected
    hint = "" if edge == "wrap" else "; edge=wrap keeps them"
    assert [record.getMessage() for record in caplog.records] == [
        f"windows.edge={edge}: {4 - len(expected)} of 4 events are left out, for their windows of 5"
        f" s stick out of the recording{hint}"
    ]


def starts(table: pd.DataFrame, n_times: int, **settings: object) -> list[int]:
    return make_samples(
        recordings(n_times), table, WindowConfig(**settings), list(TUEV_CLASSES)
    ).start_sample.tolist()


def test_a_window_that_just_fits_is_kept_and_one_sample_more_is_not() -> None:
    """Windows of 1,000 samples around events of 1 s, in 2,000 samples: the first may begin at 0,
    the last at 1,000.
    """
    table = events(*(("FP1-F7", onset, 1.0, "GPED") for onset in (1.995, 2.0, 7.0, 7.005)))
    assert starts(table, 2000, edge="skip") == [0, 1000]
    assert starts(table, 2000, edge="wrap") == [-1, 0, 1000, 1001]
    ends = events(*(("FP1-F7", onset, 1.0, "GPED") for onset in (-0.005, 0.0, 9.995, 10.0)))
    assert starts(ends, 2000, edge="wrap") == [-400, 1599]
    assert starts(events(("FP1-F7", 2.0, 1.0, "GPED")), 1000, edge="wrap") == [0]
    with pytest.raises(UserError, match="no window fits"):
        starts(events(("FP1-F7", 2.0, 1.0, "GPED")), 999, edge="wrap")


def test_samples_are_of_usable_recordings_in_their_order_and_numbered() -> None:
    table = recordings(n=4, status=["ok", "ok", "failed", "ok"])
    every = events(("FP1-F7", 20.0, 1.0, "SPSW"), ("F7-T3", 30.0, 1.0, "GPED"))
    every = pd.concat(
        [every.assign(recording=name) for name in ("r3", "r2", "r0")], ignore_index=True
    )
    samples = make_samples(table, every, WindowConfig(), list(TUEV_CLASSES))
    assert (
        samples.recording.tolist() == ["r0", "r0", "r3", "r3"]
        and samples.onset_s.tolist() == [20.0, 30.0] * 2
    )
    assert samples.index.tolist() == [0, 1, 2, 3]
    shared = distinct(pd.concat([samples.iloc[[0, 0, 2]], samples]))
    assert shared.index.tolist() == [0, 1, 2, 3] and shared.recording.tolist() == [
        "r0",
        "r3",
        "r0",
        "r3",
    ]


def test_where_no_window_fits_the_sentence_says_what_would_help() -> None:
    with pytest.raises(UserError) as caught:
        make_samples(
            recordings(n_times=900, n=2),
            events((None, 1.0, 1.0, "SPSW")),
            WindowConfig(),
            list(TUEV_CLASSES),
        )
    assert (
        str(caught.value)
        == "windows.policy=event, duration_s=5: no window fits into 2 recordings with 1 events; use"
        " policy=grid, shorter windows or edge=wrap"
    )


def test_an_unknown_label_is_refused_by_name() -> None:
    with pytest.raises(UserError) as caught:
        make_samples(
            recordings(), events((None, 1.0, 1.0, "T1")), WindowConfig(), list(TUEV_CLASSES)
        )
    assert (
        str(caught.value)
        == f"events are labelled 'T1', which is none of corpus.classes={list(TUEV_CLASSES)}; add it"
        " there, or leave it out by corpus.label_map"
    )


SEIZURES = [(None, 95.0, 30.0, "seizure"), (None, 300.0, 3.0, "seizure")]


def slow_grid_labels(rule: str, n: int) -> list[int]:
    """Second by second: which windows of 10 s hold a second of a seizure, or (published) its first
    or last.
    """
    labels = []
    for m in range(n):
        hit = False
        for _, onset, duration, _ in SEIZURES:
            if rule == "overlap":
                hit |= any(
                    onset <= t / 100 < onset + duration for t in range(1000 * m, 1000 * (m + 1))
                )
            else:
                hit |= any(10 * m < s <= 10 * m + 10 for s in (onset, onset + duration))
        labels.append(int(hit))
    return labels


@pytest.mark.parametrize("rule", ["overlap", "published"])
def test_grid_labels(rule: str) -> None:
    config = WindowConfig(policy="grid", duration_s=10, labels=rule, background="background")
    samples = make_samples(
        recordings(n_times=200 * 405), events(*SEIZURES), config, ["background", "seizure"]
    )
    assert samples.start_sample.tolist() == [
        2000 * i for i in range(40)
    ]  # the tail of 5 s is dropped
    assert samples.label.tolist() == slow_grid_labels(rule, 40)


def grid_labels(table: pd.DataFrame, **settings: object) -> list[int]:
    """Labels of six windows of 10 s."""
    config = WindowConfig(policy="grid", duration_s=10, background="-", **settings)
    return make_samples(recordings(), table, config, ["-", "seizure", "artefact"]).label.tolist()


@pytest.mark.parametrize(
    ("onset", "duration", "expected"),
    [
        (
            20.0,
            5.0,
            [0, 1, 1, 0, 0, 0],
        ),  # second 20 belongs to the window (10, 20], second 25 to the next
        (21.0, 9.0, [0, 0, 1, 0, 0, 0]),  # second 30 to (20, 30]
        (20.0, 15.0, [0, 1, 0, 1, 0, 0]),
        (15.0, 15.0, [0, 1, 1, 0, 0, 0]),
    ],
)
def test_the_published_rule_at_the_edges_of_windows(
    onset: float, duration: float, expected: list[int]
) -> None:
    assert grid_labels(events((None, onset, duration, "seizure")), labels="published") == expected


def test_a_window_with_two_events_gets_the_longer_one_and_of_equals_the_later_row() -> None:
    longer, shorter = (None, 10.0, 5.0, "seizure"), (None, 16.0, 3.0, "artefact")
    assert (
        grid_labels(events(longer, shorter))
        == grid_labels(events(shorter, longer))
        == [0, 1, 0, 0, 0, 0]
    )
    assert grid_labels(events((None, 12.0, 2.0, "artefact"), longer, shorter)) == [0, 1, 0, 0, 0, 0]
    assert grid_labels(events(longer, (None, 15.0, 5.0, "artefact"))) == [0, 2, 0, 0, 0, 0]


def test_an_event_must_be_in_a_window_for_longer_than_the_least_overlap() -> None:
    assert grid_labels(events((None, 9.0, 2.0, "seizure")), min_overlap_s=0.5) == [1, 1, 0, 0, 0, 0]
    assert grid_labels(events((None, 9.0, 2.0, "seizure")), min_overlap_s=1.0) == [0] * 6


def test_a_grid_holds_every_whole_window_and_no_other() -> None:
    assert grid(1000, 1000, 200).tolist() == [0] and grid(999, 1000, 200).tolist() == []
    assert grid(1400, 1000, 200).tolist() == [0, 200, 400] and grid(1399, 1000, 200).tolist() == [
        0,
        200,
    ]
    assert grid(1000, 1000, 200).dtype == np.int64


def test_samples_of_a_grid_say_where_they_are() -> None:
    config = WindowConfig(policy="grid+seizure", duration_s=10, step_s=25, background="-")
    samples = make_samples(
        recordings(),
        events((None, 1.0, 4.0, "seizure"), (None, 53.0, 9.0, "seizure")),
        config,
        ["-", "seizure"],
    )
    # windows of seizures: one second before the onset, then every 5 s; the first may begin at 0,
    # the last must end at 60 s
    assert samples.onset_s.tolist() == [0, 25, 50, 0, 5]
    assert samples.start_sample.tolist() == [0, 5000, 10_000, 0, 1000]
    assert set(samples.recording) == {"r0"} and set(samples.n_times) == {2000}
    assert samples.index.tolist() == [0, 1, 2, 3, 4]
    for duration, more in (
        (3.0, []),
        (3.01, [4.5]),
    ):  # while they begin before a second after the end
        table = events((None, 51.0, 3.0, "seizure"), (None, 0.5, duration, "seizure"))
        assert make_samples(recordings(), table, config, ["-", "seizure"]).onset_s.tolist() == [
            0,
            25,
            50,
            50,
            *more,
        ]


def test_the_published_rule_misses_a_window_inside_a_seizure() -> None:
    assert slow_grid_labels("overlap", 40)[10:12] == [1, 1]
    assert slow_grid_labels("published", 40)[9:13] == [1, 0, 0, 1]


def test_extra_windows_in_a_seizure() -> None:
    config = WindowConfig(policy="grid+seizure", duration_s=10, background="background")
    samples = make_samples(
        recordings(n_times=200 * 405), events(SEIZURES[0]), config, ["background", "seizure"]
    )
    extra = samples.iloc[40:]
    assert (extra.start_sample / 200).tolist() == [
        94,
        99,
        104,
        109,
        114,
        119,
        124,
    ]  # every 5 s from onset - 1 s, before end + 1 s
    assert set(extra.label) == {1}


def test_the_pretraining_view_has_each_window_and_channel_once_and_the_last_row_wins() -> None:
    table = events(
        ("FP1-F7", 20.0, 1.0, "SPSW"),
        ("F7-T3", 20.0, 1.0, "GPED"),
        ("F7-T3", 20.0, 1.0, "EYEM"),
        ("FP1-F7", 30.0, 1.0, "ARTF"),
    )
    samples = make_samples(recordings(), table, WindowConfig(), list(TUEV_CLASSES))
    assert len(distinct(samples)) == 2
    view = pretraining_view(samples, recordings())
    assert view.index.tolist() == [0, 1, 2, 3] and view.label.dtype == np.int64
    assert view[["start_sample", "ch_name", "channel_id", "row", "label"]].values.tolist() == [
        [3600, "FP1-F7", 0, 0, 0],
        [3600, "F7-T3", 1, 1, 3],
        [5600, "FP1-F7", 0, 0, 4],
        [5600, "F7-T3", 1, 1, -1],
    ]


def test_published_split_of_tuev_keeps_subjects_together() -> None:
    table = recordings(
        n=12, subject=[f"s{i // 2}" for i in range(12)], split=["train"] * 10 + ["test"] * 2
    )
    split = assign_splits(table, "tuev", WindowConfig(split="published"))
    assert split.tolist()[10:] == ["test", "test"] and split.name == "split"
    assert (
        assign_splits(table, "tuev", WindowConfig(split="published", val_fraction=0.6)) == "val"
    ).sum() == 6
    assert (split == "val").sum() == 2  # one of five subjects, two recordings
    assert table.groupby(split).subject.agg(set).pipe(lambda s: s["val"] & s["train"]) == set()


@pytest.mark.parametrize("unit", ["subject", "run"])
def test_every_unit_is_tested_once_over_all_folds(unit: str) -> None:
    table = recordings(
        n=12, subject=[f"s{i // 2}" for i in range(12)], run=[str(i % 2) for i in range(12)]
    )
    tested = []
    for fold in range(3):
        split = assign_splits(
            table, "folder", WindowConfig(split="kfold", n_folds=3, fold=fold, kfold_unit=unit)
        )
        names = table.subject if unit == "subject" else table.subject + table.run
        assert all(len(set(split[names == name])) == 1 for name in set(names))
        assert set(split) == {"train", "val", "test"}
        tested += table.recording[split == "test"].tolist()
    assert sorted(tested) == sorted(table.recording)


def test_units_are_recordings_runs_or_subjects() -> None:
    """Two subjects with two runs of two recordings each: as many folds as units leave one unit for
    each.
    """
    table = recordings(n=8, subject=["s0"] * 4 + ["s1"] * 4, run=["1", "1", "2", "2"] * 2)
    for unit, size, n_folds in (("recording", 1, 8), ("run", 2, 4)):
        config = [
            WindowConfig(split="kfold", n_folds=n_folds, fold=fold, kfold_unit=unit)
            for fold in range(n_folds)
        ]
        splits = [assign_splits(table, "folder", c) for c in config]
        assert all((split == part).sum() == size for split in splits for part in ("val", "test"))
        assert all(
            ((splits[fold] == "val") == (splits[(fold + 1) % n_folds] == "test")).all()
            for fold in range(n_folds)
        )
    with pytest.raises(UserError, match="n_folds=3: only 2 subjects"):
        assign_splits(table, "folder", WindowConfig(split="kfold", n_folds=3, kfold_unit="subject"))


@pytest.mark.parametrize(
    ("test_fraction", "val_fraction", "n_test", "n_val"),
    [
        (0.2, 0.25, 2, 2),
        (0.5, 0.4, 5, 2),
        (0.01, 0.01, 1, 1),
        (0.0, 0.3, 0, 3),
        (0.3, 0.0, 3, 0),
    ],
)
def test_a_random_split_takes_shares_of_subjects_in_the_order_of_the_seed(
    test_fraction: float, val_fraction: float, n_test: int, n_val: int
) -> None:
    table = recordings(n=20, subject=[f"s{i // 2}" for i in range(20)])
    config = WindowConfig(
        split="subject", split_seed=5, test_fraction=test_fraction, val_fraction=val_fraction
    )
    order = np.random.default_rng(5).permutation([f"s{i}" for i in range(10)]).tolist()
    expected = {
        name: (
            "test"
            if name in order[:n_test]
            else "val"
            if name in order[: n_test + n_val]
            else "train"
        )
        for name in order
    }
    assert assign_splits(table, "folder", config).tolist() == table.subject.map(expected).tolist()


def test_a_split_by_run_needs_runs() -> None:
    with pytest.raises(
        UserError,
        match="^windows.split by run: r2 has no run; name it in the table or by corpus.pattern$",
    ):
        assign_splits(
            recordings(n=5, run=["1", "2", None, "1", None]), "folder", WindowConfig(split="run")
        )
    with pytest.raises(UserError, match="r4 has no run"):
        assign_splits(
            recordings(n=5, run=["1", "2", "1", "1", None]), "folder", WindowConfig(split="run")
        )


def test_a_column_split_needs_every_row() -> None:
    with pytest.raises(UserError, match="split='dev'"):
        assign_splits(
            recordings(n=2, split=["train", "dev"]), "folder", WindowConfig(split="column")
        )


@pytest.mark.parametrize(
    ("split", "test_fraction", "missing"),
    [
        (["val", "test"], 0.2, "train"),
        (["train", "val"], 0.2, "test"),
        (["val", "val"], 0.2, "train"),
        (["train", "val"], 0.0, None),
    ],
)
def test_a_part_without_recordings_is_named(
    split: list[str], test_fraction: float, missing: str | None
) -> None:
    config, table = (
        WindowConfig(split="column", test_fraction=test_fraction),
        recordings(n=2, split=split),
    )
    if missing is None:
        assert assign_splits(table, "folder", config).tolist() == split
        return
    with pytest.raises(UserError) as caught:
        assign_splits(table, "folder", config)
    assert (
        str(caught.value)
        == f"windows.split=column: no recording is left for {missing} (of 2 recordings); choose"
        " another split or fractions"
    )


def test_a_subject_is_left_out_with_all_its_sessions() -> None:
    table = recordings(
        n=5,
        subject=["chb01", "chb01", "chb02", "chb03", "chb04"],
        session=["chb01", "chb21", "chb02", "chb03", "chb04"],
    )
    for name, expected in (("chb01", ["chb01", "chb21"]), ("chb21", ["chb21"])):
        split = assign_splits(
            table, "chbmit", WindowConfig(split="kfold", n_folds=3, leave_out=[name])
        )
        assert table.session[split == "left out"].tolist() == expected


def test_chbmit_split_is_by_patient() -> None:
    table = recordings(n=4, session=["chb01", "chb21", "chb24", "chb20"])
    assert assign_splits(table, "chbmit", WindowConfig(split="published")).tolist() == [
        "train",
        "val",
        "test",
        "train",
    ]


def test_chbmit_without_the_patients_that_the_usual_scripts_leave_out() -> None:
    """All 24 patients, chb21 being the person of chb01: with them, without 12, 13 and 17, and
    divided by person.
    """
    patients = [f"chb{n:02}" for n in range(1, 25)]
    table = recordings(
        n=24, session=patients, subject=["chb01" if p == "chb21" else p for p in patients]
    )
    whole = assign_splits(table, "chbmit", WindowConfig(split="published"))
    assert whole.value_counts().to_dict() == {"train": 20, "val": 2, "test": 2}
    usual = assign_splits(
        table, "chbmit", WindowConfig(split="published", leave_out=["chb12", "chb13", "chb17"])
    )
    assert table.session[usual == "left out"].tolist() == ["chb12", "chb13", "chb17"]
    assert (usual[usual != "left out"] == whole[usual != "left out"]).all()
    for seed in range(5):
        by_person = assign_splits(table, "chbmit", WindowConfig(split="subject", split_seed=seed))
        assert by_person[0] == by_person[20] and set(by_person) == {"train", "val", "test"}
    folds = [
        assign_splits(table, "chbmit", WindowConfig(split="kfold", fold=k, leave_out=["chb12"]))
        for k in range(5)
    ]
    tested = [p for fold in folds for p in table.session[fold == "test"]]
    assert sorted(tested) == [p for p in patients if p != "chb12"]


def test_leaving_out_who_is_not_there_is_refused() -> None:
    with pytest.raises(
        UserError, match="leave_out=chb1: no recording is of this subject or session.*did you mean"
    ):
        assign_splits(
            recordings(n=3, session=["chb01", "chb21", "chb24"]),
            "chbmit",
            WindowConfig(leave_out=["chb1"]),
        )


@pytest.mark.parametrize("release", TUEV_EVENTS)
def test_events_per_class_and_split_are_compared_with_the_releases_of_tuev(release: str) -> None:
    """As many events as published, of four training subjects and a test subject; one event more
    fits no release.
    """
    table = recordings(
        n=6, subject=["a", "b", "c", "d", "e", "000"], split=["train"] * 5 + ["test"]
    )
    split = assign_splits(table, "tuev", WindowConfig())
    held = {part: split[split == part].index for part in ("train", "val", "test")}
    rows = [
        (f"r{held[part][i % len(held[part])]}", "SPSW" if i % 3 else "BCKG")
        for part, n in zip(("train", "val", "test"), TUEV_EVENTS[release], strict=True)
        for i in range(n)
    ]
    table_of_events = pd.DataFrame(rows, columns=["recording", "label"])
    counts = events_per_split(table, table_of_events, "tuev", WindowConfig())
    assert tuple(counts.sum()) == TUEV_EVENTS[release]
    *parts, verdict = describe_event_counts(counts, "tuev")
    n_train = TUEV_EVENTS[release][0]
    assert (
        parts[0] == f"events in the published train part: BCKG {-(-n_train // 3):,}, SPSW"
        f" {n_train - -(-n_train // 3):,} ({n_train:,})"
    )
    (first, one), (second, other_counts) = (
        (name, f"{a:,} / {b:,} / {c:,} ({a + b + c:,})") for name, (a, b, c) in TUEV_EVENTS.items()
    )
    own = {first: one, second: other_counts}[release]
    assert (
        verdict
        == f"{own} events in train / val / test: these are the events of TUEV {release} ({first}"
        f" has {one}; {second} has {other_counts})"
    )
    *_, other = describe_event_counts(
        events_per_split(table, table_of_events.iloc[1:], "tuev", WindowConfig()), "tuev"
    )
    assert ": this fits no release of TUEV (" in other


def test_events_of_chbmit_are_counted_by_patient_and_parts_without_any_are_none() -> None:
    table = recordings(n=3, session=["chb01", "chb21", "chb24"])
    seizures = pd.DataFrame({"recording": ["r0", "r0"], "label": ["seizure", "seizure"]})
    counts = events_per_split(table, seizures, "chbmit", WindowConfig())
    assert counts.loc["seizure"].to_dict() == {"train": 2, "val": 0, "test": 0}
    assert list(describe_event_counts(counts, "chbmit")) == [
        "events in the published train part: seizure 2 (2)",
        "events in the published val part: none (0)",
        "events in the published test part: none (0)",
    ]


def test_samples_are_numbers_a_dataset_can_use() -> None:
    samples = make_samples(
        recordings(), events(("FP1-F7", 20.0, 1.0, "SPSW")), WindowConfig(), list(TUEV_CLASSES)
    )
    assert samples.label.dtype == samples.start_sample.dtype == np.int64


# ------------------------------------------------- windows without a label, who is divided


def labelled(*rows: tuple) -> pd.DataFrame:
    """Events of whole recordings: (recording, onset_s, duration_s, label)."""
    table = pd.DataFrame(list(rows), columns=["recording", "onset_s", "duration_s", "label"])
    return table.assign(channel=None)


def two_halves() -> pd.DataFrame:
    """Of a minute the second ten seconds and the last twenty are labelled."""
    return labelled(("r0", 10.0, 10.0, "a"), ("r0", 40.0, 20.0, "b"))


def test_without_a_background_grid_windows_without_an_event_are_left_out() -> None:
    config = WindowConfig(policy="grid", duration_s=5.0, background=None)
    samples = make_samples(recordings(), two_halves(), config, ["a", "b"])
    assert samples.onset_s.tolist() == [10.0, 15.0, 40.0, 45.0, 50.0, 55.0]
    assert samples.label.tolist() == [0, 0, 1, 1, 1, 1]


def test_a_background_that_is_no_class_is_refused_where_it_is_needed() -> None:
    config = WindowConfig(policy="grid", duration_s=5.0)
    with pytest.raises(UserError) as caught:
        make_samples(recordings(), two_halves(), config, ["a", "b"])
    assert "\n" not in str(caught.value) and str(caught.value).startswith(
        "windows.background=BCKG: 6 of 12 windows hold no event"
    )
    assert "windows.background=null" in str(caught.value)
    whole = labelled(("r0", 0.0, 60.0, "a"))  # labels of whole recordings need none
    assert make_samples(recordings(), whole, config, ["a", "b"]).label.tolist() == [0] * 12


def test_events_longer_than_two_windows_are_said_to_be_cut() -> None:
    table = labelled(("r0", 0.0, 60.0, "a"), ("r0", 0.0, 10.0, "a"), ("r0", 5.0, 10.1, "a"))
    warning = long_events(table, WindowConfig(duration_s=5.0))
    assert warning is not None and "2 of 3 events are more than 2 times as long (up to 60 s)" in (
        warning
    )
    assert long_events(table, WindowConfig(duration_s=5.0, policy="grid")) is None
    assert long_events(table.iloc[1:2], WindowConfig(duration_s=5.0)) is None


def test_recordings_without_samples_are_counted() -> None:
    table = recordings(n=4)
    samples = pd.DataFrame({"recording": ["r1", "r1"]})
    assert (without_windows(table, samples) or "").startswith("3 of 4 recordings hold no event")
    assert without_windows(table.iloc[1:2], samples) is None


@pytest.mark.parametrize("split", ["subject", "recording"])
@pytest.mark.parametrize("seed", range(5))
def test_those_with_labels_are_divided_and_the_others_learn(split: str, seed: int) -> None:
    table = recordings(n=43, subject=[f"p{i:02}" for i in range(43)])
    names = [f"r{i}" for i in (3, 8, 21, 30, 42)]
    found = labelled(*[(name, 1.0, 1.0, "a") for name in names])
    config = WindowConfig(split=split, split_seed=seed)
    parts = assign_splits(table, "folder", config, found)
    with_labels = table.recording.isin(names)
    assert sorted(parts[with_labels]) == ["test", "train", "train", "train", "val"]
    assert set(parts[~with_labels]) == {"train"}
    alone = assign_splits(table[with_labels], "folder", config)  # as if the others were not there
    assert parts[with_labels].tolist() == alone.tolist()


def test_where_all_have_labels_or_all_windows_count_the_division_is_as_before() -> None:
    table = recordings(n=20, subject=[f"p{i % 10}" for i in range(20)])
    every = labelled(*[(f"r{i}", 1.0, 1.0, "a") for i in range(20)])
    few = every.iloc[:3]
    for split in ("subject", "kfold"):
        config = WindowConfig(split=split, n_folds=3)
        expected = assign_splits(table, "folder", config).tolist()
        assert assign_splits(table, "folder", config, every).tolist() == expected
        assert assign_splits(table, "folder", config, every.iloc[:0]).tolist() == expected
        grid = WindowConfig(split=split, n_folds=3, policy="grid")
        assert assign_splits(table, "folder", grid, few).tolist() == expected


def test_folds_are_of_those_with_labels() -> None:
    table = recordings(n=9, subject=[f"p{i}" for i in range(9)])
    found = labelled(*[(f"r{i}", 1.0, 1.0, "a") for i in range(4)])
    tested = []
    for fold in range(4):
        parts = assign_splits(
            table, "folder", WindowConfig(split="kfold", n_folds=4, fold=fold), found
        )
        assert set(parts[4:]) == {"train"}
        tested += table.recording[parts == "test"].tolist()
    assert sorted(tested) == ["r0", "r1", "r2", "r3"]
    with pytest.raises(UserError, match="only 4 subjects to divide"):
        assign_splits(table, "folder", WindowConfig(split="kfold", n_folds=5), found)


@pytest.mark.parametrize("seed", range(20))
def test_the_main_label_of_a_window_by_counting_tenths_of_a_second(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_events = int(rng.integers(0, 12))
    onset, duration = rng.integers(0, 200, n_events), rng.integers(0, 60, n_events)
    labels = rng.choice(["a", "b", "c"], n_events)
    table = pd.DataFrame({"onset_s": onset / 10, "duration_s": duration / 10, "label": labels})
    starts = np.arange(0, 200, 17)
    expected = []
    for start in starts:
        count = {
            label: sum(
                any(
                    first <= tenth < first + length
                    for first, length, own in zip(onset, duration, labels, strict=True)
                    if own == label
                )
                for tenth in range(start, start + 50)
            )
            for label in "abc"
        }
        most = max(count.values())
        winners = [label for label, n in count.items() if n == most]
        expected.append(winners[0] if most >= 25 and len(winners) == 1 else None)
    assert list(main_labels(starts / 10, 5.0, table)) == expected
