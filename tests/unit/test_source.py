"""The source itself: imports go down the floors of docs/architecture.md, and our own known mistakes stay out."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "koko_presence"
COMPILED = ROOT / "_fastpath"
BESIDE = ("auth", "ops")  # beside floors 4 to 7
FLOORS = {
    "": 0,
    **dict.fromkeys(
        (
            "messages",
            "decoding",
            "events",
            "commands",
            "news",
            "errors",
            "limits",
            "ids",
            "counts",
            "records",
            "happenings",
            "signing",
            "probe_rules",
            "inquiries",
            "hosts",
            "addresses",
            "static_files",
            "upstreams",
        ),
        0,
    ),
    "_fastpath": 1,
    "domain": 2,
    **dict.fromkeys(("shard", "userdesk", "succession"), 3),
    "cluster": 4,
    "edge": 5,
    **dict.fromkeys(
        (
            "checking",
            "verifiers",
            "worker",
            "worker_process",
            "fork_server",
            "fork_client",
            "supervisor",
            "service",
            "answering",
            "operating",
        ),
        6,
    ),
    **dict.fromkeys(("cli", "__main__"), 7),
}
IMPURE = {"asyncio", "uvloop", "socket", "time", "random", "secrets", "threading", "os"}
MAX_SLEEP_S = 0.2


@cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    """Every node of a syntax tree; each file of the package is parsed once for all tests."""
    return tuple(ast.walk(ast.parse(source)))


def sources(*folders: str, suffixes: tuple[str, ...] = (".py",)) -> list[Path]:
    return sorted(
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes and path.is_file()
    )


def module_name(path: Path) -> str:
    """`koko_presence/edge/door.py` is `edge.door`; the package itself is ``."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def room_of(module: str) -> str:
    return module.split(".")[0]


def imports(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and target of every import: our own modules as `edge.door` with a leading dot, others as they are."""
    for node in nodes(source):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, _ours(alias.name)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                parts = module.split(".") if module else []
                base = parts[: len(parts) - node.level + (1 if is_package and module else 0)]
                target = "." + ".".join([*base, *(node.module or "").split(".")]).strip(".")
            else:
                target = _ours(node.module or "")
            if target == ".":
                for alias in node.names:
                    known = alias.name in FLOORS or alias.name in BESIDE or alias.name == "client"
                    yield node.lineno, "." + alias.name if known else "."
            else:
                yield node.lineno, target


def _ours(name: str) -> str:
    if name == "koko_presence" or name.startswith("koko_presence."):
        return "." + name.removeprefix("koko_presence").removeprefix(".")
    return name


def may_import(importer: str, target: str) -> bool:
    """Whether module `importer` may import module `target`, both as in module_name."""
    mine, theirs = room_of(importer), room_of(target)
    if mine == theirs:
        return True
    if mine in BESIDE or mine == "client":
        return FLOORS.get(theirs) == 0
    if theirs in BESIDE:
        return FLOORS[mine] >= 4
    return theirs in FLOORS and FLOORS[theirs] <= FLOORS[mine]


def upward_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    return [
        f"{module or '__init__'}:{line} imports {target[1:]}"
        for line, target in imports(source, module, is_package)
        if target.startswith(".") and not may_import(module, target[1:])
    ]


def test_every_module_stands_on_a_floor() -> None:
    rooms = {room_of(module_name(path)) for path in sources("koko_presence")}
    assert rooms <= {*FLOORS, *BESIDE, "client"}


def test_imports_go_down_only() -> None:
    found = []
    for path in sources("koko_presence"):
        found += upward_imports(path.read_text(), module_name(path), path.name == "__init__.py")
    assert found == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("domain.room", "from ..shard import Shard"),
        ("domain.room", "from koko_presence.edge.session import Session"),
        ("domain.room", "import koko_presence.cluster.bus"),
        ("shard", "from .cluster import bus"),
        ("shard", "from .ops import logs"),
        ("shard", "def f():\n    from . import worker"),
        ("messages", "from ._fastpath import throttle"),
        ("ops.logs", "from ..domain.room import Room"),
        ("auth.tokens", "from ..ops.config import Config"),
        ("client", "from .edge.session import Session"),
        ("edge.door", "from ..worker import run"),
        ("cluster.mesh", "from ..edge import door"),
    ],
)
def test_an_import_upwards_is_noticed(module: str, line: str) -> None:
    assert len(upward_imports(line, module)) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        (
            "domain.room",
            "from .user import User\nfrom ..messages import Cursor\nfrom .._fastpath.throttle import TokenBucket",
        ),
        ("edge.door", "from ..auth.tokens import TokenVerifier\nfrom ..ops import logs\nfrom ..shard import Shard"),
        ("cli", "from . import __version__, worker\nfrom .ops.config import load"),
        ("ops.logs", "from .. import __version__\nfrom .config import Log\nfrom ..limits import Limits"),
    ],
)
def test_an_import_downwards_is_fine(module: str, line: str) -> None:
    assert upward_imports(line, module) == []


def test_domain_and_shard_have_no_clock_no_socket_and_no_chance() -> None:
    pure = [*sources("koko_presence/domain"), *(path for path in [PACKAGE / "shard.py"] if path.exists())]
    found = [
        f"{module_name(path)}:{line} imports {target}"
        for path in pure
        for line, target in imports(path.read_text(), module_name(path), path.name == "__init__.py")
        if target.split(".")[0] in IMPURE
    ]
    assert pure and found == []


def test_only_the_command_line_and_operations_print() -> None:
    found = [
        f"{module_name(path)}:{node.lineno}"
        for path in sources("koko_presence")
        if room_of(module_name(path)) not in ("cli", "ops")
        for node in nodes(path.read_text())
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert found == []


def long_sleeps(source: str) -> list[int]:
    """Lines that really sleep longer than a test may, or for a time that cannot be read off."""
    lines = []
    for node in ast.walk(ast.parse(source)) if "sleep(" in source else ():
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep"):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id in ("time", "asyncio")):
            continue
        seconds = node.args[0] if node.args else None
        short = isinstance(seconds, ast.Constant) and isinstance(seconds.value, int | float)
        if not (short and isinstance(seconds, ast.Constant) and seconds.value <= MAX_SLEEP_S):
            lines.append(node.lineno)
    return lines


def test_no_test_sleeps_for_long() -> None:
    found = [f"{path.relative_to(ROOT)}:{line}" for path in sources("tests") for line in long_sleeps(path.read_text())]
    assert found == []


def test_a_long_sleep_is_noticed() -> None:
    assert long_sleeps("time.sleep(0.3)\ntime.sleep(0.1)\nawait_ = asyncio.sleep(n)") == [1, 3]


def everything() -> list[Path]:
    suffixes = (
        ".py",
        ".pyx",
        ".pxd",
        ".pyi",
        ".md",
        ".toml",
        ".js",
        ".ts",
        ".css",
        ".html",
        ".json",
        ".service",
        ".sh",
    )
    top = [path for path in ROOT.iterdir() if path.is_file() and path.suffix in (*suffixes, "")]
    folders = ("koko_presence", "_fastpath", "tests", "bench", "docs", "deploy", ".ci")
    nested = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (*suffixes, "")]
    return [path for path in top + nested if path.is_file() and "__pycache__" not in path.parts]


def first_of_a_dict(text: str) -> list[str]:
    """Attributes whose first entry is looked for although they are no OrderedDict: a dict that loses its entries from the
    front steps over all that it has lost, each time."""
    wanted = set(re.findall(r"next\(iter\(self\.(_\w+)", text))
    return sorted(name for name in wanted if not re.search(rf"self\.{name}: .*\bOrderedDict\[", text))


def test_what_is_taken_from_the_front_is_an_ordered_dict() -> None:
    assert {path.name: found for path in sources("koko_presence") if (found := first_of_a_dict(path.read_text()))} == {}


def test_a_dict_whose_first_entry_is_taken_is_noticed() -> None:
    assert first_of_a_dict("self._kept: dict[str, int] = {}\ndel self._kept[next(iter(self._kept))]") == ["_kept"]


def test_nothing_is_left_for_later() -> None:
    later = re.compile("|".join(("TO" + "DO", "FIX" + "ME")))
    found = [str(path.relative_to(ROOT)) for path in everything() if later.search(path.read_text(errors="replace"))]
    assert found == []


def test_no_file_names_the_machine_it_was_written_on() -> None:
    foreign = re.compile(r"(?<![\w.])/" + "work/|py" + r"pi\.org|python" + "hosted|regi" + r"stry\.npm")
    found = [str(path.relative_to(ROOT)) for path in everything() if foreign.search(path.read_text(errors="replace"))]
    assert found == []
