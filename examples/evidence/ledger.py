"""What the evidence scripts share: a table that grows by a row at a time, so that a killed script
goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd


class Ledger:
    """A CSV file of results; a row is known by the values of its key columns.

    Args:
        path: the file; rows that it holds already are not made again.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.rows: list[dict[str, Any]] = (
            pd.read_csv(self.path).to_dict("records") if self.path.is_file() else []
        )

    def add(self, key: dict[str, Any], make: Callable[[], dict[str, Any]]) -> None:
        """Make and store a row (with the seconds it took), unless one with this key is there."""
        if any(
            all(str(row.get(name)) == str(value) for name, value in key.items())
            for row in self.rows
        ):
            return
        start = time.monotonic()
        made = make()
        self.rows.append({**key, **made, "seconds": round(time.monotonic() - start, 1)})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        pd.DataFrame(self.rows).to_csv(temporary, index=False)
        temporary.replace(self.path)
        print(", ".join(f"{name} {value}" for name, value in self.rows[-1].items()), flush=True)

    @property
    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, numbers with three decimals."""
    cells = [
        [f"{c:.3f}" if isinstance(c, float) else str(c) for c in row]
        for row in table.itertuples(index=False)
    ]
    rows = [list(map(str, table.columns)), ["---"] * len(table.columns), *cells]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
