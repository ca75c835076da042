"""One writer per state: attributes that decide who receives what, and which replicas are valid, are written by the
modules of their class only. Others call its methods. docs/architecture.md has the whole table, "Writers of state".
Queries change nothing: properties, and functions with the name of a question."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from koko_presence.rooms.context import ShardContext
from koko_presence.server.room_membership import RoomMembership
from tests.unit.test_source import module_name, nodes, package_of, sources

EVERYWHERE = ("rooms", "users", "owner", "cluster", "server", "process", "admin")


@dataclass(frozen=True)
class Owned:
    """Attributes of a class, and the modules that may write them. `packages` are searched for other writers. Where
    other classes have attributes of these names, `receivers` are the names by which objects of this class go."""

    of: str
    attributes: frozenset[str]
    writers: tuple[str, ...]
    packages: tuple[str, ...] = EVERYWHERE
    receivers: tuple[str, ...] = ()


OWNED = (
    Owned(
        "Room",
        frozenset(
            ("changed", "edges", "flushed_seq", "replica_holders", "moved", "edges_to_notify", "restored_revision")
        ),
        ("rooms.room_state", "rooms.room"),
    ),
    Owned("Room and Person", frozenset(("members",)), ("rooms.room", "owner.reconcile")),
    Owned("Member", frozenset(("attached",)), ("rooms.room_state", "rooms.room")),
    Owned("Room and User", frozenset(("revision",)), ("rooms.room_state", "users.user")),
    Owned(
        "ShardContext",
        frozenset(ShardContext.__slots__),
        ("rooms.context",),
        receivers=("context", "_context"),
    ),
    Owned("Shard", frozenset(("freed", "_unknown_resumes_from", "_unknown_resumes_s")), ("owner.shard",)),
    Owned("UserHandlers", frozenset(("_denied",)), ("owner.user_handlers",)),
    Owned(
        "Session",
        frozenset(("ponged_at", "privacy", "unacknowledged_privacy", "privacy_version", "privacy_seq", "version")),
        ("server.session",),
        packages=("server", "process", "admin"),
    ),
    Owned(
        "Memberships",
        frozenset(("rooms", "joining", "behind_joins")),
        ("server.membership",),
        packages=("server", "process", "admin"),
    ),
    Owned(
        "RoomMembership",
        frozenset(RoomMembership.__slots__),
        ("server.room_membership",),
        packages=("server", "process", "admin"),
        receivers=("membership", "each"),
    ),
)
# module and expression -> why it is no violation
ALLOWED = {
    ("server.rpc", "message.privacy"): "a field of the message Join, which the call has applied",
    ("rooms.webhook_recorder", "room.context.webhook_sink"): "`append` is the method by which a sink takes an event",
}
MUTATORS = frozenset(
    (
        "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert",
        "intersection_update", "move_to_end", "pop", "popitem", "popleft", "remove", "reverse", "rotate", "setdefault",
        "sort", "symmetric_difference_update", "update",
    )
)  # fmt: skip
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def targets(target: ast.expr) -> Iterator[ast.expr]:
    """The single targets of an assignment."""
    if isinstance(target, ast.Tuple | ast.List):
        for each in target.elts:
            yield from targets(each)
    elif isinstance(target, ast.Starred):
        yield from targets(target.value)
    else:
        yield target


def changed_by(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions whose value or content a statement or call changes: `x.y` of `x.y = 1`, of `x.y[0] = 1`, of
    `x.y.add(1)` and of `setattr(x, "y", 1)`; also `x` of each."""
    found: list[ast.expr] = []
    if isinstance(node, ast.Assign | ast.Delete):
        found = [each for target in node.targets for each in targets(target)]
    elif isinstance(node, ast.AugAssign | ast.For | ast.AsyncFor | ast.comprehension) or (
        isinstance(node, ast.AnnAssign) and node.value is not None
    ):
        found = list(targets(node.target))
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        found = list(targets(node.optional_vars))
    elif isinstance(node, ast.Call):
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr in MUTATORS:
            yield called.value
            found = [called.value]
        elif isinstance(called, ast.Name) and called.id in ("setattr", "delattr") and len(node.args) > 1:
            yield node.args[0]
            if isinstance(node.args[1], ast.Constant):
                yield ast.Attribute(node.args[0], str(node.args[1].value), ast.Store())
    for target in found:
        each = target
        while isinstance(each, ast.Attribute | ast.Subscript):
            yield each
            each = each.value
        # a name may stand for an attribute's content, unless it is only assigned anew
        if each is not target or isinstance(node, ast.AugAssign):
            yield each


def aliases(function: ast.AST) -> dict[str, ast.Attribute]:
    """The names that a function gives to attributes' contents: `effects = context.effects`."""
    found: dict[str, ast.Attribute] = {}
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            for name, value in pairs:
                if isinstance(name, ast.Name) and isinstance(value, ast.Attribute):
                    found[name.id] = value
    return found


def written(source: str) -> Iterator[tuple[int, ast.Attribute]]:
    """Line and attribute of everything that a module writes: directly, in place, by another name in the same function,
    or by a name in a string."""
    for node in nodes(source):
        for each in changed_by(node):
            if isinstance(each, ast.Attribute):
                yield getattr(node, "lineno", each.value.lineno), each
    for function in nodes(source):
        if not isinstance(function, FUNCTIONS):
            continue
        known = aliases(function)
        for node in ast.walk(function):
            for each in changed_by(node) if known else ():
                if isinstance(each, ast.Name) and each.id in known:
                    yield getattr(node, "lineno", each.lineno), known[each.id]
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr":
                for text in ast.walk(function) if not isinstance(node.args[1], ast.Constant) else ():
                    if isinstance(text, ast.Constant) and isinstance(text.value, str):
                        yield text.lineno, ast.Attribute(node.args[0], text.value, ast.Store())


def foreign_writes(source: str, module: str) -> list[str]:
    """Where a module writes what it does not own. `self` of a class elsewhere is none of the table's classes."""
    found = set()
    for line, attribute in written(source):
        text, receiver = ast.unparse(attribute), ast.unparse(attribute.value)
        if receiver == "self" or (module, text) in ALLOWED:
            continue
        for owned in OWNED:
            if attribute.attr not in owned.attributes or module in owned.writers:
                continue
            if package_of(module) not in owned.packages:
                continue
            if not owned.receivers or receiver.split(".")[-1] in owned.receivers:
                found.add(f"{module}:{line} writes {text} of {owned.of}")
    return sorted(found)


def test_each_state_has_one_writer() -> None:
    assert [
        each for path in sources("koko_presence") for each in foreign_writes(path.read_text(), module_name(path))
    ] == []


def test_the_table_names_what_its_writers_write() -> None:
    texts = {module_name(path): path.read_text() for path in sources("koko_presence")}
    for owned in OWNED:
        found = {attribute.attr for module in owned.writers for _, attribute in written(texts[module])}
        found |= {  # declared with a value
            node.target.attr
            for module in owned.writers
            for node in nodes(texts[module])
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute)
        }
        assert owned.attributes <= found, owned.of


def test_what_is_allowed_is_there() -> None:
    texts = {module_name(path): path.read_text() for path in sources("koko_presence")}
    for module, text in ALLOWED:
        assert text in {ast.unparse(attribute) for _, attribute in written(texts[module])}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("cluster.transfer", "room.replica_holders &= others"),
        ("cluster.cluster_bus", "before, room.flushed_seq = room.flushed_seq, room.seq"),
        ("cluster.cluster_bus", "room.replica_holders.discard(1)"),
        ("cluster.cluster_bus", "self._rooms[room_id].edges = []"),
        ("owner.shard", "room.edges_to_notify.clear()"),
        ("owner.shard", "del room.changed"),
        ("rooms.lifetime", "room.members.clear()"),
        ("cluster.cluster_bus", "del self._shard.rooms[room_id].members[session_id]"),
        ("owner.shard", "room.members.pop(session_id)"),
        ("owner.takeover", "def f(room):\n    members = room.members\n    del members['x']"),
        ("rooms.lifetime", "person.members['x'] = member"),
        ("owner.reconcile", "member.attached: bool = True"),
        ("owner.reconcile", "setattr(member, 'attached', True)"),
        ("owner.reconcile", "def f(m, r):\n    for name in ('color', 'attached'):\n        setattr(m, name, r[name])"),
        ("owner.takeover", "user.revision += 1"),
        ("process.worker", "self.shard.context.limits = limits"),
        ("users.user", "self.context.effects.append(1)"),
        ("users.user", "self.context.effects += [1]"),
        ("users.user", "def f(self):\n    effects = self.context.effects\n    effects.append(1)"),
        ("users.user", "def f(self):\n    name, effects = '', self.context.effects\n    effects += [1]"),
        ("users.user", "def f(self):\n    effects = self.context.effects\n    effects[0] = 1"),
        ("server.hub", "session.memberships.rooms.clear()"),
        ("server.membership", "membership.state = 1"),
        ("server.self_service", "setattr(session.privacy, name, value)"),
        ("server.self_service", "session.privacy.invisible = True"),
        ("server.self_service", "session.unacknowledged_privacy['invisible'] = 1"),
        ("server.reauthorization", "membership.undecided = True"),
        ("server.rpc", "for session.version in (1, 2):\n    pass"),
    ],
)
def test_a_second_writer_is_noticed(module: str, line: str) -> None:
    assert len(foreign_writes(line, module)) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("rooms.room_state", "self.replica_holders = set()"),
        ("rooms.room", "self.edges_to_notify.add(member.edge)"),
        ("cluster.cluster_bus", "wanted = room.replica_holders - {1}\nroom.set_replica_holders(wanted)"),
        ("cluster.cluster_bus", "def f(room):\n    edges = room.edges\n    return edges"),
        ("process.worker", "self.hub.limits = limits"),
        ("protocol.snapshots", "self.revision = 1"),
        ("users.user", "session.privacy_version = 2"),
        ("users.user", "self.context.deadlines.set(key, 1.0)"),
    ],
)
def test_reading_and_writing_what_is_its_own_is_fine(module: str, line: str) -> None:
    assert foreign_writes(line, module) == []


QUESTION = re.compile(r"_?(?:is|has|may|can|was|wants)_|\w+_(?:of|since)$|what_")
DRAWS = re.compile(r"next_version$|(?:take|issue|note|mark|forget|begin|end)_")  # what changes state when it is called


def changing_queries(source: str) -> list[str]:
    """Properties, and functions with the name of a question, that write an attribute or call what does. Objects that a
    function makes itself may be written."""
    found = []
    for function in nodes(source):
        if not isinstance(function, ast.FunctionDef):
            continue
        is_property = any(
            isinstance(each, ast.Name) and each.id in ("property", "cached_property")
            for each in function.decorator_list
        )
        answers = function.returns is None or ast.unparse(function.returns) != "None"
        if not is_property and not (answers and QUESTION.match(function.name)):
            continue
        given = {"self", *(each.arg for each in function.args.args)}
        for node in ast.walk(function):
            writes = any(
                isinstance(each, ast.Attribute) and ast.unparse(each).split(".")[0].split("[")[0] in given
                for each in changed_by(node)
            )
            draws = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and DRAWS.match(node.func.attr)
            if writes or draws:
                found.append(f"{function.name}:{getattr(node, 'lineno', function.lineno)}")
    return found


def test_queries_change_nothing() -> None:
    found = {module_name(path): changing_queries(path.read_text()) for path in sources("koko_presence")}
    assert {module: lines for module, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "body",
    [
        "@property\ndef profile(self):\n    return Profile(version=self.context.next_version())",
        "def edges_of(self, room):\n    room.edges_to_notify.clear()\n    return []",
        "def is_stuck(self, taken):\n    self._taken = taken\n    return True",
        "def stuck_since(self, now):\n    self._looked = (1, now)\n    return now",
        "def is_refused(self, room_id):\n    return self._refused.pop(room_id, None)",
        "@property\ndef count(self):\n    self._counts['x'] += 1\n    return 1",
    ],
)
def test_a_query_that_changes_something_is_noticed(body: str) -> None:
    assert len(changing_queries(body)) == 1


@pytest.mark.parametrize(
    "body",
    [
        "def take_due(self):\n    self._due = []",
        "def is_new(self, a):\n    found = Row()\n    found.x = a\n    return found.x",
        "@property\ndef width(self):\n    return self._width",
    ],
)
def test_a_command_and_a_query_that_only_reads_are_fine(body: str) -> None:
    assert changing_queries(body) == []
