"""
What the kernel gives, and the next best thing where a container's rules refuse it. Runs on both sides.

A seccomp profile may refuse system calls that were new when it was written, and so does a kernel that is none (gVisor).
Here are two that all else rests on: files in memory, and handles on processes that can never mean another process of
the same id.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import time

#: How a system call is refused, as against failing: seccomp(2) leaves the number to the profile.
_REFUSALS = frozenset({errno.ENOSYS, errno.EPERM, errno.EACCES})

#: A tmpfs, shm_overview(7): the next best place for what is to stay in memory.
_SHARED_MEMORY = "/dev/shm"  # noqa: S108  nothing that is made there has a name

#: How often it is looked whether a process has ended of which the kernel does not tell, in seconds.
LOOK_EVERY_S = 0.01


def memory_file(name: str) -> int:
    """
    A descriptor of a new, empty file without a name, which is gone with its last descriptor and mapping.

    It is a memfd that can be sealed; where these are refused, an unlinked file in /dev/shm or the temporary folder.

    Args:
        name: Shown in /proc.

    Raises:
        OSError: No descriptor is left, or no place for files was found.
    """
    try:
        return os.memfd_create(f"processes-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        return _unlinked_file()


def _unlinked_file() -> int:
    import tempfile

    folder = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.dup(file.fileno())
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        msg = f"memfd_create is refused, and so are files in {folder or 'TMPDIR'} ({error.strerror}): set TMPDIR"
        raise OSError(error.errno, msg) from error


def open_process(pid: int) -> int:
    """
    A handle on a process, which must not have been reaped: a pidfd, or where these are refused its folder in /proc.

    Both can be sent to another process, and neither ever means a later process of the same id.
    Source: pidfd_send_signal(2), which takes both.

    Raises:
        ProcessLookupError: There is no such process.
        OSError: No descriptor is left.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
    try:
        return os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None


def tells_end(handle: int) -> bool:
    """Whether the handle is readable once the process has ended; else it has to be looked at time and again."""
    return not stat.S_ISDIR(os.fstat(handle).st_mode)


def ends_within(handle: int, seconds: float) -> bool:
    """Whether the process has ended, or does within so many seconds. It may be a zombie still."""
    if tells_end(handle):
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    limit = time.monotonic() + seconds
    while (state := _pid_and_state(handle)) is not None and state[1] not in "ZX":
        if time.monotonic() >= limit:
            return False
        time.sleep(min(LOOK_EVERY_S, seconds))
    return True


def send_signal(handle: int, number: int) -> None:
    """
    Send a signal.

    Raises:
        ProcessLookupError: The process is gone.
        PermissionError: It runs as somebody else.
    """
    try:
        signal.pidfd_send_signal(handle, number)
    except OSError as error:
        if error.errno not in _REFUSALS or tells_end(handle):
            raise
        # The id is used again at the earliest when the process was reaped, and the kernel has gone through all others.
        found = _pid_and_state(handle)
        if found is None:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
        os.kill(found[0], number)


def _pid_and_state(folder: int) -> tuple[int, str] | None:
    """Of a process by its folder in /proc; None once it was reaped. Source: first and third field of stat, proc(5)."""
    try:
        fd = os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        before, _, after = os.read(fd, 1024).rpartition(b")")
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)
    return int(before.split(b" ", 1)[0]), chr(after[1])
