"""
What a test left behind: processes, threads, descriptors, shared memory, temporary files.

Stock is taken before the test and after it. Much ends a little later than the call that ends it: a process
when it is reaped, a descriptor when its owner is collected. So the second look is repeated until nothing is
left over, or the time is up.
"""

import contextlib
import gc
import mmap
import os
import secrets
import signal
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

#: No passing test needs it: one that leaves nothing behind is done at the first look, or soon after.
SETTLE_TIME_S = 2.0
_LOOK_EVERY_S = 0.02

# (process id, start in clock ticks since boot): a process id alone is used again
_ProcessKey: TypeAlias = tuple[int, int]

_SHARED_MEMORY = Path("/dev/shm")

# What marks the processes that descend from this one, also those whose parent is gone. One that was forked
# has the mapping, one that was started with exec has the environment variable.
_MARK = f"PROCESSES_TESTS_{os.getpid()}_{secrets.token_hex(4)}"
_marking: list[mmap.mmap] = []  # the mapping, once it is made


@dataclass(frozen=True, slots=True)
class Stock:
    """What there is at one moment."""

    #: All of the machine, with their parents' ids.
    processes: dict[_ProcessKey, int]
    #: Those of this process that the threading module knows, daemon or not.
    threads: frozenset[threading.Thread]
    #: Those of this process, with what they are open on.
    descriptors: frozenset[tuple[int, str]]
    #: Paths of files in /dev/shm.
    shared_memory: frozenset[str]
    #: Paths in tempfile.gettempdir().
    temporary_files: frozenset[str]


@dataclass(frozen=True, slots=True)
class Leaks:
    """What there is now and was not before."""

    processes: frozenset[int]
    shared_memory: frozenset[str]
    #: One line each.
    lines: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.lines)

    def kill_processes(self) -> None:
        """What a test left running must not disturb those that follow."""
        for pid in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def mark_descendants() -> None:
    """From now on, processes that descend from this one are known as such when their parents are gone."""
    if not _marking:
        os.environ[_MARK] = "1"
        descriptor = os.memfd_create(_MARK)
        os.ftruncate(descriptor, mmap.PAGESIZE)
        _marking.append(mmap.mmap(descriptor, mmap.PAGESIZE))
        os.close(descriptor)


def take_stock() -> Stock:
    """What there is now."""
    return Stock(
        processes=_processes(),
        threads=frozenset(threading.enumerate()),
        descriptors=_descriptors(),
        shared_memory=_shared_memory(),
        temporary_files=_paths_in(Path(tempfile.gettempdir())),
    )


def wait_for_leaks(before: Stock, settle_time: float) -> Leaks:
    """What is left over since `before` when there was time, in seconds, for things to end."""
    gc.collect()
    leaks = _leaks(before)
    give_up_at = time.monotonic() + settle_time
    while leaks and time.monotonic() < give_up_at:
        time.sleep(_LOOK_EVERY_S)
        gc.collect()
        # /dev/shm is everybody's, and busy where others run pools: what comes between two looks is none of the test's.
        leaks = _leaks(before, leaks.shared_memory)
    return leaks


def _leaks(before: Stock, suspected: frozenset[str] | None = None) -> Leaks:
    now = take_stock()
    new = {key: parent for key, parent in now.processes.items() if key not in before.processes}
    processes = _ours(new)
    shared_memory = now.shared_memory - before.shared_memory
    if suspected is not None:
        shared_memory &= suspected
    if shared_memory:
        shared_memory -= _mapped_by_others()
    lines = [
        *(_describe_process(pid) for pid in sorted(processes)),
        *(f"thread {thread!r}" for thread in now.threads - before.threads),
        *(f"descriptor {fd} -> {target}" for fd, target in sorted(now.descriptors - before.descriptors)),
        *(f"shared memory {path}" for path in sorted(shared_memory)),
        *(f"temporary file {path}" for path in sorted(now.temporary_files - before.temporary_files)),
    ]
    return Leaks(processes, shared_memory, tuple(lines))


def _processes() -> dict[_ProcessKey, int]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = _stat_after_name(int(name))
                found[int(name), int(fields[19])] = int(fields[1])
    return found


def _stat_after_name(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third, the state. The second, a name, may hold anything."""
    # All of the machine are read twice a test; without a buffer and a decoder that takes a third less.
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
        return stat.read().rpartition(b")")[2].decode().split()


def _ours(processes: dict[_ProcessKey, int]) -> frozenset[int]:
    """Those that descend from this process."""
    ours: set[int] = set()
    # An elder cannot descend from a younger one, so that one look at each is enough.
    for (pid, _), parent in sorted(processes.items(), key=lambda item: (item[0][1], item[0][0])):
        if parent == os.getpid() or parent in ours or _is_marked(pid):
            ours.add(pid)
    return frozenset(ours)


def _is_marked(pid: int) -> bool:
    for name in ("environ", "maps"):
        # Gone, or somebody else's.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if _MARK.encode() in Path(f"/proc/{pid}/{name}").read_bytes():
                return True
    return False


def _mapped_by_others() -> frozenset[str]:
    """Paths in /dev/shm that a process has in use which does not descend from this one."""
    processes = _processes()  # Anew: whoever made what has just been seen there may have come since stock was taken.
    ours = _ours(processes) | {os.getpid()}
    found: set[str] = set()
    for pid, _ in processes:
        if pid not in ours:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
                found.update(line[line.index("/") :] for line in lines if f" {_SHARED_MEMORY}/" in line)
    return frozenset(found)


def _describe_process(pid: int) -> str:
    try:
        state, parent = _stat_after_name(pid)[:2]
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return f"process {pid}, just gone"
    return f"process {pid}, state {state}, parent {parent}: {command.strip() or 'not reaped'}"


def _descriptors() -> frozenset[tuple[int, str]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        # The one through which the folder was read is closed by now.
        with contextlib.suppress(FileNotFoundError):
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
    return frozenset(found)


def _shared_memory() -> frozenset[str]:
    """Only files, as shm_open(3) makes: folders there are temporary ones of other programs, such as joblib."""
    with os.scandir(_SHARED_MEMORY) as found:
        return frozenset(entry.path for entry in found if not entry.is_dir(follow_symlinks=False))


def _paths_in(folder: Path) -> frozenset[str]:
    return frozenset(map(str, folder.iterdir()))
