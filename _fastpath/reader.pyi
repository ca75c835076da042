from typing import Any

from .listener import FrameListener

class FrameReader:
    def __init__(self, listener: FrameListener, protocol: Any, first: bytes) -> None: ...
