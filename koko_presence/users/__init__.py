"""The rules of a user and its sessions. Pure: no asyncio, socket, clock or randomness; time is an argument."""
