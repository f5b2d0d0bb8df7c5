"""
One worker seen from its parent: its channel, its page, what was placed with it, and its end.

Runs in the parent. Nothing of a child is shared with another child, so it may die at any instruction and nobody else
notices. The parent keeps a duplicate of the worker's receiving end: what the worker has not received yet can be taken
back by receiving it here, since the kernel gives each datagram to one of the two.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import time
from collections import deque
from typing import TYPE_CHECKING

from processes import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processes.attempt import Call

#: How long a SIGSTOPped process may take to stop, in seconds: one in uninterruptible sleep may never, and is killed
#: without.
_STOP_WAIT_S = 0.050


class Placed:
    """An attempt that was placed with a child."""

    __slots__ = (
        "attempt_id",
        "call",
        "descriptors",
        "encoded",
        "function",
        "keep",
        "next_sample",
        "profile",
        "sampled",
        "seen",
    )

    def __init__(self, attempt_id: int, call: Call) -> None:
        """Nothing is sent yet."""
        self.attempt_id = attempt_id
        self.call = call
        self.encoded = b""
        self.descriptors: Sequence[int] = ()
        self.keep: object = None  # the values whose descriptors travel; until they are sent they must stay open
        self.function = 0  # number of the function whose pickle this job carries, or 0
        self.profile = 0
        self.seen = False  # whether its start was reported
        self.next_sample = 0.0  # when its memory is looked at next, if it has a limit
        self.sampled = 0  # the most memory seen, in bytes


class Child:
    """A worker's state: starting, idle, busy or dying."""

    def __init__(self, child_id: int) -> None:
        """
        Make its channel and page; the keeper starts the process.

        Raises:
            OSError: No descriptors are left.
        """
        self.id = child_id
        self.channel, self.spare = wire.channel_pair()
        try:
            self.page_fd = wire.Page.create()
            self.page = wire.Page(self.page_fd)
            # How the page shows in /proc/PID/maps of whoever has it: inode, then name.
            self.page_mark = re.compile(rf" {os.fstat(self.page_fd).st_ino} +/memfd:processes-page")
        except BaseException:
            self.channel.close()
            self.spare.close()
            raise
        self.pid = 0
        self.pidfd = -1
        self.is_ready = False
        self.is_dying = False
        self.inflight: dict[int, Placed] = {}  # {attempt id: what was placed}, in the order in which they will run
        self.outbox: deque[Placed] = deque()  # those of them that did not fit into the channel yet
        # Numbers of the functions and profiles it has: those that came with an attempt that has succeeded. Until then
        # each attempt carries them, since the one that carried them first may be taken back and the next one not.
        self.functions: set[int] = set()
        self.profiles: set[int] = set()
        self.order: tuple[int, BaseException] | None = None  # (attempt, cause) for which it was killed
        self.check_at = math.inf  # when to look at the page next, CLOCK_MONOTONIC
        self.is_long = False  # its first attempt has run for a while: nothing is placed behind it
        self.made = 0  # attempts that ended here
        self.ready_private = 0  # memory when first ready, in bytes: its own, and resident
        self.ready_resident = 0
        self.resident = 0

    def place(self, placed: Placed) -> None:
        """Take an attempt, which `flush` sends."""
        self.inflight[placed.attempt_id] = placed
        self.outbox.append(placed)

    def flush(self) -> None:
        """Send what fits."""
        while self.outbox:
            placed = self.outbox[0]
            try:
                if not self.channel.send(placed.encoded, placed.descriptors, wait=False):
                    return
            except OSError:  # It is dead or dying: what is in flight goes back when its end is confirmed.
                return
            self.outbox.popleft()
            self._forget_message(placed)

    def take_back(self) -> list[Placed]:
        """Everything that the worker has not received, out of its channel."""
        taken = list(self.outbox)
        self.outbox.clear()
        for placed in taken:
            self._forget_message(placed)
        while True:
            try:
                message = self.spare.receive(wait=False)
            except (EOFError, OSError):
                break
            if message is None:
                break
            wire.close_all(message.descriptors)
            taken.append(self.inflight[message.id])
        for placed in taken:
            del self.inflight[placed.attempt_id]
        return taken

    def stop(self) -> bool:
        """Halt the process; whether it came to a halt, after which its page and channel stand still."""
        if not self.signal(signal.SIGSTOP):
            return False
        limit = time.monotonic() + _STOP_WAIT_S
        while time.monotonic() < limit:
            state = self._process_state()
            if state in "TtZX":
                return True
            time.sleep(0.0001)
        return False

    def go_on(self) -> None:
        """Undo `stop`."""
        self.signal(signal.SIGCONT)

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
            signal.pidfd_send_signal(self.pidfd, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def close(self) -> None:
        """Free descriptors and mapping."""
        for placed in self.outbox:
            self._forget_message(placed)
        self.outbox.clear()
        self.channel.close()
        self.spare.close()
        self.page.close()
        self.close_page_fd()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def close_page_fd(self) -> None:
        """The process has its page: nobody needs the descriptor."""
        if self.page_fd >= 0:
            os.close(self.page_fd)
            self.page_fd = -1

    @staticmethod
    def _forget_message(placed: Placed) -> None:
        if placed.descriptors and wire.is_spilled(placed.encoded):
            os.close(placed.descriptors[-1])
        placed.encoded, placed.descriptors, placed.keep = b"", (), None

    def _process_state(self) -> str:
        """One letter: T is stopped, Z and X are dead. Source: third field of /proc/PID/stat, proc(5)."""
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/stat", "rb") as stat:
            return chr(stat.read().rpartition(b")")[2][1])
        return "X"
