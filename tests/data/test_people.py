"""Who is a subject where only names tell: folders are recognised, doubts are said."""

from __future__ import annotations

from itertools import product

import pytest

from eegdm.config import CorpusConfig
from eegdm.data import people
from eegdm.data.corpora import find_sources, survey
from eegdm.data.people import doubts, guess


def subjects(*files: str) -> dict[str, str]:
    return dict(zip(files, guess(files)[0], strict=True))


def crossed(*parts: list[str]) -> list[str]:
    return ["/".join(found) for found in product(*parts)]


@pytest.mark.parametrize(
    "files",
    [
        crossed(["patient0", "patient1"], ["rec0.edf", "rec1.edf"]),
        crossed(["anna", "ben", "carl"], ["1.edf", "2.edf"]),
        crossed(["anna", "ben"], ["rest.edf", "task.edf"]),
        crossed(["anna", "ben"], ["x1.edf", "x2.edf"]),
        crossed(["001", "002"], ["EEG.edf"]),
        crossed(["P1", "P2"], ["night1", "night2"], ["eeg.bdf"]),
        crossed(["S1", "S2"], ["2021-03-04", "2021-03-05"], ["recording.edf"]),
        crossed(["P1", "P2"], ["EEG"], ["eyes_open.edf", "eyes_closed.edf"]),
        ["PN00/PN00-1.edf", "PN00/PN00-2.edf", "PN01/PN01-1.edf"],
        ["chb01/chb01_01.edf", "chb01/chb01_02.edf", "chb17/chb17a_03.edf", "chb17/chb17b_63.edf"],
    ],
)
def test_a_folder_per_person_is_recognised(files):
    assert subjects(*files) == {file: file.split("/")[0] for file in files}
    assert guess(files)[1] == [True] * len(files)
    assert list(doubts(files, guess(files)[0])) == []


@pytest.mark.parametrize(
    "files",
    [
        crossed(["open", "closed"], ["p01.edf", "p02.edf"]),
        crossed(["session1", "session2"], ["p01.edf", "p02.edf"]),
        crossed(["train", "test"], ["gb02.edf", "gb03.edf"]),
        ["adhd/v10p.edf", "adhd/v12p.edf", "control/v107.edf", "control/v110.edf"],
    ],
)
def test_folders_of_sessions_conditions_and_groups_are_not_people(files):
    assert subjects(*files) == {file: file.split("/")[1].removesuffix(".edf") for file in files}


def test_equal_names_in_groups_are_different_people_and_said_to_be():
    files = crossed(["control", "patient"], ["01.edf", "02.edf"])
    assert subjects(*files) == {file: file.removesuffix(".edf") for file in files}
    (doubt,) = doubts(files, guess(files)[0])
    assert "different people (2)" in doubt and "'control/01', 'patient/01'" in doubt


def test_people_of_several_sites_keep_their_site():
    files = ["site1/p01/rec.edf", "site1/p02/rec.edf", "site2/p01/rec.edf"]
    assert list(subjects(*files).values()) == ["site1/p01", "p02", "site2/p01"]


def test_layouts_of_tuh_in_a_plain_folder():
    files = [
        "edf/train/aaaaaaar/aaaaaaar_00000001.edf",
        "edf/train/aaaaaaar/aaaaaaar_00000002.edf",
        "edf/train/aaaaaabs/aaaaaabs_00000001.edf",
        "edf/eval/000/bckg_000_a_.edf",
        "edf/eval/001/gped_001_a_.edf",
    ]
    assert list(subjects(*files).values()) == ["aaaaaaar", "aaaaaaar", "aaaaaabs", "000", "001"]
    seizures = [
        "train/aaaaaaac/s001_2002/02_tcp_le/aaaaaaac_s001_t000.edf",
        "train/aaaaaaac/s002_2003/02_tcp_le/aaaaaaac_s002_t000.edf",
        "dev/aaaaaabb/s001_2002/02_tcp_le/aaaaaabb_s001_t000.edf",
    ]
    assert list(subjects(*seizures).values()) == ["aaaaaaac", "aaaaaaac", "aaaaaabb"]


# -------------------------------------------------------------------------------- shared stems


@pytest.mark.parametrize(
    "stems, label",
    [
        (["Subject00_1", "Subject00_2"], "subject00"),
        (["Subject00_1", "Subject00_2", "Subject01_1", "Subject01_2"], "subject00"),
        (["P01_EO", "P01_EC", "P02_EO", "P02_EC"], "p01"),
        (["EO_P01", "EC_P01", "EO_P02", "EC_P02"], "p01"),
        (["anna_1", "anna_2", "ben_1", "ben_2"], "anna"),
        (["anna-run1", "anna-run2", "ben-run1"], "anna"),
        (["patient_01_rest", "patient_01_task", "patient_02_rest"], "01"),
        (["S01A", "S01B", "S02A"], "s01"),
        (["01_1", "01_2", "02_1"], "01"),
        (["20200101_P01", "20200102_P01", "20200101_P02"], "p01"),
        (["Subject01-eyesopen", "Subject01-eyesclosed", "Subject02-eyesopen"], "subject01"),
        (["aaaaabdo_s003_t000", "aaaaabdo_s004_t000", "aaaaabdp_s003_t000"], "aaaaabdo"),
    ],
)
def test_recordings_that_share_a_stem_are_doubted(stems, label):
    files = [f"{stem}.edf" for stem in stems]
    (doubt,) = doubts(files, stems)
    assert "every recording counts as a person of its own" in doubt
    assert f"share {label!r}" in doubt and "corpus.pattern" in doubt


@pytest.mark.parametrize(
    "stems",
    [
        ["gb02", "gb03", "gb04"],
        ["v107", "v10p", "v110", "v12p", "v1p"],
        ["patient_01", "patient_02", "control_01", "control_02"],
        ["adhd_p01", "adhd_p02", "ctrl_p03"],
        ["study1_P01", "study1_P02", "study1_P03"],
        ["rec1", "rec2", "rec3"],
        ["night 1", "night 2"],
        ["x"],
    ],
)
def test_names_of_different_people_are_not_doubted(stems):
    assert people.shared(stems) is None if len(stems) > 1 else True
    assert list(doubts([f"{stem}.edf" for stem in stems], stems)) == []


def test_the_pattern_that_is_advised_recognises_them(tmp_path):
    for name in ("Subject00_1.edf", "Subject00_2.edf", "Subject01_1.edf"):
        (tmp_path / name).write_bytes(b"")
    corpus = CorpusConfig(name="folder", source=str(tmp_path), events="none")
    found = survey(corpus)
    assert found.subjects_from == "file names" and len(found.subject_warnings) == 1
    advised = found.subject_warnings[0].partition("corpus.pattern='")[2].rstrip("'")
    again = survey(
        CorpusConfig(name="folder", source=str(tmp_path), events="none", pattern=advised)
    )
    assert [source.subject for source in again.sources] == ["Subject00", "Subject00", "Subject01"]
    assert again.subjects_from == "corpus.pattern" and again.subject_warnings == []


# ------------------------------------------------------------------------------------- a corpus


def test_one_subject_in_folders_of_different_people_is_said(tmp_path):
    for name in ("a/sub-01/x.edf", "b/sub-01/x.edf", "b/sub-02/x.edf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = survey(CorpusConfig(name="folder", source=str(tmp_path), events="none"))
    assert [source.subject for source in found.sources] == ["01", "01", "02"]
    (warning,) = found.subject_warnings
    assert "1 of 2 subjects have recordings in several folders" in warning
    assert "'01' in a/, b/" in warning and "kept together" in warning


@pytest.mark.parametrize(
    "name, n_people, told_by, doubted",
    [
        ("people/adhd", 81, "file names", False),
        ("people/guinea_bissau", 65, "file names", False),
        ("people/eegmat", 48, "file names", True),
        ("eegmmidb", 1, "names like sub-01 or S001R04", False),
    ],
)
@pytest.mark.real
def test_real_folders_without_a_table(shared, name, n_people, told_by, doubted):
    corpus = CorpusConfig(name="folder", source=str(shared / "data" / name), events="none")
    found = survey(corpus)
    assert len({source.subject for source in found.sources}) == n_people
    assert found.subjects_from == told_by and bool(found.subject_warnings) == doubted


@pytest.mark.real
def test_a_table_names_the_people_of_eegmat(shared):
    source = str(shared / "data/people/eegmat")
    found = survey(CorpusConfig(name="folder", source=source, events="table", table="events.csv"))
    assert len({s.subject for s in found.sources}) == 24 and len(found.sources) == 48
    assert (found.subjects_from, found.subject_warnings) == ("the table", [])


@pytest.mark.real
def test_chbmit_as_a_plain_folder_has_its_people(shared, tmp_path):
    records = (shared / "data/chbmit/annotations/RECORDS").read_text().split()
    for record in records:
        (tmp_path / record).parent.mkdir(exist_ok=True)
        (tmp_path / record).write_bytes(b"")
    found = find_sources(CorpusConfig(name="folder", source=str(tmp_path), events="none"))
    assert [s.subject for s in found] == [s.recording.split("/")[0] for s in found]
