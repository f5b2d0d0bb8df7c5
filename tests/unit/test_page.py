"""What one side writes into the page the other reads, whole or not at all."""

import os
import zlib
from collections.abc import Iterator
from contextlib import closing

import pytest

from processes.page import MESSAGE_MAX, RECORD_MAX, RING_SIZE, SLOTS, Page

Sides = tuple[Page, Page]


@pytest.fixture
def page_fd() -> Iterator[int]:
    """A page's descriptor."""
    fd = Page.create()
    yield fd
    os.close(fd)


def test_page_is_empty_at_first(page_fd: int) -> None:
    """No attempt has begun."""
    with closing(Page(page_fd)) as page:
        assert page.read() == (0, 0.0, 0.0, 0.0, 0)


def test_page_shows_the_other_side_what_was_written(page_fd: int) -> None:
    """Seconds to the microsecond at least; the last attempt counts."""
    with closing(Page(page_fd)) as worker, closing(Page(page_fd)) as parent:
        worker.write(1, 1.0, 0.0, 0.0, 1)
        worker.write(2**40, 123_456.789_012, 1.5, 0.25, 3 * 2**30)
        attempt_id, since, user, system, resident = parent.read()
        assert (attempt_id, user, system, resident) == (2**40, 1.5, 0.25, 3 * 2**30)
        assert since == pytest.approx(123_456.789_012, abs=1e-6)


def test_page_outlives_its_writer(page_fd: int) -> None:
    """After a death the parent still reads what ran."""
    with closing(Page(page_fd)) as parent:
        with closing(Page(page_fd)) as worker:
            worker.write(7, 1.0, 0.0, 0.0, 0)
        assert parent.read()[0] == 7


@pytest.fixture
def sides(page_fd: int) -> Iterator[Sides]:
    """The page as the parent and the worker have it."""
    with closing(Page(page_fd)) as parent, closing(Page(page_fd)) as worker:
        yield parent, worker


def test_page_hands_jobs_over_by_number(sides: Sides) -> None:
    """Each from its own slot; the slots are used again and again."""
    parent, worker = sides
    for number in range(3 * SLOTS):
        parent.put_job(number, 10 + number, 9 + number, b"job %d" % number)
        job = worker.job(number)
        assert (job.attempt_id, job.follows, job.function) == (10 + number, 9 + number, 0)
        assert bytes(job.message) == b"job %d" % number


def test_page_holds_as_many_jobs_as_it_has_slots(sides: Sides) -> None:
    """None is overwritten while it is with the worker."""
    parent, worker = sides
    for number in range(SLOTS):
        parent.put_job(number, number, 0, bytes([number]) * MESSAGE_MAX)
    for number in range(SLOTS):
        job = worker.job(number)
        assert (job.attempt_id, bytes(job.message)) == (number, bytes([number]) * MESSAGE_MAX)


def test_page_tells_of_a_job_that_comes_by_the_channel(sides: Sides) -> None:
    """It has an id and no message."""
    sides[0].put_job(3, 7, 0, b"")
    job = sides[1].job(3)
    assert (job.attempt_id, bytes(job.message), job.function) == (7, b"", 0)


def test_page_hands_calls_over_in_parts(sides: Sides) -> None:
    """Numbers of function and profile, and where the arguments begin."""
    parent, worker = sides
    parent.put_call(SLOTS + 1, 2**40, 2**41, 2**31, 3, 4, True, b"nameargs")
    job = worker.job(SLOTS + 1)
    assert (job.attempt_id, job.follows, job.function, job.profile, job.takes_result) == (2**40, 2**41, 2**31, 3, True)
    assert (bytes(job.message[: job.name_length]), bytes(job.message[job.name_length :])) == (b"name", b"args")


def test_page_hands_outcomes_over_by_number(sides: Sides) -> None:
    """They are counted, and each is the right one however often the slots were used."""
    parent, worker = sides
    assert parent.told == 0
    for number in range(3 * SLOTS):
        assert worker.put_outcome(b"%d" % number * 7) == number + 1
        assert (parent.told, *parent.outcomes(number, number + 1)) == (number + 1, b"%d" % number * 7)
    assert list(parent.outcomes(2 * SLOTS, 3 * SLOTS)) == [b"%d" % number * 7 for number in range(2 * SLOTS, 3 * SLOTS)]
    assert list(parent.outcomes(3 * SLOTS, 3 * SLOTS)) == []


@pytest.mark.parametrize("first", [0, SLOTS - 1])
def test_page_does_not_take_another_outcome_for_the_one_asked_for(sides: Sides, first: int) -> None:
    """Neither one of an earlier round nor one of a later; those before it are given."""
    parent, worker = sides
    for number in range(SLOTS + 1):
        worker.put_outcome(b"%d" % number)
    found = parent.outcomes(first, SLOTS + 2)
    for number in range(first, SLOTS + 1) if first else ():
        assert next(found) == b"%d" % number
    with pytest.raises(ValueError, match="not whole"):
        next(found)


def test_page_tells_of_a_worker_that_is_cut_off(sides: Sides) -> None:
    """With no descriptor: the mapping is enough."""
    parent, worker = sides
    assert not parent.is_cut_off
    worker.say_cut_off()
    assert parent.is_cut_off


def test_page_tells_the_worker_whether_the_parent_is_patient(sides: Sides) -> None:
    """At first it is not."""
    parent, worker = sides
    assert not worker.is_patient
    for is_patient in (True, False):
        parent.is_patient = is_patient
        assert worker.is_patient is is_patient


@pytest.mark.parametrize("at", [0, 3, 8, 12, 16, 20])
def test_page_does_not_take_a_damaged_outcome(page_fd: int, sides: Sides, at: int) -> None:
    """Number, length, checksum or message: a task may write anywhere in its memory."""
    parent, worker = sides
    worker.put_outcome(b"outcome " * 10)
    (message,) = parent.outcomes(0, 1)
    whole = os.pread(page_fd, 2**20, 0)
    start = whole.index(message) - 16
    assert int.from_bytes(whole[start + 12 : start + 16], "little") == zlib.crc32(message)
    os.pwrite(page_fd, bytes([whole[start + at] ^ 0x55]), start + at)
    with pytest.raises(ValueError, match="not whole"):
        next(parent.outcomes(0, 1))


# ---- log records -----------------------------------------------------------------------------------------------------


def test_page_hands_records_over_in_order(sides: Sides) -> None:
    """Of any length, round and round the ring, each once, up to the position that was asked for."""
    parent, worker = sides
    sent, found = list[tuple[int, bytes]](), list[tuple[int, bytes]]()
    for number in range(2000):
        record = (number % 7, b"%d" % number * (number % 500))
        assert worker.put_record(*record)
        sent.append(record)
        if number % 40 == 39:
            middle = worker.written
            assert worker.put_record(9, b"later")
            found += parent.records(middle)
            assert found == sent
            assert list(parent.records(parent.written)) == [(9, b"later")]
            assert list(parent.records(parent.written)) == []
    assert worker.written > 4 * RING_SIZE


def test_page_takes_records_until_its_ring_is_full(sides: Sides) -> None:
    """None is overwritten before it was read, and there is room again afterwards."""
    parent, worker = sides
    for _ in range(3):
        count = 0
        while worker.put_record(count, bytes([count % 256]) * 1000):
            count += 1
        assert count >= RING_SIZE // 1032 - 1
        assert list(parent.records(parent.written)) == [(n, bytes([n % 256]) * 1000) for n in range(count)]


def test_page_takes_no_record_that_is_too_long(sides: Sides) -> None:
    """A longer one would hold the ring up; nothing is written then."""
    parent, worker = sides
    assert worker.put_record(1, b"x" * RECORD_MAX)
    assert not worker.put_record(2, b"x" * (RECORD_MAX + 1))
    assert [len(record) for _, record in parent.records(parent.written)] == [RECORD_MAX]


@pytest.mark.parametrize("at", [8, 12, 16, 30])
def test_page_does_not_take_a_damaged_record(page_fd: int, sides: Sides, at: int) -> None:
    """Length, checksum or text; the one before it is given."""
    parent, worker = sides
    worker.put_record(1, b"whole")
    start = worker.written
    worker.put_record(2, b"damaged damaged damaged")
    place = os.pread(page_fd, 2**21, 0).index(b"damaged") - 16
    assert place % 16 == start % 16
    byte = os.pread(page_fd, 1, place + at)[0]
    os.pwrite(page_fd, bytes([byte ^ 0x55]), place + at)
    found = parent.records(parent.written)
    assert next(found) == (1, b"whole")
    with pytest.raises(ValueError, match="not whole"):
        next(found)


@pytest.mark.parametrize("until", [-1, RING_SIZE + 1])
def test_page_reads_no_more_records_than_there_can_be(sides: Sides, until: int) -> None:
    """A worker whose memory is corrupt may say anything."""
    parent, worker = sides
    worker.put_record(1, b"x")
    list(parent.records(worker.written))
    with pytest.raises(ValueError, match="cannot hold"):
        next(parent.records(worker.written + until))
