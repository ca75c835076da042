"""Queues undelivered webhook events in order and by user, so that a flood of one user drops that user's events first.

Pure; `Backlog` is the only writer of its state. An event about a room (created, emptied, full) is assigned to the user
who caused it: the user of the `user_entered` that follows the creation, or the last user of that room.
"""

from collections import OrderedDict
from collections.abc import Hashable

from koko_presence.protocol.webhook_events import AnyHappening, ControlChanged, RoomCreated, UserEntered, UserLeft

Entry = tuple[AnyHappening, float]  # with the monotonic second from which it waits


class Backlog:
    """The queue of events. All operations take constant time, except those on all events. The maps are OrderedDicts
    because a dict scans its deleted entries to find the first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[int, Entry] = OrderedDict()  # by number, in order
        self._person_of: dict[int, Hashable] = {}
        self._numbers: dict[Hashable, OrderedDict[int, None]] = {}  # of each user's events, in order
        self._crowds: dict[int, OrderedDict[Hashable, None]] = {}  # users by the number of their events
        self._most = 0
        self._next = 0
        # the last user in each room, also of events that were removed
        self._last_in: OrderedDict[str, Hashable] = OrderedDict()
        self._last: AnyHappening | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def since(self) -> float:
        """The monotonic second at which the oldest event was added. There must be one."""
        return next(iter(self._entries.values()))[1]

    def put(self, happening: AnyHappening, now: float, limit: int) -> None:
        """Append an event at monotonic second `now`. The last users of at most `limit` rooms are stored."""
        person = self._person(happening)
        before, self._last = self._last, happening
        made = isinstance(before, RoomCreated) and before.room_id == happening.room_id
        if made and isinstance(happening, UserEntered) and self._next - 1 in self._entries:
            self._unlist(self._next - 1)  # this user has created the room
            self._list(self._next - 1, person)
        if isinstance(happening, UserEntered | UserLeft):
            self._last_in.pop(happening.room_id, None)
            self._last_in[happening.room_id] = person
            while len(self._last_in) > limit:
                self._last_in.popitem(last=False)
        self._entries[self._next] = (happening, now)
        self._list(self._next, person)
        self._next += 1

    def take(self) -> AnyHappening:
        """Remove and return the oldest event."""
        return self._remove(next(iter(self._entries)))

    def take_all(self) -> list[AnyHappening]:
        """Remove and return all events, in order."""
        return [self.take() for _ in range(len(self))]

    def drop(self) -> AnyHappening:
        """Remove and return the oldest event of the user with the most events, or the oldest of all while no user has
        more than one."""
        if self._most <= 1:
            return self.take()
        person = next(iter(self._crowds[self._most]))
        return self._remove(next(iter(self._numbers[person])))

    def clear(self) -> None:
        """Remove all events."""
        self.__init__()  # type: ignore[misc]

    def _person(self, happening: AnyHappening) -> Hashable:
        if isinstance(happening, UserEntered | UserLeft):
            return happening.user_id
        if isinstance(happening, ControlChanged):
            return happening.to_user_id or happening.from_user_id or ("room", happening.room_id)
        return self._last_in.get(happening.room_id, ("room", happening.room_id))

    def _remove(self, number: int) -> AnyHappening:
        self._unlist(number)
        return self._entries.pop(number)[0]

    def _list(self, number: int, person: Hashable) -> None:
        self._person_of[number] = person
        numbers = self._numbers.setdefault(person, OrderedDict())
        self._move(person, len(numbers), len(numbers) + 1)
        numbers[number] = None

    def _unlist(self, number: int) -> None:
        person = self._person_of.pop(number)
        numbers = self._numbers[person]
        del numbers[number]
        self._move(person, len(numbers) + 1, len(numbers))
        if not numbers:
            del self._numbers[person]

    def _move(self, person: Hashable, before: int, now: int) -> None:
        if before:
            crowd = self._crowds[before]
            del crowd[person]
            if not crowd:
                del self._crowds[before]
        if now:
            self._crowds.setdefault(now, OrderedDict())[person] = None
        if now > self._most or (before == self._most and before not in self._crowds):
            self._most = now
