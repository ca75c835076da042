"""The operator's side: metrics, the operator port and its API, the live page, `top`."""
