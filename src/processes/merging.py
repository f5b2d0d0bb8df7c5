"""Several reports as one. Pure, and runs in the parent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processes.graph import key_of
from processes.report import ProcessExecutionReport
from processes.run_info import together
from processes.spec import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processes.report import TaskReportEntry
    from processes.run_info import RunInfo

#: Names that the error about a clash lists.
NAMES_MAX = 20


def merged(
    reports: Sequence[ProcessExecutionReport], keep: str | None
) -> tuple[dict[str, TaskReportEntry], str, tuple[str, ...], RunInfo | None]:
    """The fields of a report that is all of these, as `ProcessExecutionReport.merge` says."""
    for report in reports[1:]:
        require("other", report, ProcessExecutionReport)
    if keep not in (None, "first", "last"):
        raise ValueError(f"keep must be None, 'first' or 'last', got {keep!r}")
    if keep is None:
        _refuse_clashes(reports)
    return (
        _entries(reports, keep),
        next((report.process_name for report in reports if report.process_name), ""),
        tuple(text for report in reports for text in report.warnings),
        together(report.run for report in reports),
    )


def _refuse_clashes(reports: Sequence[ProcessExecutionReport]) -> None:
    seen: set[str] = set()
    clashes: dict[str, None] = {}
    for report in reports:
        keys = [key_of(name) for name in report.entries]
        clashes.update(dict.fromkeys(name for name, key in zip(report.entries, keys, strict=True) if key in seen))
        seen.update(keys)
    if clashes:
        names = ", ".join(repr(name) for name in list(clashes)[:NAMES_MAX])
        more = f" and {len(clashes) - NAMES_MAX} more" if len(clashes) > NAMES_MAX else ""
        raise ValueError(
            f"More than one report has the task {names}{more}. "
            "Say which entry to keep: keep='first', or keep='last' for the one of the later report."
        )


def _entries(reports: Sequence[ProcessExecutionReport], keep: str | None) -> dict[str, TaskReportEntry]:
    chosen: dict[str, tuple[str, TaskReportEntry]] = {}  # by the key that two names of one task share
    for report in reports:
        for name, entry in report.entries.items():
            key = key_of(name)
            if keep == "last" or key not in chosen:
                chosen[key] = (name, entry)  # In the place of the one before, if there is one.
    return dict(chosen.values())
