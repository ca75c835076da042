"""Checks the claims of a token with a verified signature and makes its identity, with the same rules for all keys.

The present time is an argument. The message of a refusal names the fault and the remedy. The module holds no state.
"""

from typing import Any

from koko_presence.protocol.models import RoomSettings
from koko_presence.protocol.settings import read_settings

from .identity import Identity, TokenRefused
from .profile import clean_image, clean_name, has_controls

SCOPES = frozenset(("join", "control", "broadcast", "moderate"))
MAX_USER_ID_CHARS = 128
RESERVED_USER = "system"  # the user id of server broadcasts [J4]


class ClaimRules:
    """The conditions that claims must meet."""

    def __init__(
        self,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        leeway_s: float = 5.0,
        max_ttl_s: float = 86_400.0,
    ) -> None:
        """`leeway_s`: seconds by which clocks may differ; `max_ttl_s`: how many seconds ahead an expiry may be.
        `issuer` and `audience` are not checked when they are None."""
        self._issuer = issuer
        self._audience = audience
        self._leeway_s = leeway_s
        self._max_ttl_s = max_ttl_s

    def identity(self, claims: dict[str, Any], now_s: float, forward: tuple[tuple[str, str], ...] = ()) -> Identity:
        """Return the identity of the claims at unix second `now_s`. Errors: `TokenRefused`."""
        expires_at_s = self._check_times(claims, now_s)
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise TokenRefused("its issuer (iss) is not the one in auth.issuer")
        self._check_audience(claims.get("aud"))
        user_id = check_user_id(claims.get("sub"))
        return Identity(
            user_id=user_id,
            name=clean_name(claims.get("name"), user_id),
            image=clean_image(claims.get("image")) or clean_image(claims.get("picture")),
            expires_at_s=expires_at_s,
            rooms=check_rooms(claims.get("rooms", {})),
            settings=check_settings(claims.get("settings", {})),
            presence=check_presence(claims.get("presence", True)),
            sid=_sid(claims.get("sid")),
            forward=forward,
            issued_at_s=_issued_at_s(claims, now_s),
        )

    def _check_times(self, claims: dict[str, Any], now_s: float) -> int:
        expires_at_s = _unix(claims, "exp")
        if expires_at_s is None:
            raise TokenRefused("it never expires: exp is needed, in unix seconds")
        if expires_at_s <= now_s - self._leeway_s:
            raise TokenRefused("it has expired: fetch a new one")
        if expires_at_s > now_s + self._max_ttl_s + self._leeway_s:
            raise TokenRefused(f"it expires more than {self._max_ttl_s:.0f} seconds ahead (auth.max_ttl_s)")
        not_before_s, issued_at_s = _unix(claims, "nbf"), _unix(claims, "iat")
        if not_before_s is not None and not_before_s > now_s + self._leeway_s:
            raise TokenRefused("it is not valid yet (nbf): compare the clocks")
        if issued_at_s is not None and issued_at_s > now_s + self._leeway_s:
            raise TokenRefused("it was issued in the future (iat): compare the clocks")
        return expires_at_s

    def _check_audience(self, audience: Any) -> None:
        if self._audience is None:
            return
        named = [audience] if isinstance(audience, str) else audience
        if not isinstance(named, list) or self._audience not in named:
            raise TokenRefused("its audience (aud) is not the one in auth.audience")


def _unix(claims: dict[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise TokenRefused(f"{name} must be a whole number of seconds since 1970")
    return value


def check_user_id(value: Any) -> str:
    """Return `value` when it is a valid user id. Errors: `TokenRefused`."""
    if not isinstance(value, str) or not value.strip():
        raise TokenRefused("it names no user: sub must be a text, not empty")
    if len(value) > MAX_USER_ID_CHARS:
        raise TokenRefused(f"its user id (sub) is longer than {MAX_USER_ID_CHARS} characters")
    if has_controls(value):
        raise TokenRefused("its user id (sub) holds control characters")
    if value == RESERVED_USER:
        raise TokenRefused(f"the user id {RESERVED_USER!r} is reserved for the server: use another sub")
    return value


def check_rooms(value: Any) -> dict[str, tuple[str, ...]]:
    """Return the scopes by room id or prefix [A6]; unknown scopes are left out. Errors: `TokenRefused`."""
    if not isinstance(value, dict):
        raise TokenRefused("rooms must be an object from room ids to lists of scopes")
    rooms = {}
    for pattern, scopes in value.items():
        if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
            raise TokenRefused("rooms must be an object from room ids to lists of scopes")
        if "*" in pattern[:-1]:
            raise TokenRefused("a room pattern may have one * and only at its end")
        # unknown scopes, perhaps of a later version, permit nothing and are no reason to refuse
        rooms[pattern] = tuple(scope for scope in scopes if scope in SCOPES)
    return rooms


def check_settings(value: Any) -> dict[str, RoomSettings]:
    """Return the settings by room id or prefix [Q10]; unknown keys are left out. Errors: `TokenRefused`."""
    if not isinstance(value, dict):
        raise TokenRefused("settings must be an object from room ids to settings")
    settings = {}
    for pattern, each in value.items():
        if "*" in pattern[:-1]:
            raise TokenRefused("a room pattern may have one * and only at its end")
        try:
            settings[pattern] = read_settings(each)
        except ValueError as error:
            raise TokenRefused(f"the settings of a room are not usable: {error}") from None
    return settings


def _issued_at_s(claims: dict[str, Any], now_s: float) -> float:
    """Return the unix second that decides which of a user's tokens has the name; 0.0 for a token without one."""
    issued_at_s = _unix(claims, "iat")
    if not isinstance(claims.get("name"), str):
        return 0.0
    return now_s if issued_at_s is None else float(issued_at_s)


def check_presence(value: Any) -> bool:
    """Return whether the user is shown to others [K1]. Errors: `TokenRefused`."""
    if not isinstance(value, bool):
        raise TokenRefused("presence must be true or false")
    return value


def _sid(value: Any) -> str | None:
    """Return the session id, or None when it is unusable: no decision depends on it."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_USER_ID_CHARS and value.isprintable() else None
