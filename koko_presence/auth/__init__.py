"""Authentication: verifies which user a token or a cookie belongs to."""
