"""The sections [access] and [webhooks]: requests to the application. Rules that no type can express follow the keys.

The URLs of these requests come from the configuration only. Nothing that a client sends becomes part of a URL, except
as a value in a query.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from koko_presence.protocol.webhook_events import WEBHOOK_EVENT_TYPES, WebhookEventType

from .sections import Section, ValueFile, check_secret, url_problem
from .trpc_rules import parse_rule

Scope = Literal["join", "control", "broadcast", "moderate"]


class AccessWebhook(Section, frozen=True):
    url: Annotated[
        str, Meta(description="URL at which the application decides who may enter a room. See docs/access.md.")
    ] = ""
    secret: Annotated[
        str, Meta(description="Secret that signs the requests, at least 32 bytes. Required with a url.")
    ] = ""
    secret_file: ValueFile = ""

    def __repr__(self) -> str:
        return f"AccessWebhook(url={self.url!r}, secret={'set' if self.secret else 'unset'})"


class AccessTrpc(Section, frozen=True):
    url: Annotated[
        str, Meta(description="URL of the application's procedures, such as https://app.example.com/trpc.")
    ] = ""
    rules: Annotated[
        tuple[str, ...],
        Meta(
            description='Procedure that is called for a room: "video_* -> video.getById(id)" passes what the star '
            "stands for. The first rule that matches counts; a room without one is closed."
        ),
    ] = ()
    scopes: Annotated[
        tuple[Scope, ...],
        Meta(description="Scopes of users to whom the application shows the room: join, control, broadcast, moderate."),
    ] = ("join", "control", "broadcast")
    ttl_s: Annotated[float, Meta(ge=0.0, le=60.0, description="Time for which a positive answer is cached.")] = 60.0
    superjson: Annotated[bool, Meta(description="The application's tRPC uses superjson as its transformer.")] = False


class Access(Section, frozen=True):
    mode: Annotated[
        Literal["claims", "webhook", "trpc", "allow_all"],
        Meta(
            description='What decides whether a user may enter a room. "claims": the claim `rooms` of the token. '
            '"webhook": the application, by a signed POST. "trpc": the application\'s own tRPC API, called as the '
            'user. "allow_all": every valid token may enter every room.'
        ),
    ] = "claims"
    webhook: AccessWebhook = AccessWebhook()
    trpc: AccessTrpc = AccessTrpc()


class Webhooks(Section, frozen=True):
    """Webhooks are off while `url` is empty."""

    url: Annotated[
        str,
        Meta(
            description="URL to which events of rooms are sent by POST. Empty: no events are sent. See "
            "docs/webhooks.md."
        ),
    ] = ""
    secret: Annotated[
        str, Meta(description="Secret that signs the requests, at least 32 bytes. Required with a url.")
    ] = ""
    secret_file: ValueFile = ""
    events: Annotated[
        tuple[WebhookEventType, ...],
        Meta(
            min_length=1,
            description="Events that are sent: user_entered, user_left, room_created, room_emptied, room_shown, "
            "room_hidden, room_full, control_changed.",
        ),
    ] = WEBHOOK_EVENT_TYPES
    batch_events: Annotated[int, Meta(ge=1, le=1000, description="Maximum number of events in one request.")] = 100
    batch_s: Annotated[
        float, Meta(ge=0.0, le=60.0, description="Time for which events are collected for one request.")
    ] = 1.0
    queue_events: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Maximum number of events of one worker that wait. Above that, events of the user who has the "
            "most are dropped first, and counted.",
        ),
    ] = 10_000
    tries: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Number of attempts for a request, with growing pauses of up to a minute, before it is "
            "dropped.",
        ),
    ] = 10

    def __repr__(self) -> str:
        return f"Webhooks(url={self.url!r}, secret={'set' if self.secret else 'unset'})"


def check_outgoing(value: Mapping[str, Any], needs_secret: bool, faults: list[str]) -> None:
    """Add a line for each fault of [access] and [webhooks] to `faults`. `value` has every key of the configuration by
    its dotted name; `needs_secret`: the command needs the secrets."""
    mode = value["access.mode"]
    for section, used in (("access.webhook", mode == "webhook"), ("access.trpc", mode == "trpc"), ("webhooks", False)):
        url = value[f"{section}.url"]
        if used and not url:
            faults.append(f'{section}.url: is needed for access.mode = "{mode}"')
        elif url and (problem := url_problem(url)):
            faults.append(f"{section}.url: {problem}")
        if section != "access.trpc" and (url or value[f"{section}.secret"]):
            check_secret(f"{section}.secret", value[f"{section}.secret"], needs_secret, faults)
    if "?" in value["access.trpc.url"]:
        faults.append("access.trpc.url: has a query: write the URL of all procedures, as https://app.example.com/trpc")
    if mode == "trpc" and not value["access.trpc.rules"]:
        faults.append(
            'access.trpc.rules: is needed: the procedure for each room, as in ["video_* -> video.getById(id)"]'
        )
    for rule in value["access.trpc.rules"]:
        try:
            parse_rule(rule)
        except ValueError as fault:
            faults.append(f"access.trpc.rules: {rule[:80]!r} {fault}")
