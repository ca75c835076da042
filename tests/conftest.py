"""What all tests share: `make test` explores the same examples every time; HYPOTHESIS_PROFILE=thorough looks for new ones."""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("thorough", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
