"""
How the parent starts the keeper of a run, and how it sees it.

A module of its own, since the parent needs nothing of what the keeper and its workers are made of: that is loaded there
while the parent gets ready.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from processes import system, wire

if TYPE_CHECKING:
    import subprocess

    from processes.wire import Channel, Setup

#: How long a keeper may take to end once it was let go, in seconds; one that was stopped, or is swapped out, is killed.
_END_S = 10.0


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


def launch(setup: Setup, environment: dict[str, str]) -> KeeperLink:
    """
    Start a keeper.

    Raises:
        OSError: The system refuses: no process, no descriptor.
    """
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
