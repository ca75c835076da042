"""Authentication: who a token or cookie belongs to."""
