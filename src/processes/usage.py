"""
Memory and CPU of a process: what it uses now, and what one attempt used.

Runs in the child (its own figures) and in the parent (a child's figures, and how many CPUs there are).
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import resource
import struct
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

KIB = 1024

#: A peak this far above the present memory belongs to an earlier attempt and is reset; nearer, the reset (115 us)
#: would cost more than the figure gains.
PEAK_SLACK = 2**20

_PAGE_SIZE = resource.getpagesize()


#: No process can be started in less time, in seconds: a fork of Python takes over 100 us.
START_TAKES_S = 0.000_03


class Measure(NamedTuple):
    """
    What one attempt took. A tuple, since every attempt of every task makes one.

    Instants are seconds of CLOCK_MONOTONIC, which all processes of a machine share; memory is in bytes, CPU in seconds.
    """

    started_at: float
    ended_at: float
    worker_pid: int | None = None
    cpu_user: float | None = None
    cpu_system: float | None = None
    peak_memory: int | None = None
    memory_growth: int | None = None
    peak_source: str | None = None


#: A measure of a child's as it travels: most of them are never looked at.
Packed = bytes

#: started_at, ended_at, worker_pid, cpu_user, cpu_system, peak_memory, memory_growth
_PACKED = struct.Struct("<ddqddQq")
PACKED_SIZE = _PACKED.size

#: Where the peak of a packed measure is from.
_PEAK_SOURCE = "VmHWM"

#: The arguments are a measure's first fields, in their order.
pack_measure = _PACKED.pack


def measure_of(found: Measure | Packed) -> Measure:
    """A measure that may have come packed: its peak is the kernel's."""
    if not isinstance(found, bytes):
        return found
    started_at, ended_at, pid, user, system, peak, growth = _PACKED.unpack(found)
    return Measure(started_at, ended_at, pid, user, system, peak, growth, _PEAK_SOURCE)


def usage_in(found: Measure | Packed) -> tuple[int | None, int | None, float | None, float | None, str | None]:
    """(peak memory, its growth, user's and system's CPU, source of the peak) of a measure that may have come packed."""
    if isinstance(found, bytes):
        _, _, _, user, system, peak, growth = _PACKED.unpack(found)
        return peak, growth, user, system, _PEAK_SOURCE
    return found.peak_memory, found.memory_growth, found.cpu_user, found.cpu_system, found.peak_source


class Reading(NamedTuple):
    """What this process has used so far: CPU in seconds, memory in bytes."""

    cpu_user: float
    cpu_system: float
    peak: int
    resident: int


class OwnUsage:
    """
    This process's CPU and memory, 1 to 3 us a reading.

    Sources: ru_utime, ru_stime of the process and of the children it waited for (microseconds; `os.times` counts in
    ticks of 10 ms), ru_maxrss, which on Linux follows VmHWM, and ru_minflt: getrusage(2). Resident memory: second field
    of /proc/self/statm, in pages, proc(5); it cannot have grown where the kernel has not given a page, and is not read
    then.
    """

    def __init__(self) -> None:
        """Keep statm open; a process without /proc reads zero resident bytes and resets nothing."""
        #: Whether the descriptor of statm was found closed, or another file in its place.
        self.is_cut_off = False
        self._children = 0.0, 0.0  # user's and system's CPU of the children
        self._faults = -1
        self._last_resident = 0
        #: The descriptor of statm.
        self.statm = -1
        with contextlib.suppress(OSError):
            self.statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def read(self, seconds: float = math.inf) -> Reading:
        """Now, where so many seconds have passed in which processes can have been started since the last reading."""
        own = resource.getrusage(resource.RUSAGE_SELF)
        if seconds > START_TAKES_S:
            self._children = resource.getrusage(resource.RUSAGE_CHILDREN)[:2]
        if own.ru_minflt != self._faults or seconds > START_TAKES_S:
            self._faults, self._last_resident = own.ru_minflt, self._resident()
        user, system = self._children
        return Reading(own.ru_utime + user, own.ru_stime + system, own.ru_maxrss * KIB, self._last_resident)

    def forget_peak(self, last: Reading) -> None:
        """Make the peak the present memory, where an earlier attempt left it more than PEAK_SLACK above."""
        if last.peak - last.resident > PEAK_SLACK:
            with contextlib.suppress(OSError), open("/proc/self/clear_refs", "wb") as clear_refs:
                clear_refs.write(b"5")  # "reset the peak resident set size", proc(5)

    def _resident(self) -> int:
        try:
            return int(os.pread(self.statm, 64, 0).split(b" ", 2)[1]) * _PAGE_SIZE
        except (OSError, IndexError, ValueError):
            self.is_cut_off = self.statm >= 0
            return 0


def private_bytes(pid: int) -> int:
    """
    Memory that a process alone answers for: anonymous and swapped, in bytes; 0 where it is gone.

    Mapped inputs (shared, in a memfd) do not count: the process that made them did not choose who maps them.
    Source: RssAnon and VmSwap in /proc/PID/status, in KiB, proc(5).
    """
    try:
        status = _read(f"/proc/{pid}/status")
    except OSError:
        return 0
    return _sum_of(rb"^(?:RssAnon|VmSwap):\s*(\d+) kB", status)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def descendants(pid: int) -> list[int]:
    """
    Ids of all living descendants of a process, nearest first.

    Source: /proc/PID/task/TID/children, proc(5); psutil, which reads all of /proc, where the kernel lacks it.
    """
    found: list[int] = []
    queue = [pid]
    while queue:
        born = children(queue.pop())
        found += born
        queue += born
    return found


def children(pid: int) -> list[int]:
    """
    Ids of the living and unreaped children of a process, whichever of its threads made them.

    Source: /proc/PID/task/TID/children, proc(5).
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        texts = [_read(f"/proc/{pid}/task/{thread}/children") for thread in threads]
    except FileNotFoundError:
        return _children_by_scan(pid) if os.path.exists(f"/proc/{pid}") else []
    except OSError:
        return []
    return [int(child) for text in texts for child in text.split()]


def _children_by_scan(pid: int) -> list[int]:
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def is_resource_tracker(pid: int) -> bool | None:
    """
    Whether a process is one that multiprocessing, or loky, starts to clean up semaphores and shared memory.

    None where that cannot be told yet: whoever started it goes on a moment before the kernel has its command.

    Source: the command that `resource_tracker.ensure_running` runs; /proc/PID/cmdline, proc(5).
    """
    try:
        command = _read(f"/proc/{pid}/cmdline")
    except OSError:
        return False
    return b"resource_tracker import main" in command if command or process_state(pid) in "ZX" else None


def process_state(pid: int) -> str:
    """One letter: T is stopped, Z and X are dead. Source: third field of /proc/PID/stat, proc(5)."""
    with contextlib.suppress(OSError):
        return chr(_read(f"/proc/{pid}/stat").rpartition(b")")[2][1])
    return "X"


def tree_private_bytes(pid: int, limit: int) -> int:
    """
    `private_bytes` of a process and all its descendants; above `limit`, what a fork shares with its parent counts once.

    A fork has all of its parent's memory in its own figure until one of them writes to it. To tell what is really its
    own the kernel walks all its page tables (a millisecond for each GiB), so it is asked only where the answer matters.
    """
    found = descendants(pid)
    own = private_bytes(pid)
    total = own + sum(map(private_bytes, found))
    return total if total <= limit or not found else own + sum(map(_unshared_bytes, found))


def _unshared_bytes(pid: int) -> int:
    """
    Memory that a process wrote to and shares with no other, and its swap, in bytes; 0 where it is gone.

    Source: Private_Dirty and SwapPss in /proc/PID/smaps_rollup, in KiB, proc(5).
    """
    try:
        rollup = _read(f"/proc/{pid}/smaps_rollup")
    except OSError:
        return 0
    return _sum_of(rb"^(?:Private_Dirty|SwapPss):\s*(\d+) kB", rollup)


def _sum_of(pattern: bytes, text: bytes) -> int:
    return sum(int(size) for size in re.findall(pattern, text, re.MULTILINE)) * KIB


def oom_kills() -> int | None:
    """
    How many processes the kernel's out-of-memory killer has ended since boot; None where it does not tell.

    Source: oom_kill in /proc/vmstat (Linux 4.13), which counts those of memory cgroups too.
    """
    return _counter("/proc/vmstat", rb"^oom_kill (\d+)$")


def available_memory() -> int | None:
    """Bytes that new programs could use without swapping. Source: MemAvailable in /proc/meminfo, in KiB, proc(5)."""
    found = _counter("/proc/meminfo", rb"^MemAvailable:\s+(\d+) kB$")
    return None if found is None else found * KIB


def _counter(path: str, pattern: bytes) -> int | None:
    try:
        found = re.search(pattern, _read(path), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1])


def free_descriptors() -> int:
    """
    How many more descriptors this process may open.

    Source: RLIMIT_NOFILE, getrlimit(2); those that are open in /proc/self/fd, proc(5): none are seen without it.
    """
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limit = sys.maxsize if soft == resource.RLIM_INFINITY else soft
    try:
        return max(0, limit - len(os.listdir("/proc/self/fd")))
    except FileNotFoundError:
        return limit
    except OSError:  # There is none left to look with.
        return 0


def usable_cpus() -> int:
    """
    CPUs that this process may use: those of its affinity, cut by its cgroup's quota; at least 1.

    A quota of 2.5 CPUs counts as 3. Source: sched_getaffinity(2); cpu.max, cgroup-v2; cpu.cfs_quota_us, cgroup-v1.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(cpus, -int(-quota // 1)) if quota else cpus)


def _cgroup_quota(root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> float | None:
    """
    The tightest quota, in CPUs, of the cgroups this process is in, or None where there is none.

    Source: /proc/PID/cgroup, cgroups(7); its second field names the controllers, and is empty for version 2.
    """
    try:
        lines = _read(membership).decode().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            quotas += _quotas_upwards(root, path, _quota_v2)
        elif "cpu" in controllers.split(","):
            quotas += _quotas_upwards(f"{root}/{controllers}", path, _quota_v1)
    return min(quotas, default=None)


def _quotas_upwards(root: str, path: str, read: Callable[[str], float | None]) -> list[float]:
    """A limit on any enclosing group holds too."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    folders = ["/".join([root, *parts[:count]]) for count in range(len(parts) + 1)]
    return [quota for quota in map(read, folders) if quota]


def _quota_v2(folder: str) -> float | None:
    try:
        quota, period = _read(f"{folder}/cpu.max").split()
        return None if quota == b"max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_v1(folder: str) -> float | None:
    try:
        quota = int(_read(f"{folder}/cpu.cfs_quota_us"))
        period = int(_read(f"{folder}/cpu.cfs_period_us"))
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 else None


_SIZE = r"(?i)\s*(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?\s*"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_size(size: object) -> int:
    """
    A size in bytes, from an int or a text such as "512MiB" or "2GB".

    Raises:
        TypeError: Neither an int nor a str.
        ValueError: Not above zero, or no such unit.
    """
    if isinstance(size, bool) or not isinstance(size, int | str):
        msg = f"a size is an int in bytes or a text such as '512MiB', got {size!r}"
        raise TypeError(msg)
    found = re.fullmatch(_SIZE, str(size))
    bytes_ = int(float(found[1]) * _UNITS[(found[2] or "").upper()]) if found else 0
    if bytes_ <= 0:
        msg = f"a size is a number above 0 with an optional unit (kB, MB, GB, KiB, MiB, GiB), got {size!r}"
        raise ValueError(msg)
    return bytes_
