"""Models and data meet by the names of classes and channels, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import eegdm
from eegdm import artifacts
from eegdm.compose import compose
from eegdm.data.montage import CHANNEL_ID
from eegdm.errors import UserError
from eegdm.opening import open_classifier, resolve
from eegdm.stages import run_stage
from stages.tiny import Finished

pytestmark = pytest.mark.ci


def remade(recordings: Path, to: Path, change) -> Path:
    """A copy of a recordings folder whose table and signals another function has changed."""
    shutil.copytree(recordings, to)
    artifacts.reopen(to)
    table = pd.read_parquet(to / "recordings.parquet")
    change(to, table)
    table.to_parquet(to / "recordings.parquet")
    artifacts.finish(to, artifacts.open_artifact(recordings).summary, unlisted=("parts",))
    return to


def without_channel(name: str):
    """Leave out a channel of every recording."""

    def change(folder: Path, table: pd.DataFrame) -> None:
        for k, row in table.iterrows():
            keep = [i for i, n in enumerate(row.ch_names) if n != name]
            path = folder / row.signal
            np.save(path, np.load(path)[keep])
            table.at[k, "ch_names"] = [row.ch_names[i] for i in keep]
            table.at[k, "channel_ids"] = [row.channel_ids[i] for i in keep]

    return change


def backwards(folder: Path, table: pd.DataFrame) -> None:
    """Turn the order of channels round."""
    for k, row in table.iterrows():
        path = folder / row.signal
        np.save(path, np.load(path)[::-1])
        table.at[k, "ch_names"] = list(row.ch_names[::-1])
        table.at[k, "channel_ids"] = list(row.channel_ids[::-1])


def numbers_of(report: Path) -> dict:
    return json.loads((report / "report.json").read_text())


def report_on(finished: Finished, recordings: Path, root: Path, *more: str) -> Path:
    return run_stage(
        "report",
        [
            "corpus=tuev",
            f"root={root}",
            f"recordings={recordings}",
            f'run.classifiers=["{finished.classifier}"]',
            *more,
        ],
    )


def logits_of(report: Path) -> pd.DataFrame:
    (path,) = report.glob("predictions-*.parquet")
    return pd.read_parquet(path).drop(columns="channel")


def test_other_recordings_are_scored_in_one_command(finished: Finished, tmp_path: Path) -> None:
    """The published test part, or all; the logits are those that the classifier gives by itself."""
    other = remade(finished.recordings, tmp_path / "other", lambda folder, table: None)
    artifacts.reopen(other)
    plan = artifacts.read_json(other / artifacts.PLAN)
    artifacts.write_json(other / artifacts.PLAN, {**plan, "inputs": {"files": "others"}})
    artifacts.finish(other, artifacts.open_artifact(finished.recordings).summary)
    own = logits_of(finished.report)
    published = logits_of(report_on(finished, other, tmp_path / "published"))
    assert set(published.recording) == set(own.recording)  # TUEV's own test part
    predictions = logits_of(report_on(finished, other, tmp_path, "split=none"))
    assert set(predictions.recording) == set(
        pd.read_parquet(other / "recordings.parquet").recording
    )
    both = own.merge(predictions, on=["recording", "start_sample", "onset_s", "label"])
    assert len(both) >= len(own)
    for name in eegdm.load(finished.classifier).classes:
        np.testing.assert_allclose(both[f"logit_{name}_x"], both[f"logit_{name}_y"], atol=2e-3)


def test_a_turned_order_of_channels_changes_nothing(finished: Finished, tmp_path: Path) -> None:
    turned = remade(finished.recordings, tmp_path / "turned", backwards)
    same = logits_of(report_on(finished, turned, tmp_path / "turned-runs"))
    copied = remade(finished.recordings, tmp_path / "lacking", without_channel("FP1-F7"))
    lacking = logits_of(report_on(finished, copied, tmp_path / "lacking-runs"))
    own = logits_of(finished.report).set_index(["recording", "onset_s", "label"])
    names = [c for c in own if c.startswith("logit_")]
    for table, is_same in ((same, True), (lacking, False)):
        found = table.set_index(["recording", "onset_s", "label"])[names]
        found = found[~found.index.duplicated()]
        expected = own[names][~own.index.duplicated()]
        found = found.loc[expected.index]
        assert np.allclose(found, expected, atol=2e-3) == is_same
    model = eegdm.load(finished.classifier)
    assert "FP1-F7" in model.channels and len(model.channels) == len(CHANNEL_ID)


def test_a_missing_channel_is_masked_in_its_own_place(finished: Finished, tmp_path: Path) -> None:
    """The logits are those of the model that is told which channel is missing."""
    import torch

    lacking = remade(finished.recordings, tmp_path / "lacking", without_channel("F3-C3"))
    predictions = logits_of(report_on(finished, lacking, tmp_path))
    model = eegdm.load(finished.classifier)
    config, inputs = resolve(
        compose(["corpus=tuev", f"root={tmp_path}", f"recordings={lacking}"]), "report"
    )
    from eegdm.data.recordings import Recordings

    opened = Recordings(inputs.recordings.path)
    row = predictions.iloc[0]
    window = opened.window(row.recording, row.start_sample, row.n_times)
    k = model.channels.index("F3-C3")
    full = torch.zeros(1, len(model.channels), window.shape[1])
    mask = torch.ones(1, len(model.channels), dtype=torch.bool)
    mask[0, k] = False
    full[0, mask[0]] = torch.from_numpy(window)
    with torch.no_grad():
        logits = model(full, mask)[0].numpy()
    found = row[[f"logit_{name}" for name in model.classes]].to_numpy(float)
    np.testing.assert_allclose(found, logits, atol=2e-3)


def test_classes_in_another_order_are_labelled_by_name(finished: Finished, tmp_path: Path) -> None:
    """The classifier's own order counts, whatever the recordings' readers would use."""
    turned = remade(finished.recordings, tmp_path / "turned", backwards)
    manifest = artifacts.read_json(turned / "manifest.json")
    labels = manifest["summary"]["labels"]
    labels["corpus.classes"] = labels["corpus.classes"][::-1]
    artifacts.write_json(turned / "manifest.json", manifest)
    report = report_on(finished, turned, tmp_path)
    model = eegdm.load(finished.classifier)
    assert numbers_of(report)["classes"] == list(model.classes)
    own = logits_of(finished.report)
    found = logits_of(report).merge(own, on=["recording", "onset_s"], suffixes=("", "_own"))
    same_event = found.start_sample == found.start_sample_own
    assert (found.label == found.label_own)[same_event].mean() > 0.9


def test_classes_that_the_model_does_not_have_are_refused(
    finished: Finished, tmp_path: Path
) -> None:
    def relabelled(folder: Path, table: pd.DataFrame) -> None:
        events = pd.read_parquet(folder / "events.parquet")
        events.loc[events.label == "GPED", "label"] = "something"
        events.to_parquet(folder / "events.parquet")

    other = remade(finished.recordings, tmp_path / "other", relabelled)
    with pytest.raises(UserError, match="labelled 'something', which is none of"):
        report_on(finished, other, tmp_path)
    report = report_on(
        finished,
        other,
        tmp_path,
        "corpus.label_map={something: GPED, SPSW: SPSW, PLED: PLED, EYEM: EYEM, ARTF: ARTF,"
        " BCKG: BCKG}",
    )
    assert numbers_of(report)["classes"] == list(eegdm.load(finished.classifier).classes)


def test_a_folder_that_save_pretrained_wrote_is_scored(finished: Finished, tmp_path: Path) -> None:
    folder = eegdm.load(finished.classifier).save_pretrained(tmp_path / "saved")
    report = run_stage(
        "report",
        [
            "corpus=tuev",
            f"root={tmp_path}",
            f"recordings={finished.recordings}",
            f'run.classifiers=["{folder}"]',
            "split=published",
        ],
    )
    own = numbers_of(finished.report)["runs"][0]["scores"]
    assert numbers_of(report)["runs"][0]["scores"]["kappa"] == pytest.approx(own["kappa"], abs=0.02)


def test_another_sampling_frequency_is_refused(finished: Finished, tmp_path: Path) -> None:
    model = eegdm.load(finished.classifier)
    recordings = artifacts.open_artifact(finished.recordings)
    recordings.config["signal"]["sfreq"] = 256.0
    saved = model.save_pretrained(tmp_path / "saved")
    with pytest.raises(UserError, match="learned from signals of 200 Hz.*holds 256 Hz"):
        open_classifier(compose(["corpus=tuev"]), saved, recordings)
