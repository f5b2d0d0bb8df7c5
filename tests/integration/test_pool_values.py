"""Large values: right, writable, never in the parent's memory, and freed."""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from processes import Process, ProcessExecutionReport, ProcessPool, Task, TaskDependency, usage
from processes.backends import prepared
from support.findable import Counted
from support.pools import every_method, failures, pool, results, run

Floats = npt.NDArray[np.float64]


def takes(*names: str) -> list[TaskDependency]:
    return [TaskDependency(name, use_result_as_additional_args=True) for name in names]


def open_values() -> int:
    """Descriptors of this process that hold a large value."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += "processes-value" in os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # that of the folder itself
            continue
    return count


def make_bytes(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


def digest(data: bytes) -> tuple[int, bool]:
    return len(data), data == bytes(range(256)) * (len(data) // 256)


@pytest.mark.parametrize("size", [120 * 1024, 128 * 1024, 129 * 1024, 192 * 1024, 256 * 1024, 20 * 2**20])
@every_method
def test_bytes_of_any_size_arrive(method: str, size: int) -> None:
    """Below, at and above what one datagram takes: from child to child, as an argument, and back."""
    tasks = [
        Task("make", make_bytes, args=(size,)),
        Task("use", digest, dependencies=takes("make")),
        Task("argument", digest, args=(make_bytes(size),)),
    ]
    report = run(tasks, pool(method))
    assert results(report) == {"make": make_bytes(size), "use": (size, True), "argument": (size, True)}


def make_array(length: int) -> Floats:
    return np.arange(length, dtype=np.float64)


def overwrite(array: Floats, number: float) -> float:
    """Writes into its input, which must be that of the producer."""
    assert float(array.sum()) == len(array) * (len(array) - 1) / 2
    array[:] = number
    return float(array.sum())


def overwrite_with(number: float, array: Floats) -> float:
    return overwrite(array, number)


@every_method
def test_array_is_writable_and_nobody_elses(method: str) -> None:
    """Consumers, in one worker or in two, write into what they get; the producer's and each other's stay."""
    length = 500_000
    consumers = [Task(f"use{n}", overwrite_with, args=(float(n),), dependencies=takes("make")) for n in range(6)]
    report = run([Task("make", make_array, args=(length,)), *consumers], pool(method))
    assert failures(report) == {}
    assert [report.entries[f"use{n}"].result for n in range(6)] == [float(n * length) for n in range(6)]
    array = report.entries["make"].result
    assert np.array_equal(array, make_array(length))
    array[0] = 5.0


def pass_on(array: Floats) -> Floats:
    array += 1
    return array


@every_method
def test_array_passed_on_after_a_change_is_a_new_value(method: str) -> None:
    """A task may change its input in place and return it."""
    names = ["make", "one", "two", "three"]
    tasks = [Task("make", make_array, args=(100_000,))]
    tasks += [Task(name, pass_on, dependencies=takes(before)) for before, name in pairwise(names)]
    report = run(tasks, pool(method))
    assert [report.entries[name].result[0] for name in names] == [0.0, 1.0, 2.0, 3.0]


def make_mixture(length: int) -> dict[str, Any]:
    return {"small": [1, "two"], "array": make_array(length), "view": make_array(length)[::2], "text": "x" * length}


@every_method
def test_value_of_many_parts_arrives_whole(method: str) -> None:
    """Arrays, views that are not contiguous, text and small parts in one result."""
    tasks = [Task("make", make_mixture, args=(300_000,)), Task("pass", dict, dependencies=takes("make"))]
    report = run(tasks, pool(method))
    expected = make_mixture(300_000)
    for name in ("make", "pass"):
        result = report.entries[name].result
        assert result.keys() == expected.keys()
        assert (result["small"], result["text"]) == (expected["small"], expected["text"])
        assert np.array_equal(result["array"], expected["array"])
        assert np.array_equal(result["view"], expected["view"])


def add_up(*arrays: Floats) -> tuple[int, float]:
    return len(arrays), float(sum(array[0] for array in arrays))


def make_filled(number: int) -> Floats:
    return np.full(20_000, float(number))


@every_method
def test_fan_in_of_300_large_values(method: str) -> None:
    """More descriptors than one datagram takes; the values arrive in their order."""
    names = [f"make{number}" for number in range(300)]
    tasks = [Task(name, make_filled, args=(number,), keep_result=False) for number, name in enumerate(names)]
    tasks += [Task(f"use{number}", add_up, dependencies=takes(*names)) for number in range(5)]
    report = run(tasks, pool(method))
    assert failures(report) == {}
    assert {report.entries[f"use{number}"].result for number in range(5)} == {(300, float(sum(range(300))))}


def first_of_each(*arrays: Floats) -> list[float]:
    return [float(array[0]) for array in arrays]


def test_fan_ins_that_fill_the_channel_are_not_mixed_up() -> None:
    """Many attempts with 300 descriptors each, behind one another in the channels, get each its own, once."""
    names = [f"make{number}" for number in range(300)]
    tasks = [Task(name, make_filled, args=(number,), keep_result=False) for number, name in enumerate(names)]
    for number in range(40):
        rotated = names[number:] + names[:number]
        tasks.append(Task(f"use{number}", first_of_each, dependencies=takes(*rotated)))
    report = run(tasks, ProcessPool(2))
    assert failures(report) == {}
    for number in range(40):
        expected = [float(n) for n in (*range(number, 300), *range(number))]
        assert report.entries[f"use{number}"].result == expected


def instant(number: int) -> int:
    return number


def total_length(padding: bytes, value: bytes) -> int:
    return len(padding) + len(value)


def be_long(padding: bytes, value: bytes) -> None:
    time.sleep(5)


@every_method
def test_full_channel_does_not_hold_up_the_parent(method: str) -> None:
    """Attempts that carry a descriptor and fill the channel queue in the parent, which keeps its time-outs."""
    # Instant ones first, so that many go into one channel; two of those that carry 100 kB fill it.
    tasks = [Task("make", make_bytes, args=(200_192,))]
    tasks += [Task(f"instant{number}", instant, args=(number,)) for number in range(400)]
    tasks += [Task("long", be_long, args=(b"p" * 100_000,), dependencies=takes("make"), timeout=0.5)]
    tasks += [
        Task(f"use{number}", total_length, args=(bytes([number]) * 100_000,), dependencies=takes("make"))
        for number in range(20)
    ]
    report = run(tasks, pool(method, 1))
    assert failures(report) == {"long": "TaskTimeoutError"}
    assert {report.entries[f"use{number}"].result for number in range(20)} == {300_192}


@every_method
def test_fan_in_into_a_full_channel_gets_its_own_values(method: str) -> None:
    """An attempt of many descriptors that was refused half-way is sent again from its start, and read once."""
    names = [f"make{number}" for number in range(260)]
    tasks = [Task(name, make_filled, args=(number,), keep_result=False) for number, name in enumerate(names)]
    after = [TaskDependency(names[-1])]
    tasks += [Task(f"instant{number}", instant, args=(number,), dependencies=after) for number in range(400)]
    for number in range(20):
        wanted = [TaskDependency("instant399"), *takes(*names[number:], *names[:number])]
        tasks.append(Task(f"use{number}", second_of_each, args=(b"p" * 100_000,), dependencies=wanted))
    report = run(tasks, pool(method, 1))
    assert failures(report) == {}
    for number in range(20):
        expected = [float(n) for n in (*range(number, 260), *range(number))]
        assert report.entries[f"use{number}"].result == expected


def second_of_each(padding: bytes, *arrays: Floats) -> list[float]:
    return first_of_each(*arrays)


def test_result_outlives_its_run_and_frees_its_descriptor() -> None:
    """It can be read long after the run, and its descriptor goes when it is collected, read or not."""
    before = open_values()
    report: ProcessExecutionReport | None = run(
        [Task("read", make_array, args=(200_000,)), Task("unread", make_array, args=(200_000,))], ProcessPool(1)
    )
    assert report is not None
    gc.collect()
    assert open_values() == before + 2
    array = report.entries["read"].result
    report = None
    gc.collect()
    assert np.array_equal(array, make_array(200_000))
    assert open_values() <= before + 1  # mmap keeps a descriptor of its own until Python 3.13
    del array
    gc.collect()
    assert open_values() == before


def test_result_that_is_not_kept_is_freed_during_the_run() -> None:
    """After its last consumer nothing holds it."""
    before = open_values()
    tasks = [
        Task("make", make_array, args=(200_000,), keep_result=False),
        Task("use", len, dependencies=takes("make")),
    ]
    report = run(tasks, ProcessPool(1))
    assert (open_values(), report.entries["make"].result, report.entries["use"].result) == (before, None, 200_000)


@every_method
def test_large_arguments_are_freed_after_the_run(method: str) -> None:
    """Also those that were kept for a task that was never made, and those of a retried one."""
    before = open_values()
    array = make_array(200_000)
    tasks = [Task(f"t{number}", len, args=(array,)) for number in range(10)]
    tasks += [Task("fails", os.fspath, args=(array,)), Task("skipped", len, args=(array,), dependencies=takes("fails"))]
    report = run(tasks, pool(method))
    assert failures(report) == {"fails": "TypeError"}
    gc.collect()
    assert open_values() == before


def make_large_error() -> None:
    raise ValueError("x" * 10**6)


@every_method
def test_large_failure_arrives(method: str) -> None:
    """An exception with a text of a megabyte does not fit one datagram either."""
    report = run([Task("t", make_large_error), Task("u", len, args=("abc",))], pool(method))
    assert failures(report) == {"t": "ValueError"}
    assert report.entries["u"].result == 3


PARENT_OF_LARGE_VALUES = """
import json, resource, sys
import numpy
from processes import Process, ProcessPool, Task, TaskDependency

def make(): return numpy.ones(40_000_000)  # 320 MB
def change(array): array += 1; return array
def add_up(array): return float(array.sum())

def takes(name): return [TaskDependency(name, True)]
tasks = [Task("a", make, keep_result=False), Task("b", change, dependencies=takes("a"), keep_result=False)]
tasks += [Task("c", change, dependencies=takes("b")), Task("d", add_up, dependencies=takes("c"))]
Process([Task("warm", numpy.ones, args=(3,))]).run(ProcessPool(2, start_method=sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = Process(tasks).run(ProcessPool(2, start_method=sys.argv[1]))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([report.entries["d"].result, (after - before) * 1024]))
"""


@every_method
def test_parent_does_not_hold_what_passes_between_children(method: str) -> None:
    """320 MB go through three children; the parent's own memory grows by none of it."""
    output = subprocess.run(
        [sys.executable, "-c", PARENT_OF_LARGE_VALUES, method],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
    ).stdout
    result, growth = json.loads(output)
    assert result == 3 * 40_000_000
    assert growth < 30 * 2**20


FEW_DESCRIPTORS = """
import resource
from processes import Process, ProcessPool, Task

def make(number): return bytes([number % 256]) * 200_000

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
report = Process([Task(f"t{n}", make, args=(n,)) for n in range(100)]).run(ProcessPool(2))
for n in range(100):
    entry = report.entries[f"t{n}"]
    if entry.error is None:
        assert entry.result == make(n), f"t{n} succeeded with a wrong result"
    else:
        assert "descriptor" in entry.error.exception or "open files" in entry.error.exception, entry.error.exception
print("consistent")
"""


def test_results_without_descriptors_left_are_no_successes() -> None:
    """Where the parent cannot take a large result, its task fails and says why; it never succeeds with nothing."""
    child = subprocess.run(
        [sys.executable, "-c", FEW_DESCRIPTORS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert child.stdout == b"consistent\n", child.stderr.decode()


def test_process_runs_again_with_large_arguments() -> None:
    """A second run sends them anew."""
    process = Process([Task("t", len, args=(make_array(200_000),))])
    assert [process.run(ProcessPool(1)).entries["t"].result for _ in range(2)] == [200_000, 200_000]


def length_and_number(counted: Counted, number: int, *, again: Counted | None = None) -> tuple[int, int]:
    return len(counted.data), number


@every_method
def test_large_argument_of_many_tasks_is_pickled_once(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By position or by name, beside arguments of each task's own; also for a task that is made again."""
    monkeypatch.setattr(Counted, "pickled", 0)
    large = Counted(make_bytes(2**20))
    tasks = [Task(f"t{number}", length_and_number, args=(large, number)) for number in range(10)]
    tasks += [
        Task(f"named{number}", length_and_number, args=(Counted(b"small"), number), kwargs={"again": large})
        for number in range(5)
    ]
    tasks.append(Task("again", fail_first, args=(large, str(tmp_path)), retries=1, retry_on=(ZeroDivisionError,)))
    report = run(tasks, pool(method))
    expected: dict[str, object] = {f"t{number}": (2**20, number) for number in range(10)}
    expected |= {f"named{number}": (5, number) for number in range(5)}
    assert results(report) == {**expected, "again": 2**20}
    assert report.entries["again"].attempts == 2
    assert Counted.pickled == 1 + 5  # and the small ones


def fail_first(counted: Counted, folder: str) -> int:
    """The first time in this folder, which is the test's."""
    with open(os.path.join(folder, "attempts"), "a+b") as file:
        file.write(b".")
        file.seek(0)
        if len(file.read()) == 1:
            raise ZeroDivisionError
    return len(counted.data)


def is_one(array: Floats, pair: tuple[Floats, str], *, named: Floats) -> bool:
    return pair[0] is array and named is array


def test_argument_that_stands_in_several_places_is_one_object_for_the_task() -> None:
    """As when it is called here: what is written to the one is seen in the other."""
    array = make_array(200_000)
    tasks = [Task(f"t{number}", is_one, args=(array, (array, "x")), kwargs={"named": array}) for number in range(3)]
    assert results(run(tasks, ProcessPool(2))) == {"t0": True, "t1": True, "t2": True}


@every_method
def test_argument_of_many_tasks_is_writable_and_each_ones_own(method: str) -> None:
    """What one task writes no other sees, nor the caller."""
    array = make_array(200_000)
    tasks = [Task(f"t{number}", overwrite, args=(array, float(number))) for number in range(6)]
    assert results(run(tasks, pool(method))) == {f"t{number}": 200_000.0 * number for number in range(6)}
    assert np.array_equal(array, make_array(200_000))


def test_argument_of_many_tasks_goes_with_what_is_sent_by_value() -> None:
    """A function of this very test, which no child can import, as another argument."""

    def twice(number: float) -> float:
        return number * 2

    array = make_array(200_000)
    tasks = [Task(f"t{number}", call_with_last, args=(twice, array)) for number in range(3)]
    assert results(run(tasks, ProcessPool(2))) == {f"t{number}": 2 * 199_999.0 for number in range(3)}


def call_with_last(function: Callable[[float], float], array: Floats) -> float:
    return function(float(array[-1]))


@pytest.mark.parametrize("kept", [0, 2**21])
def test_arguments_of_many_tasks_for_which_there_is_no_room_are_pickled_for_each(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither with nor without a part of them kept does a task get another's."""
    monkeypatch.setattr(usage, "available_memory", lambda: kept * prepared._SHARED_PART)
    monkeypatch.setattr(prepared, "_KEPT_BYTES_MAX", 2**20)
    arrays = [make_array(200_000 + number) for number in range(4)]
    tasks = [Task(f"t{number}", ends_of, args=(arrays[number % 4], number)) for number in range(12)]
    expected = {f"t{number}": (0.0, 199_999.0 + number % 4, number) for number in range(12)}
    assert results(run(tasks, ProcessPool(2))) == expected


def ends_of(array: Floats, number: int) -> tuple[float, float, int]:
    return float(array[0]), float(array[-1]), number
