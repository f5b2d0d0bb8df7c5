"""
A log record's trip: handler in the child, listener and files in the parent.

In the child, a handler on the root logger turns each record into bytes and puts them on the worker's channel before
the logging call returns, so the last words of a child that is killed a moment later are not lost. In the parent, one
thread hands each record once to the task's logfile, once to the handlers that the user put on `task.logger`, and once,
subject to its levels, to the logger of its own name. Files are shared: one open file per path, however many tasks write
to it. What goes wrong on the way costs the record it befalls, for the one handler it befalls; it is said once on stderr
and in the report.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import logging.handlers
import os
import pickle
import queue
import resource
import sys
import threading
import time
import weakref
from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from processes.failure import bounded_repr, text_of
from processes.redaction import DEFAULT as DEFAULT_REDACTION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import TextIOWrapper
    from types import TracebackType

    from processes.error_data import ErrorData
    from processes.redaction import Redaction

#: Application's switch for everything this library logs itself: handlers and levels set on it are obeyed.
LIBRARY_LOGGER = "processes"

#: Queues what is to be delivered, records or records in bytes: what delivers one, in the listener's thread, and they.
Put = Callable[..., None]

LINE_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"

#: Types that a record's arguments and extras keep on their way; anything else becomes text in the child.
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})

logging.getLogger(LIBRARY_LOGGER).addHandler(logging.NullHandler())

#: Stands in `task.logger` for "no logfile"; one for all tasks, since each handler is kept in logging's own list.
NO_FILE = logging.NullHandler()


class TaskLogger(logging.Logger):
    """
    A task's own logger.

    It is not in logging's registry, where names stay for ever and every level set sweeps all of them. Its records go to
    its own handlers, then to the application as if the logger `processes` had made them: subject to its level.
    """

    def __init__(self, task_name: str) -> None:
        """Everything passes: handlers and the application's levels decide."""
        super().__init__(f"{LIBRARY_LOGGER}.{task_name}", logging.DEBUG)
        self.parent = _registered(LIBRARY_LOGGER)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  logging's name
        """As `logging.disable` says: the base class keeps answers, which only a registered logger is told to forget."""
        return self.manager.disable < level and level >= self.getEffectiveLevel()

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Own handlers first; the application's only where its level lets the record through."""
        if _here.destination is not None and _here.destination.logger is self:
            _here.destination.local_record(record)  # Behind what waits for the listener: "Starting" at the least.
        else:
            for handler in self.handlers:
                _give(handler, record)
        if self.propagate and self.parent is not None and self.parent.isEnabledFor(record.levelno):
            _call_handlers(self.parent, record)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, int]]:
        """In another process, the logger of that name and level: its handlers stay here."""
        return _logger_at, (self.name, self.level)


def _logger_at(name: str, level: int) -> logging.Logger:
    logger = logging.getLogger(name)
    logger.setLevel(level)
    return logger


class TaskFormatter(logging.Formatter):
    """A line per record; a failure's facts follow its first line, its traceback comes last."""

    def __init__(self) -> None:
        """The format of 7.0.4's files."""
        super().__init__(LINE_FORMAT)
        self._second = (-1, "")  # the second that was asked for last, and its text

    def format(self, record: logging.LogRecord) -> str:
        """As the base class, in half the time; the facts of `record.task_context` between message and traceback."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        line = _line(record.asctime, record.name, record.levelname, record.message)
        context = getattr(record, "task_context", None)
        if isinstance(context, dict):
            redaction: Redaction = getattr(record, "redaction", DEFAULT_REDACTION)
            return "\n".join([line, *_failure_lines(context, redaction), "", (record.exc_text or "").rstrip()])
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line = f"{line}\n{record.exc_text}"
        if record.stack_info:
            line = f"{line}\n{self.formatStack(record.stack_info)}"
        return line

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  logging's name
        """As the base class; a second has many records, and only its first one pays for the calendar."""
        return super().formatTime(record, datefmt) if datefmt else self.time(record.created, record.msecs)

    def time(self, created: float, msecs: float) -> str:
        """Seconds since the epoch, and the milliseconds among them, as a line has them."""
        second, text = self._second
        if second != int(created):
            second = int(created)
            text = time.strftime(self.default_time_format, self.converter(second))
            self._second = second, text
        return f"{text},{int(msecs):03}"


def _line(asctime: str, name: str, levelname: str, message: str) -> str:
    return f"{asctime} - {name} - {levelname} - {message}"


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


# ---- what goes wrong -------------------------------------------------------------------------------------------------


class Troubles:
    """What went wrong with records. Each kind is said once on stderr, and kept with the number of records it cost."""

    def __init__(self, redaction: Redaction = DEFAULT_REDACTION) -> None:
        """`redaction` says what is not to be shown of an error's text."""
        self._redaction = redaction
        self._lock = threading.Lock()  # tasks in threads have troubles too
        self._texts: dict[object, str] = {}  # {kind: how the first one was told}
        self._counts: dict[object, int] = {}

    def note(self, kind: object, text: str, count: int = 1) -> None:
        """Keep a trouble that cost `count` records; of the same kind only the first is said."""
        with self._lock:
            self._counts[kind] = self._counts.get(kind, 0) + count
            if kind in self._texts:
                return
            self._texts[kind] = text = self._redaction.text(text)
        # As logging itself: this switch of its says whether stderr is to hear of it.
        if logging.raiseExceptions:
            with contextlib.suppress(Exception):  # It may be closed, None, or on the disk that is full.
                sys.stderr.write(f"processes: {text}\n")

    def note_error(self, source: object, error: BaseException) -> None:
        """Keep an error that was raised in a handler, or in what it called."""
        kind = type(error.__cause__) if isinstance(error, LinesLostError) else type(error)
        count = error.count if isinstance(error, LinesLostError) else 1
        number = error.errno if isinstance(error, OSError) else None
        place = "" if isinstance(error, OSError) else _place_of(error.__traceback__)
        said = text_of(error)[:_SHOWN_MAX]
        text = f"{_NOT_WRITTEN}: {kind.__name__}{f': {said}' if said else ''}{place}"
        self.note((type(source), kind, number), text, count)

    @property
    def texts(self) -> list[str]:
        """What was said, each with the number of records it cost where that is more than one."""
        with self._lock:
            return [
                text if self._counts[kind] == 1 else f"{text} ({self._counts[kind]} records)"
                for kind, text in self._texts.items()
            ]


#: So much of a text that is not to be trusted, in characters.
_SHOWN_MAX = 1000

_NOT_WRITTEN = "a log record could not be written"
_NOT_RENDERED = "a log record could not be rendered"


def _place_of(traceback: TracebackType | None) -> str:
    if traceback is None:
        return ""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f" ({traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno})"


class _Here(threading.local):
    """What this thread does: the listener's, or one that runs a task."""

    #: The task that runs in it.
    destination: Destination | None = None
    #: Who is told of what goes wrong in handlers; None where logging itself is to tell.
    troubles: Troubles | None = None
    #: {file: None}, those that keep their lines until the listener has no more; None where each is written at once.
    batch: dict[_LogFile, None] | None = None


_here = _Here()


def _give(handler: logging.Handler, record: logging.LogRecord) -> None:
    """Hand a record to one handler. Whatever that raises is noted; the next one gets the record all the same."""
    if record.levelno < handler.level:
        return
    troubles = _here.troubles
    if troubles is None:
        handler.handle(record)
        return
    try:
        handler.handle(record)
    except BaseException as error:  # noqa: BLE001  foreign code; a SystemExit must not end the listener
        troubles.note_error(handler, error)


def _call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
    """As `Logger.callHandlers`, but what one handler raises is not another one's loss."""
    if type(logger).callHandlers is not logging.Logger.callHandlers:
        logger.callHandlers(record)
        return
    found, current = False, logger
    while True:
        for handler in current.handlers:
            found = True
            _give(handler, record)
        if not current.propagate or current.parent is None:
            break
        current = current.parent
    if not found and logging.lastResort is not None:
        _give(logging.lastResort, record)


def _hand_on(logger: logging.Logger, record: logging.LogRecord) -> None:
    """As `Logger.handle`, by `_call_handlers`."""
    if type(logger).handle is not logging.Logger.handle:
        logger.handle(record)
        return
    if logger.disabled:
        return
    kept: bool | logging.LogRecord = logger.filter(record)
    if kept:
        # Since 3.12 a filter may put another record in its place.
        _call_handlers(logger, kept if isinstance(kept, logging.LogRecord) else record)


_hearing_lock = threading.Lock()
_hearing = 0  # listeners that run
_handle_error = logging.Handler.handleError  # as it was before the first of them


def _note_handler_error(self: logging.Handler, record: logging.LogRecord) -> None:
    """`Handler.handleError` while a listener runs: elsewhere than in our threads it is what it always was."""
    error = sys.exc_info()[1]
    if _here.troubles is None or error is None:
        _handle_error(self, record)
    else:
        _here.troubles.note_error(self, error)


def _hear_handlers(by: int) -> None:
    """
    Hear of what handlers swallow, while there is a listener: `by` is 1 where one starts, -1 where one ends.

    A handler catches what goes wrong in its `emit` and leaves it to `handleError`, which writes a page to stderr for
    each record and tells nobody. One that has a `handleError` of its own is left to it.
    """
    global _hearing, _handle_error  # noqa: PLW0603  logging.Handler is global too
    with _hearing_lock:
        _hearing += by
        if _hearing == by == 1:
            _handle_error = logging.Handler.handleError
            logging.Handler.handleError = _note_handler_error  # type: ignore[method-assign]  # meant
        elif _hearing == 0 and logging.Handler.handleError is _note_handler_error:
            logging.Handler.handleError = _handle_error  # type: ignore[method-assign]  # as it was


# ---- files -----------------------------------------------------------------------------------------------------------

_files: weakref.WeakValueDictionary[str, _LogFile] = weakref.WeakValueDictionary()
_files_lock = threading.Lock()


#: So many logfiles are open at a time, however many tasks have one of their own; and a quarter of the descriptors that
#: the process may have, at most.
_OPEN_MAX = 64

_open_files: weakref.WeakKeyDictionary[_LogFile, None] = weakref.WeakKeyDictionary()  # in the order of opening


class _QuickHandler(logging.Handler):
    """A handler of our own, of which a logging call wants nothing but to emit: half of what the base class takes."""

    def handle(self, record: logging.LogRecord) -> bool:
        """As the base class."""
        if self.filters or self.lock is None:
            return bool(super().handle(record))
        with self.lock:
            self.emit(record)
        return True


class LinesLostError(OSError):
    """Lines could not be written to a logfile."""

    def __init__(self, number: int | None, text: str | None, path: str, count: int) -> None:
        """`count` lines of `path`."""
        super().__init__(number, text, path)
        self.count = count


class _LogFile(_QuickHandler, logging.handlers.WatchedFileHandler):
    """
    A logfile: opened at its first record, after a rotation, and when it had to make room for others.

    Whole lines are handed to the system in one call, so that nothing comes between them whoever else appends to the
    file. What the listener writes is kept until it has no more, a moment: a call of the system and a look whether the
    file was moved cost more than all else about a line.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self._waiting: list[bytes] = []
        self._is_torn = False  # the last line was written in part: the disk was full

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, or keep it for `write_waiting`."""
        try:
            self.write_line(self.format(record))
        except Exception:  # noqa: BLE001  a formatter of the user's, or the system
            self.handleError(record)

    def write_line(self, line: str) -> None:
        """Write it, or keep it for `write_waiting`; the handler's lock is held."""
        self._waiting.append(f"{line}{self.terminator}".encode("utf-8", "backslashreplace"))
        if _here.batch is None:
            self.write_waiting()
        else:
            _here.batch[self] = None

    def write_text(self, level: int, line: str) -> None:
        """What `handle` does with a record of that level which makes this line."""
        if level >= self.level and self.lock is not None:
            with self.lock:
                self.write_line(line)

    def write_waiting(self) -> None:
        """
        Write what was kept.

        Raises:
            LinesLostError: Some of it could not be written, and is not kept any longer.
        """
        assert self.lock is not None  # noqa: S101  made by the base class
        with self.lock:
            lines, self._waiting = self._waiting, []
            if lines:
                self._write(lines)

    def _write(self, lines: list[bytes]) -> None:
        data = b"".join([b"\n", *lines] if self._is_torn else lines)
        written = 0
        try:
            self.reopenIfNeeded()
            if self.stream is None:
                self.stream = self._open()
                self._statstream()
            while written < len(data):
                written += os.write(self.stream.fileno(), memoryview(data)[written:])
        except OSError as error:
            left, lost = len(data) - written, 0
            while left > 0 and lost < len(lines):
                lost += 1
                left -= len(lines[-lost])
            raise LinesLostError(error.errno, error.strerror, self.baseFilename, lost) from error
        finally:
            if written:
                self._is_torn = data[written - 1 : written] != b"\n"

    def _open(self) -> TextIOWrapper:
        try:
            stream = super()._open()
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            _close_oldest(0)
            stream = super()._open()
        with _files_lock:
            _open_files.pop(self, None)
            _open_files[self] = None
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        _close_oldest(_OPEN_MAX if soft == resource.RLIM_INFINITY else max(1, min(_OPEN_MAX, soft // 4)))
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


def _close_oldest(left_open: int) -> None:
    """Let so many logfiles stay open, those that were opened last."""
    with _files_lock:
        oldest = list(_open_files)
    for handler in oldest[: max(0, len(oldest) - left_open)]:
        handler.make_room()


def file_handler(path: str) -> logging.Handler:
    """
    The handler of a logfile: the same one for everybody who names the same path.

    Its file is opened at the first record and again after a rotation or a `close()`.

    Raises:
        OSError: The file cannot be opened for appending.
    """
    with _files_lock:
        handler = _files.get(path)
    if handler is not None and os.access(path, os.W_OK):  # A quarter of what opening it takes.
        return handler
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
        troubles: Troubles | None = None,
    ) -> None:
        """
        Deliver to a task's logger.

        Args:
            logger: The task's.
            task_name: For the lines of our own.
            put: Queues a record for delivery.
            clock_offset: Seconds to add to CLOCK_MONOTONIC for seconds since the epoch.
            redaction: What is not to be shown.
            troubles: Who is told what goes wrong in handlers while the task runs in this process.
        """
        self.logger = logger
        self.troubles = troubles
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
        logger = self.logger
        if not logger.isEnabledFor(level):
            return
        at += self._offset
        if self._is_only_for_file(logger, level):
            self._put(self._own_line, (level, message, at))
        else:
            self._put(self._own, task_record(logger, level, message, at))

    def failure(self, error: BaseException, data: ErrorData, at: float) -> None:
        """The one record that tells of the task's failure."""
        if self.logger.isEnabledFor(logging.ERROR):
            record = failure_record(self.logger, error, data, at + self._offset)
            record.redaction = self._redaction
            self._put(self._own, record)

    def local_record(self, record: logging.LogRecord) -> None:
        """A record that the task made in this process: the application has it already."""
        self._put(self._to_task, pack(record))

    def remote_records(self, packed: list[bytes]) -> None:
        """Records that the task made in a child: for the task's handlers, then for the logger of its own name."""
        self._put(self._to_both, *packed)

    def _is_only_for_file(self, logger: logging.Logger, level: int) -> bool:
        """Whether a record would come to nothing but a line of the task's file: then it need not be made."""
        return (
            self._plain_file() is not None
            and type(logger) is TaskLogger
            and not (logger.disabled or logger.filters)
            and not (logger.propagate and logger.parent is not None and logger.parent.isEnabledFor(level))
        )

    def _plain_file(self) -> tuple[_LogFile, TaskFormatter] | None:
        """The task's file and how it makes lines, where it is the only handler and nobody changed how it writes."""
        handlers = self.logger.handlers
        if len(handlers) != 1 or type(handlers[0]) is not _LogFile:
            return None
        file = handlers[0]
        formatter = file.formatter
        if type(formatter) is not TaskFormatter or file.filters:
            return None
        return (file, formatter) if logging.getLogRecordFactory() is logging.LogRecord else None

    def _own_line(self, line: tuple[int, str, float]) -> None:
        level, message, at = line
        plain = self._plain_file()
        if plain is None:  # Somebody changed something since.
            self._own(task_record(self.logger, level, message, at))
            return
        file, formatter = plain
        name, levelname = self.logger.name, logging.getLevelName(level)
        file.write_text(level, _line(formatter.time(at, at % 1 * 1000), name, levelname, message))

    def _own(self, record: logging.LogRecord) -> None:
        _hand_on(self.logger, record)

    def _to_task(self, packed: bytes) -> None:
        self._to_handlers(restore(packed))

    def _to_handlers(self, record: logging.LogRecord) -> None:
        redact(record, self._redaction)
        for handler in self.logger.handlers:
            _give(handler, record)

    def _to_both(self, packed: bytes) -> None:
        values = pickle.loads(packed)
        if not self._write_plain(values):
            record = _made_of(values)
            self._to_handlers(record)
            _to_application(record)

    def _write_plain(self, values: tuple[Any, ...]) -> bool:
        """
        Write a record that is a plain line to the task's file without making it anew, if nobody else is to have it.

        Most records are: this takes half the time. False where it has to be made.
        """
        plain = self._plain_file()
        if plain is None:
            return False
        msg, args, exc_text, name, levelname, levelno, stack_info, created, msecs, extras, trouble = _for_a_line(values)
        if exc_text or stack_info or extras or trouble or levelname.startswith(_UNNAMED_LEVEL):
            return False
        if _own_logger(name).isEnabledFor(levelno):
            return False
        file, formatter = plain
        if levelno >= file.level:
            message = self._redaction.text(msg % args if args else msg)
            file.write_text(levelno, _line(formatter.time(created, msecs), name, levelname, message))
        return True


def redact(record: logging.LogRecord, redaction: Redaction) -> None:
    """Take out of a record's text what looks like a secret."""
    text = record.getMessage()
    shown = redaction.text(text)
    if shown is not text:
        record.msg, record.args = shown, None
    if record.exc_text:
        record.exc_text = redaction.text(record.exc_text)


def deliver_to_application(packed: bytes, redaction: Redaction) -> None:
    """A child's record to the logger of its own name, subject to its levels, as if it had been made here."""
    record = restore(packed)
    redact(record, redaction)
    _to_application(record)


def _to_application(record: logging.LogRecord) -> None:
    own = _own_logger(record.name)
    if own.isEnabledFor(record.levelno):
        _hand_on(own, record)


def _own_logger(name: str) -> logging.Logger:
    """Where the application gets the records of a name."""
    own = logging.root.manager.loggerDict.get(name)
    if isinstance(own, logging.Logger):
        return own
    # A task's logger has no name in the registry, and must not get one.
    return _registered(LIBRARY_LOGGER if name.startswith(f"{LIBRARY_LOGGER}.") else name)


def _registered(name: str) -> logging.Logger:
    """As `logging.getLogger`, in a fifth of the time where there is one already."""
    known = logging.root.manager.loggerDict.get(name)
    return known if isinstance(known, logging.Logger) else logging.getLogger(name)


#: So long the listener keeps lines that it could write, in seconds, while more of them come.
_BATCH_S = 0.05


class Listener:
    """The one thread that writes what is logged. What goes wrong costs that record, not the others."""

    def __init__(self, redaction: Redaction = DEFAULT_REDACTION) -> None:
        """Nothing is written before `start`."""
        # (what delivers one, what is delivered); None ends the thread
        self._queue: queue.SimpleQueue[tuple[Callable[[Any], object], tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.troubles = Troubles(redaction)

    def put(self, deliver: Callable[[Any], object], *what: Any) -> None:  # noqa: ANN401  see Put
        """Queue deliveries; never waits."""
        self._queue.put((deliver, what))

    def start(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._deliver_all, name="processes-logs", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, then end the thread; safe to repeat."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within this there is no thread; what is queued meanwhile is written afterwards."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def _deliver_all(self) -> None:
        _here.troubles = self.troubles
        _hear_handlers(1)
        try:
            while self._deliver_batch():
                pass
        finally:
            _hear_handlers(-1)

    def _deliver_batch(self) -> bool:
        """Wait for a delivery, make it and those behind it, and write the files; False where there will be no more."""
        batch: dict[_LogFile, None] = {}
        _here.batch = batch
        item = self._queue.get()
        until = time.monotonic() + _BATCH_S
        try:
            while item is not None:
                self._deliver(*item)
                if time.monotonic() >= until:
                    break
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        for file in batch:
            try:
                file.write_waiting()
            except Exception as error:  # noqa: BLE001  the system; or somebody closed its stream
                self.troubles.note_error(file, error)
        return item is not None

    def _deliver(self, deliver: Callable[[Any], object], whats: tuple[Any, ...]) -> None:
        for what in whats:
            try:
                deliver(what)
            except BaseException as error:  # noqa: BLE001  foreign code: a filter on a logger, a logger's own class
                self.troubles.note_error(deliver, error)


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


def output_record(task_name: str, line: str) -> bytes:
    """A line that a task wrote to its output, packed as a record of now."""
    name = f"{LIBRARY_LOGGER}.{task_name}.output"
    return pack(logging.LogRecord(name, logging.INFO, "(output)", 0, line, None, None))


# ---- the child's side ------------------------------------------------------------------------------------------------


class ShippingHandler(_QuickHandler):
    """Turns each record of this process into bytes and sends them off before the logging call returns."""

    def __init__(self, ship: Callable[[bytes], None]) -> None:
        """`ship` takes a packed record."""
        super().__init__()
        self._ship = ship

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; one that cannot be rendered or sent arrives as text that says so, if anything does."""
        packed = pack(record)
        try:
            self._ship(packed)
        except Exception as error:  # noqa: BLE001  the task's own logging call must not fail for it
            # Likely too long for the channel, and no descriptor or memory is left for the way around it.
            try:
                self._ship(_pack_trouble(record, error))
            except Exception:  # noqa: BLE001  as above
                self.handleError(record)


#: What every record has, in the order of its making, but what is rendered before it is sent.
_FIELDS = tuple(
    name
    for name in vars(logging.LogRecord("", 0, "", 0, "", (), None))
    if name not in {"msg", "args", "exc_info", "exc_text"}
)
_values_of = itemgetter(*_FIELDS)

#: What a record may have beside them that is not sent: what a formatter of this process left.
_NO_EXTRAS = frozenset({*_FIELDS, "msg", "args", "exc_info", "exc_text", "message", "asctime"})

_MADE = len(_FIELDS) + 4


#: A record's fields in the order in which they travel. Behind them come what the user put on it, a dict or None, and
#: what was wrong with it, to be said in the parent: (kind, text) or None.
_ALL_FIELDS = ("msg", "args", "exc_info", "exc_text", *_FIELDS)

#: Of what travels, what a line of a logfile is made of, or shows that it is not plain.
_for_a_line = itemgetter(
    *map(_ALL_FIELDS.index, ("msg", "args", "exc_text", "name", "levelname", "levelno", "stack_info", "created")),
    _ALL_FIELDS.index("msecs"),
    len(_ALL_FIELDS),
    len(_ALL_FIELDS) + 1,
)

#: How `logging.getLevelName` begins where a level has no name.
_UNNAMED_LEVEL = "Level "


def pack(record: logging.LogRecord) -> bytes:
    """
    A record as bytes that need none of the user's classes to be read.

    Arguments that are no plain scalars are merged into the text, exceptions rendered; a record that cannot be rendered
    becomes one that says so.
    """
    try:
        return pickle.dumps(_packed(record), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001  foreign arguments
        return _pack_trouble(record, error)


def _packed(record: logging.LogRecord) -> tuple[object, ...]:
    fields = record.__dict__
    values: tuple[object, ...] = _values_of(fields)
    if not _PLAIN.issuperset(map(type, values)):
        values = tuple(map(_plain, values))
    msg, args = record.msg, record.args
    if type(msg) is not str or (args and not (type(args) is tuple and _PLAIN.issuperset(map(type, args)))):
        msg, args = record.getMessage(), None
    elif args:
        record.getMessage()  # A format that does not fit is found here, where it can be said.
    exc_text = record.exc_text
    if record.exc_info and not exc_text:
        exc_text = logging.Formatter().formatException(record.exc_info)
    extras = None
    if len(fields) != _MADE:
        extras = {str(name): _plain(value) for name, value in fields.items() if name not in _NO_EXTRAS}
    return msg, args, None, exc_text, *values, extras, None


def _plain(value: object) -> object:
    """The value, where it is a plain scalar or one by descent; else its text."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, int):  # A level of an IntEnum: a handler compares it.
        return int(value)
    return float(value) if isinstance(value, float) else str(value)


def _pack_trouble(record: logging.LogRecord, error: Exception) -> bytes:
    """A record that stands for one that could not be packed or sent."""
    shown = record.msg[:_SHOWN_MAX] if isinstance(record.msg, str) else f"<{type(record.msg).__name__}>"
    name = type(error).__name__
    values = [_plain_or_none(record.__dict__.get(field)) for field in _FIELDS]
    msg = f"(this record could not be rendered: {name}) {shown}"
    text = f"{_NOT_RENDERED}: {name}: {text_of(error)[:_SHOWN_MAX]} ({record.pathname}:{record.lineno})"
    return pickle.dumps((msg, None, None, None, *values, None, (name, text)), pickle.HIGHEST_PROTOCOL)


def _plain_or_none(value: object) -> object:
    try:
        return _plain(value)
    except Exception:  # noqa: BLE001  foreign
        return None


def restore(packed: bytes) -> logging.LogRecord:
    """The record again, in the parent."""
    return _made_of(pickle.loads(packed))


def _made_of(values: tuple[Any, ...]) -> logging.LogRecord:
    fields = dict(zip(_ALL_FIELDS, values))  # noqa: B905  two more come behind them; to say so takes 0.2 us
    extras, trouble = values[-2:]
    if extras:
        fields.update(extras)
    if logging.getLogRecordFactory() is logging.LogRecord:
        record = logging.LogRecord.__new__(logging.LogRecord)  # Its `__init__` looks up what is in the fields.
        record.__dict__ = fields
    else:
        record = logging.makeLogRecord(fields)  # What the application adds to every record is on this one too.
    if record.levelname.startswith(_UNNAMED_LEVEL):  # The parent may know its name.
        record.levelname = logging.getLevelName(record.levelno)
    if trouble is not None and _here.troubles is not None:
        _here.troubles.note((_NOT_RENDERED, trouble[0]), trouble[1])
    return record


def line_of(packed: bytes) -> str:
    """A record's level and message."""
    record = restore(packed)
    return f"{record.levelname} - {record.getMessage()}"


def take_over(
    loggers: dict[str, tuple[int, bool, bool]], disabled: int, handler: logging.Handler, *, wants_info: bool
) -> None:
    """
    Make this process's logging that of the parent, with `handler` in the place of every handler.

    Where `wants_info`, INFO and above reach the handler even if the parent's root is set higher: a task's file wants
    them. Where nobody does, they are not even made.
    """
    for logger in _named_loggers():
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


class _ThreadHandler(logging.Handler):
    """Hands a record to the task of the thread that made it."""

    def emit(self, record: logging.LogRecord) -> None:
        destination = _here.destination
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
    ends = [root, *(logger for logger in _named_loggers() if not logger.propagate)]  # where records stop
    for logger in ends:
        logger.addHandler(handler)
    for other in filtered:
        other.addFilter(filter_)
    if level > logging.INFO:
        root.setLevel(logging.INFO)

    def undo() -> None:
        for logger in ends:
            logger.removeHandler(handler)
        handler.close()
        for other in filtered:
            other.removeFilter(filter_)
        if level > logging.INFO and root.level == logging.INFO:
            root.setLevel(level)

    return undo


def _application_handlers() -> list[logging.Handler]:
    loggers = logging.root, *_named_loggers()
    return list({id(handler): handler for logger in loggers for handler in logger.handlers}.values())


def _named_loggers() -> list[logging.Logger]:
    registered = list(logging.root.manager.loggerDict.values())  # A copy, as other threads may make loggers.
    return [logger for logger in registered if isinstance(logger, logging.Logger)]


@contextlib.contextmanager
def records_of(destination: Destination | None) -> Iterator[None]:
    """Within this, records made by this thread are the task's."""
    before = _here.destination, _here.troubles
    _here.destination, _here.troubles = destination, None if destination is None else destination.troubles
    try:
        yield
    finally:
        _here.destination, _here.troubles = before


def application_listens() -> bool:
    """Whether the library's own lines, of INFO, get as far as the application's handlers."""
    return logging.getLogger(LIBRARY_LOGGER).isEnabledFor(logging.INFO)


def wall_clock_offset() -> float:
    """Seconds to add to CLOCK_MONOTONIC for seconds since the epoch."""
    return time.time() - time.monotonic()


def absolute(path: str | os.PathLike[str]) -> str:
    """
    A logfile's path as it will be opened, wherever the program goes later.

    Raises:
        FileNotFoundError: It is relative, and the working directory was removed.
    """
    try:
        return os.path.abspath(os.fspath(path))
    except FileNotFoundError as error:
        msg = "the working directory was removed, so a relative logfile has no place: give its whole path"
        raise FileNotFoundError(error.errno, msg, os.fspath(path)) from None
