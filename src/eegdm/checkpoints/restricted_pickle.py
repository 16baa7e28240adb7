"""Reads the pickle inside a torch checkpoint as data: nothing that it names is imported, looked up
or called.

A pickle is a program for a small stack machine. :func:`read_pickle` runs that program over inert
values: the instructions a checkpoint needs and no others, names from a short list and no others,
and a name is only ever a :class:`Reference`. The three places where Python's own machine runs
foreign code (a global, a call, a state that is set) are table look-ups here.

The machine is kept by hand, since a subclass of ``pickle.Unpickler`` chooses what a name becomes,
but not which instructions run. CPython's own machine ends the process with a segmentation fault
where a deeply nested tuple is a key, and takes 2 GiB of memory for nine bytes that name a high slot
of its memo.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

MAX_PICKLE_BYTES = 16 * 2**20
"""A published full-size file holds under 1 MiB; the limit bounds what a hostile one can make us
build.
"""
MAX_AXES = 8

STORAGE_ITEM_BYTES = {
    "torch.FloatStorage": 4,
    "torch.DoubleStorage": 8,
    "torch.HalfStorage": 2,
    "torch.BFloat16Storage": 2,
    "torch.LongStorage": 8,
    "torch.IntStorage": 4,
    "torch.BoolStorage": 1,
}
_TYPE_NAMES = {
    "builtins.dict",
    "builtins.list",
    "builtins.int",
    "builtins.str",
    "builtins.float",
    "builtins.bool",
    "typing.Any",
}
_OBJECTS = {
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.BooleanNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.StringNode",
}
_FUNCTION_OF_THE_ORIGINAL = re.compile(r"src\.util\.[A-Za-z_]\w*", re.ASCII)
_PYTHON_2_NAMES = {"__builtin__.long": "builtins.int", "__builtin__.unicode": "builtins.str"}


class PickleFault(ValueError):
    """The pickle is damaged, or asks for something that no checkpoint needs."""


class Reference(NamedTuple):
    """A listed name that the pickle mentions: a word, nothing behind it."""

    name: str


@dataclass(eq=False, repr=False)
class Instance:
    """An object of a listed class: its state, without behaviour. It may contain itself, as
    omegaconf's nodes do.
    """

    name: str
    state: Any = None


class Storage(NamedTuple):
    """The raw numbers of one or more tensors: entry ``data/<key>`` of the archive."""

    kind: str
    key: str
    n_elements: int


class TensorHeader(NamedTuple):
    """Where a tensor lies in its storage, in elements; checked to lie inside."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_pickle(data: bytes, storage_bytes: Mapping[str, int]) -> Any:
    """Return what the pickle describes, made of dict, list, tuple, str, numbers and the four
    classes above.

    Args:
        data: the pickle, any protocol that torch writes.
        storage_bytes: size in bytes of every storage that the archive really has, by key.

    Raises:
        PickleFault: damaged, too large, or it names, calls or uses anything beyond the list; the
            message says what.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise PickleFault(
            f"its pickle has {len(data)} bytes, more than the {MAX_PICKLE_BYTES} that a checkpoint"
            " may need"
        )
    machine = _Machine(storage_bytes)
    try:
        # It ends after STOP, and raises where there is none.
        for opcode, argument, _ in pickletools.genops(data):
            machine.step(opcode.name, argument)
        return machine.pop()
    except PickleFault:
        raise
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise PickleFault(f"its pickle is damaged ({error})") from error


_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_TUPLE_LENGTHS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The stack machine of `pickletools`' documentation, cut down to what a checkpoint needs."""

    def __init__(self, storage_bytes: Mapping[str, int]) -> None:
        self.storage_bytes = storage_bytes
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in _TUPLE_LENGTHS:
            self.stack.append(tuple(reversed([self.pop() for _ in range(_TUPLE_LENGTHS[opcode])])))
        elif opcode in _HANDLERS:
            _HANDLERS[opcode](self, argument)
        else:
            raise PickleFault(
                f"its pickle uses the instruction {opcode} ({_printable(str(argument))}), which no"
                " checkpoint needs"
            )

    def pop(self) -> Any:
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise PickleFault(
                f"its pickle changes a {type(self.stack[-1]).__name__} as if it were a"
                f" {kind.__name__}"
            )
        return self.stack[-1]

    def remember(self, slot: int | None) -> None:
        self.memo[len(self.memo) if slot is None else slot] = self.stack[-1]

    def name(self, module_and_name: str | None) -> None:
        if module_and_name is None:
            name, module = self.pop(), self.pop()
        else:
            module, _, name = module_and_name.partition(" ")
        self.stack.append(_reference(module, name))

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not _is_plain_key(key):
                raise PickleFault(f"its pickle uses a {type(key).__name__} as a key")
            target[key] = value

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Reference) or function.name not in _CALLS:
            called = (
                function.name if isinstance(function, Reference) else f"a {type(function).__name__}"
            )
            raise PickleFault(f"its pickle calls {called}, which is refused")
        self.stack.append(_CALLS[function.name](*arguments))

    def new(self) -> None:
        arguments, kind = self.pop(), self.pop()
        if not isinstance(kind, Reference) or kind.name not in _OBJECTS or arguments != ():
            raise PickleFault(
                "its pickle makes an object of"
                f" {kind.name if isinstance(kind, Reference) else type(kind).__name__}"
            )
        self.stack.append(Instance(kind.name))

    def set_state(self) -> None:
        state = self.pop()
        if isinstance(self.stack[-1], dict):
            return  # the version table that torch hangs on a state dict
        self.top(Instance).state = state

    def storage(self) -> None:
        tag, kind, key, _device, n_elements = self.pop()
        listed = isinstance(kind, Reference) and kind.name in STORAGE_ITEM_BYTES
        if tag != "storage" or not listed or not isinstance(key, str):
            raise PickleFault("its pickle refers to something that is not a tensor storage")
        declared = _natural_number(n_elements) * STORAGE_ITEM_BYTES[kind.name]
        present = self.storage_bytes.get(key)
        if declared != present:
            raise PickleFault(
                f"storage {key!r} should have {declared} bytes, the archive holds"
                f" {present or 'none'}"
            )
        self.stack.append(Storage(kind.name, key, n_elements))


_HANDLERS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "STOP": lambda machine, _: None,
    "MARK": lambda machine, _: machine.stack.append(_MARK),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.remember,
    "BINGET": lambda machine, slot: machine.stack.append(machine.memo[slot]),
    "LONG_BINGET": lambda machine, slot: machine.stack.append(machine.memo[slot]),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name,
    "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "APPEND": lambda machine, _: (value := machine.pop(), machine.top(list).append(value)),
    "APPENDS": lambda machine, _: (
        values := machine.pop_to_mark(),
        machine.top(list).extend(values),
    ),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.new(),
    "BUILD": lambda machine, _: machine.set_state(),
    "BINPERSID": lambda machine, _: machine.storage(),
}


def _reference(module: Any, name: Any) -> Reference:
    if not isinstance(module, str) or not isinstance(name, str):
        raise PickleFault("its pickle names something by other than text")
    full = f"{module}.{name}"
    full = _PYTHON_2_NAMES.get(full, full.replace("__builtin__.", "builtins.", 1))
    known = full in _TYPE_NAMES or full in _OBJECTS or full in _CALLS or full in STORAGE_ITEM_BYTES
    if known or _FUNCTION_OF_THE_ORIGINAL.fullmatch(full):
        return Reference(full)
    raise PickleFault(
        f"its pickle names {_printable(full)}, which no EEGDM checkpoint needs; nothing was run"
    )


def _printable(text: str) -> str:
    """Return foreign text fit for one line of a message."""
    return text[:200].encode("unicode_escape").decode()


def _is_plain_key(key: Any) -> bool:
    """Whether a key is a scalar or a flat tuple of them: hashing a deeply nested tuple would
    overflow the C stack.
    """
    scalar = str | int | float | None
    return isinstance(key, scalar) or (
        type(key) is tuple and all(isinstance(part, scalar) for part in key)
    )


def _natural_number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise PickleFault(
            "a tensor's size, stride or offset is"
            f" {value if type(value) is int else type(value).__name__}"
        )
    return value


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_flags: Any) -> TensorHeader:
    """Stand in for ``torch._utils._rebuild_tensor_v2``; refuse a tensor that reaches beyond its
    storage or repeats it.
    """
    axes = type(shape) is tuple and type(stride) is tuple and len(shape) == len(stride) <= MAX_AXES
    if not isinstance(storage, Storage) or not axes:
        raise PickleFault("its pickle describes a tensor wrongly")
    header = TensorHeader(
        storage,
        _natural_number(offset),
        tuple(map(_natural_number, shape)),
        tuple(map(_natural_number, stride)),
    )
    last = (
        offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if prod(shape)
        else offset - 1
    )
    if last >= storage.n_elements or prod(shape) > storage.n_elements:
        raise PickleFault(
            f"a tensor of shape {shape} at {offset} does not fit in its storage of"
            f" {storage.n_elements} numbers"
        )
    return header


def _parameter(tensor: Any, *_flags: Any) -> Any:
    return tensor


def _empty_dict(*arguments: Any) -> dict[Any, Any]:
    """Stand in for ``OrderedDict()`` and ``defaultdict(dict)``: torch and omegaconf fill them item
    by item afterwards.
    """
    if any(
        argument not in (Reference("builtins.dict"), Reference("builtins.list"))
        for argument in arguments
    ):
        raise PickleFault("its pickle makes a dictionary in an unusual way")
    return {}


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _empty_dict,
    "collections.defaultdict": _empty_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
