"""Start-up: what a user waits for before anything happens

Each command runs in a fresh process, several times; the least wall and user seconds count.

    python -m benchmarks.startup [--smoke]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMITS = {"eegdm --help": 0.4, "import eegdm": 0.4, "import torch": None, "load a classifier": 3.0}


def run(smoke: bool) -> list[dict[str, object]]:
    """Return one row per command: wall and user seconds, and the limit we set ourselves."""
    with tempfile.TemporaryDirectory() as folder:
        size = "backbone={'d_model': 32, 'n_blocks': 2}" if smoke else ""
        _python(f"from eegdm import EEGDM; EEGDM({size}).save_pretrained({folder!r})")
        code = {
            "eegdm --help": (
                "import sys; sys.argv = ['eegdm', '--help']; from eegdm.cli import main; main()"
            ),
            "import eegdm": "import eegdm",
            "import torch": "import torch",
            "load a classifier": f"import eegdm; eegdm.load({folder!r})",
        }
        return [_row(name, text, 1 if smoke else 5) for name, text in code.items()]


def _row(name: str, code: str, times: int) -> dict[str, object]:
    found = [_python(code) for _ in range(times)]
    return {
        "command": name,
        "wall (s)": min(f[0] for f in found),
        "user (s)": min(f[1] for f in found),
        "limit (s)": LIMITS[name],
    }


def _python(code: str) -> tuple[float, float]:
    """Run code in a process of its own; its wall and user seconds."""
    user, start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=Path(__file__).parents[1],
    )
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - user


if __name__ == "__main__":
    for row in run("--smoke" in sys.argv):
        print(
            "  ".join(
                f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}"
                for name, value in row.items()
            )
        )
