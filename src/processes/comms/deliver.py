"""A report handed to each channel: what one raises is told in the log, by a warning and to the caller, no more."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import time
import warnings
from typing import TYPE_CHECKING

from processes.failure import let_go, shorten, text_of, type_name
from processes.logs import LIBRARY_LOGGER
from processes.report import Delivery

if TYPE_CHECKING:
    from collections.abc import Iterable

    from processes.report import ProcessExecutionReport, ReportChannel

#: Characters of an error's text in the log and in a warning.
ERROR_CHARS_MAX = 2_000

#: Names that the error about an unknown one lists.
NAMES_MAX = 20

_PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

_logger = logging.getLogger(LIBRARY_LOGGER)


def deliver(
    report: ProcessExecutionReport,
    channels: Iterable[ReportChannel],
    *,
    only_errors: bool,
    tasks: Iterable[str] | None,
    show_warnings: bool,
) -> tuple[Delivery, ...]:
    """As `ProcessExecutionReport.notify` says."""
    if tasks is not None:
        report = _restricted(report, tasks)
    if only_errors and not report.errored:
        return ()
    deliveries = tuple(_hand_over(report, channel, errors_only=only_errors) for channel in channels)
    if show_warnings:
        # After the last channel: where the application makes warnings errors, the first would end the loop.
        for delivery in deliveries:
            if delivery.error is not None:
                _warn(_told(delivery.channel, delivery.error))
    return deliveries


def _restricted(report: ProcessExecutionReport, tasks: Iterable[str]) -> ProcessExecutionReport:
    """The report of some tasks alone, in its own order and spelling."""
    names = (tasks,) if isinstance(tasks, str) else tuple(tasks)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"tasks must be names of tasks, not {type_name(type(name))}.")
    known = {key.casefold() for key in report.entries}
    unknown = [name for name in names if name.casefold() not in known]
    if unknown:
        raise ValueError(f"The report has no task {_listed(unknown)}. It has: {_listed(report.entries) or 'none'}.")
    wanted = {name.casefold() for name in names}
    return dataclasses.replace(
        report, entries={key: entry for key, entry in report.entries.items() if key.casefold() in wanted}
    )


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - NAMES_MAX} more" if len(found) > NAMES_MAX else ""
    return ", ".join(repr(name) for name in found[:NAMES_MAX]) + more


def _hand_over(report: ProcessExecutionReport, channel: ReportChannel, *, errors_only: bool) -> Delivery:
    name = type(channel).__name__
    begun_at = time.monotonic()
    try:
        channel.send_report(report, errors_only=errors_only)
    except Exception as error:  # noqa: BLE001  foreign code. Ctrl-C, and a signal handler's SystemExit, must pass
        let_go(error)  # It may be kept: not with the payload, the password and what else its frames hold.
        # A handler of the application may raise too.
        with contextlib.suppress(Exception):
            # Not its traceback: what formats it with the frames' values would log what they keep secret.
            _logger.error("%s", _told(name, error))  # noqa: TRY400
        return Delivery(name, delivered=False, error=error, seconds=time.monotonic() - begun_at)
    return Delivery(name, delivered=True, error=None, seconds=time.monotonic() - begun_at)


def _told(channel: str, error: Exception) -> str:
    """The wording is 7.0.4's; an error without text tells its type."""
    return f"{channel} failed to send report: {shorten(text_of(error), ERROR_CHARS_MAX) or type_name(type(error))}"


def _warn(text: str) -> None:
    """
    Warn at the line outside this package that led here, each time.

    `warnings.warn` would keep in the caller's module that it has warned there, and the default filter shows one warning
    a place: the second report that is not delivered would be lost in silence. The application's filters decide as ever.
    """
    frame = sys._getframe()
    while frame.f_code.co_filename.startswith(_PACKAGE_FOLDER) and frame.f_back is not None:
        frame = frame.f_back
    module = frame.f_globals.get("__name__") or "__main__"
    warnings.warn_explicit(text, UserWarning, frame.f_code.co_filename, frame.f_lineno, module, registry={})
