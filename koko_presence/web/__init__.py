"""What browsers are served: the SDK, the demo and the operators' live page."""
