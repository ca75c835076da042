"""docs/tokens.md: its snippets make tokens that the server takes."""

import re
import subprocess
import time
from pathlib import Path

from koko_presence.auth.tokens import HmacVerifier

TEXT = (Path(__file__).parent.parent.parent / "docs" / "tokens.md").read_text()
SECRET = "a secret of at least 32 bytes, from your vault"


def check(token: str) -> None:
    who = HmacVerifier(SECRET).verify(token, time.time())
    assert (who.user_id, who.name) == ("user_456", "Jane Smith")
    assert who.rooms == {"video_123": ("join", "control", "broadcast"), "project_*": ("join",)}


def test_the_python_snippet() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, str] = {}
    exec(code, names)
    check(names["token"])


def test_the_node_snippet(tmp_path: Path) -> None:
    (code,) = re.findall(r"```js\n(.*?)```", TEXT, re.DOTALL)
    script = tmp_path / "token.mjs"
    script.write_text(code)
    run = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=20, check=True)
    check(run.stdout.strip())
