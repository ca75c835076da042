"""What a new configuration may change in a server that runs, and what has to wait."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from .background_io import in_thread
from .certificate import Certificate, read_certificate
from .schema import Config, ConfigError, Server, keys

log = logging.getLogger("koko_presence.reload")

READ_WITHIN_S = 10.0

# the process has these from its start on
AT_RESTART = frozenset(
    f"{section}.{name}"
    for section, names in (("server", "host port workers backlog runtime_dir"), ("operator", "host port hosts"))
    for name in names.split()
)
# a worker has these from its start on; new workers take the new values
AT_ROLLING = frozenset(
    ("server.tls_cert", "server.tls_key", "server.demo", "access.mode", "rooms.control_mode", "rooms.auto_grant")
)


class Settled(NamedTuple):
    """`config` is the new one with the old values of the keys that cannot change now, which are `held`."""

    config: Config
    held: list[str]


def settle(old: Config, new: Config, *, rolling: bool) -> Settled:
    """What of `new` holds from now on; with `rolling`, for workers that are made new."""
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
    """What it takes to change what a worker has from its start on; `can_roll` as in `read_again`."""
    return "koko-presence reload --rolling" if can_roll else "a restart"


async def read_again(
    read: Callable[[], Config], old: Callable[[], Config], *, rolling: bool, can_roll: bool = True
) -> Config | None:
    """The configuration to go on with, or None: then every fault is in the log, and nothing changes. `read` runs beside
    the loop, as its files may be on a mount that hangs; `old` gives the configuration that holds when it is done.
    `can_roll`: the service can replace its workers."""
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
    for dotted in held:
        how = new_workers(can_roll) if dotted in AT_ROLLING else "a restart"
        log.warning("%s has changed, which takes %s; the old value stays", dotted, how, extra={"key": dotted})
    return config


async def look_at_certificate(server: Server, served: Certificate | None, *, can_roll: bool) -> None:
    """Say in the log that the files of the certificate hold another one than `served`, or none that can be used: after
    a renewal a reload is what people try first."""
    if served is None:
        return
    try:
        found = await read_certificate(server)
    except OSError as error:
        why = error.strerror or str(error)
        log.warning(
            "%s and its key cannot be served with now, and the certificate of before stays",
            server.tls_cert,
            extra={"why": why},
        )
        return
    if found is not None and found != served:
        log.warning(
            "the certificate in %s has changed, which takes %s; the one of before stays",
            server.tls_cert,
            new_workers(can_roll),
            extra={"key": "server.tls_cert"},
        )
