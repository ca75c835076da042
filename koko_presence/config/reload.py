"""Reload the configuration of a running server: which keys change now, and which need new workers or a restart."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from .background_io import in_thread
from .certificate import Certificate, read_certificate
from .schema import Config, ConfigError, Server, keys

log = logging.getLogger("koko_presence.reload")

READ_WITHIN_S = 10.0

# applied when the process starts
AT_RESTART = frozenset(
    f"{section}.{name}"
    for section, names in (("server", "host port workers backlog runtime_dir"), ("operator", "host port hosts"))
    for name in names.split()
)
# applied when a worker starts
AT_ROLLING = frozenset(
    f"{section}.{name}"
    for section, names in (
        ("server", "tls_cert tls_key demo"),
        ("access", "mode"),
        ("rooms", "control_mode auto_grant auto_grant_away_s wait_for_viewers_s"),
    )
    for name in names.split()
)


class Settled(NamedTuple):
    """`config`: the new configuration, with the old values of the keys in `held`, which cannot change now."""

    config: Config
    held: list[str]


def settle(old: Config, new: Config, *, rolling: bool) -> Settled:
    """The part of `new` that can be applied to a server with the configuration `old`. `rolling`: to new workers."""
    fixed = AT_RESTART if rolling else AT_RESTART | AT_ROLLING
    held = []
    for key in keys():
        before = key.of(old)
        if key.dotted in fixed and key.of(new) != before:
            held.append(key.dotted)
            section = msgspec.structs.replace(getattr(new, key.section), **{key.name: before})
            new = msgspec.structs.replace(new, **{key.section: section})
    return Settled(new, held)


def new_workers(can_roll: bool) -> str:
    """The action that applies keys of AT_ROLLING, for log lines; `can_roll` as in `read_again`."""
    return "koko-presence reload --rolling" if can_roll else "a restart"


async def read_again(
    read: Callable[[], Config], old: Callable[[], Config], *, rolling: bool, can_roll: bool = True
) -> Config | None:
    """Read the configuration again and return the one to apply, or None after faults, which are logged.

    `read` runs in a thread beside the loop, since its files may be on a mount that hangs; `old` returns the current
    configuration when it is done. Keys that cannot change now keep their old value, which is logged. `rolling` as in
    `settle`; `can_roll`: the service can replace its workers."""
    try:
        read_config = await in_thread(read, READ_WITHIN_S)
    except ConfigError as error:
        for fault in error.faults:
            log.error("configuration not reloaded: %s", fault)
        return None
    except TimeoutError:
        log.error(
            "configuration not reloaded: its files could not be read within %g s: does a mount hang?", READ_WITHIN_S
        )
        return None
    except Exception as error:
        log.error("configuration not reloaded", exc_info=error)
        return None
    config, held = settle(old(), read_config, rolling=rolling)
    by_key = {key.dotted: key for key in keys()}
    for dotted in held:
        how = new_workers(can_roll) if dotted in AT_ROLLING else "a restart"
        more = {"key": dotted, "running": str(by_key[dotted].of(config))}
        log.warning("%s has changed, which takes %s; the old value stays", dotted, how, extra=more)
    return config


async def look_at_certificate(server: Server, served: Certificate | None, *, can_roll: bool) -> None:
    """Log a warning when the files of the certificate no longer hold `served`, or cannot be used. A plain reload does
    not apply a renewed certificate."""
    if served is None:
        return
    try:
        found = await read_certificate(server)
    except OSError as error:
        why = error.strerror or str(error)
        log.warning(
            "%s and its key cannot be used now; the previous certificate stays in use",
            server.tls_cert,
            extra={"why": why},
        )
        return
    if found is not None and found != served:
        log.warning(
            "the certificate in %s has changed, which takes %s; the previous one stays in use",
            server.tls_cert,
            new_workers(can_roll),
            extra={"key": "server.tls_cert"},
        )
