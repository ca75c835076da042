"""What is allowed in a configuration but seldom meant: weak keys, secrets that everybody can read, tokens of others.

One line each, naming its key. What is never right is refused by schema.py.
"""

import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import cpu_cores
from .schema import SECRETS, Config
from .sections import MIN_SECRET_BYTES

PUBLIC = ("auth.public_key",)
WORKER_MIN_BYTES = 64 << 20  # an idle worker counts for some 40 MiB, 30 of which are shared with the others


def warnings(config: Config, path: str | Path | None = None) -> list[str]:
    """What to look at again in a configuration that was read from the file `path`, if it was read from one."""
    found = []
    size = len(config.operator.api_key.encode())
    if 0 < size < MIN_SECRET_BYTES:
        found.append(f"operator.api_key: has {size} bytes; {MIN_SECRET_BYTES} cannot be guessed")
    if config.auth.jwks.url and config.access.mode == "allow_all" and not config.auth.audience:
        found.append(
            'auth.audience: is not set, so with access.mode = "allow_all" every token of that identity provider enters '
            "every room, also those that it makes for other applications"
        )
    crowded = too_many_workers(config)
    if crowded:
        found.append(crowded)
    workers = config.server.worker_count
    if 0 < config.server.memory_bytes < workers * WORKER_MIN_BYTES:
        found.append(
            f"server.memory_bytes: is {config.server.memory_bytes} for {workers} worker{'s' * (workers > 1)}; below "
            f"{WORKER_MIN_BYTES} for each, which makes {workers * WORKER_MIN_BYTES}, hardly anybody is let in"
        )
    files = {f"{dotted}_file": _value(config, f"{dotted}_file") for dotted in SECRETS if dotted not in PUBLIC}
    files["server.tls_key"] = config.server.tls_key
    for dotted, name in files.items():
        file = os.path.expandvars(name)
        if file and _readable_by_all(file):
            found.append(f"{dotted}: everybody on this machine can read {file}: chmod o-r {file}")
    if path is not None and _readable_by_all(path):
        written = [dotted for dotted in _keys(tomllib.loads(Path(path).read_text())) if dotted in SECRETS]
        found += [
            f"{dotted}: everybody on this machine can read {path}, where it stands: chmod o-r {path}"
            for dotted in written
            if dotted not in PUBLIC
        ]
    return found


def too_many_workers(config: Config) -> str:
    """That more workers are to run than the quota of the control group has cores; empty when it is not so."""
    workers, quota = config.server.worker_count, cpu_cores.quota()
    if quota is None or workers <= max(1.0, quota):
        return ""
    fewer = max(1, int(quota))
    return (
        f"server.workers: is {workers}, and the service may use the time of {quota:g} cores; {fewer} "
        f"serve{'s' * (fewer == 1)} more people there, as workers have to tell each other everything"
    )


def _value(config: Config, dotted: str) -> str:
    value: Any = config
    for part in dotted.split("."):
        value = getattr(value, part)
    return str(value)


def _keys(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a TOML document that have a value other than ""."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")
        elif value != "":
            yield prefix + name


def _readable_by_all(path: str | Path) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    except OSError:
        return False
