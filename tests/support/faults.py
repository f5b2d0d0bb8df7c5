"""
Faults: what a task may do that harms nobody else, and the places where it may do it.

A deed is a function without parameters. A place does a deed somewhere on a task's way: while its arguments are loaded,
in its call, while its result is pickled, and so on.

Each child loads this module, and faults end many a child: what only some of them need is imported by these.
"""

import ctypes
import itertools
import logging
import math
import mmap
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from support.notes import note_pid, wait_for_file

Deed = Callable[[], object]


def be_loaded() -> None:
    """A child's initializer: what this module imports is there before any time-out begins."""


def innocent(number: int) -> float:
    """Log a line, return a known value."""
    logging.getLogger("innocent").info("task %d", number)
    return math.sqrt(number)


# ---- deeds -----------------------------------------------------------------------------------------------------------


class OfNoKind(BaseException):
    """Neither an Exception nor one that Python treats in its own way."""


def raise_value_error() -> NoReturn:
    raise ValueError("the deed")


def raise_base() -> NoReturn:
    raise OfNoKind("the deed")


def raise_interrupt() -> NoReturn:
    raise KeyboardInterrupt("the deed")


def leave_by_sys_exit() -> NoReturn:
    sys.exit("the deed")


def overflow_python_stack() -> None:
    overflow_python_stack()


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def be_terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def kill_own_group() -> None:
    os.killpg(0, signal.SIGKILL)


def segfault() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def read_past_end_of_file() -> None:
    """A SIGBUS: the page is mapped, and the file behind it is gone."""
    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        mapped = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        file.truncate(0)
        mapped[0] = 1


def overflow_c_stack() -> None:
    """A regular expression of nothing but parentheses, which the C library takes apart by calling itself."""
    pattern = b"(" * 10**6 + b")" * 10**6
    extended = 1  # REG_EXTENDED in regex.h
    ctypes.CDLL(None).regcomp(ctypes.create_string_buffer(1024), pattern, extended)


def exit_with_0() -> None:
    os._exit(0)


def exit_with_7() -> None:
    os._exit(7)


def exit_while_children_hold_on() -> None:
    """What it forked has its descriptors still."""
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
    os._exit(7)


# ---- values that do a deed -------------------------------------------------------------------------------------------


class Loads:
    """Does it when it is loaded from its pickle."""

    def __init__(self, deed: Deed) -> None:
        self.deed = deed

    def __reduce__(self) -> tuple[Any, ...]:
        return self.deed, ()

    def __call__(self) -> None:
        """So that it can be a task's function too."""


class LoadsTwice:
    """Does it when it is loaded from its pickle, but not the first time in the process that made it."""

    def __init__(self, deed: Deed) -> None:
        self.deed = deed
        self.token = os.urandom(8).hex()
        _untried.add(self.token)

    def __reduce__(self) -> tuple[Any, ...]:
        return _do_if_tried, (self.token, self.deed)


_untried: set[str] = set()


def _do_if_tried(token: str, deed: Deed) -> str:
    if token in _untried:
        _untried.remove(token)
    else:
        deed()
    return "loaded"


class Dumps:
    """Does it when it is pickled."""

    def __init__(self, deed: Deed) -> None:
        self.deed = deed

    def __reduce__(self) -> tuple[Any, ...]:
        self.deed()
        return str, ("pickled",)


class Frees:
    """Does it when it is freed; its pickle is harmless."""

    def __init__(self, deed: Deed) -> None:
        self.deed = deed

    def __reduce__(self) -> tuple[Any, ...]:
        return str, ("pickled",)

    def __del__(self) -> None:
        self.deed()


class Shows:
    """Does it when its text is asked for."""

    def __init__(self, deed: Deed) -> None:
        self.deed = deed

    def __str__(self) -> str:
        self.deed()
        return "shown"

    __repr__ = __str__


class Wounded(Exception):
    """Does it when it is asked what it says."""

    def __init__(self, deed: Deed) -> None:
        super().__init__()
        self.deed = deed

    def __str__(self) -> str:
        self.deed()
        return "shown"


# ---- places ----------------------------------------------------------------------------------------------------------


def take(*values: object) -> str:
    return "taken"


def call(deed: Deed) -> str:
    deed()
    return "called"


def return_loading_twice(deed: Deed) -> LoadsTwice:
    """The child that made it can load it, so that it finds its way to whoever takes it."""
    return LoadsTwice(deed)


def return_loading(deed: Deed) -> Loads:
    return Loads(deed)


def return_dumping(deed: Deed) -> Dumps:
    return Dumps(deed)


def return_dumping_after_much(deed: Deed) -> tuple[bytes, Dumps]:
    """Most of the result is written by then."""
    return bytes(50_000_000), Dumps(deed)


def return_freeing(deed: Deed) -> Frees:
    return Frees(deed)


def log_showing(deed: Deed) -> str:
    logging.getLogger("faults").warning("before %s", Shows(deed))
    return "logged"


def do_in_thread(deed: Deed) -> str:
    threading.excepthook = take
    thread = threading.Thread(target=deed)
    thread.start()
    thread.join()
    return "joined"


def do_in_coroutine(deed: Deed) -> str:
    import asyncio

    async def do() -> None:
        await asyncio.sleep(0)
        deed()

    asyncio.run(do())
    return "awaited"


def do_in_fork(deed: Deed) -> str:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        try:
            deed()
        finally:
            os._exit(1)
    os.waitpid(pid, 0)
    return "waited"


def fail_showing(deed: Deed) -> NoReturn:
    raise Wounded(deed)


def fail_beside(deed: Deed) -> NoReturn:
    mine = Shows(deed)  # noqa: F841  a local that does it when it is looked at
    raise ValueError("the cause")


# ---- what will not end, beside `stubborn` ----------------------------------------------------------------------------


def sleep_on() -> None:
    time.sleep(600)


def sleep_and_return(seconds: float, number: int) -> int:
    time.sleep(seconds)
    return number


def match_for_ever() -> None:
    """A regular expression that backtracks: C code that holds the GIL, and looks for signals only now and then."""
    re.match(r"(a|a)*$", "a" * 60 + "b")


def sum_for_ever() -> None:
    """C code that holds the GIL, and never looks for signals."""
    sum(itertools.repeat(0))


def wait_for_program() -> None:
    subprocess.run(["sleep", "600"], check=False)


def retry_for_ever() -> None:
    """What comes up is told and forgotten, as a service does."""
    while True:
        try:
            time.sleep(600)
        except BaseException:
            logging.getLogger("faults").exception("again")


def beget_for_ever(folder: str) -> None:
    """A child that is replaced by its own child, in a session of its own, again and again."""
    if os.fork() == 0:
        while True:
            os.setsid()
            note_pid(folder, "child")
            if os.fork() != 0:
                os._exit(0)
    time.sleep(600)


# ---- what happens to a task from outside -----------------------------------------------------------------------------


def wait_after_noting(folder: str) -> str:
    """Until it has been let on, or for ever."""
    note_pid(folder, "task")
    wait_for_file(Path(folder, "on"))
    return "let on"


def send_signal(folder: str, *numbers: int) -> str:
    """Send the signals to the task that is noted there, one after another, and let it on if it lives."""
    pid = int(wait_for_file(Path(folder, "task")))
    for number in numbers:
        os.kill(pid, number)
        if number == signal.SIGSTOP:
            await_stop(pid)
    Path(folder, "on").write_text("on")
    return "sent"


def await_stop(pid: int) -> None:
    import psutil

    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.001)


# ---- values ----------------------------------------------------------------------------------------------------------


class Zeros:
    """Equal to bytes that are so many zeros."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytes) and len(other) == other.count(0) == self.count

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Zeros({self.count})"


class Likeness:
    """Equal to whatever shows as it does: exceptions, for example, are never equal."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return repr(other) == self.text

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return self.text


def count_x(data: bytearray) -> int:
    return data.count(b"x")


def nest(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def depth_of(nested: list[Any]) -> int:
    depth = 0
    while nested:
        nested = nested[0]
        depth += 1
    return depth


def return_power(base: int, exponent: int) -> int:
    power: int = base**exponent
    return power


def return_exception(kind: type[BaseException], *args: object) -> BaseException:
    return kind(*args)


def raise_(kind: type[BaseException], *args: object) -> NoReturn:
    raise kind(*args)


def raise_group() -> NoReturn:
    raise BaseExceptionGroup("several", [ValueError("one"), OfNoKind("two")])


def warn_as_error() -> None:
    warnings.simplefilter("error")
    warnings.warn("the warning", DeprecationWarning, stacklevel=2)


# ---- memory ----------------------------------------------------------------------------------------------------------

MIB = 2**20


def fill(size: int) -> mmap.mmap:
    """Memory that goes back to the system when it is closed."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, size, MIB):
        memory[start : start + MIB] = b"x" * MIB
    return memory


def fill_and_wait(size: int) -> None:
    memory = fill(size)
    time.sleep(600)
    memory.close()


def fill_slowly(step: int) -> None:
    kept = []
    while True:
        kept.append(fill(step))
        time.sleep(0.001)


def fill_in_children(folder: str, count: int, size: int) -> None:
    """Each in a session of its own, none over any limit; none begins before all are noted, for two may be too much."""
    noted_end, noted = os.pipe()
    start_end, start = os.pipe()
    for number in range(count):
        if os.fork() == 0:
            os.setsid()
            os.close(start)
            note_pid(folder, f"child{number}")
            os.write(noted, b".")
            os.read(start_end, 1)
            fill_and_wait(size)
    note_pid(folder, "task")
    for _ in range(count):
        os.read(noted_end, 1)
    os.close(start)
    time.sleep(600)


def want_too_much() -> None:
    """The system refuses at once."""
    bytearray(2**60)


def want_more_than_own_limit(limit: int) -> None:
    """What it sets for itself stays with its child: see README on resource limits."""
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    bytearray(2 * limit)


# ---- company ---------------------------------------------------------------------------------------------------------


def use_multiprocessing(start_method: str) -> list[int]:
    import multiprocessing

    with multiprocessing.get_context(start_method).Pool(2) as workers:
        return workers.map(math.factorial, range(6))


def use_executor(start_method: str) -> list[int]:
    import concurrent.futures
    import multiprocessing

    context = multiprocessing.get_context(start_method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        return list(executor.map(math.factorial, range(6)))


def use_threads() -> list[int]:
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        return list(executor.map(math.factorial, range(6)))


def use_asyncio() -> list[int]:
    import asyncio

    async def find(number: int) -> int:
        process = await asyncio.create_subprocess_exec("echo", str(number), stdout=subprocess.PIPE)
        output, _ = await process.communicate()
        return int(output) + await asyncio.to_thread(math.factorial, number)

    async def find_all() -> list[int]:
        return await asyncio.gather(*map(find, range(6)))

    return asyncio.run(find_all())


def use_subprocess() -> str:
    piped = subprocess.run(["sort"], input="b\na\n", capture_output=True, text=True, check=True)
    shell = subprocess.run("exec 3>&1; echo c >&3", shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    return piped.stdout + shell.stdout


def use_blas(size: int) -> float:
    import numpy as np

    ones = np.ones((size, size))
    return float((ones @ ones)[0, 0])


def leave_executor_broken() -> str:
    """A pool of its own breaks in it; that is its own affair."""
    import concurrent.futures

    with concurrent.futures.ProcessPoolExecutor(1) as executor:
        error = executor.submit(os._exit, 3).exception()
    return type(error).__name__


def use_processes(start_method: str) -> dict[str, str]:
    """A run inside the task, with a fault of its own."""
    from processes import Process, ProcessPool, Task

    tasks = [Task("dies", be_killed), Task("hangs", sleep_on, timeout=0.3), Task("fine", math.factorial, args=(5,))]
    report = Process(tasks).run(ProcessPool(2, start_method=start_method))
    return {
        name: str(entry.result) if entry.error is None else entry.error.exception_type
        for name, entry in report.entries.items()
    }
