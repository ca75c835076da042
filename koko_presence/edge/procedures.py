"""The procedures of the specification, as HTTP calls them: input checked, access asked, the owner's answer awaited.

They send the commands that a socket's session would send, so the rules, limits and errors are the same [M1 to M9].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from koko_presence.auth.tokens import Identity

if TYPE_CHECKING:
    from .hub import Hub


class Caller(NamedTuple):
    """Who calls: a verified identity, and the session of header x-presence-session, "" when none was named [M1]."""

    identity: Identity
    session_id: str = ""


class Procedures:
    """All procedures of one worker; any worker can take any call [M9]."""

    KINDS: Mapping[str, Literal["query", "mutation"]] = {
        "getActive": "query",
        **dict.fromkeys(
            (
                "join", "leave", "heartbeat", "updateCursor", "updateSelection", "setStatus", "startTyping",
                "stopTyping", "syncPlayback", "requestControl", "grantControl", "denyControl", "releaseControl",
                "cancelControl", "broadcast", "setPrivacy",
            ),
            "mutation",
        ),
    }  # fmt: skip

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def call(self, caller: Caller, name: str, input: Any) -> Any:
        """Do procedure `name`, a key of KINDS, with `input`, decoded JSON or UNSET. Returns what msgspec encodes.
        Errors: PresenceError; KeyError for a name that is no key of KINDS."""
        raise KeyError(name)
