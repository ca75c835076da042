"""The rules of a user and its sessions. Pure: no asyncio, no socket, no clock, no randomness; time is an argument."""
