"""The rules of a room. Pure: no asyncio, no socket, no clock, no randomness; time is an argument."""
