"""A worker without memory ends, wherever the MemoryError is raised."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from koko_presence.config import logs
from koko_presence.config.integrations import Webhooks as Options
from koko_presence.config.out_of_memory import EXIT_NO_MEMORY, EndWithoutMemory, end_when_exhausted
from koko_presence.config.schema import Log
from koko_presence.protocol.webhook_events import RoomCounts, RoomEmptied
from koko_presence.webhooks.sender import Webhooks
from tests.waiting import PATIENCE_S


class Ended(BaseException):
    """Raised in place of the process's end."""


def end() -> NoReturn:
    raise Ended


@pytest.fixture
def watch() -> Iterator[tuple[EndWithoutMemory, asyncio.AbstractEventLoop]]:
    root, loop = logging.getLogger(), asyncio.new_event_loop()
    before = (root.handlers[:], root.level, logging.raiseExceptions)
    yield end_when_exhausted(loop, end), loop
    root.handlers[:], root.level, logging.raiseExceptions = before
    logging.captureWarnings(False)
    loop.close()


Watch = tuple[EndWithoutMemory, asyncio.AbstractEventLoop]


def test_what_our_own_code_has_caught_ends_it_when_it_is_logged(watch: Watch) -> None:
    with pytest.raises(Ended):
        try:
            raise MemoryError
        except Exception:
            logging.getLogger("koko_presence.polling").exception("a callback failed")


def test_a_webhook_without_memory_is_no_webhook_that_fails(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    monkeypatch.setattr(watch[0], "_end", lambda: ended.append("now"))

    class Poster:
        async def post(self, url: str, headers: Any, body: bytes) -> NoReturn:
            raise MemoryError

    async def test() -> None:
        webhooks = Webhooks(Options(url="http://x", secret="s" * 40, batch_s=0.0), Poster())
        note = RoomCounts(users=0, sessions=0, visible_users=0, visible_sessions=0)
        webhooks.append(RoomEmptied(id="1", timestamp="", room_id="r", room_type="video", room=note))
        webhooks._ring()
        assert webhooks._sending is not None
        await webhooks._sending

    asyncio.run(test())
    assert ended == ["now"]


def test_it_stays_when_the_log_is_set_up_anew(watch: Watch) -> None:
    logs.configure(Log(level="error"))
    logs.configure(Log(level="error"))
    with pytest.raises(Ended):
        logging.getLogger("koko_presence.test").error("x", exc_info=MemoryError())
    assert len(logging.getLogger().handlers) == 2


def test_other_faults_do_not_end_it(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    handler, loop = watch
    logging.getLogger("koko_presence.test").error("x", exc_info=ValueError("y"))
    handler.on_loop_error(loop, {"message": "z", "exception": ValueError("w")})
    assert [record.getMessage() for record in caplog.records] == ["x", "z"]


SCRIPT = """
import asyncio, sys, uvloop
from koko_presence.config.out_of_memory import end_when_exhausted

async def main():
    loop = asyncio.get_running_loop()
    end_when_exhausted(loop)
    def callback():
        raise MemoryError
    {}
    await asyncio.sleep(100)

uvloop.run(main())
"""
WAYS = {
    "callback": "loop.call_soon(callback)",
    "reader": "import os; r, w = os.pipe(); os.write(w, b'x'); loop.add_reader(r, callback)",
    "caught": "import koko_presence._fastpath.epoll_transport as p; q = p.Poller(loop); q.call_soon(callback)",
}


@pytest.mark.parametrize("how", WAYS.values(), ids=WAYS.keys())
def test_a_callback_without_memory_ends_the_process_at_once(how: str) -> None:
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": PATIENCE_S}
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(how)], **options)
    assert done.returncode == EXIT_NO_MEMORY
    assert json.loads(done.stderr)["msg"] == "no memory is left: this process ends"
