"""Ids that must not be guessed. The only place that draws random bytes for names on the wire."""

import secrets


def new_session_id() -> str:
    """A session's name: 128 random bits, url-safe, 22 characters [A3]."""
    return secrets.token_urlsafe(16)


def new_hash_key() -> bytes:
    """A key of 128 bits for hashes whose collisions must not be looked for."""
    return secrets.token_bytes(16)
