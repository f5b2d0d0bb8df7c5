"""
Mistakes that a type checker finds: each line has an error, or the comment that expects one would be an error itself.

Never run.
"""

from typing import assert_type

import processes
from processes import Process, ProcessPool, ReportChannel, SMTPConfig, Task, TaskDependency, WebhookConfig


class Mute(ReportChannel):
    """Has no `send_report`."""


def mistakes(process: Process) -> None:
    """What is wrong with each."""
    processes.Nothing  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # noqa: B018
    Task("a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Task("a", "print")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Task("a", print, args=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Task("a", print, kwargs={1: 2})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    Task("a", print, timeout="1s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Task("a", print, dependencies=["b"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    Task("a", print, retry_on=ValueError)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Task("a", print, memory_limits="1GiB")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Task.map("a", print, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Task.map("a", print, [1], timeouts=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Task.map("a", print, [1], timeout="1s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TaskDependency(Task("a", print))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ProcessPool(1, "spawn")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    SMTPConfig("host")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    WebhookConfig("http://host", timeout=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Mute()  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]
    process.run(parallel=2.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    process.run(True, 2, 60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    process.run(on_event=lambda: None)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
    process.tasks = []  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    report = process.run()
    report.entries = {}  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    for entry in report.entries.values():
        entry.seconds  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # noqa: B018
        entry.error.exception  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  # noqa: B018
        entry.started_at.year  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  # noqa: B018
        assert_type(entry.result, int)  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]
