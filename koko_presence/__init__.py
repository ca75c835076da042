"""koko_presence: a real-time presence server for groups of users who watch a video together."""

__version__ = "0.1.0"
