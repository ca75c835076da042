"""Decides access by webhook: a signed POST to the application returns whether a user may enter a room, and with which
scopes [A6].
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from koko_presence.admin.upstream_metrics import Upstream
from koko_presence.auth.http_client import HttpClient
from koko_presence.auth.identity import Identity
from koko_presence.protocol.models import RoomType
from koko_presence.protocol.settings import read_settings
from koko_presence.webhooks import signature

from .policy import NO, Action, Grant, granted
from .remote import LONGEST_TTL_S, REFUSAL_TTL_S, Question, RemoteAccess, Unsure


class WebhookQuestion(Struct, kw_only=True, rename="camel"):
    """The body of the POST."""

    user_id: str
    session_id: str
    room_id: str
    room_type: RoomType | None
    action: Action


class WebhookAnswer(Struct, kw_only=True, rename="camel"):
    """The body of the application's answer with status 200. Without `scopes` the user may only watch. `ttl` is in
    seconds, at most 60. Unknown scopes are ignored, and so are unknown keys of `settings`, which the room gets if this
    join makes it [Q10]. `presence` false: the user may enter and see, and is not shown [Q11]."""

    allow: bool
    scopes: Annotated[list[str], Meta(max_length=100)] = msgspec.field(default_factory=list)
    ttl: float = LONGEST_TTL_S
    room_type: RoomType | None = None
    settings: Any = None
    presence: bool = True


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(WebhookAnswer).decode


class WebhookAccess(RemoteAccess):
    """Access by webhook. `wall` returns unix seconds; `pause` and `upstream` are those of `RemoteAccess`."""

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        http_client: HttpClient | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        upstream: Upstream | None = None,
    ) -> None:
        super().__init__(http_client, clock=clock, pause=pause, upstream=upstream)
        self._url, self._secret, self._wall = url, secret, wall

    def _question(self, identity: Identity, room_id: str, room_type: RoomType | None, action: Action) -> Question:
        return Question(identity.user_id, room_id, room_type, action)

    async def _query(self, question: Question, identity: Identity, session_id: str) -> tuple[Grant, float]:
        body = _encode(
            WebhookQuestion(
                user_id=question.user_id,
                session_id=session_id,
                room_id=question.room_id,
                room_type=question.room_type,
                action=question.action,
            )
        )
        headers = {
            "content-type": "application/json",
            signature.HEADER: signature.sign(self._secret, body, self._wall()),
        }
        answer = await self._http_client.post(self._url, headers, body)
        if answer.status != 200:
            raise Unsure(f"it answers with status {answer.status}", passing=answer.status >= 500)
        try:
            found = _decode(answer.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Unsure('its answer is not {"allow": true or false, "scopes": [...], "ttl": seconds}') from None
        if not found.allow:
            return NO, REFUSAL_TTL_S
        try:
            settings = None if found.settings is None else read_settings(found.settings)
        except ValueError as error:
            raise Unsure(f"the settings of its answer are not usable: {error}") from None
        return granted(found.scopes, found.room_type, settings, presence=found.presence), found.ttl
