"""The signature of requests to the application: a known vector, and everything that is not a valid one."""

import pytest

from koko_presence.webhooks.signature import sign, verify

SECRET = "a secret of at least 32 bytes, from your vault"
BODY = b'{"id":"evt_1","events":[]}'
# printf '1736937000.{"id":"evt_1","events":[]}' | openssl dgst -sha256 -hmac "$SECRET"
SIGNATURE = "t=1736937000,v1=8b784b62640f5dfcbddffc0cf478ea564ffeba50d14c7811974bd5cbec0d6761"


def test_the_signature_is_what_openssl_computes() -> None:
    assert sign(SECRET, BODY, 1_736_937_000.9) == SIGNATURE
    assert verify(SECRET, BODY, SIGNATURE, 1_736_937_100.0)


@pytest.mark.parametrize(
    ("secret", "body", "header", "now_s"),
    [
        (SECRET + "x", BODY, SIGNATURE, 1_736_937_000.0),
        (SECRET, BODY + b" ", SIGNATURE, 1_736_937_000.0),
        (SECRET, BODY, SIGNATURE.replace("1736937000", "1736937001"), 1_736_937_000.0),
        (SECRET, BODY, SIGNATURE[:-1], 1_736_937_000.0),
        (SECRET, BODY, SIGNATURE.upper(), 1_736_937_000.0),
        (SECRET, BODY, "", 1_736_937_000.0),
        (SECRET, BODY, "t=,v1=", 1_736_937_000.0),
        (SECRET, BODY, SIGNATURE + ",v1=" + "0" * 64, 1_736_937_000.0),
        (SECRET, BODY, SIGNATURE, 1_736_937_000.0 + 301),  # recorded, and replayed later
        (SECRET, BODY, SIGNATURE, 1_736_937_000.0 - 301),
    ],
)
def test_no_other_signature_is_valid(secret: str, body: bytes, header: str, now_s: float) -> None:
    assert not verify(secret, body, header, now_s)
