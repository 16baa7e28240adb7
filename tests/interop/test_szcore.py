"""SzCORE: `eegdm evaluate-events` gives the scores of its package szcore-evaluation, and what
examples/szcore puts into a container does what its scoreboard asks for.

The package says that it needs Python 3.12, and runs with 3.11. It gives means over subjects alone;
the scores of each subject are made here as it makes them, by the two libraries that it uses,
epilepsy2bids and timescoring.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from epilepsy2bids.annotations import Annotations
from epilepsy2bids.eeg import Eeg
from szcore_evaluation.evaluate import evaluate_dataset
from timescoring import scoring
from timescoring.annotations import Annotation
from typer.testing import CliRunner

from conftest import ROOT
from eegdm.cli import app
from eegdm.data.montage import CHBMIT
from eegdm.errors import UserError
from eegdm.evaluation.szcore import as_json, describe, evaluate_folders, write_evaluation
from inference.small import lively_model, made_up
from stages.tiny import one_thread

HEADER = "onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration\n"
METRICS = ("sensitivity", "precision", "f1", "fpRate")
METHODS = {"sample_results": scoring.SampleScoring, "event_results": scoring.EventScoring}


# --------------------------------------------------------------------------------- the framework


def mask_of(path: Path) -> np.ndarray:
    return Annotations.loadTsv(str(path)).getMask(1)


def of_subjects(reference: Path, hypothesis: Path) -> dict[str, dict[str, dict[str, float]]]:
    """The scores of each subject, whose counts are summed over recordings.

    Both sides become masks of 1 Hz. Where the file of the same path is missing, has no rows or is
    of another length, nothing was found.
    """
    results: dict[str, dict[str, dict[str, float]]] = {}
    for kind, method in METHODS.items():
        results[kind] = {}
        for subject in sorted(reference.glob("sub-*")):
            total = scoring._Scoring()
            total.tp = total.fp = total.refTrue = total.numSamples = 0
            for path in sorted(subject.glob("**/*.tsv")):
                truth = mask_of(path)
                found, other = np.zeros(len(truth)), hypothesis / path.relative_to(reference)
                if other.exists():
                    with suppress(IndexError):
                        found = mask_of(other)
                if len(found) != len(truth):
                    found = np.zeros(len(truth))
                score = method(Annotation(truth, 1), Annotation(found, 1))
                for name in ("tp", "fp", "refTrue", "numSamples"):
                    setattr(total, name, getattr(total, name) + getattr(score, name))
                total.fs = score.fs
            total.computeScores()
            results[kind][subject.name] = {name: getattr(total, name) for name in METRICS}
    return results


def assert_same(ours: dict[str, Any], theirs: dict[str, float]) -> None:
    for name, value in theirs.items():
        if np.isnan(value):
            assert ours[name] is None, name
        else:
            assert ours[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name


def assert_equals_framework(reference: Path, hypothesis: Path) -> dict[str, Any]:
    ours = as_json(evaluate_folders(reference, hypothesis))
    theirs = evaluate_dataset(reference, hypothesis, reference.with_name("theirs.json"))
    subjects = of_subjects(reference, hypothesis)
    for kind in METHODS:
        assert list(ours[kind]) == [n for name in METRICS for n in (name, f"{name}_std")]
        assert_same(ours[kind], theirs[kind])
        assert list(ours["subjects"]) == list(subjects[kind])
        for subject, scores in ours["subjects"].items():
            assert_same(scores[kind], subjects[kind][subject])
    return ours


# ------------------------------------------------------------------------------- event files


def write(
    path: Path, events: list[tuple[float, float]], seconds: float, kind: str = "sz", header=HEADER
) -> None:
    """Write an event file: seizures by onset and duration, or one row of background."""
    rows = [(*event, kind) for event in events] or [(0, seconds, "bckg")]
    lines = [f"{a}\t{b}\t{c}\tn/a\tn/a\tn/a\t{seconds}\n" for a, b, c in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + "".join(lines))


def name_of(subject: int, run: int) -> str:
    stem = f"sub-{subject:02}_ses-01_task-szMonitoring_run-{run:02}_events.tsv"
    return f"sub-{subject:02}/ses-01/eeg/{stem}"


def random_events(rng: np.random.Generator, n: int, seconds: float) -> list[tuple[float, float]]:
    """Onset and duration to the hundredth of a second; in any order, overlapping, some longer than
    the five minutes after which events are cut, some shorter than a second.
    """
    onset = rng.uniform(0, seconds, n).round(2)
    duration = rng.choice([0.4, 1.3, 20, 60, 400], n) * rng.uniform(0.5, 1.5, n)
    return list(zip(onset.tolist(), duration.round(2).tolist(), strict=True))


def random_folders(folder: Path, seed: int) -> tuple[Path, Path]:
    """20 recordings of five subjects, the last of whom has no seizures."""
    rng, reference, hypothesis = np.random.default_rng(seed), folder / "ref", folder / "hyp"
    for i in range(20):
        subject, seconds = i % 5, round(float(rng.uniform(900, 7200)), 2)
        truth = random_events(rng, int(rng.integers(0, 4)) if subject < 4 else 0, seconds)
        near = [(max(0.0, a + round(float(rng.normal(0, 40)), 2)), b) for a, b in truth]
        found = [event for event in near if rng.random() < 0.7]
        found += random_events(rng, int(rng.integers(0, 3)), seconds)
        write(reference / name_of(subject, i), truth, seconds, str(rng.choice(["sz", "sz_foc_ia"])))
        write(hypothesis / name_of(subject, i), found, seconds)
    return reference, hypothesis


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_20_recordings_are_those_of_the_framework(tmp_path: Path, seed: int) -> None:
    reference, hypothesis = random_folders(tmp_path, seed)
    ours = assert_equals_framework(reference, hypothesis)
    assert ours["totals"]["recordings"] == 20 and ours["totals"]["subjects"] == 5
    found = ours["totals"]["event_results"]
    assert 0 < found["found"] < found["annotated"] and found["false_alarms"] > 0
    assert ours["subjects"]["sub-04"]["event_results"]["sensitivity"] is None
    for row in ours["recordings"]:
        masks = [Annotation(mask_of(side / row["file"]), 1) for side in (reference, hypothesis)]
        for kind, method in METHODS.items():
            score = method(*masks)
            assert_same(row[kind], {name: getattr(score, name) for name in METRICS})
            counted = [row[kind][name] for name in ("annotated", "found", "false_alarms")]
            assert counted == [score.refTrue, score.tp, score.fp]


def test_what_was_not_found_is_scored_as_the_framework_does_and_said(tmp_path: Path) -> None:
    reference, hypothesis = random_folders(tmp_path, 9)
    files = sorted(path.relative_to(reference).as_posix() for path in reference.rglob("*.tsv"))
    for missing in files[:4]:
        (hypothesis / missing).unlink()
    (hypothesis / files[4]).write_text(HEADER)
    write(hypothesis / files[5], [(10.0, 50.0)], 600.0)
    write(hypothesis / "sub-09" / "x_events.tsv", [], 600.0)
    (hypothesis / "sub-09" / "._y_events.tsv").write_bytes(b"\0")  # macOS leaves such beside copies
    evaluation = evaluate_folders(reference, hypothesis)
    assert [row.unread for row in evaluation.recordings if row.file in files[:7]] == [
        *["missing"] * 4,
        "no rows",
        "other length",
        "",
    ]
    ours = assert_equals_framework(reference, hypothesis)
    assert ours["without_reference"] == ["sub-09/x_events.tsv"]
    said = "\n".join(describe(evaluation))
    unfound = "scored as if nothing had been found in them"
    assert (
        f"no file among the hypotheses: 4 of 20 recordings, {unfound}"
        f" ({files[0]}, {files[1]}, {files[2]} and so on)\n" in said
    )
    assert f"hypothesis without rows: 1 of 20 recordings, {unfound} ({files[4]})\n" in said
    assert f"another recordingDuration: 1 of 20 recordings, {unfound} ({files[5]})\n" in said
    assert "hypotheses without a reference: 1, not scored (sub-09/x_events.tsv)" in said
    assert "events: of 5 subjects 4 with sensitivity" in said


def test_what_predict_names_is_a_hypothesis_and_never_a_reference(tmp_path: Path) -> None:
    reference, hypothesis = random_folders(tmp_path, 1)
    expected = as_json(evaluate_folders(reference, hypothesis))
    for path in list(hypothesis.rglob("*.tsv")):
        predicted = path.with_name(path.name.replace("_events.tsv", "_eeg_events.tsv"))
        path.rename(predicted)
        shutil.copy(predicted, reference / predicted.relative_to(hypothesis))
    assert as_json(evaluate_folders(reference, hypothesis)) == expected


def test_scores_that_can_be_counted_by_hand(tmp_path: Path) -> None:
    """Two subjects of an hour each. The first has two seizures of 60 s: one is found 10 s late and
    20 s short, the other is not; one minute elsewhere is a false alarm. In the other nothing is.
    """
    write(tmp_path / "ref" / name_of(1, 0), [(600, 60), (2000.0, 60)], 3600)
    write(tmp_path / "hyp" / name_of(1, 0), [(610.9, 30), (3000, 60)], 3600)
    write(tmp_path / "ref" / name_of(2, 0), [], 3600)
    write(tmp_path / "hyp" / name_of(2, 0), [], 3600)
    ours = as_json(evaluate_folders(tmp_path / "ref", tmp_path / "hyp"))
    assert ours["event_results"] == {
        "sensitivity": 0.5,
        "sensitivity_std": 0.0,
        "precision": 0.5,
        "precision_std": 0.0,
        "f1": 0.5,
        "f1_std": 0.0,
        "fpRate": 12.0,  # 24 a day in one subject, none in the other
        "fpRate_std": 12.0,
    }
    seconds = ours["subjects"]["sub-01"]["sample_results"]
    assert [seconds[name] for name in ("annotated", "found", "false_alarms")] == [120, 30, 60]
    assert ours["totals"]["event_results"]["subjects_with"] == {
        "sensitivity": 1,
        "precision": 1,
        "f1": 1,
        "fpRate": 2,
    }


def test_the_command_prints_a_table_and_writes_json_and_csv(tmp_path: Path) -> None:
    reference, hypothesis = random_folders(tmp_path, 3)
    words = ["evaluate-events", str(reference), str(hypothesis), "--out"]
    done = CliRunner().invoke(app, [*words, str(tmp_path / "new" / "scores.json")])
    assert done.exit_code == 0, done.output
    numbers = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert numbers == as_json(evaluate_folders(reference, hypothesis))
    events = numbers["event_results"]
    header, first, second, about, *_, last = done.output.splitlines()
    assert re.split(r"  +", header.strip()) == [
        "sensitivity",
        "precision",
        "F1",
        "false alarms per day",
    ]
    shown = [f"{events[name]:.3f} ± {events[name + '_std']:.3f}" for name in METRICS[:3]]
    assert re.split(r"  +", first)[:4] == ["events", *shown] and second.startswith("seconds ")
    assert "5 subjects, 20 recordings" in about and last == str(tmp_path / "new" / "scores.json")
    done = CliRunner().invoke(app, [*words, str(tmp_path / "scores.csv")])
    assert done.exit_code == 0
    table = pd.read_csv(tmp_path / "scores.csv")
    assert table.level.value_counts().to_dict() == {
        "recording": 20,
        "subject": 5,
        "mean": 1,
        "std": 1,
    }
    mean = table[table.level == "mean"].iloc[0]
    of_recordings = table[table.level == "recording"]
    annotated = numbers["totals"]["event_results"]["annotated"]
    assert of_recordings["event_results.annotated"].sum() == annotated
    assert mean["event_results.f1"] == pytest.approx(events["f1"])
    assert table.set_index("subject").loc["sub-04"]["event_results.sensitivity"].isna().all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("\tsz\t", "\tseizure\t", 1), r":2: eventType='seizure' must be"),
        (lambda text: text.replace("\tsz\t", "\tn/a\t", 1), r":2: eventType='n/a' must be bckg or"),
        (lambda text: text.replace("\n600\t", "\nn/a\t"), r":2: onset='n/a' must be a number"),
        (lambda text: text.replace("\n600\t", "\n-1\t"), r":2: onset='-1' must be a number"),
        (lambda text: text.replace("\t60\t", "\tlong\t"), r":2: duration='long'.*1 more bad rows"),
        (lambda text: text.replace("\t3600", "\t0.5"), r":2: recordingDuration=0.5 must be at"),
        (lambda text: text.replace("recordingDuration", "length"), "no column 'recordingDuration'"),
        (lambda text: "", "is empty"),
    ],
)
@pytest.mark.parametrize("side", ["ref", "hyp"])
def test_a_bad_row_is_named(tmp_path: Path, side: str, change: Any, said: str) -> None:
    for folder in ("ref", "hyp"):
        write(tmp_path / folder / name_of(1, 0), [(600, 60), (900, 60)], 3600)
    path = tmp_path / side / name_of(1, 0)
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=said) as fault:
        evaluate_folders(tmp_path / "ref", tmp_path / "hyp")
    assert str(fault.value).startswith(str(path)) and "\n" not in str(fault.value)


def test_folders_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    reference, hypothesis = tmp_path / "ref", tmp_path / "hyp"
    with pytest.raises(UserError, match="ref: is not a folder"):
        evaluate_folders(reference, hypothesis)
    reference.mkdir()
    hypothesis.mkdir()
    with pytest.raises(UserError, match=r"ref: holds no event files .* sub-\*/\*\*/\*_events.tsv"):
        evaluate_folders(reference, hypothesis)
    with pytest.raises(UserError, match="ref: is given for both sides"):
        evaluate_folders(reference, reference / ".." / "ref")
    write(reference / name_of(1, 0), [(600, 60)], 3600)
    write(hypothesis / "sub-02" / "x_events.tsv", [], 3600)
    with pytest.raises(UserError, match="hyp: has no file for any of the 1 event files"):
        evaluate_folders(reference, hypothesis)
    (reference / name_of(1, 1)).write_text(HEADER)
    write(hypothesis / name_of(1, 0), [], 3600)
    with pytest.raises(UserError, match="run-01_events.tsv: has no rows, so the length of its rec"):
        evaluate_folders(reference, hypothesis)
    (reference / name_of(1, 1)).unlink()
    with pytest.raises(UserError, match="out=.*scores.txt: must end in .json or .csv"):
        write_evaluation(tmp_path / "scores.txt", evaluate_folders(reference, hypothesis))


# --------------------------------------------------------------------------------- the container

EXAMPLE = ROOT / "examples" / "szcore"
INSTRUCTIONS = [
    line
    for line in re.sub(r"\\\n", "", (EXAMPLE / "Dockerfile").read_text()).splitlines()
    if line and not line.startswith("#")
]


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that the container has: /app with its model, /data and /output; and `eegdm`. The
    classifier has one logit, as those of CHB-MIT, and takes what is loud for a seizure.
    """
    root = tmp_path_factory.mktemp("container")
    decision = {
        "classes": ["background", "seizure"],
        "event_classes": ["seizure"],
        "threshold": 0.7,
        "resolution_s": 1.0,
        "smoothing_s": 3.0,
        "min_duration_s": 2.0,
    }
    model = lively_model(channels=CHBMIT, classes=["seizure"], decision=decision)
    for folder in ("app", "data", "output", "bin"):
        (root / folder).mkdir()
    model.save_pretrained(root / "app" / "model")
    shutil.copy(EXAMPLE / "detect.sh", root / "app")
    (root / "bin" / "eegdm").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m eegdm "$@"\n')
    (root / "bin" / "eegdm").chmod(0o755)
    return root


SECONDS, LOUD = 120, (42, 78)


def write_edf(path: Path, seed: int, is_loud: bool) -> None:
    """Write synthetic EEG as SzCORE's recordings are: 19 electrodes against their average, named
    Fp1-Avg, at 256 Hz; by the package that makes them. It may be loud from 42 to 78 s.
    """
    names = Eeg.ELECTRODES_10_20
    raw = made_up(SECONDS * (1.0 if is_loud else 4.0), names=names, seed=seed)
    eeg = Eeg(1e6 * raw.get_data(stop=SECONDS * 256), list(names), 256)
    eeg.reReferenceToCommonAverage()
    eeg.saveEdf(str(path))


def run_container(root: Path, recording: str, events: str) -> subprocess.CompletedProcess[str]:
    """Run the last line of the Dockerfile as Docker does, in a shell and with the two variables;
    only the folders lie elsewhere. The user has no home to write to.
    """
    (command,) = [line.removeprefix("CMD ") for line in INSTRUCTIONS if line.startswith("CMD ")]
    for folder in ("app", "data", "output"):
        command = re.sub(rf"(?<![\w/])/{folder}/", f"{root}/{folder}/", command)
    return subprocess.run(
        ["/bin/sh", "-c", command],
        env={
            **one_thread(),
            "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "src"),
            "HOME": "/dev/null",
            "INPUT": recording,
            "OUTPUT": events,
        },
        cwd=root / "app",
        capture_output=True,
        text=True,
        timeout=500,
    )


def test_what_the_container_is_built_from_exists() -> None:
    """The sources of COPY are files of the repository, what `python -m build` writes, or named by
    the user; what CMD runs was copied.
    """
    copied = [line.split()[1:] for line in INSTRUCTIONS if line.startswith("COPY ")]
    sources = {source for *some, _ in copied for source in some}
    made = {"dist/eegdm-*.whl", "${MODEL}"}
    assert made < sources and all((ROOT / source).is_file() for source in sources - made)
    targets = {target for *_, target in copied}
    assert targets == {"/tmp/install/", "/app/model", "/app/"}
    assert INSTRUCTIONS[-1] == (
        'CMD sh /app/detect.sh /app/model "/data/${INPUT}" "/output/${OUTPUT}"'
    )
    assert (ROOT / "requirements.lock").read_text().count("\ntorch==") == 1


def test_the_description_has_what_the_scoreboard_asks_for() -> None:
    """The rules of its config/schema.json."""
    about = yaml.safe_load((EXAMPLE / "eegdm.yaml").read_text())
    required = {"title", "short_title", "image", "authors", "license"}
    optional = {"abstract", "datasets", "date_released", "repository", "version"}
    assert required <= about.keys() <= required | optional
    assert 1 <= len(about["short_title"]) <= 20
    assert re.fullmatch(r".+/.+:.+", about["image"])
    assert re.fullmatch(r"https://.+", about["repository"])
    assert about["datasets"] and all(isinstance(name, str) for name in about["datasets"])
    for author in about["authors"]:
        assert author.keys() <= {"given_names", "family_names", "affiliation", "email"}
    assert all(isinstance(about[name], str) for name in required - {"authors"})
    assert about["license"] == "Apache-2.0"


@pytest.mark.ci
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore:phys_m")
def test_20_recordings_from_edf_to_scores(container: Path, tmp_path: Path) -> None:
    """The container writes what `eegdm predict` writes, into the file that the scoreboard made;
    epilepsy2bids reads it, and the scores of all recordings are those of the framework.
    """
    dataset, predicted, submitted = (tmp_path / name for name in ("bids", "predicted", "submitted"))
    files = [name_of(i % 4, i) for i in range(20)]
    is_loud = [i % 3 != 2 for i in range(20)]
    is_seizure = [i % 4 < 3 and i % 5 != 0 for i in range(20)]
    for i, file in enumerate(files):
        edf = dataset / file.replace("_events.tsv", "_eeg.edf")
        write_edf(edf, i, is_loud[i])
        truth = Annotations.loadEvents([(45, 75)] if is_seizure[i] else [], SECONDS)
        truth.saveTsv(str(dataset / file))
    eeg = Eeg.loadEdf(str(edf))  # an electrode that it can't find is zeros
    assert eeg.data.shape == (19, SECONDS * 256) and eeg.data.any(axis=1).all()

    words = ["predict", str(dataset), "--model", str(container / "app" / "model")]
    done = CliRunner().invoke(app, [*words, "--out", str(predicted), "--no-report"])
    assert done.exit_code == 0, done.output
    for file, has_event in zip(files, is_loud, strict=True):
        written = predicted / file.replace("_events.tsv", "_eeg_events.tsv")
        (submitted / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(written, submitted / file)
        read = Annotations.loadTsv(str(submitted / file))
        (event,) = read.events
        assert event["eventType"].value == ("sz" if has_event else "bckg")
        assert event["recordingDuration"] == SECONDS
        mask = read.getMask(1)
        assert mask.any() == has_event and not mask[: LOUD[0] - 5].any()
        assert (submitted / file).read_text().startswith(HEADER)
    ours = as_json(evaluate_folders(dataset, predicted))
    assert assert_equals_framework(dataset, submitted) == ours
    both = [a and b for a, b in zip(is_loud, is_seizure, strict=True)]
    counted = ours["totals"]["event_results"]
    assert counted["annotated"] == sum(is_seizure) and counted["found"] == sum(both)
    assert counted["false_alarms"] == sum(is_loud) - sum(both) > 0

    for i in (0, 2):
        shutil.copy(
            dataset / files[i].replace("_events.tsv", "_eeg.edf"), container / "data/tmp.edf"
        )
        made = container / "output" / "tmp.tsv"
        made.touch()
        inode = made.stat().st_ino
        done = run_container(container, "tmp.edf", "tmp.tsv")
        assert done.returncode == 0, done.stderr
        assert made.read_bytes() == (submitted / files[i]).read_bytes()
        assert made.stat().st_ino == inode  # written into, not replaced
        assert os.listdir(container / "data") == ["tmp.edf"]
        assert os.listdir(container / "output") == ["tmp.tsv"]
        made.unlink()


@pytest.mark.ci
@pytest.mark.timeout(600)
def test_a_recording_that_cannot_be_read_fails_the_container(container: Path) -> None:
    """An empty file would be taken for a recording without seizures."""
    (container / "data" / "tmp.edf").write_text("not a recording")
    done = run_container(container, "tmp.edf", "failed.tsv")
    assert done.returncode == 2 and "tmp.edf" in done.stderr
    assert not (container / "output" / "failed.tsv").exists()
