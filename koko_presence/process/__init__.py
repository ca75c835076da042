"""Processes of the service: worker, supervisor, fork server, and their channels, signals, folder and systemd link."""
