"""Descriptors 0, 1 and 2 of a process that was started without some of them, as by `2>&-` in a shell.

The first file or socket that such a process opens gets the number of the missing one, and then holds what is written to
stderr, or is closed or replaced with it in a child process.
"""

import os
import sys


def open_missing() -> None:
    """Open those that are closed on /dev/null, for child processes as well. To be called before anything else is
    opened. Errors: OSError where there is no /dev/null."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(opened, True)
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:  # as Python leaves it when the descriptor was closed
            setattr(sys, name, open(fd, mode, encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115
