"""CHB-MIT's annotations: all 24 real summaries and all 141 real binaries, against each other."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from eegdm.data.chbmit import read_seizures, read_seizures_of, read_summary
from eegdm.errors import UserError

SUMMARY = """Data Sampling Rate: 256 Hz
*************************

Channels in EDF Files:
**********************
Channel 1: FP1-F7
Channel 2: -

File Name: chb01_01.edf
File Start Time: 23:43:04
File End Time: 24:43:04
Number of Seizures in File: 0

Channels changed:
*****************
Channel 1: F7-CS2

File Name: chb01_02+.edf
File Start Time: 01:00:00
File End Time: 2:00:00
Number of Seizures in File: 2
Seizure 1 Start Time: 10 seconds
Seizure 1 End Time:  20 seconds
Seizure 2 Start Time: 30 seconds
Seizure 1 End Time: 45 seconds
"""


@pytest.fixture(scope="module")
def annotations(shared) -> Path:
    return shared / "data/chbmit/annotations"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def binary(*samples: int, rate: int = 256) -> bytes:
    """An `.edf.seizures` file with marks at these samples, start and end in turn, as the database
    writes it.
    """
    text = b"## time resolution: %d" % rate
    data = struct.pack("<HH", 22 << 10, 63 << 10 | len(text)) + text + b"\0" * (len(text) % 2)
    data += struct.pack("<HhHH", 59 << 10, -1, 0xFFFF, 1)
    before = 0
    for i, sample in enumerate(samples):
        high, low = divmod(sample - before, 1 << 16)
        data += struct.pack("<HhHH", 59 << 10, high, low, (32 + i % 2) << 10)
        before = sample
    return data + b"\0\0"


# ------------------------------------------------------------------------------------- real files


@pytest.mark.real
def test_every_real_summary_gives_the_seizures_it_declares(annotations):
    summaries = sorted(annotations.glob("chb*/chb*-summary.txt"))
    assert len(summaries) == 24
    n_recordings = n_seizures = 0
    for path in summaries:
        text = path.read_text()
        declared = re.findall(
            r"File Name: (\S+)[^:]*?(?:File (?:Start|End) Time: [\d:]+\s+)*Number of Seizures in"
            r" File: (\d+)",
            text,
        )
        found = read_summary(path)
        assert [(name, len(intervals)) for name, intervals in found.items()] == [
            (name, int(count)) for name, count in declared
        ]
        assert [end for intervals in found.values() for _, end in intervals] == [
            float(end) for end in re.findall(r"End Time: +(\d+) seconds", text)
        ]
        n_recordings += len(found)
        n_seizures += sum(map(len, found.values()))
    assert (n_recordings, n_seizures) == (676, 198)


@pytest.mark.real
def test_summaries_and_records_name_the_same_recordings(annotations):
    listed = {
        name for path in annotations.glob("chb*/*-summary.txt") for name in read_summary(path)
    }
    records = {line.split("/")[1] for line in (annotations / "RECORDS").read_text().split()}
    assert listed <= records
    assert {name.split("_")[0] for name in records - listed} == {
        "chb24"
    }  # whose summary leaves out recordings without seizures


@pytest.mark.real
def test_known_oddities_of_the_summaries(annotations):
    assert read_summary(annotations / "chb09/chb09-summary.txt")["chb09_08.edf"] == [
        (2951, 3030),
        (9196, 9267),
    ]
    assert read_summary(annotations / "chb24/chb24-summary.txt")["chb24_04.edf"] == [
        (1088, 1120),
        (1411, 1438),
        (1745, 1764),
    ]
    assert read_summary(annotations / "chb02/chb02-summary.txt")["chb02_16+.edf"] == [(2972, 3053)]
    assert "chb17a_03.edf" in read_summary(annotations / "chb17/chb17-summary.txt")


@pytest.mark.real
def test_binaries_agree_with_summaries(annotations):
    binaries = sorted(annotations.glob("chb*/*.edf.seizures"))
    assert len(binaries) == 141
    differing = {}
    for path in binaries:
        name = path.name.removesuffix(".seizures")
        told = read_summary(path.with_name(f"{path.parent.name}-summary.txt"))[name]
        assert len(
            read_seizures_of(
                path.with_name(name), path.with_name(f"{path.parent.name}-summary.txt")
            )
        ) == len(told)
        if read_seizures(path) != told:
            differing[name] = (read_seizures(path), told)
    assert differing == {"chb24_21.edf": ([(2404, 2872)], [(2804, 2872)])}


# ---------------------------------------------------------------------------------- made-up files


def test_summary(tmp_path):
    path = written(tmp_path / "chb01-summary.txt", SUMMARY)
    assert read_summary(path) == {"chb01_01.edf": [], "chb01_02+.edf": [(10.0, 20.0), (30.0, 45.0)]}
    assert read_summary(written(path, SUMMARY.replace("\n", "\r\n"))) == read_summary(
        written(path, SUMMARY)
    )


@pytest.mark.parametrize(
    "old, new, told",
    [
        (
            "File: 2",
            "File: 3",
            "declares 3 seizures for chb01_02+.edf and gives 2 starts and 2 ends",
        ),
        ("Number of Seizures in File: 0\n", "", "declares None seizures for chb01_01.edf"),
        ("Seizure 1 End Time: 45 seconds\n", "", "gives 2 starts and 1 ends"),
        (
            "Seizure 1 End Time:  20 seconds\n",
            "",
            ":23: a seizure starts before the last has ended",
        ),
        (
            "Seizure 1 Start Time: 10 seconds\n",
            "",
            ":22: a seizure ends that has not started before",
        ),
        ("45 seconds", "30 seconds", ":25: a seizure ends that has not started before"),
        (
            "45 seconds",
            "4.5 seconds",
            ":25: 'Seizure 1 End Time: 4.5 seconds' is not a line of a CHB-MIT summary",
        ),
        ("45 seconds", "NaN seconds", "is not a line"),
        ("45 seconds", "99999999999 seconds", "is not a line"),
        ("chb01_02+", "chb01_01", "lists 'chb01_01.edf' twice"),
        ("File Name: chb01_02+.edf", "Fine Name: chb01_02+.edf", "is not a line"),
        (
            "Number of Seizures in File: 0",
            "Number of Seizures in File: 0\nNumber of Seizures in File: 0",
            "twice",
        ),
        (
            "*************************",
            "Seizure 1 Start Time: 10 seconds",
            "before the first File Name",
        ),
        (SUMMARY, "", "names no recording"),
    ],
)
def test_summary_faults(tmp_path, old, new, told):
    path = written(tmp_path / "chb01-summary.txt", SUMMARY.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        read_summary(path)
    assert (
        str(caught.value).startswith(str(path))
        and told in str(caught.value)
        and "\n" not in str(caught.value)
    )


def test_binary_times(tmp_path):
    path = tmp_path / "x.edf.seizures"
    path.write_bytes(binary(0, 128, 70_000 * 256, 70_001 * 256))
    assert read_seizures(path) == [(0.0, 0.5), (70_000.0, 70_001.0)]
    path.write_bytes(binary(500, 1000, rate=500))
    assert read_seizures(path) == [(1.0, 2.0)]


@pytest.mark.parametrize(
    "data, told",
    [
        (binary(256), "do not alternate"),
        (binary(512, 256), "times do not rise"),
        (binary(256, 512, rate=0), "how many samples"),
        (binary(256, 512).replace(b"##", b"%%"), "how many samples"),
        (binary(256, 512) + b"\0\0", "is not an .edf.seizures file"),
        (b"", "was cut off"),
    ],
)
def test_binary_faults(tmp_path, data, told):
    path = tmp_path / "x.edf.seizures"
    path.write_bytes(data)
    with pytest.raises(UserError, match=told):
        read_seizures(path)
    with pytest.raises(UserError, match="No such file"):
        read_seizures(tmp_path / "none.seizures")


def test_seizures_of_a_recording(tmp_path):
    summary = written(tmp_path / "chb01-summary.txt", SUMMARY)
    quiet, seizing, unknown = (tmp_path / f"chb01_{name}.edf" for name in ("01", "02+", "09"))
    assert read_seizures_of(quiet, summary) == []
    assert [tuple(event) for event in read_seizures_of(seizing, summary)] == [
        (None, 10, 10, "seizure"),
        (None, 30, 15, "seizure"),
    ]
    with pytest.raises(UserError, match="does not list chb01_09.edf"):
        read_seizures_of(unknown, summary)
    seizing.with_name("chb01_02+.edf.seizures").write_bytes(binary(2560, 5120))
    with pytest.raises(UserError, match="holds 1 seizures, chb01-summary.txt 2"):
        read_seizures_of(seizing, summary)


def test_a_summary_of_seizures_only_leaves_out_the_quiet_recordings(tmp_path):
    summary = written(
        tmp_path / "chb24-summary.txt", SUMMARY[SUMMARY.index("File Name: chb01_02") :]
    )
    assert read_seizures_of(tmp_path / "chb24_02.edf", summary) == []
