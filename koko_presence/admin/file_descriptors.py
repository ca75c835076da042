"""How many file descriptors this process has open, and how many it may have."""

import os
import resource

LISTED = 1000  # so many connections at most are counted by listing, which takes about a microsecond for each


def allowed() -> int:
    """The soft limit [RLIMIT_NOFILE in getrlimit(2)]."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def kept() -> int:
    """How many of them are not for the connections of clients: files, the loop, the log, the operator port."""
    return 32 if are_few() else 256


def are_few() -> bool:
    """Are so few allowed that everything beside the connections of clients has to get along with a small part?"""
    return allowed() <= 1024


class Descriptors:
    """Counts those of this process without ever walking over very many of them."""

    def __init__(self) -> None:
        self._others = 0  # than connections, when they were listed last

    def used(self, connections: int = 0) -> int:
        """How many are open, of which `connections` are connections."""
        size = os.stat("/proc/self/fd").st_size
        if size > 0:  # since Linux 6.2 it is their number
            return size
        if connections <= LISTED:
            try:
                total = len(os.listdir("/proc/self/fd")) - 1  # less the one that lists
            except OSError:  # there is none left for that
                return allowed()
            self._others = max(0, total - connections)
            return total
        return self._others + connections
