"""Queues undelivered webhook events in order and by user, so that a flood of one user drops that user's events first.

Pure; `Backlog` is the only writer of its state. An event about a room (created, emptied, full) is assigned to the user
who caused it: the user of the `user_entered` that follows the creation, or the last user of that room.
"""

from collections import OrderedDict
from collections.abc import Hashable

from koko_presence.protocol.webhook_events import AnyWebhookEvent, ControlChanged, RoomCreated, UserEntered, UserLeft

Entry = tuple[AnyWebhookEvent, float]  # with the monotonic second from which it waits


class Backlog:
    """The queue of events. All operations take constant time, except those on all events. The maps are OrderedDicts
    because a dict scans its deleted entries to find the first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[int, Entry] = OrderedDict()  # by number, in order
        self._person_of: dict[int, Hashable] = {}
        self._numbers: dict[Hashable, OrderedDict[int, None]] = {}  # of each user's events, in order
        self._persons_by_count: dict[int, OrderedDict[Hashable, None]] = {}  # users by the number of their events
        self._most = 0
        self._next = 0
        # the last user in each room, also of events that were removed
        self._last_in: OrderedDict[str, Hashable] = OrderedDict()
        self._last: AnyWebhookEvent | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def since(self) -> float:
        """The monotonic second at which the oldest event was added. There must be one."""
        return next(iter(self._entries.values()))[1]

    def put(self, event: AnyWebhookEvent, now: float, limit: int) -> None:
        """Append an event at monotonic second `now`. The last users of at most `limit` rooms are stored."""
        person = self._person(event)
        before, self._last = self._last, event
        made = isinstance(before, RoomCreated) and before.room_id == event.room_id
        if made and isinstance(event, UserEntered) and self._next - 1 in self._entries:
            self._unlist(self._next - 1)  # this user has created the room
            self._list(self._next - 1, person)
        if isinstance(event, UserEntered | UserLeft):
            self._last_in.pop(event.room_id, None)
            self._last_in[event.room_id] = person
            while len(self._last_in) > limit:
                self._last_in.popitem(last=False)
        self._entries[self._next] = (event, now)
        self._list(self._next, person)
        self._next += 1

    def take(self) -> AnyWebhookEvent:
        """Remove and return the oldest event."""
        return self._remove(next(iter(self._entries)))

    def take_all(self) -> list[AnyWebhookEvent]:
        """Remove and return all events, in order."""
        return [self.take() for _ in range(len(self))]

    def drop(self) -> AnyWebhookEvent:
        """Remove and return the oldest event of the user with the most events, or the oldest of all while no user has
        more than one."""
        if self._most <= 1:
            return self.take()
        person = next(iter(self._persons_by_count[self._most]))
        return self._remove(next(iter(self._numbers[person])))

    def clear(self) -> None:
        """Remove all events."""
        self.__init__()  # type: ignore[misc]

    def _person(self, event: AnyWebhookEvent) -> Hashable:
        if isinstance(event, UserEntered | UserLeft):
            return event.user_id
        if isinstance(event, ControlChanged):
            return event.to_user_id or event.from_user_id or ("room", event.room_id)
        return self._last_in.get(event.room_id, ("room", event.room_id))

    def _remove(self, number: int) -> AnyWebhookEvent:
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
            persons = self._persons_by_count[before]
            del persons[person]
            if not persons:
                del self._persons_by_count[before]
        if now:
            self._persons_by_count.setdefault(now, OrderedDict())[person] = None
        if now > self._most or (before == self._most and before not in self._persons_by_count):
            self._most = now
