"""
The pools of others, warm, and used as their documentation advises for many calls of one function.

Each is a context: its workers are started and have imported what the calls need when it is entered, so that whoever
measures starts the clock afterwards. It gives a `Run`, which hands over all calls and returns all results.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from dispatch_work import occupy

WORKERS = 2

#: "For very long iterables, using a large value for chunksize can significantly improve performance"; the
#: documentation of `Executor.map` names none.
CHUNK = 64

#: The results of a function, called with each of the items.
Run = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]


def touch(run: Run) -> None:
    """Until every worker has run a call: it has started by then, and has imported the module."""
    seen: set[int] = set()
    while len(seen) < WORKERS:
        seen.update(run(_occupy, range(WORKERS)))


def _occupy(_: object) -> int:
    return occupy()


def submitting(pool: Executor) -> Run:
    """A future for each call."""

    def run(func: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        futures = [pool.submit(func, item) for item in items]
        return [future.result() for future in futures]

    return run


@contextlib.contextmanager
def executor_submit() -> Iterator[Run]:
    """A future for each call."""
    with ProcessPoolExecutor(WORKERS) as pool:
        touch(submitting(pool))
        yield submitting(pool)


@contextlib.contextmanager
def executor_map() -> Iterator[Run]:
    """In chunks of CHUNK calls, each of which is one for the pool: one error loses its chunk."""
    with ProcessPoolExecutor(WORKERS) as pool:
        touch(submitting(pool))
        yield lambda func, items: list(pool.map(func, items, chunksize=CHUNK))


@contextlib.contextmanager
def pool_apply() -> Iterator[Run]:
    """An answer for each call."""
    with multiprocessing.Pool(WORKERS) as pool:

        def run(func: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
            answers = [pool.apply_async(func, (item,)) for item in items]
            return [answer.get() for answer in answers]

        touch(run)
        yield run
        pool.close()
        pool.join()


@contextlib.contextmanager
def pool_map() -> Iterator[Run]:
    """In chunks, as many as it finds right: four for each worker."""
    with multiprocessing.Pool(WORKERS) as pool:
        touch(lambda func, items: pool.map(func, items, chunksize=1))
        yield pool.map
        pool.close()
        pool.join()


@contextlib.contextmanager
def loky() -> Iterator[Run]:
    """A future for each call."""
    from loky import get_reusable_executor

    pool = get_reusable_executor(max_workers=WORKERS, timeout=None)
    touch(submitting(pool))
    yield submitting(pool)
    pool.shutdown()


@contextlib.contextmanager
def joblib() -> Iterator[Run]:
    """Batches of a size that it finds while it runs."""
    # Or its tracker would tell of a folder of arrays, which it removes, that this process has not at its own end.
    os.environ["PYTHONWARNINGS"] = "ignore"
    from joblib import Parallel, delayed
    from joblib.executor import get_memmapping_executor

    with Parallel(n_jobs=WORKERS) as parallel:

        def run(func: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
            return list(parallel(delayed(func)(item) for item in items))

        touch(run)
        yield run
    # Its workers and its folder of arrays stay for the next Parallel, until the interpreter's end.
    get_memmapping_executor(WORKERS).terminate(kill_workers=True)


@contextlib.contextmanager
def pebble() -> Iterator[Run]:
    """A future with a time-out for each call; `map` gives one chunk what one call has here."""
    from pebble import ProcessPool

    with ProcessPool(max_workers=WORKERS) as pool:

        def run(func: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
            futures = [pool.schedule(func, args=(item,), timeout=60) for item in items]
            return [future.result() for future in futures]

        touch(run)
        yield run


@contextlib.contextmanager
def mpire() -> Iterator[Run]:
    """In chunks, as many as it finds right: 64 for each worker."""
    from mpire import WorkerPool

    # One-tuples, because it takes an item that is iterable, an array too, for several arguments.
    with WorkerPool(n_jobs=WORKERS, keep_alive=True) as pool:

        def run(func: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
            return list(pool.map(func, [(item,) for item in items]))

        touch(run)
        yield run


@contextlib.contextmanager
def dask() -> Iterator[Run]:
    """A future for each call, by `Client.map`; workers are processes of one thread, on this machine."""
    with dask_client() as client:

        def run(func: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
            return list(client.gather(client.map(func, list(items), pure=False)))

        touch(run)
        yield run


@contextlib.contextmanager
def dask_client() -> Iterator[Any]:
    """Two workers that have started, without a dashboard."""
    import logging

    from distributed import Client, LocalCluster

    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=WORKERS,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
            silence_logs=logging.CRITICAL,  # what it says of a busy event loop, and when it is left
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        client.wait_for_workers(WORKERS)
        yield client


SUBMIT, MAP = "ProcessPoolExecutor.submit", f"ProcessPoolExecutor.map, {CHUNK} a chunk"
APPLY, POOL_MAP = "Pool.apply_async", "Pool.map"
LOKY, JOBLIB, PEBBLE, MPIRE, DASK = "loky", "joblib.Parallel", "pebble", "mpire", "dask.distributed"

#: {how it is printed: the pool}
PEERS: dict[str, Callable[[], AbstractContextManager[Run]]] = {
    SUBMIT: executor_submit,
    MAP: executor_map,
    APPLY: pool_apply,
    POOL_MAP: pool_map,
    LOKY: loky,
    JOBLIB: joblib,
    PEBBLE: pebble,
    MPIRE: mpire,
    DASK: dask,
}
