"""Latents on disk: bytes and time against the published way, writing and reading

Published: float32, once per annotated channel of a window. Ours: each distinct window once, in
float32, float16 or int8. Bytes are those of files at the full size of a window's tokens; the time
of caching is a small backbone's, with and without sharing. Writing and reading are timed at full
size: what they must not hold up is the extraction of a window (hundreds of milliseconds) and a
training step of the LFT.

    python -m benchmarks.latents_store [--smoke]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from eegdm import artifacts
from eegdm.data.tokens import CachedTokens, TokenStore, write_shard
from eegdm.data.windows import WINDOW_KEY, distinct
from eegdm.models.backbone import SSMDP
from eegdm.models.latents import TokenSpec, extract

CHANNELS, TIMES = 22, 1000
FULL = (20, 5, 1, 128)  # block, pool, query, feature of a channel's tokens
PUBLISHED = CHANNELS * int(np.prod(FULL)) * 4  # bytes of an event
ANNOTATED = (2, 6, 12)  # channels of a window
FORMATS = ("float32", "float16", "int8")


def run(smoke: bool) -> list[dict[str, object]]:
    """Return rows of three kinds: bytes by format and annotated channels, time of caching, time of
    writing and reading.
    """
    n = 4 if smoke else 32
    with tempfile.TemporaryDirectory() as folder:
        stored = {dtype: _store(Path(folder) / dtype, dtype, n) for dtype in FORMATS}
        return [
            *(
                _bytes_row(Path(folder) / dtype, dtype, n, k)
                for dtype in FORMATS[1:]
                for k in ANNOTATED
            ),
            *(_caching_row(2 if smoke else 16, k) for k in ANNOTATED),
            *(_disk_row(Path(folder) / dtype, dtype, n, stored[dtype]) for dtype in FORMATS),
        ]


def _samples(n: int, k: int) -> pd.DataFrame:
    """Events of ``n`` windows, each annotated on ``k`` channels."""
    start = np.repeat(np.arange(n) * TIMES, k)
    return pd.DataFrame(
        {"recording": "made up", "start_sample": start, "n_times": TIMES, "label": 0}
    )


def _store(folder: Path, dtype: str, n: int) -> float:
    """Write a latents folder of ``n`` full-size windows; the seconds of its shard."""
    rows = np.random.default_rng(0).random((n * CHANNELS, *FULL), dtype=np.float32)
    windows = distinct(_samples(n, 1)).assign(
        shard=0, n_channels=CHANNELS, row=np.arange(n) * CHANNELS
    )
    with artifacts.building(folder, "latents", {"latents": {"dtype": dtype}}, {}):
        start = time.perf_counter()
        write_shard(folder, 0, rows, dtype)
        seconds = time.perf_counter() - start
        artifacts.write_table(folder / "windows.parquet", windows)
        artifacts.finish(folder, {})
    return seconds


def _bytes_row(folder: Path, dtype: str, n: int, k: int) -> dict[str, object]:
    bytes_ = sum(f.stat().st_size for f in folder.rglob("*.npy")) / n
    return {
        "work": f"bytes, {dtype}",
        "channels annotated": k,
        "plain": k * PUBLISHED,
        "ours": bytes_,
        "ratio": k * PUBLISHED / bytes_,
    }


def _caching_row(n: int, k: int) -> dict[str, object]:
    """Seconds of extraction and writing of all events' windows, against those of the distinct
    ones.
    """
    torch.manual_seed(0)
    backbone = SSMDP(d_model=32, n_blocks=4, d_state=32, d_cond=64, d_embed=32).eval()
    signal = torch.randn(n, CHANNELS, TIMES)
    samples = _samples(n, k)
    with tempfile.TemporaryDirectory() as folder:
        every = _seconds(
            lambda: _cache(backbone, signal, samples[WINDOW_KEY], Path(folder) / "every")
        )
        once = _seconds(lambda: _cache(backbone, signal, distinct(samples), Path(folder) / "once"))
    found = {"plain": every, "ours": once, "ratio": every / once}
    return {"work": "caching (s), plain: ours without sharing", "channels annotated": k, **found}


def _cache(backbone: SSMDP, signal: torch.Tensor, windows: pd.DataFrame, folder: Path) -> None:
    index = torch.from_numpy(windows.start_sample.to_numpy() // TIMES)
    with torch.inference_mode():
        found = [
            extract(backbone, signal[some], range(CHANNELS), TokenSpec()) for some in index.split(8)
        ]
    rows = torch.cat(found).permute(0, 4, 1, 2, 3, 5).flatten(0, 1).numpy()
    write_shard(folder, 0, rows, "float16")


def _disk_row(folder: Path, dtype: str, n: int, written: float) -> dict[str, object]:
    store = TokenStore(folder)
    channels = [f"{c}" for c in range(CHANNELS)]
    table = pd.DataFrame({"recording": ["made up"], "ch_names": [channels]})
    dataset = CachedTokens(store, table, _samples(n, 1), channels, slice(None))
    batch = [(0, i % n) for i in range(32)]
    read = min(_seconds(lambda: dataset[batch]) for _ in range(5))
    return {
        "work": f"{dtype}, ms",
        "write a window": 1e3 * written / n,
        "read a batch of 32": 1e3 * read,
    }


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    for row in run("--smoke" in sys.argv):
        print(
            "  ".join(
                f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}"
                for name, value in row.items()
            )
        )
