"""docs/http.md: every curl is run, every TypeScript example is compiled, and the output equals the documented one."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from koko_presence.auth.hmac_jwt import issue_token
from koko_presence.server.http import trpc, trpc_events, trpc_websocket
from koko_presence.server.rpc import Procedures
from tests.integration.test_deploy import free_port
from tests.integration.test_supervisor import SECRET, Service, service
from tests.waiting import PATIENCE_S

from .test_client import PACKAGES, ROUTER, compile_ts

TEXT = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
CHANGES = ("serverTime", "seq")  # numbers that differ from run to run


def fits(expected: Any, got: Any, name: str = "") -> bool:
    """Whether `got` contains everything that the docs show. `…` stands for any text."""
    if isinstance(expected, dict):
        return isinstance(got, dict) and all(
            key in got and fits(value, got[key], key) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return isinstance(got, list) and len(got) == len(expected) and all(map(fits, expected, got))
    if isinstance(expected, str):
        pattern = ".*".join(map(re.escape, expected.split("…")))
        return isinstance(got, str) and re.fullmatch(pattern, got) is not None
    return isinstance(got, int | float) if name in CHANGES else bool(expected == got)


def test_a_difference_is_noticed() -> None:
    assert fits({"a": [{"b": "x…"}], "seq": 1}, {"a": [{"b": "xyz", "c": 1}], "seq": 7})
    for got in ({"a": []}, {"a": [{"b": "y"}]}, {"a": [{"b": "x"}], "seq": "1"}, {"a": [{}]}, []):
        assert not fits({"a": [{"b": "x…"}], "seq": 1}, got)


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with service(workers=2, origins='["https://app.example.com"]') as it:
        yield it.up()


def examples() -> list[tuple[str, str, str]]:
    """Each curl with the JSON and the status that follow it."""
    found = []
    for index, (language, code) in enumerate(BLOCKS):
        if language == "sh":
            after = (
                dict(BLOCKS[index + 1 : index + 3]) if BLOCKS[index + 1][0] != "status" else dict([BLOCKS[index + 1]])
            )
            found.append((code, after.get("json", ""), after.get("status", "").strip()))
    return found


def variables(server: Service) -> dict[str, str]:
    token = issue_token(SECRET, user="user_456", name="Jane Smith", now_s=int(time.time()))
    return {"SERVER": f"http://127.0.0.1:{server.port}", "TOKEN": token}


def test_a_newcomer_who_types_every_command_in_order_gets_the_documented_answers(tmp_path: Path) -> None:
    """The server and the token, too, are those of the document, without a fixture or an option of the test."""
    prepare = re.findall(r"^    (\S.*)$", TEXT.split("## A first call")[1].split("\n## ")[0], re.MULTILINE)
    port = free_port()
    ready = f"until curl -sf http://127.0.0.1:{port}/healthz > /dev/null; do sleep 0.1; done"
    script = (
        "\n".join(prepare)
        .replace(":8080", f":{port}")
        .replace("serve --log-level warning &", "serve --log-level warning & " + ready)
    )
    script = script.replace("koko-presence serve", f"koko-presence serve --port {port}")
    shown = examples()
    for code, *_ in shown:
        script += f"\n{code}\necho; echo ----"
    env = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path), "KOKO_PRESENCE_OPERATOR_PORT": "0",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-uc", f"trap 'kill %1' EXIT\n{script}"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    for (code, body, status), said in zip(shown, done.stdout.split("\n----\n"), strict=False):
        got, _, code_line = said.strip().rpartition("\n") if body and status else (said, "", said)
        assert not body or fits(json.loads(body), json.loads(got)), f"{code}\nprints\n{said}\n{done.stderr}"
        assert not status or code_line.strip() == status, f"{code}\nprints\n{said}"
    assert done.stdout.count("\n----\n") == len(shown)


def test_every_curl_prints_the_documented_answer(server: Service) -> None:
    shown = examples()
    assert len(shown) == 7
    for code, body, status in shown:
        env = {**variables(server), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(["bash", "-euc", code], env=env, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, code + done.stderr
        got, _, code_line = done.stdout.rpartition("\n") if body and status else (done.stdout, "", done.stdout)
        if body:
            assert fits(json.loads(body), json.loads(got)), f"{code}\nprints\n{got}"
        if status:
            assert code_line.strip() == status


def test_the_fetch_example_runs(server: Service, tmp_path: Path) -> None:
    (code,) = (code for language, code in BLOCKS if language == "js")
    values = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in variables(server).items())
    script = tmp_path / "call.mjs"
    script.write_text(values + code)
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout.strip() == "[ 'Jane Smith' ]", done.stderr


def test_every_typescript_compiles() -> None:
    sources = {f"example{number}.ts": code for number, (language, code) in enumerate(BLOCKS) if language == "ts"}
    assert len(sources) == 5
    sources["your-router.ts"] = (
        'import { initTRPC } from "@trpc/server";\n'
        "const t = initTRPC.create();\n"
        'export const appRouter = t.router({ video: t.router({ list: t.procedure.query(() => ["a"]) }) });\n'
        "export type AppRouter = typeof appRouter;\n"
    )
    compile_ts("docs", {**sources, "presence-router.d.ts": ROUTER.read_text()}, list(sources))


def test_the_table_has_every_procedure() -> None:
    table = TEXT.partition("\n## Procedures\n")[2].partition("\n### ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    names = {name for row in rows for name in re.findall(r"`([a-z]\w*)`", row)}  # error codes are in capitals
    assert names == set(Procedures.KINDS)


def test_the_numbers_are_those_of_the_server() -> None:
    assert f"at most {trpc.MAX_BATCH};" in TEXT and trpc.MAX_BODY_BYTES == 64 * 1024
    assert f"may have {trpc_events.MAX_SUBSCRIPTIONS} subscriptions, and {trpc_websocket.MAX_WAITING} calls" in TEXT
    assert PACKAGES.exists()
