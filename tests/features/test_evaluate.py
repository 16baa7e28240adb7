"""From recordings and a table of labels to the page, by the command that users type."""

from __future__ import annotations  # noqa: I001

from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from inference.small import ELECTRODES, made_up, small_model

import eegdm
from eegdm.data.windows import evenly
from eegdm.errors import UserError
from eegdm.evaluation.covariance import covariances
from eegdm.features import FeatureStore, embed_folder
from eegdm.features.classical import BandPower, Covariance
from eegdm.features.evaluation import MAX_STUDY_WINDOWS, _labelled
from eegdm.features.labels import share
from eegdm.features.twins import random_twin
from eegdm.inference.chunks import Batch
from eegdm.privacy import describe_privacy
from eegdm.report.methods import describe_methods
from stages.tiny import command_line

N_PEOPLE = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(seed=7).save_pretrained(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people, 30 s of rest and 30 s of a task each, with a rhythm of 10 Hz in the task."""
    folder = tmp_path_factory.mktemp("recordings")
    rows = ["file,onset_s,duration_s,label,subject"]
    for who in range(N_PEOPLE):
        for index, label in enumerate(("rest", "task")):
            raw = made_up(30.0, seed=2 * who + index, names=ELECTRODES)
            if label == "task":  # stronger from electrode to electrode, so that pairs differ
                strength = 6e-5 * np.arange(len(raw.ch_names))[:, None] % 2.5e-4
                rhythm = strength * np.sin(20 * np.pi * raw.times)
                raw = mne.io.RawArray(raw.get_data() + rhythm, raw.info, verbose="ERROR")
            name = f"p{who}_{label}.edf"
            mne.export.export_raw(
                folder / name, raw, fmt="edf", physical_range=(-2000, 2000), verbose="ERROR"
            )
            rows.append(f"{name},0,30,{label},p{who}")
    (folder / "events.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def store(source: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    out = tmp_path_factory.mktemp("store") / "small"
    classical = (BandPower(), Covariance())
    return embed_folder(source, model, out, table=source / "events.csv", extractors=classical)


@pytest.mark.ci
def test_recordings_and_labels_in_a_page_out_by_the_command_line(
    source: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["evaluate", source, "--table", source / "events.csv", "--model", model, "--out", out]
    words += ["--permutations", 20]
    first = command_line(*words)
    assert first.returncode == 0, first.stderr
    page = out / "evaluation.html"
    assert first.stdout.splitlines()[-1] == str(page)
    html = page.read_text()
    assert "What may be concluded" in html and "rest or task" in html
    scores = pd.read_csv(out / "scores.csv")
    main = scores.query("n_people.isna() and level == 'window' and score == 'auroc'")
    main = main.set_index(["treatment", "features"])
    assert main.loc[("centred per person", "band power"), "value"] > 0.95
    for row in ("small", "random weights", "band power + covariance + small"):
        assert main.loc[("centred per person", row), "value"] > 0.6
    before = (out / "scores.csv").read_bytes()
    second = command_line(*words)
    assert second.returncode == 0 and "nothing is new" in second.stdout + second.stderr
    assert (out / "scores.csv").read_bytes() == before
    fewer = command_line(*words, "--windows", 3)
    assert fewer.returncode == 0 and "36 windows of 6 people" in fewer.stdout + fewer.stderr


@pytest.mark.ci
def test_a_folder_of_features_is_evaluated_without_its_recordings(
    source: Path, model: Path, tmp_path: Path
) -> None:
    first = eegdm.evaluate(source, source / "events.csv", model, out=tmp_path / "a", permutations=5)
    again = eegdm.evaluate(tmp_path / "a" / "embeddings", out=tmp_path / "b", permutations=5)
    assert first.about.n_windows == {"rest": 36, "task": 36}
    for one, other in zip(first.results, again.results, strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert again.page == tmp_path / "b" / "evaluation.html" and again.page.is_file()
    said = "\n".join(describe_methods(tmp_path / "a"))
    assert "72 windows of 5 s, one every 5 s, of 12 recordings (0.1 h) of 6 people" in said
    assert "Windows: 72 of 5 s: rest 36 of 6 people, task 36 of 6 people." in said
    assert "Random weights: 3 networks of the same build before any training" in said
    telling = "\n".join(describe_privacy(tmp_path / "a"))
    assert "not known to eegdm" not in telling
    assert "evaluation.html: names in notes" in telling
    assert "scores.csv" in telling.split("nothing that identifies people: ")[1]


def test_a_twin_differs_in_its_weights_alone(model: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    loaded, twin, again, other = (
        eegdm.load(model),
        random_twin(model, 0),
        random_twin(model, 0),
        random_twin(model, 1),
    )
    torch.testing.assert_close(torch.rand(1), expected)
    assert twin.backbone.config == loaded.backbone.config
    assert twin.signal == loaded.signal and twin.channels == loaded.channels
    weights = {
        name: network.backbone.state_dict()
        for name, network in (("own", loaded), ("twin", twin), ("again", again), ("other", other))
    }
    drawn = [name for name, value in weights["own"].items() if len(value.unique()) > 1]
    for name, value in weights["twin"].items():
        torch.testing.assert_close(value, weights["again"][name], rtol=0, atol=0)
    differing = [n for n in drawn if not torch.equal(weights["twin"][n], weights["own"][n])]
    assert len(differing) > len(drawn) / 2
    assert any(not torch.equal(weights["twin"][n], weights["other"][n]) for n in drawn)


def test_classical_features_are_stored_by_channel(store: FeatureStore) -> None:
    assert store.features["band_power"].axes == ("window", "channel", "band")
    assert store.array("band_power", "p0_rest").shape == (6, 22, 5)
    assert store.array("covariance", "p0_rest").shape == (6, 22, 22)
    power = {
        label: np.mean(
            [store.array("band_power", f"p{k}_{label}") for k in range(N_PEOPLE)], (0, 1)
        )
        for label in ("rest", "task")
    }
    risen = (power["task"] - power["rest"]).mean(axis=0)
    assert store.features["band_power"].coordinates["band"][int(risen.argmax())] == "alpha"
    assert risen.max() > 0.5


def test_covariances_do_not_depend_on_their_neighbours() -> None:
    x = np.random.default_rng(0).normal(size=(5, 4, 200))
    together = Covariance()(Batch(np.arange(5), x, 1.0), 200.0, range(4))
    alone = [
        Covariance()(Batch(np.arange(1), x[k : k + 1], 1.0), 200.0, range(4))[0] for k in range(5)
    ]
    np.testing.assert_array_equal(together, np.stack(alone))
    np.testing.assert_allclose(together, covariances(x), rtol=1e-6)


def test_windows_are_as_many_for_each_label_of_a_person(store: FeatureStore) -> None:
    every = _labelled(store, "subject", None, None)
    assert len(every.rows) == 12 * N_PEOPLE
    few = _labelled(store, "subject", None, 3)
    counts = few.table.groupby(["person", "label"]).size()
    assert (counts == 3).all() and len(counts) == 2 * N_PEOPLE
    assert sorted(few.table.onset_s.unique()) == [0.0, 10.0, 25.0]
    assert few.windows.classes == ["rest", "task"]
    np.testing.assert_array_equal(few.windows.label, (few.table.label == "task").astype(int))
    by_recording = _labelled(store, "recording", None, None).windows
    assert len(by_recording.people) == 12 and by_recording.people_of_one_class == 12


def test_places_are_spread_evenly() -> None:
    assert evenly(10, 20).tolist() == list(range(10))
    assert evenly(10, 4).tolist() == [0, 3, 6, 9]
    assert share([36, 12] * 24, MAX_STUDY_WINDOWS) == 36
    assert share([31, 21] * 65, MAX_STUDY_WINDOWS) == 11
    assert share([5] * 5000, MAX_STUDY_WINDOWS) == 2


def test_what_cannot_be_evaluated_is_refused(store: FeatureStore, source: Path) -> None:
    with pytest.raises(UserError, match="by='age' is unknown; choose from subject, recording"):
        eegdm.evaluate(source, by="age")
    with pytest.raises(UserError, match="classes=sleep: no window has this label"):
        _labelled(store, "subject", ["rest", "sleep"], None)
    with pytest.raises(UserError, match="all windows are labelled rest"):
        _labelled(store, "subject", ["rest"], None)
    with pytest.raises(UserError, match="windows=1: give 2 or more"):
        _labelled(store, "subject", None, 1)
    unlabelled = replace(store, windows=store.windows.drop(columns="label"))
    with pytest.raises(UserError, match="a table of labels is needed"):
        _labelled(unlabelled, "subject", None, None)
