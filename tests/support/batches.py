"""
Runs rows of a table of faults: each row's task among innocent ones, which must not notice.

    Row("segfault", faults.segfault, died("SIGSEGV"))

A row is right when its task ends as it says, what depends on it is skipped or runs, every innocent task has its result
and its whole log, the report can be told, and the same Process and a new one run afterwards.
"""

import math
import shutil
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processes import (
    MemoryLimitError,
    Process,
    ProcessExecutionReport,
    Task,
    TaskDependency,
    TaskReportEntry,
    TaskStatus,
    TaskTimeoutError,
    WorkerCrashedError,
)
from support import pools
from support.faults import Zeros, be_loaded, innocent
from support.logs import told
from support.side_by_side import OLDEST_PYTHON

#: Stands in a row's arguments for the path of a folder of its own, where its processes leave their ids.
FOLDER = "<folder>"

#: A fail-safe that no passing test meets, in seconds.
DEADLINE_S = 60.0

#: Innocent tasks before, between and after those of the rows.
_INNOCENTS = 3


@dataclass(frozen=True)
class Fails:
    """How a task is to fail."""

    #: Its error's type, without the module.
    kind: str
    #: Part of the error's text.
    text: str = ""


@dataclass(frozen=True)
class Row:
    """A fault, where it strikes, and what is to become of it."""

    #: Unique, and a task's name.
    name: str
    func: Callable[..., object]
    #: How it fails, or what it returns.
    expected: object
    args: tuple[object, ...] = ()
    #: Further parameters of the task.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: (function, arguments, result) of tasks that run beside it.
    beside: Sequence[tuple[Callable[..., object], tuple[object, ...], object]] = ()
    #: (function, arguments) of a task whose result it takes.
    source: tuple[Callable[..., object], tuple[object, ...]] | None = None
    #: How many processes note their ids in the row's folder; all must be gone afterwards.
    noting: int = 0
    #: Part of the one warning of the report that it causes.
    warns: str = ""


def died(how: str) -> Fails:
    """Of a signal, or with an exit code."""
    return Fails("WorkerCrashedError", how)


def is_chosen(name: str) -> bool:
    """Whether a row is run on this Python: all on the oldest one, a tenth of them, by their names, on the others."""
    return sys.version_info[:2] == OLDEST_PYTHON or zlib.crc32(name.encode()) % 10 == 0


class Batch:
    """The tasks of some rows among innocent ones."""

    def __init__(self, rows: Sequence[Row], folder: Path) -> None:
        self._rows = rows
        self._folder = folder
        self._log = folder / "innocent.log"
        self._count = 0  # of innocent tasks
        tasks = self._innocents()
        for row in rows:
            tasks += [*self._tasks_of(row), *self._innocents()]
        self._process = Process(tasks)

    def _innocents(self) -> list[Task]:
        numbers = range(self._count, self._count + _INNOCENTS)
        self._count += _INNOCENTS
        return [Task(f"innocent{number}", innocent, str(self._log), args=(number,)) for number in numbers]

    def _tasks_of(self, row: Row) -> list[Task]:
        path = str(self._folder / row.name)
        args = tuple(path if arg == FOLDER else arg for arg in row.args)
        tasks = []
        wants = []
        if row.source is not None:
            func, source_args = row.source
            # Kept, it would be loaded here when it is looked at.
            tasks.append(Task(f"source-{row.name}", func, args=source_args, keep_result=False))
            wants = [TaskDependency(f"source-{row.name}", use_result_as_additional_args=True)]
        tasks.append(Task(row.name, row.func, args=args, dependencies=wants, **row.options))
        for place, (func, beside_args, _) in enumerate(row.beside):
            own_args = tuple(path if arg == FOLDER else arg for arg in beside_args)
            tasks.append(Task(f"beside{place}-{row.name}", func, args=own_args))
        tasks.append(Task(f"after-{row.name}", innocent, args=(4,), dependencies=[TaskDependency(row.name)]))
        return tasks

    def run(self, pool: Callable[[], Any], **options: Any) -> ProcessExecutionReport:  # noqa: ANN401  run's own
        """Run all of it and see that everything is right."""
        self._log.write_text("")
        for row in self._rows:
            shutil.rmtree(self._folder / row.name, ignore_errors=True)
            (self._folder / row.name).mkdir()
        with self._process as process:
            report = process.run(pool(), deadline=DEADLINE_S, **options)
        self.check(report)
        return report

    def check(self, report: ProcessExecutionReport) -> None:
        """All that is wrong at once."""
        expected = self._expected()
        found = {name: outcome_of(report.entries[name], wanted) for name, wanted in expected.items()}
        wrong = {name: was for name, was in found.items() if was != expected[name]}
        assert not wrong, wrong  # pytest explains assertions in tests only
        assert len(report.entries) == len(expected) + sum(row.source is not None for row in self._rows)
        for entry in report.entries.values():
            _check_facts(entry)
        self._check_warnings(report.warnings)
        self._check_noted()
        self._check_log()
        str(report)
        if not any(isinstance(row.expected, Zeros) for row in self._rows):  # They would take long, and much memory.
            report.to_json()

    def _expected(self) -> dict[str, object]:
        expected: dict[str, object] = {f"innocent{number}": math.sqrt(number) for number in range(self._count)}
        for row in self._rows:
            expected[row.name] = row.expected
            has_failed = isinstance(row.expected, Fails)
            expected[f"after-{row.name}"] = f"it depends on '{row.name}', which failed" if has_failed else 2.0
            for place, (_, _, result) in enumerate(row.beside):
                expected[f"beside{place}-{row.name}"] = result
        return expected

    def _check_warnings(self, warnings: Sequence[str]) -> None:
        wanted = [row.warns for row in self._rows if row.warns]
        assert len(warnings) == len(wanted), warnings
        assert all(any(text in warning for warning in warnings) for text in wanted), warnings

    def _check_noted(self) -> None:
        noted = {row.name: list(pools.pids_in(self._folder / row.name).values()) for row in self._rows if row.noting}
        assert {name: len(pids) for name, pids in noted.items()} == {
            row.name: row.noting for row in self._rows if row.noting
        }
        assert {name: pools.living(pids) for name, pids in noted.items()} == {name: [] for name in noted}

    def _check_log(self) -> None:
        """Three whole lines of each innocent task, in their order, and no other line."""
        lines = [message for _, message in told(self._log)]
        assert len(lines) == len(self._log.read_text().splitlines()) == 3 * self._count
        for number in range(self._count):
            own = [f"Starting innocent{number}.", f"task {number}", f"Finished innocent{number}."]
            assert [line for line in lines if line in own] == own


def outcome_of(entry: TaskReportEntry, expected: object) -> object:
    """What a task came to, in the words of what is expected: equal to it where it is right."""
    if entry.status is TaskStatus.SKIPPED:
        return entry.why
    if entry.error is None:
        return entry.result
    kind, text = entry.error.exception_type.rpartition(".")[2], entry.error.exception
    if isinstance(expected, Fails) and kind == expected.kind and expected.text in text:
        return expected
    return Fails(kind, text)


def _check_facts(entry: TaskReportEntry) -> None:
    """What an entry says beside how its task ended, whatever that was."""
    assert 0 <= entry.elapsed_seconds < DEADLINE_S
    assert entry.attempts == (entry.status is not TaskStatus.SKIPPED)
    error = entry.exception
    if isinstance(error, WorkerCrashedError):
        assert (error.task_name, error.pid, error.attempt) == (entry.name, entry.worker_pid, 1)
    elif isinstance(error, TaskTimeoutError):
        assert (error.task_name, error.is_deadline) == (entry.name, False)
        assert error.timeout <= entry.elapsed_seconds
    elif isinstance(error, MemoryLimitError):
        assert error.task_name == entry.name
        assert error.limit < error.used < 4 * error.limit


def hold(rows: Sequence[Row], method: str, folder: Path, **options: Any) -> None:  # noqa: ANN401  run's own
    """Run the rows together, the same Process again, and a new one."""
    # Those beside a row wait for it; and time-outs are not all to be waited for one after another.
    workers = 2 + sum(len(row.beside) for row in rows) + len(rows) // 5
    batch = Batch(rows, folder)
    for _ in range(2):
        batch.run(lambda: pools.pool(method, workers, initializer=be_loaded), **options)
    after = folder / "afterwards"
    after.mkdir()
    Batch([], after).run(lambda: pools.pool(method))
