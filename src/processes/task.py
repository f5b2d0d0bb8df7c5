"""What the user asks for: a callable with a name, its dependencies, limits and retries."""

from __future__ import annotations

import math
import unicodedata
import warnings
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, Unpack

from processes.attempt import Call, bind
from processes.exceptions import CircularDependencyError
from processes.graph import key_of
from processes.spec import NO_DELAYS, PLAIN, Injection, TaskSpec, require, require_callable
from processes.usage import parse_size

if TYPE_CHECKING:
    import logging
    import os
    from collections.abc import Callable, Iterable, Mapping
    from typing import Self

    from processes.events import TaskStatus
    from processes.report import TaskResult

__all__ = ["Task", "TaskDependency", "TaskResult", "TaskStatus"]


class TaskOptions(TypedDict, total=False):
    """What `Task.map` passes on: the parameters of `Task` but for name, func and args."""

    log_path: str | os.PathLike[str] | None
    kwargs: dict[str, Any] | None
    dependencies: list[TaskDependency] | None
    traced_vars_frame_filter: str | None
    timeout: float | None
    retries: int | None
    retry_on: tuple[type[BaseException], ...] | None
    retry_delay: float | Callable[[int], float]
    memory_limit: int | str | None
    keep_result: bool
    capture_output: bool


class HasResults(Protocol):
    """What `Task.run` needs of a Process: the results of its last run, and who depends on whom."""

    @property
    def runner(self) -> _Results:
        """What ran last."""

    def get_dependant_tasks(self, name: str) -> list[Task]:
        """All tasks that depend on one."""


class _Results(Protocol):
    @property
    def results(self) -> dict[str, TaskResult]: ...


if not TYPE_CHECKING:  # or a checker would take any name for one of this module

    def __getattr__(name: str) -> object:
        """`TaskResult` and `TaskStatus`, which 7.0.4 had here: what they load takes longer than all a Task needs."""
        if name == "TaskResult":
            from processes.report import TaskResult

            return TaskResult
        if name == "TaskStatus":
            from processes.events import TaskStatus

            return TaskStatus
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)


#: How most results enter a call.
_BY_POSITION = Injection(True, None)

#: So that a batch need not have one for each call: by the number of results, for those that take them all so.
_BY_POSITION_ONLY = tuple((_BY_POSITION,) * count for count in range(32))


class TaskDependency:
    """
    A task waits for another, and may take its result.

    Equal dependencies compare equal.
    """

    __module__ = "processes"

    def __init__(
        self,
        task_name: str,
        use_result_as_additional_args: bool = False,
        use_result_as_additional_kwargs: bool = False,
        additional_kwarg_name: str = "",
    ) -> None:
        """
        Name the task to wait for.

        Args:
            task_name: Its name, in any case.
            use_result_as_additional_args: Append its result to the positional arguments.
            use_result_as_additional_kwargs: Pass its result as the keyword argument `additional_kwarg_name`.
            additional_kwarg_name: Name of that keyword argument.

        Raises:
            TypeError: A value of another type, or a keyword result without a name.
        """
        _require_of_type("task_name", task_name, str)
        _require_of_type("use_result_as_additional_args", use_result_as_additional_args, bool)
        _require_of_type("use_result_as_additional_kwargs", use_result_as_additional_kwargs, bool)
        is_name = _is_text(additional_kwarg_name)
        if use_result_as_additional_kwargs and not is_name:
            msg = "If use_result_as_additional_kwargs is True, additional_kwarg_name must be a non-empty string."
            raise TypeError(msg)
        if is_name and not use_result_as_additional_kwargs:
            warnings.warn(
                f"additional_kwarg_name={additional_kwarg_name!r} has no effect without "
                "use_result_as_additional_kwargs=True",
                stacklevel=2,
            )
        self.task_name: str = _in_lower_case(task_name)
        self.use_result_as_additional_args = use_result_as_additional_args
        self.use_result_as_additional_kwargs = use_result_as_additional_kwargs
        self.additional_kwarg_name = additional_kwarg_name

    def _facts(self) -> tuple[object, ...]:
        return (
            self.task_name,
            self.use_result_as_additional_args,
            self.use_result_as_additional_kwargs,
            self.additional_kwarg_name,
        )

    def __eq__(self, other: object) -> bool:
        """Same task, same use of its result."""
        return self._facts() == other._facts() if isinstance(other, TaskDependency) else NotImplemented

    def __hash__(self) -> int:
        """By the name, which is what rarely changes."""
        return hash(self.task_name)

    def __repr__(self) -> str:
        """Name and use."""
        return f"TaskDependency({', '.join(map(repr, self._facts()))})"

    def injection(self) -> Injection | None:
        """How the result enters the call, or None where it does not."""
        keyword = self.additional_kwarg_name if self.use_result_as_additional_kwargs else None
        if not self.use_result_as_additional_args and keyword is None:
            return None
        return _BY_POSITION if keyword is None else Injection(self.use_result_as_additional_args, keyword)


class Task:
    """A callable to be run once its dependencies have succeeded."""

    __module__ = "processes"

    def __init__(
        self,
        name: str,
        func: Callable[..., Any],
        log_path: str | os.PathLike[str] | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        dependencies: list[TaskDependency] | None = None,
        traced_vars_frame_filter: str | None = None,
        timeout: float | None = None,
        retries: int | None = 0,
        retry_on: tuple[type[BaseException], ...] | None = None,
        *,
        retry_delay: float | Callable[[int], float] = 0.0,
        memory_limit: int | str | None = None,
        keep_result: bool = True,
        capture_output: bool = False,
    ) -> None:
        """
        Describe the task; nothing runs, but its logfile is made.

        Args:
            name: Unique in its process, whatever the case; kept in lower case. No spaces or control characters.
            func: What to call.
            log_path: A file to append the task's log to; tasks may share one.
            args: Positional arguments; results of dependencies follow them.
            kwargs: Keyword arguments.
            dependencies: Tasks to wait for.
            traced_vars_frame_filter: On failure show the locals of the innermost frame whose file name contains this,
                instead of the innermost frame of the user's own code.
            timeout: Seconds that one attempt may take, or None. In processes mode the attempt's child is killed; in
                sequential and thread mode the attempt is reported and its thread left behind.
            retries: Further attempts after the first, on the exceptions in `retry_on`.
            retry_on: Exception types; None for (ConnectionError, TimeoutError).
            retry_delay: Seconds before each further attempt, or a function of its number (1 for the first retry).
            memory_limit: Bytes, or a text such as "512MiB", that one attempt may use: anonymous and swapped memory of
                its child and that one's descendants, above what the child held when it was ready. Processes mode only.
            keep_result: Whether the report keeps the result; if not, it is freed after its last consumer.
            capture_output: Whether what it writes to standard output and error goes to its log, line by line, as INFO
                of the logger `processes.NAME.output`: prints, and what C code and the programs that it starts write.
                Processes mode only.

        Raises:
            TypeError: A value of a wrong type, or a bad time-out or number of retries.
            ValueError: A bad name, the same dependency twice, a bad delay or memory limit.
            CircularDependencyError: The task depends on itself.
            OSError: The logfile cannot be opened.
        """
        self._logger: logging.Logger | None = None
        self._is_detached = False  # the logger, if it is made yet, is to have no handlers
        self.name: str = _checked_name(name)
        self.func = func
        self.args = args
        self.kwargs: dict[str, Any] = {} if kwargs is None else kwargs
        self.dependencies: list[TaskDependency] = [] if dependencies is None else dependencies
        self.traced_vars_frame_filter = traced_vars_frame_filter
        self.timeout = timeout
        self.retries: int = 0 if retries is None else retries
        self.retry_on = retry_on
        self.retry_delay = retry_delay
        self.memory_limit: int | str | None = memory_limit
        self.keep_result = keep_result
        self.capture_output = capture_output
        self._check_types()
        self._check_limits()
        _check_characters(self.name)
        if self.dependencies:
            self._check_dependencies()
        self.dependencies = list(self.dependencies)  # Tasks that share a list must not share what is added later.
        self.log_path: str | None = None
        self._file: logging.Handler | None = None
        if log_path is not None:
            from processes import logs  # A run starts its first process before it needs these.

            self.log_path = logs.absolute(log_path)
            self._file = logs.file_handler(self.log_path)

    @classmethod
    def map(
        cls, name: str, func: Callable[..., Any], *iterables: Iterable[Any], **options: Unpack[TaskOptions]
    ) -> list[Self]:
        """
        Describe one task for each item, as `map` and `Executor.map` make one call: each has a name, an entry, limits,
        retries and a failure of its own.

            tasks = Task.map("resize", resize, paths, sizes, timeout=60)
            total = Task("total", add_up, dependencies=[TaskDependency(task.name, True) for task in tasks])

        Args:
            name: Each task's name is this, with its number in brackets: `resize[0]`, `resize[1]`, and so on.
            func: What to call.
            iterables: The positional arguments of the calls, of each call one of each iterable.
            options: What each task gets beside them, as in the constructor: `timeout`, `retries`, `dependencies` and
                so on. Each gets a dict and a list of its own.

        Returns:
            The tasks, in the order of the items; none for no items.

        Raises:
            TypeError: No iterable, a thing that is none, or as in the constructor.
            ValueError: The iterables are not of the same length; or as in the constructor.
        """
        if not iterables:
            msg = "Task.map needs an iterable of arguments: Task.map(name, func, items)"
            raise TypeError(msg)
        try:
            calls = list(zip(*iterables, strict=True))
        except ValueError as error:
            if not str(error).startswith("zip()"):
                raise  # An iterable's own.
            msg = f"the iterables of '{name}' are not of the same length ({error})"
            raise ValueError(msg) from None
        kwargs, made = options.get("kwargs"), []
        for number, args in enumerate(calls):
            if isinstance(kwargs, dict):
                options["kwargs"] = dict(kwargs)
            made.append(cls(f"{name}[{number}]", func, args=args, **options))
        return made

    def _check_types(self) -> None:
        # Only what is not plainly right is looked at closer: a batch has tens of thousands of tasks.
        require_callable("func", self.func)
        if type(self.args) is not tuple:
            require("args", self.args, tuple)
        if type(self.kwargs) is not dict:
            require("kwargs", self.kwargs, dict)
        if type(self.dependencies) is not list:
            require("dependencies", self.dependencies, list)
        for dependency in self.dependencies:
            _require_of_type("dependency", dependency, TaskDependency)
        if self.traced_vars_frame_filter is not None and not _is_text(self.traced_vars_frame_filter, empty=True):
            msg = f"traced_vars_frame_filter must be a str or None. Got {type(self.traced_vars_frame_filter)}"
            raise TypeError(msg)
        if self.keep_result is not True or self.capture_output is not False:
            require("keep_result", self.keep_result, bool)
            require("capture_output", self.capture_output, bool)

    def _check_limits(self) -> None:
        if self.timeout is not None and not (_is_number(self.timeout) and self.timeout > 0):
            msg = f"timeout must be a positive number or None, got {self.timeout!r}"
            raise TypeError(msg)
        if (type(self.retries) is not int or self.retries < 0) and not _is_count(self.retries):
            msg = f"retries must be a non-negative int, got {self.retries!r}"
            raise TypeError(msg)
        if self.retry_on is not None and not _are_exceptions(self.retry_on):
            msg = f"retry_on must be None or a tuple of Exception subclasses, got {self.retry_on!r}"
            raise TypeError(msg)
        if (type(self.retry_delay) is not float or self.retry_delay != 0.0) and not callable(self.retry_delay):
            _checked_delay(self.name, self.retry_delay)
        if self.memory_limit is not None:
            try:
                self.memory_limit = parse_size(self.memory_limit)
            except (TypeError, ValueError) as error:
                msg = f"memory_limit of task '{self.name}': {error}"
                raise type(error)(msg) from None

    def _check_dependencies(self) -> None:
        seen: set[str] = set()
        for dependency in self.dependencies:
            key = key_of(dependency.task_name)
            if key in seen:
                msg = f"Duplicate dependency name: {dependency.task_name}"
                raise ValueError(msg)
            seen.add(key)
        if key_of(self.name) in seen:
            msg = f"Task '{self.name}' lists itself as a dependency."
            raise CircularDependencyError(msg)

    @property
    def logger(self) -> logging.Logger:
        """The task's own logger; handlers put on it receive the task's records, from child processes too."""
        if self._logger is None:
            from processes.logs import NO_FILE, TaskLogger

            self._logger = TaskLogger(self.name)
            if not self._is_detached:
                self._logger.addHandler(NO_FILE if self._file is None else self._file)
        return self._logger

    @logger.setter
    def logger(self, logger: logging.Logger) -> None:
        self._logger = logger

    def get_dependencies_names(self) -> set[str]:
        """Names of the tasks it waits for."""
        return {dependency.task_name for dependency in self.dependencies}

    def close_handlers(self) -> None:
        """Close and detach every handler of `logger`; a later run opens the logfile anew."""
        if self._logger is None:  # Most tasks have none to the end: it is made when somebody asks for it.
            self._is_detached = True
            if self._file is not None:
                self._file.close()
            return
        for handler in list(self._logger.handlers):
            self._logger.removeHandler(handler)
            handler.close()

    def listening_logger(self, application_listens: bool) -> logging.Logger | None:
        """The logger for a run, its file attached; None where neither a handler of it nor the application listens."""
        if self._file is not None and self._file not in self.logger.handlers:
            self.logger.addHandler(self._file)
        if self._logger is None:
            return self.logger if application_listens else None
        from processes.logs import NO_FILE

        has_handlers = any(handler is not NO_FILE for handler in self._logger.handlers)
        return self._logger if has_handlers or application_listens else None

    def call(self, positions: Mapping[str, int], redact: bool | tuple[str, ...] = True) -> Call:
        """What to call; `positions` maps a task's key to its place in the run, `redact` says what not to show."""
        args, kwargs, unready = self.args, self.kwargs, None
        if type(args) is not tuple or type(kwargs) is not dict:
            args, kwargs, unready = _prepared(args, kwargs)
        injections, sources = self._injections(positions) if self.dependencies and positions else ((), ())
        return Call(
            self.name,
            self.func,
            args,
            kwargs,
            injections,
            sources,
            self.traced_vars_frame_filter,
            self.retry_on,
            self.timeout,
            self.memory_limit if isinstance(self.memory_limit, int) else None,
            redact,
            self.capture_output,
            unready,
        )

    def _injections(self, positions: Mapping[str, int]) -> tuple[tuple[Injection, ...], tuple[int, ...]]:
        found = [(wanted.injection(), wanted.task_name) for wanted in self.dependencies]
        taken = [(how, positions[key_of(name)]) for how, name in found if how is not None]
        injections, sources = tuple([how for how, _ in taken]), tuple([source for _, source in taken])
        usual = _BY_POSITION_ONLY[len(injections)] if len(injections) < len(_BY_POSITION_ONLY) else ()
        return usual if injections == usual else injections, sources

    def spec(self, positions: Mapping[str, int], sources: tuple[int, ...] = ()) -> TaskSpec:
        """
        What the scheduler needs to know; `sources` are those of the call, mostly the same tasks in the same order.

        Raises:
            ValueError: `retry_delay` gave no delay for some attempt.
        """
        if self.retry_delay == 0.0 and self.retries == 0 and self.keep_result and not self.dependencies:
            return PLAIN
        wanted: tuple[int, ...] = ()
        if positions and self.dependencies:
            wanted = tuple(dict.fromkeys(positions[key_of(dependency.task_name)] for dependency in self.dependencies))
            wanted = sources if wanted == sources else wanted
        delays = self._delays()
        if not wanted and self.retries == 0 and delays is NO_DELAYS and self.keep_result:
            return PLAIN
        return TaskSpec(wanted, self.retries, delays, self.keep_result)

    def _delays(self) -> tuple[float, ...]:
        if self.retry_delay == 0.0:
            return NO_DELAYS
        if not callable(self.retry_delay):
            return (float(self.retry_delay),)
        return (
            tuple(_checked_delay(self.name, self.retry_delay(number)) for number in range(1, self.retries + 1))
            or NO_DELAYS
        )

    def run(self, executing_process: HasResults | None = None) -> TaskResult:
        """
        Run the task here and now, in this thread, with its time-out, retries and log.

        Args:
            executing_process: Take the results of dependencies from its last run. Without it they are left out.

        Returns:
            How it ended; an exception of the task is in it, not raised.
        """
        from processes.alone import refused, run_alone
        from processes.logs import application_listens

        call, impact = self.call({}), list[str]()
        args, kwargs = call.args, call.kwargs
        logger = self.listening_logger(application_listens())
        if executing_process is not None:
            impact = [task.name for task in executing_process.get_dependant_tasks(self.name)]
            try:
                args, kwargs = bind(args, kwargs, self._injected(executing_process))
            except KeyError as error:
                return refused(error, call, logger, impact)
        return run_alone(call._replace(args=args, kwargs=kwargs), self.spec({}), logger, impact)

    def _injected(self, process: HasResults) -> list[tuple[Injection, object]]:
        results = {key_of(name): result for name, result in process.runner.results.items()}
        wanted = [(dependency.injection(), results[key_of(dependency.task_name)]) for dependency in self.dependencies]
        return [(how, found.result) for how, found in wanted if how is not None]


def _prepared(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any], Exception | None]:  # noqa: ANN401
    """The arguments, which may have been assigned since the constructor checked them; or none, and why."""
    if isinstance(args, tuple) and isinstance(kwargs, dict):
        return args, kwargs, None
    try:
        return tuple(args), dict(kwargs), None
    except Exception as error:  # noqa: BLE001  the user's own objects
        return (), {}, error


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        msg = f"name must be str. Got {type(name)}"
        raise TypeError(msg)
    return _in_lower_case(name)


def _in_lower_case(name: str) -> str:
    """The name itself where it is one already: a batch has a hundred thousand of them. Always a plain str."""
    lower = name.lower()
    return name if type(name) is str and lower == name else lower


def _check_characters(name: str) -> None:
    if " " in name:
        msg = f"Task name cannot contain spaces. Got {name}"
        raise ValueError(msg)
    if not name:
        msg = "Task name cannot be empty."
        raise ValueError(msg)
    if not name.isprintable() and any(unicodedata.category(character) == "Cc" for character in name):
        msg = f"Task name cannot contain control characters. Got {name!r}"
        raise ValueError(msg)


def _require_of_type(name: str, value: object, kind: type) -> None:
    """7.0.4's wording, which programs match."""
    if not isinstance(value, kind):
        msg = f"{name} must be of type {kind.__name__}. Got {type(value)}"
        raise TypeError(msg)


def _is_text(value: object, *, empty: bool = False) -> bool:
    return isinstance(value, str) and (empty or value != "")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and value is not True and value is not False and math.isfinite(value)


def _are_exceptions(kinds: object) -> bool:
    if not isinstance(kinds, tuple) or not kinds:  # To retry on nothing is what `retries=0` says.
        return False
    return all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds)


def _checked_delay(task_name: str, delay: object) -> float:
    if not _is_number(delay):
        msg = f"retry_delay of task '{task_name}' must be a number of seconds or give one, got {delay!r}"
        raise TypeError(msg)
    assert isinstance(delay, int | float)  # noqa: S101  just checked
    if delay < 0:
        msg = f"retry_delay of task '{task_name}' must not be negative, got {delay!r}"
        raise ValueError(msg)
    return float(delay)
