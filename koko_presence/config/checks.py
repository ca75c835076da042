"""Warnings about a valid configuration: weak keys, readable secrets, tokens for other applications, too little memory,
values that are hardly meant (plausibility.py).

One line each, which begins with the key. schema.py refuses what is never right.
"""

import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import cpu_cores
from .plausibility import implausible
from .schema import SECRETS, Config
from .sections import MIN_SECRET_BYTES

PUBLIC = ("auth.public_key",)
WORKERS_PER_CORE = 2
WORKER_MIN_BYTES = 64 << 20  # an idle worker uses about 40 MiB, of which 30 are shared with the other workers


def warnings(config: Config, path: str | Path | None = None) -> list[str]:
    """Warnings for `config`. `path` is the file that it was read from, if any. Reads modes of files."""
    found = []
    size = len(config.operator.api_key.encode())
    if 0 < size < MIN_SECRET_BYTES:
        found.append(
            f"operator.api_key: has {size} bytes; use at least {MIN_SECRET_BYTES}, so that it cannot be guessed"
        )
    if config.auth.jwks.url and config.access.mode == "allow_all" and not config.auth.audience:
        found.append(
            'auth.audience: is not set, so with access.mode = "allow_all" every token of that identity provider enters '
            "every room, also tokens that it issues for other applications"
        )
    found += implausible(config)
    if config.operator.host in ("", "0.0.0.0", "::"):
        shown = config.operator.host or "empty"
        found.append(
            f"operator.host: is {shown}: the operator port listens on every interface, and /metrics and the live page "
            "need no key; use 127.0.0.1, or a private address"
        )
    found += _runtime_dir_warnings(config.server.runtime_dir)
    warning = too_many_workers(config)
    workers = config.server.worker_count
    if warning:
        found.append(warning)
    elif workers > WORKERS_PER_CORE * cpu_cores.usable():
        found.append(
            f"server.workers: is {workers}, and this machine has {cpu_cores.usable()} cores for the service; more "
            "workers than cores serve fewer clients, since each worker adds messages between workers"
        )
    if 0 < config.server.memory_bytes < workers * WORKER_MIN_BYTES:
        found.append(
            f"server.memory_bytes: is {config.server.memory_bytes} for {workers} worker{'s' * (workers > 1)}; below "
            f"{WORKER_MIN_BYTES} for each, which makes {workers * WORKER_MIN_BYTES}, most connections are refused"
        )
    files = {f"{dotted}_file": _value(config, f"{dotted}_file") for dotted in SECRETS if dotted not in PUBLIC}
    files["server.tls_key"] = config.server.tls_key
    for dotted, name in files.items():
        file = os.path.expandvars(name)
        if file and _readable_by_all(file):
            found.append(f"{dotted}: all users of this host can read {file}: chmod o-r {file}")
    if path is not None and _readable_by_all(path):
        written = [dotted for dotted in _keys(tomllib.loads(Path(path).read_text())) if dotted in SECRETS]
        found += [
            f"{dotted}: all users of this host can read {path}, which contains it: chmod o-r {path}"
            for dotted in written
            if dotted not in PUBLIC
        ]
    return found


def _runtime_dir_warnings(name: str) -> Iterator[str]:
    if name and not os.path.isabs(name):
        yield (
            f"server.runtime_dir: {name} is relative: `koko-presence reload` finds the server from the same folder "
            "only; write a path that begins with /"
        )
    elif name and not os.path.isdir(above := os.path.dirname(os.path.abspath(name))):
        yield f"server.runtime_dir: {above} does not exist, and the server makes {name} in it only: make that folder"


def too_many_workers(config: Config) -> str:
    """A line that there are more workers than the quota of the control group has cores; empty otherwise."""
    workers, quota = config.server.worker_count, cpu_cores.quota()
    if quota is None or workers <= max(1.0, quota):
        return ""
    fewer = max(1, int(quota))
    return (
        f"server.workers: is {workers}, and the service may use the time of {quota:g} cores; {fewer} "
        f"serve{'s' * (fewer == 1)} more clients there, since each worker adds messages between workers"
    )


def _value(config: Config, dotted: str) -> str:
    value: Any = config
    for part in dotted.split("."):
        value = getattr(value, part)
    return str(value)


def _keys(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a TOML document whose value is not an empty string."""
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
