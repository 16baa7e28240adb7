"""`eegdm.load` and `eegdm.convert`: a trained model from any source, ours or published."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from eegdm.artifacts import make_folder, storage_faults
from eegdm.errors import UserError
from eegdm.models.locate import find_model, is_packaged
from eegdm.models.pretrained import read_model

if TYPE_CHECKING:
    from eegdm.models.backbone import SSMDP
    from eegdm.models.eegdm import EEGDM

MODELS = {
    "SSMDP": "eegdm.models.backbone",
    "LatentFusionTransformer": "eegdm.models.fusion",
    "EEGDM": "eegdm.models.eegdm",
}
"""The classes that a folder may name, and the module of each; torch loads when one is needed."""


def load(
    path_or_hub_id: str | Path,
    filename: str | None = None,
    weights: str = "ema",
    compat: str | None = None,
    revision: str | None = None,
) -> SSMDP | EEGDM:
    """Return a trained model, in eval mode on the CPU: from a folder of ours, a published `.ckpt`,
    or a repository on the hub.

    Args:
        path_or_hub_id: a folder, a file, or `owner/name` on the Hugging Face hub (`HF_ENDPOINT` and
            the offline cache are honoured). What exists on disk is never looked for on the hub.
            `owner/name@revision:file` names the next two as well, wherever a model is asked for.
        filename: which file of the folder or repository, where it holds several.
        weights: of a published checkpoint: "ema" or "online".
        compat: "published" repeats the published code's errors, see `docs/deviations.md`; the
            published CHB-MIT classifier was trained with them.
        revision: branch, tag or commit on the hub; None: its newest.

    Returns:
        A backbone or a classifier; its ``info`` is what the file says beside the settings.

    Raises:
        UserError: one sentence that says what was found, what is allowed and what to do.
    """
    files = find_model(path_or_hub_id, filename, revision)
    if isinstance(files, Path):
        from eegdm.checkpoints.published import read_original

        model, info = read_original(files, weights, compat)
        model.info = info
        return model
    if weights != "ema":
        raise UserError(
            f"{files.config}: holds one set of weights; weights={weights} is a choice for published"
            " checkpoints"
        )
    return read_model(files, _classes(), compat)


def load_model(model: SSMDP | EEGDM | str | Path) -> SSMDP | EEGDM:
    """Return a backbone or a classifier; a loaded one is taken as it is, others as :func:`load`
    reads them.

    Raises:
        UserError: it is another model, or what :func:`load` raises.
    """
    from eegdm.models.backbone import SSMDP
    from eegdm.models.eegdm import EEGDM

    loaded = load(model) if isinstance(model, str | Path) else model
    if not isinstance(loaded, SSMDP | EEGDM):
        where = f"{model}: is" if isinstance(model, str | Path) else "model is"
        raise UserError(
            f"{where} a {type(loaded).__name__}; give a backbone or classifier, or its folder,"
            " checkpoint or hub id"
        )
    return loaded


def load_backbone(model: SSMDP | EEGDM | str | Path) -> SSMDP:
    """Return a backbone, or the one of a classifier, which shares its weights with it.

    Its ``info`` tells how its signals and its diffusion were, whichever it came from.

    Args:
        model: a loaded one, or what :func:`load` reads.

    Raises:
        UserError: as :func:`load_model`.
    """
    from eegdm.models.eegdm import backbone_of

    return backbone_of(load_model(model))


def load_classifier(model: SSMDP | EEGDM | str | Path) -> EEGDM:
    """Return a classifier.

    Args:
        model: a loaded one, or what :func:`load` reads.

    Raises:
        UserError: it is a backbone, or as :func:`load_model`.
    """
    from eegdm.models.backbone import SSMDP

    loaded = load_model(model)
    if not isinstance(loaded, SSMDP):
        return loaded
    name = model if isinstance(model, str | Path) else "DIR"
    what = name if isinstance(model, str | Path) else "the model"
    packaged = " of the package" if is_packaged(model) else ""
    raise UserError(
        f"{what}: is a backbone{packaged}; predict needs a classifier, such as a folder that"
        f" `eegdm finetune` wrote. To train one on this backbone, run `eegdm cache` and `eegdm"
        f" finetune` with backbone={name}; `eegdm embed` reads the backbone itself"
    )


def convert(
    src: str | Path, out: str | Path, weights: str = "ema", compat: str | None = None
) -> Path:
    """Turn a published checkpoint into a folder with config, weights and a card.

    Args:
        src: the `.ckpt` file.
        out: a new or empty folder.
        weights: "ema" or "online", as for :func:`load`.
        compat: "published" repeats the published code's errors; it is stored with the model.

    Returns:
        The folder.

    Raises:
        UserError: `src` can't be read as a published checkpoint, or `out` holds files already.
    """
    from eegdm.checkpoints.published import read_original

    out = Path(out)
    with storage_faults(out, "OUT"):
        # Before the file is read, which takes longer; the folder is made only after that succeeded
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out}: is not an empty folder; name a new one")
        model, info = read_original(Path(src).expanduser(), weights, compat)
        make_folder(out, "OUT")
        return model.save_pretrained(out, info=info)


def _classes() -> dict[str, type]:
    return {name: getattr(importlib.import_module(module), name) for name, module in MODELS.items()}
