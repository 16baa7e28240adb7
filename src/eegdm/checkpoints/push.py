"""`eegdm.push_to_hub`: a model's folder as a repository on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from eegdm import __version__, artifacts
from eegdm.errors import UserError
from eegdm.models.card import PLACE
from eegdm.models.locate import (
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    ModelFiles,
    error_text,
    find_model,
    is_final,
    refuse_link_outside,
)


def push_to_hub(folder: str | Path, hub_id: str, private: bool = True) -> str:
    """Upload a backbone or a classifier to the Hugging Face hub, from where :func:`eegdm.load`
    reads it by its id.

    Its settings, its weights and its card go there in one commit, and nothing else of the folder:
    no curves and no manifest. The settings hold hashes of the names of the people whom the model
    learned from, where it knows them.

    Args:
        folder: what `eegdm pretrain`, `eegdm finetune`, `eegdm fit`, `eegdm convert` or
            `save_pretrained` wrote.
        hub_id: `owner/name`; made if need be, and files of the same names are replaced.
        private: whether only the owner sees a repository that this call makes. One that exists
            stays as it is.

    Returns:
        The address of the commit.

    Raises:
        UserError: no finished model lies there, or the hub does not take it.
    """
    files = find_model(folder)
    if not isinstance(files, ModelFiles):
        raise UserError(
            f"{files}: is a published checkpoint; turn it into a folder with `eegdm convert`, and"
            " ask its authors whether it may be redistributed"
        )
    home = files.config.parent
    card = home / CARD_FILE
    refuse_link_outside(home, card)
    if (home / artifacts.PLAN).exists():
        artifacts.read_manifest(home)
    from huggingface_hub import CommitOperationAdd, HfApi

    text = card.read_text(encoding="utf-8").replace(PLACE, hub_id)
    contents: dict[str, bytes | Path] = {
        CARD_FILE: text.encode(),
        WEIGHTS_FILE: files.weights,
        CONFIG_FILE: files.config,
    }
    hub = HfApi(library_name="eegdm", library_version=__version__)
    try:
        hub.create_repo(hub_id, private=private, exist_ok=True)
        commit = hub.create_commit(
            hub_id,
            [CommitOperationAdd(name, content) for name, content in contents.items()],
            commit_message=f"Model saved by eegdm {__version__}",
        )
    # The exceptions of a missing connection belong to the HTTP library of the hub's version
    except Exception as error:
        advice = (
            "log in with an account that may write there (`hf auth login`, or HF_TOKEN)"
            if is_final(error)
            else "run this again when the hub can be reached"
        )
        raise UserError(
            f"{hub_id}: the hub did not take it ({error_text(error)}); {advice}"
        ) from error
    return str(commit.commit_url)
