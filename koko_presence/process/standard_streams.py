"""Opens the standard descriptors 0, 1 and 2 that were closed when the process started, as by `2>&-` in a shell.

Otherwise the first file or socket that the process opens gets the number of the missing one, and then receives what is
written to stderr, or is closed or replaced with it in a child process.
"""

import os
import sys


def open_missing() -> None:
    """Open the missing ones on /dev/null, inheritable by child processes. To be called before any other descriptor is
    opened. Errors: OSError without /dev/null."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is `fd`
            os.set_inheritable(opened, True)
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:  # set by Python when the descriptor was closed
            setattr(sys, name, open(fd, mode, encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115
