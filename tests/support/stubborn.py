"""
Tasks that will not stop by themselves, and what they start.

Each leaves the ids of its processes as files in a folder.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from support.notes import note_pid


def loop(folder: str) -> None:
    note_pid(folder, "task")
    while True:
        pass


def swallow(folder: str) -> None:
    note_pid(folder, "task")
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(600)


def hold_the_gil(folder: str) -> None:
    note_pid(folder, "task")
    ctypes.PyDLL(None).sleep(600)


def ignore_signals(folder: str) -> None:
    note_pid(folder, "task")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(600)


def stop_itself(folder: str) -> None:
    note_pid(folder, "task")
    os.kill(os.getpid(), signal.SIGSTOP)


def have_child(folder: str) -> None:
    note_pid(folder, "task")
    if os.fork() == 0:
        note_pid(folder, "child")
    time.sleep(600)


def have_session(folder: str) -> None:
    note_pid(folder, "task")
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note_pid(folder, "child")
    time.sleep(600)


def have_daemon(folder: str) -> None:
    note_pid(folder, "task")
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        note_pid(folder, "daemon")
        if os.fork() == 0:
            os.setsid()
            note_pid(folder, "child of the daemon")
    time.sleep(600)


def have_program(folder: str) -> None:
    note_pid(folder, "task")
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path(folder, "program").write_text(str(child.pid))
    child.wait()


def stay_in_thread(folder: str) -> None:
    note_pid(folder, "task")
    threading.Thread(target=time.sleep, args=(600,)).start()
    time.sleep(600)


#: What it is, and how many processes it consists of.
STUBBORN: dict[str, tuple[Callable[[str], None], int]] = {
    "loop": (loop, 1),
    "swallow": (swallow, 1),
    "gil": (hold_the_gil, 1),
    "signals": (ignore_signals, 1),
    "stopped": (stop_itself, 1),
    "thread": (stay_in_thread, 1),
    "child": (have_child, 2),
    "session": (have_session, 2),
    "daemon": (have_daemon, 3),
    "program": (have_program, 2),
}
