"""Stories in which some people are invisible, compared with the same stories without them.

`Story` plays a list of steps, with the hidden people or without all their steps. Time passes alike, session ids are the
same, and each person connects to a fixed worker, so what the other people get (frames, answers over HTTP, webhook
events and server API answers about visible users) must be the same to the last byte [K7]. When VEILED becomes invisible
and visible again, the others must get the same as when it leaves and joins [K2]. SHADOW is an invisible tab of OWNER,
which is visible in other tabs: all other people must get the same without it.

    python -m tests.two_worlds 1 1000       seeds 1 to 1000; the shortest story of each that fails is printed
    --steps N                               in each story
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from koko_presence.owner import admin_view
from koko_presence.protocol.commands import ServerBroadcast
from koko_presence.protocol.events import error_reply
from koko_presence.protocol.limits import RoomOptions
from koko_presence.rooms import presence_state
from koko_presence.server.reauthorization import kick
from tests.world import Client, Http, Started, World

Step = tuple[Any, ...]

PEOPLE = ("ann", "bob", "cat", "dan")
HIDDEN = ("gus", "hal", "ida")
VEILED = "eve"
SHADOW, OWNER = "amy", "ann"
ROOMS = ("video_1", "lobby", "den")
TYPES = ("video", "project", "comparison", "comment_thread")
COMPACT = ("cat", "hal")
WATCHERS = ("bob", "cat")  # watch all rooms, whether or not they are in them
BEGINS_OR_ENDS = {"room_created": "begins", "room_shown": "begins", "room_emptied": "ends", "room_hidden": "ends"}
STEP_S = 0.02  # longer than any delay of the server after a step
ITERATION_S = 0.0017  # within a flush window; the order of two people's messages in one loop iteration is not defined


class Tab:
    """The one socket of a person; `raw` holds all messages received on it and on those before it."""

    def __init__(self) -> None:
        self.client: Client | None = None
        self.raw: list[bytes] = []
        self.token: str | None = None
        self.session_id = ""
        self.count = 0

    def hear(self) -> None:
        if self.client is not None:
            self.raw += self.client.raw
            self.client.raw.clear()


class Known(World):
    """A world in which the story chooses the session ids."""

    upcoming = ""

    def _new_session_id(self) -> str:
        return self.upcoming


class Story:
    """One story in one world. `hidden`: whether the hidden people are there, and whether VEILED becomes invisible
    instead of leaving."""

    def __init__(self, hidden: bool, workers: int, options: RoomOptions | None = None, **limits: Any) -> None:
        limits |= {"join_hz": 100.0, "join_burst": 100, "status_hz": 100.0, "status_burst": 100}
        self.world = Known(options, workers=workers, telling=True, **limits)
        self.hidden = hidden
        self.veiled = False
        self.rooms: dict[str, str] = {}  # of VEILED, with their types
        self.objects: dict[str, dict[str, Any]] = {}  # the presence objects of VEILED
        self.tabs = {name: Tab() for name in (*PEOPLE, *HIDDEN, VEILED, SHADOW)}
        self.results: list[Any] = []
        self.calls: list[tuple[str, Started]] = []

    def play(self, steps: Sequence[Step]) -> dict[str, Any]:
        end = self.world.now
        for kind, who, *what in steps:
            end += what[0] if kind == "wait" else ITERATION_S if kind == "quick" else STEP_S
            if who == VEILED and kind == "say" and what[0]["type"] == "presence":
                self.note_object(what[0]["roomId"], what[0]["data"])
            if kind != "wait" and (
                self.hidden or not (who in (*HIDDEN, SHADOW) or (who == VEILED and self.veiled and kind != "veil"))
            ):
                getattr(self, f"do_{kind}")(who, *what)
            self.world.sleep(end - self.world.now)
            self.world.timers.now = end  # exact to the last bit in both worlds
            for tab in self.tabs.values():
                tab.hear()
            self.results += [(name, result_of(call)) for name, call in self.calls if call.done and name in PEOPLE]
            self.calls = [(name, call) for name, call in self.calls if not call.done]
        self.world.sleep(60.0)
        for tab in self.tabs.values():
            tab.hear()
        return {
            **{name: self.tabs[name].raw for name in PEOPLE},
            "answers": self.results,
            "webhooks": self.visible_events(),
        }

    # --- steps

    def hub(self, who: str) -> Any:
        nodes = list(self.world.nodes.values())
        return nodes[list(self.tabs).index(who) % len(nodes)].hub

    def do_connect(self, who: str, resume: bool) -> None:
        tab = self.tabs[who]
        if tab.client is not None and tab.client.closed is None:
            return
        tab.count += 1
        self.world.upcoming = f"{who}_{tab.count}"
        tab.client = Client(self.world, self.hub(who))
        auth: dict[str, Any] = {
            "type": "auth",
            "token": OWNER
            if who == SHADOW
            else f'{who}:{who.title()}:{{"*":["moderate"]}}'
            if who in ("bob", "hal")
            else who,
        }
        if who in COMPACT:
            auth["caps"] = ["cursors"]
        if who in HIDDEN:
            auth["privacy"] = {"invisible": True, "scope": "user"}
        if who == SHADOW:
            auth["privacy"] = {"invisible": True}
        if resume and tab.token is not None:
            auth["resumeToken"] = tab.token
        tab.client.send(auth)
        for message in tab.client.got:
            if message["type"] == "authenticated":
                tab.token, tab.session_id = message["resumeToken"], message["sessionId"]
        if who in WATCHERS:
            tab.client.post({"type": "watch", "rooms": list(ROOMS)})

    def do_hang_up(self, who: str, code: int) -> None:
        client = self.tabs[who].client
        if client is not None and client.closed is None:
            client.hang_up(code)

    def do_say(self, who: str, message: dict[str, Any]) -> None:
        client = self.tabs[who].client
        if client is not None:
            client.post(message)

    do_quick = do_say  # without waiting for the flush

    def note_object(self, room: str, data: dict[str, Any] | None) -> None:
        """Record what VEILED sets: its object is kept while it is invisible [P3], so with its next join in the other
        world it has the same."""
        if room in self.rooms:
            changed = {} if data is None else self.objects.get(room, {}) | data
            self.objects[room] = {key: value for key, value in changed.items() if value is not None}

    def do_enter(self, who: str, room: str, type_: str) -> None:
        """Join a room as VEILED, once."""
        if room not in self.rooms:
            self.rooms[room] = type_
            self.do_say(who, {"type": "join", "roomId": room, "roomType": type_})

    def do_veil(self, who: str, on: bool) -> None:
        """Make VEILED invisible or visible; in the other world, let it leave its rooms or join them again."""
        if on == self.veiled:
            return
        self.veiled = on
        if self.hidden:
            self.do_say(who, {"type": "privacy", "data": {"invisible": on}})
            return
        for room_id, type_ in sorted(self.rooms.items()):
            room = self.world.shard.rooms.get(room_id)
            back = {
                "type": "join",
                "roomId": room_id,
                "roomType": room.type if room is not None and room.shown else type_,
                "presence": self.objects.get(room_id, {}),
            }
            self.do_say(who, {"type": "leave", "roomId": room_id} if on else back)

    def do_call(self, who: str, name: str, input: dict[str, Any], own: bool) -> None:
        session = self.tabs[who].session_id if own else ""
        http = Http(self.world, who, session)
        self.calls.append((who, http.start(name, input or UNSET, hub=self.hub(who))))

    def do_operate(self, who: str, what: str, room_id: str, whom: str) -> None:
        """Use the server API; `who` is unused."""
        world = self.world
        if what == "kick":
            client = self.tabs[whom].client if self.hidden or whom not in (*HIDDEN, SHADOW) else None
            if client is not None and client.closed is None and client.session.state == "open":
                if room_id == "den":
                    kick(client.session, "Out.")
                else:
                    client.session.memberships.expel(room_id, "Out.", world.now)
            return
        room = world.shard.rooms.get(room_id)
        if room is None or not room.shown:
            self.results.append(("server", what, room_id, None))
        elif what == "look":
            self.results.append(("server", self.visible_part(admin_view.room_detail(room, world.now))))
        elif what == "announce":
            self.results.append(("server", what, presence_state.reach(room, None)))
        if what == "announce":
            hub = next(iter(world.nodes.values())).hub
            hub.bus.send(ServerBroadcast(room_id=room_id, data=b'{"n":1}', to=None), world.now)

    # --- what other people may see

    def visible_part(self, detail: Any) -> dict[str, Any]:
        shown = msgspec.to_builtins(detail)
        for name in ("invisibleUserCount", "invisibleSessionCount", "advisedIntervalMs"):
            shown.pop(name)
        shown["members"] = [
            row
            for row in shown["members"]
            if row["userId"] not in (*HIDDEN, VEILED) and not row["sessionId"].startswith(SHADOW)
        ]
        return dict(shown)

    def visible_events(self) -> list[dict[str, Any]]:
        assert self.world.webhook_events is not None
        found = []
        for event in self.world.webhook_events:
            each = msgspec.to_builtins(event)
            if (
                each.get("userId") in HIDDEN
                or each.get("sessionId", "").startswith(SHADOW)
                or (each["type"].startswith("room_") and each.get("invisible"))
            ):
                continue
            for name in ("users", "sessions"):
                each["room"].pop(name)
            if each.get("userId") == OWNER:  # the application is notified of invisible users, too
                each.pop("sessionCount", None)
            # which of the two types it is depends on invisible members, and only that
            if each["type"] in BEGINS_OR_ENDS:
                each["type"] = BEGINS_OR_ENDS[each["type"]]
                del each["id"]
                each.pop("invisible", None)
            found.append(each)
        if len(self.world.nodes) > 1:  # each worker sends its own events, those of one instant in no order
            found.sort(key=lambda each: (each["timestamp"], each["roomId"]))
        return found


def result_of(call: Started) -> Any:
    if call.fault is not None:
        raise call.fault
    error = call.error
    return call.result if error is None else error_reply(error, None, None)


# --- writing stories


class Writer:
    """Writes one story from a seed; keeps track of which people are connected and in which rooms."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.people = [*PEOPLE[: self.chance.randint(1, len(PEOPLE))], *HIDDEN[: self.chance.randint(1, len(HIDDEN))]]
        self.rooms = ROOMS[: self.chance.randint(1, len(ROOMS))]
        self.types = {room: self.chance.choice(("video", *TYPES)) for room in ROOMS} | {"video_1": "video"}
        self.connected: set[str] = set()
        self.inside: dict[str, set[str]] = {who: set() for who in self.people}
        self.coming: list[Step] = []

    def next(self) -> Step:
        chance = self.chance
        if self.coming:
            return self.coming.pop()
        who, whom = chance.choice(self.people), chance.choice(self.people)
        if who not in self.connected and chance.random() < 0.8:
            self.connected.add(who)
            rooms = sorted(self.inside[who]) or [chance.choice(self.rooms)]
            self.coming = [self.join(who, room) for room in rooms if chance.random() < 0.9]
            return ("connect", who, chance.random() < 0.7)
        inside = sorted(self.inside[who])
        if not inside and chance.random() < 0.7:
            return self.join(who, chance.choice(self.rooms))
        room = chance.choice(inside or self.rooms) if chance.random() < 0.9 else chance.choice(ROOMS)
        kinds = (
            ("join", 4), ("leave", 4), ("hang_up", 3), ("wait", 8), ("privacy", 6), ("show", 14), ("watch", 7), ("look", 3),
            ("control", 8), ("call", 8), ("operate", 3), ("status", 2),
        )  # fmt: skip
        kind = chance.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
        match kind:
            case "join":
                return self.join(who, chance.choice(self.rooms))
            case "leave":
                self.inside[who].discard(room)
                return ("say", who, {"type": "leave", "roomId": room, "id": 1})
            case "hang_up":
                self.connected.discard(who)
                code = chance.choice((1000, 1006, 1006, 1001))
                if code == 1000:
                    self.inside[who].clear()
                return ("hang_up", who, code)
            case "wait":
                return ("wait", "", chance.choice((0.001, 0.01, 0.05, 0.3, 1.0, 3.0, 5.5, 11.0, 31.0, 130.0)))
            case "privacy":
                return self.privacy(who)
            case "status":
                status = {"type": "status", "data": {"status": chance.choice(("busy", "active")), "statusMessage": "x"}}
                return ("say", who, chance.choice((status, {"type": "heartbeat", "status": "idle"})))
            case "show":
                message = showing_message(chance, room, self.people)
                return ("quick" if chance.random() < 0.3 else "say", who, message)
            case "watch":
                if chance.random() < 0.2:
                    return ("say", who, {"type": "media", "roomId": room, "id": 3, "data": media_data(chance)})
                return ("say", who, {"type": "playback", "roomId": room, "id": 3, "data": playback_data(chance)})
            case "control":
                name = chance.choice(("request", "request", "request", "grant", "deny", "release", "cancel"))
                more: dict[str, Any] = {"data": {"toUserId": whom}} if name in ("grant", "deny") else {}
                return ("say", who, {"type": f"control_{name}", "roomId": room, "id": 4, **more})
            case "look":
                more = {"roomType": self.type_of(room)} if chance.random() < 0.5 else {}
                return ("say", who, {"type": "get_active", "roomId": room, "id": 5, **more})
            case "call":
                return self.call(who, room, whom)
        return ("operate", "", chance.choice(("look", "look", "announce", "kick")), room, whom)

    def type_of(self, room: str) -> str:
        return self.types[room] if self.chance.random() < 0.95 else self.chance.choice(TYPES)

    def join(self, who: str, room: str) -> Step:
        message: dict[str, Any] = {"type": "join", "roomId": room}
        self.inside[who].add(room)
        if self.chance.random() < 0.9:
            message["roomType"] = self.type_of(room)
        if who in PEOPLE and self.chance.random() < 0.15:
            message["privacy"] = {"invisible": self.chance.random() < 0.5}
        return ("say", who, message)

    def privacy(self, who: str) -> Step:
        chance = self.chance
        data: dict[str, Any] = {chance.choice(("shareCursor", "shareSelection")): chance.random() < 0.5}
        if who in PEOPLE and chance.random() < 0.8:
            data = {"invisible": chance.random() < 0.5}
            if chance.random() < 0.3:
                data["scope"] = "user"
        return ("say", who, {"type": "privacy", "data": data, "id": 2})

    def call(self, who: str, room: str, whom: str) -> Step:
        chance = self.chance
        name = chance.choice(
            ("join", "leave", "heartbeat", "getActive", "getActive", "updateCursor", "updateSelection", "startTyping",
             "setPresence", "broadcast", "requestControl", "grantControl", "syncPlayback", "setMedia", "setStatus", "setPrivacy")
        )  # fmt: skip
        own = chance.random() < 0.6
        fields: dict[str, Any] = {"roomId": room}
        if name in ("join", "getActive") and chance.random() < 0.9:
            fields["roomType"] = self.type_of(room)
        match name:
            case "join":
                if who in HIDDEN:
                    fields["privacy"] = {"invisible": True}
            case "getActive":
                if chance.random() < 0.3:
                    fields["sessionId"] = f"{whom}_1"
            case "heartbeat":
                fields = {"roomId": room, "status": "active"}
            case "updateCursor":
                fields |= {"timestamp": 1, "x": 0.25, "y": chance.random()}
            case "updateSelection":
                fields |= {"startTime": 1, "endTime": 2}
            case "broadcast":
                fields["data"] = {"n": 1}
            case "setPresence":
                fields["data"] = patch_of(chance)
            case "grantControl":
                fields["toUserId"] = whom
            case "syncPlayback":
                fields |= playback_data(chance)
            case "setMedia":
                fields |= media_data(chance)
            case "setStatus":
                fields = {"status": "reviewing"}
            case "setPrivacy":
                fields = {"shareCursor": chance.random() < 0.5}
                if who in PEOPLE:
                    fields = {"invisible": chance.random() < 0.5, "scope": "user"}
        return ("call", who, name, fields, own)


def write_shadowed(seed: int, steps: int) -> list[Step]:
    """Return a story of `steps` steps in which a person has an invisible tab beside the visible one."""
    writer = Writer(seed)
    writer.people = [*(who for who in writer.people if who in PEOPLE), "bob", SHADOW]
    writer.inside = {who: set() for who in writer.people}
    script: list[Step] = []
    while len(script) < steps:
        step = writer.next()
        if step[1] in (OWNER, SHADOW) and not _is_of_one_tab(step, writer.types):
            continue
        script.append(step)
    return script


def _is_of_one_tab(step: Step, types: Mapping[str, str]) -> bool:
    """Whether a step means the same with and without another tab of the person. A status belongs to the person, not to
    the tab [D8, D10], as do the activity in a heartbeat, a privacy for all tabs and, while a room is not visible to
    others, its type. A call without a session is answered by the state of all tabs."""
    kind, who, *what = step
    if kind == "call":
        return False
    if kind not in ("say", "quick"):
        return True
    message = what[0]
    match message["type"]:
        case "status":
            return False
        case "heartbeat":
            return who != SHADOW or "status" not in message
        case "privacy":
            return who != SHADOW and "scope" not in message["data"]
        case "join":
            return message.get("roomType") == types[message["roomId"]] and (who != SHADOW or "privacy" not in message)
    return True


def showing_message(chance: random.Random, room: str, people: list[str]) -> dict[str, Any]:
    point = {"timestamp": chance.randint(0, 9), "x": chance.random(), "y": 0.5}
    kinds: tuple[tuple[str, Any], ...] = (
        ("cursor", point), ("cursor", point), ("cursor", {"x": 0.5, "y": 0.5}), ("cursor", None),
        ("cursor", point | {"target": "a"}),
        ("selection", chance.choice((None, {"startTime": 1, "endTime": chance.randint(1, 9)}))),
        ("typing", {"isTyping": chance.random() < 0.7, "context": "c"}),
        ("presence", patch_of(chance)),
        ("broadcast", {"n": chance.randint(0, 9), "text": "x" * chance.choice((1, 7000))}),
    )  # fmt: skip
    kind, data = chance.choice(kinds)
    message = {"type": kind, "roomId": room, "data": data}
    if kind == "broadcast":
        message["id"] = 6
        if chance.random() < 0.4:
            message["to"] = chance.sample(people, min(2, len(people)))
    return message


def patch_of(chance: random.Random) -> dict[str, Any] | None:
    return chance.choice((None, {"a": chance.randint(0, 3)}, {"a": None, "b": chance.randint(0, 3)}, {"b": [1, None]}))


def playback_data(chance: random.Random) -> dict[str, Any]:
    actions = ("sync", "play", "pause", "seek", "rate", "step", "report", "report", "resync", "enable", "disable")
    action = chance.choice(actions)
    data: dict[str, Any] = {"action": action}
    if action in ("sync", "report"):
        data |= {"isPlaying": chance.random() < 0.7, "currentTime": chance.randint(0, 5), "playbackRate": 1}
    elif action == "seek":
        data["currentTime"] = chance.randint(0, 50)
    elif action == "rate":
        data["playbackRate"] = chance.choice((1, 1.5))
    elif action == "step":
        data["frames"] = chance.choice((-1, 1, 10))
    return data


def media_data(chance: random.Random) -> dict[str, Any]:
    return {"mediaId": f"film_{chance.randint(0, 3)}", "duration": chance.choice((5, 60)), "frameRate": 25}


def write(seed: int, steps: int) -> list[Step]:
    """Return a story of `steps` steps with people who are invisible throughout."""
    writer = Writer(seed)
    return [writer.next() for _ in range(steps)]


def write_veiled(seed: int, steps: int) -> list[Step]:
    """Return a story of `steps` steps with a person who becomes invisible and visible again."""
    writer = Writer(seed)
    writer.people = [who for who in writer.people if who in PEOPLE]
    chance = writer.chance
    script: list[Step] = [("connect", VEILED, False)]
    script += [("enter", VEILED, room, writer.types[room]) for room in writer.rooms]
    while len(script) < steps:
        room = chance.choice(writer.rooms)
        name = chance.choice(("request", "grant", "release", "cancel"))
        more = {"data": {"toUserId": "ann"}} if name == "grant" else {}
        own: tuple[Step, ...] = (
            ("veil", VEILED, chance.random() < 0.5),
            ("say", VEILED, showing_message(chance, room, writer.people)),
            ("say", VEILED, {"type": "playback", "roomId": room, "data": playback_data(chance)}),
            ("say", VEILED, {"type": f"control_{name}", "roomId": room, **more}),
        )
        script.append(writer.next() if chance.random() < 0.5 else chance.choice((*own, own[1], own[1])))
        if script[-1] == ("veil", VEILED, False):  # a visible person then reads the room's state
            script.append(writer.join(chance.choice(writer.people), room))
    return script


# --- comparison


def difference(steps: Sequence[Step], workers: int, options: RoomOptions | None = None) -> str:
    """Describe in a line or two the first message that a person gets only because of the hidden people; "" without
    one."""
    veiled = any(step[1] == VEILED for step in steps)
    # what an invisible client sends is dropped, but it still counts against the client's own rates
    limits = {"cursor_hz": 1000.0, "selection_hz": 1000.0, "typing_hz": 100.0, "presence_hz": 1000.0} if veiled else {}
    shadowed = any(step[1] == SHADOW for step in steps)
    told, without = (Story(hidden, workers, options, **limits).play(steps) for hidden in (True, False))
    for who in without:
        if (
            told[who] == without[who] or (shadowed and who == OWNER) or (veiled and who == "webhooks")
        ):  # becoming invisible causes no webhook event that a leave would
            continue
        pairs = [*zip(told[who], without[who], strict=False)]
        at = next((n for n, (one, other) in enumerate(pairs) if one != other), len(pairs))
        return f"{who}, message {at}:\n with    {told[who][at : at + 1]}\n without {without[who][at : at + 1]}"
    return ""


def shrink(steps: list[Step], workers: int, options: RoomOptions | None = None) -> list[Step]:
    """Return the story without all steps that are not needed for a difference."""
    size = len(steps) // 2
    while size:
        at = 0
        while at < len(steps):
            fewer = steps[:at] + steps[at + size :]
            if difference(fewer, workers, options):
                steps = fewer
            else:
                at += size
        size //= 2
    return steps


def complain(steps: list[Step], workers: int, options: RoomOptions | None = None) -> str:
    """Return the shortest story and its difference; "" without a difference."""
    if not difference(steps, workers, options):
        return ""
    steps = shrink(steps, workers, options)
    lines = "\n".join(f"    {step!r}," for step in steps)
    return f"{workers} workers: {difference(steps, workers, options)}\n{lines}"


def story_of(seed: int, steps: int) -> tuple[list[Step], int, RoomOptions]:
    """Return what a seed stands for: a story, the number of workers, the rooms' options."""
    writes = (write_veiled, write_shadowed, write, write)[seed % 4]
    return writes(seed, steps), (1, 1, 4)[seed % 3], RoomOptions(auto_grant=seed % 2 == 0)


def main() -> int:
    """Run the command line of the module's docstring; return 1 when there is a difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.two_worlds")
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    found = 0
    for seed in range(options.first, options.last + 1):
        if complaint := complain(*story_of(seed, options.steps)):
            found += 1
            print(f"seed {seed}, {complaint}", flush=True)
    print(f"{options.last - options.first + 1} seeds, {found} with a difference")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
