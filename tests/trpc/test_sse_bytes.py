"""The bytes of an event stream are those that @trpc/server writes [M6c]."""

import json
import subprocess

from koko_presence.server.http import sse, trpc
from koko_presence.server.http.trpc import TrpcError
from tests.trpc.test_client import PACKAGES

PRODUCE = """
import { sseStreamProducer, sseHeaders } from "@trpc/server/unstable-core-do-not-import";
const { values, error, lastEventId, client } = JSON.parse(process.argv[2]);
async function* data() {
  yield* values;
  if (error) throw new Error("it has failed");
  await new Promise((later) => setTimeout(later, 50));
}
const ping = values.length ? undefined : { enabled: true, intervalMs: 20 };
const stream = sseStreamProducer({ data: data(), lastEventId, client, ping, formatError: () => error });
const chunks = [];
for await (const chunk of stream) chunks.push(chunk);
console.log(JSON.stringify({ bytes: Buffer.concat(chunks).toString(), headers: sseHeaders }));
"""


def produced(values: list[object], **options: object) -> tuple[bytes, dict[str, str]]:
    script = PACKAGES / "produce.mjs"
    script.write_text(PRODUCE)
    command = ["node", str(script), json.dumps({"values": values, **options})]
    done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return done["bytes"].encode(), done["headers"]


def test_values_with_and_without_an_id_to_restore() -> None:
    events = [{"type": "cursor_moved", "data": {"x": 0.5, "text": 'ä"\n'}}, {"type": "left"}]
    payloads = [trpc.encode(event) for event in events]
    client = {"reconnectAfterInactivityMs": 35000}
    end = b"event: return\ndata: \n\n\n"
    plain, _ = produced(list(events), client=client)
    assert plain == sse.connected(35.0) + b"".join(sse.value(each, clears_id=False) for each in payloads) + end
    with_id, _ = produced(list(events), client=client, lastEventId="abc")
    each_restored = b"".join(sse.value(each, clears_id=True) + sse.restore_id(b"abc") for each in payloads)
    assert with_id == sse.connected(35.0) + each_restored + end


def test_pings_and_the_error_that_ends_a_stream() -> None:
    shape = TrpcError("UNAUTHORIZED", "no", reason="UNAUTHENTICATED").shape("presence.onEvent")
    failed, headers = produced([{"type": "left"}], client={"reconnectAfterInactivityMs": 35000}, error=shape)
    assert failed == sse.connected(35.0) + sse.value(b'{"type":"left"}', clears_id=False) + sse.failed(shape)
    pinged, _ = produced([], client={"reconnectAfterInactivityMs": 35000})
    assert pinged.startswith(sse.connected(35.0) + sse.PING)
    ours = dict(sse.HEADERS)
    assert {name: ours[name] for name in headers if name != "Connection"} == {
        name: value for name, value in headers.items() if name != "Connection"
    }
