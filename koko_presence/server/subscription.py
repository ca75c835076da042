"""Delivers one room's stream to its subscribers at one edge: each gets a flush without its own frames, in stream order.

`RoomSubscription` writes the set of subscribers; it changes at attach and detach frames in the stream, so frames before
one go to the subscribers before it. Sockets are written later, once each (`WriteBatch`).
"""

from collections.abc import Callable
from typing import Protocol

from koko_presence._fastpath import fanout
from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.fanout import RoomFlush, StreamFrame, is_plain
from koko_presence._fastpath.outbox import Outbox


class Subscriber(Protocol):
    """A session that receives a room's stream. `on_attach` and `on_detach` are called when the stream begins and ends,
    `on_refusal` after a frame that is an error, `fail` after an exception of these. `discards` is true for a room that
    the session was expelled from: its frames that are still in transit are not delivered, until the room has detached
    the session."""

    @property
    def outbox(self) -> Outbox: ...

    def discards(self, room_id: str) -> bool: ...

    def on_attach(self, room_id: str) -> None: ...

    def on_detach(self, room_id: str) -> None: ...

    def on_refusal(self) -> None: ...

    def fail(self) -> None: ...


class SubscribedSession(Subscriber, Protocol):
    """A subscriber with its id."""

    @property
    def session_id(self) -> str: ...


class RoomSubscription(fanout.RoomSubscription):
    """The attached sessions of one room at this edge. The compiled base class holds their outboxes. Written by the hub
    and by its own stream."""

    __slots__ = ("subscribers",)

    def __init__(self, room_id: str) -> None:
        super().__init__(room_id)
        self.subscribers: dict[str, Subscriber] = {}

    def deliver(self, flush: RoomFlush, find: Callable[[str], Subscriber | None]) -> None:
        """Deliver a flush to the subscribers, in order. `find` returns a session of the edge by id. A fault of one
        subscriber ends that one only."""
        start, items = 0, flush.items
        if is_plain(items):
            self.fan_out(items, flush.timestamp)
            return
        for index, item in enumerate(items):
            if item.attach or item.detach:  # frames before this one go to the subscribers before the change
                self._fan_out(items[start:index], flush.timestamp)
                start = index + 1
                self._change(item, find)
        self._fan_out(items[start:] if start else items, flush.timestamp)

    def drop(self, session_id: str) -> None:
        """Remove a session from the subscribers."""
        self.subscribers.pop(session_id, None)
        self.discard(session_id)

    def _change(self, item: StreamFrame, find: Callable[[str], Subscriber | None]) -> None:
        if item.attach:
            subscriber = find(item.only)
            if subscriber is None or subscriber.discards(self.room_id):
                return
            self.subscribers[item.only] = subscriber
            self.add(item.only, subscriber.outbox)
            subscriber.outbox.forget(self.room_id)  # values of an earlier membership, older than this snapshot
            counters.sent(item.frame)
            subscriber.outbox.write_frame(item.frame)
            _notify(subscriber, subscriber.on_attach, self.room_id)
            return
        leaver = self.subscribers.get(item.only)
        if leaver is None:
            leaver = find(item.only)
            if leaver is None:
                return
        else:
            self.drop(item.only)
            leaver.outbox.forget(self.room_id)
            if item.frame:  # empty when the session was expelled
                counters.sent(item.frame)
                leaver.outbox.write_frame(item.frame)
        _notify(leaver, leaver.on_detach, self.room_id)  # later frames belong to another membership

    def _fan_out(self, items: list[StreamFrame], timestamp: str) -> None:
        if not items:
            return
        self.fan_out(items, timestamp)
        for item in items:  # after delivery: too many errors end a session, which removes it from the subscribers
            if item.refusal and (subscriber := self.subscribers.get(item.only)) is not None:
                _notify(subscriber, subscriber.on_refusal)


def _notify(subscriber: Subscriber, event: Callable[..., None], *arguments: str) -> None:
    try:
        event(*arguments)
    except Exception:  # the rest of the flush is for the other subscribers
        subscriber.fail()
