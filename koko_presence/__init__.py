"""koko_presence: a real-time presence server for people who look at a video together."""

__version__ = "0.1.0"
