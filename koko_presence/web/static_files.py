"""Serves files from memory, read and compressed once at the start, with conditional requests and ranges [RFC 9110
sections 13 and 14].

aiohttp parses the conditional headers. Its FileResponse is not used: it needs threads, which compete with the loop for
the interpreter lock, and a descriptor per request; and in 3.14 it treats an entity tag in If-Range as no condition. A
`StaticFile` does not change after its construction.
"""

import gzip
import hashlib
import mimetypes
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from aiohttp import ETag, web

# The host's table may lack these or list application/javascript; a module needs a JavaScript type, and `.ts` is a video
# type in Python's table.
CONTENT_TYPES = {
    ".js": "text/javascript",
    ".ts": "text/plain",
    ".css": "text/css",
    ".json": "application/json",
    ".mp4": "video/mp4",
}
MEDIA = ("video/", "audio/")
COMPRESSED = ("text/", "application/json", "image/svg+xml")
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class StaticFile:
    """One file in memory, with its gzip form if it is a text. `headers` are part of every response."""

    def __init__(
        self,
        name: str,
        body: bytes,
        headers: Mapping[str, str] = NO_HEADERS,
        page_headers: Mapping[str, str] = NO_HEADERS,
    ):
        """The content type follows from `name`. `page_headers` are added to the response if the file is HTML."""
        self._body = body
        self._tag = hashlib.sha256(body).hexdigest()[:20]
        suffix = Path(name).suffix
        kind = CONTENT_TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        self._has_parts = kind.startswith(MEDIA)
        packed = gzip.compress(body, 9, mtime=0) if kind.startswith(COMPRESSED) else body
        self._gzip = packed if len(packed) < len(body) else None
        self._headers = {
            "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
            "ETag": f'"{self._tag}"',
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
            **headers,
            **(page_headers if kind == "text/html" else {}),
        }
        if self._has_parts:
            self._headers["Accept-Ranges"] = "bytes"
        if self._gzip is not None:
            self._headers["Vary"] = "Accept-Encoding"
        # another form is another entity [RFC 9110 section 8.8.3.3]
        self._gzip_headers = self._headers | {"Content-Encoding": "gzip", "ETag": f'"{self._tag}-gzip"'}

    def answer(self, request: web.BaseRequest) -> web.Response:
        """Build the response to a GET or HEAD request: 200, 206, 304, 412 or 416. Conditions are evaluated in the order
        of RFC 9110 section 13.2.2; without Last-Modified the conditions on dates do not apply."""
        headers = request.headers
        body, own_headers = self._body, self._headers
        if self._gzip is not None and accepts_gzip(headers.get("Accept-Encoding", "")):
            body, own_headers = self._gzip, self._gzip_headers
        if (
            request.if_match is not None
            and headers["If-Match"] != "*"
            and not self._is_in(request.if_match, weak=False)
        ):
            return web.Response(status=412, headers=own_headers)
        known = request.if_none_match
        if known is not None and (headers["If-None-Match"] == "*" or self._is_in(known, weak=True)):
            return web.Response(status=304, headers=own_headers)
        requested = headers.get("Range")
        if requested is None or not self._has_parts or request.method != "GET":
            return web.Response(body=body, headers=own_headers)
        if headers.get("If-Range", self._headers["ETag"]) != self._headers["ETag"]:
            return web.Response(body=self._body, headers=self._headers)
        return self._part(requested)

    def _is_in(self, tags: tuple[ETag, ...], *, weak: bool) -> bool:
        """Whether a tag of this file is among `tags`, by weak or strong comparison [RFC 9110 section 8.8.3.2]."""
        own = (self._tag, f"{self._tag}-gzip")
        return any(tag.value in own and (weak or not tag.is_weak) for tag in tags)

    def _part(self, requested: str) -> web.Response:
        """The response to one range; the whole file for several ranges or an invalid header. A player seeks with ranges
        [RFC 9110 section 14]."""
        found, size = RANGE.fullmatch(requested.strip()), len(self._body)
        first, last = found.groups() if found is not None else ("", "")
        if (not first and not last) or (first and last and int(last) < int(first)):
            return web.Response(body=self._body, headers=self._headers)
        start = int(first) if first else max(0, size - int(last))
        stop = min(int(last) + 1, size) if first and last else size
        if start >= size:
            return web.Response(status=416, headers=self._headers | {"Content-Range": f"bytes */{size}"})
        headers = self._headers | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        return web.Response(status=206, body=self._body[start:stop], headers=headers)


def accepts_gzip(accepted: str) -> bool:
    """Whether a value of Accept-Encoding has gzip with a quality above 0 [RFC 9110 section 12.5.3]."""
    qualities = {}
    for part in accepted.lower().split(","):
        name, _, parameter = part.partition(";")
        quality = parameter.strip().removeprefix("q=")
        qualities[name.strip()] = not re.fullmatch(r"0(\.0*)?", quality)
    return qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", False)))


def static_files(
    folder: Path, prefix: str, headers: Mapping[str, str] = NO_HEADERS, page_headers: Mapping[str, str] = NO_HEADERS
) -> dict[str, StaticFile]:
    """Read every file below `folder`, except `.py` files; returns them by path under `prefix`. `index.html` is also
    served at the prefix itself. Errors: OSError."""
    files: dict[str, StaticFile] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix == ".py":
            continue
        file = StaticFile(path.name, path.read_bytes(), headers, page_headers)
        files[f"{prefix}/{path.relative_to(folder).as_posix()}"] = file
        if path.name == "index.html" and path.parent == folder:
            files[prefix] = files[f"{prefix}/"] = file
    return files
