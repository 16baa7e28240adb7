"""Which files are recordings of their own: no second of a folder is listed twice."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest

from eegdm import artifacts
from eegdm.config import CorpusConfig
from eegdm.data.corpora import find_sources, survey
from eegdm.data.files import later_parts, recording_ids, signal_files, signal_state, sort_out
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


def write_brainvision(raw: mne.io.RawArray, folder: Path) -> tuple[Path, Path]:
    mne.export.export_raw(folder / "a.vhdr", raw, verbose="error")
    return folder / "a.vhdr", folder / "a.eeg"


def write_eeglab(raw: mne.io.RawArray, folder: Path) -> tuple[Path, Path]:
    """A .set whose samples lie in a .fdt beside it, as EEGLAB writes long recordings."""
    from scipy.io import savemat

    (raw.get_data() * 1e6).T.astype("<f4").tofile(folder / "a.fdt")
    locations = np.array([(name,) for name in raw.ch_names], dtype=[("labels", object)])
    fields = {"data": "a.fdt", "srate": 200.0, "nbchan": len(raw.ch_names), "pnts": raw.n_times,
              "trials": 1, "chanlocs": locations, "event": [], "epoch": [],
              "xmin": 0.0, "xmax": (raw.n_times - 1) / 200}  # fmt: skip
    savemat(folder / "a.set", {"EEG": fields}, appendmat=False)
    return folder / "a.set", folder / "a.fdt"


def write_split_fif(raw: mne.io.RawArray, folder: Path) -> tuple[Path, Path]:
    raw.save(folder / "a_raw.fif", split_size="2MB", verbose="error")
    return folder / "a_raw.fif", folder / "a_raw-1.fif"


@pytest.mark.parametrize("write", [write_brainvision, write_eeglab, write_split_fif])
def test_another_signal_beside_the_same_header_is_another_recording(
    raw: mne.io.RawArray, tmp_path: Path, write
) -> None:
    """The file that MNE opens may hold no sample: the ones that it names count too."""
    opened, samples = write(raw, tmp_path)
    assert {opened, samples} <= set(signal_files(opened))
    assert open_recording(opened).n_times == raw.n_times
    before = signal_state(opened), artifacts.sha256(*signal_files(opened))
    data = bytearray(samples.read_bytes())
    data[-100] ^= 1
    samples.write_bytes(data)  # the same size and the same header
    after = signal_state(opened), artifacts.sha256(*signal_files(opened))
    assert before[0] != after[0] and before[1] != after[1]


def test_a_recording_in_one_file_has_one_time(raw: mne.io.RawArray, tmp_path: Path) -> None:
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    state = (tmp_path / "a_raw.fif").stat()
    assert signal_state(tmp_path / "a_raw.fif") == (state.st_size, state.st_mtime_ns)
    assert artifacts.sha256(tmp_path / "a_raw.fif") == artifacts.sha256(
        *signal_files(tmp_path / "a_raw.fif")
    )
