"""README's first page works as it is written there: served from another port than the server's, in two windows."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.integration.test_deploy import free_port
from tests.waiting import PATIENCE_S, wait_until

from .conftest import Server

pytestmark = [pytest.mark.browser, pytest.mark.pages]
CHROMIUM = "chromium"  # the shell drops a mouse move on a page without animation frames

TEXT = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = TEXT.split("## Connect a browser")[1].split("\n## ")[0]
(HTML,) = re.findall(r"^```html\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
(SCRIPT,) = re.findall(r"^```js\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
ORIGIN = "http://127.0.0.1:3000"
(SERVE,) = re.findall(r"^    (python3 -m http.server .*)$", SECTION, re.MULTILINE)


@pytest.fixture(scope="module")
def page_port() -> int:
    return free_port()


@pytest.fixture
def folder(tmp_path: Path, page_port: int) -> Iterator[Path]:
    """A folder that the command of README serves."""
    command = [sys.executable, *SERVE.replace("3000", str(page_port)).split()[1:]]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as serving:
        wait_until(lambda: answers(page_port))
        yield tmp_path
        serving.terminate()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def opened(context: BrowserContext, page_port: int) -> tuple[Page, list[str]]:
    """The page at the address in README, and what its console shows."""
    page, said = context.new_page(), list[str]()
    page.on("console", lambda line: said.append(line.text))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    address = f"{ORIGIN}/"
    assert f"open {address} in two windows" in SECTION.replace("\n", " ")
    page.goto(address.replace("3000", str(page_port)))
    return page, said


def written(folder: Path, html: str, server: Server) -> None:
    assert "127.0.0.1:8080" in html
    (folder / "index.html").write_text(html.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}"))


def until(page: Page, said: list[str], text: str) -> None:
    for _ in range(int(PATIENCE_S * 20)):
        if any(text in line for line in said):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{text!r} is not among {said}")


def test_two_windows_of_the_first_page_show_each_other(
    server: Server, context: BrowserContext, folder: Path, page_port: int
) -> None:
    written(folder, HTML, server)
    one, said_one = opened(context, page_port)
    until(one, said_one, "here:")
    two, said_two = opened(context, page_port)
    until(two, said_two, "here:")
    until(one, said_one, "came")
    for step in range(20):
        two.mouse.move(10 + 5 * step, 20)
        two.wait_for_timeout(20)
    until(one, said_one, "points at")
    assert [line for line in (*said_one, *said_two) if re.match("closed|error|[A-Z_]+ ", line)] == []


def test_the_script_with_the_sdk_shows_the_others(
    server: Server, context: BrowserContext, folder: Path, page_port: int
) -> None:
    written(folder, f'<!doctype html><script type="module">{SCRIPT}</script>', server)
    one, said_one = opened(context, page_port)
    file = folder / "index.html"
    before_s = file.stat().st_mtime
    file.write_text(file.read_text().replace("user=jane&name=Jane", "user=tom&name=Tom"))
    # the file server compares whole seconds, and would answer 304 for a page of the same second
    os.utime(file, (before_s + 2.0, before_s + 2.0))
    opened(context, page_port)
    until(one, said_one, "Tom")


def test_regression_a_page_of_another_origin_reads_no_development_token(
    server: Server, context: BrowserContext, folder: Path, page_port: int
) -> None:
    written(folder, HTML, server)
    (folder / "index.html").rename(folder / "page.html")
    (folder / "index.html").write_text('<!doctype html><iframe sandbox="allow-scripts" src="page.html"></iframe>')
    page, said = opened(context, page_port)  # a sandboxed frame has the origin null
    until(page, said, "CORS")


def test_a_page_of_this_machine_by_another_name_may_connect(
    server: Server, context: BrowserContext, folder: Path, page_port: int
) -> None:
    written(folder, HTML, server)
    page, said = opened(context, page_port)
    page.goto(f"http://localhost:{page_port}/")
    until(page, said, "here:")


def test_a_page_from_a_file_connects_where_the_origin_null_is_listed(
    context: BrowserContext, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for listed, text in (("", "CORS"), ("null", "here:")):
        monkeypatch.setenv("KOKO_PRESENCE_SERVER_ORIGINS", listed)
        server = Server(tmp_path_factory.mktemp("server") / "server.log")
        try:
            written(tmp_path, HTML, server)
            page, said = context.new_page(), list[str]()
            page.on("console", lambda line, said=said: said.append(line.text))  # type: ignore[misc]
            page.goto((tmp_path / "index.html").as_uri())
            until(page, said, text)
            page.close()
        finally:
            server.stop()
