import ctypes
import sys

import pytest

from app.encoding import memory


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_memory_is_returned_only_where_there_is_a_function_for_it(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    """As on systems whose C library has none."""

    class Without:
        def __init__(self, name: object) -> None:
            assert platform == "linux"

    monkeypatch.setattr(sys, "platform", platform)
    memory.return_freed_memory()
    monkeypatch.setattr(ctypes, "CDLL", Without)
    memory.return_freed_memory()
