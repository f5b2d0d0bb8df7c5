"""Ctrl-C during a run: nothing new starts, children die, what ended is in the logs."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from processes import Process, Task, TaskDependency
from support.gate import Arrived, Gate, pass_gate


def note(path: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write("ran\n")


class Interrupter:
    """Sends the main thread a SIGINT when a task has come to the gate, and keeps who came."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._thread = threading.Thread(target=self._interrupt)
        self.arrived: list[Arrived] = []

    def _interrupt(self) -> None:
        self.arrived.append(self._gate.child_arrives())
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()


@contextmanager
def python_handles_interrupts() -> Iterator[None]:
    """Ctrl-C as in a program that never touched it; it is so afterwards too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


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
    report = getattr(caught.value, "report", None)
    assert report is not None
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
