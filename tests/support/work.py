"""How much the library does for something, in lines of its code that are run: a count, so it is the same each time."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import processes

_PACKAGE = str(Path(processes.__file__).parent)


class _Lines:
    """Counts lines of the package that this thread runs, while it is entered."""

    def __init__(self) -> None:
        self.count = 0
        self._before = sys.gettrace()

    def _call(self, frame: FrameType, event: str, argument: object) -> object:
        return self._line if frame.f_code.co_filename.startswith(_PACKAGE) else None

    def _line(self, frame: FrameType, event: str, argument: object) -> object:
        self.count += event == "line"
        return self._line

    def __enter__(self) -> Self:
        sys.settrace(self._call)  # type: ignore[arg-type]  # its type is recursive
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.settrace(self._before)


def lines_run(function: Callable[[], object]) -> int:
    """Lines of the library that a call runs in this thread."""
    with _Lines() as lines:
        function()
    return lines.count


def growth(work: Callable[[int], Callable[[], object]], size: int, factor: int = 4) -> float:
    """
    How much more is done for a problem `factor` times as large: about `factor` where work grows as the size does.

    Args:
        work: Makes a problem of a size; what it returns is counted.
        size: Of the smaller problem.
        factor: Of the larger one.
    """
    work(size)()  # What is done once only must not count.
    return lines_run(work(size * factor)) / lines_run(work(size))
