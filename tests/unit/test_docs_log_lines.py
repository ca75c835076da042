"""docs/operations.md lists every log line of level warning and above, each with its level, and none that is gone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "operations.md").read_text().split("\n## Log lines\n")[1].split("\n## ")[0]
LEVELS = {"warning": "warning", "error": "error", "exception": "error", "critical": "critical"}
PLACE = re.compile(r"%[sdrg]")

# texts that are not the argument of a call, by the place that logs them
ELSEWHERE = {
    "koko_presence/process/supervisor.py": "server.workers: is %s, and the service may use the time of %s cores; ...",
    "koko_presence/client/dispatcher.py": "%s: %s (logged once; client.on('error', ...) gets every error)",
}
# listed lines that no call of a logger with this text writes, and what proves them
OTHERWISE = {
    "FILE:NUMBER: CATEGORY: TEXT": "logging.captureWarnings(True)",
    "N lines lost": "lines lost",
    "suppressed N more of: TEXT": "more of: ",
    "no worker could be started in 10 s, the last failure: REASON": "no worker could be started in ",
    "unknown message ignored: START...": "unknown message ignored: ",
    "no memory is left: this process ends": "no memory is left: this process ends",
}


class Line(NamedTuple):
    text: str  # with %s for each value
    level: str
    place: str


class Listed(NamedTuple):
    text: str  # capitals stand for a value, "..." for the rest
    levels: str


def logged() -> Iterator[Line]:
    for path in sorted((ROOT / "koko_presence").rglob("*.py")):
        place = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
                continue
            if ast.unparse(node.func.value) != "log":
                continue
            text = ast.literal_eval(node.args[0])
            yield Line(ELSEWHERE[place] if text == "%s" else text, LEVELS[node.func.attr], place)
    for path in sorted((ROOT / "_fastpath").glob("*.pyx")):
        for call, text in re.findall(r"\blog\.(\w+)\(\s*\"([^\"]*)\"", path.read_text()):
            if call in LEVELS:
                yield Line(text, LEVELS[call], str(path.relative_to(ROOT)))


def listed() -> Iterator[Listed]:
    for line in SECTION.splitlines():
        if line.startswith("| `"):
            cells = re.split(r" \| ", line.strip("| "))
            yield from (Listed(text, cells[1]) for text in texts(cells[0]))
    faults = " ".join(SECTION.split("### Faults of the server")[1].split("\n### ")[0].split())
    yield from (Listed(text, "error") for text in texts(faults))


def texts(cell: str) -> list[str]:
    """The code spans of a cell, without the names of fields and loggers, which stand in parentheses."""
    return re.findall(r"`([^`]+)`", re.sub(r"\([^()`]*`[\w.]+`[^()]*\)", "", cell))


def same(line: Line, entry: Listed) -> bool:
    """True when the entry is this line's, with values or capitals in the places of the line."""
    text = PLACE.sub("\0", line.text)
    if entry.text.endswith("...") and not line.text.endswith("..."):
        start = entry.text.removesuffix("...").rstrip()
        return re.match(pattern(text), start) is not None or text.replace("\0", "").startswith(start)
    values = re.sub(r"\b[A-Z]+\b", "\0", entry.text)
    return bool(re.fullmatch(pattern(text), entry.text) or re.fullmatch(pattern(values), line.text))


def pattern(text: str) -> str:
    return ".+".join(map(re.escape, text.split("\0")))


CODE, DOCUMENT = list(logged()), list(listed())


def test_the_calls_and_the_tables_are_found() -> None:
    assert len(CODE) > 80 and len(DOCUMENT) > 80
    assert {line.level for line in CODE} >= {"warning", "error"}


@pytest.mark.parametrize("line", CODE, ids=lambda line: line.text[:60])
def test_every_line_of_level_warning_and_above_is_listed_with_its_level(line: Line) -> None:
    entries = [entry for entry in DOCUMENT if same(line, entry)]
    assert entries, f"docs/operations.md#log-lines lacks: {line.text} ({line.place})"
    assert any(line.level in entry.levels for entry in entries), (line, entries)


@pytest.mark.parametrize("entry", DOCUMENT, ids=lambda entry: entry.text[:60])
def test_every_listed_line_is_one_of_the_code(entry: Listed) -> None:
    if entry.text in OTHERWISE:
        files = (*(ROOT / "koko_presence").rglob("*.py"), *(ROOT / "_fastpath").glob("*.pyx"))
        code = "".join(path.read_text() for path in files)
        assert OTHERWISE[entry.text] in code
    else:
        assert any(same(line, entry) for line in CODE), f"nothing logs {entry.text!r}"
