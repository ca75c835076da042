"""Draws the random bytes of ids and keys that must not be guessable. No other module draws random bytes for ids."""

import secrets


def new_session_id() -> str:
    """Return a session id: 128 random bits, url-safe, 22 characters [A3]."""
    return secrets.token_urlsafe(16)


def new_hash_key() -> bytes:
    """Return a key of 128 bits for hashes that must resist chosen collisions."""
    return secrets.token_bytes(16)
