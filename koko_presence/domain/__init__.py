"""The rules of presence, pure: no asyncio, no socket, no clock, no random; time is an argument."""
