"""
What the tasks of bench_dispatch.py and bench_peers.py do. A module of its own, which imports next to nothing: children
load it when they start, and what a benchmark needs beside would be charged to them.
"""

from __future__ import annotations

import os
import time

#: How much a busy task computes.
BUSY_S = 0.001

#: Long enough for every worker of a pool to have taken one of so many tasks.
TOUCH_S = 0.1


def noop(number: int) -> int:
    """Nothing."""
    return number


def busy(number: int) -> int:
    """Compute for BUSY_S."""
    compute(BUSY_S)
    return number


def busy_longer(number: int) -> int:
    """Compute for ten times BUSY_S."""
    compute(10 * BUSY_S)
    return number


def busy_until(seconds: float) -> float:
    """Compute for so long; returns when it ended, CLOCK_MONOTONIC, in seconds."""
    compute(seconds)
    return time.monotonic()


def compute(seconds: float) -> None:
    """For so long of this thread's own CPU time: waiting for a CPU is not work."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def count_on(previous: int = 0) -> int:
    """One more than the task before."""
    return previous + 1


def occupy() -> int:
    """Keep a worker to itself for a moment; returns the worker."""
    time.sleep(TOUCH_S)
    return os.getpid()
