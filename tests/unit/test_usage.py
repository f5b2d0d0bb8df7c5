"""Sizes are read, quotas found, and what an attempt used is told from what came before it."""

import mmap
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.util import spawnv_passfds
from pathlib import Path

import pytest

from processes import usage
from processes.usage import OwnUsage, children, descendants, parse_size, private_bytes, tree_private_bytes, usable_cpus

MIB = 2**20

# ---- sizes -----------------------------------------------------------------------------------------------------------

SIZES: list[tuple[object, int]] = [
    (1, 1),
    (2**40, 2**40),
    ("1", 1),
    ("512MiB", 512 * 2**20),
    ("512 MiB", 512 * 2**20),
    (" 512mib ", 512 * 2**20),
    ("512Mi", 512 * 2**20),
    ("2GB", 2 * 10**9),
    ("2g", 2 * 10**9),
    ("1kB", 1000),
    ("1KiB", 1024),
    ("1TB", 10**12),
    ("1TiB", 2**40),
    ("1.5GiB", 3 * 2**29),
    ("0.5k", 500),
    ("7B", 7),
]


@pytest.mark.parametrize(("text", "size"), SIZES, ids=repr)
def test_parse_size_reads_ints_and_texts(text: object, size: int) -> None:
    """Decimal units and binary ones, in any case, with or without B."""
    assert parse_size(text) == size


@pytest.mark.parametrize("size", [None, True, 1.5, b"1MB", ["1MB"]], ids=repr)
def test_parse_size_takes_no_other_type(size: object) -> None:
    """A bool is no number, and a float no size."""
    with pytest.raises(TypeError, match="a size is an int in bytes or a text such as '512MiB', got"):
        parse_size(size)


@pytest.mark.parametrize("size", [0, -1, "0", "0.1", "-1MB", "", "MB", "1PB", "1 M B", "1,5GB", "1e3", "one", "1KB1"])
def test_parse_size_names_what_is_no_size(size: object) -> None:
    """Not above zero, or no such unit: the message shows what was given."""
    with pytest.raises(ValueError, match="above 0") as caught:
        parse_size(size)
    assert repr(size) in str(caught.value)


# ---- CPUs ------------------------------------------------------------------------------------------------------------


def quota(root: Path, membership: str) -> float | None:
    """The quota of a process that is in these groups."""
    (root / "membership").write_text(membership)
    return usage._cgroup_quota(str(root), str(root / "membership"))


def group(folder: Path, **files: str) -> None:
    """A folder of a cgroup; an underscore stands for the first dot of a file's name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text + "\n")


def test_quota_of_version_2_is_quota_by_period(tmp_path: Path) -> None:
    """cpu.max holds both, in microseconds."""
    group(tmp_path / "a", cpu_max="250000 100000")
    assert quota(tmp_path, "0::/a\n") == 2.5


def test_quota_of_version_2_may_be_missing(tmp_path: Path) -> None:
    """Unlimited groups say max; the root has no such file."""
    group(tmp_path / "a", cpu_max="max 100000")
    assert quota(tmp_path, "0::/a\n") is None
    assert quota(tmp_path, "0::/\n") is None


def test_quota_of_version_2_is_the_tightest_of_those_around(tmp_path: Path) -> None:
    """A limit on an enclosing group holds too, and so does one on the group itself."""
    group(tmp_path / "a", cpu_max="100000 100000")
    group(tmp_path / "a/b", cpu_max="max 100000")
    group(tmp_path / "a/b/c", cpu_max="400000 100000")
    assert quota(tmp_path, "0::/a/b/c\n") == 1.0
    group(tmp_path / "a/b/c", cpu_max="50000 100000")
    assert quota(tmp_path, "0::/a/b/c\n") == 0.5


def test_quota_of_version_2_in_a_container_is_at_the_root(tmp_path: Path) -> None:
    """The path may lead out of what is mounted, or to a folder that is not."""
    group(tmp_path, cpu_max="300000 100000")
    assert quota(tmp_path, "0::/\n") == 3.0
    assert quota(tmp_path, "0::/../../elsewhere\n") == 3.0


def test_quota_of_version_1_is_that_of_its_cpu_groups(tmp_path: Path) -> None:
    """Quota and period are files of their own, in the folder of the controllers; -1 is none."""
    lines = "12:memory:/m\n3:cpu,cpuacct:/a/b\n0::/\n"
    folder = tmp_path / "cpu,cpuacct"
    group(folder / "a", cpu_cfs_quota_us="150000", cpu_cfs_period_us="100000")
    group(folder / "a/b", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    assert quota(tmp_path, lines) == 1.5
    group(folder / "a/b", cpu_cfs_quota_us="50000", cpu_cfs_period_us="50000")
    assert quota(tmp_path, lines) == 1.0


def test_quota_leaves_other_controllers_out(tmp_path: Path) -> None:
    """A controller whose name only begins so is another."""
    group(tmp_path / "cpuset/a", cpu_cfs_quota_us="50000", cpu_cfs_period_us="50000")
    assert quota(tmp_path, "3:cpuset:/a\n") is None


@pytest.mark.parametrize("text", ["", "garbage", "1 2 3", "x y"])
def test_quota_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    """A kernel may write what we do not know."""
    group(tmp_path / "a", cpu_max=text)
    assert quota(tmp_path, "0::/a\n") is None


def test_quota_without_cgroups_is_none(tmp_path: Path) -> None:
    """Not every system has them."""
    assert usage._cgroup_quota(str(tmp_path), str(tmp_path / "nothing")) is None


@pytest.mark.parametrize(
    ("cpus", "limit", "expected"), [(8, None, 8), (8, 2.5, 3), (8, 0.1, 1), (2, 5.0, 2), (4, 4.0, 4)]
)
def test_usable_cpus_are_affinity_cut_by_quota(
    monkeypatch: pytest.MonkeyPatch, cpus: int, limit: float | None, expected: int
) -> None:
    """A part of a CPU counts as one, and there is always one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)))
    monkeypatch.setattr(usage, "_cgroup_quota", lambda: limit)
    assert usable_cpus() == expected


# ---- this process ----------------------------------------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[OwnUsage]:
    """A reader whose descriptor is closed when the test ends."""
    made = OwnUsage()
    yield made
    os.close(made.statm)


def spike(size: int) -> None:
    """Use memory and give it back."""
    with mmap.mmap(-1, size) as memory:
        for start in range(0, size, mmap.PAGESIZE):
            memory[start] = 1


def test_own_usage_sees_a_spike_and_forgets_it(own: OwnUsage) -> None:
    """64 MiB that an attempt used and gave back are its peak, and no later one's."""
    before = own.read()
    # What the process reached before, or inherited from whoever started it, lies below the spike.
    spike(64 * MIB + before.peak - before.resident)
    after = own.read()
    assert after.peak >= before.peak + 60 * MIB
    assert after.resident < before.resident + 8 * MIB
    own.forget_peak(after)
    assert own.read().peak < before.peak + 8 * MIB


def test_own_usage_leaves_a_near_peak_alone(own: OwnUsage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset costs more than the figure gains: nothing is opened for it."""
    last = own.read()
    monkeypatch.setattr("builtins.open", None)
    own.forget_peak(last._replace(peak=last.resident + usage.PEAK_SLACK))
    with pytest.raises(TypeError):
        own.forget_peak(last._replace(peak=last.resident + usage.PEAK_SLACK + 1))


def test_own_usage_counts_cpu_and_memory(own: OwnUsage) -> None:
    """CPU only grows; what is held now shows as resident."""
    before = own.read()
    with mmap.mmap(-1, 32 * MIB) as memory:
        for start in range(0, 32 * MIB, mmap.PAGESIZE):
            memory[start] = 1
        during = own.read()
    assert during.resident >= before.resident + 28 * MIB
    assert during.cpu_user + during.cpu_system > before.cpu_user + before.cpu_system
    assert own.read().resident < during.resident - 28 * MIB


def test_own_usage_survives_the_loss_of_its_descriptor() -> None:
    """A task may close everything: no memory is told then, and nothing raised. It is known from then on."""
    made = OwnUsage()
    before = made.is_cut_off
    os.close(made.statm)
    assert made.read().resident == 0
    assert (before, made.is_cut_off) == (False, True)
    made.statm = os.memfd_create("another")
    assert made.read().resident == 0
    os.close(made.statm)


# ---- other processes -------------------------------------------------------------------------------------------------


@contextmanager
def family() -> Iterator[tuple[int, int, int]]:
    """A child, its child, and that one's child: all there while the block runs."""
    scripts = {"MIDDLE": 'echo $$; sh -c "$LAST"; :', "LAST": "echo $$; read x; :"}
    with subprocess.Popen(
        ["sh", "-c", 'sh -c "$MIDDLE"; :'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | scripts,
    ) as child:
        assert child.stdout is not None
        yield child.pid, int(child.stdout.readline()), int(child.stdout.readline())
        child.communicate("\n")


def test_descendants_are_all_found_nearest_first() -> None:
    """Children are those directly below; descendants all."""
    with family() as (child, grandchild, last):
        assert child in children(os.getpid())
        assert children(child) == [grandchild]
        assert descendants(child) == [grandchild, last]
        assert descendants(last) == []


def test_descendants_are_found_without_the_kernels_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not list children, all processes are looked at."""
    with family() as (child, grandchild, last):
        monkeypatch.setattr(usage, "children", usage._children_by_scan)
        assert descendants(child) == [grandchild, last]


def test_descendants_of_nobody_are_none() -> None:
    """A process that is gone has no children and uses no memory."""
    with subprocess.Popen(["true"]) as child:
        child.wait()
    assert descendants(child.pid) == []
    assert children(child.pid) == []
    assert private_bytes(child.pid) == 0


def test_private_bytes_count_own_memory_only() -> None:
    """What is anonymous counts; what a file backs, a memfd's shared pages too, does not."""
    before = private_bytes(os.getpid())
    with mmap.mmap(-1, 32 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for start in range(0, 32 * MIB, mmap.PAGESIZE):
            memory[start] = 1
        during = private_bytes(os.getpid())
    assert during >= before + 28 * MIB
    descriptor = os.memfd_create("shared")
    os.ftruncate(descriptor, 32 * MIB)
    with mmap.mmap(descriptor, 32 * MIB) as memory:
        os.close(descriptor)
        for start in range(0, 32 * MIB, mmap.PAGESIZE):
            memory[start] = 1
        assert private_bytes(os.getpid()) < during - 24 * MIB


def test_tree_private_bytes_are_those_of_all() -> None:
    """A task answers for what it starts."""
    with family() as pids:
        assert tree_private_bytes(pids[0], sys.maxsize) == sum(private_bytes(pid) for pid in pids) > 0


def test_tree_private_bytes_above_the_limit_count_what_is_shared_once() -> None:
    """Two forks of a process that holds 64 MiB have them in their figures; held they are once."""
    script = f"""
import mmap, os, sys
memory = mmap.mmap(-1, {64 * MIB}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for start in range(0, {64 * MIB}, mmap.PAGESIZE):
    memory[start] = 1
if not (os.fork() and os.fork()):
    sys.stdin.read()
    os._exit(0)
print("there", flush=True)
sys.stdin.read()
os.wait(), os.wait()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        assert tree_private_bytes(child.pid, sys.maxsize) > 3 * 64 * MIB
        assert 64 * MIB < tree_private_bytes(child.pid, MIB) < 2 * 64 * MIB


# ---- descriptors -----------------------------------------------------------------------------------------------------


def test_free_descriptors_are_what_the_limit_leaves() -> None:
    """Each one that is opened is one less; without any left there are none; without a limit there are plenty."""
    before = usage.free_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 0 < before < soft
    with open(os.devnull, encoding="utf-8"), open(os.devnull, encoding="utf-8"):
        assert usage.free_descriptors() == before - 2
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        assert usage.free_descriptors() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_free_descriptors_without_proc_are_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is open is not known then."""

    def list_nothing(path: str) -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "listdir", list_nothing)
    assert usage.free_descriptors() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_process_that_is_dead_is_no_resource_tracker() -> None:
    """It has no command any more."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert usage.is_resource_tracker(pid) is False
    os.waitpid(pid, 0)


def test_process_whose_program_is_being_loaded_may_become_a_resource_tracker() -> None:
    """Who starts it goes on before the kernel has its command: so it is seen mostly at the first try."""
    command = [sys.executable, "-c", "from multiprocessing.resource_tracker import main"]
    told: list[bool | None] = []
    while None not in told and len(told) < 1000:
        pid = spawnv_passfds(os.fsencode(sys.executable), command, ())
        told.append(usage.is_resource_tracker(pid))
        os.waitpid(pid, 0)
    assert set(told) in ({None}, {None, True})
