"""What was placed with a child is its own, or taken back whole: never both, never neither."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from processes import wire
from processes.attempt import Call
from processes.child import Child, Placed
from processes.page import MESSAGE_MAX, SLOTS, Page

CALL = Call("name", len, (), {})


@pytest.fixture
def child() -> Iterator[Child]:
    """A child without a process: the test plays the worker."""
    with closing(Child(1)) as made:
        yield made


class Worker:
    """The worker's side: takes what it is given."""

    def __init__(self, child: Child) -> None:
        end, page, self.tokens = child.ends()
        self.channel = wire.Channel(socket.socket(fileno=os.dup(end)))
        self.page = Page(page)
        self.taken = 0

    def take(self) -> tuple[int, bytes] | None:
        """The next attempt's id and message, or None where none is left."""
        try:
            os.eventfd_read(self.tokens)
        except BlockingIOError:
            return None
        job = self.page.job(self.taken)
        self.taken += 1
        return job.attempt_id, bytes(job.message)

    def take_all(self) -> list[int]:
        """Ids of all that are left."""
        found = []
        while (job := self.take()) is not None:
            found.append(job[0])
        return found

    def close(self) -> None:
        """Free its descriptors."""
        self.channel.close()
        self.page.close()


@pytest.fixture
def worker(child: Child) -> Iterator[Worker]:
    """The worker of `child`."""
    with closing(Worker(child)) as made:
        yield made


def place(child: Child, *attempt_ids: int, size: int = 1) -> list[Placed]:
    """Place attempts with a message of so many bytes."""
    made = []
    for attempt_id in attempt_ids:
        placed = Placed(attempt_id, CALL)
        placed.datagram, placed.descriptors = wire.encode(wire.JOB, attempt_id, b"x" * size)
        child.place(placed)
        made.append(placed)
    return made


def ids(taken: list[Placed]) -> list[int]:
    return [placed.attempt_id for placed in taken]


def test_child_sends_nothing_before_it_is_flushed(child: Child, worker: Worker) -> None:
    """Then everything, in order."""
    place(child, 1, 2)
    assert worker.take() is None
    child.flush()
    assert worker.take() == (1, wire.encode(wire.JOB, 1, b"x")[0])
    place(child, 3)
    child.flush()
    assert worker.take_all() == [2, 3]
    assert list(child.inflight) == [1, 2, 3]


def test_child_does_not_take_a_closed_descriptor_for_its_end(child: Child) -> None:
    """What was to travel is gone: to go on as if the process died would be to wait for that for ever."""
    placed = Placed(1, CALL)
    closed = os.open(os.devnull, os.O_RDONLY)
    placed.datagram, placed.descriptors = wire.encode(wire.JOB, 1, b"x", [closed])
    child.place(placed)
    os.close(closed)
    with pytest.raises(OSError, match="Bad file descriptor"):
        child.flush()


def test_child_hands_over_calls_among_other_attempts(child: Child, worker: Worker) -> None:
    """In order, and taken back as all others."""
    place(child, 1)
    child.place_call(Placed(2, CALL), 7, 0, 4, False, b"nameargs")
    child.place_call(Placed(3, CALL), 7, 0, 4, False, b"name")
    child.flush()
    assert worker.take() == (1, wire.encode(wire.JOB, 1, b"x")[0])
    assert worker.take() == (2, b"nameargs")
    assert ids(child.take_back()) == [3]
    assert list(child.inflight) == [1, 2]


@pytest.mark.parametrize("begun", range(4))
def test_child_takes_back_what_the_worker_has_not_begun(child: Child, worker: Worker, begun: int) -> None:
    """Each attempt is with one side; the next ones are as if the others had never been."""
    place(child, 1, 2, 3)
    child.flush()
    place(child, 4)  # not sent yet
    kept = [job[0] for _ in range(begun) if (job := worker.take()) is not None]
    taken = ids(child.take_back())
    assert kept + taken == [1, 2, 3, 4]
    assert list(child.inflight) == kept
    place(child, 5, 6)
    child.flush()
    assert worker.take_all() == [5, 6]
    assert child.take_back() == []
    assert list(child.inflight) == [*kept, 5, 6]


def test_child_can_be_filled_again_and_again(child: Child, worker: Worker) -> None:
    """As many as there are slots, taken back or begun in turns, for many rounds."""
    next_id = 1
    for round_ in range(50):
        numbers = list(range(next_id, next_id + SLOTS))
        next_id += SLOTS
        place(child, *numbers)
        child.flush()
        begun = [job[0] for _ in range(round_ % SLOTS) if (job := worker.take()) is not None]
        assert begun + ids(child.take_back()) == numbers
        for attempt_id in begun:
            del child.inflight[attempt_id]
    assert child.inflight == {}


def test_child_sends_long_attempts_by_the_channel(child: Child, worker: Worker) -> None:
    """In their place among the short ones."""
    place(child, 1)
    place(child, 2, size=MESSAGE_MAX)
    place(child, 3)
    child.flush()
    assert [worker.take() for _ in range(3)] == [
        (1, wire.encode(wire.JOB, 1, b"x")[0]),
        (2, b""),
        (3, wire.encode(wire.JOB, 3, b"x")[0]),
    ]
    message = worker.channel.receive(wait=False)
    assert message is not None
    assert (message.id, bytes(message.body)) == (2, b"x" * MESSAGE_MAX)


def test_child_does_not_send_what_was_taken_back_from_a_full_channel(child: Child, worker: Worker) -> None:
    """What had gone stays there, and the worker knows by its id that it is not for it."""
    placed = place(child, *range(1, 20), size=100_000)
    child.flush()
    waiting = ids(list(child.outbox))
    assert waiting
    begun = worker.take()
    assert begun == (1, b"")
    assert ids(child.take_back()) == list(range(2, 20))
    assert ids(list(child.outbox)) == []
    assert [one.datagram for one in placed] == [b""] * 19
    place(child, 20, size=100_000)
    child.flush()
    assert worker.take() == (20, b"")
    received = []
    while (message := worker.channel.receive(wait=False)) is not None:
        received.append(message.id)
        child.fill_channel()
    assert received == [*range(1, waiting[0]), 20]


def test_child_frees_what_was_never_sent(child: Child) -> None:
    """A message in a memfd of its own is closed when its attempt is taken back."""
    before = len(os.listdir("/proc/self/fd"))
    place(child, 1, 2, size=2**20)
    assert len(os.listdir("/proc/self/fd")) == before + 2
    child.take_back()
    assert len(os.listdir("/proc/self/fd")) == before


def test_child_that_died_frees_what_it_never_received(child: Child) -> None:
    """What waited for room in its channel is closed when its attempts are given up, all of them."""
    before = len(os.listdir("/proc/self/fd"))
    place(child, *range(1, 1000), size=100_000)
    place(child, 1000, 1001, size=2**20)
    child.flush()
    assert len(os.listdir("/proc/self/fd")) == before + 2
    assert ids(child.give_up()) == list(range(1, 1002))
    assert len(os.listdir("/proc/self/fd")) == before
