"""
Floors for bench_peers.py: what a loop over socket pairs costs that promises nothing, and a pipe that relays bytes.

Forked children take calls from a socket, make them and send what they return. Nobody looks whether a child lives, how
long a call takes or what it uses; an exception ends the child, and the loop with it.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from dispatch_work import count_on
from harness import Figures
from peer_pools import WORKERS

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    #: The two ends of a pipe.
    Pipe = tuple[Connection[Any, Any], Connection[Any, Any]]

#: Larger than any message here; a packet that does not fit would be cut.
_MESSAGE_MAX = 2**16


@contextlib.contextmanager
def _children() -> Iterator[list[socket.socket]]:
    """The parent's end for each."""
    ends: list[socket.socket] = []
    pids: list[int] = []
    try:
        for _ in range(WORKERS):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pid = os.fork()
            if not pid:
                _serve(theirs)
            theirs.close()
            ends.append(ours)
            pids.append(pid)
        yield ends
    finally:
        for end in ends:
            end.close()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _serve(end: socket.socket) -> NoReturn:
    """A child: make the calls of each message, and answer with all their results in one."""
    while message := end.recv(_MESSAGE_MAX):
        func, items = pickle.loads(message)
        end.send(pickle.dumps([func(item) for item in items]))
    os._exit(0)


def loop(work: Callable[[int], int], count: int, in_flight: int, batch: int) -> Figures:
    """So many calls, `batch` of them in a message, with `in_flight` messages on their way to each child."""
    results: list[int] = []
    with _children() as ends:
        _call_each(ends)
        started = time.perf_counter()
        batches = iter(range(0, count, batch))

        def send(end: socket.socket) -> int:
            first = next(batches, None)
            if first is None:
                return 0
            end.send(pickle.dumps((work, range(first, min(first + batch, count)))))
            return 1

        poll = select.poll()
        by_descriptor = {end.fileno(): end for end in ends}
        for descriptor in by_descriptor:
            poll.register(descriptor, select.POLLIN)
        waiting = sum(send(end) for _ in range(in_flight) for end in ends)
        while waiting:
            for descriptor, _ in poll.poll():
                end = by_descriptor[descriptor]
                results += pickle.loads(end.recv(_MESSAGE_MAX))
                waiting += send(end) - 1
        seconds = time.perf_counter() - started
    assert sorted(results) == list(range(count)), "results are missing, doubled or wrong"
    return {"seconds": seconds}


def _call_each(ends: list[socket.socket]) -> None:
    """Until each child has run: its pages are its own then."""
    for end in ends:
        end.send(pickle.dumps((count_on, [0])))
        assert pickle.loads(end.recv(_MESSAGE_MAX)) == [1]


def round_trips(count: int) -> Figures:
    """A chain: each call takes the result of the one before, and the children take turns."""
    value = 0
    with _children() as ends:
        _call_each(ends)
        started = time.perf_counter()
        for end in itertools.islice(itertools.cycle(ends), count):
            end.send(pickle.dumps((count_on, [value])))
            (value,) = pickle.loads(end.recv(_MESSAGE_MAX))
        seconds = time.perf_counter() - started
    assert value == count, "the chain was not passed on"
    return {"seconds": seconds}


# ---- a pipe ----------------------------------------------------------------------------------------------------------


def relay(produce: Callable[[], Any], consume: Callable[[Any], float], rounds: int) -> list[float]:
    """
    What a producer makes, to a consumer in another process, by a parent that relays its pickle from pipe to pipe.

    Seconds as the consumer finds them, once a round.
    """
    context = multiprocessing.get_context("fork")
    source, target = context.Pipe(), context.Pipe()
    children = [
        context.Process(target=_send_all, args=(source[1], produce, rounds)),
        context.Process(target=_take_all, args=(target[1], consume, rounds)),
    ]
    for child in children:
        child.start()
    seconds = []
    for _ in range(rounds):
        source[0].send_bytes(b"go")
        target[0].send_bytes(source[0].recv_bytes())
        seconds.append(target[0].recv())
    for child in children:
        child.join()
    return seconds


def _send_all(end: Connection[Any, Any], produce: Callable[[], Any], rounds: int) -> None:
    for _ in range(rounds):
        end.recv_bytes()
        end.send_bytes(pickle.dumps(produce(), protocol=5))


def _take_all(end: Connection[Any, Any], consume: Callable[[Any], float], rounds: int) -> None:
    for _ in range(rounds):
        end.send(consume(pickle.loads(end.recv_bytes())))
