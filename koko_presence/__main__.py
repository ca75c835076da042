"""`python -m koko_presence` is `koko-presence`."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
