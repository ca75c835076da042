"""The UI kit in pages that are made by the bundlers that applications use, in development and in production, from the package
that npm would publish. What is looked at is the computed style: it shows that a component has its style sheet."""

import functools
import http.server
import os
import shutil
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.waiting import PATIENCE_S

pytestmark = [pytest.mark.browser, pytest.mark.bundlers]

ROOT = Path(__file__).parents[2]
SDK = ROOT / "koko_presence" / "web" / "sdk"
BUILD_S = 600.0  # of the slowest build on a busy machine

ENTRY = """import { createPresence } from "koko-presence";
import { KokoAvatars } from "koko-presence/ui";
window.loaded = Boolean(createPresence && KokoAvatars);
"""
BODY = """<!doctype html><title>page</title><link rel="icon" href="data:,">
<div style="position: relative"><video id="film"></video><koko-cursors for="film"></koko-cursors></div>
<koko-avatars></koko-avatars>"""
MODULE = BODY + '<script type="module" src="/bundle.js"></script>'
CLASSIC = BODY + '<script src="/bundle.js"></script>'

WEBPACK = """export default {
  mode: process.env.MODE, devtool: false, entry: "./main.js",
  output: { path: import.meta.dirname + "/out", filename: "bundle.js" },
  module: { rules: [{ test: /\\.css$/, use: ["style-loader", "css-loader"] }] },
};
"""
ROLLUP = """import resolve from "@rollup/plugin-node-resolve";
export default {
  input: "main.js", plugins: [resolve()],
  output: { file: "out/bundle.js", format: process.env.FORMAT, inlineDynamicImports: true },
};
"""
NEXT_PAGE = """"use client";
import { useEffect } from "react";
import { createPresence } from "koko-presence";
import { KokoAvatars } from "koko-presence/ui";
export default function Page() {
  useEffect(() => { window.loaded = Boolean(createPresence && KokoAvatars); }, []);
  return <div style={{ position: "relative" }}><video id="film" /><koko-cursors for="film" /><koko-avatars /></div>;
}
"""
NEXT_LAYOUT = """export default function Layout({ children }) {
  return <html lang="en"><head><link rel="icon" href="data:," /></head><body>{children}</body></html>;
}
"""
# Turbopack takes no package from outside of its root
NEXT_CONFIG = 'export default { turbopack: { root: new URL("../..", import.meta.url).pathname } };'


@pytest.fixture(scope="module")
def packages() -> Path:
    """The folder with the bundlers and the packed SDK in its node_modules."""
    subprocess.run(["bash", ROOT / ".ci" / "setup", "tests", "bundlers"], check=True, timeout=BUILD_S, cwd=ROOT)
    folder = ROOT / "build" / "bundlers"
    installed = folder / "node_modules" / "koko-presence"
    shutil.rmtree(installed, ignore_errors=True)
    packed = run(["npm", "pack", "--silent", "--pack-destination", str(folder), str(SDK)], folder).split()[-1]
    with tarfile.open(folder / packed) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    shutil.move(folder / "unpacked" / "package", installed)
    return folder


Project = Callable[[dict[str, str]], Path]


@pytest.fixture
def project(packages: Path, request: pytest.FixtureRequest) -> Project:
    """Make a project of these files beside the installed packages."""

    def make(files: dict[str, str]) -> Path:
        folder = packages / "projects" / "".join(char if char.isalnum() else "-" for char in request.node.name)
        shutil.rmtree(folder, ignore_errors=True)
        for name, text in {"package.json": '{"private": true, "type": "module"}', "main.js": ENTRY, **files}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    return make


def environment() -> dict[str, str]:
    return os.environ | {"NEXT_TELEMETRY_DISABLED": "1"}


def run(command: list[str], folder: Path, **variables: str) -> str:
    """Run a program in `folder` and return what it printed. Errors: the test fails with what it said."""
    done = subprocess.run(
        command, cwd=folder, env=environment() | variables, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def program(packages: Path, path: str) -> list[str]:
    return ["node", str(packages / "node_modules" / path)]


@contextmanager
def served(folder: Path, page: str) -> Iterator[str]:
    """Serve a folder that has been built, with `page` as its index, unless it has one."""
    if not (folder / "index.html").exists():
        (folder / "index.html").write_text(page)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def development_server(command: list[str], folder: Path, port: int) -> Iterator[str]:
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE_S)


def expect_styles(browser: Browser, url: str) -> None:
    """Open the page, as soon as it answers, and look at the computed styles of components and of what is in them."""
    context = browser.new_context()
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("response", lambda answer: faults.append(answer.url) if ".css" in answer.url else None)
    tries = 0
    while True:
        try:
            page.goto(url, timeout=BUILD_S * 1000)
            break
        except Exception:
            tries += 1
            assert tries < 4 * PATIENCE_S
            page.wait_for_timeout(250)  # nothing listens yet
    page.wait_for_function("window.loaded === true", timeout=BUILD_S * 1000)
    styles = page.evaluate(
        """() => {
            const style = (element) => getComputedStyle(element), avatars = document.querySelector("koko-avatars");
            return [style(avatars).display, style(document.querySelector("koko-cursors")).position,
                style(avatars.shadowRoot.querySelector(".row")).display];
        }"""
    )
    assert styles == ["inline-grid", "absolute", "flex"] and faults == []
    context.close()


def test_vite_in_development(browser: Browser, packages: Path, project: Project) -> None:
    folder, port = project({"index.html": MODULE.replace("bundle", "main")}), free_port()
    command = [*program(packages, "vite/bin/vite.js"), "--port", str(port), "--strictPort", "--host", "127.0.0.1"]
    with development_server(command, folder, port) as url:
        expect_styles(browser, url)


def test_vite_in_production(browser: Browser, packages: Path, project: Project) -> None:
    folder = project({"index.html": MODULE.replace("bundle", "main")})
    run([*program(packages, "vite/bin/vite.js"), "build"], folder)
    with served(folder / "dist", "") as url:
        expect_styles(browser, url)


@pytest.mark.parametrize("mode", ["development", "production"])
def test_webpack(browser: Browser, packages: Path, project: Project, mode: str) -> None:
    folder = project({"webpack.config.js": WEBPACK})
    run(program(packages, "webpack/bin/webpack.js"), folder, MODE=mode)
    with served(folder / "out", CLASSIC) as url:
        expect_styles(browser, url)


@pytest.mark.parametrize("form", ["es", "iife"])
def test_rollup(browser: Browser, packages: Path, project: Project, form: str) -> None:
    folder = project({"rollup.config.js": ROLLUP})
    run([*program(packages, "rollup/dist/bin/rollup"), "-c"], folder, FORMAT=form)
    with served(folder / "out", MODULE if form == "es" else CLASSIC) as url:
        expect_styles(browser, url)


@pytest.mark.parametrize(
    ("form", "options"),
    [("esm", []), ("esm", ["--minify"]), ("iife", [])],
    ids=["module", "minified", "classic script"],
)
def test_esbuild(browser: Browser, packages: Path, project: Project, form: str, options: list[str]) -> None:
    folder = project({})
    esbuild = str(packages / "node_modules" / ".bin" / "esbuild")
    run([esbuild, "main.js", "--bundle", f"--format={form}", *options, "--outfile=out/bundle.js"], folder)
    with served(folder / "out", MODULE if form == "esm" else CLASSIC) as url:
        expect_styles(browser, url)


@pytest.mark.parametrize("bundler", ["webpack", "turbopack"])
@pytest.mark.parametrize("mode", ["development", "production"])
def test_next(browser: Browser, packages: Path, project: Project, mode: str, bundler: str) -> None:
    folder = project({"app/page.jsx": NEXT_PAGE, "app/layout.jsx": NEXT_LAYOUT, "next.config.mjs": NEXT_CONFIG})
    program_of_next, port = program(packages, "next/dist/bin/next"), free_port()
    at = ["--port", str(port), "--hostname", "127.0.0.1"]
    if mode == "development":
        command = [*program_of_next, "dev", f"--{bundler}", *at]
    else:
        run([*program_of_next, "build", f"--{bundler}"], folder)
        command = [*program_of_next, "start", *at]
    with development_server(command, folder, port) as url:
        expect_styles(browser, url)
