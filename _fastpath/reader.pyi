from typing import Any

from picows import WSTransport

from .listener import FrameListener

class FrameReader:
    def __init__(self, listener: FrameListener, protocol: Any, ws_transport: WSTransport) -> None: ...
