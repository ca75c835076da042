"""Declares every message, event, command, snapshot, error and limit, each once."""
