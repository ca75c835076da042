"""Measures the fan-out of ten cursors to a number of receivers, against a fan-out in plain Python."""

from itertools import repeat
from typing import Any

import pytest

from koko_presence._fastpath.framing import frame_text

from .cases import BATCH, ISO, Batch, Run, Wire, measure

N = 100
HEAD = f'{{"type":"cursors","roomId":"video_123","timestamp":"{ISO}","data":['.encode()


class PlainBatch:
    """The same flush as a dict of lists of frames, joined and written at the end."""

    def __init__(self, receivers: int, *, compact: bool) -> None:
        self.compact = compact
        self.items = [(item.skip, item.compact if compact else item.frame) for item in Batch(receivers).items]
        self.wires = {f"session_{number}": Wire() for number in range(receivers)}

    def run(self, n: int) -> dict[str, Wire]:
        items, wires, compact = self.items, self.wires, self.compact
        for _ in repeat(None, n):
            waiting: dict[str, list[bytes]] = {session_id: [] for session_id in wires}
            for skip, part in items:
                for session_id, parts in waiting.items():
                    if session_id != skip:
                        parts.append(part or b"")
            for session_id, parts in waiting.items():
                wire = wires[session_id]
                wire.send_frames(frame_text(HEAD + b",".join(parts) + b"]}") if compact else b"".join(parts))
        return wires


@pytest.mark.parametrize("receivers", [2, 10, 100])
@pytest.mark.parametrize("kind", ["plain", "compact"])
@pytest.mark.parametrize("side", [Batch, PlainBatch], ids=["ours", "reference"])
def test_ten_cursors_for_receivers(benchmark: Any, side: type[Batch | PlainBatch], kind: str, receivers: int) -> None:
    run: Run = side(receivers, compact=kind == "compact").run
    wires = measure(benchmark, run, max(10, N * 10 // receivers))
    told = {session_id: wire.last[0] for session_id, wire in wires.items()}
    assert told == {session_id: wire.last[0] for session_id, wire in same_by_the_other(side, kind, receivers).items()}
    own = BATCH // min(receivers, BATCH)
    mark = b"],[" if kind == "compact" else b'"cursor_moved"'
    assert told["session_0"].count(mark) == BATCH - own - (kind == "compact")


def same_by_the_other(side: type[Batch | PlainBatch], kind: str, receivers: int) -> dict[str, Wire]:
    other = PlainBatch if side is Batch else Batch
    return other(receivers, compact=kind == "compact").run(1)
