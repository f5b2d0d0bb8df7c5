"""
The process that starts, reaps and buries the workers of one run.

Runs in a process of its own, which `launch` starts. It is single-threaded and does nothing but wait, so it can always
fork. It is the workers' parent and a subreaper: whatever a dead worker leaves behind (children, daemons that forked
twice) becomes the keeper's child and is killed. It watches its own parent through a pidfd and its end of a socket: when
either tells that the parent is gone, every worker dies, then the keeper.

A worker is started by fork (`forkserver`: of this clean interpreter, which has imported the modules of the run's
functions; `fork`: of a copy of the caller) or by exec (`spawn`). Neither runs the user's `__main__` again.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, NoReturn

from processes import system, usage, wire, worker
from processes.page import Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processes.wire import Channel, Setup

#: How long burying one worker's orphans may hold up everything else, in seconds: a process in uninterruptible sleep
#: dies when its disk answers, and is reaped then. A resource tracker may have been started a moment before, and take a
#: while to load on a busy machine.
_BURIAL_S = 1.5

#: How long a process may have no command, in seconds: its program is being loaded. Some take theirs away for good.
_LOADING_S = 0.1

#: How long threads that were ended may still be seen, in seconds: who waits for one goes on before the kernel has
#: forgotten it.
_THREADS_END_S = 0.1


def boot(role: str, setup_fields: tuple[object, ...], descriptors: Sequence[int]) -> NoReturn:
    """Where an exec'd child enters: the boot file's descriptor first, then the role's own."""
    setup = wire.Setup(*setup_fields)  # type: ignore[arg-type]
    sys.argv = list(setup.sys_argv)
    os.close(descriptors[0])
    for descriptor in (*descriptors[1:], setup.startup_stderr, setup.real_stderr):
        os.set_inheritable(descriptor, False)
    channel = wire.Channel(socket.socket(fileno=descriptors[1]))
    try:
        if role == "keeper":
            serve(channel, setup)
        else:
            worker.main(channel, Page(descriptors[2]), descriptors[2], descriptors[3], setup, os.getppid())
    finally:
        _leave()


def _leave() -> NoReturn:
    """End at once: exit handlers that were copied by a fork belong to another process."""
    for name in ("stdout", "stderr"):
        with contextlib.suppress(Exception):  # What a task put there, or nothing.
            getattr(sys, name).flush()
    os._exit(0)


def _has_threads() -> bool:
    """Whether this process has more than one thread, by whoever it was started. Source: /proc/PID/task, proc(5)."""
    try:
        return len(os.listdir("/proc/self/task")) > 1
    except FileNotFoundError:  # Without /proc, Python's own are known.
        return threading.active_count() > 1


def _may_fork() -> bool:
    """
    Whether this process has one thread only; what its libraries end at a fork is ended.

    OpenBLAS, and so numpy, starts its threads when it is loaded, ends them before a fork and starts them anew where it
    needs them, in the child too, pthread_atfork(3). Without a fork nobody could tell such threads from others.
    """
    if not _has_threads():
        return True
    with warnings.catch_warnings(), contextlib.suppress(OSError):
        warnings.simplefilter("ignore")  # Python warns of a fork with threads.
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.kill(child, signal.SIGKILL)  # Where the threads have not ended it may hang in a lock of theirs.
        os.waitpid(child, 0)
    limit = time.monotonic() + _THREADS_END_S
    while _has_threads() and time.monotonic() < limit:
        time.sleep(0.001)
    return not _has_threads()


def serve(channel: Channel, setup: Setup) -> None:
    """Be the keeper, until the parent lets go of its end of the channel or is gone."""
    keeper = _Keeper(channel, setup)
    try:
        keeper.run()
    finally:
        keeper.end()


class _Keeper:
    """Workers by pidfd, and what to do when one ends."""

    def __init__(self, channel: Channel, setup: Setup) -> None:
        self._channel = channel
        self._setup = setup
        self._workers: dict[int, tuple[int, int]] = {}  # {pidfd: (worker id, pid)}
        self._spared: set[int] = set()  # children that an imported module started: helpers of its own
        self._poll = select.poll()
        self._look_every_ms: float | None = None  # where the kernel does not tell when a process ends

    def run(self) -> None:
        """Serve until the parent lets go or dies."""
        worker.reset_signals()
        worker.become_subreaper()
        parent = self._watch_parent()
        if parent is None:
            return
        self._poll.register(self._channel.fileno(), select.POLLIN)
        self._watch(parent)
        while True:
            for descriptor in self._readable(parent):
                if descriptor == parent:
                    return
                if descriptor == self._channel.fileno():
                    try:
                        message = self._channel.receive(wait=False)
                    except (EOFError, OSError):
                        return
                    if message is not None and not message.is_cut and not self._obey(message):
                        return
                elif descriptor in self._workers:
                    self._reap(descriptor)

    def _watch(self, pidfd: int) -> None:
        if system.tells_end(pidfd):
            self._poll.register(pidfd, select.POLLIN)
        else:
            self._look_every_ms = system.LOOK_EVERY_S * 1000

    def _readable(self, parent: int) -> list[int]:
        """Wait for a message or an end; the descriptors that tell of it."""
        readable = [descriptor for descriptor, _ in self._poll.poll(self._look_every_ms)]
        if self._look_every_ms is not None:
            readable += [pidfd for pidfd in (parent, *self._workers) if system.ends_within(pidfd, 0.0)]
        return readable

    def end(self) -> None:
        """Kill every worker and all that they left."""
        for pidfd in self._workers:
            with contextlib.suppress(OSError):
                system.send_signal(pidfd, signal.SIGKILL)
        self._workers.clear()
        self._bury_orphans()

    def _watch_parent(self) -> int | None:
        try:
            parent = system.open_process(self._setup.parent_pid)
        except OSError:
            return None
        # Only now is it sure that the descriptor is the parent's and not that of a later process of the same id.
        return parent if os.getppid() == self._setup.parent_pid else None

    def _obey(self, message: wire.Message) -> bool:
        """Do what the parent asks for; whether this keeper can go on."""
        if message.kind == wire.START:
            self._start(message)
            return True
        modules, initializer, wants_info = wire.decode_plain(message)
        self._setup = self._setup._replace(initializer=initializer, wants_info=wants_info)  # type: ignore[arg-type]  # our parent's
        # While it imports it waits on nothing, so the kernel has to tell of the parent's death. Later that would be too
        # rough: the parent may be gone, but what the workers started still has to be buried.
        worker.die_with_parent()
        if os.getppid() != self._setup.parent_pid or not self._import(modules):  # type: ignore[arg-type]  # a list
            return False
        worker.die_with_parent(0)
        worker.redirect(2, self._setup.real_stderr)
        return True

    def _import(self, modules: list[str]) -> bool:
        """Import what the run's functions need, saying each name before: the parent judges what goes wrong."""
        for module in modules:
            self._tell(wire.IMPORTING, 0, module)
            # A module that cannot be imported fails the tasks that need it, in the worker, with its own traceback.
            with contextlib.suppress(BaseException):
                __import__(module)
            if not _may_fork():
                self._tell(wire.TAINTED, 0, module)
                return False
        self._spared = set(usage.descendants(os.getpid()))
        # A collection in a worker would go through all that it shares with this process, and so copy the pages of it.
        gc.freeze()
        self._tell(wire.IMPORTING, 0, "")
        return True

    def _tell(self, kind: int, id_: int, *facts: object, descriptors: Sequence[int] = ()) -> None:
        with contextlib.suppress(OSError):  # The parent is gone: the next wait tells.
            self._channel.send(*wire.encode_plain(kind, id_, *facts, descriptors=descriptors))

    def _start(self, message: wire.Message) -> None:
        end, page, tokens = message.descriptors
        keeper_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._become_worker(end, page, tokens, keeper_pid)
            finally:
                _leave()
        wire.close_all(message.descriptors)
        pidfd = system.open_process(pid)
        self._workers[pidfd] = (message.id, pid)
        self._watch(pidfd)
        self._tell(wire.STARTED, message.id, pid, descriptors=[pidfd])

    def _become_worker(self, end: int, page: int, tokens: int, keeper_pid: int) -> None:
        if self._setup.start_method == "spawn":
            boot = wire.boot_file(self._setup, "worker")
            for descriptor in (boot, end, page, tokens, self._setup.startup_stderr, self._setup.real_stderr):
                os.set_inheritable(descriptor, True)
            os.execv(sys.executable, [*self._setup.interpreter, "-c", wire.BOOT, *map(str, (boot, end, page, tokens))])
        self._channel.socket.close()
        wire.close_all(list(self._workers))
        worker.main(wire.Channel(socket.socket(fileno=end)), Page(page), page, tokens, self._setup, keeper_pid)

    def _reap(self, pidfd: int) -> None:
        worker_id, pid = self._workers.pop(pidfd)
        with contextlib.suppress(KeyError):  # It was looked at.
            self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status, used = os.wait4(pid, 0)
        self._bury_orphans()
        self._tell(
            wire.EXITED,
            worker_id,
            os.waitstatus_to_exitcode(status),
            used.ru_utime,
            used.ru_stime,
            used.ru_maxrss * usage.KIB,
        )

    def _bury_orphans(self) -> None:
        """
        Kill and reap every child that is not a living worker; as a parent dies its children arrive here.

        A resource tracker comes last: once nobody is left whom it served it removes what they left in /dev/shm, and
        ends. Nobody else knows the names, so it is killed only if it has not ended in time.
        """
        began_at = time.monotonic()
        limit = began_at + _BURIAL_S
        while (now := time.monotonic()) < limit:
            orphans = {pid: usage.is_resource_tracker(pid) for pid in self._orphans()}
            if not orphans:
                return
            if None in orphans.values() and now < began_at + _LOADING_S:
                time.sleep(0.001)
                continue
            doomed = [pid for pid, is_tracker in orphans.items() if not is_tracker]
            _kill(doomed)
            for pid in doomed or orphans:
                self._await_end(pid, limit)
        _kill(self._orphans())

    def _orphans(self) -> list[int]:
        living = {pid for _, pid in self._workers.values()} | self._spared
        return [pid for pid in usage.children(os.getpid()) if pid not in living]

    def _await_end(self, pid: int, limit: float) -> None:
        with contextlib.suppress(OSError):
            pidfd = system.open_process(pid)
            try:
                system.ends_within(pidfd, max(0.0, limit - time.monotonic()))
            finally:
                os.close(pidfd)
            os.waitpid(pid, os.WNOHANG)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
