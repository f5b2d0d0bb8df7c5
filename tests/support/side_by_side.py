"""
Runs the tests in several processes at a time: `side_by_side.py [arguments of pytest]`.

Each of them runs pytest on its share of the tests. What the first one says is seen at once, what the others said when
they have ended. Most tests wait for others, children or time-outs: there is one process more than there are processors.

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

import pytest


def is_in_share(name: str, share: str) -> bool:
    """Whether the test belongs to that share, "1/3" to "3/3": decided by its name alone, whichever are selected."""
    number, count = map(int, share.split("/"))
    return zlib.crc32(name.encode(errors="backslashreplace")) % count == number - 1


def run(arguments: Sequence[str], count: int) -> int:
    """Run the tests in `count` processes; returns the exit code of pytest as if it had been one."""
    with contextlib.ExitStack() as stack:
        children = []
        for number in range(1, count + 1):
            # A cache is of one process: the last to write it would have the last word.
            share = [f"--share={number}/{count}", f"--override-ini=cache_dir=.pytest_cache/{number}-of-{count}"]
            output = None if number == 1 else stack.enter_context(tempfile.TemporaryFile())
            child = subprocess.Popen(
                [sys.executable, "-m", "pytest", *share, *arguments], stdout=output, stderr=output and subprocess.STDOUT
            )
            stack.callback(_interrupt, child)
            children.append((child, output))
        codes = set()
        for child, output in children:
            codes.add(child.wait())
            if output is not None:
                output.seek(0)
                shutil.copyfileobj(output, sys.stdout.buffer)
                sys.stdout.flush()
    # A share of few tests may be empty.
    failures = codes - {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    return max(map(abs, failures)) if failures else min(codes)


def _interrupt(child: subprocess.Popen[bytes]) -> None:
    """End it as Ctrl-C does, where it still runs."""
    child.send_signal(signal.SIGINT)
    child.wait()


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _exit)  # so that the children end
    sys.exit(run(sys.argv[1:], len(os.sched_getaffinity(0)) + 1))
