"""Decides access by a tRPC query to the application's own API, sent with the user's own cookie or token [A6].

A user for whom the query returns the object of a room, such as its video, may enter the room; the application needs no
change. A rule maps rooms to queries: `video_* -> video.getById(id)` sends the input `{"id":"42"}` for `video_42`. Data
of a client enters the request only as a string inside that JSON, percent-encoded.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from koko_presence.admin.upstream_metrics import Upstream
from koko_presence.auth.http_client import HttpClient
from koko_presence.auth.identity import Identity
from koko_presence.config.trpc_rules import Rule
from koko_presence.protocol.models import RoomType

from .policy import NO, Action, Grant, granted, room_type_of
from .remote import LONGEST_TTL_S, REFUSAL_TTL_S, Question, RemoteAccess, Unsure, log

DENIES = frozenset(("FORBIDDEN", "NOT_FOUND", "UNAUTHORIZED"))


class Result(Struct):
    data: Any = None


class Envelope(Struct):
    """A tRPC answer, which has one of the two fields."""

    result: Result | None = None
    error: Any = None


_decode = msgspec.json.Decoder(Envelope).decode
_encode = msgspec.json.Encoder().encode


class TrpcAccess(RemoteAccess):
    """Access by tRPC. `url` is the address of the procedures, such as https://app.example.com/trpc. The first rule that
    covers a room applies; a room without a rule is closed. `superjson`: inputs and results have the form of
    superjson."""

    def __init__(
        self,
        url: str,
        rules: Sequence[Rule],
        *,
        scopes: Sequence[str],
        ttl_s: float = LONGEST_TTL_S,
        superjson: bool = False,
        http_client: HttpClient | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        upstream: Upstream | None = None,
    ) -> None:
        super().__init__(http_client, clock=clock, pause=pause, upstream=upstream)
        self._url, self._rules, self._ttl_s, self._superjson = url.rstrip("/"), tuple(rules), ttl_s, superjson
        self._scopes = tuple(scopes)

    def _question(
        self, identity: Identity, room_id: str, room_type: RoomType | None, action: Action
    ) -> Question | Grant:
        room_type = room_type_of(room_id) or room_type
        rules = tuple(rule for rule in self._rules if rule.covers(room_id, room_type))[:1]
        if not rules and room_type is None:
            # a re-check or an action in a room does not name its type, so any rule for a type may be the right one
            rules = tuple(rule for rule in self._rules if rule.room_type is not None)
        if not rules or not identity.forward:
            return NO
        # two credentials of a user may have different permissions; only their hash is stored
        known_by = hashlib.sha256(repr(identity.forward).encode()).digest()
        # joining and looking need the same permission, so the action is not part of the key
        return Question(identity.user_id, room_id, room_type, "join", (rules, known_by))

    async def _query(self, question: Question, identity: Identity, session_id: str) -> tuple[Grant, float]:
        assert isinstance(question.extra, tuple)
        rules: tuple[Rule, ...] = question.extra[0]
        for rule in rules:
            grant, ttl_s = await self._query_rule(rule, question, identity)
            if grant.allow:
                return grant, ttl_s
        return NO, REFUSAL_TTL_S

    async def _query_rule(self, rule: Rule, question: Question, identity: Identity) -> tuple[Grant, float]:
        url = f"{self._url}/{rule.procedure}?input={quote(self._input(rule, question.room_id), safe='')}"
        answer = await self._http_client.get(url, dict(identity.forward))
        try:
            envelope = _decode(answer.body)
            if envelope.error is None and envelope.result is not None and answer.status == 200:
                return self._judge(envelope.result.data, rule)
            error = envelope.error["json"] if self._superjson else envelope.error
            code = str(error["data"]["code"])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
            raise Unsure(
                f"its answer (status {answer.status}) is not one of tRPC", passing=answer.status >= 500
            ) from None
        if code not in DENIES:
            raise Unsure(f"{rule.procedure} answers with {code}"[:100], passing=answer.status >= 500)
        if code == "NOT_FOUND" and "procedure" in str(error.get("message")):
            log.error("access check: unknown procedure, see access.trpc.rules", extra={"procedure": rule.procedure})
        return NO, REFUSAL_TTL_S

    def _input(self, rule: Rule, room_id: str) -> bytes:
        input_ = {rule.field: room_id if rule.whole else room_id[len(rule.prefix) :]}
        return _encode({"json": input_} if self._superjson else input_)

    def _judge(self, data: Any, rule: Rule) -> tuple[Grant, float]:
        """Return the decision for a result; a missing result, null and false mean that the user may not enter."""
        if self._superjson and isinstance(data, dict):
            data = data.get("json")
        if data is None or data is False:
            return NO, REFUSAL_TTL_S
        return granted(self._scopes, rule.room_type), self._ttl_s
