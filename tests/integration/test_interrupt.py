"""Ctrl-C and its like during a run: nothing new starts, children die, what ended is in the logs."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self, TypeAlias

import pytest

from processes import Process, ProcessExecutionReport, RunFinished, RunTerminated, Task, TaskDependency
from processes.observer import RunEvent
from support.gate import Arrived, Gate, pass_gate

_Handler: TypeAlias = Callable[[int, FrameType | None], Any] | signal.Handlers


def note(path: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write("ran\n")


def signal_main_thread(number: signal.Signals) -> None:
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, number)


class Interrupter:
    """Sends the main thread a signal when a task has come to the gate, and keeps who came."""

    def __init__(self, gate: Gate, number: signal.Signals = signal.SIGINT) -> None:
        self._gate = gate
        self._number = number
        self._thread = threading.Thread(target=self._interrupt)
        self.arrived: list[Arrived] = []

    def _interrupt(self) -> None:
        self.arrived.append(self._gate.child_arrives())
        signal_main_thread(self._number)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()


@contextmanager
def python_handles_interrupts() -> Iterator[None]:
    """Signals as in a program that never touched them; it is so afterwards too."""
    own: dict[signal.Signals, _Handler] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in own.items()}
    try:
        yield
        assert {number: signal.getsignal(number) for number in own} == own
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def report_of(stopped: BaseException) -> ProcessExecutionReport:
    """What the exception carries."""
    report = getattr(stopped, "report", None)
    assert isinstance(report, ProcessExecutionReport)
    return report


def held(gate: Gate, folder: Path) -> Process:
    """A task that ends, one that stays at the gate, those that wait for it, and more than there are workers."""
    ran = str(folder / "ran")
    return Process(
        [
            Task("early", int, folder / "early.log"),
            Task("held", pass_gate, args=(gate.address,), dependencies=[TaskDependency("early")]),
            *(Task(f"late-{n}", note, args=(ran,), dependencies=[TaskDependency("held")]) for n in range(3)),
            *(Task(f"queued-{n}", note, args=(ran,), dependencies=[TaskDependency("early")]) for n in range(3)),
        ]
    )


def test_interrupt_ends_the_run_at_once(mode: str | None, gate: Gate, tmp_path: Path) -> None:
    """A8: a plain KeyboardInterrupt comes out though a task still runs; nothing more starts, children are gone."""
    with python_handles_interrupts(), held(gate, tmp_path) as process:
        with Interrupter(gate) as interrupter, pytest.raises(KeyboardInterrupt) as caught:
            process.run(mode, 1)
        assert type(caught.value) is KeyboardInterrupt
        if mode == "processes":
            interrupter.arrived[0].wait_gone(timeout=0.1)
    gate.close()
    assert not (tmp_path / "ran").exists()
    lines = (tmp_path / "early.log").read_text(encoding="utf-8").splitlines()
    assert [line.rpartition(" - ")[2] for line in lines] == ["Starting early.", "Finished early."]


def test_interrupted_process_runs_again(mode: str | None, tmp_path: Path) -> None:
    """A8: the next run is whole, as if nothing had been."""
    with Gate() as gate, python_handles_interrupts(), held(gate, tmp_path) as process:
        with Interrupter(gate), pytest.raises(KeyboardInterrupt):
            process.run(mode, 1)
        gate.close()
        assert len(process.run(mode, 2).successes) == 8
    assert (tmp_path / "ran").read_text(encoding="utf-8") == "ran\n" * 6


def test_interrupt_carries_what_had_happened(mode: str | None, gate: Gate, tmp_path: Path) -> None:
    """A8: `.report` has every task: what had ended, what ran, what never will."""
    process = held(gate, tmp_path)
    with python_handles_interrupts(), process, Interrupter(gate), pytest.raises(KeyboardInterrupt) as caught:
        process.run(mode, 1)
    gate.close()
    report = report_of(caught.value)
    assert list(report.successes) == ["early"]
    assert list(report.errored) == ["held"]
    assert len(report.skipped) == 6


INTERRUPTED_TWICE = """
import os, signal, sys, threading, psutil
from processes import Process, Task
from processes.backends.pool import PoolBackend
from processes.backends.sequential import SequentialBackend
from processes.backends.threads import ThreadsBackend

mode, backend = {
    "sequential": (None, SequentialBackend),
    "threads": ("threads", ThreadsBackend),
    "processes": ("processes", PoolBackend),
}[sys.argv[1]]
close = backend.close

def interrupted_close(self):
    signal.raise_signal(signal.SIGINT)
    close(self)

backend.close = interrupted_close

def interrupt(pid):
    os.kill(pid, signal.SIGINT)
    threading.Event().wait(600)

try:
    Process([Task("a", interrupt, args=(os.getpid(),))]).run(mode)
except KeyboardInterrupt:
    print("interrupted")
left = [thread for thread in threading.enumerate()[1:] if not thread.name.startswith("task ")]
print([thread.name for thread in left], [child.pid for child in psutil.Process().children(recursive=True)])
"""


@pytest.mark.parametrize("mode", ["sequential", "threads", "processes"])
def test_second_interrupt_leaves_nothing_behind(mode: str) -> None:
    """A8: who is impatient gets no zombies, and no thread that waits for log records for ever."""
    command = [sys.executable, "-c", INTERRUPTED_TWICE, mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("interrupted\n[] []\n", "")


# ---- SIGTERM and SIGHUP ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["TERM", "HUP"])
def test_termination_ends_the_run_in_order(
    mode: str | None, number: signal.Signals, code: int, gate: Gate, tmp_path: Path
) -> None:
    """As Ctrl-C does, with an exception that ends the program; the task that ran says by what it was stopped."""
    with python_handles_interrupts(), held(gate, tmp_path) as process:
        with Interrupter(gate, number) as interrupter, pytest.raises(RunTerminated) as caught:
            process.run(mode, 1)
        if mode == "processes":
            interrupter.arrived[0].wait_gone(timeout=0.1)
    gate.close()
    assert (caught.value.code, caught.value.signal) == (code, number.name)
    report = report_of(caught.value)
    assert (list(report.successes), list(report.errored), len(report.skipped)) == (["early"], ["held"], 6)
    error = report.entries["held"].error
    assert error is not None
    assert error.exception_type == "processes.RunTerminated"
    assert not (tmp_path / "ran").exists()


def leave() -> NoReturn:
    raise SystemExit(143)


def test_exit_of_a_task_is_no_termination(mode: str | None) -> None:
    """Also with that exit code: the run goes on."""
    with python_handles_interrupts():
        report = Process([Task("leave", leave), Task("other", int)]).run(mode)
    error = report.entries["leave"].error
    assert error is not None
    assert error.exception_type == "SystemExit"
    assert list(report.successes) == ["other"]


def test_termination_ends_a_task_that_runs_by_itself(gate: Gate) -> None:
    """`Task.run` ends as a process would; there is no report."""
    with python_handles_interrupts(), Interrupter(gate, signal.SIGTERM), pytest.raises(RunTerminated) as caught:
        Task("held", pass_gate, args=(gate.address,)).run()
    assert (caught.value.code, caught.value.report) == (143, None)


def test_handler_of_the_program_is_called_and_the_run_goes_on(mode: str | None, gate: Gate, tmp_path: Path) -> None:
    """Who handles SIGTERM decides what it means."""
    seen: list[int] = []

    def on_term(number: int, frame: object) -> None:
        seen.append(number)
        gate.close()  # Now everybody goes on.

    before = signal.signal(signal.SIGTERM, on_term)
    try:
        with held(gate, tmp_path) as process, Interrupter(gate, signal.SIGTERM):
            report = process.run(mode, 1)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
    assert len(report.successes) == 8


# ---- before the first task, and after the last -----------------------------------------------------------------------


class InterruptsWhenPickled:
    """Stands for what takes long to pickle."""

    def __reduce__(self) -> NoReturn:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("pickling went on")


def test_interrupt_ends_the_pickling(tmp_path: Path) -> None:
    """At once, whatever is still to be pickled; nothing was started, and the report says so."""
    tasks = [Task("first", note, args=(str(tmp_path / "ran"),)), Task("second", str, args=(InterruptsWhenPickled(),))]
    with python_handles_interrupts(), pytest.raises(KeyboardInterrupt) as caught:
        Process(tasks).run("processes")
    report = report_of(caught.value)
    assert {name: entry.why for name, entry in report.skipped.items()} == dict.fromkeys(
        ["first", "second"], "the run was interrupted"
    )
    assert not (tmp_path / "ran").exists()


def test_interrupt_after_the_last_task_is_not_lost(mode: str | None) -> None:
    """While events are still told: it comes out with a report in which everything has ended."""
    events: list[RunEvent] = []

    def on_event(event: RunEvent) -> None:
        events.append(event)
        if isinstance(event, RunFinished):
            signal_main_thread(signal.SIGINT)

    with python_handles_interrupts(), pytest.raises(KeyboardInterrupt) as caught:
        Process([Task("a", int)]).run(mode, on_event=on_event)
    report = report_of(caught.value)
    assert list(report.successes) == ["a"]
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.report is report


# ---- runs inside of runs, loops and threads --------------------------------------------------------------------------


def test_interrupt_ends_a_run_inside_a_task_in_order(mode: str | None, gate: Gate, tmp_path: Path) -> None:
    """In sequential mode both run in the main thread: the inner one ends with its report, then the outer one."""
    inner: list[KeyboardInterrupt] = []

    def run_inside() -> None:
        try:
            with held(gate, tmp_path) as process:
                process.run(mode, 1)
        except KeyboardInterrupt as stopped:
            inner.append(stopped)
            raise

    outer = Process([Task("outer", run_inside), Task("after", int, dependencies=[TaskDependency("outer")])])
    with python_handles_interrupts(), Interrupter(gate), pytest.raises(KeyboardInterrupt) as caught:
        outer.run()
    gate.close()
    assert list(report_of(inner[0]).successes) == ["early"]
    report = report_of(caught.value)
    assert (list(report.errored), list(report.skipped)) == (["outer"], ["after"])
    assert report.entries["after"].why == "the run was interrupted"


def test_interrupt_ends_a_run_inside_a_coroutine(mode: str | None, gate: Gate, tmp_path: Path) -> None:
    """It holds the loop up, so that asyncio's own way with Ctrl-C would never come to its turn."""

    async def main() -> None:
        process.run(mode, 1)

    process = held(gate, tmp_path)
    with python_handles_interrupts(), process, Interrupter(gate), pytest.raises(KeyboardInterrupt) as caught:
        asyncio.run(main())
    gate.close()
    assert list(report_of(caught.value).successes) == ["early"]


def test_run_inside_a_coroutine_is_as_any_other(mode: str | None) -> None:
    """Also with a coroutine function as a task, though a loop runs in this thread already."""

    async def main() -> ProcessExecutionReport:
        return Process([Task("plain", int), Task("coroutine", asyncio.sleep, args=(0, "slept"))]).run(mode)

    report = asyncio.run(main())
    assert {name: entry.result for name, entry in report.entries.items()} == {"plain": 0, "coroutine": "slept"}


def test_run_in_an_executor_of_a_loop(mode: str | None, gate: Gate, tmp_path: Path) -> None:
    """The loop goes on meanwhile."""

    async def main() -> ProcessExecutionReport:
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(None, process.run, mode, 1)
        arrived = await loop.run_in_executor(None, gate.child_arrives)
        arrived.let_go()
        return await running

    with held(gate, tmp_path) as process:
        assert len(asyncio.run(main()).successes) == 8


def test_two_runs_at_once_in_two_threads(mode: str | None, gate: Gate, tmp_path: Path) -> None:
    """Neither disturbs the other, nor the program's handlers."""
    reports: dict[str, ProcessExecutionReport] = {}

    def run(name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        with held(gate, folder) as process:
            reports[name] = process.run(mode, 1)

    with python_handles_interrupts():
        threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for arrived in [gate.child_arrives(), gate.child_arrives()]:  # Both run now.
            arrived.let_go()
        for thread in threads:
            thread.join()
    assert {name: len(report.successes) for name, report in reports.items()} == {"a": 8, "b": 8}
    assert [(tmp_path / name / "ran").read_text(encoding="utf-8") for name in ("a", "b")] == ["ran\n" * 6] * 2
