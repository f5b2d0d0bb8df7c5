"""
What a parent and one of its workers share in memory: the attempt that runs, those to come, outcomes, log records.

Runs on both sides. Small messages take this way instead of the channel: a system call that wakes the other side costs
as much as all else that is done for a short task. Nothing here can be lost by a death or be seen by two:

- The attempt that runs is written by the worker before it touches the attempt's arguments, and read by the parent at
  any time, after the worker's death too.
- Attempts to come stand in slots, and an eventfd counts how many there are. Whoever takes one off the count, which the
  kernel gives to one side only, owns it: the worker takes the next, the parent takes the last ones back. So the
  worker's n-th is always in slot n, and what was taken back is overwritten by what follows.
- Behind the slots, in the file and not in the mapping, stands what faulthandler wrote of the worker's Python stacks.
- Outcomes stand in slots that only the worker writes, and it counts them. Whenever it has no attempt left, has told
  nothing for a moment, or has something to say on the channel, it sends the count there first, so that order is kept.
  Whoever reads without being told, as after a death, reads the count, then the channel to its end, then the slots.
- Log records stand one behind the other in a ring, whole before the worker says how far it has written. What goes by
  the channel is marked with that position: the records up to there came first. The parent says how far it has read.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from processes import system

#: Makes a worker write its stacks behind its page, whatever it is at. One that neither the C library nor anybody else
#: is known to use: it takes the first two, signal(7).
STACK_SIGNAL = getattr(signal, "SIGRTMIN", 34) + 19

#: Slots of each kind: as many attempts as may be with a worker at a time, so that no slot is needed twice.
SLOTS = 256

#: Bytes of a slot. A longer message goes by the channel.
_SLOT_SIZE = 2048

_HEADER_SIZE = 4096
_OUTCOMES_AT = _HEADER_SIZE + SLOTS * _SLOT_SIZE
_RING_AT = _OUTCOMES_AT + SLOTS * _SLOT_SIZE

#: Bytes of the ring: a parent that is held up for 10 ms finds room left for what one worker can log in that time.
RING_SIZE = 256 * 1024

_SIZE = _RING_AT + RING_SIZE

#: So many bytes are read of the stacks: faulthandler writes up to 100 threads of 100 frames.
_STACKS_MAX = 2**20

# attempt id; the one it follows, or 0; length of the message, 0 where it comes by the channel; of a call also the
# numbers of function and profile, the length of the task's name with which the message begins, and whether it takes
# what the one that it follows returned
_JOB = struct.Struct("<QQIIIII")
_pack_job, _unpack_job = _JOB.pack_into, _JOB.unpack_from
_OUTCOME = struct.Struct("<QII")  # number, length and checksum of the message
_TOLD = 5  # the cell that counts outcomes
_CUT_OFF = 6  # the cell that says that nothing can come by the channel any more
_WRITTEN = 7  # the cell that says how many bytes of records have been written to the ring in all
_READ = 8  # the cell that says how many of them the parent has read
_PATIENT = 9  # the cell by which the parent says that outcomes need not be told at once

_RECORD = struct.Struct("<QII")  # attempt id, length and checksum of a record
_GAP = 2**32 - 1  # in the place of a length: the next record is at the ring's beginning

#: The longest record that the ring takes.
RECORD_MAX = RING_SIZE // 4

#: The longest message that a slot takes.
MESSAGE_MAX = _SLOT_SIZE - max(_JOB.size, _OUTCOME.size)


#: A log record that follows another within this time, in seconds, is not told of: whoever was told of that one looks
#: again after it.
LOGGED_S = 0.002

#: What is said of descriptors that a task closed and had not opened.
CLOSED = "closed descriptors of its child"


class PagedJob(NamedTuple):
    """A job as it stands in its slot; valid for as long as it is with the worker."""

    attempt_id: int
    #: Made only if that attempt was the last one here and has returned what can be taken; 0 for in any case.
    follows: int
    message: memoryview
    #: Number of the function, which the worker has; 0 where the message is one of `wire`, or comes by the channel.
    function: int
    profile: int
    #: The message begins with so many bytes of the task's name; its pickled arguments follow.
    name_length: int
    #: Whether the last positional argument is what the attempt returned that this one follows.
    takes_result: bool

    @property
    def name(self) -> str:
        """The task's name, of a job that is nothing but a call."""
        return str(self.message[: self.name_length], "utf-8", "surrogatepass")

    @property
    def arguments(self) -> bytes | None:
        """Its pickled arguments; None where it has none."""
        return bytes(self.message[self.name_length :]) or None


class Page:
    """The shared memory of one worker."""

    def __init__(self, fd: int) -> None:
        """Map the memfd that `Page.create` made; the descriptor stays the caller's."""
        # All of it at once: the first attempts are not to be charged for memory that is touched first while they run.
        self._map = mmap.mmap(fd, _SIZE, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self._view = memoryview(self._map)
        self._cells = self._view[:_HEADER_SIZE].cast("Q")

    @staticmethod
    def create() -> int:
        """A descriptor of a new page."""
        fd = system.memory_file("page")
        try:
            os.posix_fallocate(fd, 0, _SIZE)  # Where there is no room this says so; touching the mapping would kill.
        except BaseException:
            os.close(fd)
            raise
        return fd

    @staticmethod
    def stacks(fd: int) -> str:
        """What faulthandler wrote behind the page."""
        return os.pread(fd, _STACKS_MAX, _SIZE).decode(errors="replace")

    # ---- the attempt that runs ---------------------------------------------------------------------------------------

    def write(self, attempt_id: int, since: float, cpu_user: float, cpu_system: float, resident: int) -> None:
        """
        Begin an attempt: seconds of CLOCK_MONOTONIC, CPU seconds and resident bytes at its start.

        The attempt's id is written last, so that what stands beside it is its own.
        """
        cells = self._cells
        cells[1] = int(since * 1e9)
        cells[2] = int(cpu_user * 1e6)
        cells[3] = int(cpu_system * 1e6)
        cells[4] = resident
        cells[0] = attempt_id

    def read(self) -> tuple[int, float, float, float, int]:
        """(attempt id or 0, since, CPU user, CPU system, resident) as `write` was given them."""
        cells = self._cells
        while True:  # At most one round more: the worker was about to begin another attempt.
            attempt_id = cells[0]
            found = attempt_id, cells[1] / 1e9, cells[2] / 1e6, cells[3] / 1e6, cells[4]
            if cells[0] == attempt_id:
                return found

    @property
    def is_cut_off(self) -> bool:
        """Whether the worker found that it cannot reach its parent: its descriptors were closed, or are others."""
        return bool(self._cells[_CUT_OFF])

    def say_cut_off(self) -> None:
        """Say so, from the worker: here it needs no descriptor."""
        self._cells[_CUT_OFF] = 1

    # ---- attempts to come --------------------------------------------------------------------------------------------

    def put_job(self, number: int, attempt_id: int, follows: int, message: bytes) -> None:
        """Write the job with that number, counted from 0; an empty message says that it comes by the channel."""
        self.put_call(number, attempt_id, follows, 0, 0, 0, False, message)

    def put_call(
        self,
        number: int,
        attempt_id: int,
        follows: int,
        function: int,
        profile: int,
        name_length: int,
        takes_result: bool,
        message: bytes,
    ) -> None:
        """Write a job that needs nothing but the call: the fields of a `PagedJob`."""
        at = _HEADER_SIZE + number % SLOTS * _SLOT_SIZE
        _pack_job(self._view, at, attempt_id, follows, len(message), function, profile, name_length, takes_result)
        at += _JOB.size
        self._view[at : at + len(message)] = message

    def job(self, number: int) -> PagedJob:
        """The job with that number."""
        at = _HEADER_SIZE + number % SLOTS * _SLOT_SIZE
        attempt_id, follows, length, function, profile, name_length, takes_result = _unpack_job(self._view, at)
        at += _JOB.size
        message = self._view[at : at + length]
        return PagedJob(attempt_id, follows, message, function, profile, name_length, bool(takes_result))

    # ---- outcomes ----------------------------------------------------------------------------------------------------

    @property
    def told(self) -> int:
        """How many outcomes have been written."""
        return self._cells[_TOLD]

    def put_outcome(self, message: bytes) -> int:
        """Write the next outcome; returns how many there are now."""
        number = self._cells[_TOLD]
        at = _OUTCOMES_AT + number % SLOTS * _SLOT_SIZE
        _OUTCOME.pack_into(self._view, at, number, len(message), zlib.crc32(message))
        at += _OUTCOME.size
        self._view[at : at + len(message)] = message
        self._cells[_TOLD] = number + 1
        return number + 1

    @property
    def is_patient(self) -> bool:
        """Whether the parent looks for outcomes by itself, every now and then."""
        return bool(self._cells[_PATIENT])

    @is_patient.setter
    def is_patient(self, is_patient: bool) -> None:
        self._cells[_PATIENT] = is_patient

    def outcomes(self, first: int, end: int) -> Iterator[bytes]:
        """
        The outcomes with these numbers, counted from 0.

        Raises:
            ValueError: One is not whole, or something else stands there. Those before it have been given.
        """
        view, unpack, crc32 = self._view, _OUTCOME.unpack_from, zlib.crc32
        for number in range(first, end):
            at = _OUTCOMES_AT + number % SLOTS * _SLOT_SIZE
            found, length, checksum = unpack(view, at)
            at += _OUTCOME.size
            message = bytes(view[at : at + min(length, MESSAGE_MAX)])
            if found != number or crc32(message) != checksum:
                msg = "an outcome in its page is not whole"
                raise ValueError(msg)
            yield message

    # ---- log records -------------------------------------------------------------------------------------------------

    @property
    def written(self) -> int:
        """How far the worker has written."""
        return self._cells[_WRITTEN]

    @property
    def read_until(self) -> int:
        """How far the parent has read."""
        return self._cells[_READ]

    def put_record(self, attempt_id: int, record: bytes) -> bool:
        """Write a record; False where there is no room for it. Not to be called by two threads at a time."""
        written = self._cells[_WRITTEN]
        length = len(record)
        size = _whole(length)
        at = written % RING_SIZE
        gap = RING_SIZE - at if at + size > RING_SIZE else 0
        if length > RECORD_MAX or written + gap + size > self._cells[_READ] + RING_SIZE:
            return False
        view = self._view
        if gap:
            _RECORD.pack_into(view, _RING_AT + at, 0, _GAP, 0)
            at = 0
        start = _RING_AT + at + _RECORD.size
        _RECORD.pack_into(view, _RING_AT + at, attempt_id, length, zlib.crc32(record))
        view[start : start + length] = record
        self._cells[_WRITTEN] = written + gap + size
        return True

    def records(self, until: int) -> Iterator[tuple[int, bytes]]:
        """
        (attempt id, record) of those that were written up to a position and not read before.

        Raises:
            ValueError: One is not whole. Those before it have been given.
        """
        view, unpack = self._view, _RECORD.unpack_from
        position = self._cells[_READ]
        if not position <= until <= position + RING_SIZE:
            msg = "the ring of its records cannot hold as much as it says"
            raise ValueError(msg)
        while position < until:
            at = position % RING_SIZE
            attempt_id, length, checksum = unpack(view, _RING_AT + at)
            if length == _GAP:
                position += RING_SIZE - at
                continue
            start = _RING_AT + at + _RECORD.size
            record = bytes(view[start : start + min(length, RECORD_MAX)])
            if zlib.crc32(record) != checksum:
                msg = "a record in its page is not whole"
                raise ValueError(msg)
            position += _whole(length)
            yield attempt_id, record
        self._cells[_READ] = position

    def close(self) -> None:
        """Unmap it."""
        self._cells.release()
        self._view.release()
        self._map.close()


def _whole(length: int) -> int:
    """Bytes that a record takes, so that the next one's head fits before the ring's end."""
    return _RECORD.size * (1 - -length // _RECORD.size)
