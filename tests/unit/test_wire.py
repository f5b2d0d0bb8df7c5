"""What is sent arrives, whole or not at all; descriptors never get lost."""

import gc
import os
import pickle
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from processes import wire
from processes.blob import INLINE_MAX, MemoryFile, dump, load
from processes.spec import Injection
from processes.usage import Measure, measure_of, pack_measure
from processes.wire import Channel, Job, Message, channel_pair

LARGE = bytes(range(256)) * 4096  # 1 MiB: no datagram takes it
MEASURE = Measure(12.25, 13.5, 4711, 0.5, 0.25, 3 * 2**30, -4096, "VmHWM")
PACKED = pack_measure(*MEASURE[:-1])

Ends = tuple[Channel, Channel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Two connected ends."""
    one, other = channel_pair()
    with closing(one), closing(other):
        yield one, other


@pytest.fixture
def files() -> Iterator[list[int]]:
    """Descriptors of three files that differ."""
    made = [os.memfd_create(f"file-{number}") for number in range(3)]
    yield made
    wire.close_all(made)


def receive(channel: Channel) -> Message:
    """The next message, which is there."""
    message = channel.receive(wait=False)
    assert message is not None
    return message


def descriptor_count() -> int:
    """How many descriptors this process has open."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def inodes(descriptors: list[int]) -> list[int]:
    """What descriptors are open on."""
    return [os.fstat(descriptor).st_ino for descriptor in descriptors]


# ---- the channel -----------------------------------------------------------------------------------------------------


def test_channel_keeps_messages_apart_and_in_order(ends: Ends) -> None:
    """One datagram is one message."""
    for number in range(5):
        assert ends[0].send(*wire.encode(wire.JOB, number, b"x" * number))
    received = [(message.kind, message.id, bytes(message.body)) for message in (receive(ends[1]) for _ in range(5))]
    assert received == [(wire.JOB, number, b"x" * number) for number in range(5)]


def test_channel_has_nothing_when_nothing_was_sent(ends: Ends) -> None:
    """A receiver that must not wait is told so."""
    assert ends[1].receive(wait=False) is None


def test_channel_passes_descriptors_on(ends: Ends, files: list[int]) -> None:
    """They arrive in order and belong to the receiver; a child would not inherit them."""
    ends[0].send(*wire.encode(wire.START, 1, b"", files))
    received = receive(ends[1]).descriptors
    assert inodes(received) == inodes(files)
    assert not set(received) & set(files)
    assert not any(os.get_inheritable(descriptor) for descriptor in received)
    wire.close_all(received)


def test_channel_delivers_what_was_sent_before_the_end(ends: Ends) -> None:
    """A sender that is gone has not taken its last words along."""
    ends[0].send(*wire.encode(wire.LOGGED, 7, b"last words"))
    ends[0].close()
    assert bytes(receive(ends[1]).body) == b"last words"
    with pytest.raises(EOFError):
        ends[1].receive()


def test_channel_send_to_nobody_raises(ends: Ends) -> None:
    """The other end is gone: an OSError, not a signal."""
    ends[1].close()
    with pytest.raises(OSError, match=r"."):
        ends[0].send(*wire.encode(wire.JOB, 1))


def test_channel_refuses_when_it_is_full(ends: Ends) -> None:
    """A sender that must not wait gets False, and nothing of that message has been sent."""
    sent = 0
    while ends[0].send(*wire.encode(wire.JOB, sent, b"x" * 1000), wait=False):
        sent += 1
    assert [receive(ends[1]).id for _ in range(sent)] == list(range(sent))
    assert ends[1].receive(wait=False) is None
    assert ends[0].send(*wire.encode(wire.JOB, sent), wait=False)


@pytest.mark.parametrize("length", [0, 1, INLINE_MAX, INLINE_MAX + 1024, INLINE_MAX + 1025, len(LARGE)])
def test_channel_carries_bodies_of_any_size(ends: Ends, length: int) -> None:
    """What no datagram takes goes in a memfd, and arrives all the same."""
    datagram, descriptors = wire.encode(wire.LOGGED, 2**63, LARGE[:length])
    assert wire.is_spilled(datagram) == bool(descriptors)
    ends[0].send(datagram, descriptors)
    wire.close_all(descriptors)
    message = receive(ends[1])
    assert (message.kind, message.id, bytes(message.body), message.descriptors) == (
        wire.LOGGED,
        2**63,
        LARGE[:length],
        [],
    )


def test_channel_spilled_body_goes_behind_the_descriptors(ends: Ends, files: list[int]) -> None:
    """The body's own memfd is none of the message's descriptors, and is closed when it has been read."""
    before = descriptor_count()
    datagram, descriptors = wire.encode(wire.JOB, 1, LARGE, files)
    ends[0].send(datagram, descriptors)
    os.close(descriptors[-1])
    message = receive(ends[1])
    assert bytes(message.body) == LARGE
    assert inodes(message.descriptors) == inodes(files)
    wire.close_all(message.descriptors)
    assert descriptor_count() == before


@pytest.mark.parametrize("count", [249, 250, 251, 253, 254, 500, 501])
def test_channel_carries_any_number_of_descriptors(ends: Ends, files: list[int], count: int) -> None:
    """More than the kernel takes at once go ahead, and all arrive in order."""
    many = [files[number % 3] for number in range(count)]
    before = descriptor_count()
    assert ends[0].send(*wire.encode(wire.JOB, 1, b"body", many), wait=False)
    message = receive(ends[1])
    assert bytes(message.body) == b"body"
    assert inodes(message.descriptors) == inodes(many)
    wire.close_all(message.descriptors)
    assert descriptor_count() == before


def test_channel_carries_many_descriptors_and_a_spilled_body(ends: Ends, files: list[int]) -> None:
    """The body's descriptor may be the one too many."""
    datagram, descriptors = wire.encode(wire.JOB, 1, LARGE, files[:1] * wire.DESCRIPTORS_MAX)
    ends[0].send(datagram, descriptors)
    os.close(descriptors[-1])
    message = receive(ends[1])
    assert bytes(message.body) == LARGE
    assert inodes(message.descriptors) == inodes(files[:1] * wire.DESCRIPTORS_MAX)
    wire.close_all(message.descriptors)


@pytest.mark.timeout(20)  # A fail-safe: it would wait for ever.
def test_channel_refuses_descriptors_when_it_is_full(ends: Ends, files: list[int]) -> None:
    """A sender that must not wait does not wait for a message with descriptors either."""
    sent = 0
    while ends[0].send(*wire.encode(wire.JOB, sent, b"", files), wait=False):
        sent += 1
    for _ in range(sent):
        wire.close_all(receive(ends[1]).descriptors)
    assert ends[1].receive(wait=False) is None


@pytest.mark.timeout(20)  # As above.
def test_channel_refused_message_with_many_descriptors_can_be_sent_again(ends: Ends, files: list[int]) -> None:
    """What went ahead of a message that was refused does not arrive twice."""
    many = [files[number % 3] for number in range(300)]
    datagram, descriptors = wire.encode(wire.JOB, 1, b"", many)
    sent = 0
    while ends[0].send(*wire.encode(wire.LOGGED, 0), wait=False):
        sent += 1
    receive(ends[1])  # Room for one datagram: the message needs two.
    while not ends[0].send(datagram, descriptors, wait=False):
        ends[1].receive(wait=False)
    while (message := receive(ends[1])).kind != wire.JOB:
        pass
    found = inodes(message.descriptors)
    wire.close_all(message.descriptors)
    assert found == inodes(many)


def test_channel_closes_what_came_ahead_of_a_message_taken_back(ends: Ends, files: list[int]) -> None:
    """The message itself was received by another: its descriptors are freed and not mixed up with the next one's."""
    before = descriptor_count()
    ends[0].send(*wire.encode(wire.DESCRIPTORS, 1, b"", files))
    ends[0].send(*wire.encode(wire.JOB, 2, b"", files[:1]))
    message = receive(ends[1])
    assert message.id == 2
    assert inodes(message.descriptors) == inodes(files[:1])
    wire.close_all(message.descriptors)
    assert descriptor_count() == before


def test_channel_closes_what_came_ahead_of_two_messages_taken_back(ends: Ends, files: list[int]) -> None:
    """Descriptors of another message do not pile up."""
    before = descriptor_count()
    for number in (1, 2, 3):
        ends[0].send(*wire.encode(wire.DESCRIPTORS, number, b"", files))
    assert ends[1].receive(wait=False) is None
    assert descriptor_count() == before + len(files)
    ends[1].close()
    assert descriptor_count() == before - 1


@pytest.mark.parametrize(
    "datagram", [b"x", b"nine byte", b"\x01\x01" + bytes(8), b"hello, world", b"\x0c\x00" + bytes(3)], ids=repr
)
def test_channel_says_what_is_no_message(ends: Ends, datagram: bytes) -> None:
    """A task may write anything anywhere: what cannot be a message is a ValueError, and the next one arrives."""
    ends[0].socket.send(datagram)
    ends[0].send(*wire.encode(wire.LOGGED, 3))
    with pytest.raises(ValueError, match="no message"):
        ends[1].receive()
    assert receive(ends[1]).id == 3


def test_channel_closes_descriptors_of_garbage(ends: Ends, files: list[int]) -> None:
    """What came with it is freed."""
    before = descriptor_count()
    socket.send_fds(ends[0].socket, [b"x"], files)
    with pytest.raises(ValueError, match="no message"):
        ends[1].receive()
    assert descriptor_count() == before


def test_close_all_takes_what_is_closed_already(files: list[int]) -> None:
    """Whatever state they are in."""
    os.close(files[0])
    wire.close_all([files[0], -1, files[1]])
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(files[1])


# ---- the bodies ------------------------------------------------------------------------------------------------------


def job(**changes: object) -> Job:
    """A job of inline values."""
    small = Job(
        attempt_id=5,
        name="näme",
        function=2,
        function_value=dump(len),
        profile=3,
        profile_value=None,
        arguments=dump(((1,), {"x": 2})),
        injected=((Injection(positional=True, keyword=None), b"a"), (Injection(positional=False, keyword="k"), b"")),
    )
    return small._replace(**changes)  # type: ignore[arg-type]  # a test's own fields


def through(ends: Ends, datagram: bytes, descriptors: object) -> Message:
    """What arrives of what `encode` made."""
    assert isinstance(descriptors, list | tuple)
    ends[0].send(datagram, descriptors)
    if wire.is_spilled(datagram):
        os.close(descriptors[-1])
    return receive(ends[1])


def test_job_of_inline_values_is_itself_again(ends: Ends) -> None:
    """All fields, also those that are None."""
    for sent in (job(), job(injected=()), job(function_value=None, profile_value=b"p", arguments=None)):
        assert wire.decode_job(through(ends, *wire.encode_job(*sent))) == sent


def test_job_with_values_in_memory_finds_each_in_its_place(ends: Ends) -> None:
    """Descriptors are mixed with inline values, and none is taken for another."""
    values = [dump((name, LARGE)) for name in ("function", "profile", "arguments", "first", "last")]
    how = Injection(positional=True, keyword=None)
    sent = job(
        function_value=values[0],
        profile_value=values[1],
        arguments=values[2],
        injected=((how, values[3]), (how, dump("inline")), (how, values[4])),
    )
    got = wire.decode_job(through(ends, *wire.encode_job(*sent)))
    found = [got.function_value, got.profile_value, got.arguments, *(value for _, value in got.injected)]
    loaded = [load(value) for value in found if value is not None]
    assert [value if value == "inline" else value[0] for value in loaded] == [
        "function",
        "profile",
        "arguments",
        "first",
        "inline",
        "last",
    ]
    assert [got.injected[0][0].positional, got.injected[0][0].keyword] == [True, None]


def test_job_with_more_inputs_than_descriptors_fit(ends: Ends) -> None:
    """300 large inputs are 300 inputs, each the right one, and nothing stays open."""
    before = descriptor_count()
    values = [MemoryFile(os.memfd_create("input")) for _ in range(3)]
    how = Injection(positional=True, keyword=None)
    sent = job(injected=tuple((how, values[number % 3]) for number in range(300)))
    got = wire.decode_job(through(ends, *wire.encode_job(*sent)))
    received = [value.fd for _, value in got.injected if isinstance(value, MemoryFile)]
    assert inodes(received) == inodes([values[number % 3].fd for number in range(300)])
    del got, sent, values
    assert descriptor_count() == before


@pytest.mark.parametrize("name", ["inline", "spilled"])
def test_job_of_any_length_arrives(ends: Ends, name: str) -> None:
    """Many inline values together are more than a datagram takes."""
    how = Injection(positional=False, keyword="k")
    sent = job(injected=tuple((how, bytes([number]) * 100_000) for number in range(1 if name == "inline" else 20)))
    datagram, descriptors = wire.encode_job(*sent)
    assert wire.is_spilled(datagram) == (name == "spilled")
    assert wire.decode_job(through(ends, datagram, descriptors)) == sent


@pytest.mark.parametrize("value", [None, "small", LARGE[: INLINE_MAX - 20], LARGE], ids=lambda value: repr(value)[:9])
def test_success_brings_measure_and_value(ends: Ends, value: object) -> None:
    """The result is as it was; the measure says which child it comes from."""
    made = dump(value)
    datagram, descriptors = wire.encode_success(9, PACKED, 123, made)
    message = through(ends, datagram, descriptors)
    assert (message.kind, message.id) == (wire.SUCCEEDED, 9)
    measure, resident, got = wire.decode_success(message)
    ends[0].send(*wire.encode(wire.READY, 1, b"x" * 1000))
    receive(ends[1])  # The receive buffer is used again: measure and value must be copies.
    assert (measure_of(measure), resident, load(got)) == (MEASURE, 123, value)


def test_short_success_is_the_success_again() -> None:
    """All of it, from the bytes alone."""
    outcome = wire.encode_short(2**40, PACKED, 123, pickle.dumps("small"))
    attempt_id, seconds, resident, measure, value = wire.decode_short(outcome)
    assert (attempt_id, seconds, resident, load(value)) == (2**40, 1.25, 123, "small")
    assert measure_of(measure) == MEASURE


@pytest.mark.parametrize("length", [10, len(LARGE)])
@pytest.mark.parametrize("retryable", [True, False])
def test_failure_brings_measure_and_fields(ends: Ends, length: int, *, retryable: bool) -> None:
    """As plain data, also where the traceback is longer than a datagram."""
    fields = ("ValueError", "x" * length, "trace", {"a": "1"}, "file:1")
    message = through(ends, *wire.encode_failure(9, PACKED, 123, fields, b"pickled", retryable=retryable))
    assert (message.kind, message.id) == (wire.FAILED, 9)
    assert wire.decode_failure(message) == (MEASURE, 123, retryable, fields, b"pickled")


@pytest.mark.parametrize("text", ["short", "long" * 100_000])
def test_plain_facts_are_the_same_again(ends: Ends, files: list[int], text: str) -> None:
    """Any number of them, with descriptors."""
    message = through(ends, *wire.encode_plain(wire.STARTED, 4, 1, text, None, descriptors=files))
    assert wire.decode_plain(message) == (1, text, None)
    assert inodes(message.descriptors) == inodes(files)
    wire.close_all(message.descriptors)
