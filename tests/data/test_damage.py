"""Damaged files: each mutation is either read as what it now says, or refused in one line that
names the file.

The oracles are parsers of their own, written from the formats' descriptions. Hypothesis chooses the
mutations, always the same ones, and shrinks what fails.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import golden_folder
from eegdm.config import TUEV_CLASSES
from eegdm.data.chbmit import read_seizures, read_summary
from eegdm.data.events import read_bids_events, read_event_table, read_rec
from eegdm.data.montage import TCP, referential
from eegdm.data.reading import open_recording
from eegdm.data.signal import Filtering, preprocess
from eegdm.errors import UserError
from stages.tiny import command_line

NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
STRANGE = [
    "nan",
    "-1",
    "inf",
    "1e999",
    "9" * 400,
    "ten",
    "",
    "../../etc/passwd",
    "/dev/zero",
    "0x10",
    "1_0",
    "٣",
    "-",
    "1e1",
    "007",
    "2.5",
]
TABLE = "file,onset_s,duration_s,label,split\n" + "".join(
    f"s{i % 4}/run{i}.edf,{3 * i}.25,{i % 3},{'spike' if i % 2 else 'sharp wave'},{('train', 'val', 'test')[i % 3]}\n"  # noqa: E501
    for i in range(12)
)
BIDS = "onset\tduration\teventType\tconfidence\n" + "".join(
    f"{60 * i}\t{30 + i}\t{'sz_foc' if i % 2 else 'bckg'}\tn/a\n" for i in range(8)
)
SUMMARY = (
    "Data Sampling Rate: 256 Hz\n****\nChannels in EDF Files:\n****\nChannel 1: FP1-F7\nChannel 2:"
    " -\n\n"
    + "".join(
        f"File Name: chb01_{i:02}.edf\nFile Start Time: 2{i}:00:00\nFile End Time:"
        f" 2{i + 1}:00:00\nNumber of Seizures in File: {i}\n"
        + "".join(
            f"Seizure {k} Start Time: {90 * k} seconds\nSeizure {k} End Time: {90 * k + 50}"
            " seconds\n"
            for k in range(i)
        )
        + "\n"
        for i in range(4)
    )
)


# -------------------------------------------------------------------------------------- mutations


def flip_bit(data: bytes, rng: np.random.Generator) -> bytes:
    at = rng.integers(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.integers(8))]) + data[at + 1 :]


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data))]


def strange_field(data: bytes, rng: np.random.Generator) -> bytes:
    """Put a strange value in place of one field or number."""
    fields = list(re.finditer(rb"[^,\t\n\r: ]+", data))
    field = fields[rng.integers(len(fields))]
    return (
        data[: field.start()] + STRANGE[rng.integers(len(STRANGE))].encode() + data[field.end() :]
    )


def drop_line(data: bytes, rng: np.random.Generator) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[rng.integers(len(lines))]
    return b"".join(lines)


def other_line_ends(data: bytes, rng: np.random.Generator) -> bytes:
    return data.replace(b"\n", [b"\r\n", b"\r", b"\n\n", b" \n"][rng.integers(4)])


MUTATIONS = {
    "bit": flip_bit,
    "truncated": truncate,
    "field": strange_field,
    "line dropped": drop_line,
    "line ends": other_line_ends,
}


# The fields of an EDF header: first byte and width, those of the file and (256 bytes for each
# signal) of its three signals.
N_SIGNALS, N_RECORDS, RATE = 3, 12, 100
FIELDS = {
    "version": (0, 8),
    "patient": (8, 80),
    "date": (168, 8),
    "header bytes": (184, 8),
    "reserved": (192, 44),
    "records": (236, 8),
    "record duration": (244, 8),
    "signals": (252, 4),
}
COLUMNS = {
    "label": (0, 16),
    "unit": (96, 8),
    "physical minimum": (104, 8),
    "physical maximum": (112, 8),
    "digital minimum": (120, 8),
    "digital maximum": (128, 8),
    "samples": (216, 8),
}
HEADER_BYTES = 256 * (N_SIGNALS + 1)


def edf() -> bytes:
    """A plain EDF of 12 s at 100 Hz, written byte by byte."""
    columns = [
        ["EEG FP1-REF", "EEG F7-REF", "EEG T3-REF"],
        ["uV"] * 3,
        ["-500"] * 3,
        ["500"] * 3,
        ["-2048"] * 3,
        ["2047"] * 3,
        ["100"] * 3,
    ]
    header = bytearray(b" " * HEADER_BYTES)
    values = ["0", "X", "01.01.20", str(HEADER_BYTES), "", str(N_RECORDS), "1", str(N_SIGNALS)]
    header[176:184] = b"10.00.00"
    for (at, width), text in zip(FIELDS.values(), values, strict=True):
        header[at : at + width] = text.ljust(width).encode()
    for (at, width), texts in zip(COLUMNS.values(), columns, strict=True):
        start = 256 + at * N_SIGNALS
        header[start : start + width * N_SIGNALS] = "".join(
            text.ljust(width) for text in texts
        ).encode()
    noise = np.random.default_rng(0).normal(0, 120, N_SIGNALS * N_RECORDS * RATE)
    return bytes(header) + noise.round().astype("<i2").tobytes()


def put(data: bytes, at: int, width: int, text: str) -> bytes:
    return data[:at] + text.encode("utf-8")[:width].ljust(width) + data[at + width :]


def header_bit(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip a bit of any field, long or short."""
    places = [
        *FIELDS.values(),
        *((256 + at * N_SIGNALS, width * N_SIGNALS) for at, width in COLUMNS.values()),
    ]
    at, width = places[rng.integers(len(places))]
    return data[:at] + flip_bit(data[at : at + width], rng) + data[at + width :]


def data_bit(data: bytes, rng: np.random.Generator) -> bytes:
    return data[:HEADER_BYTES] + flip_bit(data[HEADER_BYTES:], rng)


def header_field(data: bytes, rng: np.random.Generator) -> bytes:
    return put(
        data, *list(FIELDS.values())[rng.integers(len(FIELDS))], STRANGE[rng.integers(len(STRANGE))]
    )


def signal_field(data: bytes, rng: np.random.Generator) -> bytes:
    at, width = list(COLUMNS.values())[rng.integers(len(COLUMNS))]
    return put(
        data,
        256 + at * N_SIGNALS + width * rng.integers(N_SIGNALS),
        width,
        STRANGE[rng.integers(len(STRANGE))],
    )


def wrong_count(data: bytes, rng: np.random.Generator) -> bytes:
    name = ("records", "signals", "header bytes", "record duration")[rng.integers(4)]
    return put(data, *FIELDS[name], str(rng.integers(-2, 30)))


EDF_MUTATIONS = {
    "header bit": header_bit,
    "header field": header_field,
    "signal field": signal_field,
    "wrong count": wrong_count,
    "truncated": truncate,
    "data bit": data_bit,
}


# ---------------------------------------------------------------------------------------- oracles


def lines_of(data: bytes) -> list[str]:
    return [
        line.strip() for line in re.split(r"\r\n|\r|\n", data.decode("utf-8-sig")) if line.strip()
    ]


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


def free_text(data: bytes) -> str:
    """UTF-8, else the Latin-1 of spreadsheets; never what has zero bytes."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        assert b"\0" not in data and data[:2] not in (b"\xff\xfe", b"\xfe\xff")
        return data.decode("cp1252")


def cells(data: bytes, delimiter: str, required: set[str]) -> list[dict[str, str]]:
    text = re.sub(r"\r\n|\r", "\n", free_text(data))
    rows = [
        [cell.strip() for cell in row]
        for row in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    ]
    header, *body = [row for row in rows if any(row)]
    assert (
        required <= set(header)
        and len(set(header)) == len(header)
        and all(len(row) == len(header) for row in body)
    )
    return [dict(zip(header, row, strict=True)) for row in body]


def oracle_table(data: bytes) -> list[tuple]:
    rows = []
    for row in cells(data, ",", {"file", "onset_s", "duration_s", "label"}):
        assert row.get("split", "") in ("", "train", "val", "test")
        assert row["file"] and row["file"][0] != "/" and ".." not in row["file"].split("/")
        file = "/".join(part for part in row["file"].split("/") if part not in ("", ".")) or "."
        if row["onset_s"] or row["duration_s"] or row["label"]:
            assert row["label"]
            rows.append(
                (
                    file,
                    seconds(row["onset_s"]),
                    seconds(row["onset_s"]) + seconds(row["duration_s"]),
                    row["label"],
                )
            )
    return rows


def oracle_bids(data: bytes) -> list[tuple]:
    rows = cells(data, "\t", {"onset", "duration", "eventType"})
    rows = [row for row in rows if row["eventType"] not in ("", "n/a")]
    return [
        (
            None,
            seconds(row["onset"]),
            seconds(row["onset"]) + seconds(row["duration"]),
            row["eventType"],
        )
        for row in rows
    ]


def oracle_summary(data: bytes) -> list[tuple]:
    other = (
        r"(?:\*+|Data Sampling Rate: *\d+ Hz|Channels in EDF Files:|Channels changed:|Channel \d+:"
        r" *\S*"
        r"|File (?:Start|End) Time: *\d\d?:\d\d:\d\d)\n"
    )
    mark = (
        rf"Seizure (?:\d{{1,4}} )?Start Time: *(\d{{1,7}}) seconds\n(?:{other})*Seizure"
        r" (?:\d{1,4} )?End Time: *(\d{1,7}) seconds\n"
    )
    block = (
        rf"File Name: *(\S+\.edf)\n((?:{other})*Number of Seizures in File:"
        rf" *(\d{{1,4}})\n(?:{other}|{mark})*)"
    )
    text = "".join(line + "\n" for line in lines_of(data))
    assert re.fullmatch(f"(?:{other})*(?:{block})+", text, re.ASCII)
    rows, names = [], []
    for found in re.finditer(block, text, re.ASCII):
        times = [(float(a), float(b)) for a, b in re.findall(mark, found[2], re.ASCII)]
        assert (
            len(times) == int(found[3]) and all(a < b for a, b in times) and found[1] not in names
        )
        names.append(found[1])
        rows += [(found[1], *pair, "seizure") for pair in times]
    return rows


def text_of(field: bytes) -> str:
    return field.split(b"\0")[0].strip().decode("latin-1")


def number_of(field: bytes) -> float:
    text = text_of(field).replace(",", ".")
    assert re.fullmatch(NUMBER, text, re.ASCII) and abs(float(text)) < float("inf")
    return float(text)


def whole_of(field: bytes) -> int:
    assert re.fullmatch(r"[+-]?\d+", text_of(field), re.ASCII)
    return int(text_of(field))


def oracle_edf(data: bytes) -> list[tuple]:
    """Each signal's label, sampling frequency and samples in 100 µV; the three have one rate, or
    not all of them are read.
    """
    n, start = whole_of(data[252:256]), whole_of(data[184:192])
    assert data[:8] == b"0       " and n >= 3 and start == 256 * (n + 1) <= len(data)
    columns = {
        name: [data[256 + at * n + i * width :][:width] for i in range(n)]
        for name, (at, width) in COLUMNS.items()
    }
    low, high, least, most = ([number_of(f) for f in columns[name]] for name in list(COLUMNS)[2:6])
    samples, record_s, n_records = (
        [whole_of(f) for f in columns["samples"]],
        number_of(data[244:252]),
        whole_of(data[236:244]),
    )
    assert min(samples) > 0 and record_s > 0
    held = (len(data) - start) // (2 * sum(samples))
    n_records = held if n_records == -1 else n_records
    assert 1 <= n_records <= held and data[192:197] != b"EDF+D"
    rate = max(samples, key=lambda count: (samples.count(count), count))
    kept = [i for i in range(n) if samples[i] == rate and low[i] != high[i] and least[i] < most[i]][
        :3
    ]
    assert len(kept) == 3 and n_records * record_s >= 1 and 20 <= rate / record_s <= 20_000
    records = np.frombuffer(data, "<i2", n_records * sum(samples), start).reshape(n_records, -1)
    rows, units = [], []
    for i in kept:
        digital = records[:, sum(samples[:i]) : sum(samples[: i + 1])].ravel()
        unit = {"uv": 1e-6, "mv": 1e-3}.get("".join(text_of(columns["unit"][i]).split()).lower(), 1)
        units.append(unit)
        volts = unit * (low[i] + (digital - least[i]) * (high[i] - low[i]) / (most[i] - least[i]))
        rows.append(
            (
                text_of(columns["label"][i]),
                rate / record_s,
                volts * 1e4,
            )
        )
    spreads = [np.subtract(*np.percentile(row[2], (75, 25))) / 1.349 * 100 for row in rows]
    middle = np.median([spread for spread in spreads if spread > 0])
    assert 0.05 <= middle <= 5000 and max(spreads) <= 2e5
    usual = max(units, key=units.count)
    assert all(
        unit == usual or spread == 0 or 0.01 <= spread / middle <= 100
        for unit, spread in zip(units, spreads, strict=True)
    )
    return rows


# ------------------------------------------------------------------------------------------ tests


def ends(table) -> list[tuple]:
    who = table.file if "file" in table else table.channel
    events = zip(who, table.onset_s, table.onset_s + table.duration_s, table.label, strict=True)
    return [event for event in events if event[3]]


def summary_rows(path: Path) -> list[tuple]:
    return [
        (name, *pair, "seizure") for name, pairs in read_summary(path).items() for pair in pairs
    ]


def signals(path: Path) -> list[tuple]:
    raw = open_recording(path)
    first = referential(raw.ch_names, 3)
    prepared = preprocess(raw, first, Filtering(), keep_raw=True)
    return [(d.name, prepared.sfreq, row) for d, row in zip(first, prepared.signal, strict=True)]


KINDS: dict[str, tuple[bytes, dict[str, Callable], Callable, Callable]] = {
    "a.rec": (
        (golden_folder("preproc_open") / "aaaaasyn_00000001.rec").read_bytes(),
        MUTATIONS,
        lambda p: ends(read_rec(p)),
        oracle_rec,
    ),
    "t.csv": (TABLE.encode(), MUTATIONS, lambda p: ends(read_event_table(p)), oracle_table),
    "x_events.tsv": (BIDS.encode(), MUTATIONS, lambda p: ends(read_bids_events(p)), oracle_bids),
    "chb01-summary.txt": (SUMMARY.encode(), MUTATIONS, summary_rows, oracle_summary),
    "a.edf": (edf(), EDF_MUTATIONS, signals, oracle_edf),
}


def test_mutations_are_read_as_they_are_or_refused(tmp_path):
    counts = {name: damaged(tmp_path / name) for name in KINDS}
    print(
        "\n".join(
            f"{name}, {kind}, {verdict}: {n}"
            for name in KINDS
            for (kind, verdict), n in sorted(counts[name].items())
        )
    )
    assert all({kind for kind, _ in counts[name]} == set(KINDS[name][1]) for name in KINDS)
    total = sum(counts.values(), Counter())
    assert total.total() >= 400
    assert sum(n for (_, verdict), n in total.items() if verdict == "refused") >= total.total() / 2


def damaged(path: Path) -> Counter[tuple[str, str]]:
    """Try mutations of one kind of file; count (mutation, verdict) of those that differ."""
    original, mutations, read, oracle = KINDS[path.name]
    path.write_bytes(original)
    assert same(read(path), oracle(original))
    verdicts: dict[bytes, tuple[str, str]] = {}

    @settings(max_examples=180, derandomize=True, database=None, deadline=None)
    @given(kind=st.sampled_from([*mutations]), seed=st.integers(0, 2**32 - 1))
    def try_one(kind: str, seed: int) -> None:
        data = mutations[kind](original, np.random.default_rng(seed))
        path.write_bytes(data)
        try:
            expected = oracle(data)
        except (AssertionError, ValueError, KeyError, csv.Error):
            with pytest.raises(UserError) as caught:
                read(path)
            assert path.name in named(caught.value, path) and str(caught.value).isprintable(), data
            verdicts[data] = kind, "refused"
        else:
            assert same(read(path), expected), data
            verdicts[data] = kind, "read"

    try_one()
    return Counter(verdicts.values())


def named(fault: UserError, path: Path) -> str:
    """What the stage tells: faults of the samples name channel and time, the stage puts the file
    before them.
    """
    return f"{path}: {fault}" if path.suffix == ".edf" else str(fault)


@pytest.mark.ci
def test_a_corpus_of_damaged_recordings_is_preprocessed(tmp_path):
    """One run over 80 mutated recordings or annotations: those that are valid by the oracles are
    used, each other is told in one line.
    """
    rng, rec = (
        np.random.default_rng(1),
        "".join(f"{k},{k}.5,{k + 1}.5,{k % 6 + 1}\n" for k in range(10)).encode(),
    )
    valid = {}
    for number, kind in enumerate([*EDF_MUTATIONS, *MUTATIONS] * 8):
        path = tmp_path / "edf" / "train" / f"s{number}" / f"s{number}_1.edf"
        path.parent.mkdir(parents=True)
        signal = EDF_MUTATIONS[kind](edf(), rng) if kind in EDF_MUTATIONS else edf()
        events = b"0,0.1,1.1,6\n" if kind in EDF_MUTATIONS else MUTATIONS[kind](rec, rng)
        path.write_bytes(signal)
        path.with_suffix(".rec").write_bytes(events)
        try:
            oracle_edf(signal)
            valid[path.stem] = all(start <= N_RECORDS for _, start, _, _ in oracle_rec(events))
        except (AssertionError, ValueError):
            valid[path.stem] = False
    words = [
        "corpus=tuev",
        f"source={tmp_path}",
        f"root={tmp_path / 'runs'}",
        "signal.montage=referential",
        "signal.n_referential=3",
    ]
    done = command_line("preprocess", *words)
    assert done.returncode == 0 and "Traceback" not in done.stdout + done.stderr, done.stderr
    table = pd.read_parquet(
        tmp_path / "runs" / "tuev" / "base" / "recordings" / "recordings.parquet"
    )
    used = {
        file.split("/")[-1].removesuffix(".edf"): status == "ok"
        for file, status in zip(table.file, table.status, strict=True)
    }
    assert used == valid and 20 < sum(valid.values()) < 60
    failed = table[table.status == "failed"]
    assert failed.reason.map(lambda reason: reason.isprintable() and len(reason) > 10).all()
    assert [f"  failed   {r.file}: {r.reason}" for r in failed.itertuples()] == [
        x for x in done.stdout.splitlines() if "failed   " in x
    ]


def same(found: list[tuple], expected: list[tuple]) -> bool:
    """Equal names and labels; numbers may differ by rounding, those of signals by that of
    float32.
    """
    if found and isinstance(found[0][2], np.ndarray):
        return len(found) == len(expected) and all(
            rate == wanted
            and (np.allclose(signal, row, rtol=1e-6, atol=1e-6 * max(np.abs(row).max(), 1e-9)))
            for (_, rate, signal), (_, wanted, row) in zip(found, expected, strict=True)
        )
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
    flipped = [
        verdict(original[:at] + bytes([original[at] ^ bit]) + original[at + 1 :])
        for at, bit in places
    ]
    assert (
        0 < sum(flipped) < len(flipped) / 2
    )  # other times of the marks are times too; the rest is refused
