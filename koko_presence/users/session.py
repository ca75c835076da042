"""Holds one session of a user, as the user's owner sees it. Written by `User`, http_sessions.py, member_confirmation.py
and owner/reconcile.py."""

from koko_presence.protocol.models import Activity, Privacy

NONE: frozenset[str] = frozenset()  # shared by all sessions: an empty set of its own takes 216 bytes


class UserSession:
    """One session: where it is connected, the rooms it is in, what it hides.

    `session_version` is the version of the last change of its connection, `privacy_version` that of what it hides,
    `received_privacy_seq` how many privacy changes of the connection that includes. The connection was accepted at
    monotonic second `accepted_at`; 0.0: the session is a lease, or known only from statements of rooms."""

    __slots__ = (
        "accepted_at", "activity", "activity_at", "away_at", "connected", "connection", "disabled", "edge",
        "grace_until", "invisible", "lease_until", "named", "privacy_version", "received_privacy_seq", "rooms",
        "session_version", "share_cursor", "share_selection", "stream",
    )  # fmt: skip

    def __init__(self, edge: int, connection: int, accepted_at: float, version: int, *, disabled: bool) -> None:
        self.edge = edge
        self.connection = connection
        self.accepted_at = accepted_at
        self.session_version = self.privacy_version = version
        self.received_privacy_seq = 0
        self.lease_until = 0.0
        self.away_at = 0.0  # until then a lost session whose client was sent to another worker counts as connected
        self.grace_until = 0.0  # the monotonic second at which a lost session ends; 0 while it is connected
        self.connected = True
        self.stream = False  # connected by an event stream over HTTP [M6c]
        self.disabled = disabled
        self.activity: Activity = "active"
        self.activity_at = 0.0  # the monotonic second as of which that is known; 0.0: it was not reported
        # By room: the version of the membership, to ignore a `RoomLeft` of an earlier one
        self.rooms: dict[str, int] = {}
        # Rooms that its edge has reported, pending joins included, and that the session has neither joined nor left
        # since. The `ConfirmMember` of such a room is accepted, even after its owner, which may be new, has reported
        # that
        # the session is not in it.
        self.named: frozenset[str] = NONE
        self.invisible = False
        self.share_cursor = True
        self.share_selection = True

    def forget_named(self, room_id: str) -> None:
        """Drop a room from `named`: the session joins it, or has left it."""
        if room_id in self.named:
            self.named = self.named - {room_id} or NONE

    @property
    def leased(self) -> bool:
        """Held over HTTP, without a socket, until `lease_until` [M2]; see http_sessions.py."""
        return self.lease_until > 0.0

    @property
    def hidden(self) -> bool:
        """Whether the session is hidden from other users."""
        return self.invisible or self.disabled

    @property
    def hides(self) -> tuple[bool, bool, bool, bool]:
        """Its privacy settings, as its rooms apply them: invisible, disabled, share_cursor, share_selection."""
        return self.invisible, self.disabled, self.share_cursor, self.share_selection

    def hide(self, privacy: Privacy) -> bool:
        """Apply `privacy`. Return True when something changed."""
        before = (self.invisible, self.share_cursor, self.share_selection)
        for name in ("invisible", "share_cursor", "share_selection"):
            value = getattr(privacy, name)
            if isinstance(value, bool):
                setattr(self, name, value)
        return before != (self.invisible, self.share_cursor, self.share_selection)

    def privacy(self) -> Privacy:
        return Privacy(invisible=self.invisible, share_cursor=self.share_cursor, share_selection=self.share_selection)
