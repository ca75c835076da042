"""Processes: worker, supervisor, fork server, and what surrounds them."""
