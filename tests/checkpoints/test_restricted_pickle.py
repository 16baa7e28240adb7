"""Poisoned checkpoints: refused by the name of what they call, before anything runs."""

from __future__ import annotations

import builtins
import importlib
import io
import os
import pickle
import random
import tracemalloc
import zipfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from original_files import golden, golden_content, pretend_original_code, refusal, save

import eegdm
from eegdm.checkpoints.restricted_pickle import MAX_PICKLE_BYTES, PickleFault, read_pickle
from eegdm.checkpoints.torch_archive import plain_settings


@pytest.fixture(autouse=True)
def original_code(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_original_code(monkeypatch)


class Poison:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call

    def __call__(self) -> None:
        """Pickle writes only calls of what is callable, as the result of a nested call may be."""


def touching(canary: Path) -> Poison:
    return Poison(os.system, f"touch {canary}")


LIVE = {
    "os.system": (touching, "posix.system"),
    "eval": (
        lambda canary: Poison(builtins.eval, f"open({str(canary)!r}, 'w').close()"),
        "builtins.eval",
    ),
    "exec": (
        lambda canary: Poison(builtins.exec, f"open({str(canary)!r}, 'w').close()"),
        "builtins.exec",
    ),
    "nested": (
        lambda canary: Poison(
            Poison(getattr, Poison(importlib.import_module, "os"), "system"), f"touch {canary}"
        ),
        "builtins.getattr",
    ),
    "in a key": (lambda canary: {("a", touching(canary)): 1}, "posix.system"),
    "in an object's state": (
        lambda canary: OmegaConf.create({"x": touching(canary)}, flags={"allow_objects": True}),
        "posix.system",
    ),
    "open": (lambda canary: Poison(open, str(canary), "w"), "io.open"),
}
HARMLESS = {
    "importlib": (Poison(importlib.import_module, "this"), "importlib.import_module"),
    "factory": (defaultdict(os.getcwd), "posix.getcwd"),
    "torch, beyond the list": (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    "torch function": (Poison(torch.nn.functional.relu, 3), "torch.nn.functional.relu"),
    "sparse tensor": (torch.eye(2).to_sparse(), "torch._utils._rebuild_sparse_tensor"),
    "collections, beyond the list": (Counter("abc"), "collections.Counter"),
    "path": (Path("x"), "pathlib.PosixPath"),
    "omegaconf, beyond the list": (Poison(OmegaConf.create, "{}"), "builtins.getattr"),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("case", LIVE)
def test_poison_is_refused_by_name_and_nothing_runs(
    case: str, protocol: int, tmp_path: Path
) -> None:
    make, name = LIVE[case]
    canary, path = tmp_path / "canary", tmp_path / "poison.ckpt"
    torch.save(
        {**golden_content("backbone"), "callbacks": make(canary)}, path, pickle_protocol=protocol
    )
    refusal(path, name)
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists(), "the poison is real: an ordinary reader falls for it"


@pytest.mark.parametrize("case", HARMLESS)
def test_names_beyond_the_list_are_refused(case: str, tmp_path: Path) -> None:
    found, name = HARMLESS[case]
    refusal(save({**golden_content("backbone"), "callbacks": found}, tmp_path), name)


TRICKS = {
    b"cos\nsystem\n(S'true'\ntR.": "os.system",
    b"(cos\nsystem\no.": "os.system",
    b"(ios\nsystem\n.": "os system",
    b"\x80\x02ccollections\nOrderedDict\nq\x00cos\nsystem\nq\x00h\x00.": "os.system",
    b"\x80\x02csrc.util\ninv_staged_mu_law\nq\x00h\x00)R.": "calls src.util.inv_staged_mu_law",
    b"\x80\x02csrc.util\nx.__globals__\n.": "src.util.x.__globals__",
    b"\x80\x02csrc.other\nrun\n.": "src.other.run",
    b"\x80\x02ccollections\nOrderedDict\nq\x00X\x01\x00\x00\x00aq\x00h\x00)R.": "calls a str",
    b"\x80\x04\x8c\x0bcollections\x8c\x20OrderedDict.__init__.__globals__\x93.": (
        "OrderedDict.__init__.__globals__"
    ),
    b"\x80\x04\x8c\x0ctorch._utils\x8c\x0fimportlib.sys.x\x93.": "importlib.sys.x",
    b"\x80\x04]\x8c\x01x\x93.": "other than text",
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.": "changes a Reference",
    b"\x80\x02ccollections\nOrderedDict\n)R)R.": "calls a dict",
    b"\x80\x02ccollections\nOrderedDict\n)\x81.": "makes an object of collections.OrderedDict",
    b"\x80\x02comegaconf.dictconfig\nDictConfig\nK\x01\x85\x81.": "makes an object of omegaconf",
    b"\x80\x02comegaconf.dictconfig\nDictConfig\n)R.": "calls omegaconf.dictconfig.DictConfig",
    b"\x80\x02ccollections\ndefaultdict\ncsrc.util\nf\n\x85R.": "unusual way",
    b"\x80\x02c__builtin__\ndict\n)R.": "calls builtins.dict",
    b"\x80\x02\x82\x01.": "EXT1",
    b"\x80\x05\x97.": "NEXT_BUFFER",
    b"\x80\x02X\x01\x00\x00\x00aQ.": "damaged",
    b"\x80\x02}X\x01\x00\x00\x00aK\x01s": "damaged",
    b"\x80\x02}]K\x01s.": "as a key",
    b"\x80\x02": "damaged",
    b"": "damaged",
    b"\xff\xfe": "damaged",
    b"\x80\x02c\x1b[2Jx\nsystem\n.": "\\x1b[2Jx.system",
}


@pytest.mark.parametrize("pickled", TRICKS)
def test_tricks_of_the_stack_machine_are_refused(pickled: bytes) -> None:
    with pytest.raises(PickleFault) as caught:
        read_pickle(pickled, {})
    assert TRICKS[pickled] in str(caught.value)


def test_what_ordinary_pickles_hold_is_read_as_pickle_reads_it() -> None:
    scalars = [1, 2.5, -3, 2**40, None, True, "é", "x" * 300]
    content = {
        "a": [*scalars, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "b": {"c": []},
        ("k",): {},
        7: 8,
    }
    content["again"] = content["a"]
    for protocol in (2, 3, 4, 5):
        found = read_pickle(pickle.dumps(content, protocol=protocol), {})
        assert found == content and found["again"] is found["a"]


# -------------------------------------------------------------------------------------- resources


def test_hostile_pickles_take_little_memory() -> None:
    deep = b"\x80\x02})" + b"\x85" * 300_000 + b"K\x01s."
    with pytest.raises(PickleFault, match="as a key"):
        read_pickle(deep, {})
    tracemalloc.start()
    assert read_pickle(b"\x80\x02}r\xff\xff\xff\x7f.", {}) == {}
    with pytest.raises(PickleFault, match="more than"):
        read_pickle(b"\x80" * (MAX_PICKLE_BYTES + 1), {})
    with pytest.raises(PickleFault, match="damaged"):
        read_pickle(b"\x80\x02X\xff\xff\xff\x7fa.", {})
    assert tracemalloc.get_traced_memory()[1] < 4 * MAX_PICKLE_BYTES
    tracemalloc.stop()


def test_settings_without_end_are_refused() -> None:
    doubling: list[Any] = []
    for _ in range(60):
        doubling = [doubling, doubling]
    circle: list[Any] = []
    circle.append(circle)
    wide = [[0] * 1000] * 1000
    for endless in (doubling, circle, wide):
        with pytest.raises(PickleFault, match="without end"):
            plain_settings(endless)


class StoredTensor:
    """Pickles as torch writes a tensor: a call of `_rebuild_tensor_v2` on a storage of the
    archive.
    """

    def __init__(
        self,
        offset: int,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        n_elements: int = 12,
        key: str = "0",
    ) -> None:
        storage = StoredTensor.Storage("storage", torch.FloatStorage, key, "cpu", n_elements)
        self.arguments = (storage, offset, shape, stride, False, OrderedDict())

    class Storage(tuple):
        def __new__(cls, *parts: Any) -> StoredTensor.Storage:
            return super().__new__(cls, parts)

    class Pickler(pickle.Pickler):
        def persistent_id(self, found: Any) -> Any:
            return tuple(found) if isinstance(found, StoredTensor.Storage) else None

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self.arguments

    def read(self) -> Any:
        stream = io.BytesIO()
        StoredTensor.Pickler(stream, protocol=2).dump(self)
        return read_pickle(stream.getvalue(), {"0": 48})


def test_tensors_inside_their_storage_are_read() -> None:
    header = StoredTensor(2, (2, 3), (5, 1)).read()
    assert (header.offset, header.shape, header.stride, header.storage.n_elements) == (
        2,
        (2, 3),
        (5, 1),
        12,
    )
    assert StoredTensor(0, (), ()).read().shape == ()


@pytest.mark.parametrize(
    "tensor",
    [
        StoredTensor(0, (13,), (1,)),
        StoredTensor(7, (2, 3), (5, 1)),
        StoredTensor(12, (), ()),
        StoredTensor(-1, (2,), (1,)),
        StoredTensor(0, (2,), (-1,)),
        StoredTensor(0, (10**6, 10**6), (0, 0)),
        StoredTensor(0, (10**12,), (1,)),
        StoredTensor(0, (10**12,), (1,), n_elements=10**12),
        StoredTensor(0, (2,), (1,), n_elements=11),
        StoredTensor(0, (2,), (1,), key="1"),
        StoredTensor(0, (2,), (1,), key="../data.pkl"),
        StoredTensor(0, (2, 2), (1,)),
        StoredTensor(0, (1,) * 1000, (1,) * 1000),
        StoredTensor(0, (2.0,), (1,)),
        StoredTensor(0, [2], [1]),
    ],
)
def test_tensors_beyond_their_storage_are_refused(tensor: StoredTensor) -> None:
    with pytest.raises(PickleFault):
        tensor.read()


# --------------------------------------------------------------------------------------- archives


def rewrite(folder: Path, change: Any, compression: int = zipfile.ZIP_STORED) -> Path:
    """Copy the golden backbone's archive; `change` gets the entries and may alter them."""
    with zipfile.ZipFile(golden("backbone")) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    change(entries)
    with zipfile.ZipFile(folder / "x.ckpt", "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return folder / "x.ckpt"


def test_only_archives_as_torch_writes_them_are_read(tmp_path: Path) -> None:
    eegdm.load(rewrite(tmp_path, lambda entries: None))
    refusal(rewrite(tmp_path, lambda entries: None, zipfile.ZIP_DEFLATED), "compressed")
    refusal(rewrite(tmp_path, lambda entries: entries.update({"b/data.pkl": b""})), "2 entries")
    refusal(rewrite(tmp_path, lambda entries: entries.pop("archive/data.pkl")), "0 entries")
    refusal(
        rewrite(tmp_path, lambda entries: entries.update({"archive/byteorder": b"big"})),
        "big-endian",
    )
    refusal(rewrite(tmp_path, lambda entries: entries.pop("archive/data/7")), "storage '7'")
    refusal(
        rewrite(tmp_path, lambda entries: entries.update({"archive/data/7": b"1234"})),
        "storage '7'",
    )


def test_an_entry_that_claims_more_bytes_than_the_file_has_is_refused(tmp_path: Path) -> None:
    path = rewrite(tmp_path, lambda entries: None)
    raw = bytearray(path.read_bytes())
    place = raw.rindex(b"archive/data/7") - 46  # the central directory's record of that entry
    raw[place + 20 : place + 28] = (2**31).to_bytes(4, "little") * 2
    path.write_bytes(raw)
    refusal(path, "more bytes than the file has")


def test_overlapping_tensors_are_refused(tmp_path: Path) -> None:
    content = golden_content("backbone")
    shared = torch.zeros(10_000)
    content["state_dict"] = {
        key: (
            shared.as_strided(value.shape, value.stride(), index)
            if value.is_floating_point()
            else value
        )
        for index, (key, value) in enumerate(content["state_dict"].items())
    }
    for name in ("optimizer_states", "callbacks", "loops"):
        content.pop(name)
    refusal(save(content, tmp_path), "overlap")


def test_flipped_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(golden("backbone")) as archive:
        pickled = archive.read("archive/data.pkl")
        storages = {
            entry.filename.removeprefix("archive/data/"): entry.file_size
            for entry in archive.infolist()
        }
    dice = random.Random(0)
    outcomes = Counter()
    for _ in range(100):
        flipped = bytearray(pickled)
        for _ in range(dice.choice([1, 3, 30])):
            flipped[dice.randrange(len(flipped))] = dice.randrange(256)
        try:
            read_pickle(bytes(flipped), storages)
            outcomes["read"] += 1
        except PickleFault:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 20 and outcomes["read"] > 5
