"""What the user may ask of a pool: options only, checked; nothing that takes long to load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from processes.launch import START_METHODS
from processes.spec import require, require_callable, require_int
from processes.usage import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable


class ProcessPool:
    """
    Run tasks in child processes of this library: isolated, with hard time-outs and memory limits.

    Pass it as `Process.run(parallel=ProcessPool(...))`; `parallel="processes"` is short for `ProcessPool()`. It holds
    options only, so one can serve many runs, also at the same time. Equal options compare equal, and none can be
    changed.
    """

    __module__ = "processes"

    max_workers: int | None
    start_method: str | None
    max_tasks_per_child: int | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    memory_budget: int | None

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        start_method: str | None = None,
        max_tasks_per_child: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        memory_budget: int | str | None = None,
    ) -> None:
        """
        Check and keep the options.

        Args:
            max_workers: Children at a time; None for the CPUs this process may use, by affinity and cgroup quota.
            start_method: "forkserver" (the default for None): fork of a clean interpreter that has imported what the
                run needs; "spawn": a new interpreter each; "fork": a copy of the caller, refused while the caller has
                threads.
            max_tasks_per_child: Replace a child after so many attempts; None for never.
            initializer: Called once in each child before its first attempt; if it raises, the run ends.
            initargs: Its positional arguments.
            memory_budget: Bytes, or a text such as "4GiB", that all attempts together may use, as `memory_limit`
                counts it; kept in bytes. None starts that has no room beside the others, each of which counts with its
                `memory_limit`, or what it uses if that is more; if the budget is passed, the one that uses most is
                killed. None for no budget.

        Raises:
            TypeError: A number is no int, the initializer cannot be called, `initargs` is no tuple.
            ValueError: A number below 1, no such start method or no such size.
        """
        require_int("max_workers", max_workers)
        require_int("max_tasks_per_child", max_tasks_per_child)
        if max_tasks_per_child is not None and max_tasks_per_child < 1:
            msg = f"max_tasks_per_child must be at least 1 or None for no limit, got {max_tasks_per_child}"
            raise ValueError(msg)
        if start_method is not None and start_method not in START_METHODS:
            msg = f"start_method must be one of {', '.join(START_METHODS)} or None, got {start_method!r}"
            raise ValueError(msg)
        if initializer is not None:
            require_callable("initializer", initializer)
        require("initargs", initargs, tuple)
        vars(self).update(
            # Below 1 is 1, as `Process.run` has always had it.
            max_workers=None if max_workers is None else max(1, max_workers),
            start_method=start_method,
            max_tasks_per_child=max_tasks_per_child,
            initializer=initializer,
            initargs=initargs,
            memory_budget=_parse_budget(memory_budget),
        )

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: a run may be using it."""
        self._refuse(name)

    def __delattr__(self, name: str) -> None:
        """Refuse, as above."""
        self._refuse(name)

    def _refuse(self, name: str) -> NoReturn:
        msg = f"{name!r} of a ProcessPool cannot be changed: make another one"
        raise AttributeError(msg)

    def __eq__(self, other: object) -> bool:
        """Whether all options are equal."""
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        """By what can always be hashed."""
        return hash((self.max_workers, self.start_method, self.max_tasks_per_child, self.memory_budget))

    def __repr__(self) -> str:
        """As it is made."""
        return f"ProcessPool({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


def with_workers(pool: ProcessPool, max_workers: int | None) -> ProcessPool:
    """
    The same pool for so many children; itself for None.

    Raises:
        ValueError: It asks for another number of them.
    """
    if max_workers is None:
        return pool
    if pool.max_workers not in (None, max_workers):
        msg = f"max_workers={max_workers} contradicts ProcessPool(max_workers={pool.max_workers}): give one"
        raise ValueError(msg)
    return ProcessPool(**vars(pool) | {"max_workers": max_workers})


def _parse_budget(size: int | str | None) -> int | None:
    try:
        return None if size is None else parse_size(size)
    except (TypeError, ValueError) as error:
        msg = f"memory_budget: {error}"
        raise type(error)(msg) from error
