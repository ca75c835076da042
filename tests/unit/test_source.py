"""The source itself: imports go down the layers of docs/architecture.md, and known kinds of mistakes are absent."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "koko_presence"
COMPILED = ROOT / "_fastpath"
# package -> the packages it may import, besides itself; docs/architecture.md draws it
RULES = ("protocol", "_fastpath")
ANSWERS = ("protocol", "config", "web", "admin", "webhooks", "auth", "access")
OWNERS = (*RULES, "rooms", "users", "owner", "cluster")
LAYERS: dict[str, tuple[str, ...]] = {
    "protocol": (),
    "_fastpath": ("protocol",),
    "config": ("protocol",),
    "web": (),
    "admin": ("protocol", "config", "web"),
    "webhooks": ("protocol", "config"),
    "auth": ("protocol", "config", "admin"),
    "access": ("protocol", "config", "admin", "webhooks", "auth"),
    "rooms": RULES,
    "users": (*RULES, "rooms"),
    "owner": (*RULES, "rooms", "users"),
    "cluster": (*RULES, "rooms", "users", "owner"),
    "server": (*OWNERS, *ANSWERS),
    "process": (*OWNERS, *ANSWERS, "server"),
    "client": ("protocol",),
}
ROOT_MODULES: dict[str, tuple[str, ...]] = {
    "": (),  # koko_presence/__init__.py: the version
    "cli": ("_fastpath", *ANSWERS, "process"),
    "__main__": ("cli",),
}
PURE = ("rooms", "users", "owner")
IMPURE = {"asyncio", "uvloop", "socket", "time", "random", "secrets", "threading", "os"}
MAX_SLEEP_S = 0.2


@cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    """Return every node of a syntax tree; each file of the package is parsed once for all tests."""
    return tuple(ast.walk(ast.parse(source)))


def sources(*folders: str, suffixes: tuple[str, ...] = (".py",)) -> list[Path]:
    return sorted(
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes and path.is_file()
    )


def module_name(path: Path) -> str:
    """Return the module's name: `koko_presence/server/hub.py` is `server.hub`, the package itself is ``."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def package_of(module: str) -> str:
    return module.split(".")[0]


def imports(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield line and target of every import, those in functions included: own modules as `server.hub` with a leading
    dot, others by their names."""
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
            if target.startswith("."):
                for alias in node.names:
                    full = f"{target}.{alias.name}".replace("..", ".")
                    yield node.lineno, full if full[1:] in modules() else target
            else:
                yield node.lineno, target


def _ours(name: str) -> str:
    if name == "koko_presence" or name.startswith("koko_presence."):
        return "." + name.removeprefix("koko_presence").removeprefix(".")
    return name


@cache
def modules() -> dict[str, Path]:
    """Return all modules and packages by name, the compiled ones included."""
    found = {module_name(path): path for path in sources("koko_presence")}
    return found | {f"_fastpath.{path.stem}": path for path in COMPILED.glob("*.pyx")}


def may_import(importer: str, target: str) -> bool:
    """Whether module `importer` may import module `target`, both as in module_name."""
    mine, theirs = package_of(importer), package_of(target)
    return mine == theirs or not theirs or theirs in {**LAYERS, **ROOT_MODULES}[mine]


def upward_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    return [
        f"{module or '__init__'}:{line} imports {target[1:]}"
        for line, target in imports(source, module, is_package)
        if target.startswith(".") and not may_import(module, target[1:])
    ]


def test_the_root_holds_packages_and_the_command_line() -> None:
    assert {module for module in modules() if "." not in module} <= {*LAYERS, *ROOT_MODULES}


def test_the_layers_have_an_order() -> None:
    """A package that another may import may not import that one, not even indirectly."""
    above: dict[str, set[str]] = {}
    for package, below in LAYERS.items():  # written from the lowest to the highest
        assert set(below) <= above.keys()
        above[package] = set(below)


def test_imports_go_down_only() -> None:
    found = []
    for path in sources("koko_presence"):
        found += upward_imports(path.read_text(), module_name(path), path.name == "__init__.py")
    assert found == []


def test_imports_of_the_compiled_part_go_down_only() -> None:
    found = [
        f"{path.name}: {package}"
        for path in sources("_fastpath", suffixes=(".pyx", ".pxd", ".pyi"))
        for package in re.findall(r"^\s*(?:from|import|cimport) koko_presence\.(\w+)", path.read_text(), re.MULTILINE)
        if not may_import("_fastpath", package)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("rooms.room", "from ..owner.shard import Shard"),
        ("rooms.room", "from koko_presence.server.session import Session"),
        ("rooms.room", "from koko_presence.users import user"),
        ("rooms.room", "import koko_presence.cluster.bus"),
        ("rooms.room", "if TYPE_CHECKING:\n    from koko_presence.config.schema import Config"),
        ("owner.shard", "from ..cluster import bus"),
        ("owner.shard", "from ..config import logs"),
        ("owner.shard", "def f():\n    from koko_presence.process import worker"),
        ("protocol.messages", "from .._fastpath import throttle"),
        ("config.logs", "from ..rooms.room import Room"),
        ("auth.hmac_jwt", "from ..access.policy import Access"),
        ("client", "from .server.session import Session"),
        ("server.acceptor", "from ..process.worker import run"),
        ("cluster.mesh", "from ..server import acceptor"),
    ],
)
def test_an_import_upwards_is_noticed(module: str, line: str) -> None:
    assert len(upward_imports(line, module)) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        (
            "users.user",
            "from .session import UserSession\nfrom ..protocol.messages import Cursor\n"
            "from .._fastpath.throttle import TokenBucket",
        ),
        (
            "server.acceptor",
            "from ..auth.hmac_jwt import issue_token\nfrom ..config import logs\nfrom ..rooms.room import Room",
        ),
        ("cli", "from . import __version__\nfrom .process import worker\nfrom .config.schema import load"),
        ("config.logs", "from .. import __version__\nfrom .schema import Log\nfrom ..protocol.limits import Limits"),
    ],
)
def test_an_import_downwards_is_fine(module: str, line: str) -> None:
    assert upward_imports(line, module) == []


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that reach each other by imports [Tarjan 1972]."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        numbers[module] = lowest[module] = len(numbers)
        stack.append(module)
        for target in sorted(graph.get(module, ())):
            if target not in numbers:
                visit(target)
            if target in stack:
                lowest[module] = min(lowest[module], lowest[target])
        if lowest[module] == numbers[module]:
            group = set(stack[stack.index(module) :])
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(group)

    for module in sorted(graph):
        if module not in numbers:
            visit(module)
    return found


def test_no_modules_import_each_other() -> None:
    """Imports for types only and those in functions count, too."""
    graph = {
        name: {
            target[1:]
            for _, target in imports(path.read_text(), name, path.name == "__init__.py")
            if target.startswith(".") and target[1:] != name
        }
        for name, path in modules().items()
        if path.suffix == ".py" and name
    }
    assert circles(graph) == []


def test_a_circle_of_imports_is_noticed() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [{"a", "b", "c"}]


def test_the_rules_have_no_clock_no_socket_and_no_chance() -> None:
    pure = [path for package in PURE for path in sources(f"koko_presence/{package}")]
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
        if package_of(module_name(path)) not in ("cli", "admin", "process")
        for node in nodes(path.read_text())
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert found == []


def long_sleeps(source: str) -> list[int]:
    """Return the lines that really sleep longer than a test may, or for a time that is no literal."""
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
    """Return the attributes whose first entry is looked up although they are no OrderedDict: a dict that loses entries
    from the front skips all the removed ones at each look-up."""
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
