"""A process that was started without some of the descriptors 0, 1 and 2."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from koko_presence.process import standard_streams

PROGRAM = f"""
import os, sys
from {standard_streams.__name__} import open_missing
missing = [fd for fd in range(3) if not os.path.exists(f"/proc/self/fd/{{fd}}")]
open_missing()
found = [os.readlink(f"/proc/self/fd/{{fd}}") for fd in missing]
heirs = [os.get_inheritable(fd) for fd in missing]
for stream in (sys.stdout, sys.stderr):
    print("text", file=stream, flush=True)
sys.stdin.read(0)
other = os.open("/dev/null", os.O_RDONLY)
open(sys.argv[1], "w").write(repr((missing, found, heirs, other > 2)))
"""


@pytest.mark.parametrize("closed", [list(each) for n in range(4) for each in itertools.combinations(range(3), n)])
def test_regression_a_pipe_of_the_servers_own_had_the_number_of_stderr(closed: list[int], tmp_path: Path) -> None:
    """No file of the server's own gets the number of a closed standard stream. With `serve 2>&-` no worker ever served,
    since their logs went to the file that had taken the number 2."""

    def close() -> None:
        for fd in closed:
            os.close(fd)

    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "found")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=close, check=True,
    )  # fmt: skip
    count = len(closed)
    assert (tmp_path / "found").read_text() == repr((closed, [os.devnull] * count, [True] * count, True))
