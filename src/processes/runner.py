"""
The only loop: wait on the backend, ask the scheduler, carry out its commands.

It owns the clock, the results' handles and what the report will say; the scheduler owns the graph, the backend the
attempts. Runs in the parent.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

from processes import logs
from processes.attempt import bind
from processes.error_data import ErrorData, chain_data
from processes.events import (
    AttemptFailed,
    AttemptReturned,
    AttemptsSucceeded,
    AttemptStarted,
    BackendEvent,
    CancelAttempt,
    Command,
    FailTask,
    FinishTasks,
    RecallAttempts,
    RecordsLogged,
    ReleaseValue,
    RetryTask,
    RunBroken,
    RunInterrupted,
    SkipReason,
    SkipTask,
    SlotsChanged,
    StartAttempt,
    TaskStatus,
    TimePassed,
    TroubleSeen,
)
from processes.exceptions import RemoteTaskError, RunTerminated, TaskTimeoutError
from processes.failure import Rendered, of_error
from processes.interrupts import Interrupts
from processes.record import RunFacts, TaskRecord
from processes.redaction import redaction_of
from processes.report import entry_of
from processes.scheduler import Scheduler
from processes.spec import name_of
from processes.usage import Measure, measure_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from processes.attempt import Call
    from processes.backends.base import Backend
    from processes.failure import Failure
    from processes.observer import Observer
    from processes.spec import Injection, TaskSpec


#: So many of the last lines of a task that is killed or crashes are kept for its report.
LAST_LINES = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about the tasks of one run, by position."""

    specs: Sequence[TaskSpec]
    calls: Sequence[Call]
    #: Where each task logs, or None where nobody listens: no file, no handler.
    loggers: Sequence[logging.Logger | None]
    #: Names of all tasks that depend on a task, breadth first.
    impact: Callable[[int], list[str]]
    #: What is not to be shown: see `redaction.redaction_of`.
    redact: bool | tuple[str, ...] = True


@dataclass(slots=True)
class Outcome:
    """What became of a run."""

    records: list[TaskRecord]
    warnings: list[str] = field(default_factory=list)
    #: Why it ended before its time, or None.
    broken: BaseException | None = None
    #: Add to CLOCK_MONOTONIC for seconds since the epoch.
    clock_offset: float = 0.0


def run(
    plan: Plan,
    backend: Backend,
    *,
    deadline: float | None = None,
    fail_fast: bool = False,
    observer: Observer | None = None,
    interrupts: Interrupts | None = None,
) -> Outcome:
    """
    Run the tasks of a plan to their end.

    Args:
        plan: The tasks.
        backend: Where attempts are made; it is opened and closed here.
        deadline: Seconds from now after which nothing runs any more.
        fail_fast: Start nothing more once a task has failed.
        observer: Told of every task; it is started here, and left running.
        interrupts: In force already, where the caller has more to do that they may end.

    Ctrl-C, SIGTERM and SIGHUP end it: everything that runs is stopped, the rest skipped, and the outcome is broken by
    a KeyboardInterrupt or a RunTerminated.

    Raises:
        ExceptionGroup: Values that cannot reach the backend; nothing was started.
    """
    if interrupts is not None:
        return _Run(plan, backend, deadline, observer, interrupts, fail_fast=fail_fast).run()
    with Interrupts() as own:
        outcome = _Run(plan, backend, deadline, observer, own, fail_fast=fail_fast).run()
    outcome.broken = own.error() or outcome.broken  # One that came after the last task had ended is not lost.
    return outcome


class _Run:
    """One run's state."""

    def __init__(
        self,
        plan: Plan,
        backend: Backend,
        deadline: float | None,
        observer: Observer | None,
        interrupts: Interrupts,
        *,
        fail_fast: bool,
    ) -> None:
        self._plan = plan
        self._observer = observer
        self._begun: set[int] = set()  # ids of attempts whose start the observer has been told
        self._backend = backend
        self._deadline = deadline
        self._fail_fast = fail_fast
        offset = logs.wall_clock_offset()
        facts = RunFacts(offset, backend.fetch)
        self._records = [TaskRecord(call, facts) for call in plan.calls]
        self._outcome = Outcome(self._records, clock_offset=offset)
        self._placed: dict[int, StartAttempt] = {}  # {attempt id: its command}, until it has ended
        self._last_records: dict[int, deque[bytes]] = {}  # {attempt id: what it logged last}
        self._redaction = redaction_of(plan.redact)
        self._listener = logs.Listener(self._redaction)
        self._destinations = [
            None if logger is None else self._destination(logger, call.name)
            for logger, call in zip(plan.loggers, plan.calls, strict=True)
        ]
        self._unready: list[BackendEvent] = []  # of tasks that have no arguments: the backend is not asked
        self._slots = 0
        self._interrupts = interrupts
        self._is_interrupted = False  # the scheduler knows of it
        self._is_lost = False  # the backend cannot go on, or nobody waits for what it has to tell

    def _destination(self, logger: logging.Logger, name: str) -> logs.Destination:
        listener, offset = self._listener, self._outcome.clock_offset
        return logs.Destination(logger, name, listener.put, offset, self._redaction, listener.troubles)

    def run(self) -> Outcome:
        self._backend.wakeup = self._interrupts.wakeup
        self._interrupts.on_signal = self._backend.interrupt
        try:
            # Before any thread of ours: a backend may fork.
            self._open()
            self._listener.start()
            if self._observer is not None:
                self._observer.start()
            self._backend.quiet = self._quiet
            self._loop()
        finally:
            self._backend.close()
            self._interrupts.patiently(self._listener.stop)
        self._outcome.warnings += self._listener.troubles.texts
        return self._outcome

    def _open(self) -> None:
        try:
            self._backend.open(self._plan.calls, self._destinations)
        except (KeyboardInterrupt, RunTerminated):
            if self._interrupts.first is None:
                raise

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        with self._listener.paused(), contextlib.nullcontext() if self._observer is None else self._observer.paused():
            yield

    def _loop(self) -> None:
        now = monotonic()
        self._slots = self._backend.slots
        deadline = None if self._deadline is None else now + self._deadline
        scheduler = Scheduler(
            self._plan.specs,
            slots=self._slots,
            deadline=deadline,
            fail_fast=self._fail_fast,
            longest_first=not self._backend.keeps_order,
        )
        self._heed_interrupt(scheduler, now)
        if not self._is_interrupted:
            self._carry_out(scheduler.start(now))
        while not scheduler.is_done:
            events, self._unready = self._unready, []
            if not events:
                events = self._backend.wait(scheduler.wake_at)
            now = monotonic()
            slots = self._backend.slots
            if slots != self._slots:  # First: an attempt that came back must not be placed where there is no room now.
                self._slots = slots
                self._carry_out(scheduler.handle(SlotsChanged(slots), now))
            self._heed_interrupt(scheduler, now)  # Before: what ends makes room for others.
            if events:
                self._take_in_all(events, scheduler, now)
            else:
                self._carry_out(scheduler.handle(TimePassed(), now))
            tails = self._backend.tails
            if tails:
                self._carry_out(scheduler.place_followers(tails))
            if self._interrupts.is_hurried and not self._is_lost:  # What is still alive is killed by `close`.
                self._is_lost = True
                self._carry_out(scheduler.handle(RunBroken(KeyboardInterrupt()), now))

    def _heed_interrupt(self, scheduler: Scheduler, now: float) -> None:
        if self._interrupts.first is not None and not self._is_interrupted:
            self._is_interrupted = True
            self._outcome.broken = self._outcome.broken or self._interrupts.error()
            self._carry_out(scheduler.handle(RunInterrupted(), now))

    # ---- events ------------------------------------------------------------------------------------------------------

    def _take_in_all(self, events: Sequence[BackendEvent], scheduler: Scheduler, now: float) -> None:
        for event in events:
            # A broken run has given up every attempt: of what still comes, only what was said of them counts.
            if not self._is_lost or isinstance(event, RecordsLogged | TroubleSeen):
                if self._observer is not None:
                    self._observe(event)
                self._take_in(event, scheduler, now)

    def _take_in(self, event: BackendEvent, scheduler: Scheduler, now: float) -> None:
        """Keep what the report will need, then let the scheduler decide."""
        match event:  # Without captures: see Scheduler.handle.
            case RecordsLogged():  # First: where tasks log, most are of this kind.
                self._deliver_records(event.attempt_id, event.records)
                return
            case AttemptsSucceeded():
                self._take_successes(event)
            case AttemptFailed():
                record = self._records[self._placed.pop(event.attempt_id).task]
                if event.was_made:
                    record.add(event.measure, event.failure)
                record.last_failure = event
            case AttemptReturned():
                self._placed.pop(event.attempt_id)
            case AttemptStarted():
                destination = self._destinations[self._placed[event.attempt_id].task]
                if destination is not None:
                    destination.announce(event.at)
                return
            case TroubleSeen():
                self._outcome.warnings.append(event.text)
                return
            case RunBroken():
                self._is_lost = True
                self._outcome.broken = self._outcome.broken or event.error
        self._carry_out(scheduler.handle(event, now))

    def _take_successes(self, event: AttemptsSucceeded) -> None:
        placed, records = self._placed, self._records
        for attempt_id, value, measure in zip(event.attempt_ids, event.values, event.measures, strict=True):
            record = records[placed.pop(attempt_id).task]
            record.add(measure, None)
            record.handle = value
        if self._last_records:
            for attempt_id in event.attempt_ids:
                self._last_records.pop(attempt_id, None)

    def _deliver_records(self, attempt_id: int, records: list[bytes]) -> None:
        placed = self._placed.get(attempt_id)
        destination = None
        if placed is not None:
            destination = self._destinations[placed.task]
            last = self._last_records.get(attempt_id)
            if last is None:
                last = self._last_records[attempt_id] = deque(maxlen=LAST_LINES)
            last += records[-LAST_LINES:]
        if destination is None:
            self._listener.put(self._to_application, *records)
        else:
            destination.remote_records(records)

    def _to_application(self, packed: bytes) -> None:
        logs.deliver_to_application(packed, self._redaction)

    # ---- commands ----------------------------------------------------------------------------------------------------

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case StartAttempt():
                    self._start(command)
                case FinishTasks():
                    self._finish(command.tasks)
                case FailTask():
                    self._fail(command.task)
                case SkipTask():
                    self._records[command.task].status = TaskStatus.SKIPPED
                    self._records[command.task].why = self._why(command.reason, command.culprit)
                    self._tell_finished(command.task)
                case RetryTask():
                    self._forget_records(command.task)
                    self._log_retry(command.task, command.number)
                    self._tell_retried(command)
                case ReleaseValue():
                    record = self._records[command.task]
                    handle, record.handle = record.handle, None
                    self._backend.release(handle)
                case CancelAttempt():
                    self._cancel(command.attempt_id)
                case RecallAttempts():
                    self._backend.recall()

    def _forget_records(self, task: int) -> None:
        failed = self._records[task].last_failure
        if failed is not None:
            self._last_records.pop(failed.attempt_id, None)

    def _cancel(self, attempt_id: int) -> None:
        name = self._plan.calls[self._placed[attempt_id].task].name
        error = self._interrupts.error(f"task '{name}' was stopped: the run was interrupted")
        self._backend.cancel(attempt_id, error or TaskTimeoutError.of_deadline(name, self._deadline or 0.0))

    def _start(self, command: StartAttempt) -> None:
        self._placed[command.attempt_id] = command
        call = self._plan.calls[command.task]
        if call.unready is not None:
            if command.follows:
                self._unready.append(AttemptReturned(command.attempt_id))
                return
            now, failure = monotonic(), of_error(call.unready)
            failed = AttemptFailed(command.attempt_id, failure, False, Measure(now, now), call.unready, was_made=False)
            self._unready.append(failed)
            return
        if call.injections:
            records, followed = self._records, self._placed[command.follows].task if command.follows else None
            handles = [None if source == followed else records[source].handle for source in call.sources]
            command.inputs = tuple(zip(call.injections, handles, strict=True))
        self._backend.start(command)

    def _finish(self, tasks: list[int]) -> None:
        records, destinations, observed = self._records, self._destinations, self._observer is not None
        for task in tasks:
            records[task].status = TaskStatus.SUCCESS
            destination = destinations[task]
            if destination is not None:
                attempts = records[task].attempts
                destination.announce(attempts[0][0].started_at)
                destination.line(logging.INFO, f"Finished {self._plan.calls[task].name}.", attempts[-1][0].ended_at)
            if observed:
                self._tell_finished(task)

    def _fail(self, task: int) -> None:
        record, destination = self._records[task], self._destinations[task]
        failed = record.last_failure
        assert failed is not None  # noqa: S101  or the scheduler would not say so
        data = record.error_data = self._error_data(task, failed)
        record.status = TaskStatus.ERRORED
        record.exception_handle = failed.handle
        record.error = failed.error or RemoteTaskError(data.exception_type, data.exception, data.traceback_str)
        if destination is not None:
            destination.announce((record.attempts[0][0] if record.made else failed.measure).started_at)
            destination.failure(record.error, data, failed.measure.ended_at)
        self._tell_finished(task)

    def _error_data(self, task: int, failed: AttemptFailed) -> ErrorData:
        call, failure = self._plan.calls[task], failed.failure
        args, kwargs = bind(call.args, call.kwargs, self._injected(call, failure))
        last = self._last_records.pop(failed.attempt_id, ())
        lines = tuple(self._redaction.text(logs.line_of(packed)) for packed in last) if failed.error is not None else ()
        return ErrorData(
            task_name=call.name,
            function=name_of(call.func),
            args=args,
            kwargs=kwargs,
            downstream_impact=self._plan.impact(task),
            exception=failure.exception,
            traceback_str=failure.traceback_str,
            traced_vars=failure.traced_vars,
            traced_vars_location=failure.traced_vars_location,
            exception_type=failure.exception_type,
            chain=chain_data(failure.chain),
            stuck_at=failure.stuck_at,
            last_log_lines=lines,
        )

    def _injected(self, call: Call, failure: Failure) -> list[tuple[Injection, object]]:
        """How each result of a dependency entered the call, and what is known of it here."""
        if self._backend.shares_memory:
            handles = [self._records[source].handle for source in call.sources]
            return list(zip(call.injections, handles, strict=True))
        texts = failure.injected or [f"<result of '{self._plan.calls[source].name}'>" for source in call.sources]
        return [(how, Rendered(text)) for how, text in zip(call.injections, texts, strict=False)]

    def _why(self, reason: SkipReason, culprit: int | None) -> str:
        name = "" if culprit is None else self._plan.calls[culprit].name
        match reason:
            case SkipReason.DEPENDENCY:
                return f"it depends on '{name}', which failed"
            case SkipReason.FAIL_FAST:
                return f"'{name}' failed, and the run was to stop at the first failure"
            case SkipReason.DEADLINE:
                return f"the run's deadline of {self._deadline}s passed"
            case SkipReason.INTERRUPTED:
                return "the run was interrupted"
            case SkipReason.BROKEN if self._is_interrupted:
                return "the run was interrupted twice: whether it had begun is not known"
            case SkipReason.BROKEN:
                return f"the run broke off: {str(self._outcome.broken).splitlines()[0]}"

    def _log_retry(self, task: int, number: int) -> None:
        record, destination = self._records[task], self._destinations[task]
        if destination is not None and record.last_failure is not None:
            attempts = record.attempts
            destination.announce(attempts[0][0].started_at)
            text, total = record.last_failure.failure.exception, self._plan.specs[task].retries + 1
            told = f"Attempt {number}/{total} failed: {text}. Retrying..."
            destination.line(logging.WARNING, told, attempts[-1][0].ended_at)

    # ---- the observer ------------------------------------------------------------------------------------------------

    def _observe(self, event: BackendEvent) -> None:
        """Tell that an attempt has begun, at the latest when it has ended: a backend may leave its start out."""
        match event:
            case AttemptStarted():
                self._tell_started(event.attempt_id, event.at, event.worker_pid)
            case AttemptsSucceeded():
                for attempt_id, found in zip(event.attempt_ids, event.measures, strict=True):
                    measure = measure_of(found)
                    self._tell_started(attempt_id, measure.started_at, measure.worker_pid)
                    self._begun.discard(attempt_id)
            case AttemptFailed():
                if event.was_made:
                    self._tell_started(event.attempt_id, event.measure.started_at, event.measure.worker_pid)
                self._begun.discard(event.attempt_id)
            case _:
                pass

    def _tell_started(self, attempt_id: int, at: float, worker_pid: int | None) -> None:
        if self._observer is not None and attempt_id not in self._begun:
            self._begun.add(attempt_id)
            placed = self._placed[attempt_id]
            when = datetime.fromtimestamp(at + self._outcome.clock_offset, UTC)
            self._observer.tell_started(self._plan.calls[placed.task].name, placed.number, worker_pid, when)

    def _tell_retried(self, command: RetryTask) -> None:
        failed = self._records[command.task].last_failure
        if self._observer is not None and failed is not None:
            error = f"{failed.failure.exception_type}: {failed.failure.exception}"
            name = self._plan.calls[command.task].name
            self._observer.tell_retried(name, command.number, error, command.delay)

    def _tell_finished(self, task: int) -> None:
        if self._observer is not None:
            self._observer.tell_finished(entry_of(self._records[task]))
