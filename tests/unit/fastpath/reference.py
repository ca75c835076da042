"""Helpers for tests of the compiled part: frames parsed in plain Python."""


def frames_in(data: bytes) -> list[bytes]:
    """Return the payloads of consecutive unmasked text frames."""
    payloads = []
    while data:
        assert data[0] == 0x81
        size, head = data[1], 2
        if size == 126:
            size, head = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[2:10], "big"), 10
        assert len(data) >= head + size
        payloads.append(data[head : head + size])
        data = data[head + size :]
    return payloads
