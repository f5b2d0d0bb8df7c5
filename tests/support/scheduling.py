"""
A scheduler under watch: it is given events, and after each one everything that must always hold is checked.

    run = CheckedScheduler([task(), task(0)], slots=1)
    run.start()
    run.succeed(0)
    assert run.placed == [1]

What it knows of the run it knows from the commands alone, as a runner would; it holds a model of its own, so simple
that it can be seen to be right, and says at once where the scheduler does otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from processes import failure
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
from processes.scheduler import Scheduler
from processes.spec import TaskSpec
from processes.usage import Measure

_FAILURE = failure.of_error(ValueError("as the test wants it"))
_MEASURE = Measure(0.0, 0.0)


def task(
    *dependencies: int, retries: int = 0, delays: tuple[float, ...] = (0.0,), keep_result: bool = True
) -> TaskSpec:
    """One of no particular name."""
    return TaskSpec(dependencies, retries, delays, keep_result)


class CheckedScheduler:
    """
    A scheduler whose every invariant is checked after each event.

    Attributes:
        commands: What the last event led to.
        ended: {position: "succeeded", "failed" or "skipped"}, in the order in which the tasks ended.
        skips: {position: why it was skipped}.
        attempts: How many attempts of each task ended.
        released: Positions whose value was given up, in that order.
        cancelled: Ids of attempts that were to be ended.
        now: The clock; an event happens at this instant.
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
        self.scheduler = Scheduler(
            specs, slots=slots, deadline=deadline, fail_fast=fail_fast, longest_first=longest_first
        )
        self.specs = specs
        self.commands: list[Command] = []
        self.ended: dict[int, str] = {}
        self.skips: dict[int, SkipTask] = {}
        self.attempts = [0] * len(specs)
        self.released: list[int] = []
        self.cancelled: set[int] = set()
        self.now = 0.0
        self.slots = slots
        self._deadline = deadline
        self._fail_fast = fail_fast
        self._running: dict[int, int] = {}  # {attempt id: position}
        self._void: dict[int, int] = {}  # the same, of skipped tasks, which were to follow one that failed
        self._ids_used: set[int] = set()
        self._due = [0.0] * len(specs)  # the instant before which a task may not start
        self._is_broken = self._is_interrupted = False
        self._ancestors: list[set[int]] = []
        for spec in specs:
            direct = set(spec.dependencies)
            self._ancestors.append(direct.union(*(self._ancestors[dependency] for dependency in direct)))
        self._dependants = [
            [other for other, spec in enumerate(specs) if task in spec.dependencies] for task in range(len(specs))
        ]

        self._longest_first = longest_first

    # ---- what happens ------------------------------------------------------------------------------------------------

    def start(self) -> list[Command]:
        """Begin the run."""
        self._follow(self.scheduler.start(self.now), [])
        return self.commands

    def handle(self, event: SchedulerEvent) -> list[Command]:
        """Take in an event, then check everything."""
        if isinstance(event, SlotsChanged):
            self.slots = event.slots
        if isinstance(event, RunBroken):
            self._is_broken = True
        if isinstance(event, RunInterrupted):
            self._is_interrupted = True
        commands = self.scheduler.handle(event, self.now)
        returned = self._take_off(event)
        self._follow(commands, returned)
        return commands

    def _take_off(self, event: SchedulerEvent) -> list[int]:
        """What runs no more; the positions of the tasks that returned."""
        returned: list[int] = []
        match event:
            case AttemptsSucceeded(attempt_ids):
                returned = [self._running.pop(attempt_id) for attempt_id in attempt_ids]
                for task in returned:
                    self.attempts[task] += 1
            case AttemptFailed(attempt_id):
                self.attempts[self._running.pop(attempt_id)] += 1
            case AttemptReturned(attempt_id) if attempt_id in self._void:
                del self._void[attempt_id]
            case AttemptReturned(attempt_id):
                del self._running[attempt_id]
            case RunBroken():
                self._running.clear()
                self._void.clear()
            case AttemptStarted() | SlotsChanged() | TimePassed() | RunInterrupted():
                pass
        return returned

    def succeed(self, *tasks: int) -> list[Command]:
        """The running attempts of tasks return."""
        ids = [self.attempt_of(task) for task in tasks]
        return self.handle(AttemptsSucceeded(ids, ["a value"] * len(ids), [_MEASURE] * len(ids)))

    def fail(self, task: int, *, retryable: bool = False) -> list[Command]:
        """The running attempt of a task fails."""
        return self.handle(AttemptFailed(self.attempt_of(task), _FAILURE, retryable, _MEASURE))

    def give_back(self, task: int) -> list[Command]:
        """The attempt of a task was placed and never made."""
        return self.give_back_attempt(self.attempt_of(task))

    def give_back_attempt(self, attempt_id: int) -> list[Command]:
        """The same, also where the task was skipped meanwhile."""
        return self.handle(AttemptReturned(attempt_id))

    def place_followers(self, *tails: tuple[int, int]) -> list[Command]:
        """What room there is behind running attempts is filled; behind each of them, where nothing is said."""
        self._follow(self.scheduler.place_followers(tails or [(each, 100) for each in self._running]), [])
        return self.commands

    def pass_time(self, until: float) -> list[Command]:
        """Nothing happens up to an instant."""
        self.now = until
        return self.handle(TimePassed())

    # ---- how it stands -----------------------------------------------------------------------------------------------

    @property
    def placed(self) -> list[int]:
        """Positions of the tasks that run, in the order in which they were started."""
        return list(self._running.values())

    @property
    def is_stopped(self) -> bool:
        """Whether nothing may start any more."""
        return (
            self._is_broken
            or (self._deadline is not None and self.now >= self._deadline)
            or (self._fail_fast and "failed" in self.ended.values())
        )

    def wakes_at(self) -> float | None:
        """When time itself changes something."""
        return self.scheduler.wake_at

    def attempt_of(self, task: int) -> int:
        """Id of the running attempt of a task."""
        return next(attempt_id for attempt_id, running in self._running.items() if running == task)

    def ready(self) -> list[int]:
        """What could run now, first come first."""
        busy = {*self._running.values(), *self.ended}
        ready = [
            task
            for task, spec in enumerate(self.specs)
            if task not in busy
            and self._due[task] <= self.now
            and all(self.ended.get(dependency) == "succeeded" for dependency in spec.dependencies)
        ]
        return sorted(ready, key=lambda task: -self._chain_behind(task)) if self._longest_first else ready

    def _chain_behind(self, task: int) -> int:
        """How many tasks wait for it, and for each other, one after the other."""
        return max((1 + self._chain_behind(dependant) for dependant in self._dependants[task]), default=0)

    # ---- what must hold ----------------------------------------------------------------------------------------------

    def _follow(self, commands: list[Command], returned: list[int]) -> None:
        self.commands = commands
        for command in commands:
            match command:
                case StartAttempt(attempt_id, task, number, follows):
                    self._check_start(attempt_id, task, number, follows)
                    self._running[attempt_id] = task
                    self._ids_used.add(attempt_id)
                case FinishTasks(tasks):
                    assert tasks == returned, "a success is one that was reported"
                    for task in tasks:
                        self._end(task, "succeeded")
                case FailTask(task, number):
                    assert number == self.attempts[task] > 0, "a task ends with its last attempt"
                    assert task not in returned, "a task that returned has not failed"
                    self._end(task, "failed")
                case SkipTask(task):
                    self._check_skip(command)
                    self.skips[task] = command
                    self._end(task, "skipped")
                case RetryTask(task, number, delay):
                    assert number == self.attempts[task] <= self.specs[task].retries, "one retry too many"
                    assert delay == self.specs[task].delay_before(number + 1)
                    self._due[task] = self.now + delay
                case ReleaseValue(task):
                    self._release(task)
                case CancelAttempt() | RecallAttempts():
                    self._stop(command)
        self._check_state()

    def _end(self, task: int, how: str) -> None:
        assert task not in self.ended, f"task {task} ended twice"
        assert task not in self._running.values(), f"task {task} ended while it ran"
        self.ended[task] = how

    def _check_start(self, attempt_id: int, task: int, number: int, follows: int) -> None:
        assert attempt_id not in self._ids_used, "an id names one attempt only"
        assert not self.is_stopped, "nothing starts after the end of the run"
        assert len(self._running) + len(self._void) < self.slots, "more attempts than slots"
        assert number == self.attempts[task] + 1, "attempts are counted from 1, returned ones not at all"
        ready = self.ready()
        if follows:
            assert not ready, f"{ready} could run, and need nothing to follow"
            assert task not in self._running.values(), "it is placed already"
            leader = self._running[follows]
            others = set(self.specs[task].dependencies) - {leader}
            assert leader in self.specs[task].dependencies, "it needs nothing of what it follows"
            assert all(self.ended.get(other) == "succeeded" for other in others), f"{others} are not all there"
            left = [task for task in range(task) if task not in self.ended and task not in self._running.values()]
            is_in_turn = self._longest_first or all(self._due[task] > self.now for task in left)
            assert is_in_turn, f"task {task} before {left}"
            return
        assert task in ready, f"task {task} has no right to run: {ready} have"
        assert task == ready[0], f"task {task} before {ready[0]}"

    def _stop(self, command: CancelAttempt | RecallAttempts) -> None:
        if isinstance(command, RecallAttempts):
            assert self._fail_fast, "what was placed may run"
            return
        assert command.attempt_id in self._running, "only what runs can be ended"
        assert command.attempt_id not in self.cancelled, "ended twice"
        self.cancelled.add(command.attempt_id)

    def _check_skip(self, skip: SkipTask) -> None:
        assert self.attempts[skip.task] == 0, "a task that ran is not skipped"
        if skip.task in self._running.values():
            attempt_id = self.attempt_of(skip.task)
            assert skip.reason is SkipReason.DEPENDENCY, "it may run still"
            assert skip.culprit in self._ancestors[skip.task], "it may run still"
            del self._running[attempt_id]
            self._void[attempt_id] = skip.task
        match skip.reason:
            case SkipReason.DEPENDENCY:
                assert skip.culprit in self._ancestors[skip.task], "the culprit is one it waited for"
                assert self.ended[skip.culprit] == "failed", "the culprit has failed"
            case SkipReason.FAIL_FAST:
                assert self._fail_fast
                assert skip.culprit is not None
                assert self.ended[skip.culprit] == "failed"
            case SkipReason.DEADLINE:
                assert self._deadline is not None
                assert self.now >= self._deadline
            case SkipReason.INTERRUPTED:
                assert self._is_interrupted
            case SkipReason.BROKEN:
                assert self._is_broken

    def _release(self, task: int) -> None:
        if self.ended.get(task) != "succeeded":
            return  # There is no value: nothing is lost.
        assert not self.specs[task].keep_result, "the report keeps it"
        assert task not in self.released, "freed twice"
        assert not self._is_needed(task), "somebody needs it still"
        self.released.append(task)

    def _is_needed(self, task: int) -> bool:
        """Whether a task's value is: by one that has not ended, or whose attempt still holds what it was sent."""
        return any(each not in self.ended or each in self._void.values() for each in self._dependants[task])

    def _check_state(self) -> None:
        ready = self.ready()
        if self.is_stopped:
            idle = set(range(len(self.specs))) - set(self.ended) - set(self._running.values())
            assert not idle, f"the run was stopped, and {idle} wait for nothing"
        else:
            assert not ready or len(self._running) + len(self._void) >= self.slots, f"{ready} could run"
        if self._is_interrupted or (self._deadline is not None and self.now >= self._deadline):
            assert set(self._running) <= self.cancelled, "what runs then is ended"
        for task, how in self.ended.items():
            has_no_use = how == "succeeded" and not self.specs[task].keep_result
            if has_no_use and not self._is_needed(task):
                assert task in self.released, f"the value of {task} is not freed"
        assert self.scheduler.is_done == (len(self.ended) == len(self.specs) and not self._void)
        if self.scheduler.is_done:
            self._check_end()
        else:
            has_future = self._running or self._void or self.slots == 0 or self.scheduler.wake_at is not None
            assert has_future, "nothing will ever happen again"

    def _check_end(self) -> None:
        assert not self._running, "the run is over and something runs"
        failed = {task for task, how in self.ended.items() if how == "failed"}
        for task, how in self.ended.items():
            has_to_be_skipped = bool(self._ancestors[task] & failed)
            assert how == "skipped" or not has_to_be_skipped, f"task {task} ran without what it needs"
            if how == "skipped":
                assert has_to_be_skipped or self.is_stopped, f"task {task} was skipped for nothing"
            assert self.attempts[task] <= 1 + self.specs[task].retries
            assert (self.attempts[task] == 0) == (how == "skipped")


# ---- random runs -----------------------------------------------------------------------------------------------------


class _Child:
    """Ids of the attempts it holds, and of the one that has just returned, or 0."""

    def __init__(self) -> None:
        self.attempts: list[int] = []
        self.returned = 0


class RandomRun:
    """
    A random graph, played to its end by children that can be lost: the same run for the same seed.

    A child holds up to `depth` attempts and makes them one after the other; the first of them runs. Whether an attempt
    succeeds was decided when the graph was made, so a child that is lost changes nothing else. In some runs children
    take followers, each of which they make only if the one that it follows has just returned.
    """

    def __init__(self, seed: int) -> None:
        self._random = random = Random(seed)
        self.specs = _random_specs(random)
        self.depth = random.choice((1, 2, 4))
        self.children = [_Child() for _ in range(random.randint(1, 3))]
        self._placed: dict[int, StartAttempt] = {}  # {attempt id: its command}
        self._takes_followers = self.depth > 1 and random.random() < 0.6
        fails = random.choice((0.0, 0.2, 0.5))
        # {position: how its attempts end, one after the other}; the last holds for all that follow
        self._plan = [[random.random() >= fails for _ in range(1 + spec.retries)] for spec in self.specs]
        self._is_retryable = [random.random() < 0.8 for _ in self.specs]
        # Not both: see test_scheduler_deadline_holds_after_fail_fast.
        limit = random.choice(("none", "none", "deadline", "fail_fast"))
        self.run = CheckedScheduler(
            self.specs,
            slots=len(self.children) * self.depth,
            deadline=random.uniform(0.0, 5.0) if limit == "deadline" else None,
            fail_fast=limit == "fail_fast",
            longest_first=random.random() < 0.5,
        )
        self.has_limit = limit != "none"
        self.log: list[Command] = []

    def start(self) -> None:
        """Begin the run."""
        self._place(self.run.start())

    @property
    def is_done(self) -> bool:
        """Whether the run is over."""
        return self.run.scheduler.is_done

    def step(self) -> None:
        """One more thing happens: an attempt begins or ends, or nothing does until a retry falls due."""
        self._happen()
        if self._takes_followers and self._random.random() < 0.7:
            tails = [
                (child.attempts[-1], self.depth - len(child.attempts)) for child in self.children if child.attempts
            ]
            if tails:
                self._place(self.run.place_followers(*tails))

    def _happen(self) -> None:
        busy = [child for child in self.children if child.attempts]
        wake_at = self.run.scheduler.wake_at
        if not busy or (wake_at is not None and wake_at <= self.run.now):
            assert wake_at is not None
            self._place(self.run.pass_time(max(self.run.now, wake_at)))
            return
        child = self._random.choice(busy)
        if self._random.random() < 0.2:
            if not self._is_unmade(child):
                self._place(self.run.handle(AttemptStarted(child.attempts[0], self.run.now)))
            return
        self.run.now += self._random.random()
        self._end_first(child)

    def lose_child(self, number: int, *, is_blamed: bool, first_blame: bool) -> None:
        """
        A child dies with all that was placed with it.

        Args:
            number: Which child, modulo their number.
            is_blamed: Its first attempt ran and fails; otherwise none had begun yet.
            first_blame: The failure is reported before the returns; otherwise after them.
        """
        child = self.children[number % len(self.children)]
        ran = is_blamed and child.attempts and not self._is_unmade(child)
        lost, child.attempts, child.returned = child.attempts, [], 0
        self._place(self.run.handle(SlotsChanged(self.run.slots - self.depth)))
        failed, returned = (lost[:1], lost[1:]) if ran else ([], lost)
        if first_blame:
            self._fail(failed)
        for attempt_id in returned:
            self._place(self.run.give_back_attempt(attempt_id))
        if not first_blame:
            self._fail(failed)
        self._place(self.run.handle(SlotsChanged(self.run.slots + self.depth)))

    def break_off(self) -> None:
        """The backend cannot go on."""
        for child in self.children:
            child.attempts.clear()
        self._place(self.run.handle(RunBroken(RuntimeError("no more children"))))

    def _fail(self, attempt_ids: list[int]) -> None:
        for attempt_id in attempt_ids:
            task = self._placed[attempt_id].task
            self._place(self.run.fail(task, retryable=self._is_retryable[task]))

    def _end_first(self, child: _Child) -> None:
        """The first attempt that a child holds ends."""
        is_unmade = self._is_unmade(child)
        attempt_id, child.returned = child.attempts.pop(0), 0
        if is_unmade:
            self._place(self.run.give_back_attempt(attempt_id))
            return
        if attempt_id in self.run.cancelled:
            self._place(self.run.fail(self._placed[attempt_id].task, retryable=True))
            return
        if not self._returns(attempt_id):
            self._fail([attempt_id])
            return
        returned = [attempt_id]  # And of those behind it as many as have returned before anybody looked.
        child.returned = attempt_id
        while (
            child.attempts
            and self._random.random() < 0.5
            and not self._is_unmade(child)
            and self._returns(child.attempts[0])
        ):
            child.returned = child.attempts.pop(0)
            returned.append(child.returned)
        self._place(self.run.succeed(*[self._placed[each].task for each in returned]))

    def _returns(self, attempt_id: int) -> bool:
        """Whether an attempt returns."""
        task = self._placed[attempt_id].task
        ends = self._plan[task]
        return attempt_id not in self.run.cancelled and ends[min(self.run.attempts[task], len(ends) - 1)]

    def _is_unmade(self, child: _Child) -> bool:
        """Whether the first attempt that a child holds was to follow one that has not just returned there."""
        return self._placed[child.attempts[0]].follows not in (0, child.returned)

    def _place(self, commands: list[Command]) -> None:
        self.log += commands
        for command in commands:
            if isinstance(command, StartAttempt):
                self._placed[command.attempt_id] = command
                found = [child for child in self.children if command.follows in child.attempts[-1:]]
                if command.follows and (not found or len(found[0].attempts) == self.depth):
                    self._place(self.run.give_back_attempt(command.attempt_id))
                    continue
                child = found[0] if found else min(self.children, key=lambda child: len(child.attempts))
                child.attempts.append(command.attempt_id)
            elif isinstance(command, RecallAttempts):
                for child in self.children:
                    child.attempts, recalled = child.attempts[:1], child.attempts[1:]
                    for attempt_id in recalled:
                        self._place(self.run.give_back_attempt(attempt_id))


def _random_specs(random: Random) -> list[TaskSpec]:
    specs: list[TaskSpec] = []
    for position in range(random.randint(1, 12)):
        count = min(position, random.choice((0, 0, 1, 1, 2, 3)))
        dependencies = tuple(sorted(random.sample(range(position), count)))
        retries = random.choice((0, 0, 1, 2))
        delays = random.choice(((0.0,), (0.5,), (0.0, 2.5)))
        specs.append(TaskSpec(dependencies, retries, delays, random.random() < 0.5))
    return specs
