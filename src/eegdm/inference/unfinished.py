"""The folder of unfinished work beside a recording's results, from which a killed run resumes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eegdm import artifacts
from eegdm.errors import UserError


@contextmanager
def unfinished_work(
    folder: Path, kind: str, config: dict[str, Any], inputs: dict[str, Any]
) -> Iterator[None]:
    """Hold the folder; a recording that can't be used leaves none behind, a full disk or a kill
    does.

    Args:
        folder: a hidden folder beside the results.
        kind, config, inputs: what is being made, from what: work of another kind is given up.
    """
    # The folder may be removed only after its lock is released, which `building` does last.
    is_unusable = False
    try:
        with artifacts.building(folder, kind, config, inputs, replace=True):
            try:
                yield
            except UserError:
                is_unusable = True
                raise
    finally:
        if is_unusable:
            shutil.rmtree(folder, ignore_errors=True)
