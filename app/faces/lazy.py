"""A finder whose models are loaded for the first image, as most commands look at none."""

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from app.faces import packages
from app.faces.face import Found, Level
from app.problems import MissingPackage

if TYPE_CHECKING:
    from app.faces.finder import FaceFinder

log = logging.getLogger(__name__)


class LazyFinder:
    """Finds the faces of images; may be used by many threads.

    Raises `MissingPackage` if a package of the level has not been fetched.
    """

    def __init__(self, data_dir: Path, level: Level) -> None:
        packages.require(data_dir, level)
        self.level: Level = level
        self._data_dir = data_dir
        self._lock = threading.Lock()
        self._loaded: FaceFinder | None = None
        self._problem: str | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether the models are in memory."""
        return self._loaded is not None

    def load(self) -> "FaceFinder":
        """Load the models, once; raises `MissingPackage` if they cannot be."""
        with self._lock:
            if self._problem is not None:
                # A new one: an exception that is raised again keeps every image it went past.
                raise MissingPackage(self._problem)
            if self._loaded is None:
                from app.faces.finder import FaceFinder

                try:
                    self._loaded = FaceFinder(self._data_dir, self.level)
                except MissingPackage as exc:
                    self._problem = exc.detail
                    raise
            return self._loaded

    def look(self, image: Image.Image) -> Found | None:
        """Return the faces in an upright RGB image; None if the models cannot be loaded.

        The first time, the log says why.
        """
        is_known = self._problem is not None
        try:
            return self.load().look(image)
        except MissingPackage as exc:
            if not is_known:
                log.error("Faces are not looked for: %s", exc.detail)  # noqa: TRY400
            return None
