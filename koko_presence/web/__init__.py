"""Files for browsers: the SDK, the demo and the operators' live page."""
