"""A program on a terminal of its own, as a user has it: Ctrl-C is typed, and closing the window hangs up."""

import contextlib
import os
import pty
import select
import subprocess
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from support.gate import WAIT_S


class Terminal:
    """A program in the foreground of a pseudo-terminal, which is its controlling one."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.child = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=dict(environment),
        )
        os.close(slave)
        self._text = b""
        self._reader = threading.Thread(target=self._read)
        self._stop, self._stopped = os.pipe()
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: nobody has it open any more
            while self._stop not in select.select([self._master, self._stop], [], [])[0]:
                self._text += os.read(self._master, 65536)

    def press_ctrl_c(self) -> None:
        """The terminal sends SIGINT to all processes in its foreground."""
        os.write(self._master, b"\x03")

    def hang_up(self) -> None:
        """Close the window."""
        self._end_reader()
        os.close(self._master)
        self._master = -1

    def wait(self) -> tuple[int, str]:
        """How it ended, as `Popen.returncode`, and all that it has shown."""
        code = self.child.wait(WAIT_S)
        if self._master >= 0:
            self._reader.join(WAIT_S)
        return code, self._text.decode().replace("\r\n", "\n")

    def _end_reader(self) -> None:
        os.write(self._stopped, b".")
        self._reader.join(WAIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.child.kill()
        self.child.wait()
        self._end_reader()
        for descriptor in (self._master, self._stop, self._stopped):
            if descriptor >= 0:
                os.close(descriptor)
