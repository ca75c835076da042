"""Reads how many file descriptors this process has open, and how many it may open."""

import os
import resource

LISTED = 1000  # with more connections /proc/self/fd is not listed, which takes about a microsecond per descriptor


def allowed() -> int:
    """Return the soft limit [RLIMIT_NOFILE in getrlimit(2)]."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def reserved() -> int:
    """Return how many descriptors are reserved for other uses than client connections: files, the event loop, the log,
    the operator port."""
    return 32 if are_few() else 256


def are_few() -> bool:
    """Return True when the limit is so low (at most 1024) that only a small part is reserved."""
    return allowed() <= 1024


class Descriptors:
    """Counts the open descriptors of this process without listing a large number of them."""

    def __init__(self) -> None:
        self._others = 0  # descriptors that are no connections, at the last listing

    def used(self, connections: int = 0) -> int:
        """Return the number of open descriptors, `connections` of which are client connections."""
        size = os.stat("/proc/self/fd").st_size
        if size > 0:  # since Linux 6.2 it is their number
            return size
        if connections <= LISTED:
            try:
                total = len(os.listdir("/proc/self/fd")) - 1  # without the one of the listing
            except OSError:  # no descriptor is free for the listing
                return allowed()
            self._others = max(0, total - connections)
            return total
        return self._others + connections
