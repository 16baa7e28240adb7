"""Embeddings are the backbone's tokens, window by window, in each kind of file."""

from __future__ import annotations  # noqa: I001

import json
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from inference.small import made_up, small_model

import eegdm
from eegdm.data.montage import derive
from eegdm.data.signal import Filtering, compand, preprocess
from eegdm.errors import UserError
from eegdm.inference.embedding import EmbedOptions
from eegdm.inference.embedding_files import embed_file

MODEL = small_model(tokens={"query": ["gate", "inter"], "pool": ["std", "mean"]})


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    """Tokens of `made_up` at 20 s, made step by step."""
    raw = made_up(20.0)
    signal = preprocess(raw, derive(raw.ch_names), Filtering()).signal
    x = torch.from_numpy(compand(signal.reshape(22, 4, 1000).transpose(1, 0, 2)).astype(np.float32))
    with torch.inference_mode():
        return MODEL.backbone.tokens(
            x, range(22), query=["gate", "inter"], pool=["std", "mean"]
        ).numpy()


@pytest.fixture(scope="module")
def edf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edf") / "recording.edf"
    mne.export.export_raw(
        path, made_up(20.0), fmt="edf", physical_range=(-1000, 1000), verbose="ERROR"
    )
    return path


def test_all_axes_of_the_tokens(tokens: np.ndarray) -> None:
    found = eegdm.embed(made_up(20.0), MODEL, tokens=True)
    assert found.about.axes == ("window", "block", "pool", "query", "channel", "feature")
    assert found.values.shape == found.about.shape == tokens.shape == (4, 2, 5, 2, 22, 8)
    assert np.abs(found.values - tokens).max() <= 1e-5
    assert found.about.onset_s.tolist() == [0.0, 5.0, 10.0, 15.0]


def test_pooled_embeddings_are_the_mean_over_pools_and_their_features_are_named(
    tokens: np.ndarray,
) -> None:
    found = eegdm.embed(made_up(20.0), MODEL)
    assert found.values.shape == (4, 22, 2 * 2 * 8)
    place = found.about.features.index("inter.1.5")
    assert np.abs(found.values[:, :, place] - tokens[:, 1, :, 1, :, 5].mean(axis=1)).max() <= 1e-5
    assert len(set(found.about.features)) == 32


def test_a_backbone_alone_gives_the_published_tokens(tmp_path: Path) -> None:
    MODEL.backbone.save_pretrained(tmp_path, info={"signal": {"mu": 0.0}})
    found = eegdm.embed(made_up(20.0), tmp_path, tokens=True)
    raw = made_up(20.0)
    x = preprocess(raw, derive(raw.ch_names), Filtering()).signal[None, :, :1000]
    with torch.inference_mode():
        expected = MODEL.backbone.tokens(torch.from_numpy(x.copy()), range(22)).numpy()
    assert np.abs(found.values[:1] - expected).max() <= 1e-5


def test_the_file_s_own_channels_are_conditioned_on_the_nearest() -> None:
    raw = made_up(12.0, names=("Fc3", "CP3", "ECG"))
    raw.rename_channels({"EEG ECG-REF": "ECG"})
    found = eegdm.embed(raw, MODEL, channels="file")
    assert found.about.ch_names == ["EEG Fc3-REF", "EEG CP3-REF"]
    assert found.about.taken_for == ["F3-C3", "C3-P3"]
    assert (
        "each taken for the nearest" in found.about.notes[0]
        and "left out, no EEG by their names: ECG" in found.about.notes[1]
    )


def test_the_native_rate_has_pools_of_as_many_samples_as_a_second_has() -> None:
    found = eegdm.embed(made_up(12.0, 173.61), MODEL, tokens=True, rate="native")
    assert found.values.shape[:3] == (2, 2, 5)
    assert found.about.duration_s == pytest.approx(5.0, abs=0.5 / 173.61)


def test_three_kinds_of_file_hold_the_same(edf: Path, tmp_path: Path) -> None:
    model = str(MODEL.save_pretrained(tmp_path / "model"))
    expected = eegdm.embed(edf, MODEL)
    npz = np.load(embed_file(edf, model, tmp_path / "x.npz"), allow_pickle=False)
    folder = embed_file(edf, model, tmp_path / "x")
    table = pd.read_parquet(embed_file(edf, model, tmp_path / "x.parquet"))
    mapped = np.load(folder / "embeddings.npy", mmap_mode="r", allow_pickle=False)
    for values in (
        npz["embeddings"],
        mapped,
        np.stack(table.embedding).reshape(expected.values.shape),
    ):
        assert np.array_equal(values, expected.values)
    assert npz["ch_names"].tolist() == table.channel[:22].tolist() == expected.about.ch_names
    assert (
        npz["onset_s"].tolist()
        == table.onset_s[::22].tolist()
        == pd.read_parquet(folder / "windows.parquet").onset_s.tolist()
    )
    assert json.loads((folder / "about.json").read_text())["features"] == npz["features"].tolist()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "x", "x.npz", "x.parquet"]


def test_every_kind_of_file_says_how_far_away_channels_are_and_what_is_to_be_noted(
    tmp_path: Path,
) -> None:
    raw = made_up(12.0, names=("FC3", "C1", "ECG"))
    file = tmp_path / "recording_raw.fif"
    raw.rename_channels({"EEG ECG-REF": "ECG"}).save(file, verbose="ERROR")
    model = str(MODEL.save_pretrained(tmp_path / "model"))
    options = EmbedOptions(channels="file")
    expected = eegdm.embed(file, MODEL, channels="file").about
    assert [round(mm) for mm in expected.distance_mm] == [4, 8]
    assert any("left out, no EEG by their names: ECG" in note for note in expected.notes)
    npz = np.load(embed_file(file, model, tmp_path / "x.npz", options), allow_pickle=False)
    table = pd.read_parquet(embed_file(file, model, tmp_path / "x.parquet", options))
    folder = embed_file(file, model, tmp_path / "x", options)
    about = json.loads((folder / "about.json").read_text())
    distances = npz["distance_mm"].tolist(), table.distance_mm[:2].tolist(), about["distance_mm"]
    assert all(distance == expected.distance_mm for distance in distances)
    for name in ("steps", "notes", "features"):
        said = npz[name].tolist(), table.attrs[name], about[name]
        assert all(one == getattr(expected, name) for one in said)


def test_a_montage_s_channels_lie_where_they_lie(edf: Path, tmp_path: Path) -> None:
    model = str(MODEL.save_pretrained(tmp_path / "model"))
    npz = np.load(embed_file(edf, model, tmp_path / "x.npz"), allow_pickle=False)
    assert npz["distance_mm"].tolist() == [0.0] * 22
    assert npz["notes"].tolist() == eegdm.embed(edf, MODEL).about.notes


@pytest.mark.parametrize(
    ("out", "options", "said"),
    [
        ("x.csv", {}, r"x.csv: embeddings are written as .npz, .parquet, or a folder"),
        ("x.parquet", {"tokens": True}, r"tokens have six axes, a table has two"),
        ("", {}, r"is there already; name a new folder"),
    ],
)
def test_what_can_not_be_written_is_told_before_any_work(
    out: str, options: dict, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        embed_file(Path(__file__), "nomodel", tmp_path / out, EmbedOptions(**options))
