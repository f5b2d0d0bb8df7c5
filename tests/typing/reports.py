"""A report kept, compared, merged and sent, by channels of the library and one of the program's own."""

import ssl
import sys
from typing import assert_type

from processes import (
    Delivery,
    EmailChannel,
    FigureChange,
    HTMLEmailStyle,
    Process,
    ProcessExecutionReport,
    ReportChannel,
    ReportComparison,
    ReportContent,
    ReportDeliveryError,
    SMTPConfig,
    Task,
    WebhookChannel,
    WebhookConfig,
)


class Keep(ReportChannel):
    """Keeps what it was sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send_report(self, report: ProcessExecutionReport, *, errors_only: bool) -> None:
        self.sent += list(report.errored if errors_only else report.entries)


def mail() -> EmailChannel:
    return EmailChannel(
        SMTPConfig(
            ("127.0.0.1", 1),
            "ETL <etl@example.com>",
            ["ops@example.com"],
            ("etl", "its password"),
            security="starttls",
            secure=(None, None, ssl.create_default_context()),
        ),
        HTMLEmailStyle(palette="slate", language="de"),
        ReportContent(show_traceback=False),
    )


def hook() -> WebhookChannel:
    return WebhookChannel(WebhookConfig("http://127.0.0.1:1/", headers={"X-From": "etl"}, timeout=1, retries=0))


def run(divisor: int) -> ProcessExecutionReport:
    return Process([Task("share", lambda: 100 / divisor), Task("fine", lambda: 1)], name="shares").run()


def main() -> int:
    monday, tuesday = run(50), run(0)
    again = ProcessExecutionReport.from_json(monday.to_json(indent=2))
    assert_type(again, ProcessExecutionReport)
    changed = tuesday.compare(again, time_ratio=2, memory_bytes="64MiB")
    assert_type(changed, ReportComparison)
    assert_type(changed.newly_failed, tuple[str, ...])
    assert_type(changed.slower, tuple[FigureChange, ...])
    assert_type(changed.run, FigureChange | None)
    assert_type(monday.merge(tuesday, keep="first"), ProcessExecutionReport)
    assert_type(tuesday.to_text(details=True), str)
    keep = Keep()
    deliveries = tuesday.notify(keep, mail(), hook(), only_errors=True, tasks=["share"], show_warnings=False)
    assert_type(deliveries, tuple[Delivery, ...])
    for delivery in deliveries:
        assert_type(delivery.error, Exception | None)
        if isinstance(delivery.error, ReportDeliveryError):
            assert_type(delivery.error.refused, dict[str, str])
    try:
        tuesday.raise_for_errors()
    except* ZeroDivisionError as errors:
        assert_type(errors, ExceptionGroup[ZeroDivisionError])
    delivered = [delivery.delivered for delivery in deliveries]
    return 0 if (keep.sent, changed.newly_failed, delivered) == (["share"], ("share",), [True, False, False]) else 1


if __name__ == "__main__":
    sys.exit(main())
