"""
Real programs that are interrupted: what they print, their exit code, and that nothing is left of them.

The task that runs waits at a gate, with a process of its own in a session of its own where it has a child to itself.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from support.gate import WAIT_S, Gate
from support.pools import living, pids_in
from support.terminal import Terminal

every_mode = pytest.mark.parametrize("mode", ["sequential", "threads", "processes"])

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
every_signal = pytest.mark.parametrize(("number", "code"), SIGNALS.items(), ids=[number.name for number in SIGNALS])

#: How long what a program leaves may take to end, in seconds.
LEFT_S = 2.0

PROGRAM = """
import os, subprocess, sys
from processes import Process, RunTerminated, Task, TaskDependency
from support.gate import pass_gate
from support.notes import note_pid

mode, folder, address = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3])
mode = None if mode == "sequential" else mode

CHILD = "import os, time; os.write(1, b'.'); time.sleep(600)"

def hold():
    if mode == "processes":
        note_pid(folder, "task")
        child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, start_new_session=True)
        child.stdout.read(1)
    pass_gate(address)

note_pid(folder, "program")
process = Process([
    Task("early", int, os.path.join(folder, "early.log.part")),
    Task("held", hold, os.path.join(folder, "held.log.part"), dependencies=[TaskDependency("early")]),
    Task("late", int, dependencies=[TaskDependency("held")]),
])
"""

UNCAUGHT = PROGRAM + "process.run(mode, 2)"

CAUGHT = (
    PROGRAM
    + """
try:
    process.run(mode, 2)
except (KeyboardInterrupt, RunTerminated) as stopped:
    print(type(stopped).__name__)
    for entry in stopped.report.entries.values():
        print(entry.name, entry.status.value, entry.error.exception_type if entry.error else entry.why or entry.result)
"""
)

IN_ORDER = ["early success 0", "held errored {error}", "late skipped the run was interrupted"]
ERRORS = {
    signal.SIGINT: ("KeyboardInterrupt", "KeyboardInterrupt"),
    signal.SIGTERM: ("RunTerminated", "processes.RunTerminated"),
    signal.SIGHUP: ("RunTerminated", "processes.RunTerminated"),
}


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NO_COLOR": "1"}


def arguments(program: str, mode: str, folder: Path, gate: Gate) -> list[str]:
    return [sys.executable, "-c", program, mode, str(folder), gate.address.hex()]


@contextmanager
def nothing_left(program: int, folder: Path) -> Iterator[None]:
    """Within this the program ends; a moment later nobody whom it had started is there any more."""
    started = [program, *(child.pid for child in psutil.Process(program).children(recursive=True))]
    started += [pid for name, pid in pids_in(folder).items() if name != "program"]
    yield
    left = living(started, within=LEFT_S)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def told(number: signal.Signals) -> list[str]:
    """What CAUGHT prints."""
    kind, error = ERRORS[number]
    return [kind, *(line.format(error=error) for line in IN_ORDER)]


# ---- from a shell ----------------------------------------------------------------------------------------------------

#: The shell outlives a signal that is sent to everybody, so that it can tell the exit code.
SHELL = 'trap : INT TERM HUP; "$@"; echo "code $?"'


@contextmanager
def in_shell(command: list[str], folder: Path, gate: Gate) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A shell that runs a program whose task has come to the gate; the shell, and the program's id."""
    with subprocess.Popen(
        ["sh", "-c", SHELL, "sh", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    ) as shell:
        try:
            gate.child_arrives()
            yield shell, pids_in(folder)["program"]
        finally:
            shell.kill()


@every_signal
@every_mode
def test_signal_to_the_program_alone(mode: str, number: signal.Signals, code: int, gate: Gate, tmp_path: Path) -> None:
    """Exit code 128 + n; one traceback for Ctrl-C as Python prints it, none for the others; nothing is left."""
    with (
        in_shell(arguments(UNCAUGHT, mode, tmp_path, gate), tmp_path, gate) as (shell, program),
        nothing_left(program, tmp_path),
    ):
        os.kill(program, number)
        output, errors = shell.communicate(timeout=WAIT_S)
    assert output == f"code {code}\n"
    if number == signal.SIGINT:
        assert errors.count("Traceback (most recent call last)") == 1
        assert errors.splitlines()[-1] == "KeyboardInterrupt"
    else:
        assert errors == ""
    lines = (tmp_path / "held.log.part").read_text().splitlines()
    assert lines[0].endswith("Starting held.")
    assert ERRORS[number][1] in lines[-1]


@every_signal
@every_mode
def test_signal_to_the_whole_group(mode: str, number: signal.Signals, code: int, gate: Gate, tmp_path: Path) -> None:
    """As a terminal sends it; the program catches what it was stopped by, and the report has what happened."""
    with (
        in_shell(arguments(CAUGHT, mode, tmp_path, gate), tmp_path, gate) as (shell, program),
        nothing_left(program, tmp_path),
    ):
        os.killpg(shell.pid, number)
        output, errors = shell.communicate(timeout=WAIT_S)
    assert (output.splitlines(), errors) == ([*told(number), "code 0"], "")


IN_THREAD = (
    PROGRAM
    + """
import threading

thread = threading.Thread(target=process.run, args=(mode, 2))
thread.start()
thread.join()
"""
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_program_that_runs_in_another_thread_dies_as_ever(number: signal.Signals, gate: Gate, tmp_path: Path) -> None:
    """Nobody takes its signals over; its children die with it."""
    with (
        in_shell(arguments(IN_THREAD, "processes", tmp_path, gate), tmp_path, gate) as (shell, program),
        nothing_left(program, tmp_path),
    ):
        os.kill(program, number)
        output, _ = shell.communicate(timeout=WAIT_S)
    assert output == f"code {128 + number}\n"


# ---- from a terminal -------------------------------------------------------------------------------------------------


@every_mode
def test_ctrl_c_on_a_terminal(mode: str, gate: Gate, tmp_path: Path) -> None:
    """The program dies of SIGINT, as shells want to see it, with one traceback and nothing left."""
    with Terminal(arguments(UNCAUGHT, mode, tmp_path, gate), environment()) as terminal:
        gate.child_arrives()
        with nothing_left(terminal.child.pid, tmp_path):
            terminal.press_ctrl_c()
            code, shown = terminal.wait()
    assert code == -signal.SIGINT
    assert shown.count("Traceback (most recent call last)") == 1
    assert shown.splitlines()[-1] == "KeyboardInterrupt"


@every_mode
def test_terminal_that_is_closed(mode: str, gate: Gate, tmp_path: Path) -> None:
    """The program ends with 129, and nothing is left."""
    with Terminal(arguments(UNCAUGHT, mode, tmp_path, gate), environment()) as terminal:
        gate.child_arrives()
        with nothing_left(terminal.child.pid, tmp_path):
            terminal.hang_up()
            code, _ = terminal.wait()
    assert code == 129


# What is told and logged of a task waits at a second gate, once the run has been interrupted.
SLOW_LISTENERS = (
    PROGRAM
    + """
import logging
from processes import TaskFinished

second = bytes.fromhex(sys.argv[4])

class Slow(logging.Handler):
    def emit(self, record):
        if record.levelno == logging.ERROR: pass_gate(second)

def slow(event):
    if isinstance(event, TaskFinished) and event.entry.name == "held": pass_gate(second)

if sys.argv[5] == "log": process.get_task("held").logger.addHandler(Slow())
try:
    process.run(mode, 2, on_event=slow if sys.argv[5] == "on_event" else None)
except KeyboardInterrupt as stopped:
    print("interrupted", *(entry.status.value for entry in stopped.report.entries.values()), flush=True)
os._exit(130)
"""
)


@pytest.mark.parametrize("listener", ["log", "on_event"])
@every_mode
def test_second_ctrl_c_does_not_wait(mode: str, listener: str, gate: Gate, tmp_path: Path) -> None:
    """Neither for what is logged nor for what is told; with the report, and nothing left."""
    with Gate() as second:
        command = [*arguments(SLOW_LISTENERS, mode, tmp_path, gate), second.address.hex(), listener]
        with Terminal(command, environment()) as terminal:
            gate.child_arrives()
            with nothing_left(terminal.child.pid, tmp_path):
                terminal.press_ctrl_c()
                second.child_arrives()
                terminal.press_ctrl_c()
                code, shown = terminal.wait()
    assert (code, shown) == (130, "^C^Cinterrupted success errored skipped\n")


SWALLOWS = """
import sys
from processes import Process, Task
from support.gate import pass_gate

def swallow():
    try:
        pass_gate(bytes.fromhex(sys.argv[1]))
    except BaseException:
        pass
    pass_gate(bytes.fromhex(sys.argv[2]))

Process([Task("swallow", swallow)]).run()
"""


def test_second_ctrl_c_ends_a_task_that_swallowed_the_first(gate: Gate) -> None:
    """In sequential mode, where a task cannot be killed, each Ctrl-C is raised in it anew."""
    with Gate() as second:
        command = [sys.executable, "-c", SWALLOWS, gate.address.hex(), second.address.hex()]
        with Terminal(command, environment()) as terminal:
            gate.child_arrives()
            terminal.press_ctrl_c()
            second.child_arrives()
            terminal.press_ctrl_c()
            code, shown = terminal.wait()
    assert code == -signal.SIGINT
    assert shown.count("Traceback (most recent call last)") == 1
