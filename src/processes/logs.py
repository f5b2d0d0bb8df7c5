"""
A log record's trip: handler in the child, listener and files in the parent.

In the child, a handler on the root logger turns each record into plain data and puts it on the worker's channel before
the logging call returns, so the last words of a child that is killed a moment later are not lost. In the parent, one
`QueueListener` hands each record once to the task's logfile, once to the handlers that the user put on `task.logger`,
and once, subject to its levels, to the logger of its own name. Files are shared: one open file per path, however many
tasks write to it.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from processes.failure import bounded_repr
from processes.redaction import DEFAULT as DEFAULT_REDACTION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import TextIOWrapper

    from processes.error_data import ErrorData
    from processes.redaction import Redaction

#: Application's switch for everything this library logs itself: handlers and levels set on it are obeyed.
LIBRARY_LOGGER = "processes"

#: Queues a record: what delivers it, in the listener's thread, and the record.
Put = Callable[[Callable[[logging.LogRecord], object], logging.LogRecord], None]

LINE_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"

#: Types that a record's arguments and extras keep on their way; anything else becomes text in the child.
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})

#: What only the process that made it can use, or what `makeLogRecord` restores by itself.
_NOT_SENT = frozenset({"exc_info", "args", "msg", "message", "asctime"})

logging.getLogger(LIBRARY_LOGGER).addHandler(logging.NullHandler())


class TaskLogger(logging.Logger):
    """
    A task's own logger.

    It is not in logging's registry, where names stay for ever and every level set sweeps all of them. Its records go to
    its own handlers, then to the application as if the logger `processes` had made them: subject to its level.
    """

    def __init__(self, task_name: str) -> None:
        """Everything passes: handlers and the application's levels decide."""
        super().__init__(f"{LIBRARY_LOGGER}.{task_name}", logging.DEBUG)
        self.parent = logging.getLogger(LIBRARY_LOGGER)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  logging's name
        """As `logging.disable` says: the base class keeps answers, which only a registered logger is told to forget."""
        return self.manager.disable < level and level >= self.getEffectiveLevel()

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Own handlers first; the application's only where its level lets the record through."""
        for handler in self.handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
        if self.propagate and self.parent is not None and self.parent.isEnabledFor(record.levelno):
            self.parent.callHandlers(record)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        """In another process, the logger of that name: its handlers stay here."""
        return logging.getLogger, (self.name,)


class TaskFormatter(logging.Formatter):
    """A line per record; a failure's facts follow its first line, its traceback comes last."""

    def __init__(self) -> None:
        """The format of 7.0.4's files."""
        super().__init__(LINE_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """Put the facts of `record.task_context` between message and traceback."""
        context = getattr(record, "task_context", None)
        if not isinstance(context, dict):
            return super().format(record)
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        redaction: Redaction = getattr(record, "redaction", DEFAULT_REDACTION)
        facts = _failure_lines(context, redaction)
        return "\n".join([self.formatMessage(record), *facts, "", (record.exc_text or "").rstrip()])


def _failure_lines(context: dict[str, Any], redaction: Redaction) -> Iterator[str]:
    yield ""
    yield f"Function: {context['function']}"
    args = [redaction.text(bounded_repr(value)) for value in context["args"]]
    yield f"Args: ({', '.join(args)}{',' if len(args) == 1 else ''})"
    kwargs = [f"{name!r}: {redaction.value(name, bounded_repr(value))}" for name, value in context["kwargs"].items()]
    yield f"Kwargs: {{{', '.join(kwargs)}}}"
    yield f"Downstream impact: {', '.join(context['downstream_impact']) or '-'}"
    yield f"Traced vars location: {context['traced_vars_location'] or '-'}"
    if context["traced_vars"]:
        yield "Traced vars:"
        yield from (f"  {name} = {text}" for name, text in context["traced_vars"].items())


# ---- files -----------------------------------------------------------------------------------------------------------

_files: weakref.WeakValueDictionary[str, _LogFile] = weakref.WeakValueDictionary()
_files_lock = threading.Lock()


#: So many logfiles are open at a time, however many tasks have one of their own.
_OPEN_MAX = 64

_open_files: weakref.WeakKeyDictionary[_LogFile, None] = weakref.WeakKeyDictionary()  # in the order of opening


class _LogFile(logging.handlers.WatchedFileHandler):
    """A logfile: opened at its first record, after a rotation, and when it had to make room for others."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        with _files_lock:
            _open_files.pop(self, None)
            _open_files[self] = None
            oldest = list(_open_files)[:-_OPEN_MAX]
        for handler in oldest:
            handler.make_room()
        return stream

    def make_room(self) -> None:
        """Close the file until the next record, unless another thread writes just now: then the next one asks again."""
        if self.lock is None or not self.lock.acquire(blocking=False):
            return
        try:
            if self.stream is not None:
                self.stream.close()
                self.stream = None
            with _files_lock:
                _open_files.pop(self, None)
        finally:
            self.lock.release()

    def close(self) -> None:
        """Close the file; it opens again at the next record."""
        super().close()
        with _files_lock:
            _open_files.pop(self, None)


def file_handler(path: str) -> logging.Handler:
    """
    The handler of a logfile: the same one for everybody who names the same path.

    Its file is opened at the first record and again after a rotation or a `close()`.

    Raises:
        OSError: The file cannot be opened for appending.
    """
    with open(path, "a", encoding="utf-8"):
        pass  # It exists from now on, also where its task never runs.
    with _files_lock:
        handler = _files.get(path)
        if handler is None:
            handler = _LogFile(path)
            handler.setLevel(logging.INFO)
            handler.setFormatter(TaskFormatter())
            _files[path] = handler
        return handler


# ---- the parent's side -----------------------------------------------------------------------------------------------


class Destination:
    """Where the records of one task go: through the listener, to the handlers on its logger, in the order they came."""

    def __init__(
        self,
        logger: logging.Logger,
        task_name: str,
        put: Put,
        clock_offset: float,
        redaction: Redaction = DEFAULT_REDACTION,
    ) -> None:
        """
        Deliver to a task's logger.

        Args:
            logger: The task's.
            task_name: For the lines of our own.
            put: Queues a record for delivery.
            clock_offset: Seconds to add to CLOCK_MONOTONIC for seconds since the epoch.
            redaction: What is not to be shown.
        """
        self.logger = logger
        self._redaction = redaction
        self._name = task_name
        self._put = put
        self._offset = clock_offset
        self._is_announced = False

    def announce(self, at: float) -> None:
        """The task's first line, once, at the instant at which its first attempt began."""
        if not self._is_announced:
            self._is_announced = True
            self.line(logging.INFO, f"Starting {self._name}.", at)

    def line(self, level: int, message: str, at: float) -> None:
        """A line of our own about the task."""
        self._put(self.logger.handle, task_record(self.logger, level, message, at + self._offset))

    def failure(self, error: BaseException, data: ErrorData, at: float) -> None:
        """The one record that tells of the task's failure."""
        record = failure_record(self.logger, error, data, at + self._offset)
        record.redaction = self._redaction
        self._put(self.logger.handle, record)

    def local_record(self, record: logging.LogRecord) -> None:
        """A record that the task made in this process: the application has it already."""
        self._put(self._to_task, restore(safe_fields(record)))

    def remote_record(self, fields: dict[str, object]) -> None:
        """A record that the task made in a child: for the task's handlers, then for the logger of its own name."""
        self._put(self._to_both, restore(fields))

    def _to_task(self, record: logging.LogRecord) -> None:
        redact(record, self._redaction)
        for handler in self.logger.handlers:
            if record.levelno >= handler.level:
                handler.handle(record)

    def _to_both(self, record: logging.LogRecord) -> None:
        self._to_task(record)
        deliver_to_application(record)


def redact(record: logging.LogRecord, redaction: Redaction) -> None:
    """Take out of a record's text what looks like a secret."""
    text = record.getMessage()
    shown = redaction.text(text)
    if shown is not text:
        record.msg, record.args = shown, None
    if record.exc_text:
        record.exc_text = redaction.text(record.exc_text)


def deliver_to_application(record: logging.LogRecord) -> None:
    """A child's record to the logger of its own name, subject to its levels, as if it had been made here."""
    # A task's logger has no name in the registry, and must not get one.
    is_ours = record.name.startswith(f"{LIBRARY_LOGGER}.")
    own = logging.getLogger(LIBRARY_LOGGER if is_ours else record.name)
    if own.isEnabledFor(record.levelno):
        own.handle(record)


class Listener(logging.handlers.QueueListener):
    """The one thread that writes what children log. What a handler raises costs that record, not the others."""

    def __init__(self) -> None:
        """Wait on a queue of (deliver, record)."""
        super().__init__(queue.SimpleQueue())
        self.troubles: list[str] = []

    def handle(self, record: Any) -> None:  # noqa: ANN401  the base class says LogRecord; ours are pairs
        """Deliver one record."""
        deliver, made = record
        try:
            deliver(made)
        except Exception as trouble:  # noqa: BLE001  foreign handlers
            text = f"a log record could not be written: {type(trouble).__name__}: {trouble}"
            if text not in self.troubles:
                self.troubles.append(text)

    def put(self, deliver: Callable[[logging.LogRecord], object], record: logging.LogRecord) -> None:
        """Queue a record; never waits."""
        self.queue.put_nowait((deliver, record))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within this there is no thread; what is queued meanwhile is written afterwards."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def stop(self) -> None:
        """Write what is queued, then end the thread; safe to repeat."""
        if self._thread is not None:
            super().stop()


def task_record(logger: logging.Logger, level: int, message: str, at: float | None = None) -> logging.LogRecord:
    """A line of the library's own about a task, made at wall-clock time `at` (seconds since the epoch)."""
    record = logger.makeRecord(logger.name, level, "(processes)", 0, message, (), None)
    if at is not None:
        record.created, record.msecs = at, int(at % 1 * 1000)
    return record


def failure_record(logger: logging.Logger, error: BaseException, data: ErrorData, at: float) -> logging.LogRecord:
    """A task's failure: its facts as `task_context`, the exception or its stand-in as `exc_info`."""
    record = task_record(logger, logging.ERROR, data.exception, at)
    record.task_context = data.context()
    record.exc_info = (type(error), error, error.__traceback__)
    record.exc_text = data.traceback_str.rstrip()
    return record


def output_logger(task_name: str) -> str:
    """Name of the logger of what a task writes to its output."""
    return f"{LIBRARY_LOGGER}.{task_name}.output"


def snapshot() -> tuple[dict[str, tuple[int, bool, bool]], int]:
    """Levels and switches of every logger, as a child is to have them: (loggers, `logging.disable`)."""
    loggers = {"": (logging.root.level, True, logging.root.disabled)}
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (logger.level or not logger.propagate or logger.disabled):
            loggers[name] = (logger.level, logger.propagate, logger.disabled)
    return loggers, logging.root.manager.disable


# ---- the child's side ------------------------------------------------------------------------------------------------


class ShippingHandler(logging.Handler):
    """Turns each record of this process into plain data and sends it off before the logging call returns."""

    def __init__(self, ship: Callable[[dict[str, object]], None]) -> None:
        """`ship` takes a record's plain fields."""
        super().__init__()
        self._ship = ship

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; one that cannot be rendered arrives as text that says so."""
        self._ship(safe_fields(record))


def safe_fields(record: logging.LogRecord) -> dict[str, object]:
    """A record as plain data; one that cannot be rendered becomes one that says so."""
    try:
        return record_fields(record)
    except Exception as trouble:  # noqa: BLE001  foreign arguments
        shown = record.msg[:1000] if isinstance(record.msg, str) else f"<{type(record.msg).__name__}>"
        return {
            "name": record.name,
            "levelno": record.levelno,
            "levelname": record.levelname,
            "msg": f"(this record could not be rendered: {type(trouble).__name__}) {shown}",
            "args": None,
            "created": record.created,
            "msecs": record.msecs,
        }


def record_fields(record: logging.LogRecord) -> dict[str, object]:
    """A record as plain data: arguments that are no plain scalars are merged into the text, exceptions rendered."""
    fields = {
        name: value if type(value) in _SCALARS else str(value)
        for name, value in record.__dict__.items()
        if name not in _NOT_SENT
    }
    args = record.args
    if isinstance(record.msg, str) and (
        not args or (type(args) is tuple and all(type(value) in _SCALARS for value in args))
    ):
        fields["msg"], fields["args"] = record.msg, args or None
        if args:
            record.getMessage()  # A format that does not fit is found here, where it can be said.
    else:
        fields["msg"], fields["args"] = record.getMessage(), None
    if record.exc_info and not record.exc_text:
        fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
    return fields


def line_of(fields: dict[str, object]) -> str:
    """A record's level and message."""
    record = restore(fields)
    return f"{record.levelname} - {record.getMessage()}"


def restore(fields: dict[str, object]) -> logging.LogRecord:
    """The record again, in the parent."""
    return logging.makeLogRecord(fields)


def take_over(
    loggers: dict[str, tuple[int, bool, bool]], disabled: int, handler: logging.Handler, *, wants_info: bool
) -> None:
    """
    Make this process's logging that of the parent, with `handler` in the place of every handler.

    Where `wants_info`, INFO and above reach the handler even if the parent's root is set higher: a task's file wants
    them. Where nobody does, they are not even made.
    """
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers = []
    logging.root.handlers = [handler]
    for name, (level, propagate, is_disabled) in loggers.items():
        logger = logging.getLogger(name)
        logger.setLevel(level if name or not wants_info else min(level, logging.INFO))
        logger.disabled = is_disabled
        if name and not propagate:
            logger.propagate = False
            logger.handlers = [handler]
    logging.disable(disabled)


# ---- sequential and thread mode --------------------------------------------------------------------------------------


class _Current(threading.local):
    """The task that runs in this thread, if one does."""

    destination: Destination | None = None


_current = _Current()


class _ThreadHandler(logging.Handler):
    """Hands a record to the task of the thread that made it."""

    def emit(self, record: logging.LogRecord) -> None:
        destination = _current.destination
        # What was logged on the task's own logger has reached its handlers before it came here.
        if destination is not None and record.name != destination.logger.name:
            destination.local_record(record)


class _AtOwnLevel(logging.Filter):
    """Keeps from the application's handlers what its root level would have stopped."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= self._level or _has_own_level(record.name)


def _has_own_level(name: str) -> bool:
    """Whether the level of a logger, or of one above it, was set, so that the root's level never mattered."""
    while name:
        logger = logging.root.manager.loggerDict.get(name)  # Asking by `getLogger` would keep the name for ever.
        if isinstance(logger, logging.Logger) and logger.level:
            return True
        name = name.rpartition(".")[0]
    return False


_capture_lock = threading.Lock()
_captures = 0
_undo: Callable[[], None] | None = None


@contextlib.contextmanager
def thread_capture() -> Iterator[None]:
    """
    While this lasts, what a task logs in its own thread goes to the task's file too, from INFO on.

    Where the root level is higher it is lowered for the time, and the root's handlers are kept from what it would have
    stopped. Runs may overlap: the first begins it, the last ends it.
    """
    global _captures, _undo  # noqa: PLW0603  the root logger is global too
    with _capture_lock:
        _captures += 1
        if _captures == 1:
            _undo = _begin_capture()
    try:
        yield
    finally:
        with _capture_lock:
            _captures -= 1
            if _captures == 0 and _undo is not None:
                _undo()


def _begin_capture() -> Callable[[], None]:
    root, handler = logging.root, _ThreadHandler()
    level, filter_ = root.level, _AtOwnLevel(root.level)
    filtered = _application_handlers() if level > logging.INFO else []
    root.addHandler(handler)
    for other in filtered:
        other.addFilter(filter_)
    if level > logging.INFO:
        root.setLevel(logging.INFO)

    def undo() -> None:
        root.removeHandler(handler)
        handler.close()
        for other in filtered:
            other.removeFilter(filter_)
        if level > logging.INFO and root.level == logging.INFO:
            root.setLevel(level)

    return undo


def _application_handlers() -> list[logging.Handler]:
    named = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    return list({id(handler): handler for logger in (logging.root, *named) for handler in logger.handlers}.values())


@contextlib.contextmanager
def records_of(destination: Destination | None) -> Iterator[None]:
    """Within this, records made by this thread are the task's."""
    before, _current.destination = _current.destination, destination
    try:
        yield
    finally:
        _current.destination = before


def application_listens() -> bool:
    """Whether the library's own lines, of INFO, get as far as the application's handlers."""
    return logging.getLogger(LIBRARY_LOGGER).isEnabledFor(logging.INFO)


def wall_clock_offset() -> float:
    """Seconds to add to CLOCK_MONOTONIC for seconds since the epoch."""
    return time.time() - time.monotonic()


def absolute(path: str | os.PathLike[str]) -> str:
    """A logfile's path as it will be opened, wherever the program goes later."""
    return os.path.abspath(os.fspath(path))
