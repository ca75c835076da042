"""Counts connections and requests by client address over all workers of a machine, in shared memory of a fixed size.

The counts are a count-min sketch (Cormode and Muthukrishnan): an address has one counter in each of `TABLES` tables,
chosen by a keyed hash, and its count is the smaller one. Memory does not grow with the number of addresses, no entry is
evicted, and a count is never too small. It is too large for an address that shares both counters with others; such
addresses cannot be constructed without the key.

Workers share the memory without a lock: `AddressCounts` of each worker writes its own row only, and counts are sums
over all rows. Two workers that accept at the same moment may therefore exceed a limit by one each.
"""

import errno
import fcntl
import hashlib
import mmap
import os
from typing import NamedTuple

CONNECTIONS, UNAUTHENTICATED, REQUESTS, QUESTIONS = KINDS = range(4)
RATES = (REQUESTS, QUESTIONS)  # reset at the beginning of each second

TABLES, BUCKETS = 2, 4096
KEY_BYTES = 16
_CELL_BYTES = 4
_HEAD_CELLS = 16  # of the memory: the key; of a row: whether it is in use, and the second of each of its rates
_USED, _SECONDS = 0, 1
_ROW_CELLS = _HEAD_CELLS + len(KINDS) * TABLES * BUCKETS

CellIndexes = tuple[int, ...]  # the index of an address's counter in each table


class _Row(NamedTuple):
    """One worker's row: its head, and for each kind all counters, table by table."""

    head: memoryview
    kinds: tuple[memoryview, ...]


def shared_memory(workers: int, key: bytes) -> int:
    """Create shared memory with two rows for each of `workers`: the worker's own and one for a successor that starts
    while it drains. `key` has KEY_BYTES. Returns the descriptor. Errors: OSError."""
    fd = os.memfd_create("koko-presence-addresses")
    try:
        os.ftruncate(fd, _CELL_BYTES * (_HEAD_CELLS + 2 * workers * _ROW_CELLS))
        os.pwrite(fd, key, 0)
    except OSError:
        os.close(fd)
        raise
    return fd


class AddressCounts:
    """One worker's access to the counts. Writes its own row only, and the rows of workers that have ended."""

    def __init__(self, fd: int | None = None, *, key: bytes = bytes(KEY_BYTES)) -> None:
        """`fd` is a descriptor from `shared_memory`, which stays open. Without one, or when all rows are in use, this
        worker counts in private memory, with `key`. Errors: OSError."""
        self._fd, self._key = fd, key
        rows, own = ([], None) if fd is None else self._attach(fd)
        if own is None:
            rows, own = _private_rows(), 0
            self._fd, self._key = None, key
        self._rows, self._own = rows, own
        self._rows[self._own].head[_USED] = 1

    @property
    def is_shared(self) -> bool:
        """True when the counts include those of other workers."""
        return self._fd is not None

    def cell_indexes(self, address: str) -> CellIndexes:
        """The counters of `address`."""
        digest = hashlib.blake2b(address.encode(), key=self._key, digest_size=4 * TABLES).digest()
        return tuple(
            table * BUCKETS + int.from_bytes(digest[4 * table : 4 * table + 4], "little") % BUCKETS
            for table in range(TABLES)
        )

    def count(self, kind: int, cell_indexes: CellIndexes) -> int:
        """The present count of CONNECTIONS or UNAUTHENTICATED, over all workers."""
        used = [row.kinds[kind] for row in self._rows if row.head[_USED]]
        return min(sum(cells[cell_index] for cells in used) for cell_index in cell_indexes)

    def add(self, kind: int, cell_indexes: CellIndexes, change: int) -> None:
        """Add `change`, 1 or -1, to this worker's counters."""
        cells = self._rows[self._own].kinds[kind]
        for cell_index in cell_indexes:
            cells[cell_index] = max(0, cells[cell_index] + change)

    def take(self, kind: int, cell_indexes: CellIndexes, most: int, second: int) -> bool:
        """Count one event of RATES in monotonic second `second`. Returns False, without counting, when all workers
        together have counted `most` in that second."""
        second &= 0xFFFFFFFF
        at = _SECONDS + kind
        own = self._rows[self._own]
        if own.head[at] != second:  # until the head is set, other workers read the second before and skip this row
            own.kinds[kind][:] = _NONE
            own.head[at] = second
        used = [row.kinds[kind] for row in self._rows if row.head[_USED] and row.head[at] == second]
        if min(sum(cells[cell_index] for cells in used) for cell_index in cell_indexes) >= most:
            return False
        self.add(kind, cell_indexes, 1)
        return True

    def tidy(self) -> None:
        """Clear the rows of workers that have ended. The caller calls it about once a second."""
        if self._fd is None:
            return
        for number, row in enumerate(self._rows):
            if number != self._own and row.head[_USED] and _lock(self._fd, number):
                _clear(row)
                _unlock(self._fd, number)

    def close(self) -> None:
        """Clear this worker's row and release it. Changes that connections report after that go to private memory, as
        another worker may use the row by then."""
        _clear(self._rows[self._own])
        if self._fd is not None:
            _unlock(self._fd, self._own)
        self._fd, self._rows, self._own = None, _private_rows(), 0

    def _attach(self, fd: int) -> tuple[list[_Row], int | None]:
        """All rows, and the number of the first one that could be locked, None when all are in use. The kernel releases
        a row's lock when its process ends."""
        self._key = os.pread(fd, KEY_BYTES, 0)
        rows = _rows_of(memoryview(mmap.mmap(fd, os.fstat(fd).st_size)).cast("I")[_HEAD_CELLS:])
        for number, row in enumerate(rows):
            if _lock(fd, number):
                _clear(row)
                return rows, number
        return rows, None


_NONE = memoryview(bytes(_CELL_BYTES * TABLES * BUCKETS)).cast("I")


def _private_rows() -> list[_Row]:
    """One row in memory of this process."""
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
