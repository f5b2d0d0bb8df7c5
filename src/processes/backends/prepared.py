"""What goes to the children of a run, pickled before it begins: functions, profiles, arguments, the initializer."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from processes import blob, usage
from processes.attempt import Profile
from processes.blob import MemoryFile, Value
from processes.page import MESSAGE_MAX
from processes.preflight import Packer
from processes.spec import name_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processes.attempt import Call
    from processes.backends.options import ProcessPool
    from processes.exceptions import UnpicklableError

#: Large arguments are kept ready for the run up to this many bytes and files, and in a quarter of the descriptors that
#: are free at most; beyond, each is pickled when needed.
_KEPT_BYTES_MAX = 256 * 2**20
_KEPT_FILES_MAX = 128

#: Those that several tasks have may take this share of the memory that is available when the run begins: to pickle them
#: for each task would take as much of it, again and again.
_SHARED_PART = 4


class Prepared:
    """
    Function, profile and arguments of each task, by its position, ready to be sent.

    Lists of plain values: an object for each task would have the garbage collector look at it again and again.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        #: Pickles by number; 0 is none.
        self.function_values: list[Value] = [b""]
        self.profile_values: list[Value] = [b""]
        #: Names of the modules that loading all of it imports.
        self.modules: set[str] = set()
        #: Pickled (initializer, initargs), or None.
        self.initializer: bytes | None = None
        #: Numbers of each task's function and profile.
        self.functions: list[int] = []
        self.profiles: list[int] = []
        #: The task's name and its pickled arguments behind it, or None where they do not fit the page.
        self.calls: list[bytes | None] = []
        self.name_lengths: list[int] = []
        #: {task: its arguments}, of those that do not fit; None where they are pickled anew whenever they are sent.
        self.large: dict[int, Value | None] = {}
        #: Objects that several tasks have, and {task: the numbers that stand for them in its arguments}.
        self.shared = blob.Shared()
        self.shared_by: dict[int, tuple[int, ...]] = {}

    def prepare(self, calls: Sequence[Call], options: ProcessPool) -> list[UnpicklableError]:
        """Pickle what goes to the children; returns what cannot be."""
        files = usage.free_descriptors() // 4
        shared_room = _Room((usage.available_memory() or math.inf) / _SHARED_PART, min(_KEPT_FILES_MAX, files))
        room = _Room(_KEPT_BYTES_MAX, min(_KEPT_FILES_MAX, files))
        packer = Packer(calls, shared_room.take, self.shared)
        functions: dict[int, int] = {}  # {id of a function: its number}; the calls keep the functions alive
        profiles: dict[tuple[object, ...], int] = {Profile(): 0}  # {fields of a Profile: its number}
        for call in calls:
            number = functions.get(id(call.func))
            if number is None:
                number = functions[id(call.func)] = len(self.function_values)
                self.function_values.append(packer.pack(call.name, "function", call.func, label=name_of(call.func)))
            wanted = call.frame_filter, call.retry_on, call.redact, call.capture_output
            profile = profiles.get(wanted)
            if profile is None:
                profile = profiles[wanted] = len(self.profile_values)
                self.profile_values.append(packer.pack(call.name, "retry_on", wanted))
            arguments: Value | None = packer.pack_arguments(call) if call.args or call.kwargs else b""
            if isinstance(arguments, MemoryFile) and not room.take(arguments):
                arguments.close()
                arguments = None
            self._add(call.name, number, profile, arguments)
        if options.initializer is not None:
            what, initializer = "the pool's initializer", (options.initializer, options.initargs)
            value = packer.pack("(every task)", what, initializer, inline_max=sys.maxsize)
            assert isinstance(value, bytes)  # noqa: S101  sys.maxsize fits everything
            self.initializer = value
        self.modules = packer.modules
        return packer.problems

    def _add(self, name: str, function: int, profile: int, arguments: Value | None) -> None:
        """Append a task; an empty value is no arguments, None stands for those that are pickled when they are sent."""
        encoded = name.encode("utf-8", "surrogatepass")
        call = encoded + arguments if type(arguments) is bytes else None
        if call is None or len(call) > MESSAGE_MAX or self.shared.met:
            task = len(self.calls)
            self.large[task] = arguments
            call = None
            if self.shared.met:
                self.shared_by[task] = tuple(self.shared.met)
                self.shared.met.clear()
        self.functions.append(function)
        self.profiles.append(profile)
        self.calls.append(call)
        self.name_lengths.append(len(encoded))

    def arguments(self, task: int) -> Value | None:
        """A task's pickled arguments; None where it has none, or where they are to be pickled anew."""
        call = self.calls[task]
        return (self.large[task] if call is None else call[self.name_lengths[task] :]) or None

    def shared_values(self, task: int) -> list[tuple[int, Value]]:
        """What stands as numbers in its arguments."""
        return [(number, self.shared.values[number]) for number in self.shared_by.get(task, ())]


class _Room:
    """What is left of the bytes and files that may be kept for a run."""

    def __init__(self, size: float, files: int) -> None:
        self._bytes = size
        self._files = files

    def take(self, file: MemoryFile) -> bool:
        """Whether the file has a place, which it then takes."""
        if self._files < 1 or self._bytes < file.size:
            return False
        self._files -= 1
        self._bytes -= file.size
        return True
