"""finetune and report centre tokens as `predict` does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import eegdm
from eegdm import EEGDM, artifacts
from eegdm.compose import compose
from eegdm.data.recordings import Recordings
from eegdm.data.signal import ModelUnits
from eegdm.errors import UserError
from eegdm.evaluation.centring import refuse_removed_labels, with_references
from eegdm.inference.prediction import Options, predict_in
from eegdm.models.centring import joint_reference
from eegdm.opening import label_data, open_classifier
from eegdm.stages import run_stage
from stages.tiny import Finished

CENTRED = ["fusion.centre=recording", "fusion.standardise=true", "run.seed=1"]


@pytest.mark.parametrize(
    ("cached", "error"), [(True, 1e-2), pytest.param(False, 1e-4, marks=pytest.mark.ci)]
)
def test_a_report_centres_as_predict_does(
    cached: bool, error: float, own: Finished, tmp_path: Path
) -> None:
    words = [*own.words, *CENTRED, f"latents.cached={str(cached).lower()}"]
    folder = run_stage("finetune", words)
    model = eegdm.load(folder)
    assert isinstance(model, EEGDM) and model.centre == "recording"
    assert artifacts.open_artifact(folder).config["fusion"]["centre"] == "recording"
    report = run_stage("report", words)
    said = json.loads((report / "report.json").read_text())
    assert any(note.startswith("Tokens are centred") for note in said["notes"])
    (predictions,) = (pd.read_parquet(path) for path in report.glob("predictions-*.parquet"))
    recordings = Recordings(own.recordings, ModelUnits.of(model.signal))
    largest, moved = 0.0, []
    for name, samples in predictions.groupby("recording"):
        row = recordings.table[recordings.table.recording == name].iloc[0]
        work = tmp_path / str(name).replace("/", "-")
        work.mkdir()
        # What predict makes of the file: the whole way from EDF to what tokens are centred by
        predict_in(work, own.source / row.file, model, Options(step_s=30.0))
        reference = torch.from_numpy(np.load(work / "reference.npy"))
        keys = samples[["recording", "start_sample", "n_times"]].itertuples(index=False, name=None)
        x = torch.from_numpy(np.stack([recordings.window(*key) for key in keys]))
        with torch.inference_mode():
            expected = model(x, reference=reference).numpy()
            moved.append(model(x, reference=torch.ones_like(reference)).numpy() - expected)
        found = samples.filter(regex="^logit_").to_numpy()
        largest = max(largest, float(np.abs(found - expected).max()))
    assert largest < error
    assert np.abs(np.concatenate(moved)).max() > 10 * error


def test_per_subject_all_recordings_of_a_person_count(own: Finished) -> None:
    config, model, inputs = open_classifier(
        compose(own.words), own.classifier, artifacts.open_artifact(own.recordings)
    )
    data = label_data(config, inputs, model.channels)
    first, second = data.recordings.table.recording[:2]
    data.recordings.table.loc[:1, "subject"] = "both"
    each, both = (
        EEGDM(**(model.config | {"centre": centre})).eval() for centre in ("recording", "subject")
    )
    for one in (each, both):
        one.load_state_dict(model.state_dict())
    labelled = data._replace(samples=data.samples[data.samples.recording == first])
    own_references = with_references(config, data, each).references
    found = with_references(config, labelled, both).references
    assert own_references is not None and found is not None
    expected = joint_reference(
        torch.stack([own_references[first], own_references[second]]), torch.ones(2, 22)
    )
    assert sorted(found) == sorted([first, second])
    torch.testing.assert_close(found[first], expected)
    assert (own_references[first] / own_references[second]).log().abs().max() > 0.01
    assert with_references(config, data, model).references is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["latents.cached=false", "finetune.train_backbone=true"], "while the backbone learns"),
        (["latents.cached=false", "latents.forward=noisy"], "differ from epoch to epoch"),
    ],
)
def test_what_would_change_while_it_is_centred_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        compose(["fusion.centre=subject", *words])


def test_centring_that_would_remove_the_labels_is_refused() -> None:
    refuse_removed_labels("recording", ["a", "a", "b"], [0, 1, 0])
    with pytest.raises(UserError, match="each recording has windows of one.*centre=subject may"):
        refuse_removed_labels("recording", ["a", "b", "b"], [0, 1, 1])
    with pytest.raises(UserError, match="fusion.centre=person: allowed are recording, subject"):
        compose(["fusion.centre=person"])
