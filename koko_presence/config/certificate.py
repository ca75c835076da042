"""The server's certificate and its key, read once and kept.

So a worker that is replaced does not depend on what the files hold by then: a renewal that is half done, or nothing.
"""

import errno
import os
import ssl
from functools import partial
from pathlib import Path

from msgspec import Struct

from .background_io import in_thread
from .schema import Server

READ_WITHIN_S = 10.0
SOON_S = 3 * 86_400.0


async def read_certificate(server: Server, within_s: float | None = None) -> "Certificate | None":
    """The one that `server` names, None when it names none. It is read beside the loop, as its files may be on a mount
    that hangs. Errors: OSError, also when that takes longer than `within_s` seconds, READ_WITHIN_S unless it is given;
    ssl.SSLError when chain and key do not belong together."""
    if not server.tls_cert:
        return None
    within_s = READ_WITHIN_S if within_s is None else within_s
    try:
        return await in_thread(partial(Certificate.read, server), within_s)
    except TimeoutError as error:
        if error.errno is not None:  # the file system's own
            raise
        text = f"{server.tls_cert} and {server.tls_key} could not be read within {within_s:g} s: does a mount hang?"
        raise OSError(errno.ETIMEDOUT, text) from None
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from None


class Certificate(Struct, frozen=True):
    """PEM texts: the chain and its key."""

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Certificate(...)"  # the key is in no log

    @classmethod
    def read(cls, server: Server) -> "Certificate":
        """The one that `server` names. Errors: OSError; ssl.SSLError when chain and key do not belong together."""
        certificate = cls(Path(server.tls_cert).read_bytes(), Path(server.tls_key).read_bytes())
        certificate.context()
        return certificate

    def context(self) -> ssl.SSLContext:
        """For a server that speaks TLS. Errors: ssl.SSLError for texts that are of no use, OSError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # the module takes names of files only; these two exist in memory, and for this process alone
        with _file(self.chain) as chain, _file(self.key) as key:
            context.load_cert_chain(chain.name, key.name, password=_no_password)
        return context


def fault(server: Server) -> str:
    """Why the certificate that `server` names cannot be served with, in words and with its key; empty when it can.
    Reads its files, which may take long."""
    if not (server.tls_cert and server.tls_key):
        return ""
    try:
        Certificate.read(server)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"server.tls_key: {server.tls_key} is not the key of the certificate in {server.tls_cert}"
        return f"server.tls_cert: {server.tls_cert} and {server.tls_key} are no certificate and its key: {error}"
    except OSError as error:
        return f"server.tls_cert: {server.tls_cert} and {server.tls_key} cannot be read: {error.strerror or error}"
    return ""


def warning(server: Server, now_s: float) -> str:
    """That the certificate has expired, is not valid yet or expires within SOON_S of `now_s`, seconds since 1970; empty
    when none of these is so. For one without a `fault`."""
    from cryptography.x509 import load_pem_x509_certificate  # only check-config needs it

    if not server.tls_cert:
        return ""
    try:
        found = load_pem_x509_certificate(Path(server.tls_cert).read_bytes())
    except (OSError, ValueError):  # OpenSSL takes more than it does
        return ""
    start = f"server.tls_cert: the certificate in {server.tls_cert}"
    if now_s >= found.not_valid_after_utc.timestamp():
        return f"{start} has expired, at {found.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if now_s < found.not_valid_before_utc.timestamp():
        return f"{start} is not valid before {found.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    if now_s >= found.not_valid_after_utc.timestamp() - SOON_S:
        return f"{start} expires at {found.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    return ""


def _no_password() -> str:
    """OpenSSL would ask for it at the terminal, and wait."""
    raise ssl.SSLError("the key is encrypted: give one without a password")


class _file:
    """A text under a name for as long as the block lasts."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def __enter__(self) -> "_file":
        self._fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
        self.name = f"/proc/self/fd/{self._fd}"
        os.write(self._fd, self._text)
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)
