"""What the sections of the configuration share: their base, keys that name a file, and checks of URLs and secrets."""

from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from .host_names import is_loopback

MIN_SECRET_BYTES = 32  # HS256 takes no shorter key [RFC 7518 section 3.2]
SECRET_NAMES = frozenset(("secret", "api_key", "authorization"))  # keys whose values are never shown

ValueFile = Annotated[
    str,
    Meta(
        description="File to read the key without _file from. Environment variables in its path, such as "
        "${CREDENTIALS_DIRECTORY}, are expanded."
    ),
]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections and of the configuration as a whole."""


def check_secret(dotted: str, secret: str, needed: bool, faults: list[str]) -> None:
    """Add to `faults` that the secret of the key `dotted` is too short, or is missing although it is `needed`.

    Does nothing when `faults` already has an entry for that key or its file.
    """
    size = len(secret.encode())
    if size >= MIN_SECRET_BYTES or any(fault.startswith(dotted) for fault in faults):
        return
    how = "make one with  openssl rand -base64 48"
    if size:
        faults.append(f"{dotted}: has {size} bytes, at least {MIN_SECRET_BYTES} are needed: {how}")
    elif needed:
        faults.append(f"{dotted}: is needed (or {dotted}_file): {how}")


def url_problem(url: str) -> str:
    """Return why `url` cannot be used for requests that carry secrets; empty when it can: https, or http to this
    host."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        return "is not a URL: write https://host/path"
    if parts.username is not None or parts.fragment:
        return "contains a user name or a fragment: leave that out"
    if parts.scheme == "http" and not is_loopback(host):
        return "is http, which can be read and changed on the way: use https (http is for this host only)"
    return ""
