"""Model directories from the Hugging Face hub, and from its cache on this machine."""

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import (
    HfApi,
    snapshot_download,  # pyright: ignore[reportUnknownVariableType]
)
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from app.problems import UnusableEncoder

HUB_TIMEOUT_S = 3

FILES = (
    "onnx/vision_model.onnx",
    "onnx/vision_model.onnx_data",
    "onnx/text_model.onnx",
    "onnx/text_model.onnx_data",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
"""The files that are downloaded from a hub repository, if they exist."""


def cached(repository: str) -> Path | None:
    """Return the repository's folder in the cache, None if it is not there as a whole."""
    try:
        path = snapshot_download(repository, allow_patterns=list(FILES), local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    directory = Path(path)
    complete = all((directory / name).exists() for name in (FILES[0], "preprocessor_config.json"))
    return directory if complete else None


def answers(repository: str) -> bool:
    """Return whether the hub can be reached and has the repository."""
    try:
        HfApi().model_info(repository, timeout=HUB_TIMEOUT_S)
    except Exception:
        return False
    return True


def fetch(repository: str, announce: Callable[[str], None]) -> Path:
    """Return the repository's folder, downloaded if it is not cached; raises `UnusableEncoder`."""
    folder = cached(repository)
    if folder:
        return folder
    announce(f"Downloading {repository} from the Hugging Face hub (once)")
    try:
        path = snapshot_download(repository, allow_patterns=list(FILES))
    except Exception as exc:
        if isinstance(exc, HfHubHTTPError) and exc.response.status_code in (401, 404):
            raise UnusableEncoder(f"The Hugging Face hub has no model {repository}.") from exc
        raise UnusableEncoder(
            f"{repository} is not cached and could not be downloaded from the Hugging Face hub: "
            f"{str(exc).splitlines()[0]}. ENCODER=lite needs no download."
        ) from exc
    if not (Path(path) / FILES[0]).exists():
        raise UnusableEncoder(
            f"{repository} on the Hugging Face hub is not an ONNX export: it has no {FILES[0]}."
        )
    return Path(path)
