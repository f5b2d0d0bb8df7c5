"""
Attempts in child processes of ours: dispatch, limits, take-back, replacement. Runs in the parent.

Who sees what: a worker finds its attempts in its page, or by a datagram on its own channel where they are long, and
answers the same ways, in order; it writes the attempt's id into its page before it touches the arguments. The keeper
tells who was started and who died, with exit status and resource usage. From page, channel and status together follows
what became of every attempt:

- an outcome that can be read from channel or page counts, also after the worker's death;
- the attempt that the page names and that has no outcome was running: it takes the blame, for its time-out, its memory
  limit, the run's deadline, or for the crash;
- all others never began: they go back to the scheduler and do not count.

Short attempts go several to a channel, so that a worker need not wait for a round trip; among them those that take the
result of the one before them (followers), which the worker has when it begins them. An attempt that has run for
LOOK_AFTER_S gets what lies behind it taken back. The loop never polls on a tick: it waits for messages, and for the
next instant at which some worker has to be looked at.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import sys
from time import monotonic
from typing import TYPE_CHECKING

from processes import blob, logs, system, usage, wire
from processes.attempt import is_retryable
from processes.backends.base import Backend
from processes.backends.prepared import Prepared
from processes.blob import MemoryFile, Value
from processes.child import Child, Placed
from processes.events import (
    AttemptFailed,
    AttemptReturned,
    AttemptsSucceeded,
    AttemptStarted,
    BackendEvent,
    RecordsLogged,
    RunBroken,
    StartAttempt,
    TroubleSeen,
)
from processes.exceptions import (
    MemoryLimitError,
    RemoteTaskError,
    TaskTimeoutError,
    UnpicklableError,
    WorkerCrashedError,
    WorkerStartError,
    signal_name,
)
from processes.failure import Failure, Stack, of_error, read_stack
from processes.launch import Launcher
from processes.page import CLOSED, LOGGED_S
from processes.spec import Injection
from processes.usage import Measure, Packed, measure_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processes.attempt import Call
    from processes.backends.options import ProcessPool
    from processes.launch import KeeperLink
    from processes.logs import Destination
    from processes.wire import Message

_SIGKILL = 9

#: An attempt that has run for this long is looked at: its start is reported, what lies behind it is taken back.
LOOK_AFTER_S = 0.005

#: Behind an attempt that may be long, outcomes may stand in the page of which the worker has not told; so soon a child
#: that has told nothing is looked at.
_LOOK_FIRST_S = 0.002

#: So much work, in seconds, is put into a channel at a time: several round trips, well below LOOK_AFTER_S.
_QUEUED_S = 0.004

#: Behind an attempt up to this length, in seconds, the next one waits all the same, so that its worker need not wait;
#: but no longer than 1.5 of that length, or LOOK_AFTER_S where another worker has nothing to do.
_BEHIND_BELOW_S = 0.012

#: And so many attempts at most: with fewer, parent and worker wake each other more often (at 64, 7 % fewer no-ops).
_DEPTH_MAX = 256

#: Attempts shorter than this, in seconds, fill one channel before the next: dispatching them takes longer than running
#: them, and every worker more that is woken for them takes the parent's CPU (on 2 CPUs 8,000 tasks a second spread,
#: 12,000 packed). What does not fit one channel goes to the next, so workers join in as soon as one does not keep up.
_PACK_BELOW_S = 0.0001

#: What one attempt counts for at most when the next ones' length is guessed: a long one must not slow the next hundred.
_DURATION_MAX_S = 4 * LOOK_AFTER_S

#: How often the memory of an attempt with a limit is read, in seconds.
_SAMPLE_EVERY_S = 0.020

#: So long a child may look for the locals of a failure that it has told of, in seconds.
_CAPTURE_S = 2.0

#: How often it is looked at what an attempt has written whose output is captured, in seconds.
_OUTPUT_EVERY_S = 0.1

#: A worker that idles this far above its first resident memory, in bytes, is replaced.
_IDLE_GROWTH_MAX = 64 * 2**20

#: How long a worker that was killed is waited for, in seconds.
_DEATH_WAIT_S = 5.0

#: So many children in a row may be killed before they end an attempt: whoever sends SIGKILL is somebody else, who may
#: stop. Of those that die otherwise two are enough, for the next would do the same.
_FALSE_STARTS_MAX = 20

#: How long the keeper may take to import one module before that is left to the workers, in seconds.
_IMPORT_MAX_S = 10.0


#: What an attempt takes that takes what the one before it returned, as most followers do.
_RESULT_BEFORE = ((Injection(True, None), None),)


class PoolBackend(Backend):
    """One run's children."""

    enforces = frozenset({"timeout", "memory_limit", "capture_output"})

    def __init__(self, options: ProcessPool, launcher: Launcher | None = None) -> None:
        """Take over a launcher of these options, which may have begun; nothing else is started before `open`."""
        self._options = options
        self._launcher = launcher or Launcher(options.start_method, options.max_workers)
        self._calls: Sequence[Call] = ()
        self._prepared = Prepared()
        self._wants_info = False
        self._keeper: KeeperLink | None = None
        self._keeper_ready = False
        self._keeper_deaths = 0
        self._importing: tuple[str, float] | None = None  # (module, since)
        self._left_out: set[str] = set()  # modules that the keeper is not to import
        self._children: dict[int, Child] = {}  # {child id: child}, the dying included
        self._next_child = 1
        self._false_starts = 0  # children in a row that died before they ended an attempt: see _FALSE_STARTS_MAX
        self._poll = select.epoll()
        self._is_woken = False  # `wait` is to return, with or without events
        self._is_patient = False  # what the pages of all children say
        self._is_pickling = False  # before the run: an interrupt ends it at once
        self._readers: dict[int, Callable[[], None]] = {}  # {descriptor: what to do when it is readable}
        self._events: list[BackendEvent] = []
        self._estimate: float | None = None  # seconds that an attempt takes of late
        self._depth = 1  # so many attempts go into one channel
        self.memory_budget = options.memory_budget
        self._held: dict[Child, int] = {}  # bytes that each child held above its start, when last looked at
        self._budget_at = math.inf  # when to look next
        self._full_at = 0  # with so many attempts placed there was no room for another; 0: there was
        self._unsent: set[Child] = set()  # children for which attempts were placed since the last wait
        self._grown: set[int] = set()  # ids of children that are to be replaced once they idle
        self._is_broken = False
        self._oom_kills: int | None = None  # of the system, when the run began
        self._spoilers: set[str] = set()  # tasks of which was said what they left

    # ---- the promise -------------------------------------------------------------------------------------------------

    @property
    def way(self) -> tuple[str, int | None, str]:
        """What the report says of it."""
        return "processes", self._launcher.max_workers, self._launcher.method

    @property
    def slots(self) -> int:
        """Room in all channels, those of children not yet started included, and in the budget."""
        if self._full_at:
            placed = sum(len(child.inflight) for child in self._children.values())
            if placed >= self._full_at:
                return placed
            self._full_at = 0
        depth = self._depth
        alive = taken = 0
        for child in self._children.values():
            if child.is_dying:
                taken += len(child.inflight)
            else:
                alive += 1
                taken += 1 if child.is_long else depth
        return taken + max(0, self._launcher.max_workers - alive) * depth

    @property
    def tails(self) -> Sequence[tuple[int, int]]:
        """The last attempt in each channel, where attempts are so short that several go into one."""
        if self._depth == 1:
            return ()
        return [
            (next(reversed(child.inflight)), self._depth - len(child.inflight))
            for child in self._children.values()
            if child.inflight and self._has_room_behind(child)
        ]

    def _has_room_behind(self, child: Child) -> bool:
        return len(child.inflight) < self._depth and not child.is_long and not child.is_dying

    def check(self, calls: Sequence[Call]) -> list[Exception]:
        """Pickle everything, and look at the program's threads."""
        problems: list[Exception] = []
        try:
            self._launcher.refuse_fork_with_threads()
        except ValueError as error:
            problems.append(error)
        return [*problems, *self._prepared.prepare(calls, self._options)]

    def open(self, calls: Sequence[Call], destinations: Sequence[Destination | None]) -> None:
        """Pickle everything, all refusals at once."""
        if not self._launcher.has_begun:
            self._launcher.begin()
        if self._launcher.trouble:
            self._events.append(TroubleSeen(self._launcher.trouble))
        self._take_keeper()
        if self.wakeup is not None:
            self._watch(self.wakeup.fileno(), self._heed_wakeup)
        self._calls = calls
        self._oom_kills = usage.oom_kills()
        self._wants_info = any(destination is not None for destination in destinations)
        try:
            self._is_pickling = True
            problems = self._prepared.prepare(calls, self._options)
        finally:
            self._is_pickling = False
        if problems:
            msg = "tasks cannot be sent to child processes"
            raise ExceptionGroup(msg, problems)
        self._prepare_keeper()

    def _fit_workers(self, count: int, why: str) -> None:
        """Have no more than so many workers from now on."""
        if count < self._launcher.max_workers:
            self._launcher.max_workers = count
            self._events.append(TroubleSeen(f"not more than {count} workers at a time: {why}"))

    def start(self, job: StartAttempt) -> None:
        """Place an attempt with the least busy child, or with a new one."""
        if self._is_broken:
            self._events.append(AttemptReturned(job.attempt_id))
            return
        task, prepared = job.task, self._prepared
        call, message = self._calls[task], prepared.calls[task]
        child = self._child_to_follow(job) if job.follows else None
        if job.follows and child is None:
            self._events.append(AttemptReturned(job.attempt_id))
            return
        arguments = None
        try:
            if message is None and prepared.large[task] is None:
                shared = prepared.shared if task in prepared.shared_by else None
                arguments = blob.dump((call.args, call.kwargs), shared=shared)
        except Exception as error:  # noqa: BLE001  foreign code; it could be pickled when the run began
            trouble = UnpicklableError(call.name, "an argument", f"{type(error).__name__}: {error}")
            now = monotonic()
            self._events.append(
                AttemptFailed(job.attempt_id, of_error(trouble), False, Measure(now, now), trouble, was_made=False)
            )
            return
        is_fit = self.memory_budget is None or self._has_budget_for(call, self.memory_budget)
        child = child or (self._choose_child() if is_fit else None)
        if child is None:
            self._events.append(AttemptReturned(job.attempt_id))
            return
        placed = Placed(job.attempt_id, call, job.number)
        if job.follows:
            placed.follows = job.follows
        if not child.inflight and child.is_ready:
            self._expect(child, placed, monotonic())
        self._unsent.add(child)
        function, profile = prepared.functions[task], prepared.profiles[task]
        takes_result = job.inputs == _RESULT_BEFORE
        is_known = function in child.functions and profile in child.profiles
        if message is not None and is_known and (takes_result or not job.inputs):
            child.place_call(placed, function, profile, prepared.name_lengths[task], takes_result, message)
        else:
            self._place(child, placed, job, arguments or prepared.arguments(task))

    def cancel(self, attempt_id: int, error: BaseException) -> None:
        """Kill the child that runs it; what was not received yet comes back unmade."""
        child = next((child for child in self._children.values() if attempt_id in child.inflight), None)
        if child is None:
            return
        self._take_back(child)
        if attempt_id in child.inflight:
            self._kill_attempt(child, attempt_id, error, only_if_running=False)

    def recall(self) -> None:
        """What the children have not begun."""
        for child in self._children.values():
            self._take_back(child)

    def wait(self, until: float | None) -> list[BackendEvent]:
        """Wait once for messages, deaths and the next instant at which a child has to be looked at."""
        for child_id in self._grown and list(self._grown):
            self._retire_grown(child_id)
        self._send_placed()
        self._be_patient()
        while not self._events:
            now = monotonic()
            next_at = self._next_check(until)
            for descriptor, _ in self._poll.poll(None if next_at == math.inf else max(0.0, next_at - now)):
                reader = self._readers.get(descriptor)
                if reader is not None:
                    reader()
            self._check_all()
            if self._is_woken or (until is not None and monotonic() >= until):
                break
        self._is_woken = False
        return self._take_events()

    def _take_events(self) -> list[BackendEvent]:
        events, self._events = self._events, []
        return events

    def interrupt(self, error: BaseException) -> None:
        """Wake the loop, which its wakeup has done already; before the run, end the pickling."""
        if self._is_pickling:
            raise error

    def _heed_wakeup(self) -> None:
        if self.wakeup is not None:
            self.wakeup.drain()
        self._is_woken = True

    @staticmethod
    def fetch(handle: object) -> object:
        """Unpickle a result, in the reader's thread."""
        return blob.load(handle)  # type: ignore[arg-type]  # a handle of ours is a Value

    def release(self, handle: object) -> None:
        """Free a large result's memory; whoever still maps it keeps its own view."""
        if isinstance(handle, MemoryFile):
            handle.close()

    def close(self) -> None:
        """Let go of the keeper, which kills every child and what they left; returns when all are gone."""
        self._read_keeper()
        if self._keeper is not None:
            # One that is still importing hears nothing, and has no worker yet.
            self._keeper.close(kill=not self._keeper_ready)
            self._keeper = None
        for child in self._children.values():
            child.close()
        self._children.clear()
        self._prepared = Prepared()
        self._poll.close()
        self._launcher.close()

    # ---- the keeper --------------------------------------------------------------------------------------------------

    def _take_keeper(self) -> None:
        keeper = self._launcher.take()
        self._keeper, self._keeper_ready, self._importing = keeper, False, None
        self._watch(keeper.channel.fileno(), self._read_keeper)
        self._watch(keeper.end, self._keeper_ended)

    def _prepare_keeper(self) -> None:
        """Let it import what the functions need, and start the workers that were asked for."""
        modules = blob.may_import_elsewhere(self._prepared.modules) if self._launcher.method == "forkserver" else []
        wanted = [name for name in modules if name not in self._left_out]
        self._order(wire.PREPARE, 0, wanted, self._prepared.initializer, self._wants_info)
        for child in self._children.values():
            if child.pid == 0:
                self._ask_for(child)

    def _read_keeper(self) -> None:
        while self._keeper is not None:
            try:
                message = self._keeper.channel.receive(wait=False)
            except (EOFError, OSError):  # Its end is told by the pidfd.
                self._unwatch(self._keeper.channel.fileno())
                return
            if message is None:
                return
            self._handle_keeper(message)

    def _handle_keeper(self, message: Message) -> None:
        if message.is_cut:
            self._break(WorkerStartError("the program has no descriptor left for another worker"))
            return
        facts = wire.decode_plain(message)
        match message.kind, facts:
            case wire.STARTED, (int(pid),):
                self._child_started(self._children[message.id], pid, message.descriptors[0])
            case wire.EXITED, (int(status), float(user), float(system), int(peak)):
                self._child_exited(self._children[message.id], status, user, system, peak)
            case wire.IMPORTING, (str(module),):
                self._importing = (module, monotonic()) if module else None
                self._keeper_ready = not module
            case wire.TAINTED, (str(module),):
                self._leave_out(module, "it starts threads")
            case _:
                msg = f"the keeper sent {message.kind} with {facts!r}"
                raise AssertionError(msg)

    def _leave_out(self, module: str, why: str) -> None:
        """Start another keeper, which does not import `module`; the workers will, and fail or not on their own."""
        self._left_out.add(module)
        self._events.append(TroubleSeen(f"module {module!r} is imported by each worker itself: {why}"))
        self._drop_keeper()
        self._start_another_keeper()

    def _start_another_keeper(self) -> None:
        try:
            with self.quiet():
                self._take_keeper()
            self._prepare_keeper()
        except (ValueError, WorkerStartError) as error:
            self._break(error if isinstance(error, WorkerStartError) else WorkerStartError(str(error)))

    def _drop_keeper(self) -> None:
        if self._keeper is not None:
            self._unwatch(self._keeper.channel.fileno())
            self._unwatch(self._keeper.end)
            self._keeper.close(kill=True)
            self._keeper = None

    def _keeper_ended(self) -> None:
        """The keeper died, and with it the workers: nobody is to blame, and one more is started, once."""
        self._read_keeper()  # What it told before counts.
        # If it told that it could not go on, another one has its place by now, and perhaps its descriptors.
        if self._keeper is None or not self._keeper.has_ended:
            return
        if self._importing is not None:
            self._leave_out(self._importing[0], "the process that was to import it died")
            return
        self._keeper_deaths += 1
        self._drop_keeper()
        self._lose_workers()
        if self._keeper_deaths > 1:
            self._break(
                WorkerStartError("the process that starts the workers died twice", stderr=self._launcher.stderr_text())
            )
            return
        self._events.append(TroubleSeen("the process that starts the workers died; another was started"))
        self._start_another_keeper()

    def _lose_workers(self) -> None:
        for child in list(self._children.values()):
            # One of which nothing was heard may have been started all the same, and have received what is gone now.
            child.kill()
            strays: set[int] = set()
            if child.pidfd >= 0:
                system.ends_within(child.pidfd, _DEATH_WAIT_S)
                strays = _kill_strays(child)
            self._drain(child)
            _reap({child.pid, *strays})
            self._return_all(child)
            self._remove(child)

    # ---- children ----------------------------------------------------------------------------------------------------

    def _count_durations(self, seconds: float, count: int) -> None:
        """Let what so many attempts took each decide how many go into one channel."""
        took = min(seconds, _DURATION_MAX_S)
        before = took if self._estimate is None else self._estimate
        estimate = self._estimate = took + 0.8**count * (before - took)
        # With a budget each is to wait here for its turn, which may not come soon.
        if self._options.max_tasks_per_child is None and self.memory_budget is None:
            least = 2 if estimate < _BEHIND_BELOW_S else 1
            self._depth = _DEPTH_MAX if estimate * _DEPTH_MAX < _QUEUED_S else max(round(_QUEUED_S / estimate), least)

    def _choose_child(self) -> Child | None:
        depth = self._depth
        if self._estimate is not None and self._estimate < _PACK_BELOW_S:
            packed = self._child_with_room()
            if packed is not None:
                return packed
        best, load, alive = None, _DEPTH_MAX + 1, 0
        for child in self._children.values():
            if child.is_dying:
                continue
            alive += 1
            count = len(child.inflight)
            if count < load and (count == 0 or count < (1 if child.is_long else depth)):
                best, load = child, count
                if count == 0:
                    return child
        if alive < self._launcher.max_workers:
            return self._start_child() or best
        if best is None:  # Room went while the attempt was on its way here.
            candidates = [child for child in self._children.values() if not child.is_dying]
            best = min(candidates, key=lambda child: (child.is_long, len(child.inflight)))
            if best.is_long:  # It is not to stay behind a long one: look again, and take it back.
                best.is_long = False
                best.check_at = monotonic() + LOOK_AFTER_S
        return best

    def _child_to_follow(self, job: StartAttempt) -> Child | None:
        """The child that will have made nothing else since the attempt that this one follows, if it takes one more."""
        if self._prepared.calls[job.task] is None:  # It is large: what it needs is not sent for a mere chance.
            return None
        for child in self._children.values():
            if job.follows in child.inflight:
                is_last = next(reversed(child.inflight)) == job.follows
                return child if is_last and self._has_room_behind(child) else None
        return None

    def _child_with_room(self) -> Child | None:
        for child in self._children.values():
            if self._has_room_behind(child):
                return child
        return None

    def _start_child(self) -> Child | None:
        try:
            child = Child(self._next_child)
        except OSError as error:
            alive = sum(not child.is_dying for child in self._children.values())
            if alive:
                self._fit_workers(alive, str(error))  # Or `slots` would offer again what cannot be had.
            else:
                self._break(WorkerStartError(f"no worker could be started: {error}"))
            return None
        self._next_child += 1
        self._children[child.id] = child
        child.page.is_patient = self._is_patient
        self._watch(child.channel.fileno(), lambda: self._read_child(child))
        self._ask_for(child)
        return child

    def _ask_for(self, child: Child) -> None:
        self._order(wire.START, child.id, descriptors=child.ends())

    def _order(self, kind: int, id_: int, *facts: object, descriptors: Sequence[int] = ()) -> None:
        """Tell the keeper."""
        if self._keeper is None:
            return
        datagram, sent = wire.encode_plain(kind, id_, *facts, descriptors=descriptors)
        try:
            with contextlib.suppress(OSError):  # Its end is told by its pidfd; the next one is asked again.
                self._keeper.channel.send(datagram, sent)
        finally:
            if wire.is_spilled(datagram):
                os.close(sent[-1])

    def _child_started(self, child: Child, pid: int, pidfd: int) -> None:
        child.pid, child.pidfd = pid, pidfd
        child.forget_end()
        if child.is_dying:
            child.kill()

    def _place(self, child: Child, placed: Placed, job: StartAttempt, arguments: Value | None) -> None:
        """Place an attempt with all that its child lacks."""
        prepared = self._prepared
        function, profile = prepared.functions[job.task], prepared.profiles[job.task]
        function_value = profile_value = None
        if function not in child.functions:
            placed.function, function_value = function, prepared.function_values[function]
        if profile not in child.profiles:
            placed.profile, profile_value = profile, prepared.profile_values[profile]
        placed.is_special = function_value is not None or profile_value is not None
        placed.datagram, placed.descriptors = wire.encode_job(
            job.attempt_id,
            placed.call.name,
            function,
            function_value,
            profile,
            profile_value,
            arguments,
            job.inputs,  # type: ignore[arg-type]  # handles of ours are Values
            prepared.shared_values(job.task),
        )
        if placed.descriptors:
            placed.keep = function_value, profile_value, arguments, job.inputs
        child.place(placed)

    def _send_placed(self) -> None:
        """Tell the children of what was placed since the last wait."""
        for child in self._unsent:
            child.flush()
            if child.outbox:
                self._poll.modify(child.channel.fileno(), select.EPOLLIN | select.EPOLLOUT)
        self._unsent.clear()

    def _be_patient(self) -> None:
        """Only where a worker has nothing to do be told outcomes at once, and look soon at what waits behind others."""
        busy = sum(bool(child.inflight) and not child.is_dying for child in self._children.values())
        is_patient = busy >= self._launcher.max_workers
        if is_patient == self._is_patient:
            return
        self._is_patient = is_patient
        now = monotonic()
        for child in list(self._children.values()):
            child.page.is_patient = is_patient
            if not is_patient and len(child.inflight) > 1:
                child.check_at = min(child.check_at, now)

    def _expect(self, child: Child, head: Placed, since: float) -> None:
        """Look at the child soon after its first attempt, which began at `since` at the earliest."""
        timeout = head.call.timeout
        child.check_at = since + (_LOOK_FIRST_S if timeout is None or timeout > _LOOK_FIRST_S else timeout)

    def _read_child(self, child: Child) -> None:
        if child.outbox:
            child.fill_channel()
            if not child.outbox:
                self._poll.modify(child.channel.fileno(), select.EPOLLIN)
        self._drain(child)

    def _drain(self, child: Child) -> None:
        """Handle everything that the child has sent, then the records and outcomes that stood in its page before."""
        try:
            # Outcomes first: the records that their attempts made were written before.
            told, written = child.page.told, child.page.written
            self._receive_all(child)
            self._take_records(child, written)
            self._take_outcomes(child, told)
        except Exception as error:  # noqa: BLE001  a task wrote where only we write, or its memory is corrupt
            self._events.append(
                TroubleSeen(f"worker {child.pid} sent what is no message: {type(error).__name__}: {error}")
            )
            child.order = (child.page.read()[0], error)
            child.kill()

    def _receive_all(self, child: Child) -> None:
        receive = child.channel.receive
        while True:
            try:
                message = receive(wait=False)
            except (EOFError, OSError):
                return
            if message is None:
                return
            self._handle_child(child, message)

    def _take_outcomes(self, child: Child, count: int, last_id: int = 0) -> None:
        """Take in what succeeded, down to an attempt if one is named: all at once, for there may be very many."""
        if child.told >= count:
            return
        ids: list[int] = []
        values: list[Value] = []
        measures: list[Measure | Packed] = []
        last, seconds = None, 0.0
        sealed = 0 if child.order is None else child.order[0]
        try:
            for outcome in child.page.outcomes(child.told, count):
                attempt_id, took, child.resident, measure, value = wire.decode_short(outcome)
                child.told += 1
                placed = None if attempt_id == sealed else child.inflight.pop(attempt_id, None)
                if placed is not None:
                    last = placed
                    seconds += took
                    ids.append(attempt_id)
                    values.append(value)
                    measures.append(self._note_success(child, placed, measure) if placed.is_special else measure)
                if attempt_id == last_id:
                    break
        finally:
            if last is not None:
                self._events.append(AttemptsSucceeded(ids, values, measures))
                self._count_ends(child, last, len(ids), seconds / len(ids), measure_of(measures[-1]).ended_at)

    def _take_records(self, child: Child, until: int) -> None:
        """Take in the log records that stand in its page up to a position, and listen for more."""
        if child.page.read_until >= until:
            return
        attempt_id, batch = 0, list[bytes]()
        try:
            for logged_by, record in child.page.records(until):
                if logged_by != attempt_id or not batch:
                    attempt_id, batch = logged_by, []
                    placed = child.inflight.get(attempt_id)
                    if placed is not None and placed.follows in child.inflight:
                        # It has returned, or this one would not have begun: its end is told before.
                        self._take_outcomes(child, child.page.told, placed.follows)
                    self._report_start(child, attempt_id)
                    self._events.append(RecordsLogged(attempt_id, batch))
                batch.append(record)
        finally:
            child.listen_at = monotonic() + LOGGED_S

    def _handle_child(self, child: Child, message: Message) -> None:
        kind = message.kind
        self._take_records(child, message.mark)
        if message.is_cut:
            self._handle_cut(child, message)
        elif kind == wire.SUCCEEDED:
            self._take_success(child, message)
        elif kind == wire.TOLD:
            self._take_outcomes(child, message.id)
        elif kind == wire.FAILED:
            measure, child.resident, retryable, fields, exception = wire.decode_failure(message)
            placed = self._end(child, message.id, measure)
            if placed is not None:
                failure = Failure(*fields)  # type: ignore[arg-type]  # its own fields, plain data
                measure = _with_sampled(measure, placed)
                self._events.append(AttemptFailed(message.id, failure, retryable, measure, handle=exception))
        elif kind == wire.FAILING:
            self._note_failing(child, message)
        elif kind == wire.OUTPUT:
            self._note_output(child, message)
        elif kind == wire.LOGGED:
            (record,) = wire.decode_plain(message)
            self._report_start(child, message.id)
            self._events.append(RecordsLogged(message.id, [record]))  # type: ignore[list-item]  # bytes, by our handler
        else:
            self._handle_other(child, message)

    def _take_success(self, child: Child, message: Message) -> None:
        measure, child.resident, value = wire.decode_success(message)
        placed = self._end(child, message.id, measure_of(measure))
        if placed is not None:
            self._events.append(
                AttemptsSucceeded((message.id,), (value,), (self._note_success(child, placed, measure),))
            )

    def _note_success(self, child: Child, placed: Placed, measure: Packed) -> Measure | Packed:
        """The child has what the attempt brought; returns the measure, with what was sampled of it."""
        if placed.function:
            child.functions.add(placed.function)
        if placed.profile:
            child.profiles.add(placed.profile)
        if placed.output is not None:
            self._close_output(child, placed, placed.output_end)
        return _with_sampled(measure_of(measure), placed) if placed.sampled else measure

    def _note_failing(self, child: Child, message: Message) -> None:
        """An attempt has failed: from now on its child has _CAPTURE_S to find out more."""
        placed = child.inflight.get(message.id)
        if placed is None:
            return
        retryable, fields = wire.decode_plain(message)
        placed.sure = retryable, fields  # type: ignore[assignment]  # a bool and the fields of a Failure
        if placed.sure_at == math.inf:
            placed.sure_at = monotonic()
        child.check_at = min(child.check_at, placed.sure_at + _CAPTURE_S)

    def _note_output(self, child: Child, message: Message) -> None:
        """What an attempt has written so far comes before what it tells next."""
        placed = child.inflight.get(message.id)
        (size,) = wire.decode_plain(message)
        if placed is None:
            wire.close_all(message.descriptors)
            return
        if message.descriptors:
            from processes.output import Reader  # No run needs it but those that capture output.

            placed.output, placed.is_special = Reader(message.descriptors[0]), True
            child.check_at = min(child.check_at, monotonic() + _OUTPUT_EVERY_S)
        placed.output_end = size  # type: ignore[assignment]  # our own worker's int
        self._take_output(child, placed, placed.output_end)

    def _take_output(self, child: Child, placed: Placed, until: int, *, is_last: bool = False) -> None:
        if placed.output is None:
            return
        lines = placed.output.lines(until, is_last=is_last)
        records = [logs.output_record(placed.call.name, line) for line in lines]
        if records:
            self._report_start(child, placed.attempt_id)
            self._events.append(RecordsLogged(placed.attempt_id, records))

    def _handle_other(self, child: Child, message: Message) -> None:
        if message.kind == wire.READY:
            self._child_ready(child, *wire.decode_plain(message))
        elif message.kind == wire.UNFIT:
            (text,) = wire.decode_plain(message)
            self._break(WorkerStartError("the pool's initializer failed", stderr=str(text)))
        elif message.kind == wire.SPOILED and not child.is_dying:
            (text,) = wire.decode_plain(message)
            self._take_back(child)  # It begins nothing more, so this is all it has.
            child.kill()
            self._say_spoiled(child, str(text))
        elif message.kind == wire.UNMADE and child.inflight.pop(message.id, None) is not None:
            self._events.append(AttemptReturned(message.id))
            self._await_next(child, monotonic())

    def _say_spoiled(self, child: Child, left: str) -> None:
        """Warn of the task that spoiled its child, once however often it does."""
        if child.last_task not in self._spoilers:
            self._spoilers.add(child.last_task)
            self._events.append(TroubleSeen(f"task {child.last_task!r} {left}: its child was replaced"))

    def _handle_cut(self, child: Child, message: Message) -> None:
        """What came had descriptors that this process had no room for: it is lost, and whose it was is known."""
        error = OSError(errno.EMFILE, "the program has no descriptor left to take what its child sent")
        now = monotonic()
        if message.kind in (wire.SUCCEEDED, wire.FAILED):
            measure = Measure(child.page.read()[1] if child.page.read()[0] == message.id else now, now, child.pid)
            if self._end(child, message.id, measure) is not None:
                self._events.append(AttemptFailed(message.id, of_error(error), False, measure, error))
        else:
            self._events.append(TroubleSeen(str(error)))

    def _child_ready(self, child: Child, *facts: object) -> None:
        child.is_ready = True
        # The keeper tells the pid too, but on another socket: outcomes may be read before that.
        child.pid, child.ready_private, child.ready_resident = facts  # type: ignore[assignment]  # our own worker's ints
        if child.inflight:
            self._expect(child, next(iter(child.inflight.values())), monotonic())

    def _end(self, child: Child, attempt_id: int, measure: Measure) -> Placed | None:
        """Count an attempt as ended; the next one in the channel has begun by now."""
        if child.order is not None and child.order[0] == attempt_id:
            return None  # Its fate was sealed before: a signal may have ended a sleep that C code was in.
        placed = child.inflight.pop(attempt_id, None)
        if placed is None:
            return None
        if placed.output is not None:
            self._close_output(child, placed, placed.output_end)
        self._count_ends(child, placed, 1, measure.ended_at - measure.started_at, measure.ended_at)
        return placed

    def _count_ends(self, child: Child, last: Placed, count: int, seconds: float, ended_at: float) -> None:
        """So many attempts have ended, which took so long each."""
        child.made += count
        child.last_task = last.call.name
        child.is_long = False
        self._false_starts = 0
        self._count_durations(seconds, count)
        self._await_next(child, ended_at)
        if self._options.max_tasks_per_child is not None and child.made >= self._options.max_tasks_per_child:
            child.kill()

    def _await_next(self, child: Child, since: float) -> None:
        """What a child holds next has begun by then; one that idles is not to hold much."""
        for head in child.inflight.values():
            self._expect(child, head, since)
            break
        else:
            child.check_at = math.inf
            if child.resident - child.ready_resident > _IDLE_GROWTH_MAX:
                self._grown.add(child.id)

    def _close_output(self, child: Child, placed: Placed, until: int) -> None:
        if placed.output is not None:
            self._take_output(child, placed, until, is_last=True)
            placed.output.close()
            placed.output = None

    def _retire_grown(self, child_id: int) -> None:
        """Nothing was placed with it since: it idles, and holds memory that it will not give back."""
        self._grown.discard(child_id)
        child = self._children.get(child_id)
        if child is not None and not child.inflight and not child.is_dying:
            child.kill()

    # ---- looking -----------------------------------------------------------------------------------------------------

    def _next_check(self, until: float | None) -> float:
        next_at = math.inf if until is None else until
        for child in self._children.values():
            next_at = min(next_at, child.check_at, child.listen_at)
        if self._importing is not None:
            next_at = min(next_at, self._importing[1] + _IMPORT_MAX_S)
        return min(next_at, self._budget_at)

    def _check_all(self) -> None:
        now = monotonic()
        for child in list(self._children.values()):
            if child.check_at <= now:
                self._look(child, now)
            elif child.listen_at <= now:
                child.listen_at = math.inf
                self._drain(child)
        if self._importing is not None and now >= self._importing[1] + _IMPORT_MAX_S:
            self._leave_out(self._importing[0], f"it took more than {_IMPORT_MAX_S:.0f} s")
        if now >= self._budget_at and self.memory_budget is not None:
            self._hold_to_budget(self.memory_budget)

    def _has_budget_for(self, call: Call, budget: int) -> bool:
        """Whether an attempt may start; one always may where no other runs, whatever it will need."""
        busy = [child for child in self._children.values() if child.inflight]
        heads = [next(iter(child.inflight.values())).call for child in busy]
        needed = sum(
            max(self._held.get(child, 0), head.memory_limit or 0) for child, head in zip(busy, heads, strict=True)
        )
        if busy and needed + (call.memory_limit or 1) > budget:
            self._full_at = len(busy)
            return False
        self._budget_at = min(self._budget_at, monotonic() + _SAMPLE_EVERY_S)
        return True

    def _hold_to_budget(self, budget: int) -> None:
        """Look what all children hold together; if it is too much, end those that idle, then the largest attempt."""
        held = self._held_by_each(sys.maxsize)
        if sum(held.values()) > budget:  # What forks share was counted more than once.
            held = self._held_by_each(0)
        for child in [child for child in held if not child.inflight and sum(held.values()) > budget]:
            if held.pop(child) > 0:
                child.kill()
        used = sum(held.values())
        if used > budget:
            largest = max((child for child in held if child.inflight), key=lambda child: held[child])
            head = next(iter(largest.inflight.values()))
            error = MemoryLimitError(head.call.name, budget, held[largest], used_by_all=used)
            self._kill_attempt(largest, head.attempt_id, error)
        if self._full_at and used < sum(self._held.values()):  # There may be room for another again.
            self._full_at, self._is_woken = 0, True
        self._held = held
        is_busy = any(child.inflight for child in self._children.values())
        self._budget_at = monotonic() + _SAMPLE_EVERY_S if is_busy else math.inf

    def _held_by_each(self, exact_above: int) -> dict[Child, int]:
        """{child: bytes that it and its descendants hold beside what it held when it was ready}."""
        return {
            child: max(0, usage.tree_private_bytes(child.pid, exact_above) - child.ready_private)
            for child in self._children.values()
            if child.is_ready and not child.is_dying
        }

    def _look(self, child: Child, now: float) -> None:
        """See what a child is at: report the start, take back what is stuck behind it, hold it to its limits."""
        self._drain(child)
        if not child.inflight or child.is_dying:
            child.check_at = math.inf  # What was to be looked at was taken back: without this the loop would spin.
            return
        head = next(iter(child.inflight.values()))
        running, since, *_ = child.page.read()
        if running != head.attempt_id:  # Not begun yet: the machine is busy.
            child.check_at = max(child.check_at, now + LOOK_AFTER_S)
            return
        self._report_start(child, running, since)
        if head.output is not None and self._look_at_output(child, head):
            return  # It has ended meanwhile.
        long_after = max(LOOK_AFTER_S, 1.5 * (self._estimate or 0.0)) if self._is_patient else LOOK_AFTER_S
        if now - since >= long_after and not child.is_long:
            child.is_long = True
            self._take_back(child)
        call = head.call
        if head.sure is not None:  # It has failed, in time; what its child looks for is not worth more than this.
            if now >= head.sure_at + _CAPTURE_S:
                error = RemoteTaskError("its failure", f"could not be looked at further within {_CAPTURE_S:.0f} s")
                self._kill_attempt(child, running, error)
                return
            child.check_at = head.sure_at + _CAPTURE_S
            return
        if call.timeout is not None and now - since >= call.timeout:
            self._kill_attempt(child, running, TaskTimeoutError.of_attempt(call.name, call.timeout))
            return
        if call.memory_limit is not None and now >= head.next_sample and self._sample(child, head, call.memory_limit):
            return
        child.check_at = min(
            since + long_after if not child.is_long else math.inf,
            math.inf if call.timeout is None else since + call.timeout,
            math.inf if call.memory_limit is None else head.next_sample,
            math.inf if head.output is None else now + _OUTPUT_EVERY_S,
        )

    def _look_at_output(self, child: Child, head: Placed) -> bool:
        """Take in what was written until now, behind whatever was logged before; whether the attempt has ended."""
        if head.output is not None:
            written = head.output.size()
            self._drain(child)
            self._take_output(child, head, written)
        return head.attempt_id not in child.inflight

    def _sample(self, child: Child, head: Placed, limit: int) -> bool:
        """Read the memory of an attempt with a limit; whether it was over."""
        held = usage.tree_private_bytes(child.pid, limit + child.ready_private)
        used = max(0, held - child.ready_private)
        head.sampled, head.is_special = max(head.sampled, used + child.ready_private), True
        head.next_sample = monotonic() + _SAMPLE_EVERY_S
        if used <= limit:
            return False
        self._kill_attempt(child, head.attempt_id, MemoryLimitError(head.call.name, limit, used))
        return True

    def _report_start(self, child: Child, attempt_id: int, since: float | None = None) -> None:
        placed = child.inflight.get(attempt_id)
        if placed is not None and not placed.seen:
            placed.seen = True
            self._events.append(AttemptStarted(attempt_id, child.page.read()[1] if since is None else since, child.pid))

    def _take_back(self, child: Child) -> None:
        for placed in child.take_back():
            self._events.append(AttemptReturned(placed.attempt_id))

    def _kill_attempt(
        self, child: Child, attempt_id: int, error: BaseException, *, only_if_running: bool = True
    ) -> None:
        """
        Kill a child for the attempt it runs, unless that has ended meanwhile.

        The child is stopped first: only then do its page and its channel agree, and an innocent attempt that has just
        begun is not hit. Once it is decided, it goes on for a moment to say where it is: nothing is left then that it
        could begin, and what it still says of the attempt comes too late.
        """
        child.stop()
        self._drain(child)
        placed = child.inflight.get(attempt_id)
        is_running = child.page.read()[0] == attempt_id
        if placed is None or (only_if_running and not is_running):
            child.go_on()
            return
        self._take_back(child)
        child.order = (attempt_id, error)
        if is_running and placed.sure is None:
            child.stacks_then = child.stacks(may_end_anywhere=self._launcher.method == "fork")
        child.kill()

    # ---- ends --------------------------------------------------------------------------------------------------------

    def _child_exited(self, child: Child, status: int, user: float, system: float, peak: int) -> None:
        """A child's end is confirmed: outcomes that can still be read count, then blame is laid."""
        self._drain(child)
        attempt_id, since, user_before, system_before, _ = child.page.read()
        placed = child.inflight.get(attempt_id)
        ordered = child.order
        is_blamed = ordered[0] == attempt_id if ordered is not None else not child.is_dying
        if placed is not None and is_blamed:
            self._report_start(child, attempt_id, since)
            if placed.output is not None:
                self._close_output(child, placed, placed.output.size())
            del child.inflight[attempt_id]
            cpu = max(0.0, user - user_before), max(0.0, system - system_before)
            self._blame(child, placed, status, Measure(since, monotonic(), child.pid, *cpu, peak, None, "wait4"))
        elif child.made == 0 and not child.is_dying:
            self._false_starts += 1 if status == -_SIGKILL else _FALSE_STARTS_MAX // 2
        elif child.page.is_cut_off and not child.is_dying:
            self._say_spoiled(child, CLOSED)
        self._return_all(child)
        self._remove(child)
        if self._false_starts >= _FALSE_STARTS_MAX:
            cause = f"workers die before they can run anything (the last with status {status})"
            self._break(WorkerStartError(cause, stderr=self._launcher.stderr_text()))

    def _blame(self, child: Child, placed: Placed, status: int, measure: Measure) -> None:
        """The attempt that was running when its child died takes the cause."""
        call, measure = placed.call, _with_sampled(measure, placed)
        if placed.sure is not None:
            retryable, fields = placed.sure
            failure = Failure(*fields)  # type: ignore[arg-type]  # its own fields, plain data
            failure = failure._replace(traced_vars={"...": _why_no_locals(child, status)})
            self._events.append(AttemptFailed(placed.attempt_id, failure, retryable, measure))
            return
        error: BaseException
        stack: Stack | None
        if child.order is not None:
            error, stack = child.order[1], _stack_when_stopped(child.stacks_then)
        else:
            seconds = measure.ended_at - measure.started_at
            error = WorkerCrashedError(
                call.name,
                status=status,
                pid=child.pid,
                seconds=seconds,
                peak_memory=measure.peak_memory,
                attempt=placed.number,
                hint=self._hint(child, status),
            )
            stack = read_stack(child.crash_stacks(), "The task's Python stack when it crashed:")
        retryable = is_retryable(error, call.retry_on)
        self._events.append(AttemptFailed(placed.attempt_id, of_error(error, stack), retryable, measure, error))

    def _hint(self, child: Child, status: int) -> str:
        if child.page.is_cut_off:
            return "The task had closed descriptors that it had not opened, so that its child could tell nothing more."
        return self._evidence() if status == -_SIGKILL else ""

    def _evidence(self) -> str:
        """Who sent a SIGKILL that nobody here sent: the kernel counts those of its out-of-memory killer."""
        kills, before = usage.oom_kills(), self._oom_kills
        if kills is not None and kills == before:
            return "Neither this library nor the system's out-of-memory killer sent it: the task or a program did."
        self._oom_kills = kills
        free = usage.available_memory()
        left = "" if free is None else f" ({free / 2**20:.0f} MiB are available now)"
        if kills is None or before is None:
            return f"This library did not send it: the system may have run out of memory, see dmesg{left}."
        return f"The system's out-of-memory killer struck meanwhile{left}: fewer workers or a memory_limit would help."

    def _return_all(self, child: Child) -> None:
        for placed in child.give_up():
            self._events.append(AttemptReturned(placed.attempt_id))

    def _remove(self, child: Child) -> None:
        self._unwatch(child.channel.fileno())
        self._unsent.discard(child)
        self._grown.discard(child.id)
        del self._children[child.id]
        child.close()

    def _break(self, error: WorkerStartError) -> None:
        """End the run: no children can be had."""
        if self._is_broken:
            return
        self._is_broken = True
        self._events.append(RunBroken(error))

    # ---- descriptors -------------------------------------------------------------------------------------------------

    def _watch(self, descriptor: int, reader: Callable[[], None]) -> None:
        self._poll.register(descriptor, select.EPOLLIN)
        self._readers[descriptor] = reader

    def _unwatch(self, descriptor: int) -> None:
        if self._readers.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._poll.unregister(descriptor)


def _stack_when_stopped(dump: str) -> Stack:
    stack = read_stack(dump, "Where the task was when it was stopped:")
    if stack is not None:
        return stack
    return Stack("(Where the task was when it was stopped is not known: it blocks signals, or no Python code ran.)")


def _why_no_locals(child: Child, status: int) -> str:
    if child.order is not None:
        return f"<not shown: looking at them took over {_CAPTURE_S:.0f} s>"
    how = f"was killed by {signal_name(-status)}" if status < 0 else f"exited with code {status}"
    return f"<not shown: the child {how} when it looked at them>"


def _with_sampled(measure: Measure, placed: Placed) -> Measure:
    """Where children of the task were sampled and held more than the worker's own peak, that is the peak."""
    if placed.sampled > (measure.peak_memory or 0):
        return measure._replace(peak_memory=placed.sampled, peak_source="sampled")
    return measure


def _kill_strays(child: Child) -> set[int]:
    """
    Kill what a dead worker left: without a keeper nobody else can find it. Returns their ids, and their sessions'.

    By its session, and by the worker's page, which every process that it forked has mapped still. One that called
    setsid and then exec'd something else is not found. Source: /proc/PID/maps, proc(5). A resource tracker is left to
    end by itself: it removes what the others left in /dev/shm.
    """
    import signal

    killed: set[int] = set()
    while True:
        found: set[int] = set()
        for pid in _all_pids() - killed - {os.getpid()}:
            with contextlib.suppress(OSError):
                session = os.getsid(pid)
                if session == child.pid or child.page_mark in _read(f"/proc/{pid}/maps"):
                    if not usage.is_resource_tracker(pid):
                        os.kill(pid, signal.SIGKILL)
                    found |= {pid, session}
        if not found:  # Nobody is left who could have forked while the others were looked for.
            return killed
        killed |= found


def _all_pids() -> set[int]:
    try:
        return {int(name) for name in os.listdir("/proc") if name.isdigit()}
    except OSError:  # There is no /proc.
        return set()


def _reap(pids: set[int]) -> None:
    """Reap those that were killed and are this program's since their keeper died, as all orphans are PID 1's."""
    limit = monotonic() + _DEATH_WAIT_S
    for pid in pids - {0}:
        with contextlib.suppress(OSError):  # It is another's, or gone.
            handle = system.open_process(pid)
            try:
                system.ends_within(handle, max(0.0, limit - monotonic()))
                os.waitpid(pid, os.WNOHANG)
            finally:
                os.close(handle)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
