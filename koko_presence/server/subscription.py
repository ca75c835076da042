"""One room's stream at one edge: every receiver gets the packet without its own frames, in one write."""

from collections.abc import Callable
from typing import Protocol

from koko_presence._fastpath import fanout
from koko_presence._fastpath.counters import tally
from koko_presence._fastpath.fanout import RoomBatch, StreamFrame, is_plain
from koko_presence._fastpath.outbox import Outbox


class Subscriber(Protocol):
    """A session that receives a room's stream. `on_attach` and `on_detach` tell it when that begins and ends,
    `on_refusal` that one of the frames was an error. It was thrown out of the rooms in `barred`, and hears nothing of
    them that is still on its way, until the room has said good-bye."""

    outbox: Outbox
    barred: frozenset[str]

    def on_attach(self, room_id: str) -> None: ...

    def on_detach(self, room_id: str) -> None: ...

    def on_refusal(self) -> None: ...


class RoomSubscription(fanout.RoomSubscription):
    """The attached sessions of one room at this edge; the compiled RoomSubscription below has their outboxes."""

    __slots__ = ("receivers",)

    def __init__(self, room_id: str) -> None:
        super().__init__(room_id)
        self.receivers: dict[str, Subscriber] = {}

    def deliver(self, packet: RoomBatch, find: Callable[[str], Subscriber | None]) -> None:
        """Hand a flush to the receivers, in order. `find` knows the edge's sessions by id."""
        start, items = 0, packet.items
        if is_plain(items):
            self.fan_out(items, packet.timestamp)
            return
        for index, item in enumerate(items):
            if item.attach or item.detach:  # the set of receivers changes here: what came before is for the old one
                self._fan_out(items[start:index], packet.timestamp)
                start = index + 1
                self._change(item, find)
        self._fan_out(items[start:] if start else items, packet.timestamp)

    def drop(self, session_id: str) -> None:
        """The session's connection is gone."""
        self.receivers.pop(session_id, None)
        self.outboxes.pop(session_id, None)

    def _change(self, item: StreamFrame, find: Callable[[str], Subscriber | None]) -> None:
        if item.attach:
            receiver = find(item.only)
            if receiver is None or self.room_id in receiver.barred:
                return
            self.receivers[item.only] = receiver
            self.outboxes[item.only] = receiver.outbox
            self.any_compact = self.any_compact or receiver.outbox.compact
            receiver.outbox.forget(self.room_id)  # of an earlier stay, and older than this snapshot
            tally.sent(item.frame)
            receiver.outbox.write(item.frame)
            receiver.on_attach(self.room_id)
            return
        leaver = self.receivers.get(item.only)
        if leaver is None:
            leaver = find(item.only)
            if leaver is not None and self.room_id in leaver.barred:  # what comes from here on is of another stay
                leaver.barred -= {self.room_id}
                leaver.on_detach(self.room_id)
        else:
            self.drop(item.only)
            leaver.outbox.forget(self.room_id)
            if item.frame:  # none when it was thrown out
                tally.sent(item.frame)
                leaver.outbox.write(item.frame)
            leaver.on_detach(self.room_id)

    def _fan_out(self, items: list[StreamFrame], timestamp: str) -> None:
        if not items:
            return
        self.fan_out(items, timestamp)
        for item in items:  # after the loop: one error too many ends a session, and with it its place here
            if item.refusal and (receiver := self.receivers.get(item.only)) is not None:
                receiver.on_refusal()
