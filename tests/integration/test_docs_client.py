"""docs/protocol.md: its client in 25 lines joins, and comes back as the same session after a cut."""

import asyncio
import re
from pathlib import Path

from tests.integration.conftest import Run
from tests.integration.test_sdk import ENV, TESTS
from tests.live import live
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "protocol.md").read_text().split("\n## A client in 25 lines\n")[1].split("\n## ")[0]
(CLIENT,) = re.findall(r"```js\n(.*?)```", SECTION, re.DOTALL)
ADDRESS = "ws://localhost:8080/presence"

# what the document leaves to the application
APPLICATION = """
import { WebSocket } from "ws";
const getToken = async () => %(token)r;
const handle = (message, send) => {
  if (message.type !== "joined") return;
  console.log(`joined ${message.sessionId} ${message.room.users.length}`);
  send({ type: "cursor", roomId: "video_123", data: { timestamp: 1, x: 0.5, y: 0.5 } });
};
%(client)s
connect();
"""


def test_the_client_of_the_document_joins_and_resumes(run: Run, tmp_path: Path) -> None:
    assert len(CLIENT.splitlines()) <= 32 and CLIENT.count(ADDRESS) == 1

    async def test() -> None:
        async with live() as server:
            client = CLIENT.replace(ADDRESS, server.url)
            process = await asyncio.create_subprocess_exec(
                "node", "--input-type=module", "-e", APPLICATION % {"token": server.token("ann", "Ann"), "client": client},
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=ENV, cwd=TESTS,
            )  # fmt: skip
            assert process.stdout is not None
            try:
                async with asyncio.timeout(PATIENCE_S):
                    first = (await process.stdout.readline()).decode()
                    assert re.fullmatch(r"joined \S+ 1\n", first), first
                    server.cut()
                    assert (await process.stdout.readline()).decode() == first
            finally:
                process.kill()
                await process.wait()

    run(test())
