"""Work on many recordings at once: one failure is one line, the rest goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

from eegdm.errors import UserError

KILLED = "the process that worked on it was killed (out of memory, or a crash in a library)"


def each(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int = 0, cluster: str | None = None
) -> Generator[tuple[Any, Any], None, None]:
    """Yield (item, result) as results come, in any order; a fault of one item is its result, as an exception.

    Closing the generator ends the work that has begun.

    Args:
        function: picklable; must not depend on which process runs it.
        items: picklable.
        workers: local processes; 0 means one per core.
        cluster: address of a dask scheduler that does the work instead.
    """
    if cluster is not None:
        yield from _on_cluster(function, items, cluster)
        return
    workers = min(workers or os.cpu_count() or 1, len(items))
    lost = []
    for item, result in _in_pool(function, items, workers):
        if isinstance(result, BrokenProcessPool):
            lost.append(item)  # one item killed its worker and took the pool along: each lost one gets a pool of its own
        else:
            yield item, result
    for item in lost:
        for _, result in _in_pool(function, [item], 1):
            yield item, UserError(KILLED) if isinstance(result, BrokenProcessPool) else result


def _in_pool(function: Callable[[Any], Any], items: Sequence[Any], workers: int) -> Iterator[tuple[Any, Any]]:
    if not items:
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent) as pool:
        futures = {pool.submit(function, item): item for item in items}
        try:
            for future in as_completed(futures):
                error = future.exception()
                yield futures[future], error if error is not None else future.result()
        except BaseException:  # interrupted, or the caller wants no more: what was begun would take as long as its longest recording
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _end_with_parent() -> None:
    """End this worker when the process that started it is killed; the pool's queue would keep it waiting for ever.

    A Ctrl-C reaches all processes of a terminal: the parent answers it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_cluster(function: Callable[[Any], Any], items: Sequence[Any], cluster: str) -> Iterator[tuple[Any, Any]]:
    try:
        from distributed import Client, KilledWorker
        from distributed import as_completed as completed
    except ModuleNotFoundError as error:
        raise UserError(f"run.cluster={cluster}: {error}; install it by `pip install 'eegdm[dask]'`") from error
    with Client(cluster, timeout="30s") as client:
        futures = {client.submit(function, item, pure=False): item for item in items}
        for future in completed(futures):
            fault = future.exception()
            result = UserError(KILLED) if isinstance(fault, KilledWorker) else future.result() if fault is None else fault
            yield futures[future], result
