"""What a child finds by its module and name wherever the tests are run: what test modules have may travel by value."""

import functools


@functools.lru_cache
def cached(left: int, right: int) -> int:
    """Pickle as a name, as each function with a cache does."""
    return left + right


@functools.singledispatch
def dispatching(left: object, right: int) -> object:
    """Hold a weak dictionary, which no pickle could bring."""
    raise NotImplementedError


@dispatching.register
def _(left: int, right: int) -> int:
    return left + right


class Counted:
    """Counts how often this process pickles it."""

    pickled = 0

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[type, tuple[bytes]]:
        type(self).pickled += 1
        return type(self), (self.data,)
