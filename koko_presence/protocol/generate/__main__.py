"""Writes all generated files anew: `make generate`. A test compares them."""

from pathlib import Path

from . import json_schema, python_client, typescript

ROOT = Path(__file__).resolve().parents[3]


def files() -> dict[str, str]:
    """Return the generated files: path below the root, text."""
    return {
        "docs/protocol.schema.json": json_schema.schema(),
        "koko_presence/client/models.py": python_client.client_models(),
        "koko_presence/web/sdk/presence-router.d.ts": typescript.router(),
        "koko_presence/web/sdk/protocol.d.ts": typescript.protocol(),
    }


if __name__ == "__main__":
    for path, text in files().items():
        (ROOT / path).write_text(text)
