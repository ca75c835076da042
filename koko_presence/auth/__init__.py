"""Who are you (tokens.py), may you enter (access.py)."""
