"""Work on many recordings at once: one failure is one line, and the others continue."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from multiprocessing.connection import wait
from typing import Any

from eegdm.errors import UserError, one_line
from eegdm.processes import available_cores

KILLED = "the process that worked on it was killed (out of memory, or a crash in a library)"


def map_unordered(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    workers: int = 0,
    cluster: str | None = None,
) -> Generator[tuple[Any, Any], None, None]:
    """Yield (item, result) as results come, in any order; a fault of one item is its result, as an
    exception.

    Closing the generator ends the work that has begun.

    Args:
        function: picklable; must not depend on which process runs it.
        items: picklable.
        workers: local processes; 0 means one per core that this process may use.
        cluster: address of a dask scheduler that does the work instead.
    """
    if cluster is not None:
        yield from _on_cluster(function, items, cluster)
        return
    pending = deque(items)
    workers = min(workers or available_cores(), len(items))
    suspects: list[Any] = []
    while pending:
        suspects += yield from _in_pool(function, pending, workers)
    for item in suspects:
        # Alone in its pool: if that is killed again, it was this item
        if (yield from _in_pool(function, deque([item]), 1)):
            yield item, UserError(KILLED)


def map_or_raise(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int, cluster: str | None = None
) -> Generator[Any, None, None]:
    """Yield results as :func:`map_unordered` does, where none may be missing: the first fault is
    raised, and ends the work that has begun.
    """
    with closing(map_unordered(function, items, workers, cluster)) as results:
        for _, result in results:
            if isinstance(result, BaseException):
                raise result
            yield result


def _in_pool(
    function: Callable[[Any], Any], pending: deque[Any], workers: int
) -> Generator[tuple[Any, Any], None, list[Any]]:
    """Take items from `pending` and yield their results; return at the end, or with the items under
    way when a worker was killed.

    A killed worker takes its whole pool along, and nothing says which item it had. So no more items
    are handed out than there are workers, and those under way are tried again one by one.
    """
    context = _OwnProcesses()
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        try:
            return (yield from _in_turn(pool, function, pending, workers))
        # Interrupted, or the caller wants no more: what was begun would take as long as its longest
        # recording
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in context.started:
                worker.terminate()
            for worker in context.started:
                worker.join()
            raise


# Spawned, not forked: a fork would copy locks that other threads hold, and CUDA does not survive it
class _OwnProcesses(multiprocessing.context.SpawnContext):
    """Spawns a pool's workers and remembers them: the program that calls us may have other children
    (a DataLoader's workers, say), which are not ours to end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.started: list[multiprocessing.process.BaseProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        process = super().Process(*args, **kwargs)  # type: ignore[misc]
        self.started.append(process)
        return process


def _in_turn(
    pool: ProcessPoolExecutor, function: Callable[[Any], Any], pending: deque[Any], workers: int
) -> Generator[tuple[Any, Any], None, list[Any]]:
    running: dict[Future[Any], Any] = {}
    while pending or running:
        while pending and len(running) < workers:
            try:
                # Submitting may start a worker, which must not be given half of its orders
                with deferred_signals():
                    future = pool.submit(function, pending[0])
            # A worker was killed since: all that was under way is suspect
            except BrokenProcessPool:
                return list(running.values())
            running[future] = pending.popleft()
        lost = []
        for future in wait_for(running, return_when=FIRST_COMPLETED).done:
            item, fault = running.pop(future), future.exception()
            if isinstance(fault, BrokenProcessPool):
                lost.append(item)
            else:
                yield item, future.result() if fault is None else fault
        if lost:
            return [*lost, *running.values()]
    return []


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait for the end: a worker that is started and given half of its
    orders prints a traceback.
    """
    # Python handles signals in the main thread alone, and lets no other set handlers
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    handlers = {
        number: signal.signal(number, lambda n, _: arrived.append(n))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            # None: a handler that was not set from Python, which can't be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    for late in arrived:
        signal.raise_signal(late)


def _end_with_parent() -> None:
    """End this worker when the process that started it is killed; the pool's queue would keep it
    waiting for ever.

    A Ctrl-C reaches all processes of a terminal: the parent answers it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            wait([parent.sentinel])
            # Not sys.exit, which ends a thread alone
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_cluster(
    function: Callable[[Any], Any], items: Sequence[Any], cluster: str
) -> Iterator[tuple[Any, Any]]:
    try:
        from distributed import Client, KilledWorker
        from distributed import as_completed as completed
    except ModuleNotFoundError as error:
        raise UserError(
            f"run.cluster={cluster}: {error}; install it by `pip install 'eegdm[dask]'`"
        ) from error
    try:
        client = Client(cluster, timeout="10s")
    except (OSError, ValueError) as error:
        raise UserError(
            f"run.cluster={cluster}: no dask scheduler answers there ({one_line(error)})"
        ) from error
    with client:
        suspects = []
        # Not pure: the scheduler would give back results of an earlier run with equal arguments
        futures = {client.submit(function, item, pure=False): item for item in items}
        for future in completed(futures):
            # Given up once read: a result left on a worker is computed again when that is killed
            item, result = futures.pop(future), _outcome(future)
            if isinstance(result, KilledWorker):
                suspects.append(item)
            else:
                yield item, result
        for item in suspects:
            # The scheduler blames a killed worker's whole queue: alone, it is this item
            result = _outcome(client.submit(function, item, pure=False))
            yield item, UserError(KILLED) if isinstance(result, KilledWorker) else result


def _outcome(future: Any) -> Any:
    """Return the result, or the exception in its place."""
    try:
        return future.result()
    except Exception as fault:
        return fault
