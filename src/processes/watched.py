"""
What a task may change of its worker, part by part: how each is looked at, and how it is put back.

Runs in the child, for `workplace`. A look has to be cheap: an attempt of a no-op takes some 20 us in all, and there are
some thirty parts. So what Python can tell is compared with what was noted. What only the system knows is put back by
the look itself, where that is one system call either way.
"""

from __future__ import annotations

import ctypes
import faulthandler
import fcntl
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from _signal import getitimer, getsignal, pthread_sigmask, set_wakeup_fd, setitimer  # type: ignore[import-not-found]
from _signal import signal as set_handler
from _thread import _count as count_threads
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from processes.page import CLOSED, STACK_SIGNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processes.usage import OwnUsage

#: So long threads and processes may take to end that are about to, in seconds. Another worker takes no less to start.
GRACE_S = 0.020

#: Descriptors of a worker's own have numbers from this far below the limit, which is often 1024, and not above that.
_RESERVED = 64
_DESCRIPTORS_MAX = 1024

#: Signals that programs handle. Not SIGINT: it has the handler that the worker gives it.
_SIGNALS = (
    *(signal.SIGHUP, signal.SIGQUIT, signal.SIGABRT, signal.SIGUSR1, signal.SIGSEGV, signal.SIGUSR2, signal.SIGPIPE),
    *(signal.SIGALRM, signal.SIGTERM, signal.SIGCHLD, signal.SIGCONT, signal.SIGTSTP, signal.SIGVTALRM, signal.SIGPROF),
)

#: The others. Real-time signals would take as long again.
_RARE_SIGNALS = sorted(set(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, *_SIGNALS})

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)

#: Whether two descriptors are of the same open file: fcntl(2), Linux 6.10. By ctypes it takes 0.3 us, by fcntl 0.7.
_F_DUPFD_QUERY = 1027
_fcntl = ctypes.PyDLL(None).fcntl

#: Marks the root logger's cache, which is cleared when any logger's level is set, and by `logging.disable`.
_UNCHANGED: Any = object()


class LeftBehindError(Exception):
    """Something cannot be put back; the text follows on "the task"."""


def counted(count: int, one: str, many: str) -> str:
    """A number and what it counts."""
    return f"{count} {one if count == 1 else many}"


def out_of_reach(descriptor: int) -> int:
    """
    Give a descriptor a high number and return that.

    A task that closes what it did not open, or counts on a number being free, seldom hits it there. If it does, the
    number is not given to another file soon: what is done with it then fails, and does nothing to a file of the task.
    """
    try:
        moved = _high_copy(descriptor)
    except OSError:  # The limit is low, or nothing is free.
        return descriptor
    os.close(descriptor)
    return moved


def _high_copy(descriptor: int) -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    highest = _DESCRIPTORS_MAX if soft < 0 else min(soft, _DESCRIPTORS_MAX)
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, max(3, highest - _RESERVED))


def tell_stacks(page_fd: int) -> None:
    """Write Python's stacks behind the page: when this process crashes, and when its parent asks."""
    os.lseek(page_fd, 0, os.SEEK_END)
    faulthandler.enable(page_fd)
    faulthandler.register(STACK_SIGNAL, page_fd)


class Part:
    """One thing that is looked at."""

    def __init__(self, name: str, look: Callable[[], object], *, is_rare: bool = False) -> None:
        """
        Say how to look.

        Args:
            name: Follows on "changed".
            look: Costs little, and gives the same for as long as nothing has changed.
            is_rare: It is not looked at after the shortest attempts: nobody is known to change it and do no more.
        """
        self.name = name
        self.look = look
        self.is_rare = is_rare
        #: Whether it is noted once for all, since a capture of the output may have changed it for now.
        self.is_fixed = False

    def note(self) -> object:
        """Keep how it is; returns what a look is to give from now on."""
        return self.look()

    def mend(self) -> object:
        """
        Put it back, after a look gave something else; returns what a look is to give from now on.

        Raises:
            LeftBehindError: It cannot be.
        """
        return self.look()

    def reset(self) -> None:
        """Make it as if nobody had set it, where a task imported the module that has it."""


class _Setting(Part):
    """What one call tells and another sets."""

    def __init__(
        self, name: str, get: Callable[[], object], set_: Callable[[Any], object], *, is_rare: bool = False
    ) -> None:
        super().__init__(name, get, is_rare=is_rare)
        self._set = set_
        self._value: object = None

    def note(self) -> object:
        self._value = self.look()
        return self._value

    def mend(self) -> object:
        self._set(self._value)
        return self._value


class _Timer(Part):
    """A timer that is not set. One that the pool's initializer set goes on, and is not looked at."""

    def __init__(self, which: int) -> None:
        super().__init__("a timer", partial(getitimer, which), is_rare=which != signal.ITIMER_REAL)
        self._which = which

    def note(self) -> object:
        if getitimer(self._which) != _NOT_SET:
            self.look = lambda: _NOT_SET
        return _NOT_SET

    def mend(self) -> object:
        setitimer(self._which, 0)
        return _NOT_SET


_NOT_SET = (0.0, 0.0)


class _Attributes(Part):
    """Attributes of an object, and what is in those that are lists."""

    def __init__(self, owner: Any, *attributes: str, is_rare: bool = False, is_fixed: bool = False) -> None:  # noqa: ANN401
        name = f"{owner.__name__}.{'/'.join(attributes)}"
        super().__init__(name, partial(attrgetter(*attributes), owner), is_rare=is_rare)
        self.is_fixed = is_fixed
        self._owner = owner
        self._attributes = attributes
        self._values: list[tuple[str, Any, Any]] = []  # (attribute, object, copy of its content)

    def note(self) -> object:
        objects = [(attribute, getattr(self._owner, attribute)) for attribute in self._attributes]
        self._values = [(name, value, value[:] if type(value) is list else value) for name, value in objects]
        return self._expected()

    def mend(self) -> object:
        for attribute, value, copy in self._values:
            if type(value) is list:
                value[:] = copy
            setattr(self._owner, attribute, value)
        return self._expected()

    def _expected(self) -> object:
        return tuple([copy for _, _, copy in self._values])


class _Warnings(_Attributes):
    """Filters of warnings, and where they are shown."""

    def __init__(self) -> None:
        super().__init__(warnings, "filters", "showwarning", "formatwarning")

    def mend(self) -> object:
        expected = super().mend()
        with warnings.catch_warnings():  # Who has asked the filters before asks again.
            return expected


class _Umask(Part):
    """One call tells it and sets it."""

    def __init__(self) -> None:
        super().__init__("umask", lambda: None)

    def note(self) -> object:
        umask = os.umask(0o077)
        os.umask(umask)
        self.look = partial(os.umask, umask)
        return umask


class _Folder(Part):
    """The working folder: going back costs no more than looking, also where it was renamed or is gone."""

    def __init__(self) -> None:
        super().__init__("the working folder", lambda: None)
        self._folder = -1

    def note(self) -> object:
        if self._folder >= 0:
            os.close(self._folder)
        self._folder = out_of_reach(os.open(".", os.O_PATH | os.O_CLOEXEC))
        self.look = partial(os.fchdir, self._folder)
        try:
            return self.look()
        except OSError:  # It may not be entered, and was by another user. Who leaves it cannot come back.
            self.look = os.getcwd
            return self.look()


class _Standard(Part):
    """One of the descriptors 0 to 2."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(f"descriptor {descriptor}", lambda: None)
        self.is_fixed = True
        self._descriptor = descriptor
        self._kept = -1  # another descriptor of the same open file

    def note(self) -> object:
        try:
            self._kept = _high_copy(self._descriptor)
        except OSError:  # The program runs without it.
            self.look = lambda: None
            return None
        # To put it back unseen takes as long, but closes it, which on a file of another machine means to send it all.
        self.look = partial(_fcntl, self._descriptor, _F_DUPFD_QUERY, self._kept)
        if self.look() != 1:
            self.look = partial(_file_of, self._descriptor)
        return self.look()

    def mend(self) -> object:
        os.dup2(self._kept, self._descriptor)
        return self.look()


def _file_of(descriptor: int) -> tuple[int, ...]:
    return os.fstat(descriptor)[1:3]


class _Streams(Part):
    """Whether sys.stdout and sys.stderr are open still."""

    def __init__(self) -> None:
        super().__init__("sys.stdout", lambda: None)
        self.is_fixed = True

    def note(self) -> object:
        names = [f"{name}.closed" for name in ("stdout", "stderr") if hasattr(getattr(sys, name), "closed")]
        if names:  # The program may run without them.
            self.look = partial(attrgetter(*names), sys)
        return self.look()

    def mend(self) -> object:
        raise LeftBehindError("closed sys.stdout or sys.stderr of its child")


class _Closed(Part):
    """Whether a task closed descriptors that are not its own: one with a low number tells for all."""

    def __init__(self, look: Callable[[], object]) -> None:
        super().__init__("descriptors", look)

    def mend(self) -> object:
        raise LeftBehindError(CLOSED)


class _Environment(Part):
    """`os.environ`. What C code sets is not seen, and `os.putenv` is C code."""

    def __init__(self) -> None:
        super().__init__("the environment", partial(attrgetter("environ._data"), os))
        self._environ = os.environ
        self._copy: dict[bytes, bytes] = {}

    def note(self) -> object:
        self._environ = os.environ
        self._copy = dict(self._data())
        return self._copy

    def mend(self) -> object:
        os.environ = self._environ  # noqa: B003  where it was
        data, copy = self._data(), self._copy
        changed = [name for name in {**data, **copy} if data.get(name) != copy.get(name)]
        for name in changed:
            if name in copy:
                os.putenv(name, copy[name])
            else:
                os.unsetenv(name)
        data.clear()
        data.update(copy)
        if b"TZ" in changed:
            time.tzset()
        return copy

    def _data(self) -> dict[bytes, bytes]:
        data: dict[bytes, bytes] = vars(self._environ)["_data"]
        return data


class _Handlers(Part):
    """Handlers of signals, as Python knows them."""

    def __init__(self, numbers: Sequence[int], page_fd: int, *, is_rare: bool = False) -> None:
        super().__init__("signal handlers", self._look, is_rare=is_rare)
        self._numbers = numbers
        self._page_fd = page_fd
        self._before: list[Any] = []

    def _look(self) -> list[Any]:
        return [*map(getsignal, self._numbers)]

    def note(self) -> object:
        self._before = self._look()
        return self._before

    def mend(self) -> object:
        for number, before, now in zip(self._numbers, self._before, self._look(), strict=True):
            if now is not before:
                set_handler(number, signal.SIG_DFL if before is None else before)
        # Some may have been in the place of faulthandler's own, of which Python knows nothing.
        faulthandler.disable()
        faulthandler.unregister(STACK_SIGNAL)
        tell_stacks(self._page_fd)
        self._before = self._look()  # What was None is known now.
        return self._before


class _Threads(Part):
    """Threads that Python code started."""

    def __init__(self) -> None:
        super().__init__("threads", count_threads)
        self._count = 0
        self._known: set[threading.Thread] = set()

    def note(self) -> object:
        self._count = count_threads()
        self._known = set(threading.enumerate())
        return self._count

    def mend(self) -> object:
        limit = time.monotonic() + GRACE_S
        while count_threads() > self._count and time.monotonic() < limit:
            time.sleep(0.001)
        left = count_threads() - self._count
        if left > 0:
            names = [thread.name for thread in threading.enumerate() if thread not in self._known]
            shown = f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else ""
            raise LeftBehindError(f"left {counted(left, 'thread', 'threads')} running{shown}")
        return self.note()  # One of those known may have ended.


class _Logging(Part):
    """Levels, handlers, filters and switches of all loggers."""

    def __init__(self) -> None:
        super().__init__("logging", self._look)
        self._loggers: dict[str, tuple[Any, ...]] = {}
        self._disabled = 0

    def _look(self) -> object:
        """Of other loggers than the root only levels and new handlers show, but none of them has to be asked."""
        root = logging.root
        return (
            _UNCHANGED in root._cache,  # type: ignore[attr-defined]  # not in its stubs
            root.handlers[:],
            root.level,
            root.disabled,
            root.manager.disable,
            len(root.manager.loggerDict),
            len(logging._handlerList),  # type: ignore[attr-defined]  # not in its stubs
        )

    def note(self) -> object:
        self._disabled = logging.root.manager.disable
        self._loggers = {name: _state_of(logger) for name, logger in _all_loggers()}
        return self._settle()

    def mend(self) -> object:
        for name, logger in _all_loggers():
            before = self._loggers.get(name, _NEW_LOGGER)
            if _state_of(logger) != before:
                level, logger.propagate, logger.disabled, handlers, filters = before
                logger.handlers, logger.filters = list(handlers), list(filters)
                logger.setLevel(level)
        logging.disable(self._disabled)
        return self._settle()

    def _settle(self) -> object:
        logging.root._cache[_UNCHANGED] = True  # type: ignore[attr-defined]  # not in its stubs
        return self._look()


#: A logger as it is made: level, propagate, disabled, handlers, filters.
_NEW_LOGGER = (logging.NOTSET, True, False, (), ())


def _all_loggers() -> list[tuple[str, logging.Logger]]:
    named = logging.root.manager.loggerDict.items()
    return [("", logging.root), *((name, logger) for name, logger in named if isinstance(logger, logging.Logger))]


def _state_of(logger: logging.Logger) -> tuple[Any, ...]:
    return logger.level, logger.propagate, logger.disabled, tuple(logger.handlers), tuple(logger.filters)


class _StartMethod(Part):
    """multiprocessing's, which it also sets itself when it is first asked for."""

    def __init__(self) -> None:
        self._context: Any = sys.modules["multiprocessing.context"]._default_context
        super().__init__("multiprocessing's start method", partial(attrgetter("_actual_context"), self._context))
        self._before: object = None

    def note(self) -> object:
        self._before = self.look()
        return self._before

    def mend(self) -> object:
        self._context._actual_context = self._before
        return self._before

    def reset(self) -> None:
        self._context._actual_context = None


class _EventLoop(Part):
    """The policy of asyncio, which it makes when it is first asked for, and the policy's loop."""

    def __init__(self) -> None:
        super().__init__("asyncio's event loop", self._look)
        self._events: Any = sys.modules["asyncio.events"]
        self._before: tuple[Any, ...] = ()

    def _look(self) -> tuple[Any, ...]:
        policy = self._events._event_loop_policy
        if policy is None:
            return (None,)
        local = getattr(policy, "_local", None)
        return policy, getattr(local, "_loop", None), getattr(local, "_set_called", None)

    def note(self) -> object:
        self._before = self._look()
        return self._before

    def mend(self) -> object:
        policy = self._events._event_loop_policy = self._before[0]
        if policy is not None and self._look() != self._before:
            _, policy._local._loop, policy._local._set_called = self._before
        return self._before

    def reset(self) -> None:
        self._events._event_loop_policy = None


class _Decimal(Part):
    """The context of decimal: setting its precision changes it in place, in whatever context of Python's one is."""

    def __init__(self) -> None:
        super().__init__("decimal's context", self._set)
        self._decimal: Any = sys.modules["decimal"]
        self._before: Any = None

    def _set(self) -> None:
        self._decimal.setcontext(self._before.copy())

    def note(self) -> object:
        self._before = self._decimal.getcontext().copy()
        return None

    def reset(self) -> None:
        self._decimal.setcontext(self._decimal.Context())


#: {a module that need not be there: what is looked at once it is}
LAZY: dict[str, Callable[[], Part]] = {
    "multiprocessing.context": _StartMethod,
    "asyncio.events": _EventLoop,
    "decimal": _Decimal,
}


def parts(page_fd: int, own_usage: OwnUsage, *, is_fork: bool) -> list[Part]:
    """
    All of them, in the order in which they are put back, but for those of modules that need not be there.

    Args:
        page_fd: Where the stacks go.
        own_usage: Reads this process's memory after each attempt, through a descriptor.
        is_fork: Whether this process is a copy of the caller.
    """
    stacks: list[Callable[[], object]] = [
        partial(faulthandler.enable, page_fd),
        partial(faulthandler.register, STACK_SIGNAL, page_fd),
    ]
    # In a copy of a caller whose `dump_traceback_later` runs this would wait for a thread that was not copied.
    if not is_fork:
        stacks.append(faulthandler.cancel_dump_traceback_later)
    # Without /proc there is none to look at.
    statm = [own_usage.statm] if own_usage.statm >= 0 else []
    return [
        *(_Closed(partial(os.get_inheritable, descriptor)) for descriptor in statm),
        _Closed(partial(attrgetter("is_cut_off"), own_usage)),  # Another file may have its number.
        *map(_Timer, _TIMERS),  # before the handlers that they would call
        _Handlers(_SIGNALS, page_fd),
        _Handlers(_RARE_SIGNALS, page_fd, is_rare=True),
        Part("the wake-up descriptor of signals", partial(set_wakeup_fd, -1)),
        Part("blocked signals", partial(pthread_sigmask, signal.SIG_SETMASK, ()), is_rare=True),
        *(Part("faulthandler", look) for look in stacks),
        _Umask(),
        _Folder(),
        _Environment(),
        _Attributes(sys, "stdin", "stdout", "stderr", is_fixed=True),
        _Attributes(sys, "path", "argv", "excepthook", "unraisablehook", "displayhook"),
        _Streams(),
        *(_Standard(descriptor) for descriptor in range(3)),
        _Setting("sys.setrecursionlimit", sys.getrecursionlimit, sys.setrecursionlimit),
        _Setting("sys.setswitchinterval", sys.getswitchinterval, sys.setswitchinterval, is_rare=True),
        _Setting("sys.settrace", sys.gettrace, sys.settrace),
        _Setting("sys.setprofile", sys.getprofile, sys.setprofile),
        _Attributes(threading, "excepthook", "_trace_hook", "_profile_hook", is_rare=True),
        _Setting("gc", gc.isenabled, lambda is_on: gc.enable() if is_on else gc.disable()),
        _Setting("gc.set_threshold", gc.get_threshold, lambda thresholds: gc.set_threshold(*thresholds), is_rare=True),
        _Setting("socket.setdefaulttimeout", socket.getdefaulttimeout, socket.setdefaulttimeout),
        _Warnings(),
        _Logging(),
        _Threads(),
        # More of them can be no harm, but what is in them has to be looked at.
        Part("modules", partial(len, sys.modules)),
    ]
