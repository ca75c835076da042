"""Reads, checks and merges the settings that the back end gives a room [Q10]. Holds no state but a cache of equal
settings.

They come with a token, with the answer to an access check, or by the server API. Back ends of a later version may know
more keys: those of a token or an answer are ignored. The server API refuses them, as it does every unknown field.
"""

from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType, structs

from .errors import PresenceError
from .models import AutoGrantAway, ControlMode, MaxUsers, MediaByTarget, RoomSettings, Title, WaitForViewers, Wire

MAX_SETTINGS_BYTES = 2048  # as JSON
# in JSON Schema, and so in the server API's document, 5.0 is an integer
WholeUsers = Annotated[float, Meta(ge=1.0, le=100_000.0, multiple_of=1.0)]
NO_SETTINGS = RoomSettings()

RECENT_SETTINGS = 1024

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RoomSettings).decode


class SettingsChange(Wire, kw_only=True, forbid_unknown_fields=True):
    """A change of a room's settings; null gives a key its default again, an absent one stays."""

    title: Title | UnsetType | None = UNSET
    control_mode: ControlMode | UnsetType | None = UNSET
    auto_grant_away: AutoGrantAway | UnsetType | None = UNSET
    wait_for_viewers: WaitForViewers | UnsetType | None = UNSET
    max_users: MaxUsers | WholeUsers | UnsetType | None = UNSET
    media: MediaByTarget | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        if isinstance(self.max_users, float):
            self.max_users = int(self.max_users)


KEYS = RoomSettings.__struct_fields__


def read_settings(value: Any) -> RoomSettings:
    """Return the settings of a token or an answer, which are decoded JSON; for those that equal recent ones the same
    object, because answers are kept for every user and have the settings of few rooms. Errors: ValueError that says
    what is wrong."""
    try:
        settings = msgspec.convert(value, RoomSettings)
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}") from None
    encoded = _encode(settings)
    if len(encoded) > MAX_SETTINGS_BYTES:
        raise ValueError(f"they may have {MAX_SETTINGS_BYTES} bytes as JSON")
    return _decoded(encoded)


@lru_cache(maxsize=RECENT_SETTINGS)
def _decoded(encoded: bytes) -> RoomSettings:
    return _decode(encoded)


def is_too_large(settings: RoomSettings) -> bool:
    """Return whether the settings have more than `MAX_SETTINGS_BYTES`."""
    return len(_encode(settings)) > MAX_SETTINGS_BYTES


def merged(settings: RoomSettings, change: SettingsChange) -> RoomSettings:
    """Return `settings` after a change. Errors: TOO_LARGE."""
    given = {key: value for key in KEYS if (value := getattr(change, key)) is not UNSET}
    after = structs.replace(settings, **{key: UNSET if value is None else value for key, value in given.items()})
    if is_too_large(after):
        raise PresenceError("TOO_LARGE", f"The settings of a room may have {MAX_SETTINGS_BYTES} bytes as JSON.")
    return after


def difference(before: RoomSettings, after: RoomSettings) -> dict[str, Any]:
    """Return the keys whose values differ, with the value after; None for one that is not set any more."""
    changed = {key: getattr(after, key) for key in KEYS if getattr(before, key) != getattr(after, key)}
    return {key: None if value is UNSET else value for key, value in changed.items()}
