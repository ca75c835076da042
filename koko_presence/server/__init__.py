"""I/O with clients: listener, handshake, WebSocket connections, sessions and their memberships."""
