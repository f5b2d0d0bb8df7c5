"""Files in memory and handles on processes: the kernel's own, and what stands in where they are refused."""

import errno
import fcntl
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processes import system

#: Where a profile of seccomp refuses a system call.
refusals = pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)


def failing(number: int) -> Callable[..., int]:
    """A system call that fails."""

    def fail(*args: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture(params=["pidfd", "folder"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of handles that can be had; that of folders has no system call for signals either."""
    kind: str = request.param
    if kind == "folder":
        monkeypatch.setattr(os, "pidfd_open", failing(errno.ENOSYS))
        monkeypatch.setattr(signal, "pidfd_send_signal", failing(errno.EPERM))
    return kind


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until it is killed."""
    with subprocess.Popen(["sleep", "600"]) as child:
        yield child
        child.kill()


# ---- files -----------------------------------------------------------------------------------------------------------


def test_memory_file_has_its_name_and_can_be_sealed() -> None:
    """It is a memfd, which no program that is started inherits."""
    fd = system.memory_file("value")
    try:
        assert os.readlink(f"/proc/self/fd/{fd}") == "/memfd:processes-value (deleted)"
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == 0
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@refusals
@pytest.mark.parametrize("has_shared_memory", [True, False])
def test_memory_file_where_memfds_are_refused_has_no_name(
    refusal: int, has_shared_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in /dev/shm, or else in the temporary folder, in which nothing is seen."""
    shared, temporary = tmp_path / "shm", tmp_path / "tmp"
    temporary.mkdir()
    if has_shared_memory:
        shared.mkdir()
    monkeypatch.setattr(system, "_SHARED_MEMORY", str(shared))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(os, "memfd_create", failing(refusal))
    fd = system.memory_file("value")
    try:
        assert os.readlink(f"/proc/self/fd/{fd}").startswith(f"{shared if has_shared_memory else temporary}/")
        assert [*tmp_path.glob("*/*")] == []
        assert os.fstat(fd).st_size == 0
        assert not os.get_inheritable(fd)
        os.write(fd, b"whole")
        assert os.pread(fd, 10, 0) == b"whole"
    finally:
        os.close(fd)


def test_memory_file_without_descriptors_left_is_not_tried_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor can it be had there."""
    monkeypatch.setattr(os, "memfd_create", failing(errno.EMFILE))
    with pytest.raises(OSError, match="Too many open files"):
        system.memory_file("value")


def test_memory_file_without_any_place_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither memfds, nor /dev/shm, nor a temporary folder."""
    monkeypatch.setattr(system, "_SHARED_MEMORY", str(tmp_path / "shm"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(os, "memfd_create", failing(errno.EPERM))
    with pytest.raises(OSError, match=r"memfd_create is refused, and so are files in TMPDIR .*: set TMPDIR"):
        system.memory_file("value")


# ---- processes -------------------------------------------------------------------------------------------------------


def test_handle_tells_of_an_end(kind: str, child: subprocess.Popen[bytes]) -> None:
    """A process that lives, one that was killed and is a zombie, and one that was reaped."""
    handle = system.open_process(child.pid)
    try:
        assert system.tells_end(handle) == (kind == "pidfd")
        assert not system.ends_within(handle, 0.0)
        assert not system.ends_within(handle, 0.001)
        system.send_signal(handle, signal.SIGKILL)
        assert system.ends_within(handle, 60.0)
        child.wait()
        assert system.ends_within(handle, 0.0)
    finally:
        os.close(handle)


def test_handle_of_one_that_was_reaped_reaches_nobody(kind: str, child: subprocess.Popen[bytes]) -> None:
    """Whoever may have its id by now."""
    handle = system.open_process(child.pid)
    try:
        child.kill()
        child.wait()
        with pytest.raises(ProcessLookupError):
            system.send_signal(handle, signal.SIGTERM)
    finally:
        os.close(handle)


def test_handle_on_nobody_is_refused(kind: str, child: subprocess.Popen[bytes]) -> None:
    """There is no such process."""
    child.kill()
    child.wait()
    with pytest.raises(ProcessLookupError):
        system.open_process(child.pid)


def test_handle_without_descriptors_left_is_not_tried_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor can it be had so."""
    monkeypatch.setattr(os, "pidfd_open", failing(errno.EMFILE))
    with pytest.raises(OSError, match="Too many open files"):
        system.open_process(os.getpid())
