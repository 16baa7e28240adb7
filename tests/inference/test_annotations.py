"""Events and a recording's own annotations lie at their samples, whether or not the recording has a
date, begins at sample 0, or was cropped.
"""

from __future__ import annotations  # noqa: I001

import datetime
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from inference.small import lively_model, made_up

import eegdm
from eegdm.errors import UserError
from eegdm.inference.annotated_copy import copy_name, write_copy
from eegdm.inference.prediction import annotations_with

OWN_SAMPLES, OWN_TEXT = (0, 900, 2559), ("start", "eyes open", "end")
CASES = pytest.mark.parametrize(
    ("has_date", "first_samp", "crop_s", "sfreq"),
    [
        (has_date, first_samp, crop_s, sfreq)
        for has_date in (False, True)
        for first_samp in (0, 12345)
        for crop_s in (None, 3.0)
        for sfreq in (256.0, 199.98)
    ],
)


def recording(has_date: bool, first_samp: int, crop_s: float | None, sfreq: float) -> mne.io.Raw:
    """2560 samples, or what is left of them, with annotations at `OWN_SAMPLES`."""
    raw = made_up(2560 / sfreq, sfreq)
    raw = mne.io.RawArray(raw.get_data(), raw.info, first_samp=first_samp, verbose="ERROR")
    if has_date:
        raw.set_meas_date(datetime.datetime(2021, 3, 4, 5, 6, 7, 890000, tzinfo=datetime.UTC))
    duration = [0.0, 1.0, 0.0]
    raw.set_annotations(mne.Annotations(np.array(OWN_SAMPLES) / sfreq, duration, OWN_TEXT))
    return raw if crop_s is None else raw.crop(crop_s)


def samples(raw: mne.io.BaseRaw) -> dict[str, int]:
    """The sample of each annotation, counted from the first one."""
    onsets = raw.info["sfreq"] * (raw.annotations.onset - raw.first_time)
    texts = raw.annotations.description
    assert len(set(texts)) == len(texts)
    return {str(text): round(float(onset)) for text, onset in zip(texts, onsets, strict=True)}


def expected(raw: mne.io.BaseRaw, events: pd.DataFrame) -> dict[str, int]:
    cut = 2560 - raw.n_times
    own = zip(OWN_TEXT, OWN_SAMPLES, strict=True)
    found = zip(events.label, raw.info["sfreq"] * events.onset_s, strict=True)
    return {text: sample - cut for text, sample in own if sample >= cut} | {
        label: round(sample) for label, sample in found
    }


def some_events(raw: mne.io.BaseRaw) -> pd.DataFrame:
    sfreq = raw.info["sfreq"]
    onsets = np.array([0, 301, 1500]) / sfreq
    return pd.DataFrame({"onset_s": onsets, "duration_s": 0.5, "label": ["SPSW", "GPED", "PLED"]})


@CASES
def test_events_are_added_to_the_recording_s_own_annotations(
    has_date: bool, first_samp: int, crop_s: float | None, sfreq: float
) -> None:
    raw = recording(has_date, first_samp, crop_s, sfreq)
    events = some_events(raw)
    raw.set_annotations(annotations_with(events, raw))
    assert samples(raw) == expected(raw, events)
    raw.crop(1.0)  # MNE's own conversions agree
    assert samples(raw)["PLED"] == 1500 - round(sfreq)


@CASES
@pytest.mark.parametrize("keep_identity", [False, True])
def test_a_fif_copy_holds_both_at_their_samples(
    has_date: bool,
    first_samp: int,
    crop_s: float | None,
    sfreq: float,
    keep_identity: bool,
    tmp_path: Path,
) -> None:
    raw = recording(has_date, first_samp, crop_s, sfreq)
    source, events = tmp_path / "recording_raw.fif", some_events(raw)
    raw.save(source, verbose="ERROR")
    copy = tmp_path / copy_name("recording", source, "fif")
    write_copy(copy, source, events, "fif", tmp_path, keep_identity)
    assert samples(mne.io.read_raw(copy, verbose="ERROR")) == expected(raw, events)


@pytest.mark.parametrize("has_date", [False, True])
@pytest.mark.parametrize("first_samp", [0, 12345])
def test_annotate_keeps_them_or_refuses_where_adding_would_move_them(
    has_date: bool, first_samp: int
) -> None:
    model, options = lively_model(), {"threshold": 0.3, "min_duration_s": 0.0, "step_s": 5.0}
    raw = recording(has_date, first_samp, None, 256.0)
    events = eegdm.predict(raw, model, **options).events
    assert len(events) and events.label.is_unique
    right = expected(raw, events)

    kept = raw.copy().set_annotations(eegdm.annotate(raw, model, keep=True, **options))
    assert samples(kept) == right
    alone = raw.copy().set_annotations(eegdm.annotate(raw, model, keep=False, **options))
    assert samples(alone) == {text: right[text] for text in events.label}
    bare = raw.copy().set_annotations(None)
    bare.set_annotations(bare.annotations + eegdm.annotate(bare, model, **options))
    assert samples(bare) == samples(alone)
    if first_samp and not has_date:
        with pytest.raises(UserError, match=r"begins at 48.22 s, so that MNE would move.*keep=Tru"):
            eegdm.annotate(raw, model, **options)
    else:
        raw.set_annotations(raw.annotations + eegdm.annotate(raw, model, **options))
        assert samples(raw) == right
