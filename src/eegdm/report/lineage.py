"""The folders that a folder was made from: found among those near it, by their fingerprints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from eegdm import artifacts
from eegdm.artifacts import Artifact
from eegdm.errors import UserError
from eegdm.layout import COMMAND, finished_folders
from eegdm.models.locate import CONFIG_FILE, PACKAGED


class Backbone(NamedTuple):
    """A backbone: its folder if that was found, and what its `config.json` says."""

    about: dict[str, Any]
    made: Artifact | None = None
    name: str | None = None
    """Of one that comes with the package."""


class Nearby:
    """The finished folders near one: of all corpora and recipes below its root, and embeddings
    beside it or where `eegdm embed` writes them.

    Attributes:
        places: those near which is looked.
        missing: what was looked for and not found, a kind and what identifies it.
    """

    def __init__(self, folder: Path) -> None:
        self.places = [folder.resolve()]
        self.missing: list[tuple[str, str]] = []

    def find(self, kind: str, fingerprint: str | None) -> Artifact | None:
        """Return the folder of this kind with this fingerprint, or note that it is missing."""
        if fingerprint is None:
            return None
        found = self._by_fingerprint.get(fingerprint)
        if found is not None and found.kind == kind:
            return found
        if (kind, fingerprint) not in self.missing:
            self.missing.append((kind, fingerprint))
        return None

    def backbone(self, identity: str, named: str | None = None) -> Backbone | None:
        """Return a backbone: by the fingerprint of its folder, or by that of its weights.

        Args:
            named: the folder of a backbone or classifier whose weights it may have.
        """
        found = self._by_fingerprint.get(identity)
        if found is not None and found.kind == "backbone":
            return Backbone(artifacts.read_json(found / CONFIG_FILE), found)
        if identity in self._packaged:
            name = self._packaged[identity]
            return Backbone(artifacts.read_json(PACKAGED / name / CONFIG_FILE), name=name)
        if named is not None and artifacts.is_finished(Path(named)) and _weights(named) == identity:
            made = artifacts.read_manifest(Path(named))
            self.places.append(made.path.resolve())
            del self._by_fingerprint
            own = made.fingerprint if made.kind == "backbone" else made.inputs.get("backbone", "")
            return self.backbone(own)
        self.find("backbone", identity)
        return None

    @cached_property
    def _by_fingerprint(self) -> dict[str, Artifact]:
        found: dict[str, Artifact] = {}
        for path in self._folders():
            # What lies near by chance may be anything
            with suppress(UserError):
                made = artifacts.read_manifest(path)
                found.setdefault(made.fingerprint, made)
        return found

    def _folders(self) -> Iterator[Path]:
        for place in self.places:
            for kind in COMMAND:
                yield from finished_folders(_root(place), kind)
            beside = [place, place.parent, *(p / "embeddings" for p in place.parents[:4])]
            for folder in [*beside, Path("runs") / "embeddings"]:
                for manifest in sorted(folder.glob(f"*/{artifacts.MANIFEST}")):
                    yield manifest.parent

    @cached_property
    def _packaged(self) -> dict[str, str]:
        return {_weights(folder.name): folder.name for folder in PACKAGED.iterdir()}


def _root(place: Path) -> Path:
    """Return the root that a folder lies below, if it lies where stages and `eegdm embed` write."""
    in_fold = place.parent.name in COMMAND  # <root>/<corpus>/<recipe>/<kind>/<fold and seed>
    is_kind = place.name.split(",")[0] in COMMAND  # <root>/<corpus>/<recipe>/<kind>
    above = 3 if in_fold else 2 if is_kind else 1  # <root>/embeddings/<name>
    return place.parents[min(above, len(place.parents) - 1)]


def _weights(model: str) -> str:
    """Return what identifies the weights of a model's backbone."""
    from eegdm.checkpoints.load import load_backbone
    from eegdm.models.pretrained import weights_fingerprint

    return weights_fingerprint(load_backbone(model))
