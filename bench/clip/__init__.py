"""Renders the films of the demo: `make clip`."""
