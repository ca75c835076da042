"""Authorization: whether a user may enter a room, and with which permissions."""
