"""
The cases of bench_kills.py: the systems that have time-outs, given bodies that only a kill ends.

A case runs in a process of its own, which here is the caller. It returns with its pool as it is: that process is killed
with all that was started there, which is the only way to end some of the bodies.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import kills_work
from harness import Figures
from kills_work import Mark, Place, place_of

WORKERS = 2

#: Calls at a time, for systems that take them one by one: two run, the others wait for a worker.
IN_FLIGHT = 4

#: Time-outs lie between these, in seconds, evenly over the 0.1 s after which pebble and mpire look at their workers:
#: one time-out for all would fit their tick or just miss it.
TIMEOUT_MIN_S, TIMEOUT_MAX_S = 0.05, 0.15

#: How long a body may live after its caller was told that it had timed out, and after its deadline where nobody was
#: told, in seconds, before it is said to live on. (Pebble waits for 3 s before it sends SIGKILL, to one body after the
#: other.)
LEFT_S, UNTOLD_S = 1.0, 8.0

#: How often is looked for what has ended, in seconds.
_TICK_S = 0.02

#: What may be wrong with a kill: the body lives on; it had been killed before the observer knew of it; the caller was
#: told of something else than a time-out.
ODD = ("live on", "unseen", "told otherwise")

Body = Callable[[Place, int], None]


class Watch:
    """What is seen of the kills of a sample: by the bodies, by the observer and by the caller."""

    def __init__(self, place: Place, stamps: memoryview, timeouts: list[float], seconds: float) -> None:
        self.place = place
        #: Of each call, in seconds.
        self.timeouts = timeouts
        #: No more calls are given to a slow system after this.
        self.until = time.monotonic() + seconds
        self._stamps = stamps
        self._told: dict[int, tuple[float, BaseException | None]] = {}  # {call: when the caller knew, of what}

    def tell(self, number: int, error: BaseException | None) -> None:
        """The caller knows now what became of a call."""
        self._told.setdefault(number, (time.monotonic(), error))

    def in_flight(self, given: int) -> int:
        """Calls of which the caller does not know yet."""
        return given - len(self._told)

    def is_stuck(self) -> bool:
        """Whether a body lives on: its worker is lost, and the next one would do the same."""
        return any(self._lives_on(number) for number in range(len(self.timeouts)))

    def settle(self, given: int) -> None:
        """Until all is known of these calls, or no more will be."""
        told, give_up_at = 0, time.monotonic() + UNTOLD_S
        while not self.is_stuck() and time.monotonic() < give_up_at:
            if all(number in self._told and self._ended_at(number) is not None for number in range(given)):
                return
            if len(self._told) > told:
                told, give_up_at = len(self._told), time.monotonic() + UNTOLD_S
            time.sleep(_TICK_S)

    def figures(self) -> Figures:
        """Latencies in seconds, from the deadline."""
        numbers = range(len(self.timeouts))
        ends = {number: end - self._deadline(number) for number in numbers if (end := self._ended_at(number))}
        told = {number: when - self._deadline(number) for number, (when, _) in self._told.items() if number in ends}
        odd = (
            sum(self._lives_on(number) for number in numbers),
            sum(not self._at(number, Mark.WATCHED) for number in self._told),
            sum(not isinstance(error, TimeoutError) for _, error in self._told.values()),
        )
        found: Figures = {"kills": len(ends), **dict(zip(ODD, odd, strict=True))}
        for what, latencies in (("end", list(ends.values())), ("told", list(told.values()))):
            if latencies:
                found |= {f"{what} median": statistics.median(latencies), f"{what} worst": max(latencies)}
        return found

    def _at(self, number: int, mark: Mark) -> float:
        return self._stamps[place_of(number, mark)] / 1e9

    def _deadline(self, number: int) -> float:
        return self._at(number, Mark.STARTED) + self.timeouts[number]

    def _ended_at(self, number: int) -> float | None:
        """
        When nothing of a body ran any more: its last beat, or else when it was left or its process was dead; and when
        the program was dead that it had started. None while any of it lives, and where the observer never knew of it.
        """
        ends = [at for at in (self._at(number, Mark.LEFT), self._at(number, Mark.DIED)) if at]
        if not ends or not self._at(number, Mark.WATCHED):
            return None
        end = self._at(number, Mark.BEAT) or min(ends)
        if not self._at(number, Mark.PROGRAM_WATCHED):
            return end
        program_end = self._at(number, Mark.PROGRAM_DIED)
        return max(end, program_end) if program_end else None

    def _lives_on(self, number: int) -> bool:
        if not self._at(number, Mark.WATCHED) or self._ended_at(number) is not None:
            return False
        deadline = self._deadline(number)
        until = max(self._told[number][0], deadline) + LEFT_S if number in self._told else deadline + UNTOLD_S
        return time.monotonic() > until


@contextlib.contextmanager
def watching(timeouts: list[float], seconds: float) -> Iterator[Watch]:
    """The memory and the observer of a sample."""
    memory = os.memfd_create("bench-kills")
    os.truncate(memory, kills_work.size_of(len(timeouts)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind("")  # The kernel finds a name that is free, and that is in no folder, unix(7).
        place = Place(f"/proc/{os.getpid()}/fd/{memory}", door.getsockname())
        observer = subprocess.Popen(
            [sys.executable, kills_work.__file__, str(door.fileno()), str(memory)], pass_fds=(door.fileno(), memory)
        )
    try:
        yield Watch(place, kills_work.stamps_in(memory), timeouts, seconds)
    finally:
        observer.kill()
        observer.wait()
        os.close(memory)


def kill(run: Callable[[Watch, Body], None], body: Body, kills: int, seconds: float) -> Figures:
    """Latencies of a system at one body, or of as many kills as it makes in time before one does not come."""
    generator = random.Random(kills)
    timeouts = [generator.uniform(TIMEOUT_MIN_S, TIMEOUT_MAX_S) for _ in range(kills)]
    with watching(timeouts, seconds) as watch:
        run(watch, body)
        return watch.figures()


# ---- systems ---------------------------------------------------------------------------------------------------------


def run_ours(watch: Watch, body: Body) -> None:
    """All calls are one run, whose events tell the caller."""
    from processes import Process, ProcessPool, Task, TaskFinished

    tasks = [
        Task(str(number), body, args=(watch.place, number), timeout=timeout)
        for number, timeout in enumerate(watch.timeouts)
    ]

    def tell(event: object) -> None:
        if isinstance(event, TaskFinished):
            watch.tell(int(event.entry.name), event.entry.exception)

    Process(tasks).run(ProcessPool(WORKERS), on_event=tell)
    watch.settle(len(tasks))


def run_pebble(watch: Watch, body: Body) -> None:
    """`pebble.ProcessPool.schedule(timeout=...)`; a callback of the future tells the caller."""
    from pebble import ProcessPool

    pool = ProcessPool(max_workers=WORKERS)
    _kept.append(pool)

    def give(number: int, timeout: float) -> None:
        future = pool.schedule(body, args=(watch.place, number), timeout=timeout)
        future.add_done_callback(lambda future: watch.tell(number, future.exception()))

    _feed(watch, give)


def run_mpire(watch: Watch, body: Body) -> None:
    """`mpire.WorkerPool.apply_async(task_timeout=...)`; its error callback tells the caller."""
    from mpire import WorkerPool

    pool = WorkerPool(n_jobs=WORKERS, daemon=False)
    _kept.append(pool)

    def give(number: int, timeout: float) -> None:
        def tell(error: BaseException) -> None:
            watch.tell(number, error)

        pool.apply_async(body, (watch.place, number), task_timeout=timeout, error_callback=tell)

    _feed(watch, give)


#: Pools that are not closed: some cannot, where a body lives on.
_kept: list[object] = []


def _feed(watch: Watch, give: Callable[[int, float], None]) -> None:
    """Give calls one after another while there is time, and see them end."""
    given = 0
    for number, timeout in enumerate(watch.timeouts):
        while watch.in_flight(given) >= IN_FLIGHT and not watch.is_stuck():
            time.sleep(_TICK_S)
        if watch.is_stuck() or time.monotonic() > watch.until:
            break
        give(number, timeout)
        given += 1
    watch.settle(given)


SYSTEMS = {"processes": run_ours, "pebble": run_pebble, "mpire": run_mpire}
