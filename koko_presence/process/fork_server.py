"""The fork server, `python -m koko_presence.process.fork_server FD PID`: a process that has loaded the whole program
and forks workers.

The supervisor (PID) sends requests over the socket FD (`process/fork_protocol.py`). A replacement therefore opens no
file of the program, which an upgrade may have overwritten or removed in part, and spends no time on loading. The
process has one thread and no event loop, which makes it safe to fork [fork(2)]; the loop, threads and signal handlers
of a worker start after the fork. The process ends with its socket.

A worker is forked twice: the intermediate process ends at once, and the worker becomes a child of the supervisor, which
is a subreaper [prctl(2), PR_SET_CHILD_SUBREAPER]. So the supervisor alone reaps the worker and gets its exit status,
and the worker ends with the supervisor [PR_SET_PDEATHSIG], independently of the fork server.
"""

import contextlib
import gc
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import worker, worker_process
from .fork_protocol import Forked, Loaded, NotForked, receive_request, send_answer
from .os_process import SIGNALS, set_title
from .standard_streams import open_missing

_PID = struct.Struct("i")  # a pid, or the negative number of an error


def main(argv: list[str]) -> NoReturn:
    """Fork workers until the socket is closed."""
    open_missing()
    for number in (*SIGNALS, signal.SIGUSR1):  # signals to the process group are meant for the supervisor
        signal.signal(number, signal.SIG_IGN)
    sock = socket.socket(fileno=int(argv[0]))
    supervisor = int(argv[1])
    worker_process.load_ahead()
    worker.load_pages()
    gc.collect()
    gc.freeze()  # so that a collection in a worker does not write to shared pages
    gc.disable()
    with contextlib.suppress(OSError):
        send_answer(sock, Loaded())
        while (found := receive_request(sock)) is not None:
            request, fds = found
            try:
                if len(fds) < request.fds:
                    send_answer(sock, NotForked(request.id, "Too many open files"))
                else:
                    _fork(sock, request.id, request.slot, request.slots, request.shares_counts, fds, supervisor)
            finally:
                for fd in fds:
                    os.close(fd)
    os._exit(0)


def _fork(
    sock: socket.socket, id: int, slot: int, slots: int, shares_counts: bool, fds: Sequence[int], supervisor: int
) -> None:
    """Fork one worker and send its pid to the supervisor. The worker continues only after the pid was sent, so that no
    worker runs without the supervisor holding its pid. Errors: OSError if the supervisor is gone."""
    try:
        start_reader, start_writer = os.pipe()
    except OSError as error:
        send_answer(sock, NotForked(id, error.strerror or str(error)))
        return
    try:
        pid_reader, pid_writer = os.pipe()
    except OSError as error:
        os.close(start_reader)
        os.close(start_writer)
        send_answer(sock, NotForked(id, error.strerror or str(error)))
        return
    try:
        middle = os.fork()
    except OSError as error:
        result = -(error.errno or 1)
        os.close(pid_writer)
    else:
        if middle == 0:
            _fork_again(pid_writer)
            for fd in (pid_reader, pid_writer, start_writer):
                os.close(fd)
            sock.close()
            _be_worker(slot, slots, shares_counts, fds, start_reader, supervisor)
        os.close(pid_writer)
        answer = os.read(pid_reader, _PID.size)
        os.waitpid(middle, 0)  # from here on the worker is the supervisor's child
        result = _PID.unpack(answer)[0] if len(answer) == _PID.size else 0
    os.close(start_reader)
    os.close(pid_reader)
    try:
        if result <= 0:
            why = os.strerror(-result) if result else "the intermediate process was killed"
            send_answer(sock, NotForked(id, why))
        else:
            send_answer(sock, Forked(id, result))
            with contextlib.suppress(BrokenPipeError):  # the worker was killed meanwhile
                os.write(start_writer, b"+")
    finally:
        os.close(start_writer)


def _fork_again(pid_writer: int) -> None:
    """Fork the worker in the intermediate process; returns in the worker only."""
    status = 1
    try:
        try:
            result = os.fork()
        except OSError as error:
            result = -(error.errno or 1)
        if result == 0:
            return
        os.write(pid_writer, _PID.pack(result))
        status = 0
    except BaseException:
        os._exit(status)
    os._exit(status)


def _be_worker(
    slot: int, slots: int, shares_counts: bool, fds: Sequence[int], start_reader: int, supervisor: int
) -> NoReturn:
    try:
        gc.enable()
        os.setsid()  # Ctrl-C is for the supervisor
        set_title(f"koko-presence worker {slot}")
        if os.read(start_reader, 1) != b"+":  # the fork server has ended before it sent the pid
            os._exit(1)
        os.close(start_reader)
        channel, *rest = fds
        counts = rest.pop() if shares_counts else None
        each = len(rest) // slots
        listening = [rest[i * each : (i + 1) * each] for i in range(slots)]
        worker_process.run_one(channel, listening, counts, supervisor)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
