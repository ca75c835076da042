"""At the file-descriptor limit the server uses little CPU, logs little, and accepts again as soon as it can."""

import os
import socket
import time
from pathlib import Path

from tests.integration.servers import echo_server
from tests.raw_ws import TEXT, RawSocket, frame
from tests.waiting import PATIENCE_S, wait_until

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def serves(port: int) -> bool:
    try:
        with RawSocket(port) as ws:
            if "101" not in ws.upgrade("/"):
                return False
            ws.send(frame(TEXT, b"back"))
            return ws.read_frame().payload == b"back"
    except (EOFError, OSError):
        return False


def test_regression_the_accept_path_does_not_spin_when_descriptors_run_out() -> None:
    with echo_server(prefix=("prlimit", "--nofile=60:60")) as (process, port):  # type: ignore[attr-defined]
        crowd = []
        for _ in range(100):
            sock = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
            sock.setblocking(False)
            crowd.append(sock)
        before, began = cpu_s(process.pid), time.monotonic()
        while time.monotonic() - began < 1.0:
            time.sleep(0.1)
        assert cpu_s(process.pid) - before < 0.2 * (time.monotonic() - began)
        for sock in crowd:
            sock.close()
        wait_until(lambda: serves(port))
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE_S)
        assert len(said.splitlines()) <= 5, said
        assert "connection limit reached: the file descriptor limit allows 28 connections" in said
