"""Makes films whose every frame carries its number, so that a page can read which frame a browser displays.

The number is a row of black and white blocks, `BITS` of them, the highest bit first, above a row of the same blocks
inverted: a picture between two frames, a torn one or one that is not of these films is not read as a number (page.js).
Below them a moving ramp gives the encoder something to predict. Films are made once and kept in build/clips.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

BITS = 16  # the lowest 4 are a check sum
WIDTH, HEIGHT = 320, 180
BLOCK_PX, ROW_PX = WIDTH // BITS, 40
FOLDER = Path(__file__).parents[2] / "build" / "clips"
VERSION = 1  # of what follows; another one makes all films anew

RATES = {
    "23.976": Fraction(24000, 1001),
    "24": Fraction(24),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "50": Fraction(50),
    "59.94": Fraction(60000, 1001),
}
# B-frames are decoded in another order than they are shown in; a long group of pictures makes a seek decode many.
# WebM stores times in whole ms, so the times of its frames are not exact multiples of the frame's duration.
CODECS = {
    "h264": ("mp4", "-c:v libx264 -preset veryfast -crf 26 -bf 3 -b_strategy 0 -g 250 -movflags +faststart"),
    "vp9": ("webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 0 -crf 40 -g 300"),
    "av1": ("mp4", "-c:v libsvtav1 -preset 12 -crf 45 -g 300 -movflags +faststart"),
}


@dataclass(frozen=True)
class Encoding:
    """One codec at one frame rate; `name` is CODEC-RATE, as in h264-23.976."""

    codec: str
    rate_name: str

    @property
    def name(self) -> str:
        return f"{self.codec}-{self.rate_name}"

    @property
    def rate(self) -> Fraction:
        """Frames a second, exact."""
        return RATES[self.rate_name]

    @property
    def frame_rate(self) -> float | str:
        """The rate as `media` takes it: 25 or "24000/1001" [H17]."""
        return float(self.rate) if self.rate.denominator == 1 else str(self.rate)


ENCODINGS = {each.name: each for codec in CODECS for rate in RATES for each in [Encoding(codec, rate)]}


def check_sum(number: int) -> int:
    """Four bits: the sum of the number's nibbles, plus 5 so that frame 0 has white blocks."""
    return (number + (number >> 4) + (number >> 8) + 5) & 15


def picture(number: int) -> bytes:
    """Frame `number`, 0 to 4095, in gray."""
    bits = number << 4 | check_sum(number)
    blocks = [b"\xff" * BLOCK_PX if bits >> shift & 1 else b"\x00" * BLOCK_PX for shift in reversed(range(BITS))]
    row = b"".join(blocks)
    ramp = bytes((x * 2 + number * 3) & 255 for x in range(WIDTH))
    return row * ROW_PX + row.translate(_INVERTED) * ROW_PX + ramp * (HEIGHT - 2 * ROW_PX)


_INVERTED = bytes(reversed(range(256)))


def clip(encoding: Encoding, seconds: float, folder: Path = FOLDER) -> Path:
    """The film of `seconds`, at most 4096 frames; made if it is not in `folder` yet. Errors: SystemExit without ffmpeg,
    or if it cannot encode."""
    suffix, options = CODECS[encoding.codec]
    count = round(seconds * encoding.rate)
    if not 0 < count <= 4096:
        raise ValueError(f"{seconds} s at {encoding.rate_name} frames/s are {count} frames; a number has 12 bits")
    path = folder / f"{encoding.name}-{count}-v{VERSION}.{suffix}"
    if path.exists():
        return path
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise SystemExit("clips: needs ffmpeg. Type: make test (it installs one), or: sudo apt-get install ffmpeg")
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished-{os.getpid()}-{path.name}")
    source = f"-y -loglevel error -f rawvideo -pix_fmt gray -s {WIDTH}x{HEIGHT} -r {encoding.rate} -i -"
    command = [ffmpeg, *source.split(), *options.split(), "-pix_fmt", "yuv420p", str(unfinished)]
    encoder = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert encoder.stdin is not None and encoder.stderr is not None
    try:
        for number in range(count):
            encoder.stdin.write(picture(number))
    except BrokenPipeError:
        pass  # its error message says why
    _, complaint = encoder.communicate()
    if encoder.returncode != 0:
        raise SystemExit(f"clips: ffmpeg could not make {path.name}: {complaint.decode()[-500:]}")
    unfinished.rename(path)
    return path
