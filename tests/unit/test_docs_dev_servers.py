"""docs/sdk.md, "Vite, Next and proxies": the configurations lead to what the server has, and the token route signs tokens
that the server accepts. `tests/browser/test_readme.py` opens pages of another port in Chromium."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from koko_presence.auth.hmac_jwt import HmacVerifier
from koko_presence.process.worker import WS_PATHS
from koko_presence.server.origins import Origins
from tests.waiting import PATIENCE_S

TEXT = (Path(__file__).parent.parent.parent / "docs" / "sdk.md").read_text()
SECRET = "a secret of at least 32 bytes, from your vault"
SERVER = "http://127.0.0.1:8080"


def snippet(name: str) -> str:
    (found,) = re.findall(rf"^```js {name}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def printed(script: Path, **environment: str) -> Any:
    """What a script of Node prints, as JSON."""
    command = ["node", str(script)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def vite(tmp_path: Path) -> dict[str, Any]:
    """The proxy table of Vite's configuration."""
    stub = tmp_path / "node_modules" / "vite"
    stub.mkdir(parents=True)
    (stub / "package.json").write_text('{"name": "vite", "type": "module", "exports": "./index.js"}')
    (stub / "index.js").write_text("export const defineConfig = (config) => config;")
    (tmp_path / "vite.config.mjs").write_text(snippet("vite"))
    script = tmp_path / "print.mjs"
    script.write_text('import config from "./vite.config.mjs"; console.log(JSON.stringify(config.server.proxy));')
    return dict(printed(script))


def test_vite_passes_on_what_the_server_has_and_keeps_the_host(vite: dict[str, Any]) -> None:
    assert set(vite) == {*WS_PATHS, "/dev/token"}
    for path, to in vite.items():
        assert to == {"target": SERVER} | ({"ws": True} if path in WS_PATHS else {}), "the short form sets changeOrigin"
    page, hosts = "http://localhost:5173", {"kept": "localhost:5173", "changeOrigin": "127.0.0.1:8080"}
    allowed = {
        name: Origins().allow(lambda header, host=host: {"origin": [page], "host": [host]}.get(header, []))  # type: ignore[misc]
        for name, host in hosts.items()
    }
    assert allowed == {"kept": True, "changeOrigin": False}


def test_next_passes_on_the_same(tmp_path: Path, vite: dict[str, Any]) -> None:
    (tmp_path / "next.config.mjs").write_text(snippet("next"))
    script = tmp_path / "print.mjs"
    script.write_text('import config from "./next.config.mjs"; console.log(JSON.stringify(await config.rewrites()));')
    development = {"NODE_ENV": "development"}
    for base, environment, paths in (
        (SERVER, development, set(vite)),
        ("https://p.example.com", {"PRESENCE_URL": "https://p.example.com", "NODE_ENV": "production"}, set(WS_PATHS)),
    ):
        rewrites = printed(script, **environment)
        assert {each["source"].removesuffix("/:path*") for each in rewrites} == paths
        assert all(each["destination"] == base + each["source"] for each in rewrites)


def test_the_token_route_signs_tokens_that_the_server_accepts(tmp_path: Path) -> None:
    (tmp_path / "session.mjs").write_text(
        'export const currentUser = async () => process.env.NOBODY ? null : { id: "jane", name: "Jane", '
        'image: "https://a.example/j.png", rooms: { project_7: ["join", "broadcast"] } };'
    )
    (tmp_path / "route.mjs").write_text(snippet("token").replace("@/lib/session", "./session.mjs"))
    script = tmp_path / "print.mjs"
    script.write_text(
        'import { GET } from "./route.mjs"; const answer = await GET();'
        "console.log(JSON.stringify([answer.status, answer.headers.get('cache-control'), await answer.json()]));"
    )
    status, cached, body = printed(script, PRESENCE_SECRET=SECRET)
    who = HmacVerifier(SECRET).verify(body["token"], time.time())
    assert (status, cached, who.user_id, who.name, who.image) == (
        200, "no-store", "jane", "Jane", "https://a.example/j.png",
    )  # fmt: skip
    assert who.rooms == {"project_7": ("join", "broadcast")} and who.issued_at_s
    assert printed(script, PRESENCE_SECRET=SECRET, NOBODY="1")[:2] == [401, None]


def test_the_pages_function_understands_each_answer_of_the_route(tmp_path: Path) -> None:
    """Of a signed-in user, of none, and of a route that is not there."""
    script = tmp_path / "print.mjs"
    script.write_text(
        f"{snippet('auth')}"
        'const answers = [Response.json({ token: "a.b.c" }), Response.json({ error: "Sign in." }, { status: 401 }),'
        '  new Response("<!doctype html>", { status: 404 })];'
        "globalThis.fetch = async () => answers.shift();"
        "const told = [await auth(), await auth(), await auth().catch(({ message }) => message)];"
        "console.log(JSON.stringify(told));"
    )
    assert printed(script) == ["a.b.c", None, "no token: status 404"]


def test_a_page_names_the_servers_own_address_and_the_token_of_dev() -> None:
    found = re.findall(r'"(\w+://[^"?]+)', snippet("dev"))
    assert found == ["ws://localhost:8080/presence", "http://localhost:8080/dev/token"]
