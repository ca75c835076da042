"""Webhooks: events of rooms are delivered to the application's back end, signed."""
