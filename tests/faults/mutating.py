"""Reads one of our files over and over, each time mutated otherwise, under limits of time and
memory.

    python mutating.py KIND FOLDER NUMBER

FOLDER holds what :data:`KINDS` says; prints JSON: how many mutations were read, how many refused,
and what went wrong.
"""

from __future__ import annotations

import io
import json
import resource
import signal
import struct
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eegdm import artifacts
from eegdm.errors import UserError

SECONDS = 10
MEMORY = 2**30
"""Address space that a mutated file may cost beside what the process has after its imports."""
STRANGE = [
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"[]",
    b"{}",
    b'"',
    b"9" * 40,
    b"../../etc/passwd",
    b"/dev/zero",
    b"\\u0000",
    b"\xff\xfe",
    b"!!python/object/apply:os.system",
    b"\x00" * 8,
    b"\xff" * 8,
    struct.pack("<q", 10**12),
    struct.pack("<i", -1),
    b"<f8",
    b"|O",
    b"True",
    b"9999999999999",
]


class Kind(NamedTuple):
    """A kind of file: where it lies, how it is read, and what it says by a reader of its own."""

    file: str
    read: Callable[[Path], Any]
    oracle: Callable[[bytes, Path], Any]  # raises where the file says nothing valid


# -------------------------------------------------------------------------------------- mutations


def operations() -> st.SearchStrategy[list[tuple[str, float, int]]]:
    """One to three changes: what, where (as a share of the length), and how."""
    kinds = st.sampled_from(["flip", "cut", "drop", "twice", "strange", "byte"])
    return st.lists(
        st.tuples(kinds, st.floats(0, 1), st.integers(0, 2**16 - 1)), min_size=1, max_size=3
    )


def mutated(data: bytes, changes: list[tuple[str, float, int]]) -> bytes:
    for what, where, how in changes:
        at = min(int(where * len(data)), max(len(data) - 1, 0))
        if what == "flip" and data:
            data = data[:at] + bytes([data[at] ^ (1 << how % 8)]) + data[at + 1 :]
        elif what == "byte" and data:
            data = data[:at] + bytes([how % 256]) + data[at + 1 :]
        elif what == "cut":
            data = data[:at]
        elif what == "drop":
            data = data[:at] + data[at + 1 + how % 64 :]
        elif what == "twice":
            data = data[: at + how % 64] + data[at:]
        elif what == "strange":
            word = STRANGE[how % len(STRANGE)]
            data = data[:at] + word + data[at + len(word) * (how // 256 % 2) :]
    return data


# ---------------------------------------------------------------------------- readers and oracles


def read_manifest(folder: Path) -> Any:
    found = artifacts.open_artifact(folder, "latents")
    return [
        found.config,
        found.inputs,
        found.fingerprint,
        found.files,
        found.summary,
        found.version,
    ]


def oracle_manifest(data: bytes, folder: Path) -> Any:
    about = json.loads(data.decode("utf-8"))
    assert (
        about["kind"] == "latents"
        and type(about["format"]) in (int, bool)
        and about["format"] <= artifacts.FORMAT
    )
    for name, kind in {
        "config": dict,
        "inputs": dict,
        "fingerprint": str,
        "files": dict,
        "summary": dict,
        "version": str,
    }.items():
        assert isinstance(about[name], kind)
    for name, entry in about["files"].items():
        assert (
            ".." not in name.split("/")
            and not name.startswith("/")
            and (folder / name).stat().st_size == entry["bytes"]
        )
    return [about[k] for k in ("config", "inputs", "fingerprint", "files", "summary", "version")]


def with_size(folder: Path, name: str) -> None:
    """Let the manifest say what size the mutated file has, as a stranger would; else every other
    length were refused at once.
    """
    path = folder / artifacts.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"][name]["bytes"] = (folder / name).stat().st_size
    path.write_text(json.dumps(manifest))


def read_recordings(folder: Path) -> Any:
    from eegdm.data.recordings import Recordings

    with_size(folder, "recordings.parquet")
    found = Recordings(folder)
    assert found.sfreq > 0 and found.ch_names
    return found.table.to_json()


def oracle_parquet(data: bytes, folder: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))
    for name, kind in {
        "recording": "string",
        "status": "string",
        "reason": "string",
        "signal": "string",
        "subject": "string",
        "sfreq": "double",
        "n_times": "int64",
        "ch_names": "list<element: string>",
        "channel_ids": "list<element: int64>",
    }.items():
        assert (
            str(table.schema.field(name).type).replace("large_", "").replace("item:", "element:")
            == kind
        ), table.schema.field(name)
    rows = [row for row in table.to_pylist() if row["status"] == "ok"]
    for row in rows:
        assert (
            row["recording"]
            and row["sfreq"] > 0
            and row["n_times"] > 0
            and len(row["ch_names"]) == len(row["channel_ids"]) > 0
        )
        assert ".." not in row["signal"].split("/") and not row["signal"].startswith("/")
    assert (
        rows
        and len({row["recording"] for row in rows}) == len(rows)
        and len({row["sfreq"] for row in rows}) == 1
    )
    every = table.to_pandas()
    assert isinstance(table, pa.Table)
    return every[every.status == "ok"].reset_index(drop=True).to_json()


def read_signal(folder: Path) -> Any:
    from eegdm.data import recordings

    recordings._map_signal.cache_clear()
    name = next(iter((folder / "signals").iterdir())).name
    with_size(folder, f"signals/{name}")
    found = recordings.Recordings(folder)
    (recording,) = found.table.recording[found.table.signal == f"signals/{name}"]
    return np.array(found.signal(recording)).tobytes()


def oracle_signal(data: bytes, folder: Path) -> Any:
    import pandas as pd

    row = pd.read_parquet(folder / "recordings.parquet").iloc[0]
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    shape, fortran, dtype = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version](stream)
    assert shape == (len(row.ch_names), row.n_times) and dtype == np.dtype("float32")
    values = np.frombuffer(data[stream.tell() : stream.tell() + 4 * shape[0] * shape[1]], dtype)
    return np.array(values.reshape(shape, order="F" if fortran else "C")).tobytes()


def read_tokens(folder: Path) -> Any:
    from eegdm.data import tokens

    tokens._map_shard.cache_clear()
    with_size(folder, "shards/shard-00000.npy")
    store = tokens.TokenStore(folder)
    return [said_of(store.read(("a", start, 1000))) for start in (0, 1000)]


def said_of(values: np.ndarray) -> bytes:
    """The numbers; of those that are none, it is open which bits they keep in another format."""
    return np.nan_to_num(values, nan=7.0, posinf=np.inf, neginf=-np.inf).tobytes()


def oracle_tokens(data: bytes, folder: Path) -> Any:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    shape, fortran, dtype = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version](stream)
    assert len(shape) == 5 and shape[0] == 4 and dtype == np.dtype("float16")
    values = np.frombuffer(
        data[stream.tell() : stream.tell() + 2 * int(np.prod(shape))], dtype
    ).reshape(shape, order="CF"[fortran])
    return [said_of(rows.astype(np.float32)) for rows in (values[:2], values[2:])]


def read_model(folder: Path) -> Any:
    import eegdm

    model = eegdm.load(folder)
    return [
        model.config,
        {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()},
    ]


def oracle_config(data: bytes, folder: Path) -> Any:
    from safetensors.numpy import load_file

    about = json.loads(data.decode("utf-8"))
    assert about["model"] == "SSMDP" and about["format"] <= artifacts.FORMAT
    original = json.loads((folder / "original.json").read_text())["config"]
    assert about["config"].keys() <= original.keys()
    config = original | about["config"]
    assert config == original
    return [
        config,
        {
            name: tensor.tobytes()
            for name, tensor in load_file(folder / "model.safetensors").items()
        },
    ]


def oracle_safetensors(data: bytes, folder: Path) -> Any:
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length].decode("utf-8"))
    wanted = json.loads((folder / "header.json").read_text())
    header.pop("__metadata__", None)
    assert {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()} == {
        k: tuple(v) for k, v in wanted.items()
    }
    tensors, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        assert (
            start == end
            and stop - start == 4 * int(np.prod(entry["shape"]))
            and 8 + length + stop <= len(data)
        )
        tensors[name], end = data[8 + length + start : 8 + length + stop], stop
        assert np.isfinite(np.frombuffer(tensors[name], np.float32)).all()
    assert 8 + length + end == len(data)
    return tensors


def read_tensors(folder: Path) -> Any:
    return read_model(folder)[1]


def read_checkpoint(folder: Path) -> Any:
    from eegdm.training import AtomicCheckpoints

    return (
        AtomicCheckpoints()
        .load_checkpoint(folder / "last.ckpt")["state_dict"]["weight"]
        .numpy()
        .tobytes()
    )


def oracle_unchanged(data: bytes, folder: Path) -> Any:
    """A zip's checksums betray every change of its members; what is read must be what was
    written.
    """
    return np.arange(256, dtype=np.float32).tobytes()


def read_yaml(folder: Path) -> Any:
    from eegdm.compose import compose

    text = (folder / "map.yaml").read_bytes().decode("utf-8", "surrogateescape")
    return compose(
        ["corpus=folder", "windows.split=subject", f"corpus.label_map={text}"]
    ).corpus.label_map


def oracle_yaml(data: bytes, folder: Path) -> Any:
    import yaml

    found = yaml.load(data.decode("utf-8"), yaml.SafeLoader)
    assert isinstance(found, dict)
    assert all(not isinstance(part, list | dict | tuple) for pair in found.items() for part in pair)
    return {str(key): str(value) for key, value in found.items()}


KINDS = {
    "manifest": Kind("manifest.json", read_manifest, oracle_manifest),
    "parquet": Kind("recordings.parquet", read_recordings, oracle_parquet),
    "signal": Kind("signals", read_signal, oracle_signal),
    "tokens": Kind("shards", read_tokens, oracle_tokens),
    "config": Kind("config.json", read_model, oracle_config),
    "safetensors": Kind("model.safetensors", read_tensors, oracle_safetensors),
    "checkpoint": Kind("last.ckpt", read_checkpoint, oracle_unchanged),
    "yaml": Kind("map.yaml", read_yaml, oracle_yaml),
}


# ---------------------------------------------------------------------------------------- the run


def main(kind: Kind, folder: Path, number: int) -> dict[str, Any]:
    path = folder / kind.file
    path = next(iter(path.iterdir())) if path.is_dir() else path
    original = path.read_bytes()
    expected = kind.oracle(original, folder)
    assert kind.read(folder) == expected  # imports all it needs, too
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, resource.RLIM_INFINITY))
    count, faults = Counter(), []  # type: ignore[var-annotated]

    @settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operations())
    def attempt(changes: list[tuple[str, float, int]]) -> None:
        data = mutated(original, changes)
        path.write_bytes(data)
        try:
            said = kind.oracle(data, folder)
        except Exception:
            said = None
        signal.alarm(SECONDS)
        try:
            found = kind.read(folder)
            count["read"] += 1
            if found != said:
                faults.append(
                    ["read as something else", repr(changes), repr(found)[:300], repr(said)[:300]]
                )
        except UserError as error:
            count["refused"] += 1
            if said is not None and data != original and kind.file != "last.ckpt":
                faults.append(["refused", repr(changes), str(error)[:300]])
            if "\n" in str(error) or len(str(error)) > 2000:
                faults.append(["not one line", repr(changes), str(error)[:300]])
        except BaseException as error:
            count["failed"] += 1
            faults.append([type(error).__name__, repr(changes), str(error)[:300]])
        finally:
            signal.alarm(0)

    attempt()
    path.write_bytes(original)
    return {"count": count, "faults": faults}


def too_long(*_: Any) -> None:
    raise TimeoutError(f"took more than {SECONDS} s")


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, too_long)
    print(json.dumps(main(KINDS[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3]))))
