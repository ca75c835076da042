"""Stores measured figures in a JSON file, with the reason for their acceptance, and compares new figures with them."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Baseline:
    """Figures by name; `versions` of the tools that influence them, `reason` of their acceptance."""

    figures: Mapping[str, float]
    reason: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Baseline":
        """Read the file; an empty baseline if it does not exist."""
        return cls(**json.loads(path.read_text())) if path.exists() else cls({})

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.__dict__, indent=2) + "\n")


@dataclass(frozen=True)
class Row:
    name: str
    before: float | None
    now: float | None

    @property
    def change(self) -> float | None:
        """The change relative to `before`: 0.03 is 3 % more. None if either figure is missing."""
        return None if self.before is None or self.now is None else self.now / self.before - 1.0


def compare(before: Mapping[str, float], now: Mapping[str, float]) -> list[Row]:
    """One row per name, including names that exist on one side only."""
    return [Row(name, before.get(name), now.get(name)) for name in {**now, **before}]


def worse(rows: list[Row], tolerance: float) -> list[Row]:
    """The rows that fail: more than `tolerance` (0.03 is 3 %) above the previous figure, or without one."""
    return [row for row in rows if row.change is None or row.change > tolerance]


def better(rows: list[Row], tolerance: float) -> list[Row]:
    return [row for row in rows if row.change is not None and row.change < -tolerance]


def table(rows: list[Row], form: str, tolerance: float) -> str:
    """Format name, before, now and change; rows out of tolerance are marked. `form` is the format of a figure."""

    def figure(value: float | None) -> str:
        return "-" if value is None else format(value, form)

    width = max((len(row.name) for row in rows), default=0)
    lines = [f"{'':{width}}  {'before':>12}  {'now':>12}  {'change':>8}"]
    for row in rows:
        change = row.change
        said = "new" if row.before is None else "gone" if change is None else f"{change:+.1%}"
        mark = "" if change is not None and abs(change) <= tolerance else "  <--"
        lines.append(f"{row.name:{width}}  {figure(row.before):>12}  {figure(row.now):>12}  {said:>8}{mark}")
    return "\n".join(lines)


def reason(text: str) -> str:
    """Parse the reason for a baseline, for argparse."""
    if len(text.split()) < 2:
        raise argparse.ArgumentTypeError('say why, in a few words: --accept "joins check the profile now"')
    return text.strip()
