"""The demo's film, made from a drawing: `make clip`."""
