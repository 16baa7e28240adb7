"""The three files of a report: safe against what stands in files, self-contained, and right in what
they say.
"""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from eegdm.evaluation import baselines, metrics
from eegdm.evaluation.event_scores import EventCounts, average_over_subjects
from eegdm.evaluation.results import Baseline, RunResult, pooled
from eegdm.report.content import Example, Report, Samples
from eegdm.report.pages import Points, Section, Table, Text, without_folders, write_markdown
from eegdm.report.sections import sections, verdict
from eegdm.report.tables import write_latex
from eegdm.report.write import as_json, report_numbers, write_report

RNG = np.random.default_rng


def evil(where: str) -> str:
    """What a stranger might put into a file, and a mark to find it by."""
    return f'<script>boom()</script>"><img src=x onerror=boom()>{where}'


def make_run(name: str, quality: float, n_logits: int = 3, seed: int = 0) -> RunResult:
    rng = RNG(seed)
    n_classes = max(n_logits, 2)
    label = rng.choice(n_classes, 120)
    logits = rng.normal(size=(120, n_classes)) + quality * np.eye(n_classes)[label]
    if n_logits == 1:
        logits = logits[:, 1:] - logits[:, :1]
    epochs = np.arange(3)
    curves = pd.DataFrame(
        {
            "epoch": epochs,
            "step": epochs * 10,
            "lr": 1e-4,
            "train_loss": 1.0,
            "val_loss": 1.1,
            "val_kappa": 0.5,
        }
    )
    subject, recording = np.arange(120) // 40, np.arange(120) // 8
    scores = metrics.scores(label, logits)
    return RunResult(name, seed, scores, label, logits, subject, recording, curves, temperature=0.8)


def make_report(word=lambda where: where, **changes) -> Report:
    """A small report; ``word`` makes each text that could come from a file."""
    rng = RNG(0)
    classes = [word("class-a"), word("class-b"), word("class-c")]
    ch_names = [word("channel"), "F7-T3"]
    true = pd.DataFrame(
        {
            "onset_s": [2.0, 5.0],
            "duration_s": 1.0,
            "label": classes[1:],
            "channel": [ch_names[0], None],
        }
    )
    predicted = pd.DataFrame(
        {"onset_s": [2.1], "duration_s": [1.0], "label": [classes[1]], "probability": [0.9]}
    )
    probabilities = metrics.class_probabilities(rng.normal(size=(10, 3)))
    example = Example(
        word("recording"),
        30 * rng.normal(size=(2, 2000)),
        200.0,
        ch_names,
        np.arange(10) + 0.5,
        probabilities,
        true,
        predicted,
    )
    counts = pd.DataFrame(
        [
            {
                "split": s,
                "subjects": 3,
                "recordings": 15,
                "windows": 120,
                **dict.fromkeys(classes, 40),
            }
            for s in ("train", "test")
        ]
    )
    report = Report(
        title=word("title"),
        corpus=word("corpus"),
        recipe="demo",
        classes=classes,
        event_classes=classes[1:],
        binary=False,
        split="No subject is in two splits.",
        counts=counts,
        runs=[make_run(word("run"), 3.0)],
        baselines={word("baseline"): Baseline([make_run("b", 1.0).scores], word("sentence"))},
        pretraining=pd.DataFrame({"epoch": [0, 1], "lr": 1e-4, "train_loss": [1.0, 0.5]}),
        generated=Samples(
            30 * rng.normal(size=(2, 2, 400)), 30 * rng.normal(size=(2, 3, 400)), ch_names, 200.0
        ),
        example=example,
        failures=pd.DataFrame({"recording": [word("failed")], "reason": [word("reason")]}),
        settings={word("setting"): {"nested": word("value"), "list": [1.0, 2.0]}},
        provenance={"command": word("command"), "seconds": {"pretrain": np.float32(1.5)}},
    )
    return replace(report, **changes)


class Page(HTMLParser):
    """The tags, scripts, styles and visible text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": [], "text": []}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        tag = self.tags[-1][0] if self.tags else ""
        self.inside[tag if tag in self.inside else "text"].append(data)


@pytest.fixture(scope="module")
def evil_report(tmp_path_factory) -> Path:
    return write_report(make_report(evil), tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(evil_report) -> Page:
    return Page(evil_report)


def test_what_comes_from_files_is_text_and_nothing_else(page):
    assert not any("boom()" in code for code in page.inside["script"] + page.inside["style"])
    assert not any(
        "onerror" in attributes or attributes.get("src") == "x" for _, attributes in page.tags
    )
    text = " ".join(page.inside["text"])
    for where in (
        "title",
        "corpus",
        "class-a",
        "run",
        "baseline",
        "sentence",
        "recording",
        "failed",
        "reason",
        "setting",
        "value",
        "command",
    ):
        assert evil(where) in text


def test_the_page_asks_nothing_of_any_network(page):
    loaded = [
        value
        for tag, attributes in page.tags
        if tag != "a"
        for key, value in attributes.items()
        if key in ("src", "href", "data")
    ]
    assert all(value.startswith(("data:", "#")) for value in loaded)
    assert not any(
        re.search(r"@import|url\(\s*[\"']?(https?:)?//", style) for style in page.inside["style"]
    )


def test_the_page_has_its_sections_in_order_and_a_width_for_telephones(page):
    headings = [t.strip() for t in page.inside["text"]]
    wanted = [
        "Summary",
        "Confusion",
        "Per class",
        "Calibration",
        "Training",
        "Generated EEG",
        "A recording with its predicted events",
        "Data",
        "Settings and provenance",
        "Limits",
    ]
    places = [headings.index(title) for title in wanted]
    assert places == sorted(places)
    assert (
        "meta",
        {"name": "viewport", "content": "width=device-width, initial-scale=1"},
    ) in page.tags
    assert any("not a medical device" in text for text in page.inside["text"])
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")


def test_markdown_and_json_stand_beside_the_page(evil_report):
    markdown = (evil_report.parent / "report.md").read_text()
    assert "<script" not in markdown and "<img" not in markdown and "&lt;script&gt;" in markdown
    numbers = json.loads((evil_report.parent / "report.json").read_text())
    assert numbers["runs"][0]["scores"]["confusion"] and numbers["provenance"]["seconds"] == {
        "pretrain": 1.5
    }
    assert numbers["example"]["predicted_events"][0]["onset_s"] == 2.1
    assert sorted(p.name for p in evil_report.parent.iterdir()) == [
        f"report.{end}" for end in ("csv", "html", "json", "md", "tex")
    ]


def test_tables_for_other_programs_hold_each_run_and_its_mean_and_spread(tmp_path):
    runs = [make_run(f"seed {s}", 2.0, seed=s) for s in range(3)]
    write_report(make_report(runs=runs, pretraining=None, generated=None, example=None), tmp_path)
    table = pd.read_csv(tmp_path / "report.csv")
    assert list(table.run[:5]) == ["seed 0", "seed 1", "seed 2", "mean", "std"] and set(
        table.model
    ) == {"EEGDM", "baseline"}
    kappas = np.array([100 * run.scores["kappa"] for run in runs])
    np.testing.assert_allclose(table.kappa[:5], [*kappas, kappas.mean(), kappas.std()], atol=0.005)
    latex = (tmp_path / "report.tex").read_text()
    assert (
        rf"\textbf{{EEGDM, mean of 3 runs}} & {kappas.mean():.2f} $\pm$ {kappas.std():.2f} & "
        in latex
    )
    assert latex.count(r" \\") == 1 + 4 + 1 and r"\begin{tabular}{lrrr}" in latex


def test_latex_shows_a_strangers_words_and_runs_none_of_them(tmp_path):
    write_latex(
        tmp_path / "t.tex",
        Table(["a_b", "c"], [["\\input{/etc/x}", "50 %"], ["[1] & #", "~^$"]], "{"),
    )
    text = (tmp_path / "t.tex").read_text()
    assert (
        r"\textbackslash{}input\{x\} & 50 \% \\" in text
        and r"{[}1] \& \# & \textasciitilde{}\textasciicircum{}\$ \\" in text
    )
    assert r"a\_b & c \\" in text and r"\caption{\{}" in text


def test_generated_eeg_is_measured_beside_the_floor():
    rng = RNG(0)
    real = 30 * rng.normal(size=(2, 20, 400))
    samples = Samples(real, 2 * real[:, :5], ["FP1-F7", "F7-T3"], 200.0)
    report = make_report(generated=samples, example=None, pretraining=None)
    found = report_numbers(report)["generated"]
    assert found["generated"]["spectrum_dB"] == pytest.approx(20 * np.log10(2), abs=1.0)
    assert found["floor"]["spectrum_dB"] < 3.0
    rows = _tables(report)["Generated EEG"].rows
    assert len(rows) == 3 and rows[0][1] == f"{found['generated']['spectrum_dB']:.3f}"
    assert report_numbers(make_report(generated=None))["generated"] is None


def test_events_over_whole_recordings_have_a_section_of_their_own():
    events = average_over_subjects(
        {"a": [EventCounts(2, 1, 1, 43200.0)], "b": [EventCounts(0, 0, 0, 43200.0)]}
    )
    runs = [replace(make_run("seed 0", 1.0), events=events)]
    table = _tables(make_report(runs=runs, pretraining=None, generated=None, example=None))[
        "Events"
    ]
    windows = f"{100 * runs[0].scores['per_class'][1]['recall']:.2f}"
    assert table.rows == [["seed 0", "50.00", "50.00", "50.00", "1.00", "1 / 2", windows]]
    assert report_numbers(make_report(runs=runs))["runs"][0]["events"]["found"] == 1


def test_numbers_equal_scikit_learn_and_tell_the_unit_of_the_intervals():
    from sklearn.metrics import cohen_kappa_score

    report = make_report()
    found = report_numbers(report)["runs"][0]
    run = report.runs[0]
    assert found["intervals"]["kappa"]["value"] == pytest.approx(
        cohen_kappa_score(run.label, run.logits.argmax(axis=1))
    )
    assert (
        found["intervals"]["kappa"]["low"]
        < found["intervals"]["kappa"]["value"]
        < found["intervals"]["kappa"]["high"]
    )
    assert (found["interval_unit"], found["n_units"]) == (
        "recordings",
        15,
    )  # three subjects are too few
    many = replace(run, subject=np.arange(120) // 10)
    assert report_numbers(replace(report, runs=[many]))["runs"][0]["interval_unit"] == "subjects"


def _tables(report: Report) -> dict[str, Table]:
    content = sections(report, report_numbers(report))
    return {
        section.title: element
        for section in reversed(content)
        for element in reversed(section.elements)
        if isinstance(element, Table)
    }


def test_several_runs_are_summarised_with_their_population_std():
    runs = [make_run(f"seed {s}", 2.0, seed=s) for s in range(3)]
    table = _tables(make_report(runs=runs, pretraining=None, generated=None, example=None))[
        "Summary"
    ]
    kappas = [100 * run.scores["kappa"] for run in runs]
    assert table.rows[0][:2] == [
        "EEGDM, mean of 3 runs",
        f"{np.mean(kappas):.2f} ± {np.std(kappas):.2f}",
    ]
    assert [row[0] for row in table.rows[1:]] == ["seed 0", "seed 1", "seed 2", "baseline"]
    assert table.rows[2][1].startswith(f"{kappas[1]:.2f} [") and table.strong == {0, 1, 2, 3}


def test_a_detector_is_scored_as_one():
    run = make_run("seed 0", 1.0, n_logits=1)
    chance = baselines.chance(run.label, run.label, 2)["label prior"]
    counts = pd.DataFrame(
        [
            {
                "split": "test",
                "subjects": 1,
                "recordings": 1,
                "windows": 120,
                "rest": 60,
                "seizure": 60,
            }
        ]
    )
    report = make_report(
        binary=True,
        classes=["rest", "seizure"],
        event_classes=["seizure"],
        counts=counts,
        runs=[run],
        baselines={"chance": Baseline([chance], "guesses")},
        example=None,
        generated=None,
    )
    table = _tables(report)["Summary"]
    assert table.header == ["", "balanced accuracy", "AUC-PR", "AUROC"]
    assert table.rows[1] == ["chance", "50.00", f"{100 * run.label.mean():.2f}", "50.00"]
    text = " ".join(
        b.text for b in sections(report, report_numbers(report))[0].elements if isinstance(b, Text)
    )
    assert "120 test (1 recording of 1 subject)" in text


@pytest.mark.parametrize(
    ("ours", "baseline", "said"),
    [
        (3.0, 1.0, "lies above it"),
        (1.0, 3.0, "does as well or better"),
        (1.2, 1.0, "within what other recordings could change"),
    ],
)
def test_the_verdict_says_whether_the_baseline_is_beaten(ours, baseline, said):
    report = make_report(
        runs=[make_run("seed 0", ours)],
        baselines={"band power": Baseline([make_run("b", baseline).scores], "")},
    )
    assert said in verdict(report, report_numbers(report))


def test_without_baselines_the_verdict_is_the_score():
    report = make_report(baselines={})
    kappa = 100 * report.runs[0].scores["kappa"]
    assert (
        verdict(report, report_numbers(report))
        == f"Kappa (x100) of EEGDM on the test windows is {kappa:.2f}."
    )


def test_what_there_is_not_has_no_section_and_what_is_undefined_says_why():
    one_class = np.zeros(4, dtype=int)
    logits = np.array([[-1.0], [-2.0], [1.0], [-1.0]])
    run = RunResult(
        "seed 0",
        0,
        metrics.scores(one_class, logits),
        one_class,
        logits,
        one_class,
        one_class,
        pd.DataFrame(),
    )
    report = Report(
        "t",
        "c",
        "r",
        ["rest", "seizure"],
        ["seizure"],
        True,
        "",
        pd.DataFrame({"split": []}),
        [run],
        {},
    )
    content = sections(report, as_json(report_numbers(report)))
    assert [s.title for s in content] == [
        "Summary",
        "Confusion",
        "Per class",
        "Calibration",
        "Data",
        "Limits",
    ]
    points = next(e for e in content[0].elements if isinstance(e, Points))
    assert "Not defined here: every window is of class 0" in dict(points.points)["AUROC"]
    assert _tables(report)["Summary"].rows == [["EEGDM, seed 0", "–", "–", "–"]]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/anna/data/a.edf: broken", "a.edf: broken"),
        ("open '/mnt/x/b c.edf' and (/mnt/y/d.edf)", "open 'b c.edf' and (d.edf)"),
        ("source=/home/anna/data", "source=data"),
        (r"C:\Users\Anna\a.edf", "a.edf"),
        ("file:///home/anna/a.edf", "a.edf"),
        ("~/eeg/a.edf", "a.edf"),
    ],
)
def test_folders_of_this_machine_are_cut(text, left):
    assert without_folders(text) == left


def test_other_slashes_stay():
    text = "runs/tuev/base and https://example.org/a/b, 3 µV²/Hz, rest/task, n/a"
    assert without_folders(text) == text


def test_no_page_names_a_folder(tmp_path):
    folder = "/home/anna/secret"
    report = make_report(
        lambda where: f"{folder}/{where}", pretraining=None, generated=None, example=None
    )
    write_report(report, tmp_path)
    for name in ("report.html", "report.md", "report.json"):
        assert "anna" not in (tmp_path / name).read_text(encoding="utf-8")


def test_markdown_keeps_rows_of_tables_in_one_line(tmp_path):
    table = Table(["a|b", "c"], [["x\ny", "`z` [l](javascript:)"]])
    write_markdown(tmp_path / "r.md", "# t_i", [Section("s", [table])])
    assert (
        (tmp_path / "r.md").read_text()
        == "# \\# t\\_i\n\n## s\n\n| a\\|b | c |\n| --- | --- |\n| x y | \\`z\\` \\[l\\](javascript:) |\n"  # noqa: E501
    )


def test_plain_numbers_are_json():
    found = as_json(
        {
            "a": np.float32(np.nan),
            "b": (np.int64(1), np.bool_(True)),
            "c": np.array([1.5, np.inf]),
            3: Path("/x/y/z"),
        }
    )
    assert found == {"a": None, "b": [1, True], "c": [1.5, None], "3": "z"}
    json.dumps(found, allow_nan=False)


# ------------------------------------------------------------------- folds, recordings and people


def make_folds(n_folds: int, seeds: tuple[int, ...], n_people: int = 12) -> list[RunResult]:
    """Two classes: each person has a recording of each, tested in one fold."""
    runs = []
    for seed in seeds:
        rng = RNG(seed)
        for fold in range(n_folds):
            people = np.arange(fold, n_people, n_folds)
            subject = np.repeat(people, 10)
            label = np.tile(np.repeat([0, 1], 5), len(people))
            recording = subject * 2 + label
            logits = rng.normal(size=(len(label), 2)) + 0.7 * np.eye(2)[label]
            runs.append(
                RunResult(
                    f"fold {fold}, seed {seed}",
                    seed,
                    metrics.scores(label, logits),
                    label,
                    logits,
                    subject,
                    recording,
                    fold=fold,
                )
            )
    return runs


def folds_report(runs: list[RunResult], n_folds: int, **changes) -> Report:
    baseline = Baseline([run.scores for run in runs], "guesses", runs)
    return make_report(
        classes=["rest", "task"],
        event_classes=["task"],
        runs=runs,
        n_folds=n_folds,
        pooled=pooled(runs, n_folds),
        baselines={"band power": baseline},
        pretraining=None,
        generated=None,
        example=None,
        **changes,
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 5), st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True))
def test_folds_and_seeds_are_pooled_and_averaged_as_by_hand(n_folds, seeds):
    runs = make_folds(n_folds, tuple(seeds))
    report = folds_report(runs, n_folds, labels_of_recordings=False)
    summary = metrics.summarise([run.scores for run in runs])
    assert [run.seed for run in report.pooled] == seeds
    for run in report.pooled:
        own = [one for one in runs if one.seed == run.seed]
        label = np.concatenate([one.label for one in own])
        logits = np.concatenate([one.logits for one in own])
        assert run.scores["kappa"] == pytest.approx(
            reference.cohen_kappa_score(label, logits.argmax(axis=1))
        )
        assert run.scores["auroc"] == pytest.approx(
            reference.roc_auc_score(label, logits[:, 1] - logits[:, 0])
        )
        assert len(np.unique(run.subject)) == 12
    kappas = [
        reference.cohen_kappa_score(run.label, run.logits.argmax(axis=1)) for run in report.runs
    ]
    assert summary["kappa"]["mean"] == pytest.approx(100 * np.mean(kappas), abs=0.006)


def test_without_a_fold_nothing_is_pooled():
    assert pooled(make_folds(3, (0,))[:2], 3) == []
    assert [run.name for run in pooled(make_folds(3, (0, 1))[:5], 3)] == ["seed 0, all 3 folds"]
    assert pooled(make_folds(3, (0,)), None) == []


def test_recordings_and_people_are_scored_by_their_mean_probability():
    runs = make_folds(3, (0,))
    report = folds_report(runs, 3, labels_of_recordings=True)
    found = report_numbers(report)["recordings_and_people"]
    assert set(found["recording"]) == {"EEGDM", "band power"} and found["subject"] == {}
    (ours,) = found["recording"]["EEGDM"]
    (run,) = report.pooled
    table = pd.DataFrame(
        {
            "recording": run.recording,
            "subject": run.subject,
            "label": run.label,
            "p": metrics.class_probabilities(run.logits)[:, 1],
        }
    )
    means = table.groupby("recording").mean()
    assert (ours["n"], ours["people"]) == (24, 12)
    assert ours["scores"]["auroc"] == pytest.approx(reference.roc_auc_score(means.label, means.p))
    both = means.pivot(index="subject", columns="label", values="p")
    assert ours["ranked_within_people"] == [int((both[1] > both[0]).sum()), 12]
    assert ours["intervals"]["auroc"]["low"] < ours["intervals"]["auroc"]["value"]
    tables = _tables(report)["Recordings and people"]
    assert tables.header[-1] == "task ranked higher"
    assert tables.rows[0][-1] == f"{int((both[1] > both[0]).sum())} of 12"


def test_people_of_one_class_each_are_scored_and_few_people_get_no_interval():
    (run,) = pooled(make_folds(3, (0,), n_people=6), 3)
    label = run.subject % 2
    of_one_class = replace(run, label=label, scores=metrics.scores(label, run.logits))
    report = make_report(
        classes=["control", "patient"],
        event_classes=["patient"],
        runs=[of_one_class],
        baselines={},
        labels_of_recordings=True,
        pretraining=None,
        generated=None,
        example=None,
    )
    found = report_numbers(report)["recordings_and_people"]["subject"]["EEGDM"][0]
    table = pd.DataFrame(
        {"who": run.subject, "p": metrics.class_probabilities(run.logits)[:, 1], "y": label}
    )
    means = table.groupby("who").mean()
    assert found["n"] == 6 and found["ranked_within_people"] is None
    assert found["scores"]["auroc"] == pytest.approx(reference.roc_auc_score(means.y, means.p))
    assert found["intervals"]["auroc"]["low"] is None


def test_intervals_of_folds_are_over_people_and_the_verdict_is_of_all_folds():
    report = folds_report(make_folds(3, (0,)), 3)
    numbers = report_numbers(report)
    assert numbers["pooled"][0]["interval_unit"] == "subjects"
    assert numbers["pooled"][0]["n_units"] == 12
    assert "of all folds together" in verdict(report, numbers)
    first = next(b for b in sections(report, numbers)[0].elements if isinstance(b, Table))
    assert first.rows[0][0] == "EEGDM, seed 0, all 3 folds"
    assert "each test window once" in first.caption


def test_a_baseline_that_was_not_computed_is_a_row_with_its_reason(tmp_path):
    baselines = {
        "band power": Baseline([], "s", missing="all 4 training windows are of class 0"),
        "chance": Baseline([make_run("b", 1.0).scores], "s"),
    }
    report = make_report(baselines=baselines, pretraining=None, generated=None, example=None)
    rows = _tables(report)["Summary"].rows
    assert rows[1] == ["band power", "not computed: all 4 training windows are of class 0", "", ""]
    write_report(report, tmp_path)
    table = pd.read_csv(tmp_path / "report.csv").set_index(["model", "run"])
    assert np.isnan(table.kappa["band power", "mean"]) and table.kappa["chance", "mean"] > 0


def test_classifiers_that_were_left_out_and_warnings_are_shown():
    left_out = pd.DataFrame({"classifier": ["seed=3"], "why": ["finetune.max_lr=0.01, not 0.001"]})
    report = make_report(left_out=left_out, notes=["s01 and s02 may be one person."])
    elements = sections(report, report_numbers(report))[0].elements
    assert Text("s01 and s02 may be one person.") in elements
    assert any(isinstance(b, Table) and b.rows == [list(left_out.iloc[0])] for b in elements)
