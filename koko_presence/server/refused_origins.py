"""Logs the origins of pages that were refused [A8]: what a browser shows of a refusal does not say why."""

import logging
from collections.abc import Callable, Sequence

log = logging.getLogger("koko_presence.origins")

AGAIN_S = 60.0
MAX_ORIGINS = 100  # of AGAIN_S; of more, which are invented, none is logged
MAX_CHARACTERS = 200


class RefusedOrigins:
    """The origins that were logged within the last AGAIN_S. Written by its own methods only; one per worker."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns monotonic seconds."""
        self._clock = clock
        self._until: dict[str, float] = {}  # in the order in which they were logged

    def note(self, origins: Sequence[str]) -> None:
        """Log a refusal of a request with these values of the header Origin, once for each origin in AGAIN_S. No page
        sends more than one value."""
        if len(origins) != 1:
            return
        now = self._clock()
        for origin, until in list(self._until.items()):
            if until > now:
                break
            del self._until[origin]
        refused = origins[0][:MAX_CHARACTERS]
        if refused in self._until or len(self._until) >= MAX_ORIGINS:
            return
        self._until[refused] = now + AGAIN_S
        log.warning("a page of the origin %s was refused: if it is yours, add it to server.origins and reload", refused)
