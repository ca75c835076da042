"""Messages about media and playback, and what a newcomer sees of the room."""

from typing import Any

from tests.world import World


def medium(media_id: str | None = "film_1", **fields: Any) -> dict[str, Any]:
    """A `media` message; None as the id removes the target."""
    return {"type": "media", "roomId": "video_123", "data": {"mediaId": media_id, **fields}}


def play(action: str, **fields: Any) -> dict[str, Any]:
    """A `playback` message that is acknowledged."""
    return {"type": "playback", "roomId": "video_123", "id": 7, "data": {"action": action, **fields}}


def snapshot(world: World) -> dict[str, Any]:
    """The room in the snapshot of another user that joins now."""
    return dict(world.client().auth("late").join().last("joined")["room"])
