"""
The cases of bench_start.py: a program from its start to its end, a worker that takes another's place, an import.

Every case runs in a process of its own, checks all results and returns seconds. CLOCK_MONOTONIC is the same in all
processes, so that one may stamp what another compares.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import start_program
import start_work
from harness import Figures

#: A program takes a fraction of a second, and so does a replacement; one that takes this long hangs.
PATIENCE_S = 20.0


# ---- a program -------------------------------------------------------------------------------------------------------


def start(system: str, method: str) -> Figures:
    """
    From before the interpreter is started until its results are read, and until it has ended; one batch.

    A start before it runs two batches, for what the second one takes. It also leaves all files that are read in the
    system's memory, and their bytecode on the disk, as that of an installed library is.
    """
    *_, seconds = _run_program(system, method, 2)
    first, end, _ = _run_program(system, method, 1)
    return {"first": first, "end": end, "second": seconds[1]}


def _run_program(system: str, method: str, batches: int) -> tuple[float, float, list[float]]:
    """When its first results were there and when it had ended, and what each batch took by itself."""
    command = [sys.executable, start_program.__file__, system, method, str(batches)]
    started = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline()]
        first = time.monotonic() - started
        program.wait()  # With a time-out it would look now and then, 15 ms apart by now.
        end = time.monotonic() - started
        lines += program.stdout
    assert program.returncode == 0, f"{system} by {method} ended with {program.returncode}"
    assert lines[::2] == ["1 2\n"] * batches, f"{system} by {method} printed {lines}"
    return first, end, [float(line) for line in lines[1::2]]


# ---- a replacement ---------------------------------------------------------------------------------------------------

#: Gives the calls to a pool of one worker, which is started by a method.
Run = Callable[[str, "Stamps"], None]


class Stamps:
    """Start and death of calls, each of which kills its worker, but for the last."""

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths
        self._descriptor = os.memfd_create("bench-start")
        os.truncate(self._descriptor, start_work.size_of(deaths + 1))
        self.place = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        self._words = start_work.stamps_in(self._descriptor)

    def calls(self) -> list[tuple[Callable[..., object], tuple[str, int]]]:
        """In their order."""
        dying = [(start_work.die, (self.place, number)) for number in range(self.deaths)]
        return [*dying, (start_work.come_last, (self.place, self.deaths))]

    def wait(self) -> None:
        """Until the last call has started: some pools tell of no call whose worker has died."""
        give_up_at = time.monotonic() + PATIENCE_S
        while not self._words[2 * self.deaths]:
            assert time.monotonic() < give_up_at, "no worker takes the dead one's place"
            time.sleep(0.005)

    def latencies(self) -> list[float]:
        """Seconds from each death to the start of what came next."""
        calls = sorted((self._words[2 * number], self._words[2 * number + 1]) for number in range(self.deaths + 1))
        assert calls[0][0], "a call has not started"
        return [(started - died) / 1e9 for (_, died), (started, _) in pairwise(calls)]


def replace(run: Run, method: str, deaths: int) -> Figures:
    """What a death costs: until the next call begins on the worker that takes its place."""
    stamps = Stamps(deaths)
    run(method, stamps)
    latencies = stamps.latencies()
    assert min(latencies) > 0, "a call began before the worker was dead: there was more than one"
    return {"median": statistics.median(latencies), "worst": max(latencies)}


def replace_ours(method: str, stamps: Stamps) -> None:
    """All calls are tasks of one run."""
    from processes import Process, ProcessPool, Task, WorkerCrashedError

    tasks = [Task(f"task-{args[1]}", func, args=args) for func, args in stamps.calls()]
    report = Process(tasks).run(ProcessPool(1, start_method=method))
    *errors, last = [entry.exception for entry in report.entries.values()]
    assert all(isinstance(error, WorkerCrashedError) for error in errors), f"the calls ended by {errors}"
    assert last is None, f"the last call ended by {last}"
    assert not report.warnings, f"the run was not as it should: {report.warnings}"


def replace_pebble(method: str, stamps: Stamps) -> None:
    """All calls are scheduled at once."""
    import multiprocessing

    from pebble import ProcessPool

    with ProcessPool(max_workers=1, context=multiprocessing.get_context(method)) as pool:
        futures = [pool.schedule(func, args=args) for func, args in stamps.calls()]
        assert futures[-1].result(PATIENCE_S) == 1.0


def replace_mppool(method: str, stamps: Stamps) -> None:
    """All calls are handed over at once; those whose worker dies never end."""
    import multiprocessing

    with multiprocessing.get_context(method).Pool(1) as pool:
        for func, args in stamps.calls():
            pool.apply_async(func, args)
        stamps.wait()


# ---- an import -------------------------------------------------------------------------------------------------------


def import_alone(statement: str) -> Figures:
    """What an import statement itself takes in a new interpreter, when another one has had it before, see `start`."""
    program = f"import time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"
    command = [sys.executable, "-c", program]
    for _ in range(2):
        told = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=PATIENCE_S
        ).stdout
    return {"seconds": float(told)}
