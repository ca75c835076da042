"""The sections [access] and [webhooks]: what is asked of the application, and what it is told. Rules that no type can
express are below the keys.

Addresses come from here alone: nothing that a client sends ever becomes part of one but a value in a query.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from koko_presence.protocol.webhook_events import HAPPENING_TYPES, HappeningType

from .auth import MIN_SECRET_BYTES, Section, url_problem
from .trpc_rules import parse_rule

Scope = Literal["join", "control", "broadcast", "moderate"]


class AccessWebhook(Section, frozen=True):
    url: str = ""
    secret: str = ""
    secret_file: str = ""

    def __repr__(self) -> str:
        return f"AccessWebhook(url={self.url!r}, secret={'set' if self.secret else 'unset'})"


class AccessTrpc(Section, frozen=True):
    url: str = ""
    rules: tuple[str, ...] = ()
    scopes: tuple[Scope, ...] = ("join", "control", "broadcast")
    ttl_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 60.0
    superjson: bool = False


class Access(Section, frozen=True):
    mode: Literal["claims", "webhook", "trpc", "allow_all"] = "claims"
    webhook: AccessWebhook = AccessWebhook()
    trpc: AccessTrpc = AccessTrpc()


class Webhooks(Section, frozen=True):
    """Off while `url` is empty."""

    url: str = ""
    secret: str = ""
    secret_file: str = ""
    events: Annotated[tuple[HappeningType, ...], Meta(min_length=1)] = HAPPENING_TYPES
    batch_events: Annotated[int, Meta(ge=1, le=1000)] = 100
    batch_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 1.0
    queue_events: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    tries: Annotated[int, Meta(ge=1, le=100)] = 10

    def __repr__(self) -> str:
        return f"Webhooks(url={self.url!r}, secret={'set' if self.secret else 'unset'})"


def check_outgoing(value: Mapping[str, Any], needs_secret: bool, faults: list[str]) -> None:
    """Add what is wrong with [access] and [webhooks] to `faults`; `value` has every key by its dotted name."""
    mode = value["access.mode"]
    for section, used in (("access.webhook", mode == "webhook"), ("access.trpc", mode == "trpc"), ("webhooks", False)):
        url = value[f"{section}.url"]
        if used and not url:
            faults.append(f'{section}.url: is needed for access.mode = "{mode}"')
        elif url and (problem := url_problem(url)):
            faults.append(f"{section}.url: {problem}")
        if section != "access.trpc" and (url or value[f"{section}.secret"]):
            _check_secret(f"{section}.secret", value, needs_secret, faults)
    if "?" in value["access.trpc.url"]:
        faults.append("access.trpc.url: has a ? in it: write where the procedures are, as https://app.example.com/trpc")
    if mode == "trpc" and not value["access.trpc.rules"]:
        faults.append('access.trpc.rules: is needed: which rooms are what, as in ["video_* -> video.getById(id)"]')
    for rule in value["access.trpc.rules"]:
        try:
            parse_rule(rule)
        except ValueError as fault:
            faults.append(f"access.trpc.rules: {rule[:80]!r} {fault}")


def _check_secret(dotted: str, value: Mapping[str, Any], needs_secret: bool, faults: list[str]) -> None:
    size = len(value[dotted].encode())
    if size >= MIN_SECRET_BYTES or any(fault.startswith(dotted) for fault in faults):
        return
    how = "make one with  openssl rand -base64 48"
    if size:
        faults.append(f"{dotted}: has {size} bytes, at least {MIN_SECRET_BYTES} are needed: {how}")
    elif needs_secret:
        faults.append(f"{dotted}: is needed (or {dotted}_file): {how}")
