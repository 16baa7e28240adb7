"""Models as folders: `config.json`, `model.safetensors` and a card; written, and read back
strictly.

Folders come from strangers: before memory is taken, the shapes that `config.json` promises are
compared with those that the header of `model.safetensors` declares.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, cast

from eegdm import __version__
from eegdm.artifacts import atomic_path, read_json, write_json
from eegdm.errors import UserError, one_line
from eegdm.models.locate import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, ModelFiles, find_model, joined

if TYPE_CHECKING:
    from torch import Tensor, nn


CONFIG_FORMAT = 1
POPULATION = "population"
TYPICAL_SPREAD = "typical_spread_uv"
"""Median of the robust spreads of the training recordings, of a model that was shown them scaled by
theirs.
"""
PEOPLE = "people"
TEACHER = "teacher"
"""Fingerprint of the model whose tokens a student learned to predict; it did not learn to denoise.
"""
READING = ("diffusion", "signal", POPULATION, TYPICAL_SPREAD, PEOPLE, TEACHER)
"""What stands beside the settings and says how the weights are to be read, and from whom they
learned; it stays with a model that is saved again.
"""
MAX_CONFIG_BYTES = 2**20
MAX_NUMBER = 2**20
"""No setting of a model needs a larger number."""
_COUNTS_OF_MODULES = ("n_blocks", "depth")


class Pretrained:
    """Lets an `nn.Module` whose `config` holds its constructor's arguments be saved and loaded."""

    config: dict[str, Any]
    info: Mapping[str, Any] = MappingProxyType({})
    """What its folder or checkpoint says beside the settings (data, recipe, metrics, signal,
    diffusion, ...); set by loading.
    """

    def save_pretrained(
        self, folder: str | Path, card: str | None = None, info: dict[str, Any] | None = None
    ) -> Path:
        """Write `config.json`, `model.safetensors` (float32) and `README.md`: a folder ready for a
        hub.

        Args:
            folder: made if need be; files of the same names are replaced.
            card: text of the model card; None: one is written from `info`, see
                :func:`eegdm.models.card.model_card`.
            info: JSON-able facts beside the model, merged into `config.json`. How a loaded model's
                signals and diffusion were is kept unless they are named here.

        Returns:
            The folder.

        Raises:
            UserError: a weight is not finite, or `info` uses a name that `config.json` needs
                itself.
        """
        from safetensors.torch import save

        from eegdm.models.card import model_card

        kept = {name: self.info[name] for name in READING if name in self.info}
        folder, info = Path(folder), {**kept, **(info or {})}
        about = {
            "format": CONFIG_FORMAT,
            "model": type(self).__name__,
            "eegdm": __version__,
            "config": self.config,
        }
        if taken := about.keys() & info.keys():
            raise UserError(
                f"{folder}: info can't name {joined(taken)}, which {CONFIG_FILE} uses itself"
            )
        tensors = {
            name: tensor.detach().float().contiguous().cpu()
            for name, tensor in cast("nn.Module", self).state_dict().items()
        }
        refuse_not_finite(folder, tensors)
        with atomic_path(folder / WEIGHTS_FILE) as temporary:
            # Not by save_file, whose error for a full disk does not say so
            temporary.write_bytes(save(tensors, metadata={"format": "pt"}))
        with atomic_path(folder / CARD_FILE) as temporary:
            temporary.write_text(card or model_card(self, info), encoding="utf-8")
        # Last: until then the folder does not pass for a model
        write_json(folder / CONFIG_FILE, {**about, **info})
        return folder

    @classmethod
    def from_pretrained(cls, path_or_hub_id: str | Path, revision: str | None = None) -> Self:
        """Return the model that a folder or a hub repository holds, in eval mode on the CPU.

        Args:
            path_or_hub_id: a folder, or `owner/name` on the Hugging Face hub.
            revision: branch, tag or commit on the hub.

        Raises:
            UserError: nothing there, another model, a newer format, or config and weights do not
                fit each other.
        """
        files = find_model(path_or_hub_id, revision=revision)
        if isinstance(files, Path):
            raise UserError(
                f"{files}: is a published checkpoint; read it with eegdm.load, or turn it into a"
                " folder with `eegdm convert`"
            )
        return read_model(files, {cls.__name__: cls})


def weights_fingerprint(model: nn.Module) -> str:
    """Return 16 hex digits that identify the weights of a model, bit for bit."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def read_model(files: ModelFiles, classes: Mapping[str, type], compat: str | None = None) -> Any:
    """Build the model of two files and fill it.

    Args:
        files: `config.json` and `model.safetensors`.
        classes: the classes that `config.json` may name.
        compat: replaces the stored setting; None keeps it.

    Raises:
        UserError: another class, a newer format, or config and weights do not fit each other.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    model_class, config, info = _read_config(files.config, classes)
    config = with_compat(files.config, model_class, config, compat)
    try:
        # The header first: files come from strangers, and nothing takes memory before shapes agree
        with safe_open(files.weights, "pt") as header:
            stored = {name: tuple(header.get_slice(name).get_shape()) for name in header.keys()}  # noqa: SIM118
        model = build_empty(files.config, model_class, config, len(stored))
        refuse_other_tensors(files.weights, shapes(model), stored)
        tensors = load_file(files.weights)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{files.weights}: can't be read as safetensors ({error}); it is missing or damaged"
        ) from error
    fill(files.weights, model, tensors)
    model.info = info
    return model


def _read_config(
    path: Path, classes: Mapping[str, type]
) -> tuple[type, dict[str, Any], dict[str, Any]]:
    """Return a model's class, its settings, and what stands beside them."""
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise UserError(
            f"{path}: larger than {MAX_CONFIG_BYTES >> 20} MiB, not a configuration that eegdm"
            " wrote"
        )
    try:
        about = read_json(path)
    except UserError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"{path}: can't be read as JSON ({error})") from error
    if (
        not isinstance(about, dict)
        or not isinstance(about.get("format"), int)
        or not isinstance(about.get("config"), dict)
    ):
        raise UserError(f"{path}: is not a configuration of eegdm: format and config are missing")
    if about["format"] > CONFIG_FORMAT:
        raise UserError(
            f"{path}: written in format {about['format']} by eegdm {about.get('eegdm')}; "
            f"this version reads up to {CONFIG_FORMAT}: upgrade eegdm"
        )
    name = str(about.get("model"))
    if name not in classes:
        raise UserError(
            f"{path}: holds a model of class {name[:80]!r}, not {joined(classes)}; eegdm.load reads"
            " any model that eegdm wrote"
        )
    beside = {
        key: value
        for key, value in about.items()
        if key not in ("format", "model", "eegdm", "config")
    }
    return classes[name], about["config"], beside


# -------------------------------------------- filling a model from a file, ours or the original's


def with_compat(
    source: Path, model_class: type, config: dict[str, Any], compat: str | None
) -> dict[str, Any]:
    """Return the settings with the caller's choice of `compat`, if there is one."""
    if compat is None:
        return config
    if compat != "published":
        raise UserError(f"compat={compat!r} is unknown; leave it out, or say published")
    if "compat" not in inspect.signature(model_class).parameters:
        raise UserError(
            f"{source}: holds a {model_class.__name__}, which has no compat setting; leave"
            " compat= out"
        )
    return {**config, "compat": compat}


def build_empty(source: Path, model_class: type, config: dict[str, Any], n_tensors: int) -> Any:
    """Return a model of the class that takes no memory for its numbers, to compare it with a file
    of `n_tensors` tensors.
    """
    import torch

    if unknown := config.keys() - inspect.signature(model_class).parameters.keys():
        raise UserError(
            f"{source}: has unknown settings for {model_class.__name__}: {joined(unknown)}; a newer"
            " eegdm may know them"
        )
    _refuse_numbers(source, config, n_tensors)
    try:
        # On "meta", tensors have a shape and take no memory
        with torch.device("meta"), _not_drawn():
            return model_class(**config)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    except (
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        AssertionError,
        ArithmeticError,
        RuntimeError,
    ) as error:
        raise UserError(
            f"{source}: its settings make no {model_class.__name__} ({one_line(error)})"
        ) from error


def _not_drawn() -> Any:
    """Return a context in which no normal numbers are drawn: on the meta device torch would load
    its compiler for it, 1 s.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class NotDrawn(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func in (torch.Tensor.normal_, torch.nn.init.normal_, torch.nn.init.kaiming_normal_):
                return args[0] if args else kwargs["tensor"]
            return (torch.empty if func is torch.randn else func)(*args, **kwargs or {})

    return NotDrawn()


def _refuse_numbers(source: Path, config: dict[str, Any], n_tensors: int) -> None:
    """Refuse numbers that would keep a constructor busy before a shape can be compared."""
    for name, number in _numbers(config):
        # Each module has a tensor at least: a file of ten tensors has no thousand blocks
        maximum = n_tensors if name in _COUNTS_OF_MODULES else MAX_NUMBER
        minimum = 1 if name == "sfreq" else -MAX_NUMBER
        if not math.isfinite(number) or not minimum <= number <= maximum:
            raise UserError(
                f"{source}: {name}={number} is not within {minimum}..{maximum}, the limits for a"
                f" file of {n_tensors} tensors"
            )


def _numbers(config: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of nested settings with its key."""
    if isinstance(config, dict):
        for key, value in config.items():
            yield from _numbers(value, key)
    elif isinstance(config, int | float):
        yield name, config


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return name and shape of everything that a model stores."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def refuse_other_tensors(
    source: Path, wanted: dict[str, tuple[int, ...]], stored: dict[str, tuple[int, ...]]
) -> None:
    """Refuse a file whose tensors are not exactly the wanted ones, listing what is missing, left
    over or of another shape.
    """
    common = wanted.keys() & stored.keys()
    reshaped = {
        f"{name} {stored[name]}, not {wanted[name]}"
        for name in common
        if stored[name] != wanted[name]
    }
    faults = {
        "lacks": wanted.keys() - stored.keys(),
        "has left over": stored.keys() - wanted.keys(),
        "has other shapes": reshaped,
    }
    if any(faults.values()):
        all_faults = "; it ".join(
            f"{fault} {joined(names)}" for fault, names in faults.items() if names
        )
        raise UserError(
            f"{source}: its tensors do not fit the model that its settings describe: it"
            f" {all_faults}"
        )


def fill(source: Path, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give an empty model its numbers, which must be finite float32, and put it in eval mode."""
    import torch

    if other := {
        f"{name} ({tensor.dtype})"
        for name, tensor in tensors.items()
        if tensor.dtype != torch.float32
    }:
        raise UserError(f"{source}: holds weights that are not float32: {joined(other)}")
    refuse_not_finite(source, tensors)
    # Assigned, not copied: the empty model's tensors have no memory to copy to
    model.load_state_dict(tensors, assign=True)
    model.eval()


def refuse_not_finite(source: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse weights that contain NaN or infinity."""
    if broken := [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]:
        raise UserError(
            f"{source}: has weights that are NaN or infinite: {joined(broken)}; the training"
            " diverged or the file is damaged"
        )
