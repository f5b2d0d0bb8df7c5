"""A backend that plays a list of events."""

from collections.abc import Sequence

from processes.attempt import Call
from processes.backends.base import Backend
from processes.events import BackendEvent, StartAttempt
from processes.logs import Destination


class ScriptedBackend(Backend):
    """Says what it was told to say, a batch at each wait; nothing runs."""

    def __init__(self, *batches: Sequence[BackendEvent], slots: int = 2) -> None:
        self._batches = list(batches)
        self._slots = slots
        self.started: list[int] = []
        self.recalls = 0
        self.is_closed = False

    @property
    def slots(self) -> int:
        """As given."""
        return self._slots

    def open(self, calls: Sequence[Call], destinations: Sequence[Destination | None]) -> None:
        """Nothing to get ready."""

    def start(self, job: StartAttempt) -> None:
        """Remember what was placed."""
        self.started.append(job.attempt_id)

    def cancel(self, attempt_id: int, error: BaseException) -> None:
        """Nothing to end."""

    def recall(self) -> None:
        """Count it."""
        self.recalls += 1

    def wait(self, until: float | None) -> list[BackendEvent]:
        """The next batch."""
        return list(self._batches.pop(0))

    def interrupt(self, error: BaseException) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Remember it."""
        self.is_closed = True
