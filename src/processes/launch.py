"""
How the parent starts the keeper of a run, and how it sees it.

A module of its own, since the parent needs nothing of what the keeper and its workers are made of: that is loaded there
while the parent gets ready.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING

from processes import system, usage, wire
from processes.exceptions import WorkerStartError

if TYPE_CHECKING:
    import subprocess

    from processes.wire import Channel, Setup

#: What a child takes of the program's descriptors: both ends of its channel, page, tokens and pidfd.
_DESCRIPTORS_EACH = 5

#: Threads that numeric libraries start for themselves; read when they are imported.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

#: How long a keeper may take to end once it was let go, in seconds; one that was stopped, or is swapped out, is killed.
_END_S = 10.0


START_METHODS = ("forkserver", "spawn", "fork")


class KeeperLink:
    """The keeper as its parent sees it."""

    def __init__(self, channel: Channel, pid: int, popen: subprocess.Popen[bytes] | None) -> None:
        """Hold what `launch` made."""
        self.channel = channel
        self.pid = pid
        self._popen = popen
        self.pidfd = system.open_process(pid)
        #: Readable once the process is gone. Where no pidfd tells, the channel's end does, and of messages as well.
        self.end = self.pidfd if system.tells_end(self.pidfd) else os.dup(channel.fileno())

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return system.ends_within(self.pidfd, 0.0)

    def close(self, *, kill: bool = False) -> None:
        """Let go of the keeper, which then kills all workers and ends; returns when it has."""
        with contextlib.suppress(OSError):  # It has ended by itself.
            # To close it is not enough: what the program has forked during the run has this end too.
            self.channel.socket.shutdown(socket.SHUT_RDWR)
        self.channel.close()
        if self.end != self.pidfd:
            os.close(self.end)  # As it holds the channel open.
        if kill or not system.ends_within(self.pidfd, _END_S):
            with contextlib.suppress(ProcessLookupError):
                system.send_signal(self.pidfd, signal.SIGKILL)
        if self._popen is not None:
            self._popen.wait()
        else:
            with contextlib.suppress(ChildProcessError):  # SIGCHLD is ignored: the kernel has reaped it.
                os.waitpid(self.pid, 0)
        os.close(self.pidfd)


class Launcher:
    """
    What the keepers of one run are started with.

    Attributes:
        method: How they start workers.
        max_workers: How many workers there may be at a time.
        trouble: Why there may be fewer than were asked for; empty where that is not so.
    """

    def __init__(self, method: str | None, max_workers: int | None) -> None:
        """
        Nothing is started before `begin`.

        Raises:
            NotImplementedError: This system has not what it takes.
        """
        _refuse_platform()
        self.method = method or START_METHODS[0]
        self.max_workers = max_workers or usage.usable_cpus()
        self.trouble = ""
        self._first: KeeperLink | None = None  # until it is taken
        self._filled: list[int] = []  # those of 0 to 2 that the program runs without
        self._startup_stderr = self._real_stderr = -1

    @property
    def has_begun(self) -> bool:
        """Whether `begin` was called."""
        return self._startup_stderr >= 0

    def refuse_fork_with_threads(self) -> None:
        """
        See that the caller may be forked, where it is.

        Raises:
            ValueError: It has threads.
        """
        if self.method == "fork" and threading.active_count() > 1:
            msg = (
                f"start_method='fork' cannot be used while the program has threads "
                f"({threading.active_count() - 1} beside this one): a fork copies their locks. "
                "Use 'forkserver' or 'spawn'."
            )
            raise ValueError(msg)

    def begin(self) -> None:
        """
        Start the first keeper; `close` follows.

        Raises:
            ValueError: See `refuse_fork_with_threads`.
            WorkerStartError: See `take`.
        """
        self.refuse_fork_with_threads()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        # Values and logs need some too.
        affordable = max(1, usage.free_descriptors() // 2 // _DESCRIPTORS_EACH)
        if affordable < self.max_workers:
            self.max_workers = affordable
            self.trouble = (
                f"not more than {affordable} workers at a time: the program may have {limit} descriptors open"
            )
        _fill_standard(self._filled)
        self._startup_stderr = system.memory_file("stderr")
        _set_append(self._startup_stderr)
        self._real_stderr = os.dup(2)
        self._first = self._start()

    def take(self) -> KeeperLink:
        """
        The keeper that `begin` started; when that has been taken, another one, told what the program is like now.

        Raises:
            ValueError: See `refuse_fork_with_threads`.
            WorkerStartError: The system refuses to start it.
        """
        first, self._first = self._first, None
        if first is None:
            self.refuse_fork_with_threads()
        return first or self._start()

    def _start(self) -> KeeperLink:
        levels, disabled = snapshot()
        setup = wire.Setup(
            self.method,
            interpreter(),
            os.getpid(),
            list(sys.path),
            list(sys.argv),
            levels,
            disabled,
            self._startup_stderr,
            self._real_stderr,
        )
        try:
            return _launch(setup, self._environment())
        except OSError as error:
            msg = f"the process that starts the workers could not be started: {error}"
            raise WorkerStartError(msg) from error

    def _environment(self) -> dict[str, str]:
        """The parent's environment, with the threads of numeric libraries shared out among the workers."""
        threads = str(max(1, usage.usable_cpus() // self.max_workers))
        return {**dict.fromkeys(_THREAD_VARIABLES, threads), **os.environ}

    def stderr_text(self) -> str:
        """The end of what keepers and workers wrote to standard error before they were ready."""
        size = os.fstat(self._startup_stderr).st_size
        return os.pread(self._startup_stderr, 20_000, max(0, size - 20_000)).decode(errors="replace")

    def close(self) -> None:
        """Free what `begin` took, and end a keeper that nobody has taken; safe to repeat."""
        if self._first is not None:
            self._first.close(kill=True)
            self._first = None
        wire.close_all([fd for fd in (self._startup_stderr, self._real_stderr, *self._filled) if fd >= 0])
        self._startup_stderr = self._real_stderr = -1
        self._filled = []


#: What `snapshot` gives where nobody has loaded logging: the root's level is WARNING.
_AS_LOADED = {"": (30, True, False)}, 0


def snapshot() -> tuple[dict[str, tuple[int, bool, bool]], int]:
    """Levels and switches of every logger, as a child is to have them: (loggers, `logging.disable`)."""
    logging = sys.modules.get("logging")
    if logging is None:  # It is loaded while the keeper starts.
        return _AS_LOADED
    root = logging.root
    loggers = {"": (int(root.level), True, root.disabled)}
    for name, logger in list(root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (logger.level or not logger.propagate or logger.disabled):
            # A level may be of an enum of the application's, which the child cannot load yet.
            loggers[name] = (int(logger.level), bool(logger.propagate), bool(logger.disabled))
    return loggers, int(root.manager.disable)


def _refuse_platform() -> None:
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        msg = (
            "parallel='processes' needs Linux 5.10 or newer (pidfd, memfd, /proc). "
            "Use parallel='threads', or parallel=None to run in this thread."
        )
        raise NotImplementedError(msg)


def _fill_standard(filled: list[int]) -> None:
    """Open those of the descriptors 0 to 2 that are closed: what has their numbers, children would redirect."""
    while (descriptor := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) < 3:
        filled.append(descriptor)
    os.close(descriptor)


def _set_append(descriptor: int) -> None:
    import fcntl

    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)


def _launch(setup: Setup, environment: dict[str, str]) -> KeeperLink:
    mine, theirs = wire.channel_pair()
    try:
        if setup.start_method == "fork":
            pid, popen = _fork_keeper(setup, mine, theirs), None
        else:
            popen = _exec_keeper(setup, theirs, environment)
            pid = popen.pid
    except BaseException:
        mine.close()
        raise
    finally:
        theirs.close()
    return KeeperLink(mine, pid, popen)


def _fork_keeper(setup: Setup, mine: Channel, theirs: Channel) -> int:
    from processes.keeper import serve  # Before the fork, so that a next run's has it too.

    for stream in (sys.stdout, sys.stderr):  # What waits in a buffer would be written twice.
        with contextlib.suppress(Exception):
            stream.flush()
    pid = os.fork()
    if pid == 0:
        try:
            mine.close()
            os.setsid()
            _no_input()
            serve(theirs, setup)
        finally:
            os._exit(1)
    return pid


def _no_input() -> None:
    """Children must not read what was typed for the parent."""
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0)
    os.close(devnull)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  open for the life of the process


def _exec_keeper(setup: Setup, theirs: Channel, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    import subprocess

    boot = wire.boot_file(setup, "keeper")
    try:
        kept = [boot, theirs.fileno(), setup.startup_stderr, setup.real_stderr]
        return subprocess.Popen(
            [*setup.interpreter, "-c", wire.BOOT, str(boot), str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stderr=setup.startup_stderr,
            pass_fds=kept,
            start_new_session=True,
            env=environment,
        )
    finally:
        os.close(boot)


def interpreter() -> list[str]:
    """This interpreter with this one's flags (-X, -W, -O, ...). Subprocess knows them for multiprocessing's use."""
    import subprocess

    return [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]
