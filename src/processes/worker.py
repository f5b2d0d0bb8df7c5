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
import gc
import os
import select
import signal
import sys
import traceback

# What `signal.signal` wraps: twice an attempt 0.4 us instead of 5, which that takes to make an enum of the old handler.
from _signal import signal as _set_handler  # type: ignore[import-not-found]
from time import monotonic
from typing import TYPE_CHECKING

from processes import blob, logs, wire
from processes.attempt import bind, call, caught
from processes.exceptions import UnpicklableError
from processes.failure import let_go
from processes.page import MESSAGE_MAX
from processes.usage import Measure, OwnUsage, private_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from processes.attempt import Raised
    from processes.blob import Value
    from processes.page import Page
    from processes.wire import Channel, Job, Message, Setup

# Source: linux/prctl.h, prctl(2).
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

#: The outcome of an attempt shorter than this, in seconds, is not told at once: telling it takes 10 us and wakes the
#: parent, and the next attempt may be over by then.
_TELL_AFTER_S = 0.0002

#: So long an outcome may stand in the page untold while attempts follow, in seconds.
_UNTOLD_S = 0.0005

_libc = ctypes.CDLL(None)


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


def main(channel: Channel, page: Page, tokens: int, setup: Setup, keeper_pid: int) -> None:
    """
    Set this process up as a worker and serve until it is killed.

    Args:
        channel: To and from the parent.
        page: Shared with the parent.
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
    redirect(2, setup.startup_stderr)
    sys.argv = list(setup.sys_argv)
    _reseed()
    # What the caller had in its context a fork has too.
    contextvars.Context().run(_Worker(channel, page, tokens, setup).serve)


def _reseed() -> None:
    """Give numpy's global generator a state of its own: a fork copies it, and all would draw the same numbers."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        with contextlib.suppress(Exception):
            random.seed()


class _Worker:
    """One worker's state."""

    def __init__(self, channel: Channel, page: Page, tokens: int, setup: Setup) -> None:
        self._channel = channel
        self._page = page
        self._tokens = tokens
        self._taken = 0  # jobs that were taken from the page
        self._untold = 0  # outcomes in the page, if the parent has not been told of all of them
        self._untold_since = 0.0
        self._setup = setup
        self._pid = os.getpid()
        self._usage = OwnUsage()
        self._last = self._usage.read()
        self._attempt_id = 0
        self._functions: dict[int, Value | Callable[..., object]] = {}  # pickled until the first use that succeeds
        self._profiles: dict[int, bytes] = {}  # pickled (frame filter, retry_on)

    def serve(self) -> None:
        """Get ready, then one job after another."""
        handler, setup = logs.ShippingHandler(self._ship_record), self._setup
        logs.take_over(setup.loggers, setup.logging_disabled, handler, wants_info=setup.wants_info)
        if not self._initialize():
            return
        gc.collect()
        self._last = self._usage.read()
        _flush_output()
        redirect(2, self._setup.real_stderr)
        self._send(wire.encode_plain(wire.READY, 0, self._pid, private_bytes(self._pid), self._last.resident))
        poll = select.poll()
        poll.register(self._tokens, select.POLLIN)
        # A SIGINT between two attempts is nobody's.
        _set_handler(signal.SIGINT, _ignore)
        while True:
            try:
                os.eventfd_read(self._tokens)
            except BlockingIOError:
                self._tell()
                poll.poll()
                continue
            attempt_id, datagram = self._page.job(self._taken)
            self._taken += 1
            self._serve_job(wire.message_of(datagram) if datagram else self._receive(attempt_id))

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

    def _serve_job(self, message: Message) -> None:
        start = self._last
        self._usage.forget_peak(start)
        started_at = monotonic()
        self._attempt_id = attempt_id = message.id
        self._page.write(attempt_id, started_at, start.cpu_user, start.cpu_system, start.resident)
        value, raised = self._attempt(message)
        if os.getpid() != self._pid:  # The task forked and came back on both sides: only one of them is the worker.
            os._exit(0)
        _flush_output()
        now = self._last = self._usage.read()
        measure = Measure(
            started_at,
            monotonic(),
            None,
            now.cpu_user - start.cpu_user,
            now.cpu_system - start.cpu_system,
            now.peak,
            now.resident - start.resident,
        )
        if raised is None:
            self._send_outcome(wire.encode_success(attempt_id, measure, now.resident, value), measure)
        else:
            fields, retryable = tuple(raised.failure), raised.retryable
            self._send(wire.encode_failure(attempt_id, measure, now.resident, fields, retryable=retryable))
        self._attempt_id = 0

    def _attempt(self, message: Message) -> tuple[Value, Raised | None]:
        """The result as a value, or what was raised."""
        if message.is_cut:
            return b"", caught(OSError(errno.EMFILE, "the child has no descriptor left for the values it was sent"))
        job = wire.decode_job(message)
        stage = "its function was loaded in the child"
        try:
            try:
                _set_handler(signal.SIGINT, signal.default_int_handler)
                function = self._function(job)
                stage = "its arguments were loaded in the child"
                args, kwargs = _arguments(job)
                stage = ""
                result = contextvars.copy_context().run(call, function, args, kwargs)
                del args, kwargs
            except BaseException as error:  # noqa: BLE001  a task's SystemExit is the task's failure
                if stage:
                    _note(error, f"(raised while {stage})")
                return b"", self._captured(error, job)
            return _dump_result(result, job.name), None
        except BaseException as error:  # noqa: BLE001  a result's own code may raise anything
            return b"", self._captured(error, job)
        finally:
            _set_handler(signal.SIGINT, _ignore)

    def _captured(self, error: BaseException, job: Job) -> Raised:
        if job.profile_value is not None:
            self._profiles[job.profile] = bytes_of(job.profile_value)
        frame_filter, retry_on = blob.load(self._profiles[job.profile]) if job.profile else (None, None)
        raised = caught(error, frame_filter, retry_on)
        let_go(error)
        return raised

    def _function(self, job: Job) -> Callable[..., object]:
        if job.profile_value is not None:
            self._profiles[job.profile] = bytes_of(job.profile_value)
        known = self._functions.get(job.function)
        if known is None and job.function_value is not None:
            known = self._functions[job.function] = job.function_value
        if isinstance(known, blob.Value):
            known = self._functions[job.function] = blob.load(known)
        if known is None:
            msg = f"function {job.function} was never sent"
            raise LookupError(msg)
        return known

    def _ship_record(self, fields: dict[str, object]) -> None:
        self._send(wire.encode_plain(wire.LOGGED, self._attempt_id, fields))

    def _send_outcome(self, encoded: tuple[bytes, Sequence[int]], measure: Measure) -> None:
        """Put it into the page if it is short, and tell of it soon."""
        if encoded[1] or len(encoded[0]) > MESSAGE_MAX:
            self._send(encoded)
            return
        ended_at = measure.ended_at
        if not self._untold:
            self._untold_since = ended_at
        self._untold = self._page.put_outcome(encoded[0])
        if ended_at - measure.started_at > _TELL_AFTER_S or ended_at - self._untold_since > _UNTOLD_S:
            self._tell()

    def _tell(self) -> None:
        if self._untold:
            count, self._untold = self._untold, 0
            self._channel.send(*wire.encode(wire.TOLD, count))

    def _send(self, encoded: tuple[bytes, Sequence[int]]) -> None:
        self._tell()
        datagram, descriptors = encoded
        try:
            self._channel.send(datagram, descriptors)
        finally:
            if wire.is_spilled(datagram):
                os.close(descriptors[-1])


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing. Not SIG_IGN, which what the task starts would inherit."""


def bytes_of(value: Value) -> bytes:
    """A value's bytes where it is known to be small."""
    assert isinstance(value, bytes)  # noqa: S101  a frame filter and a few classes
    return value


def _arguments(job: Job) -> tuple[tuple[object, ...], dict[str, object]]:
    args, kwargs = blob.load(job.arguments) if job.arguments is not None else ((), {})
    return bind(args, kwargs, [(how, blob.load(value)) for how, value in job.injected])


def _dump_result(result: object, task_name: str) -> Value:
    try:
        return blob.dump(result)
    except Exception as error:
        raise UnpicklableError(task_name, "result", f"{type(error).__name__}: {error}") from error


def _note(error: BaseException, text: str) -> None:
    with contextlib.suppress(Exception):
        error.add_note(text)


def _flush_output() -> None:
    """A worker that is killed later must not take printed lines along."""
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105  contextlib.suppress would cost more than the rest
            stream.flush()
        except Exception:  # noqa: BLE001, S110  a stream that the task closed, or put there
            pass
