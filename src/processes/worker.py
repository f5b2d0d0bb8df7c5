"""
A child's main loop: a job in, one attempt, its outcome out. Runs in the child.

The page is written before anything of the job is unpickled, and the outcome is in the page or on the channel before the
next job begins, so that the parent knows at any instant, and after any death, which attempt this child was at.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import errno
import functools
import gc
import math
import os
import select
import signal
import socket
import sys
import traceback

# What `signal.signal` wraps: twice an attempt 0.4 us instead of 5, which that takes to make an enum of the old handler.
from _signal import signal as _set_handler  # type: ignore[import-not-found]
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from processes import blob, failure, logs, wire
from processes.attempt import Profile, bind, call, is_retryable
from processes.exceptions import UnpicklableError
from processes.failure import Failure, let_go, text_of
from processes.output import Capture
from processes.page import LOGGED_S, MESSAGE_MAX, PagedJob
from processes.redaction import redaction_of
from processes.usage import PACKED_SIZE, START_TAKES_S, OwnUsage, pack_measure, private_bytes
from processes.watched import out_of_reach, tell_stacks
from processes.wire import Job
from processes.workplace import Workplace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from processes.blob import Value
    from processes.page import Page
    from processes.usage import Packed
    from processes.wire import Channel, Message, Setup

# Source: linux/prctl.h, prctl(2).
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

#: The outcome of an attempt shorter than this, in seconds, is not told at once: telling it takes 10 us and wakes the
#: parent, which takes 50, and the next attempt may be over by then.
_TELL_AFTER_S = 0.0002

#: The same while every worker has enough to do, and the parent looks into the page by itself. (Tasks of 1 ms on two
#: CPUs: 91 % of their time go to tasks, where each is told at once 87 %.)
_PATIENT_TELL_AFTER_S = 0.002

#: So long the outcome of a short attempt may stand in the page untold while others follow, in seconds; and that of one
#: which is not short, while the parent looks by itself.
_UNTOLD_S, _PATIENT_UNTOLD_S = 0.001, 0.004

#: A result up to this size, in bytes, whose classes are not the standard library's is loaded once to see whether it
#: can be: whoever reads it is not to find out. A larger one would take too long.
_TRIED_MAX = 8 * 2**20

#: Libraries beside the standard one whose classes need no trial.
_TRUSTED = frozenset({"numpy", "pandas", "pyarrow", "scipy", "polars"}) | sys.stdlib_module_names

#: The longest pickled result that goes into the page.
_SHORT_MAX = MESSAGE_MAX - len(wire.encode_short(0, bytes(PACKED_SIZE), 0, b""))

_libc = ctypes.CDLL(None)


_PLAIN = Profile()


class _Failed(NamedTuple):
    """An attempt that did not return."""

    failure: Failure
    retryable: bool
    #: The exception, where it survives pickling.
    exception: bytes | None


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Be sent a signal when the thread that started this process ends; 0 takes it back."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def become_subreaper() -> None:
    """Orphaned descendants become children of this process, so that they can be found."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reset_signals() -> None:
    """Python's own dispositions, and nothing blocked: what was inherited belongs to another program."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def redirect(descriptor: int, target: int) -> None:
    """Make `descriptor` mean what `target` means."""
    with contextlib.suppress(OSError):
        os.dup2(target, descriptor)


def main(channel: Channel, page: Page, page_fd: int, tokens: int, setup: Setup, keeper_pid: int) -> None:
    """
    Set this process up as a worker and serve until it is killed.

    Args:
        channel: To and from the parent.
        page: Shared with the parent.
        page_fd: The page's descriptor.
        tokens: Descriptor of the eventfd that counts the page's jobs.
        setup: The parent's paths, arguments and log levels.
        keeper_pid: The process that started this one, whose death is this one's.
    """
    os.setsid()
    become_subreaper()
    die_with_parent()
    if os.getppid() != keeper_pid:  # It died before the line above.
        os._exit(1)
    reset_signals()
    channel.socket = socket.socket(fileno=out_of_reach(channel.socket.detach()))
    page_fd, tokens = out_of_reach(page_fd), out_of_reach(tokens)
    tell_stacks(page_fd)
    redirect(2, setup.startup_stderr)
    sys.argv = list(setup.sys_argv)
    _reseed()
    # What the caller had in its context a fork has too.
    contextvars.Context().run(_Worker(channel, page, page_fd, tokens, setup).serve)


def _reseed() -> None:
    """Give numpy's global generator a state of its own: a fork copies it, and all would draw the same numbers."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        with contextlib.suppress(Exception):
            random.seed()


class _Worker:
    """One worker's state."""

    def __init__(self, channel: Channel, page: Page, page_fd: int, tokens: int, setup: Setup) -> None:
        self._channel = channel
        self._page = page
        self._page_fd = page_fd
        self._tokens = tokens
        self._inodes = self._own_inodes()
        self._taken = 0  # jobs that were taken from the page
        self._untold = False  # whether there is something in the page of which the parent has not been told
        self._untold_since = math.inf  # the first outcome of it
        self._logged_at = 0.0  # when it was told of log records last
        self._is_logging = False
        self._setup = setup
        self._pid = os.getpid()
        self._usage = OwnUsage()
        self._last = self._usage.read()
        self._attempt_id = 0
        # The last attempt that returned, if none has been made since, and its result if that is short.
        self._returned: tuple[int, bytes] = (0, b"")
        self._functions: dict[int, Value | Callable[..., object]] = {}  # pickled until the first use that succeeds
        self._profiles = {0: _PLAIN}
        self._output: Capture | None = None  # of what the attempt that runs writes

    def serve(self) -> None:
        """Get ready, then one job after another."""
        handler, setup = logs.ShippingHandler(self._ship_record), self._setup
        logs.take_over(setup.loggers, setup.logging_disabled, handler, wants_info=setup.wants_info)
        if not self._initialize():
            return
        _flush_output()
        redirect(2, self._setup.real_stderr)
        # A SIGINT between two attempts is nobody's.
        _set_handler(signal.SIGINT, _ignore)
        workplace = Workplace(self._page_fd, self._usage, is_fork=setup.start_method == "fork")
        gc.collect()
        self._last = self._usage.read()
        self._send(wire.encode_plain(wire.READY, 0, self._pid, private_bytes(self._pid), self._last.resident))
        try:
            self._serve_jobs(workplace)
        except (OSError, EOFError):
            if self._own_inodes() != self._inodes:
                self._page.say_cut_off()
            raise

    def _serve_jobs(self, workplace: Workplace) -> None:
        poll = select.poll()
        poll.register(self._tokens, select.POLLIN)
        while True:
            try:
                os.eventfd_read(self._tokens)
            except BlockingIOError:
                self._tell()
                poll.poll()
                continue
            job = self._page.job(self._taken)
            self._taken += 1
            if job.follows and job.follows != self._returned[0]:
                self._leave_out(job)
                continue
            seconds = self._serve_job(job, workplace)
            # Only now: nothing is left of the attempt's values, whose descriptors may have the numbers of others.
            left = workplace.put_back(seconds)
            if left:
                self._retire(job.attempt_id, left)
            if workplace.has_reaped:  # The CPU of those processes is not the next attempt's.
                self._last = self._usage.read()

    def _leave_out(self, job: PagedJob) -> None:
        """Say that an attempt is not made; the next one does not follow it either."""
        self._returned = (0, b"")
        if not job.function and not job.message:
            wire.close_all(self._receive(job.attempt_id).descriptors)
        self._send(wire.encode_plain(wire.UNMADE, job.attempt_id))

    def _retire(self, attempt_id: int, left: str) -> NoReturn:
        """Say what the attempt left, and begin nothing more: the parent kills this process."""
        self._send(wire.encode_plain(wire.SPOILED, attempt_id, left))
        while True:
            with contextlib.suppress(BaseException):  # What the task left may send signals.
                signal.pause()

    def _own_inodes(self) -> list[int]:
        """What the descriptors mean by which this process reaches its parent."""
        inodes = []
        for descriptor in (self._channel.socket.fileno(), self._page_fd, self._tokens):
            with contextlib.suppress(OSError):
                inodes.append(os.fstat(descriptor).st_ino)
        return inodes

    def _receive(self, attempt_id: int) -> Message:
        """The job that comes by the channel; those before it were taken back after they had been sent."""
        while True:
            message = self._channel.receive()
            if message is not None:
                if message.id == attempt_id:
                    return message
                wire.close_all(message.descriptors)

    def _initialize(self) -> bool:
        if self._setup.initializer is None:
            return True
        try:
            initializer, initargs = blob.load(self._setup.initializer)
            initializer(*initargs)
        except BaseException:  # noqa: BLE001  foreign code; whatever it raises, no attempt can be made
            self._send(wire.encode_plain(wire.UNFIT, 0, traceback.format_exc()))
            return False
        return True

    def _serve_job(self, paged: PagedJob, workplace: Workplace) -> float:
        """Make an attempt; returns the seconds that it took."""
        message = None if paged.function else self._message_of(paged)
        start = self._last
        self._usage.forget_peak(start)
        started_at = monotonic()
        self._attempt_id = attempt_id = paged.attempt_id
        self._page.write(attempt_id, started_at, start.cpu_user, start.cpu_system, start.resident)
        value, failed = self._attempt(paged if message is None else message, workplace)
        if monotonic() - started_at > START_TAKES_S and os.getpid() != self._pid:
            os._exit(0)  # The task forked and came back on both sides: only one of them is the worker.
        _flush_output()
        self._end_output()
        if "multiprocessing.process" in sys.modules:
            workplace.end_servers()
        ended_at = monotonic()
        now = self._last = self._usage.read(ended_at - started_at)
        measure = pack_measure(
            started_at,
            ended_at,
            self._pid,
            now.cpu_user - start.cpu_user,
            now.cpu_system - start.cpu_system,
            now.peak,
            now.resident - start.resident,
        )
        self._returned = (attempt_id, value) if failed is None and type(value) is bytes else (0, b"")
        if failed is None:
            self._send_success(attempt_id, measure, now.resident, value, started_at, ended_at)
        else:
            fields, retryable, exception = tuple(failed.failure), failed.retryable, failed.exception
            self._send(wire.encode_failure(attempt_id, measure, now.resident, fields, exception, retryable=retryable))
        self._attempt_id = 0
        return ended_at - started_at

    def _message_of(self, paged: PagedJob) -> Message:
        """The message of a job that is more than a call, from the page or from the channel."""
        return wire.message_of(paged.message) if paged.message else self._receive(paged.attempt_id)

    def _attempt(self, source: PagedJob | Message, workplace: Workplace) -> tuple[Value, _Failed | None]:
        """The result as a value, or what was raised."""
        if isinstance(source, PagedJob):
            job: PagedJob | Job = source
        elif source.is_cut:
            error = OSError(errno.EMFILE, "the child has no descriptor left for the values it was sent")
            return b"", self._captured(error, _PLAIN, ())
        else:
            job = wire.decode_job(source)
        stage = "its function was loaded in the child"
        injected: list[object] = []
        profile = _PLAIN
        try:
            try:
                _set_handler(signal.SIGINT, signal.default_int_handler)
                modules = len(sys.modules)
                profile = self._profile(job)
                if profile.capture_output:
                    self._begin_output()
                function = self._function(job)
                stage = "its arguments were loaded in the child"
                args, kwargs = _arguments(job, injected, self._returned[1])
                stage = ""
                if len(sys.modules) != modules:
                    workplace.note()
                result = contextvars.copy_context().run(call, function, args, kwargs)
                del args, kwargs
                injected.clear()
            except BaseException as error:  # noqa: BLE001  a task's SystemExit is the task's failure
                if stage:
                    _note(error, f"(raised while {stage})")
                return b"", self._captured(error, profile, injected)
            return _dump_result(result, job), None
        except BaseException as error:  # noqa: BLE001  a result's own code may raise anything
            return b"", self._captured(error, profile, injected)
        finally:
            _set_handler(signal.SIGINT, _ignore)

    def _captured(self, error: BaseException, profile: Profile, injected: Sequence[object]) -> _Failed:
        """
        What is known of an exception. The parent is told step by step, the sure things first.

        What comes later runs code of the user's (`__str__`, `__repr__`, `__reduce__`): if that hangs or ends this
        process, what was told stands.
        """
        if os.getpid() != self._pid:  # A fork that the task made and that raised: it has nothing to say.
            os._exit(1)
        found = failure.Capture(error, profile.frame_filter, redaction_of(profile.redact))
        retryable = is_retryable(error, profile.retry_on)
        if not found.is_plain:
            self._send_sure(found.type_and_place(), retryable=retryable)
        sure = found.text_and_traceback()
        self._send_sure(sure, retryable=retryable)
        whole = found.whole(sure, injected)
        let_go(error)
        return _Failed(whole, retryable, _surviving(error))

    def _send_sure(self, sure: Failure, *, retryable: bool) -> None:
        self._send(wire.encode_plain(wire.FAILING, self._attempt_id, retryable, tuple(sure)))

    def _profile(self, job: PagedJob | Job) -> Profile:
        """What else belongs to the task."""
        known = self._profiles.get(job.profile)
        if known is None:
            # Or the parent would not leave it out.
            assert isinstance(job, Job)  # noqa: S101
            assert job.profile_value is not None  # noqa: S101
            known = self._profiles[job.profile] = Profile(*blob.load(job.profile_value))
        return known

    # ---- what an attempt writes --------------------------------------------------------------------------------------

    def _begin_output(self) -> None:
        self._output = Capture()
        self._output.begin()
        self._send(wire.encode_plain(wire.OUTPUT, self._attempt_id, 0, descriptors=[self._output.fd]))

    def _tell_output(self) -> None:
        if self._output is not None:
            size = self._output.grown()
            if size is not None:
                self._send(wire.encode_plain(wire.OUTPUT, self._attempt_id, size))

    def _end_output(self) -> None:
        if self._output is not None:
            self._tell_output()
            self._output.end()
            self._output = None

    def _function(self, job: PagedJob | Job) -> Callable[..., object]:
        known = self._functions.get(job.function)
        if callable(known):
            return known
        if known is None and isinstance(job, Job):
            known = job.function_value
        if known is None:
            msg = f"function {job.function} was never sent"
            raise LookupError(msg)
        self._functions[job.function] = known  # Loading it may fail now and work for the next attempt.
        function: Callable[..., object] = blob.load(known)
        self._functions[job.function] = function
        return function

    def _ship_record(self, packed: bytes) -> None:
        """
        Put it into the page, where the parent finds it also if this process is killed now.

        A fork that the task made, which shares the page, takes the channel; and so does a signal's handler that logs
        while the record that it interrupted is being written. `logging.Handler` keeps other threads away.
        """
        self._tell_output()
        is_written = False
        if not self._is_logging and os.getpid() == self._pid:
            self._is_logging = True
            try:
                is_written = self._page.put_record(self._attempt_id, packed)
            finally:
                self._is_logging = False
        if not is_written:
            self._send(wire.encode_plain(wire.LOGGED, self._attempt_id, packed))
            return
        self._untold, now = True, monotonic()
        if now - self._logged_at > LOGGED_S:
            self._logged_at = now
            self._tell()

    def _send_success(
        self, attempt_id: int, measure: Packed, resident: int, value: Value, started_at: float, ended_at: float
    ) -> None:
        """Put it into the page if it is short, and tell of it soon."""
        if type(value) is not bytes or len(value) > _SHORT_MAX:
            self._send(wire.encode_success(attempt_id, measure, resident, value))
            return
        self._untold = True
        self._untold_since = min(self._untold_since, ended_at)
        self._page.put_outcome(wire.encode_short(attempt_id, measure, resident, value))
        took, waits = ended_at - started_at, ended_at - self._untold_since
        if took <= _TELL_AFTER_S:
            is_due = waits > _UNTOLD_S
        else:
            is_due = took > _PATIENT_TELL_AFTER_S or waits > _PATIENT_UNTOLD_S or not self._page.is_patient
        if is_due:
            self._tell()

    def _tell(self) -> None:
        """Say how much stands in the page."""
        if self._untold:
            self._untold, self._untold_since = False, math.inf
            datagram, _ = wire.encode(wire.TOLD, self._page.told)
            self._channel.send(wire.marked(datagram, self._page.written))

    def _send(self, encoded: tuple[bytes, Sequence[int]]) -> None:
        """Send a message, behind all that stands in the page."""
        self._tell()
        datagram, descriptors = encoded
        try:
            self._channel.send(wire.marked(datagram, self._page.written), descriptors)
        finally:
            if wire.is_spilled(datagram):
                os.close(descriptors[-1])


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing. Not SIG_IGN, which what the task starts would inherit."""


def _arguments(
    job: PagedJob | Job, injected: list[object], before: bytes
) -> tuple[tuple[object, ...], dict[str, object]]:
    """
    Arguments of the call.

    Args:
        job: Says what they are.
        injected: Results of dependencies are put there as well.
        before: What the attempt before it returned, pickled.
    """
    pickled = job.arguments
    if isinstance(job, PagedJob):
        args, kwargs = ((), {}) if pickled is None else blob.load(pickled)
        if job.takes_result:
            injected.append(blob.load(before))
            args += (injected[0],)
        return args, kwargs
    args, kwargs = ((), {}) if pickled is None else blob.load(pickled, _finder(job.shared) if job.shared else None)
    if not job.injected:
        return args, kwargs
    for _, value in job.injected:
        injected.append(blob.load(before if value is None else value))
    return bind(args, kwargs, [(how, value) for (how, _), value in zip(job.injected, injected, strict=True)])


def _finder(shared: Sequence[tuple[int, Value]]) -> Callable[[int], object]:
    """Loads an object that stands as a number in the arguments: once, however often it stands there."""
    values = dict(shared)
    return functools.cache(lambda number: blob.load(values[number]))


def _dump_result(result: object, job: PagedJob | Job) -> Value:
    """
    Pickle a result.

    Raises:
        UnpicklableError: It cannot be, or cannot be loaded again.
    """
    modules: set[str] = set()
    try:
        value = blob.dump(result, modules)
    except BaseException as error:
        raise UnpicklableError(job.name, "result", f"{type(error).__name__}: {error}") from error
    if modules and not all(module.partition(".")[0] in _TRUSTED for module in modules):
        _try_to_load(value, job.name)
    return value


def _try_to_load(value: Value, task_name: str) -> None:
    size = len(value) if isinstance(value, bytes) else value.size
    if size > _TRIED_MAX:
        return
    try:
        blob.load(value)
    except BaseException as error:
        reason = f"loading it again raised {type(error).__name__}: {error}"
        raise UnpicklableError(task_name, "result", reason) from error


def _surviving(error: BaseException) -> bytes | None:
    """The exception pickled, where it comes back as what it was."""
    try:
        pickled = blob.dump(error)
        if not isinstance(pickled, bytes):
            return None
        back = blob.load(pickled)
        return pickled if type(back) is type(error) and text_of(back) == text_of(error) else None
    except BaseException:  # noqa: BLE001  foreign code
        return None


def _note(error: BaseException, text: str) -> None:
    with contextlib.suppress(Exception):
        error.add_note(text)


def _flush_output() -> None:
    """A worker that is killed later must not take printed lines along."""
    # contextlib.suppress or a loop would cost more than the rest.
    try:  # noqa: SIM105
        sys.stdout.flush()
    except Exception:  # noqa: BLE001, S110  a stream that the task closed, or put there, or deleted
        pass
    try:  # noqa: SIM105
        sys.stderr.flush()
    except Exception:  # noqa: BLE001, S110
        pass
