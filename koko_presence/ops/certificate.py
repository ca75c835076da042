"""The server's certificate and its key, read once and kept.

So a worker that is replaced does not depend on what the files hold by then: a renewal that is half done, or nothing.
"""

import errno
import os
import ssl
from functools import partial
from pathlib import Path

from msgspec import Struct

from .beside import in_thread
from .config import Server

READ_WITHIN_S = 10.0


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
