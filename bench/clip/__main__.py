"""Renders bench/clip/scene.js frame by frame in Chromium and encodes the film: `python -m bench.clip`, or `make clip`.

Writes koko_presence/web/demo/clip.mp4, and clip-graded.mp4 for the comparison: the same after a title of TITLE_S, in
colder colours. H.264 without sound, a key frame every two seconds for quick seeking, and the
index at the beginning so that playback starts before the download ends. Needs Chromium and ffmpeg (apt-get install).
"""

import base64
import functools
import http.server
import shutil
import subprocess
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
CLIP = HERE.parents[1] / "koko_presence" / "web" / "demo" / "clip.mp4"
GRADED = CLIP.with_name("clip-graded.mp4")
SIZE_LIMIT = 500_000
FPS = 24
TITLE_S = 2.5  # a whole number of frames
GRADE = (
    "colorbalance=rs=-.2:gs=-.02:bs=.22:rm=-.15:bm=.18:rh=-.1:bh=.1,eq=contrast=1.06:saturation=0.75,"
    f"scale=960:540:flags=lanczos,tpad=start_duration={TITLE_S}:color=0x14171d,"
    f"drawtext=text='Cut 2':fontcolor=white:fontsize=64:x=(w-text_w)/2:y=(h-text_h)/2:enable='lt(t,{TITLE_S})'"
)
ENCODE = (
    "-vf scale=1280:720:flags=lanczos -c:v libx264 -preset veryslow -tune animation -crf 32 -pix_fmt yuv420p "
    f"-g {2 * FPS} -movflags +faststart -map_metadata -1 -fflags +bitexact -flags:v +bitexact"
).split()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def film() -> int:
    """Render and encode the film; returns the size of the file in bytes. Errors: SystemExit if a tool is missing or the
    file is too large."""
    chromium, ffmpeg = shutil.which("chromium"), shutil.which("ffmpeg")
    if chromium is None or ffmpeg is None:
        raise SystemExit("clip: needs Chromium and ffmpeg: apt-get install chromium ffmpeg")
    folder = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(HERE)))
    threading.Thread(target=folder.serve_forever, daemon=True).start()
    encoder = subprocess.Popen(
        [ffmpeg, *f"-y -loglevel error -f image2pipe -c:v mjpeg -framerate {FPS} -i -".split(), *ENCODE, str(CLIP)],
        stdin=subprocess.PIPE,
    )
    assert encoder.stdin is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{folder.server_port}/film.html")
        page.wait_for_function("window.frame_at")
        for number in range(page.evaluate("window.frames_in_all")):
            encoder.stdin.write(base64.b64decode(page.evaluate("(number) => window.frame_at(number)", number)))
        browser.close()
    encoder.stdin.close()
    folder.shutdown()
    if encoder.wait() != 0:
        raise SystemExit("clip: ffmpeg could not encode it; its complaint is above")
    return size_of(CLIP)


def grade() -> int:
    """Encode the second film from the first; returns its size in bytes. Errors: as `film`."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise SystemExit("clip: needs ffmpeg: apt-get install ffmpeg")
    settings = ENCODE[ENCODE.index("-c:v") :]
    call = [ffmpeg, "-y", "-loglevel", "error", "-i", str(CLIP), "-vf", GRADE, *settings, str(GRADED)]
    if subprocess.run(call, check=False).returncode != 0:
        raise SystemExit("clip: ffmpeg could not encode the second film; its complaint is above")
    return size_of(GRADED)


def size_of(path: Path) -> int:
    """Return the size of a film in bytes. Errors: SystemExit if it is too large."""
    size = path.stat().st_size
    if size > SIZE_LIMIT:
        raise SystemExit(f"clip: {size} bytes are more than {SIZE_LIMIT}: raise -crf in {__file__}")
    return size


if __name__ == "__main__":
    print(f"{CLIP.name}: {film()} bytes")
    print(f"{GRADED.name}: {grade()} bytes")
