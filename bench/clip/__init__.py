"""Renders the film of the demo page: `make clip`."""
