"""
Runs the tests in several processes at a time: `side_by_side.py [arguments of pytest]`.

Each of them runs pytest on its share of the tests. What the first one says is seen at once, what the others said when
they have ended. Most tests wait for others, children or time-outs: there are two processes more than processors.

On the oldest Python all tests are run; on others each test of all start methods is run by two of them.

Why not by pytest-xdist: its processes have a thread more than the tests know of, and a process with threads may not
fork, which tests of the fork start method do. Here each is a pytest like any other.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from types import FrameType
from typing import IO, NamedTuple

import pytest

#: That is supported.
OLDEST_PYTHON = (3, 11)

_EITHER = ("spawn", "fork")

#: How long an interrupted pytest may take to tell what it knows, in seconds.
_END_WAIT_S = 10.0


def is_in_share(name: str, share: str) -> bool:
    """Whether the test belongs to that share, "1/3" to "3/3": decided by its name alone, whichever are selected."""
    number, count = map(int, share.split("/"))
    return zlib.crc32(name.encode(errors="backslashreplace")) % count == number - 1


def is_for_this_python(name: str, method: object, version: tuple[int, int] = sys.version_info[:2]) -> bool:
    """
    Whether a test is run by that start method on that Python.

    On the oldest one it always is. On any other one start method is left out, spawn or fork: by the name of the test,
    and the next Python leaves out the other one.
    """
    if version == OLDEST_PYTHON or method not in _EITHER:
        return True
    return _EITHER.index(method) == (zlib.crc32(name.encode(errors="backslashreplace")) + version[1]) % 2


def alone_in_shared_memory() -> list[str]:
    """
    Starts the command that follows it with a /dev/shm of its own; empty where that is not allowed.

    What a killed task of one process leaves there for a while, until a resource tracker finds out, would else be taken
    for that of a test in another one; and so would be what other programs on the machine leave.
    """
    around = ["unshare", "--mount", "sh", "-ec", 'mount -t tmpfs none /dev/shm; exec "$@"', "sh"]
    try:
        is_allowed = subprocess.run([*around, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0
    except FileNotFoundError:  # unshare
        is_allowed = False
    return around if is_allowed else []


def run(arguments: Sequence[str], count: int) -> int:
    """Run the tests in `count` processes; returns the exit code of pytest as if it had been one."""
    codes = set()
    around = alone_in_shared_memory()
    with contextlib.ExitStack() as stack:
        children: list[_Child] = []
        stack.callback(_end, children)
        for number in range(1, count + 1):
            # A cache is of one process: the last to write it would have the last word.
            share = [f"--share={number}/{count}", f"--override-ini=cache_dir=.pytest_cache/{number}-of-{count}"]
            output: IO[bytes] | None = None if number == 1 else stack.enter_context(tempfile.TemporaryFile())
            # With -P no child finds a test module by its name, which would make it import pytest: a tenth of a second.
            command = [*around, sys.executable, "-P", "-m", "pytest", *share, *arguments]
            children.append(_Child(subprocess.Popen(command, stdout=output, stderr=output), output))
        for process, output in children:
            codes.add(process.wait())
            if output is not None:
                output.seek(0)
                shutil.copyfileobj(output, sys.stdout.buffer)
                sys.stdout.flush()
    # A share of few tests may be empty.
    failures = codes - {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    return max(map(abs, failures)) if failures else min(codes)


class _Child(NamedTuple):
    process: subprocess.Popen[bytes]
    output: IO[bytes] | None


def _end(children: list[_Child]) -> None:
    """End those that still run, as Ctrl-C does."""
    for process, _ in children:
        process.send_signal(signal.SIGINT)
    for process, _ in children:
        try:
            process.wait(_END_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _exit)  # so that the children end
    sys.exit(run(sys.argv[1:], len(os.sched_getaffinity(0)) + 2))
