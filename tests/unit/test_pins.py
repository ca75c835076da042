"""All that deploy/install.sh installs is pinned, with hashes, and agrees with pyproject.toml."""

import importlib.metadata
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PINS: dict[str, Any] = runpy.run_path(str(ROOT / "deploy/pins.py"))
FILES: dict[Path, list[str]] = PINS["wanted"]()


def needed(requirements: list[str], done: set[str]) -> Iterator[str]:
    """Yield the names of all packages that `requirements` need here, as far as they are installed."""
    for requirement in map(Requirement, requirements):
        for extra in ("", *requirement.extras):
            key = f"{PINS['normal'](requirement.name)}[{extra}]"
            if key in done or (requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})):
                continue
            done.add(key)
            yield PINS["normal"](requirement.name)
            of = importlib.metadata.requires(requirement.name) or []
            wanted = [Requirement(each) for each in of]
            yield from needed(
                [
                    str(each).partition(";")[0]
                    for each in wanted
                    if each.marker is None or each.marker.evaluate({"extra": extra})
                ],
                done,
            )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_all_that_is_installed_is_pinned_with_hashes(path: Path) -> None:
    pins = PINS["read"](path.read_text())  # raises for a line without hashes
    assert PINS["missing"](FILES[path], pins) == [], "run  make pins"
    assert set(needed(FILES[path], set())) <= pins.keys(), "run  make pins"
    assert len(pins) > len(FILES[path])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_pins_name_no_package_index(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("#") and not [line for line in lines[1:] if re.search(r"[/@]|\bindex|-i |^-", line)]


def test_the_installer_installs_nothing_without_hashes_but_its_own_wheel() -> None:
    lines = re.findall(r"pip_of .* (?:install|wheel|download) .*", (ROOT / "deploy/install.sh").read_text())
    others = [line for line in lines if "--require-hashes -r" not in line]
    assert len(lines) == 4
    assert all("--no-deps" in line and ("--no-index" in line or "--no-build-isolation" in line) for line in others)


def test_a_pin_that_is_missing_or_another_is_noticed() -> None:
    digest = "0" * 64
    pins = PINS["read"](f"aiohttp==3.0 \\\n    --hash=sha256:{digest}\n")
    assert PINS["missing"](["aiohttp==3.0"], pins) == []
    assert PINS["missing"](["aiohttp==3.1", "Py_JWT[crypto]==1"], pins) == ["aiohttp==3.1", "Py_JWT[crypto]==1"]
    assert PINS["text_of"](pins).endswith(f"aiohttp==3.0 \\\n    --hash=sha256:{digest}\n")
    with pytest.raises(ValueError, match="no name==version with hashes"):
        PINS["read"]("aiohttp==3.0\n")
