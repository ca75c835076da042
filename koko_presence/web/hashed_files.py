"""Serves files at addresses that contain the hash of their content, which caches keep without asking again.

A file that names another one of the folder, as `"./media.js"`, names its hashed address, so that no page has files of
two versions together. The addresses are in a manifest: `{"presence.js": {"file": "presence-0123456789ab.js",
"integrity": "sha384-..."}}`.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from posixpath import basename, dirname, join, normpath, splitext

import msgspec

from koko_presence.web.static_files import StaticFile

KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}
HASHED = re.compile(r"(/[\w./-]+)-[0-9a-f]{12}(\.\w+)", re.ASCII)
NAMED = re.compile(rb'"(\.\.?/[\w./-]+)"')


def hashed_files(folder: Path, prefix: str, headers: Mapping[str, str]) -> dict[str, StaticFile]:
    """Read the files below `folder`; returns them by hashed path under `prefix`, and `manifest.json`. Errors: OSError;
    RecursionError if files name each other."""
    texts = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
    files: dict[str, StaticFile] = {}
    manifest: dict[str, dict[str, str]] = {}

    def rename(name: str, named: re.Match[bytes]) -> bytes:
        """What a file has in place of the address of another one."""
        address = named[1].decode()
        other = normpath(join(dirname(name), address))
        if other not in texts:
            return named[0]
        return f'"{dirname(address)}/{basename(add(other))}"'.encode()

    def add(name: str) -> str:
        """Add a file after those that it names; returns its hashed path below the folder."""
        if name not in manifest:
            body = NAMED.sub(lambda named: rename(name, named), texts[name])
            stem, suffix = splitext(name)
            hashed = f"{stem}-{hashlib.sha256(body).hexdigest()[:12]}{suffix}"
            integrity = base64.b64encode(hashlib.sha384(body).digest()).decode()
            manifest[name] = {"file": hashed, "integrity": f"sha384-{integrity}"}
            files[f"{prefix}/{hashed}"] = StaticFile(hashed, body, {**headers, **KEPT})
        return manifest[name]["file"]

    for name in texts:
        add(name)
    files[f"{prefix}/manifest.json"] = StaticFile("manifest.json", msgspec.json.encode(manifest), headers)
    return files


def current_path(path: str) -> str | None:
    """The path without its hash; None if it has none. A page that was loaded before an upgrade, or from another worker
    during one, asks for the address of another version: it gets the present file, which is not kept."""
    found = HASHED.fullmatch(path)
    return found and f"{found[1]}{found[2]}"
