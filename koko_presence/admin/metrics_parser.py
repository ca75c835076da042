"""Parses the text of /metrics, and computes rates and quantiles from two readings of it."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from .metrics import PREFIX

_SAMPLE = re.compile(rf"^{PREFIX}(\w+)(?:\{{(.*)\}})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = frozenset[tuple[str, str]]


class Reading(NamedTuple):
    """All samples of one scrape by name and labels; `at` is in monotonic seconds, `wall_s` in seconds since 1970."""

    at: float
    wall_s: float
    samples: Mapping[str, Mapping[Labels, float]]

    def value(self, name: str, **labels: str) -> float:
        """Return one sample; 0.0 when it is missing."""
        return self.samples.get(name, {}).get(frozenset(labels.items()), 0.0)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the samples of a family, summed by one of their labels."""
        found: dict[str, float] = {}
        for labels, value in self.samples.get(name, {}).items():
            key = dict(labels).get(label, "")
            found[key] = found.get(key, 0.0) + value
        return found

    def total(self, name: str) -> float:
        """Return the sum of a family's samples."""
        return sum(self.samples.get(name, {}).values())


def read(text: str, *, at: float, wall_s: float) -> Reading:
    """Parse the text of /metrics. Errors: ValueError when it has no sample of this server."""
    samples: dict[str, dict[Labels, float]] = {}
    for name, labels, number in _SAMPLE.findall(text):
        samples.setdefault(name, {})[frozenset(_LABEL.findall(labels))] = float(number)
    if not samples:
        raise ValueError("no sample of koko_presence")
    return Reading(at, wall_s, samples)


class Between:
    """The difference between two readings."""

    def __init__(self, before: Reading, now: Reading) -> None:
        self.now = now
        self._before = before
        self._seconds = max(1e-3, now.at - before.at)

    def rate(self, name: str, **labels: str) -> float:
        """Return the rate per second of one sample, or without labels of the whole family. A counter that was reset has
        the rate 0."""
        if labels:
            return self._per_s(self._before.value(name, **labels), self.now.value(name, **labels))
        return self._per_s(self._before.total(name), self.now.total(name))

    def rates(self, name: str, label: str) -> dict[str, float]:
        """Return the rates per second by one label, the largest first, without zeros."""
        before = self._before.by(name, label)
        found = {key: self._per_s(before.get(key, 0.0), value) for key, value in self.now.by(name, label).items()}
        return {key: found[key] for key in sorted(found, key=lambda key: -found[key]) if found[key]}

    def quantile(self, share: float, name: str, **labels: str) -> float | None:
        """Return the quantile `share` of a histogram, interpolated linearly within its bucket; infinity above the last
        bound, None without observations."""
        counts = []
        before = self._before.samples.get(f"{name}_bucket", {})
        for found, value in self.now.samples.get(f"{name}_bucket", {}).items():
            given = dict(found)
            bound = float(given.pop("le"))
            if given == labels:
                counts.append((bound, value - before.get(found, 0.0)))
        counts.sort()
        if not counts or counts[-1][1] <= 0:
            return None
        rank, low, below = share * counts[-1][1], 0.0, 0.0
        for bound, count in counts:
            if count >= rank and count > below:
                return bound if bound == float("inf") else low + (bound - low) * (rank - below) / (count - below)
            low, below = bound, count
        return None

    def _per_s(self, before: float, now: float) -> float:
        return max(0.0, now - before) / self._seconds
