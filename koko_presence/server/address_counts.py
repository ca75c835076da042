"""What each address holds and asks on this machine, counted by all workers together in memory of a fixed size.

A count-min sketch (Cormode and Muthukrishnan): an address has one counter in each of `TABLES` tables, found by a keyed
hash, and its count is the smaller one. So the memory does not depend on how many addresses there are, nothing is ever
thrown out, and no count is too small. It is too large for an address that shares both counters with others; nobody can
look for such addresses without the key.

Workers share the memory and no lock: each has a row that it alone writes, and the rows of all are added up. Two workers
that let somebody in at the same moment may so exceed a limit by one for each of them.
"""

import errno
import fcntl
import hashlib
import mmap
import os
from typing import NamedTuple

CONNECTIONS, UNAUTHENTICATED, REQUESTS, QUESTIONS = KINDS = range(4)
RATES = (REQUESTS, QUESTIONS)  # counted for a second, then from the beginning

TABLES, BUCKETS = 2, 4096
KEY_BYTES = 16
_CELL_BYTES = 4
_HEAD_CELLS = 16  # of the memory: the key; of a row: whether it is used, and the second that its rates are of
_USED, _SECONDS = 0, 1
_ROW_CELLS = _HEAD_CELLS + len(KINDS) * TABLES * BUCKETS

Places = tuple[int, ...]  # of an address: its counter in each table


class _Row(NamedTuple):
    """One worker's part: its head, and for each kind all counters, table by table."""

    head: memoryview
    kinds: tuple[memoryview, ...]


def shared_memory(workers: int, key: bytes) -> int:
    """A descriptor of memory for so many workers, and as many that take their places while those still drain. `key` has
    KEY_BYTES. Errors: OSError."""
    fd = os.memfd_create("koko-presence-addresses")
    try:
        os.ftruncate(fd, _CELL_BYTES * (_HEAD_CELLS + 2 * workers * _ROW_CELLS))
        os.pwrite(fd, key, 0)
    except OSError:
        os.close(fd)
        raise
    return fd


class AddressCounts:
    """One worker's view of the counts. It writes its own row alone."""

    def __init__(self, fd: int | None = None, *, key: bytes = bytes(KEY_BYTES)) -> None:
        """`fd` is from `shared_memory`, and stays open; without one, or when all its rows are taken, this worker counts
        for itself, with `key`. Errors: OSError."""
        self._fd, self._key = fd, key
        rows, own = ([], None) if fd is None else self._attach(fd)
        if own is None:
            rows, own = _private_rows(), 0
            self._fd, self._key = None, key
        self._rows, self._own = rows, own
        self._rows[self._own].head[_USED] = 1

    @property
    def is_shared(self) -> bool:
        """Whether other workers' counts are in it."""
        return self._fd is not None

    def places(self, address: str) -> Places:
        """Where `address` is counted."""
        digest = hashlib.blake2b(address.encode(), key=self._key, digest_size=4 * TABLES).digest()
        return tuple(
            table * BUCKETS + int.from_bytes(digest[4 * table : 4 * table + 4], "little") % BUCKETS
            for table in range(TABLES)
        )

    def count(self, kind: int, places: Places) -> int:
        """How many there are on this machine, of CONNECTIONS or UNAUTHENTICATED."""
        used = [row.kinds[kind] for row in self._rows if row.head[_USED]]
        return min(sum(cells[place] for cells in used) for place in places)

    def add(self, kind: int, places: Places, change: int) -> None:
        """One more or one less."""
        cells = self._rows[self._own].kinds[kind]
        for place in places:
            cells[place] = max(0, cells[place] + change)

    def take(self, kind: int, places: Places, most: int, second: int) -> bool:
        """Count one of RATES in monotonic second `second`; False, and not counted, where all workers together have
        counted `most` in it."""
        second &= 0xFFFFFFFF
        at = _SECONDS + kind
        own = self._rows[self._own]
        if own.head[at] != second:  # what others read meanwhile still has the second before, and does not count
            own.kinds[kind][:] = _NONE
            own.head[at] = second
        used = [row.kinds[kind] for row in self._rows if row.head[_USED] and row.head[at] == second]
        if min(sum(cells[place] for cells in used) for place in places) >= most:
            return False
        self.add(kind, places, 1)
        return True

    def tidy(self) -> None:
        """Forget what workers held that are gone: to be called once a second or so."""
        if self._fd is None:
            return
        for number, row in enumerate(self._rows):
            if number != self._own and row.head[_USED] and _lock(self._fd, number):
                _clear(row)
                _unlock(self._fd, number)

    def close(self) -> None:
        """This worker is over, and holds nothing any more. What its last connections still say when they end is counted
        aside: another worker may have its row by then."""
        _clear(self._rows[self._own])
        if self._fd is not None:
            _unlock(self._fd, self._own)
        self._fd, self._rows, self._own = None, _private_rows(), 0

    def _attach(self, fd: int) -> tuple[list[_Row], int | None]:
        """All rows, and the number of the first that no living process has: the kernel lets go of locks at its end."""
        self._key = os.pread(fd, KEY_BYTES, 0)
        rows = _rows_of(memoryview(mmap.mmap(fd, os.fstat(fd).st_size)).cast("I")[_HEAD_CELLS:])
        for number, row in enumerate(rows):
            if _lock(fd, number):
                _clear(row)
                return rows, number
        return rows, None


_NONE = memoryview(bytes(_CELL_BYTES * TABLES * BUCKETS)).cast("I")


def _private_rows() -> list[_Row]:
    """One row that no other worker sees."""
    return _rows_of(memoryview(bytearray(_CELL_BYTES * _ROW_CELLS)).cast("I"))


def _rows_of(cells: memoryview) -> list[_Row]:
    found = []
    for start in range(0, len(cells), _ROW_CELLS):
        row = cells[start : start + _ROW_CELLS]
        size = TABLES * BUCKETS
        kinds = tuple(row[_HEAD_CELLS + kind * size : _HEAD_CELLS + (kind + 1) * size] for kind in KINDS)
        found.append(_Row(row[:_HEAD_CELLS], kinds))
    return found


def _clear(row: _Row) -> None:
    row.head[_USED] = 0
    for cells in row.kinds:
        cells[:] = _NONE


def _lock(fd: int, number: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _unlock(fd: int, number: int) -> None:
    fcntl.lockf(fd, fcntl.LOCK_UN, 1, number)
