"""Implements `koko-presence check-token`: prints a token's user and permissions, or why the token is refused."""

import asyncio
from collections.abc import Awaitable

import msgspec

from koko_presence.config.schema import Config

from .factory import Verifiers
from .identity import Identity, TokenRefused, VerifierUnavailable


def check(config: Config, token: str, now_s: int) -> tuple[bool, list[str]]:
    """Return whether `token` is accepted at unix second `now_s`, and the lines to print. It uses the verifiers of the
    server, so that it may send a request to the identity provider for its keys, or to the application for the token's
    user."""
    try:
        identity = asyncio.run(_identity(config, token, now_s))
    except VerifierUnavailable as unavailable:
        return False, [f"cannot be checked: {unavailable}"]
    except TokenRefused as refused:
        return False, [f"refused: {refused}"]
    lines = [
        f"user     {identity.user_id}",
        f"name     {identity.name}",
        f"image    {identity.image or '-'}",
        f"expires  in {identity.expires_at_s - now_s:.0f} s",
        f"presence {'on' if identity.presence else 'off'}",
    ]
    lines += [
        f"settings {pattern}: {msgspec.json.encode(settings).decode()}"
        for pattern, settings in identity.settings.items()
    ]
    if config.access.mode == "allow_all":
        lines.append('rooms    all, since access.mode = "allow_all"')
    elif config.access.mode != "claims":
        return True, [*lines, f'rooms    the application says, as access.mode = "{config.access.mode}" asks it']
    elif not identity.rooms:
        lines.append("rooms    none: the token has no claim `rooms`")
    return True, lines + [
        f"room     {pattern}: {', '.join(sorted(scopes))}" for pattern, scopes in identity.rooms.items()
    ]


async def _identity(config: Config, token: str, now_s: int) -> Identity:
    verifiers = Verifiers()
    try:
        answer = verifiers.make(config).verify(token, now_s)
        return await answer if isinstance(answer, Awaitable) else answer
    finally:
        await verifiers.close()
