"""A value travels as bytes: inline or in a memfd, zero-copy and private, and nothing is left behind."""

import fcntl
import gc
import json
import os
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import numpy as np
import pytest

from processes import blob
from processes.blob import BUFFER_MIN, INLINE_MAX, MemoryFile, dump, is_importable, load, may_import_elsewhere

LARGE = bytes(range(256)) * 1024  # 256 KiB: more than goes inline

SOURCE = """
class Point:
    scale = 10
    def __init__(self, x):
        self.x = x
    def scaled(self):
        return self.x * self.scale * FACTOR

FACTOR = 1

def scaled(x):
    return Point(x).scaled()
"""


def in_memory(value: object) -> MemoryFile:
    """A value that has to go into a memfd."""
    made = dump(value)
    assert isinstance(made, MemoryFile)
    return made


def open_descriptors() -> set[tuple[str, str]]:
    """What this process has open on a memfd."""
    gc.collect()
    found = set()
    for name in os.listdir("/proc/self/fd"):
        target = os.readlink(f"/proc/self/fd/{name}") if os.path.lexists(f"/proc/self/fd/{name}") else ""
        if "memfd:" in target:
            found.add((name, target))
    return found


@pytest.fixture
def handmade(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that no file holds: only this process has it."""
    module = ModuleType("handmade_by_the_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(SOURCE, module.__dict__)  # noqa: S102  this is how such modules come about
    return module


@pytest.fixture
def in_main(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A namespace whose class and function say that they are of `__main__`, and are found there."""
    module = ModuleType("__main__")
    exec(SOURCE, module.__dict__)  # noqa: S102  as a script is run
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


# ---- inline and in memory --------------------------------------------------------------------------------------------

SMALL: list[object] = [
    None,
    True,
    -1,
    10**30,
    1.5,
    2j,
    "text",
    "\udc80 a lone surrogate",
    b"bytes",
    (),
    [],
    {},
    (1, "a", (2, b"b")),
    [1, [2, [3, [4]]]],
    {"a": 1, "b": [2]},
    {1, 2},
    frozenset({"x"}),
    "x" * 5000,
    list(range(1000)),
    range(3),
    Path("/a/b"),
]


@pytest.mark.parametrize("value", SMALL, ids=lambda value: repr(value)[:20])
def test_blob_small_values_go_inline(value: object) -> None:
    """They are bytes, and the same afterwards, in value and in type."""
    made = dump(value)
    assert isinstance(made, bytes)
    again = load(made)
    assert again == value
    assert type(again) is type(value)


def test_blob_large_values_go_into_memory() -> None:
    """A stream over the limit is a memfd that holds all of it."""
    made = in_memory([LARGE, "and", {"more": LARGE}])
    assert made.size == os.fstat(made.fd).st_size > 2 * len(LARGE) - len(LARGE)
    assert load(made) == [LARGE, "and", {"more": LARGE}]


@pytest.mark.parametrize("length", [INLINE_MAX - 100, INLINE_MAX, INLINE_MAX + 1, 10 * INLINE_MAX])
def test_blob_limit_is_that_of_the_stream(length: int) -> None:
    """Whatever the side of the limit, the value is the same."""
    made = dump(bytes(length))
    assert isinstance(made, bytes) == (length < INLINE_MAX)
    assert load(made) == bytes(length)


def test_blob_stays_inline_for_who_has_room() -> None:
    """With no limit everything is bytes, arrays included."""
    value = [LARGE, np.arange(100_000)]
    made = dump(value, inline_max=sys.maxsize)
    assert isinstance(made, bytes)
    again = load(made)
    assert again[0] == LARGE
    assert np.array_equal(again[1], np.arange(100_000))


def test_blob_shared_and_circular_objects_stay_so() -> None:
    """One object twice is one object twice; a list may hold itself."""
    twice = [1]
    circular: list[object] = [twice, twice]
    circular.append(circular)
    again = load(dump(circular))
    assert again[0] is again[1]
    assert again[2] is again


def test_blob_memory_is_sealed() -> None:
    """Nobody who gets the descriptor can change what the others read."""
    made = in_memory(LARGE)
    seals = fcntl.fcntl(made.fd, fcntl.F_GET_SEALS)
    wanted = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
    assert seals & wanted == wanted
    with pytest.raises(PermissionError):
        os.pwrite(made.fd, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(made.fd, 0)


def test_blob_can_be_loaded_again_and_elsewhere() -> None:
    """Each reader has its own object; a duplicate of the descriptor will do."""
    made = in_memory({"a": LARGE})
    other = MemoryFile(os.dup(made.fd))
    assert other.size == made.size
    first, second, third = load(made), load(made), load(other)
    assert first == second == third
    assert first is not second


# ---- buffers ---------------------------------------------------------------------------------------------------------


def test_blob_buffers_are_not_copied() -> None:
    """An array's data are pages of the memfd: loading 64 MiB takes no memory of its own."""
    array = np.ones(8 * 2**20)
    made = in_memory({"array": array})
    before = anonymous_bytes()
    again = load(made)["array"]
    assert anonymous_bytes() - before < 16 * 2**20
    assert not again.flags.owndata
    assert np.array_equal(again, array)


def test_blob_buffers_can_be_written_to() -> None:
    """An array is as good as its original, and whoever writes to it does so for itself."""
    made = in_memory(np.zeros(100_000))
    mine, yours = load(made), load(made)
    assert mine.flags.writeable
    mine[:] = 1
    assert yours.sum() == 0
    assert load(made).sum() == 0


def test_blob_buffers_are_aligned() -> None:
    """Vector instructions like the start of an array, whatever stands before it."""
    arrays: list[Any] = [np.arange(20_001.0), np.frombuffer(LARGE, np.uint8).copy(), np.ones((300, 301), order="F")]
    again = load(in_memory(["x" * 777, *arrays]))
    assert all(array.__array_interface__["data"][0] % 64 == 0 for array in again[1:])
    assert all(np.array_equal(array, original) for array, original in zip(again[1:], arrays, strict=True))


def test_blob_small_buffers_stay_in_the_stream() -> None:
    """A small array alone needs no memfd."""
    assert isinstance(dump(np.zeros(BUFFER_MIN // 8 - 1)), bytes)


def test_blob_buffers_outlive_the_descriptor() -> None:
    """What has been mapped stays readable when the blob is freed."""
    made = in_memory(np.arange(100_000))
    again = load(made)
    made.close()
    assert again.sum() == sum(range(100_000))


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


# ---- descriptors -----------------------------------------------------------------------------------------------------


def test_memory_file_close_may_be_repeated() -> None:
    """The second time there is nothing to close, also where the number is in use again."""
    made = in_memory(LARGE)
    number = made.fd
    made.close()
    other = os.dup(2)
    try:
        made.close()
        assert other == number
        os.fstat(other)
    finally:
        os.close(other)


def test_memory_file_goes_with_its_last_owner() -> None:
    """Nobody has to close it."""
    before = open_descriptors()
    made = in_memory(LARGE)
    assert open_descriptors() > before
    del made
    assert open_descriptors() == before


class Unpicklable:
    """Its own code fails."""

    def __reduce__(self) -> str:
        msg = "not me"
        raise LookupError(msg)


#: They fail when much has been written.
FAILING = [
    [LARGE, threading.Lock()],
    [LARGE, np.zeros(100_000), threading.Lock()],
    [pickle.PickleBuffer(memoryview(bytearray(LARGE))[::2])],
    [np.zeros(100_000), Unpicklable()],
]


@pytest.mark.parametrize("value", FAILING, ids=["lock", "array", "strided", "own"])
def test_blob_failure_leaves_no_descriptor(value: object) -> None:
    """What cannot be pickled raises, and what was begun is freed."""
    before = open_descriptors()
    with pytest.raises(Exception, match=r"pickle|not me|contiguous"):
        dump(value)
    assert open_descriptors() == before


def test_blob_failure_names_what_the_value_raised() -> None:
    """The value's own exception comes out, not one of ours."""
    with pytest.raises(LookupError, match="not me"):
        dump(Unpicklable())


def test_blob_load_raises_what_the_value_raises() -> None:
    """Loading runs the value's own code; a failure of a large one frees its mapping."""
    made = in_memory([LARGE, Exploding()])
    with pytest.raises(ZeroDivisionError):
        load(made)


class Exploding:
    """It cannot be built anew."""

    def __reduce__(self) -> tuple[Callable[[int, int], tuple[int, int]], tuple[int, int]]:
        return divmod, (1, 0)


# ---- classes and functions -------------------------------------------------------------------------------------------


def parts_of(module: ModuleType) -> list[Any]:
    """An instance, a class, a function, and a list of them."""
    instance = module.Point(2)
    return [instance, module.Point, module.scaled, [instance, module.Point, module.scaled]]


def check_parts(parts: list[Any]) -> None:
    """They work, with what they need of their module."""
    instance, kind, function, together = parts
    assert instance.scaled() == 20
    assert kind(3).scaled() == 30
    assert function(4) == 40
    assert [together[0].scaled(), together[1](3).scaled(), together[2](4)] == [20, 30, 40]


def test_blob_carries_main_by_value(in_main: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `__main__` defines works where `__main__` is another program."""
    streams = [dump(part) for part in parts_of(in_main)]
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    check_parts([load(stream) for stream in streams])


def test_blob_carries_handmade_modules_by_value(handmade: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process could not import travels whole."""
    streams = [dump(part) for part in parts_of(handmade)]
    monkeypatch.delitem(sys.modules, handmade.__name__)
    check_parts([load(stream) for stream in streams])


def test_blob_carries_large_values_by_value(in_main: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays beside an instance of `__main__` are still not copied."""
    made = in_memory([in_main.Point(2), np.arange(100_000)])
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    point, array = load(made)
    assert point.scaled() == 20
    assert not array.flags.owndata


def test_blob_carries_lambdas_and_closures() -> None:
    """Functions that have no name to be found by."""
    factor = 3
    assert load(dump(lambda x: x * factor))(2) == 6
    assert load(dump([lambda: factor]))[0]() == 3


def test_blob_carries_importable_functions_by_name() -> None:
    """They are the very same on the other side."""
    assert load(dump(json.dumps)) is json.dumps
    assert load(dump([json.JSONDecoder, os.path.join])) == [json.JSONDecoder, os.path.join]


def test_blob_leaves_cloudpickles_registry_as_it_was(handmade: ModuleType) -> None:
    """How the user's own pickles are made does not change, also after a failure."""
    before = cloudpickle.list_registry_pickle_by_value()
    dump(handmade.scaled)
    with pytest.raises(TypeError):
        dump([handmade.scaled, threading.Lock()])
    assert cloudpickle.list_registry_pickle_by_value() == before


def test_blob_gathers_the_modules_that_loading_needs(handmade: ModuleType) -> None:
    """By name, so that they can be imported before; those that go by value need no import."""
    modules: set[str] = set()
    dump([json.JSONDecoder, 1], modules)
    assert "json.decoder" in modules
    dump(handmade.scaled, modules)
    assert "cloudpickle" in modules
    assert handmade.__name__ not in modules


# ---- what another process can import ---------------------------------------------------------------------------------


def test_is_importable_says_no_of_what_only_we_have(handmade: ModuleType) -> None:
    """The main program, a module made by hand, a submodule of one, a name that nobody imported."""
    sys.modules[f"{handmade.__name__}.sub"] = sub = ModuleType(f"{handmade.__name__}.sub")
    try:
        names = ["__main__", handmade.__name__, sub.__name__, "nobody.imported.this"]
        assert [name for name in names if is_importable(name)] == []
    finally:
        del sys.modules[sub.__name__]


def test_is_importable_says_yes_of_files_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builtin, library, installed and user's own modules, packages and their parts."""
    (tmp_path / "test_blob_package").mkdir()
    (tmp_path / "test_blob_package" / "__init__.py").touch()
    (tmp_path / "test_blob_package" / "part.py").write_text("def f(): return 1")
    monkeypatch.syspath_prepend(tmp_path)
    with_parts = ["test_blob_package", "test_blob_package.part"]
    try:
        for name in with_parts:
            __import__(name)
        assert all(is_importable(name) for name in ["sys", "json.decoder", "numpy", "processes.blob", *with_parts])
    finally:
        for name in with_parts:
            sys.modules.pop(name, None)


def test_is_importable_sees_that_a_module_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file would be found by that name, but it is not what we have."""
    (tmp_path / "test_blob_replaced.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    __import__("test_blob_replaced")
    try:
        assert is_importable("test_blob_replaced")
        monkeypatch.setitem(sys.modules, "test_blob_replaced", ModuleType("test_blob_replaced"))
        assert not is_importable("test_blob_replaced")
    finally:
        monkeypatch.undo()
        sys.modules.pop("test_blob_replaced", None)


def test_may_import_elsewhere_sorts_and_drops() -> None:
    """What only we have is left out; the rest comes in one order."""
    assert may_import_elsewhere({"os", "__main__", "json"}) == ["json", "os"]


def test_blob_uses_the_protocol_with_buffers() -> None:
    """Protocol 5 is the first that leaves buffers out."""
    assert blob.PROTOCOL == 5
