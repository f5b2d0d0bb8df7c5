"""
The bodies of bench_kills.py, and the program that sees them die. A module of its own, which imports next to nothing:
children load it when they start.

    python benchmarks/kills_work.py SOCKET MEMORY

Every body stamps its start into memory that it shares with the case, hands a pidfd of its own process to the observer,
and then does what only a kill can end. The observer stamps the instant at which a pidfd becomes readable: its process
is dead then. It has no other work, and shares no lock with the system that is measured.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

#: Longer than anything that is measured.
FOR_EVER_S = 600

#: Bytes of a stamp, and of the number in a message to the observer.
_WORD = 8


class Mark(enum.IntEnum):
    """What is stamped of a kill: nanoseconds of CLOCK_MONOTONIC, 0 for what has not happened."""

    #: The body's first instruction.
    STARTED = 0
    #: Of a body that runs Python: its last sign of life so far.
    BEAT = 1
    #: The body was left by an exception; its process may live on.
    LEFT = 2
    #: The observer has what it watches.
    WATCHED = 3
    #: The body's process is dead.
    DIED = 4
    #: It had started a program, which is watched too.
    PROGRAM_WATCHED = 5
    #: The program is dead.
    PROGRAM_DIED = 6


class Place(NamedTuple):
    """How a body finds the memory and the observer."""

    memory: str
    address: bytes


def size_of(count: int) -> int:
    """Bytes of memory for so many kills."""
    return count * len(Mark) * _WORD


def place_of(number: int, mark: Mark) -> int:
    """Where a kill's stamp is, in words."""
    return number * len(Mark) + mark


def stamps_in(descriptor: int) -> memoryview:
    """The memory as words, each of which is written at once."""
    return memoryview(mmap.mmap(descriptor, 0)).cast("q")


# ---- bodies ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def seen(place: Place, number: int, *program: str) -> Iterator[memoryview]:
    """Stamp the start and the end of a body; it has started a program, where one is given."""
    started = time.monotonic_ns()
    memory = os.open(place.memory, os.O_RDWR)
    stamps = stamps_in(memory)
    os.close(memory)
    stamps[place_of(number, Mark.STARTED)] = started
    try:
        watched = [os.getpid()]
        if program:
            watched.append(subprocess.Popen(program).pid)
        _announce(place, number, watched)
        yield stamps
    finally:
        stamps[place_of(number, Mark.LEFT)] = time.monotonic_ns()


def _announce(place: Place, number: int, pids: Sequence[int]) -> None:
    """Hand pidfds to the observer: a pid alone might be another's by the time it looks."""
    pidfds = [os.pidfd_open(pid) for pid in pids]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.connect(place.address)
        socket.send_fds(door, [number.to_bytes(_WORD, "little")], pidfds)
    for pidfd in pidfds:
        os.close(pidfd)


def loop(place: Place, number: int) -> None:
    """Python code, which says all the time that it lives."""
    with seen(place, number) as stamps:
        beat, now = place_of(number, Mark.BEAT), time.monotonic_ns
        while True:
            stamps[beat] = now()


def hold_gil(place: Place, number: int) -> None:
    """C code that lets nobody else run Python."""
    with seen(place, number):
        sum(itertools.repeat(0, 10**12))


def sleep(place: Place, number: int) -> None:
    """Wait in the kernel."""
    with seen(place, number):
        time.sleep(FOR_EVER_S)


def ignore_sigterm(place: Place, number: int) -> None:
    """Ignored, and blocked on top of it."""
    with seen(place, number):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        time.sleep(FOR_EVER_S)


def have_program(place: Place, number: int) -> None:
    """A program of its own, which must end too."""
    with seen(place, number, "sleep", str(FOR_EVER_S)):
        time.sleep(FOR_EVER_S)


def be_stopped(place: Place, number: int) -> None:
    """By SIGSTOP; who lets it go on for a moment finds it stopped again."""
    with seen(place, number):
        while True:
            os.kill(os.getpid(), signal.SIGSTOP)


BODIES = {
    "a Python loop": loop,
    "C code that holds the GIL": hold_gil,
    "a sleep": sleep,
    "SIGTERM ignored and blocked": ignore_sigterm,
    "a program of its own": have_program,
    "stopped by SIGSTOP": be_stopped,
}


# ---- the observer ----------------------------------------------------------------------------------------------------


def observe(door: socket.socket, stamps: memoryview) -> None:
    """Take in pidfds and stamp when they become readable, until this process is killed."""
    poll = select.epoll()
    poll.register(door, select.EPOLLIN)
    watched: dict[int, int] = {}  # {pidfd: where its stamp belongs}
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        now = time.monotonic_ns()
        for descriptor in ready:
            if descriptor in watched:
                stamps[watched.pop(descriptor)] = now
                poll.unregister(descriptor)
                os.close(descriptor)
        if door.fileno() in ready:
            message, pidfds, *_ = socket.recv_fds(door, _WORD, 2)
            number = int.from_bytes(message, "little")
            for pidfd, mark in zip(pidfds, (Mark.DIED, Mark.PROGRAM_DIED), strict=False):
                watched[pidfd] = place_of(number, mark)
                poll.register(pidfd, select.EPOLLIN)
            if len(pidfds) > 1:
                stamps[place_of(number, Mark.PROGRAM_WATCHED)] = now
            stamps[place_of(number, Mark.WATCHED)] = now


if __name__ == "__main__":
    observe(socket.socket(fileno=int(sys.argv[1])), stamps_in(int(sys.argv[2])))
