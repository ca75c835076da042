"""Assigns member colours [L8]: a user keeps the same colour where it is free, and no two sessions of a room have the
same one.

The first 24 are chosen by hand to be distinguishable, the specification's two first. Further colours step round the hue
circle by the golden angle in three lightnesses, which keeps consecutive colours apart for any number of sessions.
"""

from collections.abc import Container
from colorsys import hls_to_rgb
from functools import lru_cache
from zlib import crc32

PALETTE: tuple[str, ...] = (
    "#3B82F6", "#10B981", "#F59E0B", "#EF4444", "#8B5CF6", "#EC4899", "#14B8A6", "#F97316",
    "#6366F1", "#84CC16", "#06B6D4", "#D946EF", "#E11D48", "#22C55E", "#0EA5E9", "#A855F7",
    "#CA8A04", "#B45309", "#0D9488", "#7C3AED", "#DB2777", "#65A30D", "#2563EB", "#C2410C",
)  # fmt: skip

_GOLDEN_ANGLE = 0.381966
_LIGHTNESSES = (0.5, 0.4, 0.6)


@lru_cache(maxsize=4096)
def nth(index: int) -> str:
    """Return colour number `index` (from 0), as #RRGGBB."""
    if index < len(PALETTE):
        return PALETTE[index]
    step = index - len(PALETTE)
    red, green, blue = hls_to_rgb((step * _GOLDEN_ANGLE) % 1.0, _LIGHTNESSES[step % 3], 0.65)
    return f"#{round(red * 255):02X}{round(green * 255):02X}{round(blue * 255):02X}"


def choose(user_id: str, taken: Container[str]) -> str:
    """Return the user's preferred colour, or the next free one after it [L8]."""
    preferred = crc32(user_id.encode()) % len(PALETTE)
    for step in range(len(PALETTE)):
        color = PALETTE[(preferred + step) % len(PALETTE)]
        if color not in taken:
            return color
    index = len(PALETTE)
    while (color := nth(index)) in taken:
        index += 1
    return color
