"""The hashed files of the SDK in Chromium: with their integrity, and with what they load themselves."""

import pytest

from .conftest import Enter, Server

pytestmark = [pytest.mark.browser, pytest.mark.pages]

ENTER = """async (room) => {
  const manifest = await (await fetch("/sdk/manifest.json")).json();
  const { file, integrity } = manifest["presence.js"];
  const link = Object.assign(document.createElement("link"), { rel: "modulepreload", href: `/sdk/${file}`, integrity });
  const loaded = new Promise((resolve, reject) => Object.assign(link, { onload: resolve, onerror: reject }));
  document.head.append(link);
  await loaded;
  const { createPresence } = await import(`/sdk/${file}`);
  const auth = async () => (await (await fetch("/dev/token?user=jane&name=Jane")).json()).token;
  window.room = createPresence({ url: "/presence", auth }).enter(room, { type: "video" });
  await window.room.ready();
  await window.room.follow(true); // media.js is there
  const loadedFiles = performance.getEntriesByType("resource").map(({ name }) => name.split("/sdk/")[1]).filter(Boolean);
  return [manifest["media.js"].file, manifest["presence.js"].file].every((name) => loadedFiles.includes(name));
}"""


def test_hashed_files_work_together(server: Server, enter: Enter, complaints: list[str]) -> None:
    tom = enter("tom", "Tom")
    room = tom.locator("#room").inner_text()
    page = tom.context.new_page()
    page.goto(f"{server.url}/healthz")
    assert page.evaluate(ENTER, room) is True
    page.wait_for_function("window.room.others.some(({ name }) => name === 'Tom')")
    assert complaints == []
