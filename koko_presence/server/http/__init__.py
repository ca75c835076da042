"""The public HTTP side: the site, tRPC over HTTP and over WebSocket."""
