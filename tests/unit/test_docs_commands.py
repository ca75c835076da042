"""The commands and the configuration in README and docs are accepted: each `koko-presence` command line by the parser,
each indented part of a configuration by check-config."""

import re
import shlex
from pathlib import Path

import pytest

from koko_presence import cli

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PROGRAMS = ("systemctl", "journalctl", "ls ", "ps ", "pgrep")  # there koko-presence is the name of the unit
PLACES = {"FILE": "/etc/koko-presence/koko-presence.toml", "OLD": "8080"}


def command_lines() -> list[str]:
    """Each command line with a subcommand: in code spans, in fenced blocks and in indented ones."""
    found = []
    for path in FILES:
        text = path.read_text()
        spans = re.findall(r"`(koko-presence [a-z][^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        lines = [line.strip().removeprefix("TOKEN=$(").removesuffix(")") for line in text.splitlines()]
        found += [span.replace("\n", " ") for span in spans]
        found += [line for line in lines if re.match(r"(\.venv/bin/)?koko-presence [a-z]", line)]
    commands = [re.split(r" +#| [|&>]", line.removeprefix(".venv/bin/"))[0] for line in found]
    return sorted(
        {line for line in commands if not line.startswith("koko-presence worker")}
    )  # a process of the service


LINES = command_lines()


def test_the_command_lines_are_found() -> None:
    assert len(LINES) > 12
    assert {line.split()[1] for line in LINES} >= {"serve", "token", "check-token", "check-config", "default-config"}


@pytest.mark.parametrize("line", LINES)
def test_each_command_line_is_one_of_the_program(line: str) -> None:
    words = [PLACES.get(word, word) for word in shlex.split(line)][1:]
    if words[0] == "token" and "--user" not in words:
        words += ["--user", "jane"]  # prose leaves it out
    assert cli._parser().parse_args(words).command


def indented_toml() -> list[str]:
    """Indented parts of the configuration: they begin with a table."""
    blocks = []
    for path in FILES:
        blocks += re.findall(
            r"^((?:    \[(?:server|auth|limits|log|operator|access|webhooks|rooms)[\w.]*\]\n)(?:(?:    .*)?\n)+)",
            path.read_text(),
            re.MULTILINE,
        )
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


@pytest.mark.parametrize("text", indented_toml())
def test_each_part_of_a_configuration_is_accepted(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOKO_PRESENCE_AUTH_SECRET", "a secret of at least 32 bytes, from your vault")
    path = tmp_path / "presence.toml"
    path.write_text(text)
    assert cli.main(["check-config", "--config", str(path)]) == 0


def test_there_are_such_parts() -> None:
    assert indented_toml()
