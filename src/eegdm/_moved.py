"""Module names of version 0.1.0, which still import: each is an alias of the module's new place.

Pickles of scikit-learn pipelines name modules too, so this covers all that moved, not only what
documents named. The aliases go with version 1.0.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "baselines": "evaluation.baselines",
    "data.derived": "data.channels",
    "data.loading": "data.batches",
    "data.synthetic_layouts": "data.synthetic.layouts",
    "data.synthetic_sources": "data.synthetic.sources",
    "event_scores": "evaluation.event_scores",
    "experiment_costs": "experiments.costs",
    "figures": "report.charts",
    "figures_eeg": "report.traces",
    "generation_quality": "evaluation.generation_quality",
    "information": "info",
    "interop": "_moved",  # the package, so that what lay in it is looked for
    "interop.braindecode": "braindecode",
    "interop.checkpoint_file": "checkpoints.torch_archive",
    "interop.from_scratch": "evaluation.braindecode_baselines",
    "interop.original": "checkpoints.published",
    "interop.restricted_pickle": "checkpoints.restricted_pickle",
    "interop.sklearn": "sklearn",
    "metrics": "evaluation.metrics",
    "model_card": "models.card",
    "model_files": "models.locate",
    "pretrained": "checkpoints.load",
    "recordings": "inference",
    "recordings.annotated_copy": "inference.annotated_copy",
    "recordings.batch": "inference.prediction_folder",
    "recordings.decision": "evaluation.decision",
    "recordings.embedding": "inference.embedding",
    "recordings.embedding_files": "inference.embedding_files",
    "recordings.generation": "inference.generation",
    "recordings.inference": "inference.chunks",
    "recordings.prediction": "inference.prediction",
    "recordings.prediction_files": "inference.prediction_files",
    "recordings.prediction_figures": "inference.prediction_figures",
    "recordings.prediction_page": "inference.prediction_page",
    "recordings.preparation": "inference.preparation",
    "report_pages": "report.pages",
    "report_sections": "report.sections",
    "report_tables": "report.tables",
    "reporting": "report.write",
    "sweeps": "experiments.sweeps",
}
"""Old name -> new name, both below `eegdm`."""


# importlib asks for these methods, not for the classes of importlib.abc, whose import takes four
# times as long as all of this package's.
class _Alias:
    def __init__(self, target: str) -> None:
        self.target = target

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name, f"Alias of {self.target}.")
        if self.target != __name__:
            warnings.warn(
                f"{spec.name} has moved to {self.target}; the old name goes with version 1.0",
                DeprecationWarning,
                stacklevel=2,
            )
            target = importlib.import_module(self.target)
            module.__getattr__ = lambda name: getattr(target, name)  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__path__ = []  # submodules of an old package are looked for here too


class _Finder:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != "eegdm" or name not in MOVED:
            return None
        return ModuleSpec(fullname, _Alias(f"eegdm.{MOVED[name]}"))  # type: ignore[arg-type]


def install() -> None:
    """Let the old names be imported, after every real module has been looked for."""
    sys.meta_path.append(_Finder())  # type: ignore[arg-type]
