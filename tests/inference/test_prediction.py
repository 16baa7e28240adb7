"""The same recording gives the same probabilities, whatever holds it and however the work is
cut.
"""

from __future__ import annotations  # noqa: I001

from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from inference.small import lively_model, made_up, small_model

import eegdm
from eegdm.data.montage import derive
from eegdm.data.signal import Filtering, compand, preprocess
from eegdm.errors import UserError
from eegdm.evaluation.metrics import class_probabilities
from eegdm.inference import chunks
from eegdm.inference.prediction import predict_signal

MODEL = lively_model()


@pytest.fixture(scope="module")
def edf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edf") / "recording.edf"
    mne.export.export_raw(path, made_up(), fmt="edf", verbose="ERROR")
    return path


@pytest.fixture(scope="module")
def expected(edf: Path) -> eegdm.inference.Prediction:
    return eegdm.predict(edf, MODEL)


def probabilities(table: pd.DataFrame) -> np.ndarray:
    return table.drop(columns=["onset_s", "duration_s"]).to_numpy()


def assert_same(found: eegdm.inference.Prediction, expected: eegdm.inference.Prediction) -> None:
    assert np.array_equal(found.windows.onset_s, expected.windows.onset_s)
    assert np.abs(probabilities(found.windows) - probabilities(expected.windows)).max() <= 1e-5


def test_it_equals_filtering_the_whole_recording_and_reading_each_window(
    edf: Path, expected: eegdm.inference.Prediction
) -> None:
    raw = mne.io.read_raw(edf, verbose="ERROR")
    signal = preprocess(raw, derive(raw.ch_names), Filtering()).signal
    cut = np.stack([signal[:, 200 * k : 200 * k + 1000] for k in range(36)])
    with torch.inference_mode():
        logits = MODEL(torch.from_numpy(compand(cut).astype(np.float32))).numpy()
    assert np.abs(probabilities(expected.windows) - class_probabilities(logits)).max() <= 1e-5
    assert expected.windows.onset_s.tolist() == [2.0 + k for k in range(36)]


def test_the_model_tells_windows_apart(expected: eegdm.inference.Prediction) -> None:
    """Else the tests of this file would hold for any answer."""
    assert probabilities(expected.windows).std(axis=0).max() > 0.02


@pytest.mark.parametrize(
    "kind", ["fif", "brainvision", "volts", "shuffled", "bipolar names", "reversed"]
)
def test_the_container_and_the_order_of_channels_do_not_matter(
    kind: str, edf: Path, expected: eegdm.inference.Prediction, tmp_path: Path
) -> None:
    raw = mne.io.read_raw(edf, preload=True, verbose="ERROR")
    given: object = raw
    if kind == "fif":
        given = tmp_path / "recording_raw.fif"
        raw.save(given, verbose="ERROR")
    elif kind == "brainvision":
        given = tmp_path / "recording.vhdr"
        mne.export.export_raw(given, raw, fmt="brainvision", verbose="ERROR")
    elif kind == "shuffled":
        given = raw.copy().reorder_channels(
            list(np.random.default_rng(1).permutation(raw.ch_names))
        )
    elif kind in ("bipolar names", "reversed"):
        pairs = {
            d.name: raw.get_data(d.plus)[0] - raw.get_data(d.minus)[0] for d in derive(raw.ch_names)
        }
        if kind == "reversed":
            pairs = {"-".join(reversed(name.split("-"))): -x for name, x in pairs.items()}
        given = mne.io.RawArray(
            np.stack(list(pairs.values())),
            mne.create_info(list(pairs), 256.0, "eeg"),
            verbose="ERROR",
        )
    assert_same(eegdm.predict(given, MODEL), expected)


def test_the_file_s_own_channels_stand_for_the_nearest_of_the_model_s(
    edf: Path, expected: eegdm.inference.Prediction
) -> None:
    raw = mne.io.read_raw(edf, verbose="ERROR")
    pairs = {
        d.name: raw.get_data(d.plus)[0] - raw.get_data(d.minus)[0] for d in derive(raw.ch_names)
    }
    own = mne.io.RawArray(
        np.stack(list(pairs.values())), mne.create_info(list(pairs), 256.0, "eeg"), verbose="ERROR"
    )
    assert_same(
        eegdm.predict(own, MODEL, channels="file"), expected
    )  # channels of the montage lie where they lie

    file = made_up(20.0, names=("FC3", "FC1", "C1"))
    found = eegdm.predict(file, MODEL, channels="file")
    named = (
        file.copy()
        .drop_channels(["EEG FC1-REF"])
        .rename_channels({"EEG FC3-REF": "F3-C3", "EEG C1-REF": "C3-CZ"})
    )
    assert_same(found, eegdm.predict(named, MODEL, missing="drop"))
    assert found.ch_names == ["EEG FC3-REF", "EEG C1-REF"]
    assert "EEG FC3-REF for F3-C3 (4 mm away); EEG C1-REF for C3-CZ (8 mm away)" in found.notes[0]
    assert (
        found.notes[1]
        == "left out, another channel is nearer to the same one of the model: EEG FC1-REF"
    )


@pytest.mark.parametrize(
    "options", [{"batch_size": 1}, {"batch_size": 7}, {"batch_size": 64}, {"device": "cpu"}]
)
def test_how_many_windows_are_read_at_once_does_not_matter(
    options: dict, edf: Path, expected: eegdm.inference.Prediction
) -> None:
    assert_same(eegdm.predict(edf, MODEL, **options), expected)


def test_chunks_leave_no_seam(
    edf: Path, expected: eegdm.inference.Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 5)
    assert_same(eegdm.predict(edf, MODEL), expected)


def test_the_recording_and_its_data_are_left_as_they_were(edf: Path) -> None:
    raw = mne.io.read_raw(edf, preload=True, verbose="ERROR")
    before = raw.get_data()
    eegdm.predict(raw, MODEL)
    assert np.array_equal(raw.get_data(), before)


def test_the_report_s_way_gives_the_same(edf: Path, expected: eegdm.inference.Prediction) -> None:
    raw = mne.io.read_raw(edf, verbose="ERROR")
    plan = derive(raw.ch_names)
    windows, events = predict_signal(
        preprocess(raw, plan, Filtering()).signal, [d.name for d in plan], MODEL
    )
    assert np.abs(probabilities(windows) - probabilities(expected.windows)).max() <= 1e-5
    pd.testing.assert_frame_equal(events, expected.events, atol=1e-5)


def test_a_step_chooses_among_the_windows(edf: Path, expected: eegdm.inference.Prediction) -> None:
    found = eegdm.predict(edf, MODEL, step_s=3.0)
    assert np.abs(probabilities(found.windows) - probabilities(expected.windows)[::3]).max() <= 1e-5


def test_annotations_count_from_where_mne_counts(edf: Path) -> None:
    """In a cropped recording with a date, MNE counts annotations from the date, and shows them at
    the same samples.
    """
    raw = mne.io.read_raw(edf, preload=True, verbose="ERROR")
    dated = raw.copy().set_meas_date(1_000_000_000).crop(8.0)
    undated = mne.io.RawArray(
        dated.get_data(), mne.create_info(dated.ch_names, 256.0, "eeg"), verbose="ERROR"
    )
    samples = []
    for one in (dated, undated):
        found = eegdm.annotate(one, MODEL, threshold=0.3, min_duration_s=0.0)
        one.set_annotations(found)
        samples.append(mne.events_from_annotations(one, verbose="ERROR")[0][:, 0] - one.first_samp)
    assert len(samples[0]) > 0
    assert np.array_equal(*samples)


# --------------------------------------------------------------------------------- missing, rates


def lacking(*names: str, seconds: float = 12.0) -> mne.io.RawArray:
    raw = made_up(seconds)
    return raw.drop_channels([f"EEG {name}-REF" for name in names])


def test_missing_channels_are_refused_by_name() -> None:
    with pytest.raises(
        UserError, match=r"cannot derive A1-T3 \(no A1\); A2-T4 \(no A2\).*missing=drop"
    ):
        eegdm.predict(lacking("A1", "A2"), MODEL)


def test_dropped_channels_are_masked_not_zero() -> None:
    found = eegdm.predict(lacking("A1", "A2"), MODEL, missing="drop")
    assert len(found.ch_names) == 20
    assert any("left out: A1-T3, A2-T4" in note for note in found.notes)
    keep = torch.tensor([name not in ("A1-T3", "A2-T4") for name in MODEL.channels])
    raw = made_up(12.0)
    signal = compand(preprocess(raw, derive(raw.ch_names), Filtering()).signal[:, :1000]).astype(
        np.float32
    )
    with torch.inference_mode():
        logits = MODEL(torch.from_numpy(signal)[None], keep[None]).numpy()
    assert np.abs(probabilities(found.windows)[0] - class_probabilities(logits)[0]).max() <= 1e-5


def test_interpolated_channels_are_said() -> None:
    found = eegdm.predict(lacking("A1", "P4"), MODEL, missing="interpolate")
    assert len(found.ch_names) == 22
    assert "interpolated from 17 channels: A1, P4" in found.notes


@pytest.mark.parametrize(
    "options", [{"missing": "interpolate"}, {"missing": "drop"}, {"channels": "file"}]
)
@pytest.mark.parametrize("letters", ["ABCD", "ACFT"])
def test_numbered_contacts_are_refused_whatever_is_asked(letters: str, options: dict) -> None:
    contacts = made_up(12.0, names=tuple(f"{row}{k}" for row in letters for k in range(1, 17)))
    with pytest.raises(UserError, match="Not taken for electrodes of the 10-20 system: A1 to A16"):
        eegdm.predict(contacts, MODEL, **options)
    with pytest.raises(UserError, match="Not taken for electrodes of the 10-20 system: A1 to A16"):
        eegdm.embed(contacts, MODEL, **options)


def test_the_file_s_own_channels_leave_out_contacts_and_copies() -> None:
    names = ("Fz", "C3", "O1", "A1", "A2", "A3", "ECG")
    raw = made_up(12.0, names=names)
    raw.add_channels([raw.copy().pick("EEG O1-REF").rename_channels({"EEG O1-REF": "O1-REF"})])
    notes = eegdm.embed(raw, MODEL, channels="file").about.notes
    assert "EEG Fz-REF for" in notes[0] and "A1" not in notes[0] and "; O1-REF" not in notes[0]
    assert "not taken for electrodes of the 10-20 system: A1 to A3" in notes[1]
    assert notes[2:4] == [
        "left out, no EEG by their names: EEG ECG-REF",
        "left out, repeated: O1-REF",
    ]


def test_a_bipolar_recording_can_not_be_interpolated() -> None:
    raw = made_up(12.0, names=("Fp1-F7", "F7-T3", "T3-T5"))
    raw.rename_channels(
        {name: name.removeprefix("EEG ").removesuffix("-REF") for name in raw.ch_names}
    )
    with pytest.raises(
        UserError, match=r"missing=interpolate: .*bipolar channels can't be interpolated"
    ):
        eegdm.predict(raw, MODEL, missing="interpolate")


@pytest.mark.parametrize("sfreq", [100.0, 173.61, 512.0, 1000.0])
def test_the_native_rate_reads_the_same_events_at_the_file_s_own_samples(sfreq: float) -> None:
    """Windows lie where they lie at 200 Hz, to half a sample (and their middles to a quarter
    more).
    """
    raw = made_up(20.0, sfreq)
    native, resampled = (eegdm.predict(raw, MODEL, rate=rate) for rate in ("native", "resample"))
    assert np.abs(native.windows.onset_s - resampled.windows.onset_s).max() <= 0.75 / sfreq
    assert not any("resampled" in step for step in native.steps)
    missing = [note for note in native.notes if "Hz are missing" in note]
    assert missing == (
        [f"sampled at {sfreq:g} Hz, so {0.45 * sfreq:g} to 75 Hz are missing"]
        if sfreq < 160
        else []
    )


def test_the_native_rate_has_limits() -> None:
    with pytest.raises(UserError, match=r"sampled at 80 Hz; rate=native takes 100 to 1000 Hz"):
        eegdm.predict(made_up(20.0, 80.0), MODEL, rate="native")
    with pytest.raises(UserError, match="compat=published"):
        eegdm.predict(made_up(20.0), small_model(compat="published"), rate="native")


def test_a_model_that_learned_from_noised_windows_always_sees_the_same_noise() -> None:
    noisy = small_model(tokens={"forward": "noisy"})
    first, second = (eegdm.predict(made_up(12.0), noisy, batch_size=n) for n in (1, 16))
    assert_same(first, second)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"missing": "zeros"}, r"missing='zeros' is unknown; choose from error, drop, interpolate"),
        ({"rate": "fast"}, r"rate='fast' is unknown; choose from resample, native"),
        ({"step_s": 0.0}, r"step=0: seconds from one window to the next are above 0"),
        ({"step_s": 0.001}, r"step=0.001 s: is shorter than a sample"),
        ({"batch_size": 0}, r"batch_size=0"),
        ({"device": "tpu"}, r"device=tpu is not available on this machine"),
    ],
)
def test_options_that_can_not_be_are_refused(options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        eegdm.predict(made_up(12.0), MODEL, **options)


def test_a_backbone_can_not_predict(tmp_path: Path) -> None:
    MODEL.backbone.save_pretrained(tmp_path / "backbone")
    with pytest.raises(UserError, match=r"backbone: is a backbone; predict needs a classifier"):
        eegdm.predict(made_up(12.0), tmp_path / "backbone")
    with pytest.raises(UserError, match=r"^mini: is a backbone of the package.*backbone=mini"):
        eegdm.predict(made_up(12.0), "mini")
    for backbone in (MODEL.backbone, tmp_path / "backbone", "mini"):
        with pytest.raises(UserError) as refusal:
            eegdm.predict(made_up(12.0), backbone)
        assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


@pytest.mark.parametrize("use", [eegdm.predict, eegdm.embed])
def test_what_is_neither_backbone_nor_classifier_is_refused(
    use: Callable[..., object], tmp_path: Path
) -> None:
    MODEL.fusion.save_pretrained(tmp_path / "fusion")
    for fusion in (MODEL.fusion, tmp_path / "fusion"):
        with pytest.raises(UserError, match=r"is a LatentFusionTransformer; give a backbone or"):
            use(made_up(12.0), fusion)
