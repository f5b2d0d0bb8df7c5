"""The scheduler starts what may start, in order, and brings every task to exactly one end."""

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest

from processes.events import (
    AttemptFailed,
    AttemptReturned,
    AttemptsSucceeded,
    AttemptStarted,
    CancelAttempt,
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
from processes.failure import Failure
from processes.scheduler import Scheduler, UnexpectedEventError
from processes.spec import TaskSpec
from processes.usage import Measure
from support.scheduling import CheckedScheduler, RandomRun, task

MEASURE = Measure(0.0, 0.0)
FAILURE = Failure("ValueError", "wrong", "", {}, "")
SEEDS = range(40)


def test_scheduler_starts_ready_tasks_in_order() -> None:
    """Of several that may start, the first in the run's order does."""
    run = CheckedScheduler([task(), task(), task(0), task()], slots=2)
    run.start()
    assert run.placed == [0, 1]
    run.succeed(0)
    assert run.placed == [1, 2]
    run.succeed(2)
    assert run.placed == [1, 3]


def test_scheduler_starts_first_what_most_tasks_wait_for_one_after_another() -> None:
    """At the start and later; where the chains are of one length, as they stand in the run's order."""
    run = CheckedScheduler([task(), task(), task(), task(2), task(2), task(4), task(1)], slots=1, longest_first=True)
    run.start()
    for ended in (2, 1, 4, 0, 3, 5):
        assert run.placed == [ended]
        run.succeed(ended)
    assert run.placed == [6]


def test_scheduler_without_tasks_is_done() -> None:
    """There is nothing to wait for."""
    run = CheckedScheduler([], slots=1)
    assert run.start() == []
    assert run.scheduler.is_done


def test_scheduler_start_says_task_and_number() -> None:
    """The first attempt of a task is number 1, and each attempt has an id of its own."""
    run = CheckedScheduler([task(), task()], slots=2)
    assert run.start() == [StartAttempt(1, 0, 1), StartAttempt(2, 1, 1)]


def test_scheduler_waits_for_every_dependency() -> None:
    """A task starts when the last of those it waits for has succeeded."""
    run = CheckedScheduler([task(), task(), task(0, 1)], slots=3)
    run.start()
    run.succeed(1)
    assert run.placed == [0]
    run.succeed(0)
    assert run.placed == [2]


def test_scheduler_starts_dependants_in_the_event_that_frees_them() -> None:
    """End of a task, and start of what waited for it, are one answer."""
    run = CheckedScheduler([task(), task(0)], slots=1)
    run.start()
    assert run.succeed(0) == [FinishTasks([0]), StartAttempt(2, 1, 1)]


def test_scheduler_fills_no_more_than_its_slots() -> None:
    """What does not fit waits until something ends."""
    run = CheckedScheduler([task() for _ in range(5)], slots=3)
    run.start()
    assert run.placed == [0, 1, 2]
    run.succeed(1)
    assert run.placed == [0, 2, 3]


def test_scheduler_fills_new_slots_at_once() -> None:
    """More slots are used when they are announced."""
    run = CheckedScheduler([task() for _ in range(4)], slots=1)
    run.start()
    run.handle(SlotsChanged(3))
    assert run.placed == [0, 1, 2]


def test_scheduler_with_fewer_slots_lets_run_what_runs() -> None:
    """Slots that go take nothing back; nothing starts until what runs fits again."""
    run = CheckedScheduler([task() for _ in range(4)], slots=3)
    run.start()
    run.handle(SlotsChanged(1))
    assert run.placed == [0, 1, 2]
    run.succeed(0)
    run.succeed(1)
    assert run.placed == [2]
    run.succeed(2)
    assert run.placed == [3]


def test_scheduler_without_slots_waits() -> None:
    """A backend may have no slot at first."""
    run = Scheduler([task()], slots=0)
    assert run.start(0.0) == []
    assert run.handle(SlotsChanged(1), 0.0) == [StartAttempt(1, 0, 1)]


# ---- failures and retries --------------------------------------------------------------------------------------------


def test_scheduler_failure_skips_all_that_depend_on_it() -> None:
    """Direct and indirect dependants are skipped, nearest first, and each names the task that failed."""
    run = CheckedScheduler([task(), task(0), task(1), task(0), task()], slots=2)
    run.start()
    assert run.fail(0) == [
        FailTask(0, 1),
        SkipTask(1, SkipReason.DEPENDENCY, 0),
        SkipTask(3, SkipReason.DEPENDENCY, 0),
        SkipTask(2, SkipReason.DEPENDENCY, 0),
    ]
    run.succeed(4)
    assert run.scheduler.is_done


def test_scheduler_skips_a_task_once() -> None:
    """When two of its dependencies fail, the first one is to blame."""
    run = CheckedScheduler([task(), task(), task(0, 1)], slots=2)
    run.start()
    run.fail(1)
    assert run.fail(0) == [FailTask(0, 1)]
    assert run.skips[2].culprit == 1


def test_scheduler_retries_at_once_without_delay() -> None:
    """A retry of a task without a delay is placed in the event that tells of the failure."""
    run = CheckedScheduler([task(retries=1)], slots=1)
    run.start()
    assert run.fail(0, retryable=True) == [RetryTask(0, 1, 0.0), StartAttempt(2, 0, 2)]
    assert run.succeed(0) == [FinishTasks([0])]


def test_scheduler_makes_one_attempt_more_than_retries() -> None:
    """Then the task has failed."""
    run = CheckedScheduler([task(retries=2), task(0)], slots=1)
    run.start()
    run.fail(0, retryable=True)
    run.fail(0, retryable=True)
    assert run.fail(0, retryable=True) == [FailTask(0, 3), SkipTask(1, SkipReason.DEPENDENCY, 0)]


def test_scheduler_retries_only_what_may_be_retried() -> None:
    """A failure that `retry_on` does not cover ends the task, whatever retries are left."""
    run = CheckedScheduler([task(retries=5)], slots=1)
    run.start()
    assert run.fail(0, retryable=False) == [FailTask(0, 1)]


def test_scheduler_retry_waits_for_its_delay() -> None:
    """The retry starts at the failure's instant plus its delay, and `wake_at` says when that is."""
    run = CheckedScheduler([task(retries=1, delays=(5.0,))], slots=1)
    run.start()
    run.now = 1.0
    assert run.fail(0, retryable=True) == [RetryTask(0, 1, 5.0)]
    assert run.wakes_at() == 6.0
    assert run.pass_time(5.9) == []
    assert run.pass_time(6.0) == [StartAttempt(2, 0, 2)]
    assert run.wakes_at() is None


def test_scheduler_delays_are_one_for_each_retry() -> None:
    """The last delay holds for all further retries."""
    run = CheckedScheduler([task(retries=3, delays=(1.0, 2.0))], slots=1)
    run.start()
    delays = []
    for _ in range(3):
        commands = run.fail(0, retryable=True)
        delays += [command.delay for command in commands if isinstance(command, RetryTask)]
        run.pass_time(run.now + 2.0)
    assert delays == [1.0, 2.0, 2.0]


def test_scheduler_delay_holds_no_slot() -> None:
    """While a task waits for its retry another one runs; then it is its turn again."""
    run = CheckedScheduler([task(retries=1, delays=(1.0,)), task(), task()], slots=1)
    run.start()
    run.fail(0, retryable=True)
    assert run.placed == [1]
    run.now = 2.0
    run.succeed(1)
    assert run.placed == [0]


def test_scheduler_wakes_for_the_earliest_retry() -> None:
    """Of several delayed tasks the one that is due first counts."""
    run = CheckedScheduler([task(retries=1, delays=(9.0,)), task(retries=1, delays=(3.0,))], slots=2)
    run.start()
    run.fail(0, retryable=True)
    run.fail(1, retryable=True)
    assert run.wakes_at() == 3.0
    run.pass_time(3.0)
    assert run.placed == [1]


def test_scheduler_dependants_wait_for_the_retry() -> None:
    """A task whose retry succeeds has succeeded."""
    run = CheckedScheduler([task(retries=1), task(0)], slots=1)
    run.start()
    run.fail(0, retryable=True)
    run.succeed(0)
    assert run.placed == [1]


# ---- attempts that come back -----------------------------------------------------------------------------------------


def test_scheduler_places_a_returned_attempt_again() -> None:
    """It does not count: its number is the same, its id is new."""
    run = CheckedScheduler([task()], slots=1)
    run.start()
    assert run.give_back(0) == [StartAttempt(2, 0, 1)]
    run.succeed(0)
    assert run.attempts == [1]


def test_scheduler_returned_retry_keeps_its_number() -> None:
    """Returned attempts use up no retry."""
    run = CheckedScheduler([task(retries=1)], slots=1)
    run.start()
    run.fail(0, retryable=True)
    assert run.give_back(0) == [StartAttempt(3, 0, 2)]
    run.give_back(0)
    assert run.succeed(0) == [FinishTasks([0])]


def test_scheduler_returned_attempt_keeps_its_turn() -> None:
    """It is placed before those that come after it in the run's order."""
    run = CheckedScheduler([task(), task(), task()], slots=1)
    run.start()
    run.give_back(0)
    assert run.placed == [0]


def test_scheduler_returned_attempt_without_a_slot_waits() -> None:
    """A child that is gone took its slot along."""
    run = CheckedScheduler([task()], slots=1)
    run.start()
    run.handle(SlotsChanged(0))
    assert run.give_back(0) == []
    run.handle(SlotsChanged(1))
    assert run.placed == [0]


# ---- the end of the run ----------------------------------------------------------------------------------------------


def test_scheduler_deadline_ends_what_runs_and_skips_the_rest() -> None:
    """At the deadline running attempts are cancelled, and what has not started never will."""
    run = CheckedScheduler([task(), task(), task(0)], slots=1, deadline=10.0)
    run.start()
    assert run.wakes_at() == 10.0
    assert run.pass_time(9.9) == []
    assert run.pass_time(10.0) == [
        SkipTask(1, SkipReason.DEADLINE),
        SkipTask(2, SkipReason.DEADLINE),
        CancelAttempt(1),
    ]
    assert run.wakes_at() is None
    assert run.fail(0) == [FailTask(0, 1)]
    assert run.scheduler.is_done


def test_scheduler_deadline_ends_retries() -> None:
    """A cancelled attempt is not made again, though a time-out could be retried."""
    run = CheckedScheduler([task(retries=3)], slots=1, deadline=1.0)
    run.start()
    run.pass_time(1.0)
    assert run.fail(0, retryable=True) == [FailTask(0, 1)]


def test_scheduler_deadline_ends_a_waiting_retry() -> None:
    """A task that failed and waits for its next attempt has failed; it is not skipped."""
    run = CheckedScheduler([task(retries=1, delays=(5.0,)), task(0)], slots=1, deadline=3.0)
    run.start()
    run.fail(0, retryable=True)
    assert run.wakes_at() == 3.0
    assert run.pass_time(3.0) == [FailTask(0, 1), SkipTask(1, SkipReason.DEPENDENCY, 0)]


def test_scheduler_result_after_the_deadline_counts() -> None:
    """An attempt that ended well before it could be killed has succeeded; nothing follows it."""
    run = CheckedScheduler([task(), task(0)], slots=1, deadline=1.0)
    run.start()
    run.pass_time(1.0)
    assert run.succeed(0) == [FinishTasks([0])]
    assert run.ended == {1: "skipped", 0: "succeeded"}


def test_scheduler_returned_attempt_after_the_deadline_is_skipped() -> None:
    """It never ran, and now it never will."""
    run = CheckedScheduler([task()], slots=1, deadline=1.0)
    run.start()
    run.pass_time(1.0)
    assert run.give_back(0) == [SkipTask(0, SkipReason.DEADLINE)]


def test_scheduler_deadline_that_has_passed_starts_nothing() -> None:
    """A run may begin too late."""
    run = CheckedScheduler([task(), task(0)], slots=1, deadline=0.0)
    assert run.start() == [SkipTask(0, SkipReason.DEADLINE), SkipTask(1, SkipReason.DEADLINE)]


def test_scheduler_deadline_is_seen_with_any_event() -> None:
    """An event that comes after the deadline starts nothing more, also when nobody told of the time."""
    run = CheckedScheduler([task(), task()], slots=1, deadline=5.0)
    run.start()
    run.now = 6.0
    assert run.succeed(0) == [FinishTasks([0]), SkipTask(1, SkipReason.DEADLINE)]


def test_scheduler_fail_fast_starts_nothing_more() -> None:
    """What runs may end, also well; the rest is skipped and names the task that failed."""
    run = CheckedScheduler([task(), task(), task(), task(1), task(0)], slots=2, fail_fast=True)
    run.start()
    assert run.fail(0) == [
        FailTask(0, 1),
        SkipTask(4, SkipReason.DEPENDENCY, 0),
        SkipTask(2, SkipReason.FAIL_FAST, 0),
        SkipTask(3, SkipReason.FAIL_FAST, 0),
        RecallAttempts(),
    ]
    assert run.succeed(1) == [FinishTasks([1])]
    assert run.scheduler.is_done


def test_scheduler_fail_fast_waits_for_the_last_attempt() -> None:
    """A failure that is retried stops nothing."""
    run = CheckedScheduler([task(retries=1), task()], slots=1, fail_fast=True)
    run.start()
    run.fail(0, retryable=True)
    run.succeed(0)
    assert run.placed == [1]


def test_scheduler_fail_fast_ends_the_retries_of_others() -> None:
    """Nothing starts any more: what fails now, or waits for a retry, has failed."""
    run = CheckedScheduler([task(), task(retries=1), task(retries=1, delays=(9.0,))], slots=3, fail_fast=True)
    run.start()
    run.fail(2, retryable=True)
    assert run.fail(0) == [FailTask(0, 1), FailTask(2, 1), RecallAttempts()]
    assert run.fail(1, retryable=True) == [FailTask(1, 1)]


def test_scheduler_deadline_holds_after_fail_fast() -> None:
    """What still runs when the run was stopped by a failure is ended at the deadline all the same."""
    run = Scheduler([task(), task()], slots=2, deadline=10.0, fail_fast=True)
    run.start(0.0)
    run.handle(AttemptFailed(1, FAILURE, retryable=False, measure=MEASURE), 1.0)
    assert run.wake_at == 10.0
    assert run.handle(TimePassed(), 10.0) == [CancelAttempt(2)]


def test_scheduler_broken_run_ends_every_task() -> None:
    """What runs is lost and nothing starts: tasks that never ran are skipped, those that failed so far have failed."""
    run = CheckedScheduler([task(), task(retries=1), task(0), task(retries=1, delays=(9.0,))], slots=3)
    run.start()
    run.fail(1, retryable=True)
    run.fail(3, retryable=True)
    run.handle(RunBroken(RuntimeError("no children")))
    assert run.ended == {2: "skipped", 3: "failed", 0: "skipped", 1: "failed"}
    assert {skip.reason for skip in run.skips.values()} == {SkipReason.BROKEN}
    assert run.scheduler.is_done


def test_scheduler_broken_run_keeps_what_has_succeeded() -> None:
    """The end of a task is final."""
    run = CheckedScheduler([task(), task(0)], slots=1)
    run.start()
    run.succeed(0)
    assert run.handle(RunBroken(RuntimeError("no children"))) == [SkipTask(1, SkipReason.BROKEN)]
    assert run.ended[0] == "succeeded"


def test_scheduler_broken_run_ends_what_fail_fast_left_running() -> None:
    """A run that was stopped already can still break."""
    run = CheckedScheduler([task(), task()], slots=2, fail_fast=True)
    run.start()
    run.fail(0)
    run.handle(RunBroken(RuntimeError("no children")))
    assert run.ended == {0: "failed", 1: "skipped"}


def test_scheduler_interrupted_run_ends_what_runs_and_skips_the_rest() -> None:
    """What runs is cancelled once, and its failure is not retried; what failed so far has failed."""
    run = CheckedScheduler([task(retries=3), task(), task(0), task(retries=1, delays=(9.0,))], slots=3, deadline=5.0)
    run.start()
    run.fail(3, retryable=True)
    commands = run.handle(RunInterrupted())
    assert [command for command in commands if isinstance(command, CancelAttempt)] == [
        CancelAttempt(run.attempt_of(0)),
        CancelAttempt(run.attempt_of(1)),
    ]
    assert run.ended == {2: "skipped", 3: "failed"}
    assert run.skips[2].reason is SkipReason.INTERRUPTED
    run.now = 6.0
    assert run.handle(RunInterrupted()) == []
    run.fail(0, retryable=True)
    run.succeed(1)
    assert run.ended == {2: "skipped", 3: "failed", 0: "failed", 1: "succeeded"}
    assert run.scheduler.is_done


# ---- values ----------------------------------------------------------------------------------------------------------


def test_scheduler_frees_a_value_after_its_last_consumer() -> None:
    """A result that the report does not keep is freed when the last task that may need it has ended."""
    run = CheckedScheduler([task(keep_result=False), task(0), task(0)], slots=2)
    run.start()
    run.succeed(0)
    assert run.succeed(1) == [FinishTasks([1])]
    assert run.succeed(2) == [FinishTasks([2]), ReleaseValue(0)]


def test_scheduler_frees_a_value_that_nobody_needs() -> None:
    """Without consumers it goes at once."""
    run = CheckedScheduler([task(keep_result=False)], slots=1)
    run.start()
    assert run.succeed(0) == [FinishTasks([0]), ReleaseValue(0)]


def test_scheduler_keeps_the_value_for_a_retry() -> None:
    """A consumer that failed and will be tried again still needs it."""
    run = CheckedScheduler([task(keep_result=False), task(0, retries=1)], slots=1)
    run.start()
    run.succeed(0)
    assert ReleaseValue(0) not in run.fail(1, retryable=True)
    assert run.fail(1, retryable=True) == [FailTask(1, 2), ReleaseValue(0)]


def test_scheduler_frees_a_value_whose_consumers_are_skipped() -> None:
    """A consumer that never runs needs nothing any more."""
    run = CheckedScheduler([task(keep_result=False), task(), task(0, 1)], slots=2)
    run.start()
    run.succeed(0)
    run.fail(1)
    assert run.released == [0]


def test_scheduler_never_frees_what_the_report_keeps() -> None:
    """A kept result stays, however many consumers have ended."""
    run = CheckedScheduler([task(), task(0)], slots=1)
    run.start()
    assert ReleaseValue(0) not in [*run.succeed(0), *run.succeed(1)]


def test_scheduler_frees_only_values_that_exist() -> None:
    """A task that failed, or has not ended yet, has no value to be freed."""
    run = CheckedScheduler([task(keep_result=False), task(keep_result=False), task(0, 1)], slots=2)
    run.start()
    assert [command for command in run.fail(1) if isinstance(command, ReleaseValue)] == []
    assert run.succeed(0)[-1] == ReleaseValue(0)


# ---- followers -------------------------------------------------------------------------------------------------------


def following(
    *specs: TaskSpec, slots: int, deadline: float | None = None, longest_first: bool = True
) -> CheckedScheduler:
    """A run that has begun, and has placed what may follow."""
    run = CheckedScheduler(specs, slots=slots, deadline=deadline, longest_first=longest_first)
    run.start()
    run.place_followers()
    return run


@pytest.mark.parametrize("longest_first", [True, False])
def test_scheduler_places_a_chain_as_far_as_there_is_room(longest_first: bool) -> None:
    """Each behind the one before it; when one has returned, the next in the chain finds room."""
    run = following(task(), task(0), task(1), task(2), slots=3, longest_first=longest_first)
    assert run.commands == [StartAttempt(2, 1, 1, follows=1), StartAttempt(3, 2, 1, follows=2)]
    assert run.succeed(0, 1) == [FinishTasks([0, 1])]
    assert run.place_followers() == [StartAttempt(4, 3, 1, follows=3)]
    assert run.succeed(2, 3) == [FinishTasks([2, 3])]


def test_scheduler_places_no_more_followers_than_there_is_room_behind() -> None:
    """Whatever else has room."""
    run = CheckedScheduler([task(), task(0), task(1), task(2)], slots=9)
    run.start()
    assert run.place_followers((1, 2)) == [StartAttempt(2, 1, 1, follows=1), StartAttempt(3, 2, 1, follows=2)]
    assert run.place_followers((3, 2)) == [StartAttempt(4, 3, 1, follows=3)]


def test_scheduler_places_ready_tasks_before_followers() -> None:
    """What can run at once goes first, and may take all the room."""
    run = following(task(), task(0), task(), task(), slots=3)
    assert run.placed == [0, 2, 3]
    run.succeed(2)
    run.place_followers()
    assert run.placed == [0, 3, 1]


def test_scheduler_places_one_follower_behind_an_attempt() -> None:
    """The others could run elsewhere as soon as it has returned."""
    run = following(task(), task(0), task(0), task(0), slots=4)
    assert run.placed == [0, 1]
    run.succeed(0)
    assert run.placed == [1, 2, 3]


def test_scheduler_lets_follow_that_on_which_most_wait() -> None:
    """The longest chain goes first here too."""
    run = following(task(), task(0), task(0), task(2), slots=2)
    assert run.placed == [0, 2]


def test_scheduler_lets_follow_what_waits_for_one_attempt_only() -> None:
    """With two missing there is none behind which it could run."""
    run = following(task(), task(), task(0, 1), slots=4)
    assert run.placed == [0, 1]
    run.succeed(0, 1)
    assert run.placed == [2]


def test_scheduler_follower_has_its_turn_where_the_order_is_kept() -> None:
    """Task 2 follows none, since it waits for two; what comes behind it in the order is not placed before it."""
    run = following(task(), task(0), task(0, 1), task(1), slots=9, longest_first=False)
    assert run.placed == [0, 1]
    run.succeed(0)
    assert run.place_followers() == []  # Nobody looks again at what may follow.
    run.succeed(1)
    assert run.placed == [2, 3]


def test_scheduler_follower_that_came_back_has_its_turn_again() -> None:
    """Where the order is kept, what comes behind it is not placed before it."""
    run = following(task(), task(0), task(), task(2), slots=3, longest_first=False)
    assert run.placed == [0, 2, 1]
    run.give_back(1)
    assert run.place_followers() == []
    run.succeed(0)
    assert run.placed == [2, 1]


def test_scheduler_follower_that_comes_back_waits_for_what_it_follows() -> None:
    """It is not placed again before that has returned, and then as any other."""
    run = following(task(), task(0), slots=2)
    assert run.give_back(1) == []
    assert run.place_followers() == []
    assert run.succeed(0) == [FinishTasks([0]), StartAttempt(3, 1, 1)]


def test_scheduler_follower_that_comes_back_late_starts_at_once() -> None:
    """What it was to follow has returned meanwhile."""
    run = following(task(), task(0), slots=2)
    run.succeed(0)
    assert run.give_back(1) == [StartAttempt(3, 1, 1)]


def test_scheduler_skips_the_follower_of_one_that_failed() -> None:
    """At once; that its attempt comes back later changes nothing."""
    run = following(task(), task(0), task(1), slots=3)
    culprit = SkipReason.DEPENDENCY
    assert run.fail(0) == [FailTask(0, 1), SkipTask(1, culprit, 0), SkipTask(2, culprit, 0)]
    assert run.give_back_attempt(2) == []
    assert not run.scheduler.is_done
    assert run.give_back_attempt(3) == []
    assert run.scheduler.is_done


def test_scheduler_keeps_what_a_follower_was_sent_until_it_is_back() -> None:
    """Its message may not have been sent yet, although the task has been skipped."""
    run = CheckedScheduler([task(keep_result=False), task(), task(0, 1)], slots=3, longest_first=True)
    run.start()
    run.succeed(0)
    run.place_followers()
    assert run.placed == [1, 2]
    assert run.fail(1) == [FailTask(1, 1), SkipTask(2, SkipReason.DEPENDENCY, 1)]
    assert run.give_back_attempt(3) == [ReleaseValue(0)]


def test_scheduler_retries_what_has_a_follower() -> None:
    """The follower comes back, and follows the next attempt."""
    run = following(task(retries=1), task(0), slots=2)
    run.fail(0, retryable=True)
    assert run.placed == [1, 0]
    assert run.give_back(1) == []
    assert run.place_followers() == [StartAttempt(4, 1, 1, follows=3)]
    run.succeed(0, 1)
    assert run.scheduler.is_done


def test_scheduler_ends_no_attempt_of_a_task_that_was_skipped() -> None:
    """It is not made anyway."""
    run = following(task(), task(0), task(), slots=3, deadline=5.0)
    run.fail(0)
    run.pass_time(5.0)
    assert run.cancelled == {2}


def test_scheduler_places_no_follower_once_the_run_is_stopped() -> None:
    """What runs may end; nothing starts behind it."""
    run = CheckedScheduler([task(), task(0), task()], slots=3, fail_fast=True)
    run.start()
    run.fail(2)
    assert run.place_followers() == []


# ---- events that do not fit ------------------------------------------------------------------------------------------

ABOUT_AN_ATTEMPT: list[Callable[[int], SchedulerEvent]] = [
    lambda attempt_id: AttemptStarted(attempt_id, 0.0),
    lambda attempt_id: AttemptsSucceeded((attempt_id,), (None,), (MEASURE,)),
    lambda attempt_id: AttemptFailed(attempt_id, FAILURE, retryable=True, measure=MEASURE),
    AttemptReturned,
]


@pytest.mark.parametrize("event", ABOUT_AN_ATTEMPT)
def test_scheduler_refuses_an_attempt_that_does_not_run(event: Callable[[int], SchedulerEvent]) -> None:
    """One that never was, that ended, or that was returned: each raises, and the error names it."""
    scheduler = Scheduler([task(), task(), task()], slots=2)
    scheduler.start(0.0)
    scheduler.handle(AttemptsSucceeded((1,), (None,), (MEASURE,)), 0.0)
    scheduler.handle(AttemptReturned(2), 0.0)
    for attempt_id in (0, 1, 2, 99):
        with pytest.raises(UnexpectedEventError, match=f"attempt {attempt_id} "):
            scheduler.handle(event(attempt_id), 0.0)


def test_scheduler_refused_events_change_nothing() -> None:
    """A run in which every event is followed by ones that do not fit goes as it goes without them."""
    for seed in SEEDS:
        plain, disturbed = RandomRun(seed), RandomRun(seed)
        plain.start()
        disturbed.start()
        while not plain.is_done:
            plain.step()
            for event in ABOUT_AN_ATTEMPT:
                with pytest.raises(UnexpectedEventError):
                    disturbed.run.scheduler.handle(event(10_000), disturbed.run.now + 1e9)
            disturbed.step()
        assert disturbed.log == plain.log, seed


def test_scheduler_takes_the_start_of_an_attempt() -> None:
    """It is no end: the slot stays taken."""
    run = CheckedScheduler([task(), task()], slots=1)
    run.start()
    assert run.handle(AttemptStarted(1, 0.0)) == []
    assert run.placed == [0]


# ---- a fault at every step -------------------------------------------------------------------------------------------


# (whether something ran, whether that is told before what is returned)
HOW_TO_BLAME = [(True, True), (True, False), (False, False)]


def events_in(seed: int) -> int:
    """How many events a random run has when no child is lost."""
    run = RandomRun(seed)
    run.start()
    count = 0
    while not run.is_done:
        run.step()
        count += 1
    return count


def play(seed: int, fault_at: int, fault: Callable[[RandomRun], None]) -> RandomRun:
    """A random run with a fault before event number `fault_at`."""
    run = RandomRun(seed)
    run.start()
    count = 0
    while not run.is_done:
        if count == fault_at:
            fault(run)
        if not run.is_done:
            run.step()
        count += 1
        assert count < 1000, "it goes on for ever"
    return run


@pytest.mark.parametrize("seed", SEEDS)
def test_scheduler_survives_a_child_lost_at_any_event(seed: int) -> None:
    """Whatever child is lost, when, and whether it ran something: every task ends once and every invariant holds."""
    for fault_at, child, (is_blamed, first_blame) in product(range(events_in(seed)), range(3), HOW_TO_BLAME):
        lose_it = partial(RandomRun.lose_child, number=child, is_blamed=is_blamed, first_blame=first_blame)
        assert play(seed, fault_at, lose_it).is_done


def test_scheduler_survives_a_run_that_breaks_at_any_event() -> None:
    """Whenever the backend gives up, every task has its end at once."""
    for seed in SEEDS:
        for fault_at in range(events_in(seed)):
            assert play(seed, fault_at, RandomRun.break_off).is_done


def test_scheduler_returned_attempts_change_no_outcome() -> None:
    """A child that is lost before it began anything costs time only: all tasks end as they would have."""
    for seed in SEEDS:
        undisturbed = play(seed, -1, RandomRun.break_off)
        if undisturbed.has_limit:
            continue  # What a deadline or the first failure stops depends on the order.
        for fault_at in range(events_in(seed)):
            run = play(seed, fault_at, lambda run: run.lose_child(0, is_blamed=False, first_blame=False))
            assert sorted(run.run.ended.items()) == sorted(undisturbed.run.ended.items()), (seed, fault_at)
            assert run.run.attempts == undisturbed.run.attempts, (seed, fault_at)


def test_scheduler_random_runs_meet_everything() -> None:
    """The random runs are worth their name: among them are retries, skips, stopped runs and freed values."""
    runs = [play(seed, -1, RandomRun.break_off) for seed in SEEDS]
    kinds = {type(command) for run in runs for command in run.log}
    assert kinds == {
        StartAttempt,
        FinishTasks,
        FailTask,
        SkipTask,
        RetryTask,
        ReleaseValue,
        CancelAttempt,
        RecallAttempts,
    }
    placed = [command for run in runs for command in run.log if isinstance(command, StartAttempt)]
    assert any(command.follows for command in placed)
    reasons = {skip.reason for run in runs for skip in run.run.skips.values()}
    assert reasons == {SkipReason.DEPENDENCY, SkipReason.DEADLINE, SkipReason.FAIL_FAST}
