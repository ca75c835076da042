"""The live page for operators, at `/` of the operator port: files, and a policy that lets nothing foreign in.

It asks for nothing that is not on this port: /metrics and /readyz without a key, /api with the one its reader types.
"""

import hashlib
import mimetypes
from pathlib import Path

from aiohttp import web

FOLDER = Path(__file__).resolve().parents[1] / "web" / "live"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class _File:
    def __init__(self, path: Path) -> None:
        self._body = path.read_bytes()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        self._headers = {
            "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
            "Content-Security-Policy": POLICY,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-cache",
            "ETag": f'"{hashlib.sha256(self._body).hexdigest()[:20]}"',
        }

    async def answer(self, request: web.Request) -> web.Response:
        if request.headers.get("If-None-Match") == self._headers["ETag"]:
            return web.Response(status=304, headers=self._headers)
        return web.Response(body=self._body, headers=self._headers)


def add_live_page(app: web.Application, folder: Path = FOLDER) -> None:
    """Answer `/` with index.html of `folder`, and /live/NAME with its other files, read once, now."""
    for path in sorted(folder.iterdir()):
        where = "/" if path.name == "index.html" else f"/live/{path.name}"
        app.router.add_get(where, _File(path).answer)
