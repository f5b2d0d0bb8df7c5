"""The gate holds a task, lets it on, and proves its death."""

import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import cloudpickle
import pytest

from support import gate as gate_module
from support.gate import Gate, pass_gate

# Runs what comes pickled on its standard input, where no module of the tests can be found.
RUN_PICKLED = "import pickle, sys; pickle.load(sys.stdin.buffer)(); print('passed')"


@pytest.fixture
def child(gate: Gate) -> Iterator[subprocess.Popen[bytes]]:
    """A fresh interpreter that goes to the gate."""
    cloudpickle.register_pickle_by_value(gate_module)
    task = cloudpickle.dumps(functools.partial(pass_gate, gate.address))
    cloudpickle.unregister_pickle_by_value(gate_module)
    command = [sys.executable, "-c", RUN_PICKLED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        child.stdin.write(task)
        child.stdin.close()
        yield child
        child.kill()


def output(child: subprocess.Popen[bytes]) -> bytes:
    assert child.stdout
    return child.stdout.read()


def test_gate_lets_a_child_on(gate: Gate, child: subprocess.Popen[bytes]) -> None:
    """The child waits until it is let on."""
    arrived = gate.child_arrives()
    assert arrived.pid == child.pid
    with pytest.raises(TimeoutError, match=f"Process {child.pid} is still there"):
        arrived.wait_gone(timeout=0.1)
    arrived.let_go()
    assert output(child) == b"passed\n"
    arrived.wait_gone()


def test_gate_proves_that_a_child_died(gate: Gate, child: subprocess.Popen[bytes]) -> None:
    """A child that is killed at the gate is gone, and did not pass."""
    arrived = gate.child_arrives()
    os.kill(arrived.pid, signal.SIGKILL)
    arrived.wait_gone()
    assert output(child) == b""
    assert child.wait() == -signal.SIGKILL


def test_gate_takes_a_child_that_died_before_it_was_looked_at(gate: Gate, child: subprocess.Popen[bytes]) -> None:
    """A child that came and is reaped by now is gone."""
    gate._listener.settimeout(60)
    connection, _ = gate._listener.accept()
    child.kill()
    child.wait()
    arrived = gate_module.Arrived(connection)
    assert arrived.pid == child.pid
    arrived.wait_gone(timeout=0.1)
    arrived.close()


def test_gate_that_closes_lets_everybody_on(gate: Gate, child: subprocess.Popen[bytes]) -> None:
    """Neither who was looked at nor who was not waits forever."""
    thread = threading.Thread(target=pass_gate, args=(gate.address,))
    thread.start()
    gate.child_arrives()
    gate.close()
    thread.join(timeout=60)
    assert not thread.is_alive()
    child.wait(timeout=60)
    pass_gate(gate.address)


def test_gate_holds_threads_in_order(gate: Gate) -> None:
    """In a thread the task has the process id of the test; who came first is let on first."""
    threads = []
    for _ in range(2):
        threads.append(threading.Thread(target=pass_gate, args=(gate.address,)))
        threads[-1].start()
        arrived = gate.child_arrives()
        assert arrived.pid == os.getpid()
    gate._arrived[0].let_go()
    threads[0].join(timeout=60)
    assert [thread.is_alive() for thread in threads] == [False, True]
    gate._arrived[1].let_go()
    threads[1].join(timeout=60)


def test_gate_where_nobody_comes_says_so(gate: Gate) -> None:
    """The wait for a child is limited."""
    with pytest.raises(TimeoutError, match=r"No task came to the gate within 0.1 s"):
        gate.child_arrives(timeout=0.1)
