"""What the scheduler knows of a task: its edges, limits and retries. Pure: names and numbers only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task of a run, without anything of the user's: function and arguments stay with the backend."""

    #: The task's name, as the report shows it.
    name: str
    #: Positions, in the run's order, of the tasks it waits for; a task counts once however often it is named.
    dependencies: tuple[int, ...] = ()
    #: Further attempts after the first.
    retries: int = 0
    #: Seconds to wait before each further attempt; one for all, or one each.
    retry_delays: tuple[float, ...] = (0.0,)
    #: Whether the report keeps the result; if not, it is freed when its last consumer has ended.
    keep_result: bool = True

    def delay_before(self, attempt: int) -> float:
        """Seconds to wait before attempt number `attempt`, which is 2 or more."""
        return self.retry_delays[min(attempt - 2, len(self.retry_delays) - 1)]
