"""A small web server with the page of a viewer, the SDK and the films."""

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from koko_presence import web

from . import clips

HERE = Path(__file__).parent
SDK = Path(web.__file__).parent / "sdk"
TOKEN_PATH = "/token"


class _Files(http.server.SimpleHTTPRequestHandler):
    """/sdk/* from the SDK's folder, /clips/* from that of the films, /token?USER from `token_of`, all else from
    here."""

    def __init__(self, *args: object, sdk: Path, token_of: Callable[[str], str] | None, **settings: object) -> None:
        self._folders = {"sdk": sdk, "clips": clips.FOLDER}
        self._token_of = token_of
        super().__init__(*args, directory=str(HERE), **settings)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if self._token_of is None or address.path != TOKEN_PATH:
            super().do_GET()
            return
        token = self._token_of(address.query).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(token)))
        self.end_headers()
        self.wfile.write(token)

    def translate_path(self, path: str) -> str:
        first, _, rest = urlsplit(path).path.lstrip("/").partition("/")
        folder = self._folders.get(first)
        return super().translate_path(path) if folder is None or ".." in rest else str(folder / rest)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def site(sdk: Path = SDK, token_of: Callable[[str], str] | None = None) -> Iterator[str]:
    """Serves until the end of the block; yields its origin, http://127.0.0.1:PORT. `token_of` issues a user's tokens,
    in the server's threads."""
    handler = functools.partial(_Files, sdk=sdk, token_of=token_of)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
