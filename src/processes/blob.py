"""
One value on its way between processes: a pickle stream and its buffers, small ones inline, large ones in a memfd.

Runs on both sides. A value is pickled once, by the process that has it, and stays bytes until somebody needs the
object: the parent passes values between children without looking inside, so a bad one harms its own task only.

A large value is one sealed memfd: `[stream][pad][buffer 0][pad][buffer 1]...[index][footer]`. The descriptor is all
that travels. Whoever loads it maps the file privately: buffers (numpy arrays, arrow tables) are not copied and can
still be written to, each reader for itself. Nothing has a name, so nothing can be left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import mmap
import os
import pickle
import struct
import sys
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from processes import system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType as Module

PROTOCOL = 5

#: What fits one datagram beside its header: the default limit of a Unix socket is 208 KiB, and up to here a copy costs
#: less than a memfd with its mapping.
INLINE_MAX = 128 * 1024

#: A buffer below this is copied into the stream: mapping it would cost more.
BUFFER_MIN = 64 * 1024

#: Buffers start where the widest vector instructions like them to.
_ALIGNMENT = 64

_FOOTER = struct.Struct("<QQ")  # length of the stream, number of buffers
_SPAN = struct.Struct("<QQ")  # offset and length of one buffer
_SEALS = (
    fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL if sys.platform == "linux" else 0
)

#: Types whose pickle can hold no reference to a class or function, so that no rule needs asking.
_ATOMS = frozenset({type(None), bool, int, float, complex})

#: What cloudpickle writes instead of the name of a function's file, so that pickles do not depend on it.
_NO_FILE = "<dynamic-code>"

#: Up to here a text, or the number of members of a tuple, is looked through before anything heavier starts.
_SHORT_TEXT = 4096
_SHORT_TUPLE = 8


class MemoryFile:
    """Owner of one memfd that holds a large value; the descriptor is closed when the last owner lets go."""

    __slots__ = ("__weakref__", "fd", "size")

    def __init__(self, fd: int, size: int | None = None) -> None:
        """Take over `fd`; `size` in bytes is asked of the kernel where it is not given."""
        self.fd = fd
        self.size = os.fstat(fd).st_size if size is None else size

    def close(self) -> None:
        """Free the descriptor; what has been mapped stays readable."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        """Let the memory go with its last owner, also while the interpreter shuts down."""
        if getattr(self, "fd", -1) >= 0:
            fd, self.fd = self.fd, -1
            _close(fd)


#: A value in transit: its pickle stream, or the memfd that holds stream and buffers.
Value = bytes | MemoryFile


class Shared:
    """
    Large objects that several values hold, each pickled once: in the pickle of such a value a number stands for it.

    Attributes:
        values: Their pickles, by number.
        met: Numbers that the values pickled since it was last cleared have in them.
    """

    def __init__(self) -> None:
        """None yet."""
        self.values: list[MemoryFile] = []
        self.met: set[int] = set()
        self._numbers: dict[int, int] = {}  # {id of the object: its number}
        self._objects: list[object] = []  # or an id could be given to another one

    def __contains__(self, obj: object) -> bool:
        """Whether a number stands for the object."""
        return id(obj) in self._numbers

    def add(self, obj: object, value: MemoryFile) -> None:
        """From now on a number stands for it."""
        self._numbers[id(obj)] = len(self.values)
        self._objects.append(obj)
        self.values.append(value)

    def number_of(self, obj: object) -> int | None:
        """What a pickler asks for each object: the number that goes in its place, if any."""
        number = self._numbers.get(id(obj))
        if number is not None:
            self.met.add(number)
        return number


def dump(
    value: object, modules: set[str] | None = None, inline_max: int = INLINE_MAX, shared: Shared | None = None
) -> Value:
    """
    Pickle a value for another process.

    Plain pickle first (2 us; cloudpickle takes 11). Its stream is used only if every class and function in it can be
    imported by name in the other process: nothing of `__main__`, nothing of a module that was made by hand.
    Otherwise cloudpickle sends these by value.

    Args:
        value: Any object.
        modules: Gathers the names of the modules that loading the value imports, and those of its instances' classes.
        inline_max: Up to how many bytes the value may stay inline; a caller with room for any size passes sys.maxsize
            and gets bytes.
        shared: Objects that stay out of it: `load` has to be told how to get them.

    Raises:
        Exception: Whatever the value's own `__reduce__` raises, or pickle where it cannot be pickled.
    """
    if is_trivial(value):
        return dump_trivial(value)
    try:
        stream = _dump_with(_PlainPickler, value, modules, inline_max, shared)
    except Exception:  # noqa: BLE001  foreign code; what is wrong with the value, cloudpickle says as well
        return _dump_by_value(value, modules, inline_max, shared)
    if (
        type(stream) is bytes and b"__main__" in stream
    ):  # A `__reduce__` that returns a global's name gets past the pickler.
        return _dump_by_value(value, modules, inline_max, shared)
    return stream


def dump_trivial(value: object) -> bytes:
    """Pickle a value of which `is_trivial` is known."""
    return pickle.dumps(value, PROTOCOL)


def try_out(value: object) -> None:
    """
    Pickle a value to nowhere, whatever its size.

    Raises:
        Exception: As `dump`.
    """
    if not is_trivial(value):
        try:
            _dump_with(_PlainPickler, value, None, None)
        except Exception:  # noqa: BLE001  as in `dump`
            _dump_by_value(value, None, None)


def load(value: Value, shared: Callable[[int], object] | None = None) -> Any:  # noqa: ANN401  whatever was dumped
    """
    Build the object anew.

    Args:
        value: From `dump`.
        shared: Gives the object for which a number stands in it.

    Raises:
        Exception: Whatever the value's own code raises on the way.
    """
    if isinstance(value, bytes):
        return pickle.loads(value) if shared is None else _SharingUnpickler(value, (), shared).load()
    mapped = mmap.mmap(value.fd, value.size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    view = memoryview(mapped)
    stream_length, count = _FOOTER.unpack_from(view, value.size - _FOOTER.size)
    index = value.size - _FOOTER.size - count * _SPAN.size
    spans = list(_SPAN.iter_unpack(view[index : value.size - _FOOTER.size]))
    # The views keep the mapping alive for as long as an array needs it; without buffers it goes at once.
    buffers = [view[start : start + length] for start, length in spans]
    if shared is not None:
        return _SharingUnpickler(view[:stream_length], buffers, shared).load()
    return pickle.loads(view[:stream_length], buffers=buffers)


class _SharingUnpickler(pickle.Unpickler):
    """Asks for the objects for which numbers stand."""

    def __init__(
        self, stream: bytes | memoryview, buffers: Iterable[memoryview], shared: Callable[[int], object]
    ) -> None:
        super().__init__(io.BytesIO(stream), buffers=buffers)
        self._shared = shared

    def persistent_load(self, pid: Any) -> object:  # noqa: ANN401  the pickle protocol's own type
        return self._shared(pid)


def is_trivial(value: object, depth: int = 2) -> bool:
    """Whether a value is small and of builtin types only: most arguments and results are, and 0.5 us will do."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is str or kind is bytes:
        return len(value) <= _SHORT_TEXT  # type: ignore[arg-type]
    if kind is tuple or kind is list:
        if depth == 0 or len(value) > _SHORT_TUPLE:  # type: ignore[arg-type]
            return False
        for part in value:  # type: ignore[attr-defined]  # noqa: SIM110  a generator would take as long as all else
            if type(part) not in _ATOMS and not is_trivial(part, depth - 1):
                return False
        return True
    return kind is dict and not value


class _Sink:
    """What the pickler writes to: memory up to a limit, then a memfd, so that a large stream never exists twice."""

    def __init__(self, inline_max: int) -> None:
        self._inline_max = inline_max
        self._parts: list[bytes | bytearray | memoryview] = []
        self.size = 0
        self.fd = -1
        self.buffers: list[pickle.PickleBuffer] = []

    def write(self, data: bytes | bytearray | pickle.PickleBuffer) -> int:
        """Take any buffer: the C pickler hands large bytes over as they are."""
        part = memoryview(data) if isinstance(data, pickle.PickleBuffer) else data
        length = part.nbytes if isinstance(part, memoryview) else len(part)
        self.size += length
        if self.fd >= 0:
            _write_all(self.fd, part)
        else:
            self._parts.append(part)
            if self.size > self._inline_max:
                self._move_to_file()
        return length

    def keep_out(self, buffer: pickle.PickleBuffer) -> bool:
        """Decide on one buffer; True leaves it in the stream."""
        if memoryview(buffer).nbytes < BUFFER_MIN or self._inline_max > INLINE_MAX:
            return True
        self.buffers.append(buffer)
        return False

    def finish(self) -> Value:
        """Hand over what was written."""
        if self.fd < 0 and not self.buffers:
            return self._parts[0] if len(self._parts) == 1 and type(self._parts[0]) is bytes else b"".join(self._parts)
        if self.fd < 0:
            self._move_to_file()
        return self._finish_file()

    def discard(self) -> None:
        """Free what a failed pickling left."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _move_to_file(self) -> None:
        self.fd = system.memory_file("value")
        for part in self._parts:
            _write_all(self.fd, part)
        self._parts.clear()

    def _finish_file(self) -> MemoryFile:
        end, index = self.size, b""
        for buffer in self.buffers:
            start = -(-end // _ALIGNMENT) * _ALIGNMENT
            with buffer.raw() as raw:
                os.lseek(self.fd, start, os.SEEK_SET)
                _write_all(self.fd, raw)
                end = start + raw.nbytes
                index += _SPAN.pack(start, raw.nbytes)
        tail = index + _FOOTER.pack(self.size, len(self.buffers))
        _write_all(self.fd, tail)
        with contextlib.suppress(OSError):  # What stands in for a memfd cannot be sealed.
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        file, self.fd = MemoryFile(self.fd, end + len(tail)), -1
        return file


class _Nowhere(_Sink):
    """For who only wants to know whether it can be done."""

    def __init__(self) -> None:
        super().__init__(0)

    def write(self, data: bytes | bytearray | pickle.PickleBuffer) -> int:
        return memoryview(data).nbytes

    def keep_out(self, buffer: pickle.PickleBuffer) -> bool:  # noqa: ARG002  the pickler calls it
        return False

    def finish(self) -> Value:
        return b""


def _write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data).cast("B")
    while view:  # One write(2) takes 2 GiB at most.
        view = view[os.write(fd, view) :]


def _dump_with(
    pickler: type[pickle.Pickler],
    value: object,
    modules: set[str] | None,
    inline_max: int | None,
    shared: Shared | None = None,
) -> Value:
    """Pickle to memory or file; with None for the size, to nowhere."""
    if shared is not None:  # A class of its own: one that has the method calls it for every object.
        number_of = shared.number_of
        pickler = type("SharingPickler", (pickler,), {"persistent_id": lambda _, obj: number_of(obj)})
    sink = _Nowhere() if inline_max is None else _Sink(inline_max)
    try:
        by_value = pickler(sink, PROTOCOL, buffer_callback=sink.keep_out)
        if modules is not None:
            by_value.modules = modules  # type: ignore[attr-defined]
        by_value.dump(value)
        return sink.finish()
    except BaseException:
        sink.discard()
        raise


def _dump_by_value(
    value: object, modules: set[str] | None, inline_max: int | None, shared: Shared | None = None
) -> Value:
    """Cloudpickle it; modules that the other process could not find go by value for as long as this takes."""
    import cloudpickle

    if modules is not None:
        modules.add("cloudpickle")
    registered: list[Module] = []

    class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # untyped package
        def reducer_override(self, obj: object) -> object:
            if type(obj) is CodeType:
                return _reduced_code(obj)
            module = _module_of(obj)
            if module is not None and module != "__main__":
                if is_importable(module):
                    self.modules.add(module)
                elif module in sys.modules and module not in cloudpickle.list_registry_pickle_by_value():
                    cloudpickle.register_pickle_by_value(sys.modules[module])
                    registered.append(sys.modules[module])
            return super().reducer_override(obj)

        modules: set[str] = set()  # noqa: RUF012  replaced per instance by _dump_with

    try:
        return _dump_with(ValuePickler, value, set() if modules is None else modules, inline_max, shared)
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _reduced_code(code: CodeType) -> tuple[object, ...]:
    """As cloudpickle has it, but with the file's name, without which no traceback has a place or a source line."""
    from cloudpickle import cloudpickle

    make, parts = cloudpickle._code_reduce(code)
    return make, tuple(code.co_filename if part == _NO_FILE else part for part in parts)


class _NeedsValueError(Exception):
    """A class or function in the stream cannot be imported by name elsewhere."""


class _PlainPickler(pickle.Pickler):
    """Plain pickle that gives up at the first class or function that only exists here."""

    modules: set[str] | None = None

    def reducer_override(self, obj: object) -> Any:  # noqa: ANN401  the pickle protocol's own type
        """Look at each class, function and instance; builtin containers and scalars never come here."""
        module = _module_of(obj)
        if module is not None:
            if not is_importable(module):
                raise _NeedsValueError(module)
            if self.modules is not None:
                self.modules.add(module)
        elif self.modules is not None:
            # An instance: its class need not be in the stream, since it may say itself how it is built.
            self.modules.add(type(obj).__module__)
        return NotImplemented


def _module_of(obj: object) -> str | None:
    """Name of the module that loading `obj` would import by name; None for what holds no such name."""
    kind = type(obj)
    if kind is FunctionType or kind is BuiltinFunctionType or issubclass(kind, type):
        name = getattr(obj, "__module__", None)
        return name if isinstance(name, str) else None
    return obj.__name__ if isinstance(obj, ModuleType) else None


_importable: dict[str, tuple[Module, bool]] = {}  # {name: (the module asked about, answer)}


def is_importable(name: str) -> bool:
    """Whether another process with our sys.path would get this very module by importing `name`."""
    module = sys.modules.get(name)
    if module is None or name == "__main__":
        return False
    known = _importable.get(name)
    if known is None or known[0] is not module:
        known = _importable[name] = (module, _is_found_again(name, module))
    return known[1]


def _is_found_again(name: str, module: Module) -> bool:
    if name.partition(".")[0] in sys.stdlib_module_names:
        return True
    spec = getattr(module, "__spec__", None)
    parent = name.rpartition(".")[0]
    if spec is None or (parent and not is_importable(parent)):
        return False
    path = getattr(sys.modules[parent], "__path__", None) if parent else None
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        try:
            found = find(name, path) if find else None
        except Exception:  # noqa: BLE001, S112  a foreign finder's trouble is its own
            continue
        if found is not None:
            return bool(found.origin == spec.origin)
    return False


def may_import_elsewhere(names: set[str]) -> list[str]:
    """Those of the modules that another process can import, in a fixed order."""
    return sorted(name for name in names if is_importable(name))
