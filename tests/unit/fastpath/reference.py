"""What tests of the compiled part share: frames taken apart in plain Python."""


def frames_in(data: bytes) -> list[bytes]:
    """The payloads of unmasked text frames that stand one behind the other."""
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
