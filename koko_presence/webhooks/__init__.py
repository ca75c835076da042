"""Webhooks: room events are delivered to the application's back end, signed."""
