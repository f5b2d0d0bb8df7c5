"""The look at what a test left behind finds each kind, and nothing else."""

import contextlib
import mmap
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support import leaks
from support.notes import WAIT_S, wait_for_file
from support.pools import living

TESTS = Path(__file__).parents[1]
BRIEFLY = 0.1  # How long to wait for what will not go away.


def has_begun(pid: int, program: str) -> bool:
    """Whether a process is the program, with its environment: it comes a little later."""
    folder = Path(f"/proc/{pid}")
    return (folder / "comm").read_text().strip() == program and bool((folder / "environ").read_bytes())


@contextlib.contextmanager
def process_without_parent(*command: str, exec_it: bool) -> Iterator[int]:
    """A grandchild whose parent is gone: it has ended when the block ends."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            grandchild = os.fork()
            if grandchild == 0:
                os.setsid()
                if exec_it:
                    os.execvp(command[0], command)
                time.sleep(60)
            else:
                os.write(write_end, str(grandchild).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    pid = int(os.read(read_end, 100))
    os.close(read_end)
    os.close(write_end)
    give_up_at = time.monotonic() + 60
    while exec_it and not has_begun(pid, command[0]):
        assert time.monotonic() < give_up_at, "it never began"
        time.sleep(0.001)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)


def test_leaks_are_none_when_nothing_happened() -> None:
    """What was there before is no leak, and no time is lost."""
    before = leaks.take_stock()
    started_at = time.monotonic()
    assert not leaks.wait_for_leaks(before, settle_time=60)
    assert time.monotonic() - started_at < 60


def test_leaks_name_a_child() -> None:
    """A child that runs is told with its command."""
    before = leaks.take_stock()
    with subprocess.Popen(["sleep", "60"]) as child:
        left = leaks.wait_for_leaks(before, BRIEFLY)
        child.kill()
    assert left.processes == {child.pid}
    assert [line for line in left.lines if "sleep 60" in line]


def test_leaks_name_a_child_that_was_not_reaped() -> None:
    """A zombie is a leak: whoever started it never asked how it ended."""
    before = leaks.take_stock()
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    left = leaks.wait_for_leaks(before, BRIEFLY)
    child.wait()
    assert left.lines == (f"process {child.pid}, state Z, parent {os.getpid()}: not reaped",)


@pytest.mark.usefixtures("no_watchdog")
@pytest.mark.parametrize("exec_it", [False, True], ids=["forked", "exec"])
def test_leaks_name_a_process_whose_parent_is_gone(*, exec_it: bool) -> None:
    """A double fork and a session of its own hide nothing."""
    before = leaks.take_stock()
    with process_without_parent("sleep", "60", exec_it=exec_it) as pid:
        left = leaks.wait_for_leaks(before, BRIEFLY)
    assert left.processes == {pid}


def test_leaks_leave_out_processes_of_others() -> None:
    """A process that does not descend from this one is none of its business."""
    foreign = {(1, 1): 0, (2, 5): 1}
    assert leaks._ours(foreign) == frozenset()


def test_leaks_kill_processes() -> None:
    """What was left running can be ended."""
    before = leaks.take_stock()
    with subprocess.Popen(["sleep", "60"]) as child:
        leaks.wait_for_leaks(before, BRIEFLY).kill_processes()
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("daemon", [False, True])
def test_leaks_name_a_thread(*, daemon: bool) -> None:
    """A thread that runs is told by its name, daemon or not."""
    before = leaks.take_stock()
    finish = threading.Event()
    thread = threading.Thread(target=finish.wait, name="lingering", daemon=daemon)
    thread.start()
    left = leaks.wait_for_leaks(before, BRIEFLY)
    finish.set()
    thread.join()
    assert ["lingering" in line for line in left.lines] == [True]


def test_leaks_name_a_descriptor() -> None:
    """Open descriptors are told with what they are open on."""
    before = leaks.take_stock()
    ends = os.pipe()
    left = leaks.wait_for_leaks(before, BRIEFLY)
    for end in ends:
        os.close(end)
    assert [line.split(":")[0] for line in left.lines] == [f"descriptor {end} -> pipe" for end in ends]


def test_leaks_name_a_descriptor_that_took_the_place_of_another() -> None:
    """The same number, open on something else, is a leak."""
    number = os.memfd_create("before")
    before = leaks.take_stock()
    os.dup2(other := os.memfd_create("after"), number)
    os.close(other)
    left = leaks.wait_for_leaks(before, BRIEFLY)
    os.close(number)
    assert left.lines == (f"descriptor {number} -> /memfd:after (deleted)",)


def test_leaks_leave_out_what_waits_to_be_collected() -> None:
    """A descriptor whose owner is garbage in a cycle is not left behind."""

    class Owner:
        def __init__(self) -> None:
            self.cycle = self
            self.descriptor = os.memfd_create("owned")

        def __del__(self) -> None:
            os.close(self.descriptor)

    before = leaks.take_stock()
    Owner()
    assert not leaks.wait_for_leaks(before, BRIEFLY)


@contextlib.contextmanager
def shared_memory() -> Iterator[Path]:
    """Shared memory that is in use all the while, so that no other tests which run now are blamed for it."""
    path = Path("/dev/shm") / f"processes-test-{os.getpid()}"
    with open(path, "wb+") as file:
        file.truncate(mmap.PAGESIZE)
        with mmap.mmap(file.fileno(), mmap.PAGESIZE):
            try:
                yield path
            finally:
                path.unlink()


def test_leaks_name_shared_memory() -> None:
    """A name in /dev/shm is told."""
    before = leaks.take_stock()
    with shared_memory() as path:
        left = leaks.wait_for_leaks(before, BRIEFLY)
    assert f"shared memory {path}" in left.lines
    assert left.shared_memory == frozenset({str(path)})


def test_leaks_leave_out_shared_memory_that_comes_after_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where other programs come and go, there is something new at each look, and in the end nobody has it in use."""
    before = leaks.take_stock()
    looks = iter(range(10**9))
    monkeypatch.setattr(leaks, "take_stock", lambda: replace(before, shared_memory=frozenset({f"/look/{next(looks)}"})))
    assert not leaks.wait_for_leaks(before, settle_time=60)
    assert next(looks) == 2


def test_leaks_leave_out_folders_in_shared_memory() -> None:
    """Other programs have temporary folders there, which nobody has in use as a whole."""
    before = leaks.take_stock()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        left = leaks.wait_for_leaks(before, BRIEFLY)
    assert folder not in left.shared_memory


STRANGER = """
import mmap, sys, time
with open(sys.argv[1], "rb+") as file:
    memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)
print("mapped", flush=True)
time.sleep(60)
"""


def test_leaks_leave_out_shared_memory_of_others(tmp_path: Path) -> None:
    """What another program on the machine has in use is no leak, until it is gone."""
    before = leaks.take_stock()
    said = tmp_path / "said"
    with shared_memory() as path:
        # Without the mark, and without a parent: the shell has ended.
        command = ["sh", "-c", '"$@" > "$OUTPUT" & echo $!', "sh", sys.executable, "-c", STRANGER, str(path)]
        result = subprocess.run(command, env={"OUTPUT": str(said)}, stdout=subprocess.PIPE, check=True, timeout=60)
        stranger = int(result.stdout)
        try:
            assert wait_for_file(said) == "mapped\n"
            beside_it = leaks.wait_for_leaks(before, BRIEFLY)
        finally:
            os.kill(stranger, signal.SIGKILL)
        assert not living([stranger], within=WAIT_S)
        left = leaks.wait_for_leaks(before, BRIEFLY)
    assert beside_it.shared_memory == frozenset()
    assert left.shared_memory == frozenset({str(path)})


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_leaks_name_a_temporary_file(kind: str) -> None:
    """A file or a folder in the temporary folder is told."""
    before = leaks.take_stock()
    path = Path(tempfile.gettempdir()) / "left"
    path.touch() if kind == "file" else path.mkdir()
    left = leaks.wait_for_leaks(before, BRIEFLY)
    path.unlink() if kind == "file" else path.rmdir()
    assert left.lines == (f"temporary file {path}",)


def test_leaks_wait_for_what_ends_soon() -> None:
    """What ends within the time is no leak."""
    before = leaks.take_stock()
    thread = threading.Timer(BRIEFLY, lambda: None)
    thread.start()
    assert not leaks.wait_for_leaks(before, settle_time=60)


# The shared memory is in use, so that other tests which run now are not blamed for it.
LEAKING_TESTS = """
import mmap, os, subprocess, tempfile, threading

def test_nothing():
    pass

def test_process():
    global child
    child = subprocess.Popen(["sleep", "60"])

def test_thread():
    threading.Thread(target=threading.Event().wait, daemon=True).start()

def test_descriptor():
    os.pipe()

def test_shared_memory():
    global memory
    with open(SHARED_MEMORY, "wb+") as file:
        file.truncate(mmap.PAGESIZE)
        memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)

def test_temporary_file():
    tempfile.mkdtemp()

def test_failure_is_told_once():
    descriptors = os.pipe()
    assert not descriptors
"""


def test_leaks_fail_the_test_that_left_them(tmp_path: Path) -> None:
    """The fixture of this very test suite finds each kind at its test, and blames no other."""
    in_shared_memory = Path("/dev/shm") / f"processes-test-{os.getpid()}"
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {TESTS}\n")
    conftest = (TESTS / "conftest.py").read_text() + f"\nleaks.SETTLE_TIME_S = {BRIEFLY}\n"
    (tmp_path / "conftest.py").write_text(conftest)
    tests = LEAKING_TESTS.replace("SHARED_MEMORY", repr(str(in_shared_memory)))
    (tmp_path / "test_leaking.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "base")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    in_shared_memory.unlink()
    errors = re.findall(r"^ERROR \S+::(\w+)", result.stdout, re.MULTILINE)
    assert errors == [
        "test_process",
        "test_thread",
        "test_descriptor",
        "test_shared_memory",
        "test_temporary_file",
    ], result.stdout
    assert "1 failed, 6 passed, 5 errors" in result.stdout
