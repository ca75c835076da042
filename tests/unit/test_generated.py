"""The generated files are those that `make generate` writes."""

import pytest

from koko_presence.protocol.generate.__main__ import ROOT, files

FILES = files()


@pytest.mark.parametrize("path", FILES)
def test_a_generated_file_is_up_to_date(path: str) -> None:
    assert (ROOT / path).read_text() == FILES[path], (
        f"{path} does not follow koko_presence/protocol: run  make generate"
    )
