"""
The cases of bench_faults.py: faults, and the systems that are to survive them. Also the program that tries one of each.

    python benchmarks/fault_cases.py SYSTEM FAULT

Calls, one of them faulty, are given to a system as it is shipped, with two workers. What became of each is printed as
one line of JSON, then whether the same pool makes more calls, then the program ends as any other.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import itertools
import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

WORKERS = 2

#: How long a call may take where the system has time-outs, in seconds.
TIMEOUT_S = 1.0

MIB = 2**20


# ---- faults ----------------------------------------------------------------------------------------------------------


def innocent(number: int) -> int:
    """Some milliseconds of work."""
    return number + 0 * sum(range(100_000))


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def segfault() -> None:
    ctypes.string_at(0)


def leave(code: int) -> NoReturn:
    os._exit(code)


def raise_(kind: type[BaseException], *args: object) -> NoReturn:
    raise kind(*args)


def loop() -> None:
    while True:
        pass


def match_for_ever() -> None:
    re.match(r"(a|a)*$", "a" * 60 + "b")


def sum_for_ever() -> None:
    sum(itertools.repeat(0))


def swallow() -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(600)


def ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)


def stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def have_child() -> None:
    subprocess.run(["sleep", "600"], check=False)


def have_session() -> None:
    subprocess.Popen(["sleep", "600"], start_new_session=True).wait()


def leave_thread() -> str:
    threading.Thread(target=time.sleep, args=(300,)).start()
    return "left"


def leave_process() -> str:
    subprocess.Popen(["sleep", "300"], start_new_session=True)
    return "left"


def fork_and_return() -> str:
    os.fork()
    return "returned"


def close_standard() -> str:
    for descriptor in range(3):
        os.close(descriptor)
    return "closed"


def see_standard() -> str:
    """Whatever a task before it has closed or changed."""
    os.fstat(1)
    print(end="", flush=True)
    return os.environ.get("SPOILED", "fine") + ("" if os.path.exists(os.getcwd()) else " without a folder")


def spoil() -> str:
    os.environ["SPOILED"] = "spoiled"
    return "spoiled"


def return_lock() -> object:
    return threading.Lock()


class Dumps:
    """Raises when it is pickled."""

    def __reduce__(self) -> NoReturn:
        raise ZeroDivisionError("not to be pickled")


class Loads:
    """Raises when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return divmod, (1, 0)


class TwoArguments(Exception):
    """Cannot be loaded from its own args."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


class HoldsLock(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


def nest(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


class DiesPickling:
    """Its process dies when it is pickled."""

    def __reduce__(self) -> NoReturn:
        os._exit(9)


def die_writing() -> object:
    return bytes(50_000_000), DiesPickling()


def recurse() -> None:
    recurse()


def want_more_than_own_limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (4096 * MIB, resource.RLIM_INFINITY))
    bytearray(8192 * MIB)


def use_executor() -> list[int]:
    with concurrent.futures.ProcessPoolExecutor(2) as executor:
        return list(executor.map(abs, range(-3, 0)))


def use_pool() -> list[int]:
    with multiprocessing.Pool(2) as pool:
        return pool.map(abs, range(-3, 0))


class Fault(NamedTuple):
    """A call that others must not notice."""

    func: Callable[..., object]
    args: tuple[object, ...] = ()
    #: What must be in the type or text of its error: one of these words; or its result, where it has none.
    error: str = ""
    result: object = None
    #: It ends by its time-out only.
    hangs: bool = False
    #: (function, result) of calls behind it, where they are to see something of it.
    after: tuple[Callable[[], object], object] | None = None


DIED = "signal|sigkill|sigsegv|killed|died|exit|terminated|abrupt|broken|expired"
LATE = "time"
UNPICKLABLE = "pickl|serializ|lock|zerodivision|recursion|divmod|modulo"

FAULTS = {
    "no fault": Fault(innocent, (7,), result=7),
    "is killed (SIGKILL)": Fault(be_killed, error=DIED),
    "segfaults": Fault(segfault, error=DIED),
    "os._exit(3)": Fault(leave, (3,), error=DIED),
    "os._exit(0)": Fault(leave, (0,), error=DIED),
    "dies while its 50 MB result is written": Fault(die_writing, error=DIED),
    "sys.exit(5)": Fault(sys.exit, (5,), error="systemexit"),
    "KeyboardInterrupt": Fault(raise_, (KeyboardInterrupt,), error="keyboardinterrupt"),
    "a BaseException": Fault(raise_, (BaseException, "bare"), error="bare"),
    "RecursionError": Fault(recurse, error="recursion"),
    "MemoryError under a limit of its own": Fault(want_more_than_own_limit, error="memoryerror"),
    "time-out: `while True`": Fault(loop, error=LATE, hangs=True),
    "time-out: a regex": Fault(match_for_ever, error=LATE, hangs=True),
    "time-out: `sum(repeat(0))`": Fault(sum_for_ever, error=LATE, hangs=True),
    "time-out: swallows exceptions": Fault(swallow, error=LATE, hangs=True),
    "time-out: ignores signals": Fault(ignore_signals, error=LATE, hangs=True),
    "time-out: is stopped (SIGSTOP)": Fault(stop_itself, error=LATE, hangs=True),
    "time-out: runs a program": Fault(have_child, error=LATE, hangs=True),
    "time-out: runs it in a session of its own": Fault(have_session, error=LATE, hangs=True),
    "leaves a thread": Fault(leave_thread, result="left"),
    "leaves a process": Fault(leave_process, result="left"),
    "forks, both sides return": Fault(fork_and_return, result="returned"),
    "closes fds 0 to 2": Fault(close_standard, result="closed", after=(see_standard, "fine")),
    "changes the environment": Fault(spoil, result="spoiled", after=(see_standard, "fine")),
    "result is a lock": Fault(return_lock, error=UNPICKLABLE),
    "result raises when pickled": Fault(Dumps, error=UNPICKLABLE),
    "result raises when loaded": Fault(Loads, error=UNPICKLABLE),
    "result is 100,000 deep": Fault(nest, (100_000,), error=UNPICKLABLE),
    "exception with two arguments": Fault(raise_, (TwoArguments, 1, 2), error="twoarguments|1 and 2"),
    "exception that holds a lock": Fault(raise_, (HoldsLock,), error="holdslock|locked"),
    "result of 500 MB": Fault(bytes, (500_000_000,), result=500_000_000),
    "uses ProcessPoolExecutor": Fault(use_executor, result=[3, 2, 1]),
    "uses multiprocessing.Pool": Fault(use_pool, result=[3, 2, 1]),
}

Call = tuple[Callable[..., object], tuple[object, ...]]

#: ["ok", result] or ["error", type and text]
Outcome = list[object]

#: Innocent calls before the faulty one, and behind it.
BEFORE, BEHIND = 6, 12


def calls_of(fault: Fault) -> list[Call]:
    """The faulty one among others."""
    behind: list[Call] = [(innocent, (100 + number,)) for number in range(BEHIND)]
    if fault.after is not None:
        behind = [(fault.after[0], ()) for _ in range(BEHIND)]
    return [*((innocent, (number,)) for number in range(BEFORE)), (fault.func, fault.args), *behind]


def told(result: object) -> Outcome:
    """Short enough for JSON."""
    return ["ok", len(result) if isinstance(result, bytes) else result]


def failed(error: BaseException) -> Outcome:
    """Type and text, and those of what caused it."""
    causes = [error, error.__cause__, *getattr(error, "exceptions", ())]
    with contextlib.suppress(Exception):
        return ["error", " / ".join(f"{type(cause).__name__}: {cause}"[:2000] for cause in causes if cause is not None)]
    return ["error", type(error).__name__]


def outcome_of(get: Callable[[], object]) -> Outcome:
    """What a future has."""
    try:
        return told(get())
    except BaseException as error:  # noqa: BLE001  whatever a system raises for a call is what became of it
        return failed(error)


# ---- systems ---------------------------------------------------------------------------------------------------------

#: Makes the calls and returns what became of each; a time-out holds for every call, where there is one.
Runner = Callable[[Sequence[Call], float | None], list[Outcome]]


@contextlib.contextmanager
def ours() -> Iterator[Runner]:
    """This library: a Process a batch."""
    from processes import Process, ProcessPool, Task

    def run(calls: Sequence[Call], timeout: float | None) -> list[Outcome]:
        tasks = [Task(f"t{n}", func, args=args, timeout=timeout) for n, (func, args) in enumerate(calls)]
        report = Process(tasks).run(ProcessPool(WORKERS))
        entries = [report.entries[task.name] for task in tasks]
        return [
            outcome_of(lambda entry=entry: entry.result)
            if entry.error is None
            else ["error", f"{entry.error.exception_type}: {entry.error.exception}"]
            for entry in entries
        ]

    yield run


@contextlib.contextmanager
def executor() -> Iterator[Runner]:
    """`concurrent.futures.ProcessPoolExecutor`."""
    with concurrent.futures.ProcessPoolExecutor(WORKERS) as pool:
        yield _submitter(pool)


def _submitter(pool: concurrent.futures.Executor) -> Runner:
    def run(calls: Sequence[Call], timeout: float | None) -> list[Outcome]:
        assert timeout is None
        futures = [outcome_or(lambda func=func, args=args: pool.submit(func, *args)) for func, args in calls]
        return [future if isinstance(future, list) else outcome_of(future.result) for future in futures]

    return run


def outcome_or(submit: Callable[[], Any]) -> Any:  # noqa: ANN401  a future of any kind
    """The future, or what became of the call where it was not taken."""
    try:
        return submit()
    except Exception as error:  # noqa: BLE001  a broken pool
        return failed(error)


@contextlib.contextmanager
def mppool() -> Iterator[Runner]:
    """`multiprocessing.Pool`."""
    with multiprocessing.Pool(WORKERS) as pool:

        def run(calls: Sequence[Call], timeout: float | None) -> list[Outcome]:
            assert timeout is None
            results = [pool.apply_async(func, args) for func, args in calls]
            return [outcome_of(result.get) for result in results]

        yield run
        pool.close()
        pool.join()


@contextlib.contextmanager
def loky() -> Iterator[Runner]:
    """Loky's reusable executor, asked for anew for each batch, as its users do."""
    from loky import get_reusable_executor

    def run(calls: Sequence[Call], timeout: float | None) -> list[Outcome]:
        return _submitter(get_reusable_executor(max_workers=WORKERS))(calls, timeout)

    yield run


@contextlib.contextmanager
def joblib() -> Iterator[Runner]:
    """A `Parallel` a batch, with results as they come, so that those before a failure count."""
    from joblib import Parallel, delayed

    def run(calls: Sequence[Call], timeout: float | None) -> list[Outcome]:
        found: list[Outcome] = []
        parallel = Parallel(n_jobs=WORKERS, timeout=timeout, return_as="generator")
        try:
            found.extend(map(told, parallel(delayed(func)(*args) for func, args in calls)))
        except BaseException as error:  # noqa: BLE001  as in `outcome_of`
            found += [failed(error)] * (len(calls) - len(found))
        return found

    yield run


@contextlib.contextmanager
def pebble() -> Iterator[Runner]:
    """`pebble.ProcessPool`."""
    from pebble import ProcessPool

    with ProcessPool(max_workers=WORKERS) as pool:

        def run(calls: Sequence[Call], timeout: float | None) -> list[Outcome]:
            futures = [
                outcome_or(lambda func=func, args=args: pool.schedule(func, args=args, timeout=timeout))
                for func, args in calls
            ]
            return [future if isinstance(future, list) else outcome_of(future.result) for future in futures]

        yield run


@contextlib.contextmanager
def mpire() -> Iterator[Runner]:
    """`mpire.WorkerPool.apply_async`."""
    from mpire import WorkerPool

    with WorkerPool(n_jobs=WORKERS, daemon=False) as pool:

        def run(calls: Sequence[Call], timeout: float | None) -> list[Outcome]:
            results = [
                outcome_or(lambda func=func, args=args: pool.apply_async(func, args, task_timeout=timeout))
                for func, args in calls
            ]
            return [result if isinstance(result, list) else outcome_of(result.get) for result in results]

        yield run


SYSTEMS: dict[str, Callable[[], contextlib.AbstractContextManager[Runner]]] = {
    "processes": ours,
    "ProcessPoolExecutor": executor,
    "multiprocessing.Pool": mppool,
    "loky": loky,
    "joblib": joblib,
    "pebble": pebble,
    "mpire": mpire,
}

#: Those that can end a call.
WITH_TIMEOUTS = {"processes", "joblib", "pebble", "mpire"}


def main() -> None:
    """Try one fault on one system."""
    import fault_cases  # by name, so that children find its functions: this is __main__

    system, fault = fault_cases.SYSTEMS[sys.argv[1]], fault_cases.FAULTS[sys.argv[2]]
    timeout = TIMEOUT_S if fault.hangs else None
    with system() as run:
        print(json.dumps(run(fault_cases.calls_of(fault), timeout), default=repr), flush=True)
        print(json.dumps(run([(fault_cases.innocent, (number,)) for number in range(3)], None)), flush=True)


if __name__ == "__main__":
    main()
