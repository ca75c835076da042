"""docs/webhooks.md and docs/access.md: their examples are what is sent and accepted, and their code checks
signatures."""

import re
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from koko_presence.access.policy import UNSURE
from koko_presence.access.webhook import WebhookAnswer, WebhookQuestion
from koko_presence.config.schema import Config
from koko_presence.config.trpc_rules import parse_rule
from koko_presence.protocol.events import error_reply
from koko_presence.protocol.models import RoomSettings
from koko_presence.protocol.settings import read_settings
from koko_presence.protocol.webhook_events import WEBHOOK_EVENT_TYPES, AnyWebhookEvent
from koko_presence.webhooks import signature
from tests.waiting import PATIENCE_S

DOCS = Path(__file__).parents[2] / "docs"
WEBHOOKS, ACCESS = (DOCS / "webhooks.md").read_text(), (DOCS / "access.md").read_text()
SECRET = "a secret of at least 32 bytes, from your vault"
BODY = '{"id": "evt_1", "events": [], "name": "Zoë"}'.encode()


def snippets(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    events: list[AnyWebhookEvent]


def test_the_batch_has_an_example_of_every_event_with_every_field() -> None:
    (text,) = snippets(WEBHOOKS, "json batch")
    batch = msgspec.json.decode(text, type=Batch)
    assert sorted(each.__struct_config__.tag for each in batch.events) == sorted(WEBHOOK_EVENT_TYPES)
    assert msgspec.to_builtins(batch) == msgspec.json.decode(text)
    table = set(re.findall(r"^\| `(\w+)` \|", WEBHOOKS, re.MULTILINE))
    assert table == set(WEBHOOK_EVENT_TYPES)


def test_the_request_and_the_answers_are_those_of_the_code() -> None:
    (hidden,) = snippets(ACCESS, "json presence")
    assert not msgspec.json.decode(hidden, type=WebhookAnswer).presence
    (question,) = snippets(ACCESS, "json question")
    assert msgspec.to_builtins(msgspec.json.decode(question, type=WebhookQuestion)) == msgspec.json.decode(question)
    yes, no = (msgspec.json.decode(text, type=WebhookAnswer) for text in snippets(ACCESS, "json answer"))
    assert (yes.allow, yes.scopes, yes.ttl, no.allow) == (True, ["join", "control", "broadcast"], 60, False)


def test_the_answer_with_settings_can_be_used() -> None:
    (text,) = snippets(ACCESS, "json settings")
    settings = read_settings(msgspec.json.decode(text, type=WebhookAnswer).settings)
    assert settings == RoomSettings(title="Trailer, cut 3", wait_for_viewers=5.0)


def test_the_refusal_is_the_servers() -> None:
    (text,) = snippets(ACCESS, "json error")
    assert msgspec.json.decode(error_reply(UNSURE.refusal(), None, "video_123")) == msgspec.json.decode(text)


@pytest.mark.parametrize("text", snippets(WEBHOOKS, "toml") + snippets(ACCESS, "toml"))
def test_every_configuration_example_is_valid(text: str) -> None:
    tables = tomllib.loads(text)
    config = msgspec.convert(tables, Config)
    for rule in config.access.trpc.rules:
        parse_rule(rule)


def headers() -> list[tuple[bool, str]]:
    good = signature.sign(SECRET, BODY, time.time())
    return [
        (True, good),
        (False, signature.sign(SECRET, BODY, time.time() - 400)),
        (False, signature.sign(SECRET + "x", BODY, time.time())),
        (False, signature.sign(SECRET, BODY + b" ", time.time())),
        (False, good[:-1]),
        (False, ""),
    ]


def test_the_python_code_checks_signatures() -> None:
    (code,) = snippets(WEBHOOKS, "python")
    names: dict[str, Any] = {}
    exec(code, names)
    for good, header in headers():
        assert names["is_from_presence"](SECRET, header, BODY) is good, header


def test_the_node_code_checks_signatures(tmp_path: Path) -> None:
    (code,) = snippets(WEBHOOKS, "js")
    assert re.findall(r'from "(.*?)"', code) == ["node:crypto"]
    calls = ", ".join(f"isFromPresence(secret, {msgspec.json.encode(h).decode()}, body)" for _, h in headers())
    script = tmp_path / "check.mjs"
    script.write_text(
        f"{code}\nconst secret = {msgspec.json.encode(SECRET).decode()};\n"
        f"const body = Buffer.from({msgspec.json.encode(BODY.decode()).decode()});\n"
        f"console.log(JSON.stringify([{calls}, isFromPresence(secret, undefined, body)]));\n"
    )
    run = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert msgspec.json.decode(run.stdout) == [*(good for good, _ in headers()), False]


def test_the_hono_handler_is_javascript(tmp_path: Path) -> None:
    (code,) = snippets(ACCESS, "js")
    script = tmp_path / "handler.mjs"
    script.write_text(code)
    subprocess.run(["node", "--check", str(script)], capture_output=True, timeout=PATIENCE_S, check=True)
