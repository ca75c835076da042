"""Signs and verifies the requests of this server to the application: HMAC-SHA-256 over time and body.

    koko-signature: t=1736937000,v1=5257a869e7...

`t` is the unix second at which the request was sent; `v1` is the hex HMAC of `t`, a dot and the body as received. The
receiver also refuses a `t` that is minutes old, so that a recorded request cannot be replayed. docs/webhooks.md has the
code. The module holds no state.
"""

import hashlib
import hmac
import re

HEADER = "koko-signature"
TOLERANCE_S = 300.0

_SHAPE = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")


def sign(secret: str, body: bytes, now_s: float) -> str:
    """Return the header's value for `body`, sent at unix second `now_s`."""
    at = int(now_s)
    return f"t={at},v1={_mac(secret, at, body)}"


def verify(secret: str, body: bytes, header: str, now_s: float, tolerance_s: float = TOLERANCE_S) -> bool:
    """Return True when `header` is the signature of `body` and its time is at most `tolerance_s` seconds from unix
    second `now_s`."""
    found = _SHAPE.fullmatch(header)
    if found is None or abs(now_s - int(found[1])) > tolerance_s:
        return False
    return hmac.compare_digest(found[2], _mac(secret, int(found[1]), body))


def _mac(secret: str, at: int, body: bytes) -> str:
    return hmac.new(secret.encode(), b"%d.%b" % (at, body), hashlib.sha256).hexdigest()
