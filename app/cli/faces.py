"""The commands `faces` and `faces fetch`."""

from app.cli.terminal import bar, say, show_json, show_line
from app.faces import packages
from app.indexing.face_maker import Looked
from app.lookalike import open_lookalike
from app.problems import InvalidRequest
from app.settings import Settings, read_settings
from app.store.faces import FaceTable
from app.store.index import open_index


def fetch() -> None:
    """Install the models that FACES needs; raises `MissingPackage` if that fails."""
    settings = read_settings()
    level = _level(settings)
    packages.fetch(settings.data_dir, level, say)
    say(f"FACES={level} has its models.")


async def look(*, as_json: bool) -> None:
    """Look for faces in the images of the index in which it was not done."""
    settings = read_settings()
    level = _level(settings)
    if packages.missing(settings.data_dir, level):
        raise InvalidRequest(f"The models are missing: {packages.FETCH_COMMAND}")
    async with open_lookalike(settings, announce=say) as lookalike:
        maker = lookalike.face_maker
        if maker is None:
            raise InvalidRequest("The models cannot be used; the line above says why.")
        before = await lookalike.faces.progress(level)
        looked = Looked(0, 0)
        with bar("Looking for faces", before.of - before.made) as show:
            async for looked in maker.run():
                show(looked.images)
        faces = await lookalike.faces.count()
    if as_json:
        show_json({"images": looked.images, "thumbnails": looked.thumbnails, "faces": faces})
        return
    show_line(f"Looked for faces in {looked.images} images; the index has {faces}.")
    if looked.thumbnails:
        say(
            f"In {looked.thumbnails} of them only in the thumbnail, as the original could not be "
            "had: small faces may be missing."
        )


async def forget(*, as_json: bool) -> None:
    """Erase all faces and what was made of them, whatever FACES is."""
    async with open_index(read_settings(), announce=say) as index:
        gone = await FaceTable(index.database, index.catalog).forget()
    if as_json:
        show_json({"images": gone.images, "faces": gone.faces})
    else:
        show_line(f"Erased {gone.faces} faces of {gone.images} images.")


def _level(settings: Settings) -> packages.Level:
    if settings.faces == "off":
        raise InvalidRequest("FACES is off: set it to boxes, attributes or vectors first.")
    return settings.faces
