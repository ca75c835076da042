"""One session of a user, as the user's owner knows it. Written by User and leases.py alone."""

from koko_presence.messages import Activity, Privacy


class UserSession:
    """One session: where it is connected, the rooms it is in, what it hides."""

    __slots__ = (
        "activity", "at", "connected", "connection", "disabled", "edge", "grace_until", "invisible", "lease_until",
        "rooms", "share_cursor", "share_selection",
    )  # fmt: skip

    def __init__(self, edge: int, connection: int, at: float, *, disabled: bool) -> None:
        self.edge = edge
        self.connection = connection
        self.at = at
        self.lease_until = 0.0
        self.grace_until = 0.0  # the monotonic second at which a lost session is given up; 0 while it is connected
        self.connected = True
        self.disabled = disabled
        self.activity: Activity = "active"
        self.rooms: dict[str, int] = {}  # and the number of the stay, which tells a late RoomLeft from a present one
        self.invisible = False
        self.share_cursor = True
        self.share_selection = True

    @property
    def leased(self) -> bool:
        """Held over HTTP, without a socket, until `lease_until` [M2]; see leases.py."""
        return self.lease_until > 0.0

    def hide(self, privacy: Privacy) -> bool:
        """Take over what `privacy` says; True when something changed."""
        before = (self.invisible, self.share_cursor, self.share_selection)
        for name in ("invisible", "share_cursor", "share_selection"):
            value = getattr(privacy, name)
            if isinstance(value, bool):
                setattr(self, name, value)
        return before != (self.invisible, self.share_cursor, self.share_selection)

    def privacy(self) -> Privacy:
        return Privacy(invisible=self.invisible, share_cursor=self.share_cursor, share_selection=self.share_selection)
