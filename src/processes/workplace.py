"""
What a worker looks like before an attempt, and what is put back after each: the next task sees none of the last one.

Runs in the child. `watched` has what is looked at, part by part.

What is noted is how things were before the first attempt, the pool's initializer included, and what importing the
modules of a function or its arguments has changed: any other worker would import them too. What a module changes that a
task imports while it runs is the task's own doing; the module stays.

Threads and processes that a task leaves cannot be put back, nor can descriptors that it closed: the worker has to be
replaced. Not looked at are the globals of modules and what is open in them, the locale, limits and other C state,
handlers of real-time signals.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from processes import usage
from processes.failure import text_of
from processes.page import CLOSED
from processes.watched import GRACE_S, LAZY, LeftBehindError, counted, parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processes.usage import OwnUsage
    from processes.watched import Part


class _Looks:
    """Looks at several parts, and what they should give."""

    def __init__(self, parts_: Sequence[Part], noted: Sequence[object]) -> None:
        self._looks = [part.look for part in parts_]
        self._noted = list(noted)

    def differ(self) -> bool:
        """Whether one of them gives something else."""
        try:
            return [look() for look in self._looks] != self._noted
        except Exception:  # noqa: BLE001  a closed descriptor, a deleted attribute, a comparison of the user's
            return True


class Workplace:
    """All that is looked at."""

    def __init__(self, page_fd: int, own_usage: OwnUsage, *, is_fork: bool) -> None:
        """
        Note how things are.

        Args:
            page_fd: Where the stacks go.
            own_usage: Reads this process's memory after each attempt, through a descriptor.
            is_fork: Whether this process is a copy of the caller.
        """
        self._parts = parts(page_fd, own_usage, is_fork=is_fork)
        self._lazy: set[str] = set()  # modules of which something is looked at since they were imported
        self._spared: set[int] = set()  # processes that were there before
        self._noted: list[object] = []  # what a look at each part should give
        #: Whether processes that the last attempt left had ended and were reaped.
        self.has_reaped = False
        _own_config().pop("tempdir", None)  # A fork has its original's, which is not to be removed here.
        self.note()

    def note(self) -> None:
        """From now on, things are to be as they are now. Standard streams stay as they were at first."""
        before, self._parts = len(self._noted), self._parts + self._new_parts()
        noted = self._noted + [None] * (len(self._parts) - before)
        for place, part in enumerate(self._parts):
            if place >= before or not part.is_fixed:
                noted[place] = part.note()
        self._keep(noted)
        self._spared = set(usage.descendants(os.getpid()))

    @staticmethod
    def end_servers() -> None:
        """
        End the forkserver that multiprocessing started for a task, and remove the folder that it keeps sockets in.

        The server has folder and environment of the task that started it, and would serve the next with them. All this
        comes before the attempt's outcome is told: the run may end then, and this process with it.
        """
        forkserver = sys.modules.get("multiprocessing.forkserver")
        with contextlib.suppress(Exception):  # What the task made of it.
            if forkserver is not None:
                _end_forkserver(forkserver._forkserver)
            folder = _own_config().pop("tempdir", None)
            if folder is not None:
                import shutil

                shutil.rmtree(folder, ignore_errors=True)

    def put_back(self, seconds: float) -> str:
        """
        Make things as they were noted, after an attempt that took so many seconds.

        Returns:
            What the task left that cannot be put back, to follow on its name; "" where there is nothing.
        """
        self.has_reaped = False
        try:
            if seconds <= usage.START_TAKES_S:  # It left no process.
                return " and ".join(self._look_closer()) if self._usual.differ() else ""
            found = self._look_closer() if self._usual.differ() or self._rare.differ() else []
            if _has_children():
                found += self._clear_children()
            return " and ".join(found)
        except BaseException as error:  # noqa: BLE001  a handler of the task's that was called here
            return f"left its child in a state that cannot be put back ({text_of(error)})"

    def _keep(self, noted: list[object]) -> None:
        both = list(zip(self._parts, noted, strict=True))
        self._noted = noted
        usual = [(part, expected) for part, expected in both if not part.is_rare]
        rare = [(part, expected) for part, expected in both if part.is_rare]
        self._usual = _Looks([part for part, _ in usual], [expected for _, expected in usual])
        self._rare = _Looks([part for part, _ in rare], [expected for _, expected in rare])

    def _look_closer(self) -> list[str]:
        """Put back part by part; returns what cannot be."""
        found: list[str] = []
        noted = list(self._noted)
        for place, part in enumerate(self._parts):
            try:
                if not _is_same(part.look, noted[place]):
                    noted[place] = part.mend()
                    if not _is_same(part.look, noted[place]):
                        found.append(f"changed {part.name} of its child for good")
            except LeftBehindError as left:
                found.append(str(left))
            except Exception as error:  # noqa: BLE001  what it met is the task's doing
                is_closed = isinstance(error, OSError) and error.errno == errno.EBADF
                found.append(CLOSED if is_closed else f"spoiled {part.name} of its child ({text_of(error)})")
        for part in self._new_parts():  # What the task imported stays; what it changed in it does not.
            part.reset()
            self._parts.append(part)
            noted.append(part.note())
        self._keep(noted)
        return list(dict.fromkeys(found))

    def _new_parts(self) -> list[Part]:
        """Those of modules that were imported meanwhile."""
        new = [name for name in LAZY if name in sys.modules and name not in self._lazy]
        self._lazy.update(new)
        return [LAZY[name]() for name in new]

    def _clear_children(self) -> list[str]:
        """Reap those that have ended and wait a moment for those that may be about to; returns what is left."""
        self.has_reaped = True
        limit = time.monotonic() + GRACE_S
        while True:
            left = _living_children(self._spared)
            if not left or time.monotonic() > limit:
                break
            time.sleep(0.001)
        return [f"left {counted(len(left), 'process', 'processes')} running"] if left else []


def _is_same(look: Callable[[], object], noted: object) -> bool:
    try:
        return bool(look() == noted)
    except Exception:  # noqa: BLE001  as in `put_back`
        return False


# ---- processes -------------------------------------------------------------------------------------------------------


def _has_children() -> bool:
    """Whether any process is this one's child, ended or not: 1 us. A daemon that forked twice is, by adoption."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _living_children(spared: set[int]) -> list[int]:
    """Descendants that are not spared; children that have ended are reaped."""
    known = spared | _tracker()
    return [pid for pid in usage.descendants(os.getpid()) if pid not in known and not _has_ended(pid)]


def _has_ended(pid: int) -> bool:
    """Whether a descendant has, which is reaped then, where it is a child."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # A child's child: its parent will reap it.
        return usage.process_state(pid) in "ZX"


def _tracker() -> set[int]:
    """
    The process that multiprocessing starts to clean up shared memory, if it runs.

    It serves whoever comes next just as well, and who used shared memory and freed it is not to blame for it.
    """
    module = sys.modules.get("multiprocessing.resource_tracker")
    pid = getattr(getattr(module, "_resource_tracker", None), "_pid", None)
    return set() if pid is None else {pid}


def _end_forkserver(server: Any) -> None:  # noqa: ANN401  a class of multiprocessing's that has no public name
    """End the process that multiprocessing's start method "forkserver" has, where it is of this process's making."""
    pid = server._forkserver_pid
    if pid is not None and pid in usage.children(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        server._stop()


def _own_config() -> dict[str, Any]:
    """What multiprocessing knows of this process; empty while it is not imported."""
    module = sys.modules.get("multiprocessing.process")
    return {} if module is None else module.current_process()._config
