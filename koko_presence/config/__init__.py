"""Configuration: its schema, checks, reload, certificates, and the process log."""
