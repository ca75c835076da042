"""The rules of a room. Pure: no asyncio, socket, clock or randomness; time is an argument."""
