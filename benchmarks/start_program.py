"""
The programs that bench_start.py starts: a script with a main guard, which gives calls to one of the systems.

    python benchmarks/start_program.py SYSTEM METHOD BATCHES

As soon as it has the results of a batch it prints them; then, when the system is done with the batch, the seconds that
this took. It imports what its system needs, as a user's script would, and nothing else.
"""

import sys
import time

WORKERS = 2


def work(number: int) -> int:
    """Next to nothing."""
    return number + 1


def tell(results: list[int]) -> None:
    """Of a batch, as soon as they are there."""
    if results != list(range(1, WORKERS + 1)):
        sys.exit(f"the results are {results}")
    print(*results, flush=True)


def ours(method: str) -> None:
    """A Process a batch; its results are there when all of it has ended."""
    from processes import Process, ProcessPool, Task

    tasks = [Task(f"task-{number}", work, args=(number,)) for number in range(WORKERS)]
    report = Process(tasks).run(ProcessPool(WORKERS, start_method=method))
    tell([report.entries[task.name].result for task in tasks])


def executor(method: str) -> None:
    """An executor a batch, closed as most are, by `with`."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context(method)) as pool:
        tell(list(pool.map(work, range(WORKERS))))


def mppool(method: str) -> None:
    """A pool a batch."""
    import multiprocessing

    with multiprocessing.get_context(method).Pool(WORKERS) as pool:
        tell(pool.map(work, range(WORKERS)))


def loky(method: str) -> None:
    """One executor for all batches, as it is meant to be used."""
    from loky import get_reusable_executor

    tell(list(get_reusable_executor(max_workers=WORKERS, context=method).map(work, range(WORKERS))))


def joblib(method: str) -> None:
    """A Parallel a batch, over one executor for all of them."""
    from joblib import Parallel, delayed

    tell(Parallel(n_jobs=WORKERS, backend=method)(delayed(work)(number) for number in range(WORKERS)))


def pebble(method: str) -> None:
    """A pool a batch."""
    import multiprocessing

    from pebble import ProcessPool

    with ProcessPool(max_workers=WORKERS, context=multiprocessing.get_context(method)) as pool:
        tell(list(pool.map(work, range(WORKERS)).result()))


def mpire(method: str) -> None:
    """A pool a batch."""
    from mpire import WorkerPool

    with WorkerPool(n_jobs=WORKERS, start_method=method) as pool:
        tell(pool.map(work, range(WORKERS)))


SYSTEMS = {
    "processes": ours,
    "ProcessPoolExecutor": executor,
    "multiprocessing.Pool": mppool,
    "loky": loky,
    "joblib": joblib,
    "pebble": pebble,
    "mpire": mpire,
}


def main(system: str, method: str, batches: int) -> None:
    """Run the batches, one after the other."""
    for _ in range(batches):
        started = time.perf_counter()
        SYSTEMS[system](method)
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
