"""What a task writes to its output, as lines of its log: whoever writes, in order, to the last word."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from processes import Process, ProcessExecutionReport, ProcessPool, Task
from support.gate import Gate, pass_gate
from support.notes import wait_for_file
from support.pools import every_method, pool


def told(path: Path) -> list[tuple[str, str]]:
    """(logger's name, message) of each line of a log."""
    lines = [line.split(" - ", 3) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(line[1], line[3]) for line in lines if len(line) == 4]


def outputs(path: Path, name: str) -> list[str]:
    """The lines that a task wrote."""
    return [message for logger, message in told(path) if logger == f"processes.{name}.output"]


def run(tasks: list[Task], parallel: str | ProcessPool = "processes") -> ProcessExecutionReport:
    """Run them, and close their logs."""
    with Process(tasks) as process:
        return process.run(parallel)


def write_every_way() -> None:
    print("printed")
    logging.getLogger("etl").info("logged first")
    os.write(1, b"by descriptor\n")
    logging.getLogger("etl").info("logged second")
    ctypes.CDLL(None).puts(b"by C")
    logging.getLogger("etl").info("logged third")
    subprocess.run([sys.executable, "-c", "print('by a child')"], check=True)
    print("to stderr", file=sys.stderr)
    print("no line break at the end", end="")


@every_method
def test_output_stands_at_its_place_among_the_records(method: str, tmp_path: Path) -> None:
    """4.1: prints, raw writes, C's own buffers, programs that the task starts; records where they were made."""
    path = tmp_path / "a.log"
    run([Task("a", write_every_way, path, capture_output=True)], pool(method, 1))
    own = "processes.a.output"
    assert told(path) == [
        ("processes.a", "Starting a."),
        (own, "printed"),
        ("etl", "logged first"),
        (own, "by descriptor"),
        ("etl", "logged second"),
        (own, "by C"),
        ("etl", "logged third"),
        (own, "by a child"),
        (own, "to stderr"),
        (own, "no line break at the end"),
        ("processes.a", "Finished a."),
    ]


def print_name(name: str) -> None:
    print("I am", name)


@every_method
def test_output_is_that_of_its_own_task(method: str, tmp_path: Path) -> None:
    """Several attempts in one child, with and without: each task's lines are in its own log."""
    tasks = [Task(f"t{n}", print_name, tmp_path / f"{n}.log", (str(n),), capture_output=n % 2 == 0) for n in range(20)]
    run(tasks, pool(method, 1))
    for n in range(20):
        assert outputs(tmp_path / f"{n}.log", f"t{n}") == ([f"I am {n}"] if n % 2 == 0 else [])


def write_and_die() -> None:
    os.write(1, b"last words\nand more")
    os.kill(os.getpid(), signal.SIGKILL)


def write_and_stay(address: bytes) -> None:
    os.write(2, b"about to wait\n")
    pass_gate(address)


def test_output_of_a_child_that_dies_is_there(tmp_path: Path) -> None:
    """To the last byte, in the log and among the last lines of the failure."""
    path = tmp_path / "a.log"
    report = run([Task("a", write_and_die, path, capture_output=True)])
    assert outputs(path, "a") == ["last words", "and more"]
    error = report.entries["a"].error
    assert error is not None
    assert error.last_log_lines == ("INFO - last words", "INFO - and more")


def test_output_is_logged_while_the_task_runs(tmp_path: Path, gate: Gate) -> None:
    """Nobody has to wait for the end to see it, though no record is logged."""
    import threading

    path = tmp_path / "a.log"
    seen: list[str] = []

    def let_on_when_logged() -> None:
        arrived = gate.child_arrives()
        while "about to wait" not in wait_for_file(path):
            pass
        seen.append("before its end")
        arrived.let_go()

    watcher = threading.Thread(target=let_on_when_logged)
    watcher.start()
    run([Task("a", write_and_stay, path, (gate.address,), capture_output=True)])
    watcher.join()
    assert seen == ["before its end"]


def write_much(size: int) -> None:
    line = b"x" * 999 + b"\n"
    for _ in range(size // 1000):
        os.write(1, line)


def test_output_of_many_megabytes_is_whole(tmp_path: Path) -> None:
    """10 MB to standard output: nothing waits for anybody, no line is lost or torn."""
    path = tmp_path / "a.log"
    run([Task("a", write_much, path, (10_000_000,), capture_output=True)])
    assert outputs(path, "a") == ["x" * 999] * 10_000


def write_odd_bytes() -> None:
    os.write(1, b"caf\xe9\r\n\n" + b"y" * 200_000)


def test_output_that_is_no_text_is_shown(tmp_path: Path) -> None:
    """What is no UTF-8 by escapes; a line without end in parts."""
    path = tmp_path / "a.log"
    run([Task("a", write_odd_bytes, path, capture_output=True)])
    first, empty, *parts = outputs(path, "a")
    assert (first, empty) == ("caf\\xe9", "")
    assert "".join(parts) == "y" * 200_000


@pytest.mark.parametrize("mode", [None, "threads"])
def test_output_cannot_be_captured_where_tasks_share_it(mode: str | None) -> None:
    """It is refused before anything runs, naming the task and the mode."""
    ran: list[int] = []
    process = Process([Task("first", ran.append, args=(1,)), Task("a", print, capture_output=True)])
    with pytest.raises(ValueError, match="Task 'a' has capture_output=True, which only parallel='processes'"):
        process.run(mode)
    assert not ran


def test_capture_output_is_a_bool() -> None:
    """Anything else is refused."""
    with pytest.raises(TypeError, match="capture_output must be bool"):
        Task("a", print, capture_output=1)  # type: ignore[arg-type]


def test_output_without_capture_is_the_programs_own(capfd: pytest.CaptureFixture[str]) -> None:
    """As ever."""
    run([Task("a", print, args=("seen",))], ProcessPool(1))
    assert capfd.readouterr().out == "seen\n"
