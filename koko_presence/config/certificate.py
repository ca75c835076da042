"""The server's certificate and its key, read once and kept in memory.

A worker that is replaced later then does not depend on the files, which may be half renewed or missing by then.
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
    """Read the certificate that `server` names, in a thread beside the loop; None when it names none. Errors: OSError,
    also when reading takes longer than `within_s` seconds (default: READ_WITHIN_S); ssl.SSLError when chain and key do
    not match."""
    if not server.tls_cert:
        return None
    within_s = READ_WITHIN_S if within_s is None else within_s
    try:
        return await in_thread(partial(Certificate.read, server), within_s)
    except TimeoutError as error:
        if error.errno is not None:  # ETIMEDOUT of the file system
            raise
        text = f"{server.tls_cert} and {server.tls_key} could not be read within {within_s:g} s: does a mount hang?"
        raise OSError(errno.ETIMEDOUT, text) from None
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from None


class Certificate(Struct, frozen=True):
    """A certificate chain and its private key, both as PEM text."""

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Certificate(...)"  # keeps the key out of logs

    @classmethod
    def read(cls, server: Server) -> "Certificate":
        """Read the certificate that `server` names. Blocks. Errors: OSError; ssl.SSLError when chain and key do not
        match."""
        certificate = cls(Path(server.tls_cert).read_bytes(), Path(server.tls_key).read_bytes())
        certificate.context()
        return certificate

    def context(self) -> ssl.SSLContext:
        """A TLS server's context, TLS 1.2 or newer. Errors: ssl.SSLError when the texts cannot be used; OSError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # the ssl module takes file names only; these two files are in memory and visible to this process only
        with _file(self.chain) as chain, _file(self.key) as key:
            context.load_cert_chain(chain.name, key.name, password=_no_password)
        return context


def fault(server: Server) -> str:
    """Return why the certificate that `server` names cannot be used, with the key of the configuration in front; empty
    when it can. Blocks while it reads the files."""
    if not (server.tls_cert and server.tls_key):
        return ""
    try:
        Certificate.read(server)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"server.tls_key: {server.tls_key} is not the key of the certificate in {server.tls_cert}"
        return f"server.tls_cert: {server.tls_cert} and {server.tls_key} are not a certificate and its key: {error}"
    except OSError as error:
        return f"server.tls_cert: {server.tls_cert} and {server.tls_key} cannot be read: {error.strerror or error}"
    return ""


def warning(server: Server, now_s: float) -> str:
    """A line that the certificate has expired, is not valid yet, or expires within SOON_S of `now_s` (seconds since
    1970); empty otherwise. To be called when `fault` returns nothing."""
    from cryptography.x509 import load_pem_x509_certificate  # only check-config needs it

    if not server.tls_cert:
        return ""
    try:
        found = load_pem_x509_certificate(Path(server.tls_cert).read_bytes())
    except (OSError, ValueError):  # OpenSSL accepts certificates that cryptography does not
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
    """Without a callback OpenSSL prompts for the password at the terminal, and waits."""
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
