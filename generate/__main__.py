"""Writes all generated files anew: `make generate`. A test compares them."""

from pathlib import Path

from . import typescript

ROOT = Path(__file__).resolve().parents[1]


def files() -> dict[str, str]:
    """Return the generated files: path below the root, text."""
    return {"koko_presence/web/sdk/presence-router.d.ts": typescript.router()}


if __name__ == "__main__":
    for path, text in files().items():
        (ROOT / path).write_text(text)
