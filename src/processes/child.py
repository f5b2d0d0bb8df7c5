"""
One worker seen from its parent: its channel, its page, what was placed with it, and its end.

Runs in the parent. Nothing of a child is shared with another child, so it may die at any instruction and nobody else
notices. What was placed with it stands in its page, or in the channel where it is long; see there who owns it when.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import signal
import time
from collections import deque
from typing import TYPE_CHECKING

from processes import system, wire
from processes.page import MESSAGE_MAX, STACK_SIGNAL, Page
from processes.usage import process_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processes.attempt import Call
    from processes.output import Reader

#: How long a SIGSTOPped process may take to stop, in seconds: one in uninterruptible sleep may never, and is killed
#: without.
_STOP_WAIT_S = 0.050

#: How long the stacks of a process are waited for, in seconds, before it is killed without.
STACK_WAIT_S = 0.010

#: How faulthandler ends: with a module's frame, or where there are too many frames or threads.
_STACKS_ENDS = ("in <module>\n", "...\n")

#: So often nothing may have come since the last look until what has come is taken for all.
_QUIET_LOOKS = 8


class Placed:
    """An attempt that was placed with a child."""

    # Defaults of the class: most attempts are short and change none of them.
    datagram = b""
    descriptors: Sequence[int] = ()
    keep: object = None  # the values whose descriptors travel; until they are sent they must stay open
    function = 0  # number of the function whose pickle this job carries, or 0
    profile = 0
    follows = 0  # the attempt behind which it is made, or not at all
    seen = False  # whether its start was reported
    next_sample = 0.0  # when its memory is looked at next, if it has a limit
    sampled = 0  # the most memory seen, in bytes
    output: Reader | None = None  # of what it writes, if that is captured
    output_end = 0  # so long is the file when it has ended
    # What is sure of its failure while the child still looks for more, and since when: (retryable, fields).
    sure: tuple[bool, tuple[object, ...]] | None = None
    sure_at = math.inf
    #: Whether there is more to do at its success than to take it in: what it brought, what was seen of it meanwhile.
    is_special = False

    def __init__(self, attempt_id: int, call: Call, number: int = 1) -> None:
        """Nothing is sent yet; `number` is 1 for the task's first attempt."""
        self.attempt_id = attempt_id
        self.number = number
        self.call = call


class Child:
    """A worker's state: starting, idle, busy or dying."""

    def __init__(self, child_id: int) -> None:
        """
        Make its channel and page; the keeper starts the process.

        Raises:
            OSError: No descriptors are left.
        """
        self.id = child_id
        self.channel, self._end = wire.channel_pair()
        self.tokens = self._page_fd = -1
        try:
            self.tokens = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._page_fd = Page.create()
            self.page = Page(self._page_fd)
            self.page_mark = _mark_in_maps(self._page_fd)
        except BaseException:
            self.channel.close()
            self.forget_end()
            wire.close_all([self.tokens, self._page_fd])
            raise
        self.pid = 0
        self.pidfd = -1
        self.is_ready = False
        self.is_dying = False
        self.inflight: dict[int, Placed] = {}  # {attempt id: what was placed}, in the order in which they will run
        self._unsent = 0  # of how many, the last of them, it has not been told
        self._unsent_long: list[Placed] = []  # those among them that go by the channel
        self._given = 0  # of how many it has been told, less those that were taken back
        self.outbox: deque[Placed] = deque()  # those of which it was told, and that wait for room in the channel
        self.told = 0  # outcomes in its page that were taken in
        # Numbers of the functions and profiles it has: those that came with an attempt that has succeeded. Until then
        # each attempt carries them, since the one that carried them first may be taken back and the next one not.
        self.functions: set[int] = set()
        self.profiles: set[int] = {0}
        self.order: tuple[int, BaseException] | None = None  # (attempt, cause) for which it was killed
        self.stacks_then = ""  # what it said then of its Python stacks
        self.check_at = math.inf  # when to look at the page next, CLOCK_MONOTONIC
        self.listen_at = math.inf  # when to look for log records next: it need not tell of those that follow others
        self.is_long = False  # its first attempt has run for a while: nothing is placed behind it
        self.made = 0  # attempts that ended here
        self.last_task = ""  # whose the last of them was
        self.ready_private = 0  # memory when first ready, in bytes: its own, and resident
        self.ready_resident = 0
        self.resident = 0

    def ends(self) -> tuple[int, int, int]:
        """What the process is started with: the descriptors of its channel's end, of its page, and of its tokens."""
        return self._end.fileno(), self._page_fd, self.tokens

    def forget_end(self) -> None:
        """The process has its end of the channel."""
        self._end.close()

    def place(self, placed: Placed) -> None:
        """Take an attempt with its message, of which `flush` tells the process."""
        is_short = len(placed.datagram) <= MESSAGE_MAX and not placed.descriptors
        number, message = self._given + self._unsent, placed.datagram if is_short else b""
        self.page.put_job(number, placed.attempt_id, placed.follows, message)
        self.inflight[placed.attempt_id] = placed
        self._unsent += 1
        if is_short:
            self._forget_message(placed)
        else:
            self._unsent_long.append(placed)

    def place_call(
        self, placed: Placed, function: int, profile: int, name_length: int, takes_result: bool, message: bytes
    ) -> None:
        """Take an attempt that needs nothing but the call, see `Page.put_call`."""
        number, attempt_id, follows = self._given + self._unsent, placed.attempt_id, placed.follows
        self.page.put_call(number, attempt_id, follows, function, profile, name_length, takes_result, message)
        self.inflight[placed.attempt_id] = placed
        self._unsent += 1

    def flush(self) -> None:
        """Tell the process of what was placed, all at once: what woke it for one would find it asleep for the next."""
        if not self._unsent:
            return
        os.eventfd_write(self.tokens, self._unsent)
        self._given += self._unsent
        self._unsent = 0
        if self._unsent_long:
            self.outbox += self._unsent_long
            self._unsent_long.clear()
            self.fill_channel()

    def fill_channel(self) -> None:
        """Send of what waits for the channel as much as fits."""
        while self.outbox:
            placed = self.outbox[0]
            try:
                if not self.channel.send(placed.datagram, placed.descriptors, wait=False):
                    return
            except OSError as error:
                if error.errno == errno.EBADF:  # A descriptor that was to travel was closed: no child's fault.
                    raise
                return  # It is dead or dying: what is in flight goes back when its end is confirmed.
            self.outbox.popleft()
            self._forget_message(placed)

    def take_back(self) -> list[Placed]:
        """
        All attempts that the process has not begun.

        Messages that are in its channel already stay there; the process drops those that it was not to receive.
        """
        count = self._unsent + self._revoke()
        taken = list(self.inflight.values())[len(self.inflight) - count :]
        for placed in taken:
            del self.inflight[placed.attempt_id]
            self._forget_message(placed)
        self._unsent = 0
        self._unsent_long.clear()
        self.outbox = deque(placed for placed in self.outbox if placed.attempt_id in self.inflight)
        return taken

    def give_up(self) -> list[Placed]:
        """All attempts that are placed with the process, which is dead."""
        given_up = list(self.inflight.values())
        for placed in given_up:
            self._forget_message(placed)
        self.inflight.clear()
        return given_up

    def _revoke(self) -> int:
        """Take all tokens that are left."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                os.eventfd_read(self.tokens)
                count += 1
        self._given -= count
        return count

    def stop(self) -> bool:
        """Halt the process; whether it came to a halt, after which its page and channel stand still."""
        if not self.signal(signal.SIGSTOP):
            return False
        limit = time.monotonic() + _STOP_WAIT_S
        while time.monotonic() < limit:
            if process_state(self.pid) in "TtZX":
                return True
            time.sleep(0.0001)
        return False

    def go_on(self) -> None:
        """Undo `stop`."""
        self.signal(signal.SIGCONT)

    def stacks(self, *, may_end_anywhere: bool) -> str:
        """
        Ask the process for its Python stacks, and wait a moment for them: "" where it does not answer.

        It answers also while C code holds the GIL, but not where it blocks all signals. If it was stopped it goes on.

        Args:
            may_end_anywhere: Its main thread need not have begun in a module, as that of an interpreter of ours has.
        """
        before = Page.stacks(self._page_fd)
        if not self.signal(STACK_SIGNAL):
            return ""
        self.go_on()  # One that was stopped first runs the signal's handler, before anything else.
        limit = time.monotonic() + STACK_WAIT_S
        found, quiet = before, 0
        while time.monotonic() < limit:
            time.sleep(0.0003)
            now = Page.stacks(self._page_fd)
            quiet = quiet + 1 if len(now) > len(before) and now == found else 0
            # The main thread stands last, its first frame at the end; before that, the writer waits for a CPU.
            if quiet and (now.endswith(_STACKS_ENDS) or (may_end_anywhere and quiet >= _QUIET_LOOKS)):
                break
            found = now
        return found[len(before) :]

    def crash_stacks(self) -> str:
        """What a process that crashed left of its Python stacks."""
        return Page.stacks(self._page_fd)

    def kill(self) -> None:
        """Begin its end; the keeper confirms it and buries what it leaves."""
        self.is_dying = True
        self.check_at = math.inf
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> bool:
        """Send a signal through the pidfd, which can never mean another process."""
        if self.pidfd < 0:
            return False
        try:
            system.send_signal(self.pidfd, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def close(self) -> None:
        """Free descriptors and mapping."""
        for placed in self.inflight.values():
            self._forget_message(placed)
            if placed.output is not None:
                placed.output.close()
        self.outbox.clear()
        self.channel.close()
        self.forget_end()
        self.page.close()
        os.close(self._page_fd)
        os.close(self.tokens)
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    @staticmethod
    def _forget_message(placed: Placed) -> None:
        if placed.descriptors and wire.is_spilled(placed.datagram):
            os.close(placed.descriptors[-1])
        if placed.datagram:
            placed.datagram, placed.descriptors, placed.keep = b"", (), None


def _mark_in_maps(fd: int) -> str:
    """How a file shows in /proc/PID/maps of whoever has it mapped: device and inode, proc(5)."""
    found = os.fstat(fd)
    return f" {os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x} {found.st_ino} "
