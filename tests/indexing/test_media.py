import asyncio
from pathlib import Path

import pytest

from app.indexing.media import Media
from app.problems import NotFound, WrongSetting

SHA256 = "ab" * 32


@pytest.mark.parametrize("root", ["{}", "file://{}", "memory://{}"])
def test_files_are_saved_and_deleted(tmp_path: Path, root: str) -> None:
    media = Media(root.format(tmp_path / "media"))

    async def run() -> None:
        await media.save(SHA256, b"first")
        await media.save(SHA256, b"second")
        assert await media.load(SHA256) == b"second"
        await media.delete(SHA256)
        await media.delete(SHA256)
        with pytest.raises(NotFound):
            await media.load(SHA256)

    asyncio.run(run())


@pytest.mark.parametrize("root", ["gs://bucket/prefix", "nothing://x"])
def test_storage_that_cannot_be_opened_is_a_wrong_setting(root: str) -> None:
    with pytest.raises(WrongSetting, match="MEDIA_URL"):
        Media(root)


def test_files_survive_a_restart(tmp_path: Path) -> None:
    asyncio.run(Media(str(tmp_path)).save(SHA256, b"kept"))
    assert asyncio.run(Media(str(tmp_path)).load(SHA256)) == b"kept"
