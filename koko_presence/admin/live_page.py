"""Serves the operators' live page at `/` of the operator port, with a Content-Security-Policy for this origin only.

The page sends requests only to this port: to /metrics and /readyz without a key, and to /api with the key that the
operator enters.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from koko_presence.web.static_files import StaticFile, static_files

FOLDER = Path(__file__).resolve().parents[1] / "web" / "live"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}


def add_live_page(app: web.Application, folder: Path = FOLDER) -> None:
    """Serve index.html of `folder` at `/` and its other files at /live/NAME. The files are read once, now."""
    for where, file in static_files(folder, "/live", HEADERS).items():
        app.router.add_get("/" if where == "/live/" else where, _handler(file))


def _handler(file: StaticFile) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        return file.answer(request)

    return handle
