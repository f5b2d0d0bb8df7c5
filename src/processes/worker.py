"""
A child's main loop: a job in, one attempt, its outcome out. Runs in the child.

The page is written before anything of the job is unpickled, and the outcome is sent before the next job begins, so
that the parent knows at any instant, and after any death, which attempt this child was at.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import signal
import sys
import traceback
from time import monotonic
from typing import TYPE_CHECKING

from processes import blob, logs, wire
from processes.attempt import bind, caught
from processes.events import Measure
from processes.exceptions import UnpicklableError
from processes.failure import let_go
from processes.usage import OwnUsage, private_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processes.attempt import Raised
    from processes.blob import Value
    from processes.wire import Channel, Job, Message, Page, Setup

# Source: linux/prctl.h, prctl(2).
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

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


def main(channel: Channel, page: Page, setup: Setup, keeper_pid: int) -> None:
    """
    Set this process up as a worker and serve until it is killed.

    Args:
        channel: To and from the parent.
        page: Shared with the parent.
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
    _Worker(channel, page, setup).serve()


def _reseed() -> None:
    """Give numpy's global generator a state of its own: a fork copies it, and all would draw the same numbers."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        with contextlib.suppress(Exception):
            random.seed()


class _Worker:
    """One worker's state."""

    def __init__(self, channel: Channel, page: Page, setup: Setup) -> None:
        self._channel = channel
        self._page = page
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
        while True:
            try:
                message = self._channel.receive()
            except EOFError:
                return
            except KeyboardInterrupt:  # A SIGINT between two attempts is nobody's.
                continue
            if message is not None and message.is_torn:
                self._send(wire.encode(wire.REFUSED, message.id))
            elif message is not None:
                self._serve_job(message)

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
            self._send(wire.encode_success(attempt_id, measure, now.resident, value))
        else:
            fields, retryable = raised.failure.fields(), raised.retryable
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
                function = self._function(job)
                stage = "its arguments were loaded in the child"
                args, kwargs = _arguments(job)
                stage = ""
                result = function(*args, **kwargs)
                del args, kwargs
            except BaseException as error:  # noqa: BLE001  a task's SystemExit is the task's failure
                if stage:
                    _note(error, f"(raised while {stage})")
                return b"", self._captured(error, job)
            return _dump_result(result, job.name), None
        except BaseException as error:  # noqa: BLE001  a result's own code may raise anything
            return b"", self._captured(error, job)

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

    def _send(self, encoded: tuple[bytes, Sequence[int]]) -> None:
        datagram, descriptors = encoded
        try:
            self._channel.send(datagram, descriptors)
        finally:
            if wire.is_spilled(datagram):
                os.close(descriptors[-1])


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
        with contextlib.suppress(Exception):
            stream.flush()
