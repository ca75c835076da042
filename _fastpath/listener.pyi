from typing import Any

from picows import WSFrame, WSListener, WSTransport

from .gate import Gate

class FrameListener(WSListener):
    closing: bool
    parts: list[bytes] | None
    gate: Gate | None
    def on_frame(self, frame: WSFrame) -> None: ...
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None: ...

def forget_handshake(transport: Any) -> None: ...
