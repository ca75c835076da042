"""Serves public HTTP: static files and health checks, tRPC over HTTP and over WebSocket."""
