"""
A small run on machines that lack something: as containers, services and small computers do.

Each time a new interpreter runs the same tasks, in every mode, and they come out as anywhere else.
"""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.logs import WAYS
from support.pools import every_method
from support.seccomp import can_refuse

# What each program begins with; its arguments are a way to run and a folder that can be written to.
HEAD = """
import json, logging, os, resource, signal, sys, time
from processes import Process, ProcessPool, RunTerminated, Task, TaskDependency, WorkerStartError

way, folder = sys.argv[1:3]
CHILDREN = way not in ("sequential", "threads")

def mode(workers=2):
    return ProcessPool(workers, start_method=way) if CHILDREN else None if way == "sequential" else way

def takes(name):
    return [TaskDependency(name, use_result_as_additional_args=True)]

def told(report):
    return {
        name: entry.error.exception_type if entry.error else entry.why or entry.result
        for name, entry in report.entries.items()
    }

def answer(what):
    with open(os.path.join(folder, "answer"), "w") as file:
        json.dump(what, file)
"""

# Values small and large, a failure, log records; and where they run in children: a crash, a hang, captured output.
SMALL_RUN = """
def large():
    logging.getLogger("etl").info("making much")
    return bytes(1_000_000)

def fail():
    raise ValueError("no")

log = os.path.join(folder, "tasks.log")
tasks = [
    *(Task(f"square-{n}", lambda n: n * n, log, args=(n,)) for n in range(3)),
    Task("large", large, log, keep_result=False),
    Task("length", len, log, dependencies=takes("large")),
    Task("fails", fail, log),
    Task("follows", len, log, dependencies=takes("fails")),
]
if CHILDREN:
    tasks += [
        Task("crashes", os._exit, log, args=(3,)),
        Task("hangs", time.sleep, log, args=(600,), timeout=0.1),
        Task("prints", print, log, args=("printed",), capture_output=True),
    ]
with Process(tasks) as process:
    report = process.run(mode())
lines = [line for line in open(log) if "making much" in line or "printed" in line]
answer([told(report), report.warnings, len(lines)])
"""

LOCAL_ANSWER = {
    "square-0": 0,
    "square-1": 1,
    "square-2": 4,
    "large": None,
    "length": 1_000_000,
    "fails": "ValueError",
    "follows": "it depends on 'fails', which failed",
}
CHILDRENS_ANSWER = {
    **LOCAL_ANSWER,
    "crashes": "processes.WorkerCrashedError",
    "hangs": "processes.TaskTimeoutError",
    "prints": None,
}

every_way = pytest.mark.parametrize("way", WAYS)


def ask(program: str, way: str, folder: Path, *, around: Sequence[str] = (), env: dict[str, str] | None = None) -> Any:  # noqa: ANN401  what the program answers
    """
    What a program answers that says nothing to stdout and stderr.

    Args:
        program: Follows on HEAD.
        way: To run.
        folder: That it may write to.
        around: A command, which starts the one that follows it.
        env: Its environment beside PYTHONPATH; None for this one's.
    """
    script = folder / "program.py"
    script.write_text(HEAD + program)
    child = subprocess.run(
        [*around, sys.executable, str(script), way, str(folder)],
        env={**(os.environ if env is None else env), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if child.returncode == NOT_ALLOWED:
        pytest.skip(f"not allowed here: {child.stderr}")
    assert (child.stdout, child.stderr, child.returncode) == ("", "", 0)
    return json.loads((folder / "answer").read_text())


def check_small_run(way: str, folder: Path, *, around: Sequence[str] = (), env: dict[str, str] | None = None) -> None:
    """The tasks come out as anywhere else."""
    expected = LOCAL_ANSWER if way in WAYS[:2] else CHILDRENS_ANSWER
    lines = 1 if way in WAYS[:2] else 2
    assert ask(SMALL_RUN, way, folder, around=around, env=env) == [expected, [], lines]


def in_shell(script: str, *arguments: str) -> list[str]:
    """A script that ends in the program, with arguments of its own from $1."""
    return ["sh", "-ec", f'{script}\nshift {len(arguments)}\nexec "$@"', "sh", *arguments]


# ---- processors and descriptors --------------------------------------------------------------------------------------


ONE_CPU = """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
tasks = [Task(f"t{n}", os.sched_getaffinity, args=(0,)) for n in range(3)]
report = Process(tasks).run("processes" if CHILDREN else mode())
answer([report.run.max_workers, sorted({len(entry.result) for entry in report.successes.values()})])
"""


@pytest.mark.parametrize("way", ["threads", "forkserver"])
def test_one_cpu_is_one_worker(way: str, tmp_path: Path) -> None:
    """By affinity, however many the machine has; tasks may use no other either."""
    assert ask(ONE_CPU, way, tmp_path) == [1, [1]]


@every_way
def test_small_run_on_one_cpu(way: str, tmp_path: Path) -> None:
    """Two workers share it."""
    cpu = min(os.sched_getaffinity(0))
    check_small_run(way, tmp_path, around=["taskset", "-c", str(cpu)])


QUOTA = """
report = Process([Task("a", int)]).run("processes" if CHILDREN else mode())
answer([report.run.max_workers, report.entries["a"].result])
"""

# Half a processor, of version 2 of cgroups or of version 1, for this shell and all that it starts.
IN_GROUP = """
if test -e /sys/fs/cgroup/cgroup.controllers; then
    mkdir "/sys/fs/cgroup/$1" && echo "50000 100000" > "/sys/fs/cgroup/$1/cpu.max" || exit 77
    echo $$ > "/sys/fs/cgroup/$1/cgroup.procs" || exit 77
else
    mkdir "/sys/fs/cgroup/cpu/$1" && echo 50000 > "/sys/fs/cgroup/cpu/$1/cpu.cfs_quota_us" || exit 77
    echo $$ > "/sys/fs/cgroup/cpu/$1/cgroup.procs" || exit 77
fi
"""


@pytest.fixture
def group() -> Iterator[str]:
    """Name of a cgroup that is removed in the end."""
    name = f"processes-tests-{os.getpid()}"
    yield name
    for folder in (Path("/sys/fs/cgroup", name), Path("/sys/fs/cgroup/cpu", name)):
        if folder.exists():
            folder.rmdir()


@pytest.mark.parametrize("way", ["threads", "forkserver"])
def test_half_a_cpu_is_one_worker(way: str, group: str, tmp_path: Path) -> None:
    """By the quota of its cgroup, however many processors it may run on."""
    assert ask(QUOTA, way, tmp_path, around=in_shell(IN_GROUP, group)) == [1, 0]


FEW_DESCRIPTORS = ["prlimit", "--nofile=64:64"]


@every_way
def test_small_run_with_64_descriptors(way: str, tmp_path: Path) -> None:
    """Two workers need less."""
    check_small_run(way, tmp_path, around=FEW_DESCRIPTORS)


MANY_WORKERS = """
tasks = [Task(f"t{n}", time.sleep, args=(0.01,), kwargs={}) for n in range(60)]
report = Process(tasks).run(mode(60))
answer([len(report.successes), report.warnings])
"""


@every_method
def test_workers_are_as_many_as_64_descriptors_allow(method: str, tmp_path: Path) -> None:
    """Of 60 that were asked for; the report says so, and all tasks succeed."""
    successes, warnings = ask(MANY_WORKERS, method, tmp_path, around=FEW_DESCRIPTORS)
    assert successes == 60
    assert len(warnings) == 1
    assert "workers at a time: the program may have 64 descriptors open" in warnings[0]


# Both workers run, and the run has been told of them; then no descriptor can be had any more, and one of them dies. The
# other has no work before the run knows of that death: it could have done all of it by then, and no other worker would
# be asked for.
WORKER_LOST = """
import contextlib, threading
from support.gate import Gate, pass_gate
from processes import TaskFinished

limits = resource.getrlimit(resource.RLIMIT_NOFILE)
is_known = threading.Event()

def look(event):
    if isinstance(event, TaskFinished):
        is_known.set()

def pidfds():
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # It was closed meanwhile.
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return links.count("anon_inode:[pidfd]")

def lose_worker(gate):
    lost, other = gate.child_arrives(), gate.child_arrives()
    while pidfds() < 5:  # the gate's two, the keeper's, the workers' two
        time.sleep(0.001)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    os.kill(lost.pid, signal.SIGKILL)
    assert is_known.wait(60)
    other.let_go()

with Gate() as gate:
    thread = threading.Thread(target=lose_worker, args=(gate,))
    thread.start()
    tasks = [Task(f"held-{n}", pass_gate, args=(gate.address,)) for n in range(2)]
    for n in range(2):
        tasks += [Task(f"{n}-{m}", abs, args=(m,), dependencies=[TaskDependency(f"held-{n}")]) for m in range(20)]
    report = Process(tasks).run(mode(), on_event=look)
    thread.join()
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
answer([len(report.successes), len(report.errored), len(report.skipped), report.warnings])
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_worker_that_cannot_be_replaced_leaves_its_work_to_the_others(method: str, tmp_path: Path) -> None:
    """Where no descriptor is left for another one, the run goes on with those that live."""
    assert ask(WORKER_LOST, method, tmp_path) == [
        21,
        1,
        20,
        ["not more than 1 workers at a time: [Errno 24] Too many open files"],
    ]


MANY_LOGS = """
def say(n):
    logging.getLogger("etl").info("said %s", n)

tasks = [Task(f"t{n}", say, os.path.join(folder, f"{n}.log"), args=(n,)) for n in range(100)]
others = []  # The program opens files of its own meanwhile.
def open_others(event):
    if len(others) < 25: others.append(os.open("/dev/null", os.O_RDONLY))
with Process(tasks) as process:
    report = process.run(mode(), on_event=open_others)
lines = sum(line.count(f"said {n}") for n in range(100) for line in open(os.path.join(folder, f"{n}.log")))
answer([len(report.successes), report.warnings, lines])
"""


@pytest.mark.parametrize(
    "way", [way for way in WAYS if way != "fork"]
)  # on_event has a thread, beside which none forks
def test_logfiles_of_all_tasks_are_written_with_64_descriptors(way: str, tmp_path: Path) -> None:
    """They take turns to be open."""
    assert ask(MANY_LOGS, way, tmp_path, around=FEW_DESCRIPTORS) == [100, [], 100]


LARGE_ARGUMENTS = """
tasks = [Task(f"t{n}", len, args=(bytes(200_000 + n),)) for n in range(100)]
report = Process(tasks).run(mode())
answer([entry.error.exception if entry.error else entry.result for entry in report.entries.values()])
"""


@every_way
def test_large_arguments_with_64_descriptors_arrive_or_are_told_of(way: str, tmp_path: Path) -> None:
    """Not all of them are kept ready at a time; where too many are on their way the error says what was missing."""
    told = ask(LARGE_ARGUMENTS, way, tmp_path, around=FEW_DESCRIPTORS)
    arrived = [size for size in told if isinstance(size, int)]
    assert len(arrived) > 30
    for number, found in enumerate(told):
        assert found == 200_000 + number or "Too many open files" in found


# ---- files and folders -----------------------------------------------------------------------------------------------

#: Exit code of a script that may not change what it has to.
NOT_ALLOWED = 77

#: Starts a program in name spaces of its own, in which it is root.
UNSHARED = ["unshare", "--user", "--map-root-user"]

NAME_SPACES = UNSHARED + ["--mount"]  # noqa: RUF005  beside the line above

# Every file system of files and folders; what is mounted on one that is read-only may be writable.
READ_ONLY = """
mount --bind "$1" "$1" || exit 77
while read -r _ _ _ _ point _; do
    case "$point" in
        "$1"|/proc|/proc/*|/sys|/sys/*|/dev) ;;
        *) mount -o remount,bind,ro,nosuid,nodev "$point" || { test "$point" != / || exit 77; } ;;
    esac
done < /proc/self/mountinfo 2> /dev/null
for folder in "$1/.." "${TMPDIR:-/tmp}" /dev/shm; do
    if touch "$folder/file" 2> /dev/null; then echo "$folder is writable" >&2; exit 77; fi
done
"""


def unshared(script: str, *arguments: str) -> list[str]:
    """A script that is root and has mounts of its own."""
    allowed = subprocess.run([*NAME_SPACES, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"user namespaces are not allowed here: {allowed.stderr.strip()}")
    return [*NAME_SPACES, *in_shell(script, *arguments)]


@every_way
def test_small_run_where_only_the_log_folder_can_be_written(way: str, tmp_path: Path) -> None:
    """No other file system can be, the temporary folder and /dev/shm included."""
    folder = tmp_path / "logs"
    folder.mkdir()
    check_small_run(way, folder, around=unshared(READ_ONLY, str(folder)))


# A folder of devices in which there is no shm.
NO_SHARED_MEMORY = """
mount -t tmpfs none "$1" || exit 77
for device in null zero full random urandom; do
    touch "$1/$device"
    mount --bind "/dev/$device" "$1/$device" || exit 77
done
mount --rbind "$1" /dev
if test -e /dev/shm; then exit 77; fi
"""


@every_way
def test_small_run_without_shared_memory(way: str, tmp_path: Path) -> None:
    """/dev/shm is not there."""
    (tmp_path / "dev").mkdir()
    check_small_run(way, tmp_path, around=unshared(NO_SHARED_MEMORY, str(tmp_path / "dev")))


@every_way
def test_small_run_with_a_long_temporary_folder(way: str, tmp_path: Path) -> None:
    """A socket in it would be refused: unix(7) has room for 107 characters."""
    folder = tmp_path / "-".ljust(180, "x")
    folder.mkdir()
    check_small_run(way, tmp_path, env={**os.environ, "TMPDIR": str(folder)})
    assert list(folder.iterdir()) == []


CWD_REMOVED = 'cd "$1"; rmdir "$1"'


def in_removed_folder(folder: Path) -> list[str]:
    """For a program whose working directory was removed before it began."""
    for name in ("probed", "gone"):
        (folder / name).mkdir()
    probed = subprocess.run(
        [*in_shell(CWD_REMOVED, str(folder / "probed")), sys.executable, "-c", "import socket"],
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if probed.returncode:  # Seen with 3.13.0: "SystemError: error return without exception set".
        pytest.skip(f"this Python itself cannot work there: {probed.stderr.splitlines()[-1]}")
    return in_shell(CWD_REMOVED, str(folder / "gone"))


@every_way
def test_small_run_in_a_removed_folder(way: str, tmp_path: Path) -> None:
    """There is no working directory."""
    check_small_run(way, tmp_path, around=in_removed_folder(tmp_path))


RELATIVE_LOG = """
try:
    Task("a", int, "a.log")
except FileNotFoundError as error:
    answer(str(error))
"""


def test_relative_logfile_in_a_removed_folder_is_refused(tmp_path: Path) -> None:
    """The error says why there is no place for it."""
    said = ask(RELATIVE_LOG, "sequential", tmp_path, around=in_removed_folder(tmp_path))
    assert "the working directory was removed, so a relative logfile has no place" in said
    assert said.endswith(": 'a.log'")


@every_way
def test_small_run_without_a_home(way: str, tmp_path: Path) -> None:
    """Nor any other variable."""
    check_small_run(way, tmp_path, env={})


@every_way
def test_small_run_without_standard_streams(way: str, tmp_path: Path) -> None:
    """Descriptors 0 to 2 are closed, as a daemon's may be."""
    check_small_run(way, tmp_path, around=in_shell("exec <&- >&- 2>&-"))


# ---- processes and system calls --------------------------------------------------------------------------------------

#: A new interpreter is PID 1.
AS_PID_1 = [*UNSHARED, "--pid", "--fork", "--mount-proc"]


def as_pid_1() -> list[str]:
    """For a program that is PID 1 of a name space of its own."""
    allowed = subprocess.run([*AS_PID_1, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"user namespaces are not allowed here: {allowed.stderr.strip()}")
    return AS_PID_1


@every_way
def test_small_run_as_pid_1(way: str, tmp_path: Path) -> None:
    """As a container's only program."""
    check_small_run(way, tmp_path, around=as_pid_1())


# Daemons that live and that have ended, a crash, a time-out; then a keeper that is killed, whose orphans are PID 1's.
ORPHANS = """
def leave_daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)

def kill_keeper():
    leave_daemon()
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)

tasks = [
    Task("daemon", leave_daemon),
    Task("crashes", os._exit, args=(3,)),
    Task("hangs", time.sleep, args=(600,), timeout=0.1),
]
kinds = told(Process(tasks).run(mode(1)))
try:
    Process([Task("kills", kill_keeper)]).run(mode(1))
except WorkerStartError as error:
    kinds["kills"] = str(error).splitlines()[0]
answer([os.getpid(), kinds, [int(name) for name in os.listdir("/proc") if name.isdigit()]])
"""


@every_method
def test_pid_1_is_left_no_zombies(method: str, tmp_path: Path) -> None:
    """Whatever its tasks start and however they end, there is nobody else that could reap them."""
    pid, kinds, left = ask(ORPHANS, method, tmp_path, around=as_pid_1())
    assert kinds == {
        "daemon": None,
        "crashes": "processes.WorkerCrashedError",
        "hangs": "processes.TaskTimeoutError",
        "kills": "the process that starts the workers died twice",
    }
    assert (pid, left) == (1, [1])


STOPPED = """
def stop():
    os.kill(1, signal.SIGTERM)
    time.sleep(600)

try:
    Process([Task("stops", stop), Task("after", int, dependencies=[TaskDependency("stops")])]).run(mode(1))
except RunTerminated as stopped:
    answer([stopped.code, told(stopped.report)])
"""


@every_method
def test_pid_1_hears_that_its_container_is_stopped(method: str, tmp_path: Path) -> None:
    """To a PID 1 without a handler of its own the kernel sends no SIGTERM."""
    told = {"stops": "processes.RunTerminated", "after": "the run was interrupted"}
    assert ask(STOPPED, method, tmp_path, around=as_pid_1()) == [143, told]


HIDE_PROC = "mount -t tmpfs none /proc || exit 77"


@every_way
def test_small_run_without_proc(way: str, tmp_path: Path) -> None:
    """A chroot may have none."""
    check_small_run(way, tmp_path, around=unshared(HIDE_PROC))


REFUSE = "import sys; from support.seccomp import refuse; refuse(sys.argv[1].split(), int(sys.argv[2])); "
REFUSE += "import os; os.execv(sys.executable, sys.argv[3:])"

PIDFD_CALLS = "pidfd_open pidfd_send_signal"


def refusing(calls: str, error: int) -> list[str]:
    """For a program that is refused system calls."""
    if not can_refuse():
        pytest.skip("the numbers of this machine's system calls are not known")
    return [sys.executable, "-c", REFUSE, calls, str(error)]


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
@pytest.mark.parametrize("calls", ["memfd_create", "pidfd_open", f"memfd_create {PIDFD_CALLS}"])
@every_way
def test_small_run_without_system_calls(way: str, calls: str, error: int, tmp_path: Path) -> None:
    """A seccomp profile refuses them, in either of the ways that there are: others do, and leave nothing behind."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    check_small_run(way, tmp_path, around=refusing(calls, error), env={**os.environ, "TMPDIR": str(folder)})
    assert list(folder.iterdir()) == []


@every_method
def test_keeper_that_dies_is_noticed_without_pidfds(method: str, tmp_path: Path) -> None:
    """The run ends as with them."""
    _, kinds, _ = ask(ORPHANS, method, tmp_path, around=refusing(PIDFD_CALLS, errno.ENOSYS))
    assert kinds["kills"] == "the process that starts the workers died twice"


NO_PLACE = """
try:
    Process([Task("a", int)]).run(mode())
except OSError as error:
    answer(str(error))
"""


def test_no_place_for_files_in_memory_is_told(tmp_path: Path) -> None:
    """Neither memfds nor a folder that can be written to: the error says what to do."""
    folder = tmp_path / "logs"
    folder.mkdir()
    around = [*unshared(READ_ONLY, str(folder)), *refusing("memfd_create", errno.EPERM)]
    said = ask(NO_PLACE, "forkserver", folder, around=around)
    assert "memfd_create is refused" in said
    assert said.endswith("set TMPDIR")
