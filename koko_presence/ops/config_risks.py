"""What is allowed in a configuration but seldom meant: weak keys, secrets that everybody can read, tokens of others.

One line each, naming its key. What is never right is refused by config.py.
"""

import os
import stat
from typing import Any

from .auth_config import MIN_SECRET_BYTES
from .config import SECRETS, Config


def warnings(config: Config) -> list[str]:
    """What to look at again."""
    found = []
    size = len(config.operator.api_key.encode())
    if 0 < size < MIN_SECRET_BYTES:
        found.append(f"operator.api_key: has {size} bytes; {MIN_SECRET_BYTES} cannot be guessed")
    if config.auth.jwks.url and config.access.mode == "allow_all" and not config.auth.audience:
        found.append(
            'auth.audience: is not set, so with access.mode = "allow_all" every token of that identity provider enters '
            "every room, also those that it makes for other applications"
        )
    for dotted in SECRETS:
        section, _, name = dotted.rpartition(".")
        table: Any = config
        for part in section.split("."):
            table = getattr(table, part)
        path = os.path.expandvars(getattr(table, f"{name}_file"))
        if path and dotted != "auth.public_key" and _readable_by_all(path):
            found.append(f"{dotted}_file: everybody on this machine can read {path}: chmod o-r {path}")
    return found


def _readable_by_all(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    except OSError:
        return False
