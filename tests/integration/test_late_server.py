"""The processes of a server do not run for longer than the grace period. Clients that resume meanwhile keep their
sessions."""

import json
import os
import signal
import time
from typing import Any

import pytest

from bench.cpu_share import tree
from koko_presence.auth.hmac_jwt import issue_token
from tests.integration.test_supervisor import SECRET, service
from tests.raw_ws import TEXT, RawSocket, frame, handshake
from tests.waiting import wait_until

GRACE_S = 1.0
STOP_S = 4.0


def said(ws: RawSocket, kind: str) -> dict[str, Any]:
    """Receive messages up to the next one of this type, and return it."""
    while True:
        message = dict(json.loads(ws.read_frame().payload))
        if message["type"] == kind:
            return message


def say(ws: RawSocket, **message: Any) -> None:
    ws.send(frame(TEXT, json.dumps(message).encode()))


def come(port: int, user: str, **auth: Any) -> RawSocket:
    """Connect and send `auth` without reading any answer."""
    ws = RawSocket(port)
    token = issue_token(SECRET, user=user, now_s=int(time.time()))
    ws.send(handshake() + frame(TEXT, json.dumps({"type": "auth", "token": token, **auth}).encode()))
    return ws


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_client_that_resumes_while_the_server_does_not_run_has_never_left(workers: int) -> None:
    with service(workers=workers, most=f"50\ngrace_s = {GRACE_S}") as it:
        it.up()
        people: dict[str, RawSocket] = {}
        for user in ("bob", *(f"ann{number}" for number in range(6))):
            ws = people[user] = come(it.port, user)
            assert "101" in ws.read_head()
        tokens = {user: said(ws, "authenticated")["resumeToken"] for user, ws in people.items()}
        for ws in people.values():
            say(ws, type="join", roomId="video_1", roomType="video")
            said(ws, "joined")
        bob = people.pop("bob")
        for ws in people.values():
            ws.sock.close()
        lost = 0
        while lost < len(people):
            lost += said(bob, "status_changed")["data"]["connected"] is False
        processes = tree(it.process.pid)
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        back = {user: come(it.port, user, resumeToken=tokens[user]) for user in people}
        on_at = time.monotonic() + STOP_S
        wait_until(lambda: time.monotonic() >= on_at)
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
        for ws in back.values():
            assert "101" in ws.read_head()
            assert said(ws, "authenticated")["resumed"] is True
        say(bob, type="get_active", id=1, roomId="video_1")
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1]["type"] != "active":
            heard.append(dict(json.loads(bob.read_frame().payload)))
        assert [each for each in heard if each["type"] == "user_left"] == [] and heard[-1]["totalCount"] == 7
        for ws in (bob, *back.values()):
            ws.sock.close()
