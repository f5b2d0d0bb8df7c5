"""
A gate holds a task until the test lets it on, so that a test needs no sleep to know where a task is.

    Task("held", pass_gate, args=(gate.address,))
    ...
    arrived = gate.child_arrives()          # it runs, and waits
    os.kill(arrived.pid, signal.SIGKILL)    # or arrived.let_go()
    arrived.wait_gone()
"""

import contextlib
import os
import select
import socket
import struct
from types import TracebackType
from typing import Self

#: A fail-safe that no passing test meets.
WAIT_S = 60.0

# struct ucred in socket(7): pid, uid, gid
_CREDENTIALS = struct.Struct("3i")


def pass_gate(address: bytes) -> None:
    """
    The task's side: go to the gate and wait there until let on. A gate that is closed lets everybody on.

    Needs nothing of this module, so that it can be pickled by value as well.
    """
    import contextlib
    import socket

    # ConnectionError: it was closed before we came, or while we waited.
    with contextlib.suppress(ConnectionError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        # A signal that comes in the moment before a call blocks is heard when that call ends: this one ends by itself.
        connection.settimeout(1.0)
        while True:
            with contextlib.suppress(TimeoutError):
                connection.recv(1)
                return


class Arrived:
    """
    A task that waits at the gate.

    Attributes:
        pid: The process that runs it; this one, when the task runs in a thread.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.pid: int = _CREDENTIALS.unpack(credentials)[0]
        self._pidfd: int | None = None
        # Somebody else may have killed it by now.
        with contextlib.suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(self.pid)

    def let_go(self) -> None:
        """Let the task go on."""
        self._connection.sendall(b".")

    def wait_gone(self, timeout: float = WAIT_S) -> None:
        """
        Wait until the process has ended. It may be a zombie still.

        Raises:
            TimeoutError: It lives after `timeout` seconds.
        """
        if self._pidfd is not None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if not poll.poll(timeout * 1000):
                message = f"Process {self.pid} is still there after {timeout} s."
                raise TimeoutError(message)

    def close(self) -> None:
        """Forget the task. It goes on, if it lives."""
        self._connection.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


class Gate:
    """
    Where tasks wait until they are let on one by one, in the order of their arrival.

    Attributes:
        address: For `pass_gate`. An abstract name, unix(7): no file has it, and it is gone when the gate is.
    """

    def __init__(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind("")  # The kernel chooses the name: "Autobind feature", unix(7).
        self._listener.listen(socket.SOMAXCONN)
        self.address: bytes = self._listener.getsockname()
        self._arrived: list[Arrived] = []

    def child_arrives(self, timeout: float = WAIT_S) -> Arrived:
        """
        Wait for the next task. It is certain then that the task runs, and that it goes no further.

        Raises:
            TimeoutError: None came in `timeout` seconds.
        """
        self._listener.settimeout(timeout)
        try:
            connection, _ = self._listener.accept()
        except TimeoutError:
            message = f"No task came to the gate within {timeout} s."
            raise TimeoutError(message) from None
        arrived = Arrived(connection)
        self._arrived.append(arrived)
        return arrived

    def close(self) -> None:
        """Let everybody on, also those who have not been looked at."""
        self._listener.close()
        for arrived in self._arrived:
            arrived.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
