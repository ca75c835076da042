"""The text of `koko-presence default-config`: every key with its description, unit and default, as a TOML file.

Keys, defaults and descriptions come from the schema.
"""

import textwrap
from typing import Any

import msgspec

from koko_presence import __version__

from .schema import Key, keys

UNITS = {"_s": "seconds", "_ms": "milliseconds", "_hz": "per second", "_bytes": "bytes"}
WIDTH = 110  # of a comment, in characters


def unit(key: Key) -> str:
    """The unit of a key, by the end of its name; empty when it has none."""
    return next((unit for ending, unit in UNITS.items() if key.name.endswith(ending)), "")


def default_config_text() -> str:
    """A TOML file with every key, its description, unit and default. Loading it gives the defaults."""
    lines = [
        f"# koko-presence {__version__}: every key with its default. Keep the lines you change, delete the rest.",
        "# Each key is also an environment variable, KOKO_PRESENCE_<SECTION>_<KEY>, which wins over this file:",
        "# KOKO_PRESENCE_LIMITS_CURSOR_HZ=10. Lists are comma separated there, and empty means unset.",
    ]
    section = ""
    for key in keys():
        if key.section != section:
            section = key.section
            lines += ["", f"[{section}]"]
        lines += ["", *_comment(key), f"{key.name} = {_toml(key.default)}"]
    return "\n".join(lines) + "\n"


def _comment(key: Key) -> list[str]:
    text = key.description
    if unit(key):
        text += f" Unit: {unit(key)}."
    lines = textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return [f"# {line}" for line in lines]


def _toml(value: Any) -> str:
    # JSON's booleans, numbers, lists and plain strings are valid TOML
    return msgspec.json.encode(value).decode()
