"""
The values that bench_peers.py and bench_dispatch.py send from process to process, and what the tasks do with them.

A value of any kind is made of the same numbers, 0, 1, 2, ..., in one array or in COLUMNS of them, one after the other;
so that whoever gets it can look at every page and knows what should be there.
"""

from __future__ import annotations

import mmap
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from dispatch_work import TOUCH_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FLOAT_BYTES = 8
_PAGE_FLOATS = os.sysconf("SC_PAGE_SIZE") // FLOAT_BYTES

ARRAY, BYTES, FRAME, TABLE, DICT = "ndarray", "bytes", "DataFrame", "arrow table", "dict of arrays"
KINDS = (ARRAY, BYTES, FRAME, TABLE, DICT)

#: Of a DataFrame, an arrow table and a dict of arrays.
COLUMNS = 8


class Parcel(NamedTuple):
    """A value on its way."""

    #: CLOCK_MONOTONIC just before whatever runs the task gets it, in seconds.
    sent_at: float
    #: Process id.
    producer: int
    kind: str
    #: Bytes of its numbers.
    size: int
    value: Any


def make(kind: str, size: int) -> Any:  # noqa: ANN401  a value of any kind
    """A value of so many bytes, a multiple of COLUMNS floats."""
    numbers = np.arange(size // FLOAT_BYTES, dtype=np.float64)
    if kind == ARRAY:
        return numbers
    if kind == BYTES:
        return numbers.tobytes()
    columns = {f"column-{place}": part for place, part in enumerate(np.split(numbers, COLUMNS))}
    if kind == DICT:
        return {name: part.copy() for name, part in columns.items()}
    if kind == FRAME:
        import pandas as pd

        return pd.DataFrame({name: part.copy() for name, part in columns.items()})
    import pyarrow as pa

    return pa.table(columns)


def arrays_of(kind: str, value: Any) -> list[Array]:  # noqa: ANN401  a value of any kind
    """Its numbers, where they are."""
    if kind == ARRAY:
        return [value]
    if kind == BYTES:
        return [np.frombuffer(value)]
    if kind == DICT:
        return list(value.values())
    if kind == FRAME:
        return [value[name].to_numpy() for name in value]
    return [column.chunk(0).to_numpy(zero_copy_only=True) for column in value.columns]


def look_at(parcel: Parcel) -> None:
    """At every page of a value, and whether it is what it should be."""
    arrays = arrays_of(parcel.kind, parcel.value)
    length = sum(array.size for array in arrays)
    assert length == parcel.size // FLOAT_BYTES, f"the {parcel.kind} has another length"
    first = 0
    for array in arrays:
        touched = float(array[::_PAGE_FLOATS].sum())
        assert touched == sum(range(first, first + array.size, _PAGE_FLOATS)), f"the {parcel.kind} holds other numbers"
        first += array.size


def produce(kind: str, size: int) -> Parcel:
    """A value; what follows its clock is its way to the consumers, pickling included."""
    value = make(kind, size)
    return Parcel(time.monotonic(), os.getpid(), kind, size, value)


def consume(parcel: Parcel) -> float:
    """Seconds on the way until every page was looked at."""
    look_at(parcel)
    return time.monotonic() - parcel.sent_at


def consume_elsewhere(parcel: Parcel) -> float | None:
    """
    The same in another process than the producer's; None in that one.

    Two of them run at a time: the one that comes to the producer's process only keeps the place, so that the other goes
    to the other process.
    """
    if os.getpid() == parcel.producer:
        time.sleep(TOUCH_S)
        return None
    return consume(parcel)


def write_memfd(kind: str, size: int) -> tuple[float, float]:
    """
    Seconds that writing a value's bytes into a fresh memfd takes, and until they are mapped and looked at too.

    The second is what any way between processes pays at least that copies once.
    """
    arrays = arrays_of(kind, make(kind, size))
    started = time.monotonic()
    descriptor = os.memfd_create("benchmark")
    try:
        for array in arrays:
            rest = array.data.cast("B")
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        written = time.monotonic() - started
        mapped = mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE)
        read(np.frombuffer(mapped))
        return written, time.monotonic() - started
    finally:
        os.close(descriptor)


def copy_memory(size: int) -> float:
    """Seconds that copying as many bytes into fresh memory takes, in pages of the usual size."""
    numbers = make(ARRAY, size).data
    started = time.monotonic()
    copy = bytes(numbers)
    seconds = time.monotonic() - started
    assert len(copy) == size
    return seconds


def get_ready(kinds: tuple[str, ...]) -> int:
    """Import what values of these kinds need, and keep this worker for a moment; returns it."""
    for kind in kinds:
        arrays_of(kind, make(kind, COLUMNS * FLOAT_BYTES))
    time.sleep(TOUCH_S)
    return os.getpid()


def read(value: Array) -> float:
    """Look at every page."""
    return float(value[::_PAGE_FLOATS].sum())


def grow(size: int, previous: Array | None = None) -> Array:
    """An array of so many bytes, each number one more than the one before it had."""
    if previous is None:
        return np.zeros(size // FLOAT_BYTES)
    return previous + 1.0
