"""Damaged annotations: each mutation is either read as what it now says, or refused in one line that names the file.

The oracles are parsers of their own, written from the formats' descriptions.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import golden_folder
from eegdm.config import TUEV_CLASSES
from eegdm.data.chbmit import read_seizures, read_summary
from eegdm.data.events import read_bids_events, read_rec, read_table
from eegdm.data.montage import TCP
from eegdm.errors import UserError

NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
STRANGE = ["nan", "-1", "inf", "1e999", "9" * 400, "ten", "", "../../etc/passwd", "/dev/zero", "0x10", "1_0", "٣", "-", "1e1", "007", "2.5"]
TABLE = "file,onset_s,duration_s,label,split\n" + "".join(
    f"s{i % 4}/run{i}.edf,{3 * i}.25,{i % 3},{'spike' if i % 2 else 'sharp wave'},{('train', 'val', 'test')[i % 3]}\n" for i in range(12)
)
BIDS = "onset\tduration\teventType\tconfidence\n" + "".join(f"{60 * i}\t{30 + i}\t{'sz_foc' if i % 2 else 'bckg'}\tn/a\n" for i in range(8))
SUMMARY = "Data Sampling Rate: 256 Hz\n****\nChannels in EDF Files:\n****\nChannel 1: FP1-F7\nChannel 2: -\n\n" + "".join(
    f"File Name: chb01_{i:02}.edf\nFile Start Time: 2{i}:00:00\nFile End Time: 2{i + 1}:00:00\nNumber of Seizures in File: {i}\n"
    + "".join(f"Seizure {k} Start Time: {90 * k} seconds\nSeizure {k} End Time: {90 * k + 50} seconds\n" for k in range(i)) + "\n"
    for i in range(4)
)  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- mutations


def flip_bit(data: bytes, rng: np.random.Generator) -> bytes:
    at = rng.integers(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.integers(8))]) + data[at + 1 :]


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data))]


def strange_field(data: bytes, rng: np.random.Generator) -> bytes:
    """Put a strange value in place of one field or number."""
    fields = list(re.finditer(rb"[^,\t\n\r: ]+", data))
    field = fields[rng.integers(len(fields))]
    return data[: field.start()] + STRANGE[rng.integers(len(STRANGE))].encode() + data[field.end() :]


def drop_line(data: bytes, rng: np.random.Generator) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[rng.integers(len(lines))]
    return b"".join(lines)


def other_line_ends(data: bytes, rng: np.random.Generator) -> bytes:
    return data.replace(b"\n", [b"\r\n", b"\r", b"\n\n", b" \n"][rng.integers(4)])


MUTATIONS = {"bit": flip_bit, "truncated": truncate, "field": strange_field, "line dropped": drop_line, "line ends": other_line_ends}
WEIGHTS = np.array([6, 4, 6, 2, 1]) / 19


# ----------------------------------------------------------------------------------------------------------------- oracles


def lines_of(data: bytes) -> list[str]:
    return [line.strip() for line in re.split(r"\r\n|\r|\n", data.decode("utf-8-sig")) if line.strip()]


def seconds(text: str) -> float:
    assert re.fullmatch(NUMBER, text) and 0 <= float(text) < float("inf")
    return float(text)


def oracle_rec(data: bytes) -> list[tuple]:
    rows = []
    for line in lines_of(data):
        channel, start, end, code = (part.strip() for part in line.split(","))
        assert re.fullmatch("[0-9]{1,4}", channel) and re.fullmatch("[0-9]{1,4}", code)
        assert int(channel) < 22 and 1 <= int(code) <= 6 and seconds(start) < seconds(end)
        rows.append((TCP[int(channel)], seconds(start), seconds(end), TUEV_CLASSES[int(code) - 1]))
    return rows


def cells(data: bytes, delimiter: str, required: set[str]) -> list[dict[str, str]]:
    text = re.sub(r"\r\n|\r", "\n", data.decode("utf-8-sig"))
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)]
    header, *body = [row for row in rows if any(row)]
    assert required <= set(header) and len(set(header)) == len(header) and all(len(row) == len(header) for row in body)
    return [dict(zip(header, row, strict=True)) for row in body]


def oracle_table(data: bytes) -> list[tuple]:
    rows = []
    for row in cells(data, ",", {"file", "onset_s", "duration_s", "label"}):
        assert row.get("split", "") in ("", "train", "val", "test")
        assert row["file"] and row["file"][0] != "/" and ".." not in row["file"].split("/")
        file = "/".join(part for part in row["file"].split("/") if part not in ("", ".")) or "."
        if row["onset_s"] or row["duration_s"] or row["label"]:
            assert row["label"]
            rows.append((file, seconds(row["onset_s"]), seconds(row["onset_s"]) + seconds(row["duration_s"]), row["label"]))
    return rows


def oracle_bids(data: bytes) -> list[tuple]:
    rows = cells(data, "\t", {"onset", "duration", "eventType"})
    rows = [row for row in rows if row["eventType"] not in ("", "n/a")]
    return [(None, seconds(row["onset"]), seconds(row["onset"]) + seconds(row["duration"]), row["eventType"]) for row in rows]


def oracle_summary(data: bytes) -> list[tuple]:
    other = (r"(?:\*+|Data Sampling Rate: *\d+ Hz|Channels in EDF Files:|Channels changed:|Channel \d+: *\S*"
             r"|File (?:Start|End) Time: *\d\d?:\d\d:\d\d)\n")  # fmt: skip
    mark = rf"Seizure (?:\d{{1,4}} )?Start Time: *(\d{{1,7}}) seconds\n(?:{other})*Seizure (?:\d{{1,4}} )?End Time: *(\d{{1,7}}) seconds\n"
    block = rf"File Name: *(\S+\.edf)\n((?:{other})*Number of Seizures in File: *(\d{{1,4}})\n(?:{other}|{mark})*)"
    text = "".join(line + "\n" for line in lines_of(data))
    assert re.fullmatch(f"(?:{other})*(?:{block})+", text, re.ASCII)
    rows, names = [], []
    for found in re.finditer(block, text, re.ASCII):
        times = [(float(a), float(b)) for a, b in re.findall(mark, found[2], re.ASCII)]
        assert len(times) == int(found[3]) and all(a < b for a, b in times) and found[1] not in names
        names.append(found[1])
        rows += [(found[1], *pair, "seizure") for pair in times]
    return rows


# ------------------------------------------------------------------------------------------------------------------- tests


def ends(table) -> list[tuple]:
    who = table.file if "file" in table else table.channel
    events = zip(who, table.onset_s, table.onset_s + table.duration_s, table.label, strict=True)
    return [event for event in events if event[3]]


def summary_rows(path: Path) -> list[tuple]:
    return [(name, *pair, "seizure") for name, pairs in read_summary(path).items() for pair in pairs]


KINDS: dict[str, tuple[bytes, Callable, Callable]] = {
    "a.rec": ((golden_folder("preproc_open") / "aaaaasyn_00000001.rec").read_bytes(), lambda p: ends(read_rec(p)), oracle_rec),
    "t.csv": (TABLE.encode(), lambda p: ends(read_table(p)), oracle_table),
    "x_events.tsv": (BIDS.encode(), lambda p: ends(read_bids_events(p)), oracle_bids),
    "chb01-summary.txt": (SUMMARY.encode(), summary_rows, oracle_summary),
}


def test_mutations_are_read_as_they_are_or_refused(tmp_path):
    count = Counter({key: n for name in KINDS for key, n in damaged(tmp_path / name, 200).items()})
    print("\n".join(f"{name}, {kind}, {verdict}: {n}" for (name, kind, verdict), n in sorted(count.items())))
    assert {key[:2] for key in count} == {(name, kind) for name in KINDS for kind in MUTATIONS}
    assert sum(n for key, n in count.items() if key[2] == "refused") >= count.total() / 2


def damaged(path: Path, n: int) -> Counter[tuple[str, str, str]]:
    """Try n mutations of one kind of file; count (file, mutation, verdict)."""
    original, read, oracle = KINDS[path.name]
    path.write_bytes(original)
    assert same(read(path), oracle(original))
    rng = np.random.default_rng(0)
    count: Counter[tuple[str, str, str]] = Counter()
    for kind in map(str, rng.choice(list(MUTATIONS), n, p=WEIGHTS)):
        data = MUTATIONS[kind](original, rng)
        path.write_bytes(data)
        try:
            expected = oracle(data)
        except (AssertionError, ValueError, KeyError, csv.Error):
            with pytest.raises(UserError) as caught:
                read(path)
            assert str(caught.value).startswith(str(path)) and str(caught.value).isprintable(), data
            count[path.name, kind, "refused"] += 1
        else:
            assert same(read(path), expected), data
            count[path.name, kind, "read"] += 1
    return count


def same(found: list[tuple], expected: list[tuple]) -> bool:
    """Equal names and labels; times may differ by the rounding of start + (end - start)."""
    return [(a, d) for a, _, _, d in found] == [(a, d) for a, _, _, d in expected] and np.allclose(
        [row[1:3] for row in found], [row[1:3] for row in expected], rtol=1e-12, atol=1e-9
    )


@pytest.mark.real
def test_damaged_binaries_never_surprise(tmp_path, shared):
    original = (shared / "data/chbmit/annotations/chb09/chb09_08.edf.seizures").read_bytes()
    path = tmp_path / "x.edf.seizures"

    def verdict(data: bytes) -> bool:
        path.write_bytes(data)
        try:
            return all(0 <= start < end for start, end in read_seizures(path))
        except UserError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            return False

    assert verdict(original)
    assert not any(verdict(original[:n]) for n in range(len(original)))
    assert not any(verdict(original + bytes([i])) for i in range(256))
    places = [(at, 1 << bit) for at in range(len(original)) for bit in range(8)]
    flipped = [verdict(original[:at] + bytes([original[at] ^ bit]) + original[at + 1 :]) for at, bit in places]
    assert 0 < sum(flipped) < len(flipped) / 2  # other times of the marks are times too; the rest is refused
