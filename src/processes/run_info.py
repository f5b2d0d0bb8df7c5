"""One run as a whole: when, where and how. Runs in the parent."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class RunInfo:
    """When, where and how a run was made; of merged runs, what they have in common. Not known is "" or None."""

    __module__ = "processes"

    #: When it began and ended, with time zone.
    started_at: datetime | None = None
    ended_at: datetime | None = None
    #: How many seconds it took, by a clock that nobody sets; of merged runs, together.
    seconds: float | None = None
    #: "sequential", "threads" or "processes".
    mode: str = ""
    #: Tasks at a time.
    max_workers: int | None = None
    #: How children were started: "forkserver", "spawn" or "fork"; "" in the other modes.
    start_method: str = ""
    #: Version of Python, such as "3.12.1".
    python: str = ""
    #: System, its release and the machine's kind, such as "Linux 6.8.0 x86_64".
    platform: str = ""
    #: The machine's name.
    host: str = ""
    #: Version of `processes`; it is looked up when it is first read, since that takes 30 ms.
    version: str = ""
    #: Why it ended before its time; "" for a run that came to its end.
    broken: str = ""
    #: What is shown as "[redacted]" in whatever is made of the report: as `Process(redact=)`.
    redact: bool | tuple[str, ...] = True

    if not TYPE_CHECKING:  # or a checker would take any name for an attribute

        def __getattr__(self, name: str) -> object:
            """Of a slot that is empty."""
            if name != "version":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            # Not by an import: the package's top stands above this, and has what it found before.
            object.__setattr__(self, "version", sys.modules[__package__].__version__)
            return self.version


def info_of(
    started_at: datetime,
    seconds: float,
    mode: str,
    max_workers: int | None,
    start_method: str,
    broken: str,
    redact: bool | tuple[str, ...],
) -> RunInfo:
    """A run that was made here just now."""
    system = os.uname()
    info = RunInfo(
        started_at,
        started_at + timedelta(seconds=seconds),  # The clock on the wall may have been set meanwhile.
        seconds,
        mode,
        max_workers,
        start_method,
        python=".".join(map(str, sys.version_info[:3])),
        platform=f"{system.sysname} {system.release} {system.machine}",
        host=system.nodename,
        broken=broken,
        redact=redact,
    )
    object.__delattr__(info, "version")
    return info


def together(runs: Iterable[RunInfo | None]) -> RunInfo | None:
    """Runs as one: from the first start to the last end, their seconds together, and otherwise what all agree on."""
    known = [run for run in runs if run is not None]
    if len(known) < 2:
        return known[0] if known else None
    seconds = [run.seconds for run in known if run.seconds is not None]
    defaults: dict[str, Any] = {field.name: field.default for field in fields(RunInfo)}
    differing = [name for name in defaults if len({getattr(run, name) for run in known}) > 1]
    return replace(
        replace(known[0], **{name: defaults[name] for name in differing}),
        started_at=min((run.started_at for run in known if run.started_at is not None), default=None),
        ended_at=max((run.ended_at for run in known if run.ended_at is not None), default=None),
        seconds=sum(seconds) if seconds else None,
        broken=next((run.broken for run in known if run.broken), ""),
    )
