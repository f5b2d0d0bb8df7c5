"""
What a task writes to its standard output and error, from the descriptors to lines of its log.

Both ends are here. For the time of an attempt descriptors 1 and 2 of the child are one memfd, so that whatever writes
there (print, C code, programs that the task starts) writes in its order and never waits. The child tells the parent
how long the file is before each log record, and at the end: so the parent puts lines and records in the order in which
they were made. What was written when a child dies can still be read.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import sys
from typing import TYPE_CHECKING, TextIO

from processes import system
from processes.watched import out_of_reach

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A line that is longer than this, in bytes, is several.
LINE_MAX = 64 * 1024

#: So much is read at a time, in bytes.
_READ_SIZE = 1024 * 1024

#: Give the memory of what was read back and keep the file's length. Source: linux/falloc.h, fallocate(2).
_PUNCH_HOLE_KEEP_SIZE = 3

_STREAMS = (1, 2)

_libc = ctypes.CDLL(None)


class Capture:
    """The child's end: descriptors 1 and 2 are `fd` from `begin` to `end`."""

    def __init__(self) -> None:
        """
        Make the file.

        Raises:
            OSError: No descriptor is left.
        """
        self.fd = out_of_reach(system.memory_file("output"))
        self._before: list[int] = []
        self._streams: tuple[TextIO, TextIO] = sys.stdout, sys.stderr
        self._told = 0
        fcntl.fcntl(self.fd, fcntl.F_SETFL, os.O_APPEND)

    def begin(self) -> None:
        """From now on what is written goes to the file."""
        flush()
        for descriptor in _STREAMS:
            self._before.append(out_of_reach(os.dup(descriptor)))
            os.dup2(self.fd, descriptor)
        # What stood there may write elsewhere: in a fork it is the caller's, a notebook's for example.
        self._streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (
            open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            for descriptor in _STREAMS
        )

    def grown(self) -> int | None:
        """How long the file is, or None where it was so when last asked."""
        flush()
        size = os.fstat(self.fd).st_size
        if size == self._told:
            return None
        self._told = size
        return size

    def end(self) -> None:
        """Descriptors are as before."""
        flush()
        sys.stdout, sys.stderr = self._streams
        for descriptor, before in zip(_STREAMS, self._before, strict=False):
            with contextlib.suppress(OSError):
                os.dup2(before, descriptor)
            os.close(before)
        self._before.clear()
        os.close(self.fd)


def flush() -> None:
    """Write out what waits in buffers: Python's, and those of C."""
    for name in ("stdout", "stderr"):
        with contextlib.suppress(Exception):  # A stream that the task closed, or put there, or deleted.
            getattr(sys, name).flush()
    _libc.fflush(None)


class Reader:
    """The parent's end: the file's lines, as far as they are to be read."""

    def __init__(self, fd: int) -> None:
        """Take over the descriptor."""
        self._fd = fd
        self._at = 0
        self._rest = b""

    def size(self) -> int:
        """Of the file, in bytes."""
        return os.fstat(self._fd).st_size

    def lines(self, until: int, *, is_last: bool = False) -> Iterator[str]:
        """Whole lines up to a position in the file; with `is_last` what stands behind the last line break too."""
        begun_at = self._at
        while self._at < until:
            data = os.pread(self._fd, min(_READ_SIZE, until - self._at), self._at)
            if not data:
                break
            self._at += len(data)
            *whole, self._rest = (self._rest + data).split(b"\n")
            for line in whole:
                yield from _parts(line)
            while len(self._rest) > LINE_MAX:
                line, self._rest = self._rest[:LINE_MAX], self._rest[LINE_MAX:]
                yield _text(line)
        if is_last and self._rest:
            line, self._rest = self._rest, b""
            yield _text(line)
        if self._at > begun_at:
            _libc.fallocate(self._fd, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(self._at))

    def close(self) -> None:
        """Free the descriptor."""
        os.close(self._fd)


def _parts(line: bytes) -> Iterator[str]:
    for start in range(0, max(1, len(line)), LINE_MAX):
        yield _text(line[start : start + LINE_MAX])


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", "backslashreplace")
