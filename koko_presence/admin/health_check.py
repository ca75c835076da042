"""Queries whether a server is ready, for `koko-presence health`."""

import http.client
import json
import urllib.error
import urllib.request
from typing import NamedTuple

TIMEOUT_S = 2.0


class Answer(NamedTuple):
    ready: bool
    line: str  # the text to print


def query(url: str) -> Answer:
    """Send a GET request to `url` with a time-out of two seconds; a status of 2xx is ready."""
    # proxies from the environment are not used for a probe
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_S) as answer:
            return Answer(True, f"ready: {url} answers {answer.status}")
    except urllib.error.HTTPError as error:
        return Answer(False, f"not ready: {url} answers {error.code}{_reason(error)}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        return Answer(False, f"not ready: {url}: {reason}{no_server_hint(error)}")


def no_server_hint(error: Exception) -> str:
    """What to do when no server listens on the operator port; empty after another error."""
    reason = getattr(error, "reason", error)
    if not isinstance(reason, ConnectionRefusedError):
        return ""
    return (
        ". Does the server run, and with this configuration (--config FILE)? A changed operator.host or operator.port "
        "takes effect at a restart only, not at a reload: until then use --url with the old one"
    )


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return f": {json.loads(error.read(10_000))['reason']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
