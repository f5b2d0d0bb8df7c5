"""What tests of logs need: a handler that keeps records, a reader of logfiles, every way to run tasks."""

import logging
import re
from pathlib import Path

from processes import ProcessPool
from support import pools

#: Line format of 7.0.4: local time, logger, level, message.
LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) - (\S+) - ([A-Z]+|Level \d+) - (.*)")

#: Sequential, threads, and children by each start method.
WAYS = ("sequential", "threads", *pools.START_METHODS)


class Keeper(logging.Handler):
    """Keeps the records it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def messages(self) -> list[tuple[str, str]]:
        return [(record.levelname, record.getMessage()) for record in self.records]


def told(path: Path) -> list[tuple[str, str]]:
    """Level and message of each line that begins a record."""
    matches = [LINE.fullmatch(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(match[3], match[4]) for match in matches if match]


def parallel(way: str) -> str | ProcessPool | None:
    """What `Process.run` is called with to run tasks in one of WAYS, two at a time."""
    if way in pools.START_METHODS:
        return pools.pool(way)
    return None if way == "sequential" else way
