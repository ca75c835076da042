"""Connects the edges and owners of all workers, and moves ownership between workers. With one worker a command is a
direct call."""
