"""
Messages between parent, keeper and workers, to datagrams and back.

Both ends of the contract are in this file. A message is one datagram on a `SOCK_SEQPACKET` socket: it arrives whole or
not at all, whatever happens to its sender. What does not fit goes as one memfd whose descriptor travels in the
datagram's place, and more descriptors than one datagram takes go ahead in datagrams of their own. User objects ride as
opaque bytes; everything else is plain data.
"""

from __future__ import annotations

import array
import contextlib
import os
import pickle
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from processes import system
from processes.blob import INLINE_MAX, PROTOCOL, MemoryFile
from processes.spec import Injection
from processes.usage import PACKED_SIZE, Measure, Packed, measure_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processes.blob import Value

#: Descriptors in one datagram: the kernel takes 253 (SCM_MAX_FD, unix(7)).
DESCRIPTORS_MAX = 250

#: Receive buffer: a datagram that carries an inline value and its header.
_BUFFER_SIZE = INLINE_MAX + 64 * 1024

_DESCRIPTOR_SPACE = socket.CMSG_SPACE((DESCRIPTORS_MAX + 3) * array.array("i").itemsize)

# Kinds of message: the first byte of each. The second byte holds the flags.
JOB = 1  # parent to worker: an attempt
READY = 2  # worker to parent: set up; its pid, its own and its resident memory in bytes
SUCCEEDED = 3  # worker to parent: an attempt returned; one whose result is short stands in the page
FAILED = 4  # worker to parent: an attempt raised
LOGGED = 5  # worker to parent: an attempt logged what the page has no room for
UNFIT = 6  # worker to parent: the initializer failed
START = 7  # parent to keeper: start a worker
STARTED = 8  # keeper to parent: a worker's pid and pidfd
EXITED = 9  # keeper to parent: a worker's status and resource usage
IMPORTING = 10  # keeper to parent: about to import a module, or "" when done
TAINTED = 11  # keeper to parent: importing a module left threads; this keeper must not fork
TOLD = 12  # worker to parent: so many outcomes stand in the page, and log records up to the mark
PREPARE = 13  # parent to keeper: modules to import, and what else a `Setup` lacks, before the first START
FAILING = 14  # worker to parent: an attempt raised, and this much is sure: what follows runs the user's code
OUTPUT = 15  # worker to parent: so long is the file of what an attempt writes; the file, when it is new
SPOILED = 16  # worker to parent: what an attempt that has ended left; this worker begins no other
UNMADE = 17  # worker to parent: an attempt was not made, since what it was to follow did not return
DESCRIPTORS = 18  # ahead of a message that has more descriptors than one datagram takes
_KINDS = frozenset(range(JOB, DESCRIPTORS))

# As ints: an enum's `|` costs more than the system call's own overhead.
_DONT_WAIT = int(socket.MSG_DONTWAIT)
_CLOEXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
_CUT = int(socket.MSG_CTRUNC)
_CLOEXEC_DONT_WAIT = _CLOEXEC | _DONT_WAIT

_SPILLED = 1  # flag: the body is in the memfd that the last descriptor names

_HEAD = struct.Struct("<BBHQQ")  # kind, flags, number of descriptors, id, mark
_MARK = struct.Struct("<Q")
_MARK_AT = _HEAD.size - _MARK.size
_RESIDENT = struct.Struct("<Q")  # memory in bytes
_HEAD_SHORT = struct.Struct("<QQ")  # attempt id, resident memory in bytes
_SHORT = struct.Struct("<QQdd")  # the same; and start and end, with which the measure begins that follows
_MEASURE_AT = _HEAD_SHORT.size
_VALUE_AT = _MEASURE_AT + PACKED_SIZE


class Message(NamedTuple):
    """One message as it was received; the receiver owns the descriptors."""

    kind: int
    id: int
    body: bytes | memoryview
    descriptors: list[int]
    #: Whether descriptors were lost, since this process can open no more: there is nothing then but kind and id.
    is_cut: bool = False
    #: So far the worker had written log records into its page before.
    mark: int = 0


class Channel:
    """
    One end of a message channel.

    A sender that must not wait passes `wait=False` and keeps what was refused; a receiver likewise.
    """

    def __init__(self, end: socket.socket) -> None:
        """Take over a `SOCK_SEQPACKET` socket."""
        self.socket = end
        self._buffer = bytearray(_BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._ahead: tuple[int, list[int]] = (0, [])  # descriptors that came ahead: (id of their message, they)
        self._sent_ahead = (0, 0)  # of a message that was refused behind them: (its id, how many went)

    def fileno(self) -> int:
        """Its descriptor, for a selector."""
        return self.socket.fileno()

    def send(self, datagram: bytes, descriptors: Sequence[int] = (), *, wait: bool = True) -> bool:
        """
        Send what `encode` made.

        Returns:
            False where it would have to wait and must not: send it again later.

        Raises:
            OSError: The other end is gone.
        """
        flags = 0 if wait else _DONT_WAIT
        try:
            if descriptors:
                self._send_descriptors(datagram, descriptors, flags)
            else:
                self.socket.send(datagram, flags)
        except BlockingIOError:
            return False
        return True

    def _send_descriptors(self, datagram: bytes, descriptors: Sequence[int], flags: int) -> None:
        id_ = _HEAD.unpack_from(datagram)[3]
        gone = self._sent_ahead[1] if self._sent_ahead[0] == id_ else 0
        while len(descriptors) - gone > DESCRIPTORS_MAX:
            part = descriptors[gone : gone + DESCRIPTORS_MAX]
            self.socket.sendmsg([_HEAD.pack(DESCRIPTORS, 0, len(part), id_, 0)], [_rights(part)], flags)
            gone += len(part)
            self._sent_ahead = (id_, gone)
        # `socket.send_fds` would do, but it ignores its flags and waits.
        self.socket.sendmsg([datagram], [_rights(descriptors[gone:])], flags)
        self._sent_ahead = (0, 0)

    def receive(self, *, wait: bool = True) -> Message | None:
        """
        Receive one message.

        Returns:
            None where there is none and it must not wait. The body of an unspilled message is only valid until the
            next call.

        Raises:
            EOFError: The other end is gone and nothing is left.
            ValueError: What came is not a message of ours.
        """
        flags = _CLOEXEC if wait else _CLOEXEC_DONT_WAIT
        while True:
            try:
                length, ancillary, arrived, _ = self.socket.recvmsg_into([self._buffer], _DESCRIPTOR_SPACE, flags)
            except BlockingIOError:
                return None
            except ConnectionResetError:
                length, ancillary, arrived = 0, [], 0
            descriptors = _descriptors_of(ancillary) if ancillary else []
            if length == 0 and not descriptors:
                raise EOFError
            if length >= _HEAD.size and self._buffer[0] == DESCRIPTORS:
                self._keep_ahead(_HEAD.unpack_from(self._buffer)[3], descriptors)
                continue
            return self._message(self._view[:length], descriptors, is_cut=bool(arrived & _CUT))

    def _message(self, datagram: memoryview, descriptors: list[int], *, is_cut: bool) -> Message:
        try:
            kind, flags, count, id_, mark = _unpack_head(datagram)
        except ValueError:
            close_all(descriptors)
            raise
        if self._ahead[1]:
            descriptors = self._take_ahead(id_) + descriptors
        if is_cut or len(descriptors) != count:
            close_all(descriptors)
            return Message(kind, id_, b"", [], True, mark)
        if flags:
            return Message(kind, id_, _read_all(descriptors.pop()), descriptors, False, mark)
        return Message(kind, id_, datagram[_HEAD.size :], descriptors, False, mark)

    def close(self) -> None:
        """Close this end and what was received but not taken."""
        self._take_ahead(0)
        self.socket.close()

    def _keep_ahead(self, id_: int, descriptors: list[int]) -> None:
        if self._ahead[0] != id_:
            self._take_ahead(0)
        self._ahead = (id_, self._ahead[1] + descriptors)

    def _take_ahead(self, id_: int) -> list[int]:
        """Those that belong to message `id_`; any other's message was taken back, so they are closed."""
        (owner, descriptors), self._ahead = self._ahead, (0, [])
        if owner == id_:
            return descriptors
        close_all(descriptors)
        return []


def message_of(datagram: bytes | memoryview) -> Message:
    """
    The message that `encode` made a datagram of, where it came another way than by a channel.

    Raises:
        ValueError: It is not a message of ours, or one that has descriptors.
    """
    kind, flags, count, id_, _ = _unpack_head(datagram)
    if flags or count:
        msg = "a message with descriptors came without them"
        raise ValueError(msg)
    return Message(kind, id_, datagram[_HEAD.size :], [])


def _unpack_head(datagram: bytes | memoryview) -> tuple[int, int, int, int, int]:
    """Kind, flags, number of descriptors, id and mark, checked: a task may have written where only we write."""
    if len(datagram) >= _HEAD.size:
        kind, flags, count, id_, mark = _HEAD.unpack_from(datagram)
        if kind in _KINDS and flags <= _SPILLED and (count or not flags):
            return kind, flags, count, id_, mark
    msg = f"a datagram that begins with {bytes(datagram[: _HEAD.size])!r} is no message"
    raise ValueError(msg)


def channel_pair() -> tuple[Channel, Channel]:
    """Two connected ends; both are closed in a child that is exec'd, unless passed on."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(one), Channel(other)


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors, whatever state they are in."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def encode(kind: int, id_: int, body: bytes = b"", descriptors: Sequence[int] = ()) -> tuple[bytes, Sequence[int]]:
    """
    Make a datagram.

    Returns:
        The datagram and the descriptors that go with it. Where the body went to a memfd, its descriptor is the last
        and belongs to the caller; `is_spilled` tells.
    """
    if len(body) <= INLINE_MAX + 1024:
        return _HEAD.pack(kind, 0, len(descriptors), id_, 0) + body, descriptors
    fd = system.memory_file("message")
    view = memoryview(body)
    while view:
        view = view[os.write(fd, view) :]
    return _HEAD.pack(kind, _SPILLED, len(descriptors) + 1, id_, 0), [*descriptors, fd]


def marked(datagram: bytes, mark: int) -> bytes:
    """What `encode` made, with the position up to which log records had been written before."""
    return datagram[:_MARK_AT] + _MARK.pack(mark) + datagram[_HEAD.size :]


def is_spilled(datagram: bytes) -> bool:
    """Whether the datagram's last descriptor is a memfd that `encode` made."""
    return bool(datagram[1] & _SPILLED)


def _rights(descriptors: Sequence[int]) -> tuple[int, int, array.array[int]]:
    return socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors)


def _descriptors_of(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, type_, data in ancillary:
        if level == socket.SOL_SOCKET and type_ == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _read_all(fd: int) -> bytes:
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read()


# ---- the bodies ------------------------------------------------------------------------------------------------------

# Values go inline as bytes; one in a memfd goes as the position of its descriptor.


class Job(NamedTuple):
    """An attempt on its way to a worker."""

    attempt_id: int
    #: The task's name, for messages of the child's own.
    name: str
    #: Number of the function, of what else belongs to the task, and each one's pickle where the worker lacks it.
    function: int
    function_value: Value | None
    profile: int
    profile_value: Value | None
    #: Pickled (args, kwargs), or None for none of either.
    arguments: Value | None
    #: How each result of a dependency enters the call; None stands for that of the attempt which this one follows.
    injected: tuple[tuple[Injection, Value | None], ...]
    #: The objects for which numbers stand in the arguments, by number.
    shared: tuple[tuple[int, Value], ...] = ()


def encode_job(
    attempt_id: int,
    name: str,
    function: int,
    function_value: Value | None,
    profile: int,
    profile_value: Value | None,
    arguments: Value | None,
    injected: Sequence[tuple[Injection, Value | None]],
    shared: Sequence[tuple[int, Value]] = (),
) -> tuple[bytes, Sequence[int]]:
    """The fields of a `Job` as a datagram; every value must be there until it is sent."""
    descriptors: list[int] = []
    body = (
        name,
        function,
        _place(function_value, descriptors),
        profile,
        _place(profile_value, descriptors),
        _place(arguments, descriptors),
        [(how[0], how[1], _place(value, descriptors)) for how, value in injected] if injected else None,
        [(number, _place(value, descriptors)) for number, value in shared] if shared else (),
    )
    return encode(JOB, attempt_id, pickle.dumps(body, PROTOCOL), descriptors)


def _place(value: Value | None, descriptors: list[int]) -> bytes | int | None:
    """What stands for a value in a body: itself, or the position of its descriptor."""
    if value is None or isinstance(value, bytes):
        return value
    descriptors.append(value.fd)
    return len(descriptors) - 1


def decode_job(message: Message) -> Job:
    """The job again; its values own the message's descriptors."""
    name, function, function_value, profile, profile_value, arguments, injected, shared = pickle.loads(message.body)
    if message.descriptors:
        files = [MemoryFile(fd) for fd in message.descriptors]
        function_value, profile_value, arguments = (
            files[place] if type(place) is int else place for place in (function_value, profile_value, arguments)
        )
        if injected:
            injected = [(how, key, files[place] if type(place) is int else place) for how, key, place in injected]
        shared = [(number, files[place]) for number, place in shared]
    inputs = tuple([(Injection(how, key), value) for how, key, value in injected]) if injected else ()
    return Job(message.id, name, function, function_value, profile, profile_value, arguments, inputs, tuple(shared))


def encode_success(attempt_id: int, measure: Packed, resident: int, value: Value) -> tuple[bytes, Sequence[int]]:
    """An attempt's measure, its child's resident memory in bytes, and its result."""
    head = measure + _RESIDENT.pack(resident)
    if isinstance(value, MemoryFile):
        return encode(SUCCEEDED, attempt_id, head, [value.fd])
    return encode(SUCCEEDED, attempt_id, head + value)


def decode_success(message: Message) -> tuple[Packed, int, Value]:
    """(measure, resident memory in bytes, the result)."""
    measure, resident, rest = _split_measure(message.body)
    return measure, resident, MemoryFile(message.descriptors[0]) if message.descriptors else bytes(rest)


def encode_short(attempt_id: int, measure: Packed, resident: int, value: bytes) -> bytes:
    """A success for the page."""
    return _HEAD_SHORT.pack(attempt_id, resident) + measure + value


def decode_short(outcome: bytes) -> tuple[int, float, int, Packed, bytes]:
    """
    (attempt id, seconds that it took, resident memory in bytes, measure, the result) of a success in the page.

    A plain tuple: there are tens of thousands in a second.

    Raises:
        struct.error: It is none.
    """
    attempt_id, resident, started_at, ended_at = _SHORT.unpack_from(outcome)
    return attempt_id, ended_at - started_at, resident, outcome[_MEASURE_AT:_VALUE_AT], outcome[_VALUE_AT:]


def encode_failure(
    attempt_id: int,
    measure: Packed,
    resident: int,
    failure: tuple[object, ...],
    exception: bytes | None,
    *,
    retryable: bool,
) -> tuple[bytes, Sequence[int]]:
    """An attempt's measure and its failure: the plain fields of a `Failure`, and the exception itself, pickled."""
    head = measure + _RESIDENT.pack(resident)
    return encode(FAILED, attempt_id, head + pickle.dumps((retryable, failure, exception), PROTOCOL))


def decode_failure(message: Message) -> tuple[Measure, int, bool, tuple[object, ...], bytes | None]:
    """(measure, resident memory in bytes, whether `retry_on` covers it, fields of the `Failure`, the exception)."""
    measure, resident, rest = _split_measure(message.body)
    retryable, fields, exception = pickle.loads(rest)
    return measure_of(measure), resident, retryable, fields, exception


def _split_measure(body: bytes | memoryview) -> tuple[Packed, int, bytes | memoryview]:
    (resident,) = _RESIDENT.unpack_from(body, PACKED_SIZE)
    return bytes(body[:PACKED_SIZE]), resident, body[PACKED_SIZE + _RESIDENT.size :]


def encode_plain(
    kind: int, id_: int = 0, *facts: object, descriptors: Sequence[int] = ()
) -> tuple[bytes, Sequence[int]]:
    """A message of plain facts."""
    return encode(kind, id_, pickle.dumps(facts, PROTOCOL), descriptors)


def decode_plain(message: Message) -> tuple[object, ...]:
    """The facts again."""
    facts: tuple[object, ...] = pickle.loads(message.body)
    return facts


# ---- what a child is set up with -----------------------------------------------------------------------------------


class Setup(NamedTuple):
    """What keeper and workers are told at their start: plain data, readable before anything is imported."""

    start_method: str
    #: What starts a clean interpreter, with its flags.
    interpreter: list[str]
    parent_pid: int
    sys_path: list[str]
    sys_argv: list[str]
    #: {logger name, "" for the root: (level, propagate, disabled)}, and `logging.disable`.
    loggers: dict[str, tuple[int, bool, bool]]
    logging_disabled: int
    #: Where a child's stderr goes until it is ready, and where it goes from then on.
    startup_stderr: int
    real_stderr: int
    #: Pickled (initializer, initargs), or None; not known yet when the keeper starts.
    initializer: bytes | None = None
    #: Whether some task has a file or handler that takes INFO, even where the root's level is higher; as above.
    wants_info: bool = False


#: Run by `python -c`: sys.path comes first, since this package may only be found by the parent's.
BOOT = (
    "import os, pickle, sys; fd = int(sys.argv[1]); "
    "boot = pickle.loads(os.pread(fd, os.fstat(fd).st_size, 0)); sys.path[:] = boot[0]; "
    "import processes.keeper as keeper; keeper.boot(boot[1], boot[2], [fd, *map(int, sys.argv[2:])])"
)


def boot_file(setup: Setup, role: str) -> int:
    """A memfd with what a "keeper" or a "worker" that is exec'd is to know, for BOOT to read."""
    fd = system.memory_file("boot")
    data = memoryview(pickle.dumps((setup.sys_path, role, tuple(setup))))
    while data:
        data = data[os.write(fd, data) :]
    return fd
