"""Which model directory is used: a folder, or one downloaded from a hub on loopback."""

import hashlib
from collections.abc import Generator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from app.encoding.lite import lite_directory
from app.encoding.weights import BUILTIN_DIRECTORY, CLIP, find_weights
from app.problems import UnusableEncoder
from tests.live import Loop
from tests.onnx_models import write_clip
from tests.process import lookalike

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """The endpoints of the Hugging Face hub that a download uses."""

    def __init__(self) -> None:
        self.address = ""
        self.repositories: dict[str, Path] = {}
        self.broken = False
        self.cut = False
        self.asked: list[str] = []

    def app(self) -> Starlette:
        name = "{owner}/{name}"
        return Starlette(
            routes=[
                Route(f"/api/models/{name}", self.model),
                Route(f"/api/models/{name}/revision/{{revision}}", self.model),
                Route(f"/api/models/{name}/tree/{{revision}}", self.tree),
                Route(f"/{name}/resolve/{{revision}}/{{path:path}}", self.file),
            ]
        )

    async def model(self, request: Request) -> Response:
        name = f"{request.path_params['owner']}/{request.path_params['name']}"
        self.asked.append(name)
        folder = self.repositories.get(name)
        if folder is None:
            return JSONResponse({"error": "not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        return JSONResponse(
            {"id": name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
        )

    async def tree(self, request: Request) -> Response:
        folder = self.repositories[f"{request.path_params['owner']}/{request.path_params['name']}"]
        if self.broken:
            return JSONResponse({"error": "out of order"}, 403)
        return JSONResponse(
            [
                {
                    "type": "file",
                    "path": str(path.relative_to(folder)),
                    "size": path.stat().st_size,
                    "oid": hashlib.sha1(path.read_bytes()).hexdigest(),  # noqa: S324
                }
                for path in folder.rglob("*")
                if path.is_file()
            ]
        )

    async def file(self, request: Request) -> Response:
        folder = self.repositories[f"{request.path_params['owner']}/{request.path_params['name']}"]
        data = (folder / request.path_params["path"]).read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if request.method == "GET" and self.cut:
            self.cut = False
            # Fewer bytes than declared, so that the connection breaks halfway.
            headers["Content-Length"] = str(len(data))
            return StreamingResponse(iter([data[: len(data) // 2]]), headers=headers)
        return Response(data, headers=headers)


@pytest.fixture
def hub(loop: Loop) -> Generator[Hub]:
    hub = Hub()
    with loop.serving(hub.app()) as hub.address:
        yield hub


def fetch(hub: Hub, name: str, tmp_path: Path, **environment: str) -> tuple[int, str, str]:
    cache = str(tmp_path / "cache")
    done = lookalike("model", "fetch", name, HF_ENDPOINT=hub.address, HF_HOME=cache, **environment)
    return done.returncode, done.stdout, done.stderr


def test_a_folder_and_the_builtin_model_are_found() -> None:
    builtin = find_weights("builtin", indexed=(), data_dir=Path("data"), announce=print)
    assert (builtin.directory, builtin.source) == (BUILTIN_DIRECTORY, "builtin")


def test_the_source_of_a_folder_is_its_full_path(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "my-clip")
    weights = find_weights(str(folder), indexed=(), data_dir=Path("data"), announce=print)
    assert (weights.name, weights.directory, weights.source) == ("my-clip", folder, str(folder))


@pytest.mark.parametrize("choice", ["clop", "/no/such/folder", "a/b/c", "./missing"])
def test_a_meaningless_choice_is_named(choice: str) -> None:
    with pytest.raises(UnusableEncoder) as caught:
        find_weights(choice, indexed=(), data_dir=Path("data"), announce=print)
    assert f"ENCODER={choice}" in caught.value.detail


def test_auto_keeps_the_encoder_of_the_index(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "old")
    announced: list[str] = []
    weights = find_weights(
        "auto", indexed=(str(folder), "builtin"), data_dir=tmp_path, announce=announced.append
    )
    assert weights.directory == folder
    assert any(str(folder) in line for line in announced)


def test_a_model_is_downloaded_once_and_then_needs_no_network(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["owner/tiny"] = write_clip(tmp_path / "tiny")
    code, out, err = fetch(hub, "owner/tiny", tmp_path)
    assert code == 0, err
    assert "name: owner/tiny" in out
    assert "precision: int8" in out
    assert "text: True" in out
    assert "Downloading owner/tiny" in err
    asked = len(hub.asked)
    code, out, err = fetch(hub, "owner/tiny", tmp_path, HF_HUB_OFFLINE="1")
    assert (code, "name: owner/tiny" in out) == (0, True)
    assert len(hub.asked) == asked


def test_a_broken_connection_does_not_fail_the_download(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["owner/tiny"] = write_clip(tmp_path / "tiny", text=False)
    hub.cut = True
    code, out, err = fetch(hub, "owner/tiny", tmp_path)
    assert (code, "name: owner/tiny" in out) == (0, True), err
    assert not hub.cut


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A setting of DATA_DIR where lite has been made, which takes some seconds."""
    folder = tmp_path_factory.mktemp("data")
    lite_directory(folder, lambda _: None)
    return {"DATA_DIR": str(folder)}


def test_auto_falls_back_to_lite_when_the_download_fails(
    hub: Hub, tmp_path: Path, made: dict[str, str]
) -> None:
    hub.repositories[CLIP] = write_clip(tmp_path / "clip")
    hub.broken = True
    code, out, err = fetch(hub, "auto", tmp_path, **made)
    assert (code, "name: lite" in out) == (0, True), err
    assert "using the encoder lite" in err


def test_offline_without_a_cache_is_reported_in_one_line(hub: Hub, tmp_path: Path) -> None:
    code, _, err = fetch(hub, "owner/tiny", tmp_path, HF_HUB_OFFLINE="1")
    assert code == 1
    assert "owner/tiny is not cached" in err.splitlines()[-1]
    assert hub.asked == []


def test_a_missing_repository_or_one_without_a_model_is_reported_in_one_line(
    hub: Hub, tmp_path: Path
) -> None:
    code, _, err = fetch(hub, "owner/nothing", tmp_path)
    expected = "lookalike: The Hugging Face hub has no model owner/nothing."
    assert (code, err.splitlines()[-1]) == (1, expected)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "preprocessor_config.json").write_text("{}")
    hub.repositories["owner/other"] = tmp_path / "other"
    code, _, err = fetch(hub, "owner/other", tmp_path)
    assert (code, "is not an ONNX export" in err) == (1, True)


def test_auto_chooses_clip_if_the_hub_answers_and_lite_otherwise(
    hub: Hub, tmp_path: Path, made: dict[str, str]
) -> None:
    hub.repositories[CLIP] = write_clip(tmp_path / "clip")
    code, out, err = fetch(hub, "auto", tmp_path)
    assert (code, f"name: {CLIP}" in out) == (0, True), err
    # Cached by now, so it is chosen without the hub.
    code, out, _ = fetch(hub, "auto", tmp_path, HF_HUB_OFFLINE="1")
    assert f"name: {CLIP}" in out
    code, out, err = fetch(hub, "auto", tmp_path / "elsewhere", HF_HUB_OFFLINE="1", **made)
    assert (code, "name: lite" in out) == (0, True)
    assert "using the encoder lite" in err
