"""Attempts in threads of the caller's process: shared memory, no isolation; an overdue attempt is only reported."""

from __future__ import annotations

from processes.backends.local import LocalBackend


class ThreadsBackend(LocalBackend):
    """A thread an attempt, `max_workers` at a time."""

    @property
    def way(self) -> tuple[str, int | None, str]:
        """What the report says of it."""
        return "threads", self._max_workers, ""
