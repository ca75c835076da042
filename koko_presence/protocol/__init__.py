"""Every message, event, command, snapshot, error and limit, each declared once."""
