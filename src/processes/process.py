"""Process: tasks that depend on each other, checked, ordered, run, and reported on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Self

from processes import graph
from processes.backends.options import ProcessPool, with_workers
from processes.exceptions import (
    CircularDependencyError,
    DependencyNotFoundError,
    TaskCheckError,
    TaskNotFoundError,
)
from processes.graph import key_of
from processes.interrupts import Interrupts
from processes.launch import Launcher
from processes.spec import require, require_callable, require_int
from processes.task import Task, TaskDependency
from processes.usage import usable_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from processes.attempt import Call
    from processes.backends.base import Backend
    from processes.observer import Observer, RunEvent
    from processes.record import TaskRecord
    from processes.report import ProcessExecutionReport, TaskResult
    from processes.run_info import RunInfo
    from processes.runner import Outcome, Plan

_MODES = "None or False (sequential), True or 'processes', 'threads', or a ProcessPool"


class Process:
    """A graph of tasks that runs as a whole."""

    __module__ = "processes"

    def __init__(self, tasks: list[Task], name: str = "", *, redact: bool | Iterable[str] = True) -> None:
        """
        Check and order the tasks.

        Args:
            tasks: In any order; the list itself is left alone.
            name: For the report.
            redact: What looks like a secret (by its name, such as `password`, `db_token` or `api_key`; a password in a
                URL, a bearer token, a private key) is shown as "[redacted]" in logs, in failures and in whatever is
                made of the report. Parts of further names, such as ("iban", "ssn"), extend the rule; False switches it
                off.

        Raises:
            TypeError: No list, or something in it that is no Task; `redact` is neither a bool nor names.
            ValueError: Two tasks of one name.
            DependencyNotFoundError: A dependency is not among the tasks; it names all such gaps.
            CircularDependencyError: Tasks wait for each other; it shows the circle.
        """
        self.name = name
        self._redact = _checked_redact(redact)
        self._tasks: dict[str, Task] = {}  # {key: task}, as given and added
        self._wants: dict[str, tuple[str, ...]] = {}  # {key: keys it waits for}
        self._order: list[str] | None = None  # keys in topological order; None after a change
        require("tasks", tasks, list)
        try:
            for task in tasks:
                require("task", task, Task)
                self._insert(task)
            self._check_graph()
        except (TypeError, ValueError, DependencyNotFoundError, CircularDependencyError):
            for task in tasks:
                if isinstance(task, Task):
                    task.close_handlers()
            raise
        self.runner: ProcessRunner = ProcessRunner(self)

    # ---- looking -----------------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> list[Task]:
        """The tasks, each after those it waits for."""
        return [self._tasks[key] for key in self._ordered()]

    def get_task(self, task_name: str) -> Task:
        """
        The task of that name, in any case.

        Raises:
            TaskNotFoundError: There is none.
        """
        task = self._tasks.get(key_of(task_name))
        if task is None:
            raise TaskNotFoundError(task_name)
        return task

    def get_dependant_tasks(self, task_name: str) -> list[Task]:
        """All tasks that depend on it, directly or not, breadth first; none for an unknown name."""
        key = key_of(task_name)
        if key not in self._tasks:
            return []
        dependants = graph.dependants_of(self._wants)
        return [self._tasks[found] for found in graph.reachable([key], dependants)]

    # ---- changing ----------------------------------------------------------------------------------------------------

    def add_task(self, task: Task) -> None:
        """
        Add a task whose dependencies are there already.

        Raises:
            TypeError: It is no Task.
            ValueError: Its name is taken.
            DependencyNotFoundError: A dependency is not in the process.
            CircularDependencyError: It waits for itself.

        The process is as before then.
        """
        require("task", task, Task)
        key = self._insert(task)
        gaps = [wanted.task_name for wanted in task.dependencies if key_of(wanted.task_name) not in self._tasks]
        if gaps or key in self._wants[key]:
            del self._tasks[key], self._wants[key]
            if gaps:
                raise DependencyNotFoundError(task.name, gaps[0], missing=[(task.name, gap) for gap in gaps])
            msg = f"Circular dependency detected. Task '{task.name}' waits for itself."
            raise CircularDependencyError(msg)
        self._changed()

    def remove_task(self, task_name: str) -> None:
        """
        Remove a task that no other waits for, and close its log.

        Raises:
            TaskNotFoundError: There is none of that name.
            ValueError: Others depend on it; it names them.
        """
        task = self.get_task(task_name)
        dependants = sorted(dependant.name for dependant in self.get_dependant_tasks(task_name))
        if dependants:
            msg = (
                f"Cannot remove task '{task.name}': still required by {', '.join(dependants)}. "
                "Remove the dependent task(s) first."
            )
            raise ValueError(msg)
        key = key_of(task_name)
        del self._tasks[key], self._wants[key]
        task.close_handlers()
        self._changed()

    def add_task_dependency(self, task_name: str, dependency: TaskDependency) -> None:
        """
        Make a task wait for another.

        Raises:
            TypeError: It is no TaskDependency.
            TaskNotFoundError: The task is not in the process.
            ValueError: It waits for that one already.
            DependencyNotFoundError: The other is not in the process.
            CircularDependencyError: The other waits for this one.
        """
        _check_type("dependency", dependency, TaskDependency, "of type TaskDependency")
        task = self.get_task(task_name)
        key, wanted = key_of(task_name), key_of(dependency.task_name)
        if wanted in self._wants[key]:
            msg = f"Task '{task.name}' already depends on '{dependency.task_name}'."
            raise ValueError(msg)
        if wanted not in self._tasks:
            raise DependencyNotFoundError(task.name, dependency.task_name)
        before = self._wants[key]
        self._wants[key] = (*before, wanted)
        try:
            if wanted == key or key in graph.reachable([wanted], self._wants):
                graph.topological_order(self._wants, self._name)
        except CircularDependencyError:
            self._wants[key] = before
            raise
        task.dependencies.append(dependency)
        self._changed()

    # ---- running -----------------------------------------------------------------------------------------------------

    def run(
        self,
        parallel: bool | str | ProcessPool | None = None,
        max_workers: int | None = None,
        *,
        deadline: float | None = None,
        fail_fast: bool = False,
        on_event: Callable[[RunEvent], object] | None = None,
    ) -> ProcessExecutionReport:
        """
        Run all tasks; every call runs them anew.

        Of tasks that are ready those start first on which the longest chain of others waits, and otherwise in the order
        of `tasks`; where one runs at a time, always in that order.

        Args:
            parallel: None or False runs one task after another in this thread; True or "processes" in child processes;
                "threads" in threads; a ProcessPool in child processes with its options.
            max_workers: Tasks at a time, at least 1; None for the CPUs that this process may use.
            deadline: Seconds from now after which nothing runs any more: what runs fails with TaskTimeoutError, the
                rest is skipped. In sequential and thread mode what runs cannot be stopped.
            fail_fast: After the first failure start nothing more; what runs may end.
            on_event: Called with each RunStarted, TaskStarted, TaskRetried, TaskFinished and RunFinished, in order, on
                a thread of its own. What it raises is said once, by the logger `processes` and in the report's
                warnings, and stops nothing; `run` returns when it was called with all of them.

        Returns:
            What happened to each task.

        Raises:
            TypeError: A number is none, or `on_event` cannot be called.
            DependencyNotFoundError: As of the constructor, where the tasks' own lists of dependencies have changed.
            CircularDependencyError: The same.
            ValueError: No such mode. A TaskCheckError: a task asks for what the mode cannot do, or the folder of its
                logfile is gone; `check` tells of all of them.
            ExceptionGroup: Of an UnpicklableError for each value that cannot reach a child; nothing was started.
            WorkerStartError: Children cannot be started; its `report` says what had happened until then.
            KeyboardInterrupt: Ctrl-C in the main thread, where the program has no handler of its own. Nothing new was
                started, what ran was stopped, and its `report` says what had happened until then. A second Ctrl-C waits
                for neither logs nor `on_event`.
            RunTerminated: The same for SIGTERM and SIGHUP; a SystemExit, which ends the program with 128 + the number.
        """
        _check_deadline(deadline)
        if on_event is not None:
            require_callable("on_event", on_event)
        backend = self._backend(parallel, _checked_workers(max_workers), for_run=True)
        with contextlib.closing(backend):
            observer = None if on_event is None else _observer_of(on_event)
            plan = self._plan(backend)
            self.runner = ProcessRunner(self)
            with Interrupts() as interrupts:
                try:
                    report, broken = self._observed_run(
                        plan, backend, observer, interrupts, deadline, fail_fast=fail_fast
                    )
                finally:
                    if observer is not None:
                        interrupts.patiently(observer.stop)
        broken = interrupts.error() or broken  # Now that the handlers are back, so that none is lost.
        if broken is not None:
            broken.report = report  # type: ignore[attr-defined]  # ours has it, and a KeyboardInterrupt takes it
            raise broken
        return report

    def _observed_run(
        self,
        plan: Plan,
        backend: Backend,
        observer: Observer | None,
        interrupts: Interrupts,
        deadline: float | None,
        *,
        fail_fast: bool,
    ) -> tuple[ProcessExecutionReport, BaseException | None]:
        """The report, and why the run broke off, if it did."""
        from processes import runner
        from processes.failure import text_of
        from processes.run_info import info_of

        started_at, begun = datetime.now(UTC), monotonic()
        if observer is not None:
            observer.tell_run_started(self.name, len(plan.specs), started_at)
        outcome = runner.run(
            plan, backend, deadline=deadline, fail_fast=fail_fast, observer=observer, interrupts=interrupts
        )
        seconds = monotonic() - begun
        self.runner.take_in(outcome.records)
        if observer is not None:
            interrupts.patiently(observer.stop)  # What it could not be told belongs in the report.
            outcome.warnings += observer.troubles
        broken = "" if outcome.broken is None else f"{type(outcome.broken).__name__}: {text_of(outcome.broken)}"
        run = info_of(started_at, seconds, *backend.way, broken, self._redact)
        report = self._report(outcome, run)
        if observer is not None and not interrupts.is_hurried:  # It may still be at an earlier event.
            observer.tell_run_finished(report)
            observer.start()
        return report, outcome.broken

    def check(self, parallel: bool | str | ProcessPool | None = "processes", max_workers: int | None = None) -> None:
        """
        Find out what would go wrong, all of it, before anything runs.

        Arguments and functions that cannot be sent to children, with the part of them that is to blame; functions that
        cannot take what they would get, results of dependencies included, or are generator functions; retry delays,
        folders of logfiles, and limits that the mode cannot keep a task to. Nothing is started.

        Args:
            parallel: As for `run`.
            max_workers: As for `run`.

        Raises:
            TypeError: `max_workers` is no number.
            ValueError: No such mode.
            ExceptionGroup: Of an UnpicklableError or a TaskCheckError for each problem; each names its task.
        """
        backend = self._backend(parallel, _checked_workers(max_workers))
        self._take_in_changes()
        calls = self._calls()
        problems: list[Exception] = [*self._refusals(calls, backend), *self._function_problems(calls)]
        problems += self._delay_problems()
        with contextlib.closing(backend):
            problems += backend.check(calls)
        if problems:
            msg = f"the process has {len(problems)} problem{'s' if len(problems) > 1 else ''}"
            raise ExceptionGroup(msg, problems)

    def _calls(self) -> list[Call]:
        positions = {key: place for place, key in enumerate(self._ordered())}
        return [self._tasks[key].call(positions) for key in self._ordered()]

    def _function_problems(self, calls: Sequence[Call]) -> Iterator[TaskCheckError]:
        from processes import preflight

        for call in calls:
            problem = preflight.check_function(call, [calls[source].name for source in call.sources])
            if problem is not None:
                yield problem

    def _delay_problems(self) -> Iterator[TaskCheckError]:
        from processes.failure import text_of

        for task in self.tasks:
            try:
                task.spec({})
            except Exception as error:  # noqa: BLE001  a function of the user's
                text = f"{type(error).__name__}: {text_of(error)}"
                yield TaskCheckError(f"Task '{task.name}': {text}", task_name=task.name, what="retry_delay")

    def _backend(self, parallel: object, max_workers: int | None, *, for_run: bool = False) -> Backend:
        if parallel is None or parallel is False:
            from processes.backends.sequential import SequentialBackend

            return SequentialBackend()
        if parallel is True or parallel == "processes":
            return _pool_backend(ProcessPool(max_workers), for_run=for_run)
        if parallel == "threads":
            from processes.backends.threads import ThreadsBackend

            return ThreadsBackend(max_workers or usable_cpus())
        if isinstance(parallel, ProcessPool):
            return _pool_backend(with_workers(parallel, max_workers), for_run=for_run)
        msg = f"parallel must be {_MODES}, got {parallel!r}"
        raise ValueError(msg)

    def _refusals(self, calls: Sequence[Call], backend: Backend) -> Iterator[TaskCheckError]:
        """What stands in the way of the tasks, beside what they send to children."""
        from processes import preflight

        fine: set[str | None] = {None}  # paths of logfiles; many tasks may share one
        for key, call in zip(self._ordered(), calls, strict=True):
            problem = preflight.check_limits(call, backend.enforces, backend.memory_budget)
            if problem is not None:
                yield problem
            path = self._tasks[key].log_path
            if path not in fine and path is not None:
                problem = preflight.check_log(call.name, path)
                if problem is not None:
                    yield problem
                else:
                    fine.add(path)

    def _plan(self, backend: Backend) -> Plan:
        """
        What is to be run.

        Raises:
            TaskCheckError: The backend cannot do what a task asks for, or a folder is gone; see `_refusals`.
            DependencyNotFoundError: See `_take_in_changes`.
            CircularDependencyError: The same.
        """
        from processes.logs import application_listens
        from processes.runner import Plan

        self._take_in_changes()
        keys = self._ordered()
        positions = {key: place for place, key in enumerate(keys)}
        tasks = [self._tasks[key] for key in keys]
        dependants: dict[str, list[str]] = {}

        def impact(place: int) -> list[str]:
            if not dependants:
                dependants.update(graph.dependants_of(self._wants))
            return [self._tasks[key].name for key in graph.reachable([keys[place]], dependants)]

        listens = application_listens()
        calls = [task.call(positions, self._redact) for task in tasks]
        for problem in self._refusals(calls, backend):
            raise problem
        return Plan(
            [task.spec(positions, call.sources) for task, call in zip(tasks, calls, strict=True)],
            calls,
            [task.listening_logger(listens) for task in tasks],
            impact,
            self._redact,
        )

    def _report(self, outcome: Outcome, run: RunInfo) -> ProcessExecutionReport:
        from processes.report import ProcessExecutionReport, entry_of

        entries = {record.call.name: entry_of(record) for record in outcome.records}
        return ProcessExecutionReport(entries, self.name, tuple(outcome.warnings), run)

    # ---- log files ---------------------------------------------------------------------------------------------------

    def close_loggers(self) -> None:
        """Close and detach the log handlers of all tasks; safe to repeat, and a later run opens them anew."""
        for task in self._tasks.values():
            task.close_handlers()

    def __enter__(self) -> Self:
        """Close the logs at the end of the `with` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the logs."""
        self.close_loggers()

    # ---- the graph ---------------------------------------------------------------------------------------------------

    def _insert(self, task: Task) -> str:
        key = key_of(task.name)
        if key in self._tasks:
            msg = f"Duplicate task name: {task.name}"
            raise ValueError(msg)
        self._tasks[key] = task
        self._wants[key] = _wants_of(task)
        return key

    def _check_graph(self) -> None:
        graph.check_dependencies(self._wants, self._name)
        self._order = graph.topological_order(self._wants, self._name)

    def _take_in_changes(self) -> None:
        """Check and order anew what somebody changed in the tasks' own lists: a circle would never come to its end."""
        pairs = zip(self._tasks.values(), self._wants.values(), strict=True)
        if any((task.dependencies or wanted) and _wants_of(task) != wanted for task, wanted in pairs):
            wants = {key: _wants_of(task) for key, task in self._tasks.items()}
            graph.check_dependencies(wants, self._name)
            self._order = graph.topological_order(wants, self._name)
            self._wants = wants

    def _name(self, key: str) -> str:
        """A name as it was written, of a task or of a dependency that is missing."""
        if key in self._tasks:
            return self._tasks[key].name
        wanted = (dependency.task_name for task in self._tasks.values() for dependency in task.dependencies)
        return next((name for name in wanted if key_of(name) == key), key)

    def _ordered(self) -> list[str]:
        if self._order is None:
            self._order = graph.topological_order(self._wants, self._name)
        return self._order

    def _changed(self) -> None:
        self._order = None
        self.runner = ProcessRunner(self)


class ProcessRunner:
    """What a Process ran last: `process.runner`."""

    def __init__(self, process_ref: Process) -> None:
        """Everything is pending."""
        self.process = process_ref
        self._results: dict[str, TaskResult] | None = None
        self._ended: list[TaskRecord] | None = None

    @property
    def results(self) -> dict[str, TaskResult]:
        """{task name: how it ended}; PENDING before a run."""
        from processes.report import LazyTaskResult, TaskResult

        if self._results is None:
            if self._ended is None:
                self._results = {task.name: TaskResult.pending() for task in self.process.tasks}
            else:
                self._results = {record.call.name: LazyTaskResult(record) for record in self._ended}
        return self._results

    @property
    def submitted_tasks(self) -> set[str]:
        """Names of the tasks of which an attempt was made."""
        return {name for name, result in self.results.items() if result.attempts}

    def run(
        self, parallel: bool | str | ProcessPool | None = None, max_workers: int | None = None
    ) -> ProcessExecutionReport:
        """Run the process; its `runner` holds the results then."""
        report = self.process.run(parallel, max_workers)
        self._results, self._ended = None, self.process.runner._ended
        self.process.runner = self
        return report

    def take_in(self, records: list[TaskRecord]) -> None:
        """Keep what became of the tasks; what is asked of it is made when it is read."""
        self._results, self._ended = None, records


def _wants_of(task: Task) -> tuple[str, ...]:
    """Keys of the tasks that it waits for."""
    return tuple([key_of(dependency.task_name) for dependency in task.dependencies]) if task.dependencies else ()


def _observer_of(on_event: Callable[[RunEvent], object]) -> Observer:
    from processes.observer import Observer

    return Observer(on_event)


def _check_type(name: str, value: object, kind: type, wording: str) -> None:
    if not isinstance(value, kind):
        msg = f"{name} must be {wording}. Got {type(value)}"
        raise TypeError(msg)


def _checked_workers(max_workers: int | None) -> int | None:
    require_int("max_workers", max_workers)
    return None if max_workers is None else max(1, max_workers)


def _checked_redact(redact: object) -> bool | tuple[str, ...]:
    if isinstance(redact, bool):
        return redact
    names = (redact,) if isinstance(redact, str) else tuple(redact) if isinstance(redact, Iterable) else (redact,)
    if not all(isinstance(name, str) and name for name in names):
        msg = f"redact must be a bool, or names whose values are secrets, got {redact!r}"
        raise TypeError(msg)
    return tuple(sorted(set(names)))


def _check_deadline(deadline: object) -> None:
    if deadline is None:
        return
    if isinstance(deadline, bool) or not isinstance(deadline, int | float):
        msg = f"deadline must be a number of seconds or None, got {deadline!r}"
        raise TypeError(msg)
    if not 0 < deadline < float("inf"):
        msg = f"deadline must be a positive, finite number of seconds, got {deadline!r}"
        raise ValueError(msg)


def _pool_backend(pool: ProcessPool, *, for_run: bool) -> Backend:
    """For a run its keeper is started first: all else is loaded while that starts."""
    launcher = Launcher(pool.start_method, pool.max_workers)
    with contextlib.ExitStack() as undo:
        undo.callback(launcher.close)
        if for_run:
            launcher.begin()
        from processes.backends.pool import PoolBackend

        backend = PoolBackend(pool, launcher)
        undo.pop_all()
    return backend
