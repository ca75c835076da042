"""One session of a user, as the user's owner knows it. Written by User and http_sessions.py alone."""

from koko_presence.protocol.messages import Activity, Privacy

NONE: frozenset[str] = frozenset()  # one for all: each empty set of its own has 216 bytes


class UserSession:
    """One session: where it is connected, the rooms it is in, what it hides.

    `opening` is the version of the last word on its connection, `privacy_version` that of what it hides, `heard` how
    many words of the connection on its privacy are counted in that. The connection was accepted at monotonic second
    `accepted_at`; 0.0: the session is a lease, or known only by what rooms say of it."""

    __slots__ = (
        "accepted_at", "activity", "away_at", "connected", "connection", "disabled", "edge", "grace_until",
        "heard", "invisible", "lease_until", "named", "opening", "privacy_version", "rooms", "share_cursor",
        "share_selection",
    )  # fmt: skip

    def __init__(self, edge: int, connection: int, accepted_at: float, version: int, *, disabled: bool) -> None:
        self.edge = edge
        self.connection = connection
        self.accepted_at = accepted_at
        self.opening = self.privacy_version = version
        self.heard = 0
        self.lease_until = 0.0
        self.away_at = 0.0  # until then a lost session, whose client was sent to another worker, counts as connected
        self.grace_until = 0.0  # the monotonic second at which a lost session is given up; 0 while it is connected
        self.connected = True
        self.disabled = disabled
        self.activity: Activity = "active"
        self.rooms: dict[str, int] = {}  # and the version of the stay, which tells a late RoomLeft from a present one
        # rooms that its edge has named, joins under way included, and that it has neither left nor joined since: such a
        # room may have it, whatever its owner says who may be new, too
        self.named: frozenset[str] = NONE
        self.invisible = False
        self.share_cursor = True
        self.share_selection = True

    def forget_named(self, room_id: str) -> None:
        """The session joins this room, or has left it."""
        if room_id in self.named:
            self.named = self.named - {room_id} or NONE

    @property
    def leased(self) -> bool:
        """Held over HTTP, without a socket, until `lease_until` [M2]; see http_sessions.py."""
        return self.lease_until > 0.0

    @property
    def hidden(self) -> bool:
        """May others not know of it?"""
        return self.invisible or self.disabled

    @property
    def hides(self) -> tuple[bool, bool, bool, bool]:
        """All that rooms have to know of what it hides."""
        return self.invisible, self.disabled, self.share_cursor, self.share_selection

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
