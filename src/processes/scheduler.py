"""
Which attempt starts when: an event and the time in, commands out.

Pure: no clock, no thread, no process, no user value. The scheduler alone owns the graph, retries, skips and the run's
deadline; how long one attempt may take, and how much memory, belongs to the backend, which alone knows when it began.

States of a task: waiting (for dependencies) -> ready -> running -> done, or running -> delayed -> ready for a retry,
or anything -> done by a skip. A failed task skips what depends on it and nothing else. An event costs time for the
task it is about and its direct dependants; a skip visits each task that it skips once.

Where room is left, a task that waits for one running attempt only may be placed behind it, as its follower: waiting ->
running. The backend runs it if that attempt returns, without asking here in between, and gives it back otherwise.
"""

from __future__ import annotations

import enum
import heapq
from typing import TYPE_CHECKING

from processes.events import (
    AttemptFailed,
    AttemptReturned,
    AttemptsSucceeded,
    AttemptStarted,
    CancelAttempt,
    Command,
    FailTask,
    FinishTasks,
    RecallAttempts,
    ReleaseValue,
    RetryTask,
    RunBroken,
    RunInterrupted,
    SchedulerEvent,
    SkipReason,
    SkipTask,
    SlotsChanged,
    StartAttempt,
    TimePassed,
)
from processes.spec import PLAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processes.spec import TaskSpec


class TaskState(enum.Enum):
    """Where a task stands for the scheduler."""

    WAITING = enum.auto()
    READY = enum.auto()
    RUNNING = enum.auto()
    DELAYED = enum.auto()
    DONE = enum.auto()


class UnexpectedEventError(Exception):
    """An event that does not fit the scheduler's state: a backend's defect. Nothing was changed."""


class Scheduler:
    """
    The state of one run.

    Args:
        specs: The tasks, in an order in which each comes after its dependencies. Ready tasks start in this order.
        slots: How many attempts the backend takes at first.
        deadline: The instant after which nothing runs any more, or None.
        fail_fast: Start nothing more once a task has failed; what runs may end.
        longest_first: Of the ready tasks start those first on which the longest chain of others waits: begun late, it
            would be all that still runs in the end.
    """

    def __init__(
        self,
        specs: Sequence[TaskSpec],
        *,
        slots: int,
        deadline: float | None = None,
        fail_fast: bool = False,
        longest_first: bool = False,
    ) -> None:
        """Nothing is started before `start`."""
        self._specs = specs
        self._slots = slots
        self._deadline = deadline
        self._fail_fast = fail_fast
        self._states = [TaskState.WAITING] * len(specs)
        self._missing = [len(spec.dependencies) for spec in specs]  # dependencies that have not succeeded yet
        self._consumers = [0] * len(specs)  # dependants that are not done yet
        self._dependants: list[Sequence[int]] = [()] * len(specs)
        for task, spec in enumerate(specs):
            for dependency in spec.dependencies:
                others = self._dependants[dependency]
                if isinstance(others, list):
                    others.append(task)
                else:
                    self._dependants[dependency] = [task]
                self._consumers[dependency] += 1
        self._has_value = [False] * len(specs)
        self._attempts = [0] * len(specs)  # attempts that ended
        # The order in which ready tasks start: positions by rank, and ranks by position.
        self._ranked: Sequence[int] = _longest_first(specs) if longest_first else range(len(specs))
        self._ranks = _inverse(self._ranked)
        self._fresh: list[int] = []  # ranks of those that were ready from the start, the first of them last
        self._ready: list[int] = []  # heap of the ranks of all others
        self._delayed: list[tuple[float, int]] = []  # heap of (instant, position)
        self._running: dict[int, int] = {}  # {attempt id: position}
        self._keeps_order = not longest_first
        self._first_rank = 0  # no task of a lower one waits or is ready
        self._followed: set[int] = set()  # ids of attempts for which a follower was sought
        self._next_attempt_id = 1
        self._left = len(specs)
        self._stop: tuple[SkipReason, int | None] | None = None  # once set, nothing more starts
        self._is_overdue = False  # the deadline has passed, or the user has interrupted the run

    @property
    def is_done(self) -> bool:
        """Whether every task has come to its end, and every attempt."""
        return self._left == 0 and not self._running

    @property
    def wake_at(self) -> float | None:
        """The instant at which time itself changes something: a retry falls due, or the deadline passes."""
        instants = [self._delayed[0][0]] if self._delayed else []
        if self._deadline is not None and not self._is_overdue and self._left:
            instants.append(self._deadline)
        return min(instants, default=None)

    def start(self, now: float) -> list[Command]:
        """Begin the run."""
        missing = self._missing
        self._fresh = [rank for rank, task in enumerate(self._ranked) if missing[task] == 0]
        for rank in self._fresh:
            self._states[self._ranked[rank]] = TaskState.READY
        self._fresh.reverse()
        commands: list[Command] = []
        self._go_on(now, commands)
        return commands

    def handle(self, event: SchedulerEvent, now: float) -> list[Command]:
        """
        Take in one event.

        Raises:
            UnexpectedEventError: It names an attempt that is not running.
        """
        commands: list[Command] = []
        match event:  # Without captures: these cost 1.4 us, on the way of every attempt.
            case AttemptsSucceeded():
                self._check_running(*event.attempt_ids)
                self._succeed(event.attempt_ids, commands)
            case AttemptFailed():
                self._check_running(event.attempt_id)
                self._fail(self._end_attempt(event.attempt_id), now, commands, retryable=event.retryable)
            case AttemptReturned():
                self._take_back(event.attempt_id, commands)
            case AttemptStarted():
                self._check_running(event.attempt_id)
            case SlotsChanged():
                self._slots = event.slots
            case RunBroken():
                self._lose_all(commands)
            case RunInterrupted():
                self._interrupt(commands)
            case TimePassed():
                pass
        self._go_on(now, commands)
        return commands

    def place_followers(self, tails: Sequence[tuple[int, int]]) -> list[Command]:
        """
        Fill room behind attempts that run: behind each one of them, behind its follower the next, and so on.

        It is sought once for each attempt. One, since the other dependants can run elsewhere when that has returned.

        Args:
            tails: (id of an attempt behind which others can be placed, how many). All events that there were have been
                handled: what is known to have ended is not to be followed.
        """
        commands: list[Command] = []
        followed, running = self._followed, self._running
        if len(followed) > 2 * len(running) + 1000:
            followed &= running.keys()
        for last, room in tails:
            leader, end = last, self._next_attempt_id + min(room, self._slots - len(running))
            while self._next_attempt_id < end and leader in running and leader not in followed and self._stop is None:
                followed.add(leader)
                follower = self._follower_of(running[leader])
                if follower is not None:
                    attempt_id = self._next_attempt_id
                    self._next_attempt_id += 1
                    self._states[follower] = TaskState.RUNNING
                    running[attempt_id] = follower
                    commands.append(StartAttempt(attempt_id, follower, self._attempts[follower] + 1, leader))
                    leader = attempt_id
        return commands

    def _follower_of(self, followed: int) -> int | None:
        missing, states = self._missing, self._states
        may = [task for task in self._dependants[followed] if missing[task] == 1 and states[task] is TaskState.WAITING]
        first = min(may, key=self._ranks.__getitem__, default=None)
        return None if self._keeps_order and first is not None and first != self._first_unplaced() else first

    def _first_unplaced(self) -> int:
        while self._states[self._ranked[self._first_rank]] not in (TaskState.WAITING, TaskState.READY):
            self._first_rank += 1
        return self._ranked[self._first_rank]

    def _go_on(self, now: float, commands: list[Command]) -> None:
        """What may follow any event: the deadline, retries that fell due, new attempts."""
        if self._deadline is not None and now >= self._deadline and not self._is_overdue and self._left:
            self._is_overdue = True
            if self._stop is None:
                self._stop_run(SkipReason.DEADLINE, None, commands)
            self._cancel_all(commands)
        while self._delayed and self._delayed[0][0] <= now:
            self._make_ready(heapq.heappop(self._delayed)[1])
        room = self._slots - len(self._running)
        if room > 0 and (self._ready or self._fresh):
            self._start_attempts(room, commands)

    def _make_ready(self, task: int) -> None:
        self._states[task] = TaskState.READY
        heapq.heappush(self._ready, self._ranks[task])

    def _start_attempts(self, room: int, commands: list[Command]) -> None:
        """Place so many, the first ready tasks first."""
        fresh, ready, running, ranked = self._fresh, self._ready, self._running, self._ranked
        states, attempts, attempt_id = self._states, self._attempts, self._next_attempt_id
        end = attempt_id + room
        while attempt_id < end and (fresh or ready):
            rank = fresh.pop() if not ready or (fresh and fresh[-1] < ready[0]) else heapq.heappop(ready)
            task = ranked[rank]
            states[task] = TaskState.RUNNING
            running[attempt_id] = task
            commands.append(StartAttempt(attempt_id, task, attempts[task] + 1))
            attempt_id += 1
        self._next_attempt_id = attempt_id

    def _check_running(self, *attempt_ids: int) -> None:
        if not self._running.keys() >= {*attempt_ids}:
            unknown = next(attempt_id for attempt_id in attempt_ids if attempt_id not in self._running)
            msg = f"attempt {unknown} is not running"
            raise UnexpectedEventError(msg)

    def _end_attempt(self, attempt_id: int) -> int:
        task = self._running.pop(attempt_id)
        self._attempts[task] += 1
        return task

    def _succeed(self, attempt_ids: Sequence[int], commands: list[Command]) -> None:
        running, attempts, dependants = self._running, self._attempts, self._dependants
        specs, has_value, states = self._specs, self._has_value, self._states
        tasks = [running.pop(attempt_id) for attempt_id in attempt_ids]
        commands.append(FinishTasks(tasks))
        for task in tasks:
            attempts[task] += 1
            has_value[task] = True
            if specs[task] is PLAIN:  # It holds nothing of others' back, and its own is kept.
                states[task] = TaskState.DONE
                self._left -= 1
            else:
                self._end_task(task, commands)
                self._release_unneeded(task, commands)
            for dependant in dependants[task]:
                self._missing[dependant] -= 1
                if self._missing[dependant] == 0 and self._states[dependant] is TaskState.WAITING:
                    self._make_ready(dependant)

    def _fail(self, task: int, now: float, commands: list[Command], *, retryable: bool) -> None:
        spec, made = self._specs[task], self._attempts[task]
        if retryable and made <= spec.retries and self._stop is None:
            delay = spec.delay_before(made + 1)
            commands.append(RetryTask(task, made, delay))
            self._states[task] = TaskState.DELAYED
            heapq.heappush(self._delayed, (now + delay, task))
            return
        self._finish_failed(task, commands)
        if self._fail_fast and self._stop is None:
            self._stop_run(SkipReason.FAIL_FAST, task, commands)
            commands.append(RecallAttempts())

    def _finish_failed(self, task: int, commands: list[Command]) -> None:
        commands.append(FailTask(task, self._attempts[task]))
        self._end_task(task, commands)
        self._skip_dependants(task, commands)

    def _take_back(self, attempt_id: int, commands: list[Command]) -> None:
        self._check_running(attempt_id)
        task = self._running.pop(attempt_id)
        if self._states[task] is TaskState.DONE:  # It was skipped.
            self._give_up_inputs(task, commands)
            return
        self._first_rank = min(self._first_rank, self._ranks[task])
        if self._stop is not None:
            self._give_up(task, *self._stop, commands)
        elif self._missing[task]:  # What it was to follow has not ended yet.
            self._states[task] = TaskState.WAITING
        else:
            self._make_ready(task)

    def _end_task(self, task: int, commands: list[Command]) -> None:
        """Count a task as done, and give up what only it still needed."""
        self._states[task] = TaskState.DONE
        self._left -= 1
        self._give_up_inputs(task, commands)

    def _give_up_inputs(self, task: int, commands: list[Command]) -> None:
        for dependency in self._specs[task].dependencies:
            self._consumers[dependency] -= 1
            self._release_unneeded(dependency, commands)

    def _release_unneeded(self, task: int, commands: list[Command]) -> None:
        if self._has_value[task] and self._consumers[task] == 0 and not self._specs[task].keep_result:
            commands.append(ReleaseValue(task))

    def _skip(self, task: int, reason: SkipReason, culprit: int | None, commands: list[Command]) -> None:
        commands.append(SkipTask(task, reason, culprit))
        self._end_task(task, commands)

    def _skip_dependants(self, failed: int, commands: list[Command]) -> None:
        queue = [failed]
        for task in queue:  # grows while it is walked: breadth first
            for dependant in self._dependants[task]:
                state = self._states[dependant]
                if state is TaskState.DONE:
                    continue
                queue.append(dependant)
                if state is TaskState.RUNNING:  # A follower. What it was sent is needed until it is back.
                    commands.append(SkipTask(dependant, SkipReason.DEPENDENCY, failed))
                    self._states[dependant] = TaskState.DONE
                    self._left -= 1
                else:
                    self._skip(dependant, SkipReason.DEPENDENCY, failed, commands)

    def _stop_run(self, reason: SkipReason, culprit: int | None, commands: list[Command]) -> None:
        """Skip whatever has not started; what runs ends by itself or is cancelled by the caller."""
        self._stop = (reason, culprit)
        self._ready.clear()
        self._fresh.clear()
        self._delayed.clear()
        for task in range(len(self._specs)):
            if self._states[task] not in (TaskState.DONE, TaskState.RUNNING):
                self._give_up(task, reason, culprit, commands)

    def _interrupt(self, commands: list[Command]) -> None:
        if self._stop is None:
            self._stop_run(SkipReason.INTERRUPTED, None, commands)
        if not self._is_overdue:
            self._is_overdue = True  # What runs is ended once.
            self._cancel_all(commands)

    def _cancel_all(self, commands: list[Command]) -> None:
        states = self._states
        commands += [
            CancelAttempt(attempt_id) for attempt_id, task in self._running.items() if states[task] is TaskState.RUNNING
        ]

    def _give_up(self, task: int, reason: SkipReason, culprit: int | None, commands: list[Command]) -> None:
        """A task that never ran is skipped; one whose attempts failed so far has failed."""
        if self._attempts[task]:
            self._finish_failed(task, commands)
        else:
            self._skip(task, reason, culprit, commands)

    def _lose_all(self, commands: list[Command]) -> None:
        if self._stop is None:
            self._stop_run(SkipReason.BROKEN, None, commands)
        self._stop = (SkipReason.BROKEN, None)
        for attempt_id in list(self._running):
            self._take_back(attempt_id, commands)


def _longest_first(specs: Sequence[TaskSpec]) -> Sequence[int]:
    """Positions, by the number of tasks in the longest chain that waits for each; as they were where that is equal."""
    behind = [0] * len(specs)
    for task in range(len(specs) - 1, -1, -1):
        for dependency in specs[task].dependencies:
            if behind[dependency] <= behind[task]:
                behind[dependency] = behind[task] + 1
    return sorted(range(len(specs)), key=behind.__getitem__, reverse=True) if any(behind) else range(len(specs))


def _inverse(ranked: Sequence[int]) -> Sequence[int]:
    if isinstance(ranked, range):
        return ranked
    ranks = [0] * len(ranked)
    for rank, task in enumerate(ranked):
        ranks[task] = rank
    return ranks
