"""
What can be known of a task before anything runs: whether its values travel, its function can be called, its log kept.

Runs in the parent. `Packer` pickles for the pool what its tasks need and keeps all that is wrong; where a value cannot
be pickled, it looks for the part that is to blame. The look is the pickler's own: an object is taken apart as it takes
it apart, and a part is tried by pickling it, so that what a class leaves out itself is not blamed.
"""

from __future__ import annotations

import contextlib
import copyreg
import functools
import inspect
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from time import monotonic
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any, NamedTuple

from processes import blob
from processes.attempt import bind, is_generator_function
from processes.exceptions import RunTerminated, TaskCheckError, UnpicklableError
from processes.failure import bounded_repr, shorten, text_of, type_name
from processes.spec import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processes.attempt import Call
    from processes.blob import MemoryFile, Value

#: How long the parts to blame are looked for, in seconds, in all values together: then where they are is not said.
_SEARCH_S = 0.5

#: So deep, among so many parts of one object, and for so many of one value, it is looked for them.
_DEPTH_MAX = 20
_WIDTH_MAX = 10_000
_BLAMED_MAX = 10

#: An error's own words are shown up to this length.
_REASON_MAX = 300


# ---- pickling --------------------------------------------------------------------------------------------------------


class Packer:
    """
    Pickles the values of a run's tasks.

    Attributes:
        modules: Names of the modules that loading them imports.
        problems: One for each part of a value that cannot be pickled.
    """

    def __init__(self, calls: Sequence[Call], may_keep: Callable[[MemoryFile], bool], shared: blob.Shared) -> None:
        """
        Nothing is pickled yet.

        Args:
            calls: Of the whole run.
            may_keep: Takes note of a file that is to be kept for as long as the run lasts; False where it has no place.
            shared: Where large arguments go that several calls have: they are pickled once.
        """
        self.modules: set[str] = set()
        self.problems: list[UnpicklableError] = []
        self._shared = shared
        self._calls = calls
        self._may_keep = may_keep
        self._counts: Counter[int] | None = None  # {id of an argument: in how many places it stands}
        self._search = _Search()

    def pack(
        self, task_name: str, what: str, value: object, *, label: str = "", inline_max: int = blob.INLINE_MAX
    ) -> Value:
        """
        Pickle a value; empty bytes, and a problem more, where it cannot be.

        Args:
            task_name: Whose value it is.
            what: Which of its values.
            value: Any object.
            label: What the user calls it.
            inline_max: As for `blob.dump`.
        """
        try:
            return blob.dump(value, self.modules, inline_max)
        except (KeyboardInterrupt, RunTerminated):
            raise
        except BaseException as error:  # noqa: BLE001  foreign code; a SystemExit of it too
            self.problems += self._search.problems(task_name, what, value, label or what, error)
            return b""

    def pack_arguments(self, call: Call) -> Value:
        """Pickle all arguments of a call as one value; each that cannot be pickled is a problem of its own."""
        both = call.args, call.kwargs
        try:
            if blob.is_trivial(both):
                return blob.dump_trivial(both)
            return blob.dump(both, self.modules, shared=self._shared_by(call))
        except (KeyboardInterrupt, RunTerminated):
            raise
        except BaseException as error:  # noqa: BLE001  foreign code; now find out which argument it is
            before = len(self.problems)
            for place, (label, value) in enumerate(zip(_names_of_args(call), call.args, strict=True)):
                self.pack(call.name, f"args[{place}]", value, label=label)
            for name, value in call.kwargs.items():
                self.pack(call.name, f"kwargs[{name!r}]", value, label=str(name))
            if len(self.problems) == before:  # Each can, but not together.
                self.problems.append(UnpicklableError(call.name, "args", _words(error)))
            return b""

    def _shared_by(self, call: Call) -> blob.Shared | None:
        """What the call shares with others, if it does; an argument is looked at when the first call has it."""
        if self._counts is None:
            self._counts = Counter(
                map(id, chain.from_iterable((*call.args, *call.kwargs.values()) for call in self._calls))
            )
        arguments = [*call.args, *call.kwargs.values()]
        for argument in arguments:
            if self._counts.get(id(argument), 0) > 1:
                self._counts[id(argument)] = 0
                self._try_to_share(argument)
        return self._shared if any(argument in self._shared for argument in arguments) else None

    def _try_to_share(self, argument: object) -> None:
        if blob.is_trivial(argument):
            return
        try:
            value = blob.dump(argument, self.modules)
        except (KeyboardInterrupt, RunTerminated):
            raise
        except BaseException:  # noqa: BLE001  foreign code; what is wrong is found out with the call
            return
        if isinstance(value, blob.MemoryFile):
            if self._may_keep(value):
                self._shared.add(argument, value)
            else:
                value.close()


class _Culprit(NamedTuple):
    """A part that cannot be pickled: its path below the value, its type, and what was said."""

    path: str
    kind: str
    reason: str


class _Search:
    """Looks for the parts to blame, all in all for a bounded time."""

    def __init__(self) -> None:
        self._left = _SEARCH_S
        # {id of a value: it, so that it keeps its id, and its culprits}; many tasks may have the same configuration
        self._known: dict[int, tuple[object, list[_Culprit]]] = {}

    def problems(
        self, task_name: str, what: str, value: object, label: str, error: BaseException
    ) -> list[UnpicklableError]:
        """One for each part of a value that could not be pickled; one for the value where none is found."""
        if id(value) not in self._known:
            began = monotonic()
            self._known[id(value)] = value, _culprits(value, error, began + self._left)
            self._left = max(0.0, self._left - (monotonic() - began))
        return [
            UnpicklableError(task_name, what, reason, path=f"{label}{path}", kind=kind)
            for path, kind, reason in self._known[id(value)][1]
        ] or [UnpicklableError(task_name, what, _words(error))]


def _culprits(value: object, error: BaseException, until: float) -> list[_Culprit]:
    """The parts of a value to blame, looked for until an instant of CLOCK_MONOTONIC."""
    # Of what is nested too deeply no part is to blame; cloudpickle has an error of its own for it.
    is_too_large = isinstance(error, RecursionError | MemoryError) or isinstance(error.__cause__, RecursionError)
    if is_too_large or monotonic() >= until:
        return []
    found: list[_Culprit] = []
    # What is blamed already, or holds what is. It is kept alive: what is made on the way must not get its id.
    seen = {id(value): value}

    def look_into(whole: object, path: str, error: BaseException, depth: int) -> None:
        """Blame the parts that cannot be pickled, or the whole where all can."""
        is_to_blame = True
        for suffix, part in _parts_of(whole) if depth < _DEPTH_MAX else []:
            if id(part) in seen:
                is_to_blame = False
            elif monotonic() < until and len(found) < _BLAMED_MAX and (trouble := _trouble_with(part)) is not None:
                is_to_blame = False
                seen[id(part)] = part
                look_into(part, path + suffix, trouble, depth + 1)
        if is_to_blame:
            found.append(_Culprit(path, type_name(type(whole)), _words(error)))

    look_into(value, "", error, 0)
    return found


def _trouble_with(part: object) -> BaseException | None:
    try:
        blob.try_out(part)
    except (KeyboardInterrupt, RunTerminated):
        raise
    except BaseException as error:  # noqa: BLE001  foreign code
        return error
    return None


def _parts_of(whole: object) -> list[tuple[str, object]]:
    """What pickling an object pickles, each with what follows its path; as far as it can be had."""
    found = []
    try:
        for part in islice(_generate_parts(whole), _WIDTH_MAX):
            found.append(part)  # noqa: PERF402  what came before an exception counts
    except (KeyboardInterrupt, RunTerminated):
        raise
    except BaseException:  # noqa: BLE001, S110  foreign code takes itself apart
        pass
    return found


def _generate_parts(whole: object) -> Iterator[tuple[str, object]]:
    kind: object = type(whole)  # A class of its own may take itself apart otherwise.
    if isinstance(whole, dict) and kind is dict:
        yield from _items(whole.items())
    elif isinstance(whole, tuple | list | deque) and kind in (tuple, list, deque):
        yield from ((f"[{place}]", part) for place, part in enumerate(whole))
    elif isinstance(whole, set | frozenset) and kind in (set, frozenset):
        yield from ((f"{{{bounded_repr(part)}}}", part) for part in whole)
    elif isinstance(whole, functools.partial):
        yield ".func", whole.func
        yield from ((f".args[{place}]", part) for place, part in enumerate(whole.args))
        yield from ((f".keywords[{name!r}]", part) for name, part in whole.keywords.items())
    elif isinstance(whole, MethodType | BuiltinFunctionType):
        if not isinstance(whole.__self__, ModuleType):
            yield ".__self__", whole.__self__
    elif isinstance(whole, FunctionType):
        yield from _parts_of_function(whole)
    elif isinstance(whole, type):
        slots = MemberDescriptorType | GetSetDescriptorType  # They are made anew with the class.
        yield from ((f".{name}", part) for name, part in vars(whole).items() if not isinstance(part, slots))
    else:
        yield from _parts_of_instance(whole)


def _items(pairs: Iterable[tuple[object, object]]) -> Iterator[tuple[str, object]]:
    for key, part in pairs:
        shown = bounded_repr(key)
        yield f".key({shown})", key
        yield f"[{shown}]", part


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, object]]:
    """What a function that goes by value takes along."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f".<closure>.{name}", cell.cell_contents
        except ValueError:  # It is empty still.
            continue
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            yield f".<globals>.{name}", function.__globals__[name]
    yield from ((f".<default {place}>", part) for place, part in enumerate(function.__defaults__ or ()))
    yield from ((f".<default {name}>", part) for name, part in (function.__kwdefaults__ or {}).items())
    yield from ((f".{name}", part) for name, part in vars(function).items())


def _global_names(code: CodeType) -> list[str]:
    names = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(dict.fromkeys(_global_names(constant)))
    return list(names)


def _parts_of_instance(whole: object) -> Iterator[tuple[str, object]]:
    """What its reduction consists of; none where it has none, which makes it the culprit."""
    reduce = copyreg.dispatch_table.get(type(whole))
    reduced: Any = whole.__reduce_ex__(blob.PROTOCOL) if reduce is None else reduce(whole)
    if not isinstance(reduced, tuple):
        return
    func, args, state, items, pairs = (*reduced, None, None, None)[:5]
    yield from _parts_of_state(state)
    if isinstance(whole, tuple) and hasattr(whole, "_fields"):
        yield from ((f".{name}", part) for name, part in zip(whole._fields, whole, strict=True))
    if items is not None:
        yield from ((f"[{place}]", part) for place, part in enumerate(items))
    if pairs is not None:
        yield from _items(pairs)
    if isinstance(args, tuple):
        for place, part in enumerate(args):
            yield ".__class__" if part is type(whole) else f".__reduce__()[1][{place}]", part
    yield ".__reduce__()[0]", func


def _parts_of_state(state: object) -> Iterator[tuple[str, object]]:
    """An instance's attributes; where it has slots, their values come second."""
    states = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    attributes = [part for part in states if isinstance(part, dict)]
    if len(attributes) + states.count(None) == len(states):
        yield from ((f".{name}", value) for part in attributes for name, value in part.items())
    else:
        yield ".__getstate__()", state


def _words(error: BaseException) -> str:
    return shorten(f"{type(error).__name__}: {text_of(error)}", _REASON_MAX)


def _names_of_args(call: Call) -> list[str]:
    """What the function calls its positional arguments."""
    names: list[str] = []
    with contextlib.suppress(TypeError):
        signature = _signature(call.func)
        parameters = signature.parameters.values() if signature is not None else ()
        kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
        names = [parameter.name for parameter in parameters if parameter.kind in kinds]
    return [names[place] if place < len(names) else f"args[{place}]" for place in range(len(call.args))]


# ---- the function ----------------------------------------------------------------------------------------------------


def check_function(call: Call, sources: Sequence[str]) -> TaskCheckError | None:
    """
    Whether a task's function can be called with what it will get, and gives a result.

    Args:
        call: What the task calls.
        sources: Names of the tasks whose results it will get.
    """
    if call.unready is not None:
        return _refused(call.name, "args", f"args and kwargs are none that a function could be given: {call.unready}")
    if is_generator_function(call.func):
        return _refused(
            call.name,
            "func",
            f"{name_of(call.func)} is a generator function: nothing of it would run, since a result has to be whole. "
            "Return a list.",
        )
    trouble = _trouble_with_call(call)
    if trouble is None:
        return None
    results = f", the results of {', '.join(map(repr, sources))} among them" if sources else ""
    args, kwargs = _bound(call)
    given = f"{len(args)} positional and {len(kwargs)} keyword arguments{results}"
    return _refused(call.name, "func", f"{name_of(call.func)} cannot take what it would get, {given}: {trouble}")


def _trouble_with_call(call: Call) -> str | None:
    try:
        signature = _signature(call.func)
        if signature is not None:
            args, kwargs = _bound(call)
            signature.bind(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return None


def _bound(call: Call) -> tuple[tuple[object, ...], dict[str, object]]:
    return bind(call.args, call.kwargs, [(how, None) for how in call.injections])


def _signature(func: Callable[..., object]) -> inspect.Signature | None:
    """
    How it can be called; None where it does not say.

    Of a wrapper its own: what it wraps may get other arguments than it is given.

    Raises:
        TypeError: It is a partial whose own arguments do not fit.
    """
    try:
        return inspect.signature(func, follow_wrapped=False)
    except ValueError as error:
        if isinstance(func, functools.partial) and "incorrect arguments" in str(error):
            raise TypeError(str(error)) from None
    except Exception:  # noqa: BLE001, S110  a foreign `__signature__`
        pass
    return None


# ---- log and limits --------------------------------------------------------------------------------------------------


def check_log(task_name: str, log_path: str) -> TaskCheckError | None:
    """Whether a task's logfile can be written: it was made with the task, and may be gone with its folder."""
    if os.access(log_path, os.W_OK):
        return None
    folder = os.path.dirname(log_path)
    if not os.path.isdir(folder):
        return _refused(task_name, "log_path", f"the folder of its logfile is not there any more: {folder}")
    if os.path.exists(log_path) or not os.access(folder, os.W_OK):
        return _refused(task_name, "log_path", f"its logfile cannot be written: {log_path}")
    return None


def check_limits(call: Call, enforces: frozenset[str], memory_budget: int | None = None) -> TaskCheckError | None:
    """Whether the mode can do for a task what it asks for."""
    if call.memory_limit is not None and memory_budget is not None and call.memory_limit > memory_budget:
        text = (
            f"it has memory_limit={call.memory_limit}, more than the pool's memory_budget={memory_budget} for all "
            "tasks together. Lower the limit or raise the budget."
        )
        return _refused(call.name, "memory_limit", text)
    if call.memory_limit is not None and "memory_limit" not in enforces:
        what, why = f"memory_limit={call.memory_limit}", "keep it to. Run it so, or drop the limit."
    elif call.capture_output and "capture_output" not in enforces:
        what = "capture_output=True"
        why = "do: elsewhere tasks write to the program's own output. Run it so, or drop the option."
    else:
        return None
    text = f"Task '{call.name}' has {what}, which only parallel='processes' can {why}"
    return TaskCheckError(text, task_name=call.name, what=what.partition("=")[0])


def _refused(task_name: str, what: str, text: str) -> TaskCheckError:
    return TaskCheckError(f"Task '{task_name}': {text}", task_name=task_name, what=what)
