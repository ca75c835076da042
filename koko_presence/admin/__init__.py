"""Admin: the operator port with health, metrics and server API, and the `top` screen."""
