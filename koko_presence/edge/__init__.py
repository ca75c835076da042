"""I/O with clients: one door, connections, sessions, outboxes, HTTP."""
