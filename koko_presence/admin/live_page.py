"""The live page for operators, at `/` of the operator port: files, and a policy that lets nothing foreign in.

It asks for nothing that is not on this port: /metrics and /readyz without a key, /api with the one its reader types.
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
    """Answer `/` with index.html of `folder`, and /live/NAME with its other files, read once, now."""
    for where, file in static_files(folder, "/live", HEADERS).items():
        app.router.add_get("/" if where == "/live/" else where, _handler(file))


def _handler(file: StaticFile) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        return file.answer(request)

    return handle
