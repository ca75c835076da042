"""Runs the command `koko-presence` as `python -m koko_presence`."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
