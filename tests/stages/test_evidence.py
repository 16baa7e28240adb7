"""The scripts behind the evidence: their mathematics is right, they go on where they stopped, and
each runs through on tiny settings.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import ROOT
from eegdm.features import FeatureStore
from eegdm.models.diffusion import NoiseSchedule
from eegdm.opening import few_labels
from eegdm.stages import run_stage
from stages.tiny import SIZES, Finished, one_thread, snapshot

SCRIPTS = ROOT / "examples" / "evidence"
sys.path.insert(0, str(SCRIPTS))
import denoising  # noqa: E402 - the scripts are beside the tests' folder, not in it
import lite  # noqa: E402
import suggest  # noqa: E402
from ledger import Ledger  # noqa: E402

NETWORK = [
    "backbone.n_blocks=2",
    "backbone.d_model=8",
    "backbone.d_state=4",
    "backbone.d_cond=8",
    "backbone.d_embed=8",
    "fusion.n_heads=2",
    "fusion.depth=1",
    "pretrain.epochs=1",
    "pretrain.max_windows=2",
    "pretrain.samples=0",
    "finetune.epochs=1",
    "finetune.patience_from=1",
]


def script(name: str, *words: object, cwd: Path) -> str:
    run = subprocess.run(
        [sys.executable, SCRIPTS / name, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=800,
        cwd=cwd,
        env=one_thread(),
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def test_a_ledger_keeps_rows_and_makes_none_twice(tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        ledger = Ledger(tmp_path / "t.csv")
        for n in (1, 2):
            ledger.add({"n": n, "way": "a, b"}, lambda n=n: made.append(n) or {"score": n / 3})
    assert made == [1, 2] and list(pd.read_csv(tmp_path / "t.csv").score) == [1 / 3, 2 / 3]


def coloured(rng: np.random.Generator, n_rows: int, n_times: int = 200) -> np.ndarray:
    """Gaussian EEG-like noise: x[t] = 0.95 x[t-1] + e[t], of standard deviation 0.3."""
    x = np.empty((n_rows, n_times))
    x[:, 0] = rng.standard_normal(n_rows)
    for t in range(1, n_times):
        x[:, t] = 0.95 * x[:, t - 1] + np.sqrt(1 - 0.95**2) * rng.standard_normal(n_rows)
    return (0.3 * x).astype(np.float32)


def test_the_linear_denoiser_is_the_best_linear_one() -> None:
    """Against least squares from every sample of the noised window to the velocity, learned from
    20,000 windows.
    """
    rng, schedule, n_times = np.random.default_rng(0), NoiseSchedule(), 40
    learned = denoising.Rows(coloured(rng, 20_000, n_times), np.zeros(20_000, int))
    wiener, rows = (
        denoising.Wiener(learned),
        denoising.Rows(coloured(rng, 2000, n_times), np.zeros(2000, int)),
    )
    for step in (0, 10, 25, 40, 49):
        level = schedule.alphas_cumprod[step].item()
        a, s = level**0.5, (1 - level) ** 0.5
        noise = rng.standard_normal(learned.x.shape)
        weights = np.linalg.lstsq(a * learned.x + s * noise, a * noise - s * learned.x, rcond=None)[
            0
        ]
        best = denoising.loss(lambda x, *_, w=weights: x @ w, rows, schedule, step)
        ours = denoising.loss(wiener, rows, schedule, step)
        assert ours == pytest.approx(best, rel=0.03)
        assert ours < denoising.loss(lambda x, *_: np.zeros(x.shape), rows, schedule, step)


def test_a_channel_that_was_not_learned_from_gets_the_mean_of_those_that_were() -> None:
    rng = np.random.default_rng(1)
    learned = denoising.Rows(coloured(rng, 40), np.repeat([3, 7], 20))
    wiener, x = denoising.Wiener(learned), coloured(rng, 2)
    together = denoising.Wiener(denoising.Rows(learned.x, np.zeros(40, int)))
    np.testing.assert_allclose(
        wiener(x, 0.5, np.array([1, 1])), together(x, 0.5, np.array([0, 0])), atol=1e-10
    )
    assert np.abs(wiener(x, 0.5, np.array([3, 3])) - wiener(x, 0.5, np.array([7, 7]))).max() > 1e-4


def test_few_labels_are_even_over_classes_nested_and_a_function_of_the_seed() -> None:
    label = np.repeat([0, 1, 2], [100, 3, 40])
    assert np.bincount(label[few_labels(label, 9, 0)]).tolist() == [3, 3, 3]
    assert np.bincount(label[few_labels(label, 29, 0)]).tolist() == [13, 3, 13]
    assert (
        set(few_labels(label, 9, 0))
        < set(few_labels(label, 29, 0))
        != set(few_labels(label, 29, 1))
    )
    assert few_labels(label, 1000, 0).tolist() == list(range(143))


def test_a_classifier_of_few_labels_leaves_the_others_out_and_its_report_says_so(
    own: Finished,
) -> None:
    read = [f"recordings={own.recordings}", f"backbone={own.backbone}", f"latents={own.latents}"]
    words = ["corpus=tuev", f"root={own.root / 'few'}", *SIZES, *read, "finetune.epochs=1"]
    run_stage("finetune", [*words, "finetune.max_samples=12"])
    text = (run_stage("report", words) / "report.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| train ")]
    assert line.split("|")[4:11] == [" 12 ", *[" 2 "] * 6]


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_the_label_curve_runs_through_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    corpus = ["corpus.n_train=5", "corpus.n_eval=1", "corpus.minutes=1.2"]
    words = ["--root", tmp_path / "r", "--seeds", "0", "--steps", "2", "--", *corpus, *NETWORK]
    first = script(
        "labels.py",
        "--labels",
        "12",
        "--ways",
        "pretrained, frozen;from scratch",
        *words,
        cwd=tmp_path,
    )
    assert "| 12 | pretrained, frozen |" in first and "| 12 | from scratch |" in first
    before = snapshot(tmp_path / "r" / "shared", tmp_path / "r" / "from-scratch")
    again = script(
        "labels.py",
        "--labels",
        "12,all",
        "--ways",
        "pretrained, frozen;from scratch",
        *words,
        cwd=tmp_path,
    )
    table = pd.read_csv(tmp_path / "r" / "labels.csv")
    assert (
        list(table["learned from"][:2]) == [12, 12]
        and (table["learned from"][2:] > 12).all()
        and len(table) == 4
    )
    assert (
        "labels 12" not in again
        and {k: v for k, v in snapshot(*(tmp_path / "r").glob("*")).items() if k in before}
        == before
    )


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_rates_and_generation_run_through(finished: Finished, tmp_path: Path) -> None:
    text = script(
        "rates.py",
        "--out",
        tmp_path / "rates.csv",
        "--rates",
        "160,200,250",
        *finished.words,
        cwd=tmp_path,
    )
    table = pd.read_csv(tmp_path / "rates.csv")
    assert list(zip(table.rate_Hz, table.way, strict=True)) == [
        (160, "right"),
        (160, "published"),
        (200, "right"),
        (200, "published"),
        (250, "right"),
    ]
    assert table.kappa[2] == table.kappa[3] and "| 250.000 | right |" in text
    generation = [
        "--backbone",
        finished.backbone,
        "--recordings",
        finished.recordings,
        "--samples",
        2,
        "--real",
        20,
    ]
    text = script("generation.py", "--out", tmp_path / "g", *generation, cwd=tmp_path)
    found = pd.read_csv(tmp_path / "g" / "distances.csv")
    assert set(found.source) == {
        "floor",
        *(f"{name}-{n}" for name in ("ddpm", "ddim", "dpmsolver++") for n in (10, 5)),
    }
    assert (found.groupby("source").size() == 22).all() and np.isfinite(
        found.select_dtypes("number").to_numpy()
    ).all()
    assert "| floor |" in text


@pytest.mark.ci
@pytest.mark.real
@pytest.mark.timeout(900)
def test_the_evidence_on_real_eeg_runs_through(shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "eegmmidb"
    program = tmp_path / "bin" / "eegdm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m eegdm "$@"\n')
    program.chmod(0o755)
    env = {**one_thread(), "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    made = ["bash", SCRIPTS / "mini_a.sh", shared / "data", tmp_path / "m", *NETWORK]
    subprocess.run(made, check=True, cwd=tmp_path, env=env, timeout=800)
    mini = tmp_path / "m" / "mini_a" / "folder" / "mini_a"
    held_out, chbmit = (
        tmp_path / "m" / name / "folder" / "mini_a" / "recordings"
        for name in ("held-out", "chbmit")
    )
    denoised = script(
        "denoising.py",
        "--out",
        tmp_path / "d.csv",
        "--learned",
        mini / "recordings",
        "--test",
        f"runs={held_out}:R(09|10)",
        "--test",
        f"chbmit={chbmit}",
        "--backbone",
        f"mini={mini / 'backbone'}",
        "--backbone",
        f"untrained=random:{mini / 'backbone'}",
        "--windows",
        2,
        "--steps",
        "0,10,49",
        cwd=tmp_path,
    )
    assert "over these steps: " in denoised
    table = pd.read_csv(tmp_path / "d.csv")
    assert len(table) == 2 * 3 * 3
    mean = table.groupby(["test", "denoiser"]).loss.mean().unstack()
    assert (mean.Wiener < mean.untrained).all()
    shutil.rmtree(tmp_path / "m" / "links")
    rest = script(
        "rest_task.py",
        "--data",
        data,
        "--root",
        tmp_path / "rest",
        "--backbone",
        mini / "backbone",
        "--labels",
        "20",
        "--sets",
        "imagined",
        "--tested",
        "8,10",
        "--",
        "recipe=mini_a",
        *NETWORK,
        cwd=tmp_path,
    )
    assert all(
        f"| imagined | 20 | {m} | 2 |" in rest
        for m in ("band power", "probe, pretrained", "transformer, random weights")
    )


# ------------------------------------------------------------------------------- suggested marks


def planted_windows(tmp_path: Path) -> suggest.Windows:
    """Windows of eight people: two classes, of which one feature is larger in the second."""
    rng, people = np.random.default_rng(0), [f"p{k}" for k in range(8)]
    recordings = pd.DataFrame({"recording": people, "subject": people, "status": "ok"})
    recordings["ch_names"] = [["a", "b"]] * 8
    table = pd.DataFrame({"recording": np.repeat(people, 20), "window": list(range(20)) * 8})
    label = pd.Series(rng.permutation(["rest", "task"] * 80), dtype=object)
    tokens = np.exp(0.3 * rng.standard_normal((160, 2, 1, 2, 4))).astype(np.float32)
    tokens[label == "task", :, :, :, 1] *= 3
    store = FeatureStore(tmp_path, None, recordings, table, {})
    return suggest.Windows(
        store, label, np.repeat(np.arange(8), 20), lambda rows: torch.from_numpy(tokens[rows])
    )


@pytest.mark.parametrize("way", suggest.WAYS)
def test_thirty_marks_are_answered_and_scored_on_others(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, scored = planted_windows(tmp_path), []
    score = suggest.score
    monkeypatch.setattr(suggest, "score", lambda *given: scored.append(given) or score(*given))
    found = suggest.run_rounds(windows, way, 0)
    ((_, asked, of_others),) = scored
    assert found["answered"] == len(set(asked)) == 30 and of_others.sum() == 80
    assert not of_others[asked].any()
    assert np.bincount(windows.person[asked]).max() <= 9
    assert found["auroc"] > 0.95
    assert suggest.run_rounds(windows, way, 0) == found


def test_a_class_that_nobody_marked_scores_as_chance(tmp_path: Path) -> None:
    windows = planted_windows(tmp_path)
    tasks = np.flatnonzero(windows.label == "task")
    others = windows.person > 3
    assert suggest.score(windows, tasks[:10], others) == 0.5
    label = windows.label.where(windows.person != 5, "asleep")
    asked = np.flatnonzero(windows.person < 4)
    known = suggest.score(windows, asked, others & (windows.person != 5))
    three = windows._replace(label=label)
    assert suggest.score(three, asked, others) < known


def test_differences_are_paired_and_sets_count_alike() -> None:
    table = pd.DataFrame(
        [
            (name, way, seed, 0.6 + 0.01 * seed + gain * (way == "both"))
            for name, gain in (("one", 0.1), ("two", 0.3))
            for way in suggest.WAYS
            for seed in range(10)
        ],
        columns=["set", "way", "seed", "auroc"],
    )
    found = suggest.summary(table).set_index(["set", "way"])
    assert found["minus random"]["one", "both"] == "+0.100 [+0.100, +0.100]"
    assert found["minus random"]["mean of the sets", "both"] == "+0.200"
    assert found["minus random"]["two", "diversity"] == "+0.000 [+0.000, +0.000]"


# ------------------------------------------------------------------------------------ lite models


def test_people_are_drawn_whole() -> None:
    subject = np.array(["a", "b", "a", "c", "b", "b"])
    drawn = list(lite.people_drawn(subject, 200))
    for rows in drawn:
        of_each = np.bincount(rows, minlength=6)
        assert of_each[0] == of_each[2] and of_each[1] == of_each[4] == of_each[5]
        assert of_each[0] + of_each[1] + of_each[3] == 3
    assert np.mean([np.bincount(rows, minlength=6) for rows in drawn]) == pytest.approx(1, abs=0.1)


def test_half_the_rate_is_every_second_sample_of_what_has_no_fast_waves() -> None:
    seconds = torch.arange(1000) / 200
    x = torch.stack([torch.sin(2 * torch.pi * f * seconds) for f in (1, 10, 40)])[None]
    seen = []

    class Model:
        sfreq = 200.0

        def __call__(self, halved: torch.Tensor, sfreq: float) -> None:
            seen.append((halved, sfreq))

    lite.at_half(Model(), x)
    ((halved, sfreq),) = seen
    assert sfreq == 100
    torch.testing.assert_close(halved, x[..., ::2], atol=1e-4, rtol=0)


@pytest.mark.ci
@pytest.mark.timeout(1200)
def test_lite_models_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = ["backbone.d_state=4", "backbone.d_cond=8", "backbone.d_embed=8", "fusion.depth=1"]
    corpus = ["corpus.n_train=6", "corpus.n_eval=2", "corpus.minutes=1"]
    few = ["pretrain.epochs=1", "pretrain.max_windows=2", "finetune.epochs=1"]
    monkeypatch.chdir(tmp_path)
    for passes in ("FUSION_EPOCHS", "WHOLE_EPOCHS", "PATCH_EPOCHS"):
        monkeypatch.setattr(lite, passes, 1)
    lite.make(lite.Place(Path("r"), [*corpus, *sizes, *few]))
    predictions = snapshot(tmp_path / "r" / "predictions")
    assert len(predictions) == 2 * 12
    script("lite.py", "make", "--root", "r", *corpus, *sizes, *few, cwd=tmp_path)
    assert snapshot(tmp_path / "r" / "predictions") == predictions
    script("lite.py", "prices", "--root", "r", "--rounds", 1, cwd=tmp_path)
    printed = script(
        "lite.py", "table", "--root", "r", "--out", ".", "--plot", "p.png", cwd=tmp_path
    )
    table = pd.read_csv(tmp_path / "lite.csv").set_index("model")
    assert len(table) == 12 + 3 and (table.ms > 0).all() and "| teacher |" in printed
    assert table.loc["teacher", ["minus teacher", "low", "high"]].tolist() == [0, 0, 0]
    assert table.loc["teacher", "alike"] == 1 and (tmp_path / "p.png").stat().st_size > 5000
