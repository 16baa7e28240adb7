"""Which files are recordings of their own: no second of a folder is listed twice."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest

from eegdm.config import CorpusConfig
from eegdm.data.corpora import find_sources, survey
from eegdm.data.files import later_parts, recording_ids, sort_out
from eegdm.data.reading import open_recording
from eegdm.errors import UserError
from eegdm.inference.prediction_folder import find_jobs

SECONDS = 200


@pytest.fixture(scope="module")
def raw() -> mne.io.RawArray:
    """200 s of 20 channels, 3 MB in single precision, that differ in every sample."""
    signal = np.random.default_rng(0).standard_normal((20, 200 * SECONDS)) * 1e-5
    return mne.io.RawArray(signal, mne.create_info(20, 200.0, "eeg"), verbose="error")


def listed(folder: Path) -> list[str]:
    corpus = CorpusConfig(name="folder", source=str(folder), events="none")
    return [source.file.name for source in find_sources(corpus)]


def seconds(folder: Path) -> float:
    corpus = CorpusConfig(name="folder", source=str(folder), events="none")
    return sum(open_recording(source.file).n_times / 200 for source in find_sources(corpus))


@pytest.mark.parametrize(
    "name, naming, first",
    [
        ("x_raw.fif", "neuromag", "x_raw.fif"),
        ("x_raw.fif.gz", "neuromag", "x_raw.fif.gz"),
        ("sub-01_task-rest_eeg.fif", "bids", "sub-01_task-rest_split-01_eeg.fif"),
        ("sub-01_task-rest_meg.fif", "neuromag", "sub-01_task-rest_meg.fif"),
    ],
)
def test_a_split_fif_is_one_recording(raw, tmp_path, name, naming, first):
    raw.save(tmp_path / name, split_size="2MB", split_naming=naming, verbose="error")
    assert len(list(tmp_path.iterdir())) > 2
    assert listed(tmp_path) == [first] and seconds(tmp_path) == SECONDS
    assert [job.file.name for job in find_jobs(tmp_path, None)] == [first]
    left_out = survey(CorpusConfig(name="folder", source=str(tmp_path), events="none")).left_out
    is_told = not name.endswith(".gz")  # whose parts MNE calls x_raw.fif-1.gz, no name of EEG
    assert ("later parts of split recordings" in left_out) == is_told


def test_numbers_in_names_alone_make_no_parts(raw, tmp_path):
    short = raw.copy().crop(tmax=5)
    for name in ("p_meg.fif", "p_meg-1.fif", "p_meg-2.fif", "q-1_raw.fif", "q-2_raw.fif"):
        short.save(tmp_path / name, verbose="error")
    assert len(listed(tmp_path)) == 5


def test_parts_whose_first_is_gone_are_recordings(raw, tmp_path):
    raw.save(tmp_path / "x_raw.fif", split_size="2MB", verbose="error")
    n_parts = len(list(tmp_path.iterdir())) - 1
    (tmp_path / "x_raw.fif").unlink()
    assert listed(tmp_path) == ["x_raw-1.fif"]  # which takes the others along
    assert n_parts > 1 and 0 < seconds(tmp_path) < SECONDS


def test_where_a_first_part_cannot_be_opened_names_decide(tmp_path):
    names = ["a.fif", "a-1.fif", "a-2.fif", "b-1.fif", "s_split-01_meg.fif", "s_split-02_meg.fif"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    found = sort_out(tmp_path.iterdir())
    assert [file.name for file in found.parts] == ["a-1.fif", "a-2.fif", "s_split-02_meg.fif"]
    assert later_parts([tmp_path / "a-1.fif"]) == set()


def test_files_that_belong_to_a_header_are_not_recordings(tmp_path):
    names = ["x.vhdr", "x.eeg", "x.vmrk", "y.set", "y.fdt", "z.edf", "z.edf.seizures", "z.rec"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert listed(tmp_path) == ["x.vhdr", "y.set", "z.edf"]


@pytest.mark.parametrize("layout", ["folder", "chbmit", "tuev", "bids"])
def test_copies_that_eegdm_wrote_are_not_recordings(tmp_path, layout):
    stem = {
        "folder": "a/x",
        "chbmit": "chb01/chb01_01",
        "tuev": "train/aaaaaaar/aaaaaaar_1",
        "bids": "sub-01/eeg/sub-01_task-x_eeg",
    }[layout]
    original = tmp_path / f"{stem}.edf"
    original.parent.mkdir(parents=True)
    for end in (".edf", "_annotated.edf", "_events.json", "_events.tsv"):
        original.with_name(original.stem + end).write_bytes(b"")
    own = original.with_name("mine_annotated.edf")  # without a sidecar it is somebody's own
    if layout == "folder":
        own.write_bytes(b"")
    corpus = CorpusConfig(name=layout, source=str(tmp_path), events="none")
    names = [source.file.name for source in find_sources(corpus)]
    assert names == ([own.name] if layout == "folder" else []) + [original.name]


def test_a_folder_of_copies_alone_says_so(tmp_path):
    for name in ("x_annotated.edf", "x_events.json"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"holds no recordings .*copies that eegdm wrote: 1, "):
        find_jobs(tmp_path, None)


def test_ids_of_split_recordings_keep_their_names():
    assert recording_ids(["a/x_raw.fif", "a/x_raw.fif.gz"]) == ["a/x_raw.fif", "a/x_raw.fif.gz"]
