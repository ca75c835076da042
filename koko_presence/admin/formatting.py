"""Formats numbers for terminal screens: short, with a unit, of bounded width."""

from collections.abc import Sequence

UNICODE, ASCII = "▁▂▃▄▅▆▇█", ".:-=+*%#"


def amount(value: float) -> str:
    """Format a count or a rate in at most seven characters."""
    if value < 9.95 and value != int(value):
        return f"{value:.1f}"
    if value < 99_999.5:
        return f"{value:,.0f}"
    return f"{value / 1e6:.1f} M" if value >= 999_500 else f"{value / 1e3:.0f} k"


def size(value: float) -> str:
    """Format a number of bytes."""
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000.0
    return f"{value:.1f} GB"


def seconds(value: float | None) -> str:
    """Format a duration in seconds with its unit; None as "-", infinity as "> 10 s"."""
    if value is None:
        return "-"
    if value == float("inf"):
        return "> 10 s"
    if value < 0.9995:
        return f"{value * 1e3:.1f} ms" if value < 0.00995 else f"{value * 1e3:.0f} ms"
    return f"{value:.1f} s"


def long_time(value: float) -> str:
    """Format a duration in seconds as minutes, hours or days."""
    minutes, days = int(value // 60), int(value // 86_400)
    if minutes < 1:
        return f"{max(0, int(value))} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if days < 2 else f"{days} d {minutes // 60 % 24} h"


def bar(share: float, width: int, marks: str = UNICODE) -> str:
    """Format `share`, from 0 to 1, as a bar of `width` characters."""
    full = round(min(1.0, max(0.0, share)) * width)
    return marks[-1] * full + ("░" if marks is UNICODE else " ") * (width - full)


def spark(values: Sequence[float | None], width: int, marks: str = UNICODE) -> str:
    """Format the last `width` values as a sparkline, scaled to the highest of them; a blank for None."""
    shown = values[-width:] if width > 0 else []
    highest = max((value for value in shown if value is not None and value != float("inf")), default=0.0) or 1.0
    text = "".join(
        " " if value is None else marks[min(len(marks) - 1, int(min(1.0, value / highest) * (len(marks) - 0.01)))]
        for value in shown
    )
    return text.rjust(width)
