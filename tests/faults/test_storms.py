"""
Storms: workers are killed while many tasks run; and chaos: many tasks, every third faulty, in random graphs.

Seeded and small; `--thorough` has storms of 2,000 tasks and 50 seeds of chaos.
"""

import contextlib
import logging
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import psutil
import pytest

from processes import (
    Process,
    ProcessExecutionReport,
    Task,
    TaskDependency,
    TaskStatus,
    WorkerCrashedError,
)
from processes.backends.pool import PoolBackend
from processes.events import AttemptsSucceeded, BackendEvent, RecordsLogged
from processes.usage import children
from support import faults
from support.batches import DEADLINE_S, Fails, died, outcome_of
from support.faults import MIB
from support.logs import told
from support.pools import START_METHODS, every_method, pool

# ---- storms ----------------------------------------------------------------------------------------------------------

_SIZE = 100_000


def block_of(number: int) -> bytes:
    """100 kB that no other number has."""
    return number.to_bytes(8) * (_SIZE // 8)


def make_block(number: int, *inputs: bytes) -> bytes:
    """Log a long line, see that the inputs are whole, return the block."""
    for data in inputs:
        assert data == block_of(int.from_bytes(data[:8]))
    logging.getLogger("storm").info("task %d %s.", number, "x" * 200)
    return block_of(number)


@contextlib.contextmanager
def kills_after_every(count: int, random: Random) -> Iterator[list[int]]:
    """
    A random worker is killed after every so many successes and log records, before they are heeded.

    What kills lead to does not count: they would lead to more of them. Gives the pids of those that were killed.
    """
    killed: list[int] = []
    left = count
    wait = PoolBackend.wait

    def wait_and_kill(self: PoolBackend, until: float | None) -> list[BackendEvent]:
        nonlocal left
        events = wait(self, until)
        left -= sum(map(progress_of, events))
        if left <= 0:
            left += count  # What came in lots is made up for.
            workers = sorted(worker for keeper in children(os.getpid()) for worker in children(keeper))
            if workers:
                killed.append(random.choice(workers))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(killed[-1], signal.SIGKILL)
        return events

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PoolBackend, "wait", wait_and_kill)
        yield killed


def progress_of(event: BackendEvent) -> int:
    """How many successes or log records it tells of."""
    match event:
        case AttemptsSucceeded():
            return len(event.attempt_ids)
        case RecordsLogged():
            return len(event.records)
        case _:
            return 0


@pytest.mark.parametrize("edges", [0, 3], ids=["independent", "graph"])
@every_method
def test_storm_costs_no_result_and_no_line(
    method: str, edges: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Workers are killed all the time; tasks that are tried again all succeed, with their own results."""
    count = 2000 if request.config.getoption("--thorough") else 300
    random = Random(f"{method} {edges}")
    path = tmp_path / "log"
    tasks = []
    for number in range(count):
        sources = random.sample(range(number), min(number, random.randint(0, edges)))
        wants = [TaskDependency(f"t{source}", use_result_as_additional_args=True) for source in sources]
        options: dict[str, Any] = {"retries": 1000, "retry_on": (WorkerCrashedError,)}
        tasks.append(Task(f"t{number}", make_block, str(path), args=(number,), dependencies=wants, **options))
    before = memory()
    with Process(tasks) as process, kills_after_every(count // 30, random) as killed:
        report = process.run(pool(method, 3), deadline=DEADLINE_S)
    growth = memory() - before
    assert [entry for entry in report.entries.values() if entry.error is not None] == []
    assert [n for n in range(count) if report.entries[f"t{n}"].result != block_of(n)] == []
    assert len(killed) > 20
    check_lines(path, count)
    check_attempts(report)
    assert growth < count * _SIZE + 100 * MIB


def check_lines(path: Path, count: int) -> None:
    """All are whole, and each task has one at least: those of attempts that were killed are there too."""
    text = re.compile(r"Starting t\d+\.|task (\d+) x{200}\.|Finished t\d+\.|Attempt \d+/1001 failed: .* Retrying\.\.\.")
    lines = [message for _, message in told(path)]
    matches = [text.fullmatch(line) for line in lines]
    assert [line for line, match in zip(lines, matches, strict=True) if match is None] == []
    assert {int(match[1]) for match in matches if match and match[1]} == set(range(count))


def check_attempts(report: ProcessExecutionReport) -> None:
    """Only the last attempt of each task succeeded, and whatever ended the others was a kill."""
    for entry in report.entries.values():
        *others, last = [record.outcome.rpartition(".")[2] for record in entry.attempt_log]
        assert (set(others) | {"WorkerCrashedError"}, last) == ({"WorkerCrashedError"}, "success")
        assert entry.attempts == len(entry.attempt_log)


def memory() -> int:
    """What this process holds, in bytes."""
    held: int = psutil.Process().memory_info().rss
    return held


# ---- chaos -----------------------------------------------------------------------------------------------------------


def work(number: int, *inputs: int) -> int:
    """Log a line, return a sum."""
    logging.getLogger("chaos").info("task %d", number)
    return number + sum(inputs)


def succeed_at_last(folder: str, deed: Callable[[], object], times: int, number: int) -> int:
    """Do the deed in so many attempts; then return the number."""
    os.makedirs(folder, exist_ok=True)
    made = len(os.listdir(folder))
    Path(folder, str(made)).touch()
    if made < times:
        deed()
    return number


class Made(NamedTuple):
    """A task to be, and what must become of it."""

    func: Callable[..., object]
    args: tuple[object, ...]
    options: dict[str, Any]
    outcome: object
    attempts: int = 1


_TIMED_OUT = Fails("TaskTimeoutError", "timed out after 0.2s")

#: Ways to be faulty.
WAYS = [
    Made(faults.raise_value_error, (), {}, Fails("ValueError", "the deed")),
    Made(faults.raise_interrupt, (), {"retries": 2}, Fails("KeyboardInterrupt", "the deed")),
    Made(faults.segfault, (), {}, died("SIGSEGV")),
    Made(faults.exit_with_0, (), {"retries": 2}, died("exited with code 0")),
    Made(faults.sum_for_ever, (), {"timeout": 0.2, "retries": 1}, _TIMED_OUT, attempts=2),
    Made(faults.fill_and_wait, (80 * MIB,), {"memory_limit": "30MiB"}, Fails("MemoryLimitError")),
    Made(faults.return_dumping, (faults.raise_value_error,), {}, Fails("UnpicklableError", "the deed")),
]

#: The eighth: what a task does in its first attempts, and how it fails if these are all.
DEEDS: list[tuple[Callable[[], object], type[BaseException], Fails]] = [
    (faults.raise_value_error, ValueError, Fails("ValueError", "the deed")),
    (faults.be_killed, WorkerCrashedError, died("SIGKILL")),
    (faults.exit_with_7, WorkerCrashedError, died("exited with code 7")),
]


def tried_again(random: Random, number: int, folder: Path) -> Made:
    """Fails in its first attempts, of which it may have enough or not."""
    deed, kind, failure = random.choice(DEEDS)
    times, retries = random.randint(1, 3), random.randint(1, 3)
    options: dict[str, Any] = {"retries": retries, "retry_on": (kind,), "retry_delay": 0.01, "timeout": 60}
    args = (str(folder / str(number)), deed, times, number)
    is_enough = times <= retries
    return Made(succeed_at_last, args, options, number if is_enough else failure, 1 + min(times, retries))


def chaos(seed: int, folder: Path) -> tuple[list[Task], dict[str, tuple[object, int]]]:
    """200 tasks in a random graph, every third faulty; and {name: (outcome, attempts)} as they must be."""
    random = Random(seed)
    tasks: list[Task] = []
    outcomes: list[object] = []
    expected = {}
    for number in range(200):
        sources = random.sample(range(number), min(number, random.choice((0, 0, 1, 2))))
        if number % 3 == 2:
            way = random.randrange(len(WAYS) + 1)
            made = WAYS[way] if way < len(WAYS) else tried_again(random, number, folder)
        else:
            inputs = [came for source in sources if isinstance(came := outcomes[source], int)]
            made = Made(work, (number,), {"log_path": str(folder / "log")}, number + sum(inputs))
        takes = made.func is work
        wants = [TaskDependency(f"t{source}", use_result_as_additional_args=takes) for source in sources]
        tasks.append(Task(f"t{number}", made.func, args=made.args, dependencies=wants, **made.options))
        is_skipped = not all(isinstance(outcomes[source], int) for source in sources)
        outcomes.append(None if is_skipped else made.outcome)
        expected[f"t{number}"] = (None, 0) if is_skipped else (made.outcome, made.attempts)
    return tasks, expected


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """As many seeds as are asked for."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(50 if metafunc.config.getoption("--thorough") else 3))


def test_chaos_has_exact_outcomes(seed: int, tmp_path: Path) -> None:
    """Results, failures, skips, attempts and log lines are all as they must be."""
    tasks, expected = chaos(seed, tmp_path)
    with Process(tasks) as process:
        report = process.run(pool(START_METHODS[seed % 3], 2 + seed % 4), deadline=DEADLINE_S)
    found = {}
    for name, (wanted, _) in expected.items():
        entry = report.entries[name]
        outcome = None if entry.status is TaskStatus.SKIPPED else outcome_of(entry, wanted)
        found[name] = outcome, entry.attempts
    assert {name: (found[name], expected[name]) for name in found if found[name] != expected[name]} == {}
    ran = [f"task {number}" for number in range(200) if number % 3 != 2 and expected[f"t{number}"][1]]
    lines = [message for _, message in told(tmp_path / "log")]
    assert sorted(line for line in lines if line.startswith("task")) == sorted(ran)
    assert len(lines) == 3 * len(ran)
    assert report.warnings == ()
