"""Exports and imports in parts, to folders and buckets, interrupted and resumed."""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pydantic import SecretStr

from app.indexing.archive import Archive, Imported, count_images
from app.indexing.archive_parts import PartsExport, PartsImport
from app.indexing.places import Place
from app.lookalike import Lookalike, open_lookalike
from app.problems import InvalidRequest, NotFound, StorageUnavailable
from app.settings import Settings
from app.store.imports import ImportedParts
from tests.conftest import Server
from tests.live import Loop
from tests.process import lookalike as command
from tests.samples import encode, photo, png

HOSTILE = os.fsdecode(b"-x #1?%41::s3 [a]* {b}\n\xff~")


@dataclass
class Run:
    """What one export or import did."""

    steps: list[Any]
    said: list[str]
    failed: int = 0
    parts: int = 0


def archive_of(lookalike: Lookalike) -> Archive:
    return Archive(lookalike.database, lookalike.catalog, lookalike.index.spaces)


async def export(lookalike: Lookalike, place: str, *, until: int | None = None) -> Run:
    """Export two images per part; stop as soon as `until` images are written, within a part."""
    said: list[str] = []
    work = PartsExport(archive_of(lookalike), Place(place), rows_per_file=2, announce=said.append)
    steps: list[int] = []
    async with aclosing(work.run()) as writing:
        async for written in writing:
            steps.append(written)
            if written == until:
                break
    return Run(steps, said, parts=work.parts)


async def read(
    lookalike: Lookalike, place: str, *, until: int | None = None, anew: bool = False
) -> Run:
    """Import a folder; stop as soon as `until` images are imported."""
    said: list[str] = []
    state = ImportedParts(lookalike.database)
    work = PartsImport(archive_of(lookalike), state, Place(place), announce=said.append)
    await work.plan(anew=anew)
    steps: list[Imported] = []
    async with aclosing(work.run()) as reading:
        async for done in reading:
            steps.append(done)
            if done.images == until:
                return Run(steps, said)
    async for _ in archive_of(lookalike).build_index():
        pass
    await work.finish()
    return Run(steps, said, work.failed)


@dataclass
class Folder:
    """A folder here or in a bucket, as a test looks into it."""

    place: str
    files: Any = field(repr=False)
    path: str

    def names(self) -> list[str]:
        return sorted(path.rpartition("/")[2] for path in self.files.ls(self.path, detail=False))

    def bytes_of(self, name: str) -> bytes:
        return self.files.cat_file(f"{self.path}/{name}")

    def put(self, name: str, data: bytes) -> None:
        self.files.makedirs(self.path, exist_ok=True)
        self.files.pipe_file(f"{self.path}/{name}", data)

    def write(self, name: str, rows: Sequence[dict[str, Any]], **columns: Any) -> None:
        """Write a Parquet file, with the given types of some columns."""
        table = pa.Table.from_pylist(list(rows))
        for column, kind in columns.items():
            at = table.schema.get_field_index(column)
            table = table.set_column(at, column, table[column].cast(kind))
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self.put(name, sink.getvalue().to_pybytes())

    def ids(self) -> list[list[str]]:
        """The ids in each part, by its name."""
        names = [name for name in self.names() if name.endswith(".parquet")]
        tables = [pq.read_table(pa.BufferReader(self.bytes_of(name))) for name in names]
        return [table["id"].to_pylist() for table in tables]


@pytest.fixture(params=["folder", "bucket"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "bucket":
        place = f"memory://bucket-{uuid4()}/some [i]*{{n}} #1?/index"
        return Folder(place, *fsspec.url_to_fs(place))
    path = str(tmp_path / HOSTILE)
    return Folder(f"{path}/", fsspec.filesystem("file"), path)


@pytest.fixture
def indexed(server: Server) -> Lookalike:
    """An index of five images."""
    files = [("file", (f"{i}.png", png(i))) for i in range(5)]
    assert server.client.post("/api/images", files=files).status_code == 200
    return server.lookalike


@pytest.fixture
def elsewhere(settings: Settings, new_database: Callable[..., str], tmp_path: Path) -> Settings:
    url = SecretStr(new_database())
    return settings.model_copy(update={"database_url": url, "data_dir": tmp_path / "elsewhere"})


def foreign(seed: int, lookalike: Lookalike, **given: Any) -> dict[str, Any]:
    """A row as a program elsewhere would write it, with no more than it must have and a vector."""
    data = png(seed)
    model = lookalike.encoder.model
    return {
        "url": f"https://pictures.example/{seed}.png",
        "sha256": sha256(data).hexdigest(),
        "format": "PNG",
        "bytes": len(data),
        "width": 256,
        "height": 256,
        "thumbnail": encode(photo(seed), "JPEG"),
        "vector": [0.0] * seed + [2.0] + [0.0] * (model.dimensions - seed - 1),
        "encoder": model.fingerprint,
        **given,
    }


def test_an_export_goes_on_where_it_stopped(
    indexed: Lookalike, folder: Folder, elsewhere: Settings, loop: Loop
) -> None:
    assert loop.run(export(indexed, folder.place, until=4)).parts == 1
    # The second part was about to be closed: nothing of it is left.
    assert folder.names() == ["part-000000.parquet"]
    first = folder.bytes_of("part-000000.parquet")
    folder.put(".0123456789abcdef.part", b"of an export that was killed")

    resumed = loop.run(export(indexed, folder.place))

    assert resumed.steps[0] == 2
    assert resumed.steps[-1] == 5
    assert resumed.said == ["Goes on with an export: 2 images are written already."]
    assert folder.names() == ["_SUCCESS", *(f"part-00000{i}.parquet" for i in range(3))]
    assert folder.bytes_of("part-000000.parquet") == first
    ids = folder.ids()
    assert [len(part) for part in ids] == [2, 2, 1]
    images = loop.run(indexed.catalog.newest(limit=10))
    assert [i for part in ids for i in part] == sorted(str(image.id) for image in images)
    with loop.entered(open_lookalike(elsewhere, announce=lambda _: None)) as other:
        assert loop.run(read(other, folder.place)).steps[-1] == Imported(5, 5)
        assert loop.run(other.catalog.count()) == 5
        assert other.encoder.images.items == 0


def test_a_whole_export_is_not_written_over(indexed: Lookalike, folder: Folder, loop: Loop) -> None:
    loop.run(export(indexed, folder.place))
    with pytest.raises(InvalidRequest, match="holds a whole export"):
        loop.run(export(indexed, folder.place))


def test_a_part_that_is_damaged_or_lost_is_written_again(
    indexed: Lookalike, folder: Folder, loop: Loop
) -> None:
    loop.run(export(indexed, folder.place))
    ids = folder.ids()
    folder.files.rm_file(f"{folder.path}/_SUCCESS")
    folder.files.rm_file(f"{folder.path}/part-000000.parquet")
    folder.put("part-000001.parquet", folder.bytes_of("part-000001.parquet")[:-9])
    again = loop.run(export(indexed, folder.place))
    assert len(again.said) == 2
    assert "part-000001.parquet is not a Parquet file, or is damaged" in again.said[0]
    assert again.said[0].endswith("It is written again.")
    assert folder.ids() == ids


def test_an_export_of_images_that_go_meanwhile_has_each_other_once(
    indexed: Lookalike, folder: Folder, loop: Loop
) -> None:
    loop.run(export(indexed, folder.place))
    ids = folder.ids()
    for name in ("_SUCCESS", "part-000000.parquet"):
        folder.files.rm_file(f"{folder.path}/{name}")
    images = loop.run(indexed.catalog.newest(limit=10))
    loop.run(indexed.indexer.delete([i for i in images if str(i.id) in ids[0]]))
    loop.run(export(indexed, folder.place))
    assert folder.ids() == [[], *ids[1:]]


def test_an_export_does_not_mix_with_what_else_is_there(
    indexed: Lookalike, folder: Folder, elsewhere: Settings, loop: Loop
) -> None:
    loop.run(export(indexed, folder.place, until=4))
    with (
        loop.entered(open_lookalike(elsewhere, announce=lambda _: None)) as other,
        pytest.raises(InvalidRequest, match="an export of another index"),
    ):
        loop.run(export(other, folder.place))
    folder.write("mine.parquet", [{"url": "x"}])
    with pytest.raises(InvalidRequest, match=r"holds mine\.parquet, which no export wrote"):
        loop.run(export(indexed, folder.place))


def test_a_store_that_fails_ends_an_export_that_can_go_on(
    indexed: Lookalike, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"memory://bucket-{uuid4()}"
    folder = Folder(place, *fsspec.url_to_fs(place))
    move = MemoryFileSystem.mv
    moved: list[str] = []

    def failing(files: MemoryFileSystem, source: str, target: str) -> None:
        moved.append(target)
        if len(moved) == 2:
            raise OSError("the bucket is full")
        move(files, source, target)

    monkeypatch.setattr(MemoryFileSystem, "mv", failing)
    with pytest.raises(StorageUnavailable, match="cannot be written: the bucket is full"):
        loop.run(export(indexed, place))
    assert folder.names() == ["part-000000.parquet"]
    assert loop.run(export(indexed, place)).steps[-1] == 5


def test_a_folder_of_a_bucket_exists_only_with_its_files(
    indexed: Lookalike, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryFileSystem, "makedirs", lambda *_, **__: None)
    place = f"memory://bucket-{uuid4()}"
    assert loop.run(export(indexed, place)).steps[-1] == 5
    assert len(Folder(place, *fsspec.url_to_fs(place)).names()) == 4


def test_an_import_goes_on_where_it_stopped(
    indexed: Lookalike, folder: Folder, elsewhere: Settings, loop: Loop
) -> None:
    loop.run(export(indexed, folder.place))
    with loop.entered(open_lookalike(elsewhere, announce=lambda _: None)) as other:
        # In the middle of the second part, which is to be done again.
        loop.run(read(other, folder.place, until=4))
        [first] = loop.run(other.catalog.walk(after=None, limit=1))
        loop.run(other.indexer.delete([first]))

        resumed = loop.run(read(other, folder.place))

        said = "Goes on with an import: 1 of 3 parts with 2 images are imported already."
        assert resumed.said == [said]
        assert [step.images for step in resumed.steps] == [2, 4, 5]
        # The first part was not imported again; an import after a whole one is a new one.
        assert loop.run(other.catalog.count()) == 4
        assert loop.run(read(other, folder.place)).steps[-1] == Imported(5, 5)
        assert loop.run(other.catalog.count()) == 5


def test_an_import_can_begin_anew(
    indexed: Lookalike, folder: Folder, elsewhere: Settings, loop: Loop
) -> None:
    loop.run(export(indexed, folder.place))
    with loop.entered(open_lookalike(elsewhere, announce=lambda _: None)) as other:
        loop.run(read(other, folder.place, until=4))
        anew = loop.run(read(other, folder.place, anew=True))
        assert [step.images for step in anew.steps] == [0, 2, 4, 5]


def test_a_part_that_has_changed_is_imported_again(
    indexed: Lookalike, folder: Folder, elsewhere: Settings, loop: Loop
) -> None:
    loop.run(export(indexed, folder.place))
    with loop.entered(open_lookalike(elsewhere, announce=lambda _: None)) as other:
        loop.run(read(other, folder.place, until=4))
        folder.write("part-000000.parquet", [foreign(7, other)])
        resumed = loop.run(read(other, folder.place))
        assert (resumed.said, resumed.steps[-1].images) == ([], 4)


def test_a_broken_part_is_named_and_the_others_are_imported(
    indexed: Lookalike, folder: Folder, elsewhere: Settings, loop: Loop
) -> None:
    loop.run(export(indexed, folder.place))
    whole = folder.bytes_of("part-000001.parquet")
    # Its end is as it was, so that only reading its rows tells.
    folder.put("part-000001.parquet", b"PAR1" + b"\0" * 3000 + whole[3004:])
    folder.put("part-000002.parquet", b"PAR1")
    with loop.entered(open_lookalike(elsewhere, announce=lambda _: None)) as other:
        first = loop.run(read(other, folder.place))
        assert (first.failed, first.steps[-1]) == (2, Imported(2, 2))
        named = sorted(line.partition(" is ")[0].rpartition("/")[2] for line in first.said)
        assert named == ["part-000001.parquet", "part-000002.parquet"]

        folder.put("part-000001.parquet", whole)
        folder.files.rm_file(f"{folder.path}/part-000002.parquet")
        again = loop.run(read(other, folder.place))
        assert (again.failed, again.steps[-1]) == (0, Imported(4, 4))
        assert again.steps[0] == Imported(2, 2)


def test_parts_of_others_are_imported_whatever_their_names(
    server: Server, folder: Folder, loop: Loop
) -> None:
    lookalike = server.lookalike
    names = ["part 1.parquet", "a'b\"#?%2F;--.PARQUET", "..parquet", "_SUCCESS", "_x.parquet"]
    names += ["day=1/-rf $(x) [1].parquet", "note.txt"]
    folder.files.makedirs(f"{folder.path}/day=1", exist_ok=True)
    for seed, name in enumerate(names):
        folder.write(name, [foreign(seed, lookalike)])
    wide = pa.list_(pa.float32(), lookalike.encoder.dimensions)
    folder.write("ray.parquet", [foreign(8, lookalike)], vector=wide, url=pa.large_string())
    done = loop.run(read(lookalike, folder.place))
    assert (done.failed, done.steps[-1]) == (0, Imported(4, 4))
    images = loop.run(lookalike.catalog.newest(limit=20))
    assert sorted(int(image.url[-5]) for image in images) == [0, 1, 5, 8]
    # What a row leaves out is seen in its thumbnail; vectors get the length 1.
    [second] = [image for image in images if image.url.endswith("/1.png")]
    assert second.colours
    assert second.dhash
    vectors = loop.run(lookalike.vectors.fetch([second.id]))
    assert np.flatnonzero(vectors[second.id]).tolist() == [1]
    assert float(vectors[second.id][1]) == 1.0
    loop.run(_reindex(lookalike))
    assert lookalike.encoder.images.items == 0


async def _reindex(lookalike: Lookalike) -> None:
    async for _ in lookalike.reindexer.run(lookalike.index.spaces.all):
        pass


def test_the_documented_rows_are_those_of_an_index(
    server: Server, folder: Folder, loop: Loop
) -> None:
    document = (Path(__file__).parents[2] / "docs" / "parquet.md").read_text("utf-8")
    made: dict[str, Any] = {}
    exec(document.partition("```python\n")[2].partition("```")[0], made)  # noqa: S102 - our own
    files = [(f"https://pictures.example/{i}.png", png(i)) for i in range(3)]
    rows = made["Rows"]().rows([*files, ("https://pictures.example/no.png", b"no image")])
    folder.write("rows.parquet", rows)
    assert loop.run(read(server.lookalike, folder.place)).steps[-1] == Imported(3, 3)
    listed = {image.url: image for image in loop.run(server.lookalike.catalog.newest(limit=10))}
    kept = loop.run(server.lookalike.vectors.fetch([image.id for image in listed.values()]))
    posted = [("file", (f"{i}.png", png(i))) for i in range(3)]
    assert server.client.post("/api/images", files=posted).status_code == 200
    uploaded = {i.sha256: i for i in loop.run(server.lookalike.catalog.newest(limit=3))}
    for image in listed.values():
        other = uploaded[image.sha256]
        assert (image.dhash, image.colours, image.decoder) == (
            (other.dhash, other.colours, other.decoder)
        )
        found = server.lookalike.vectors.similarities(kept[image.id], [other.id])
        assert loop.run(found)[other.id] > 0.999


def test_every_column_is_documented(indexed: Lookalike) -> None:
    document = (Path(__file__).parents[2] / "docs" / "parquet.md").read_text("utf-8")
    table = document.partition("## Columns")[2].partition("**Vectors**")[0]
    columns = {*archive_of(indexed).schema.names, "copy_vector", "encoder", "copy_encoder"}
    assert (
        set(re.findall(r"`([a-z0-9_]+)`", table))
        - {"string", "large_string", "refresh"}
        - {"builtin", "lite"}
        == columns
    )


def test_images_of_others_without_vectors_are_embedded(
    server: Server, folder: Folder, loop: Loop
) -> None:
    lookalike = server.lookalike
    bare = foreign(1, lookalike)
    del bare["vector"], bare["encoder"]
    folder.write("bare.parquet", [bare])
    folder.write("other.parquet", [foreign(2, lookalike, encoder="another", vector=[1.0])])
    folder.write("null.parquet", [foreign(3, lookalike, vector=None)])
    assert loop.run(read(lookalike, folder.place)).steps[-1] == Imported(3, 0)
    loop.run(_reindex(lookalike))
    assert len(server.query(png(2))) == 1


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"vector": [1.0] * 511}, "row 1: vector has 511 components; those of builtin have 512"),
        ({"vector": [float("nan")] * 512}, "row 1: vector has components that are no numbers"),
        ({"vector": [0.0] * 512}, "row 1: vector has components that are no numbers"),
        ({"vector": ["1"] * 512}, "the column vector is list<"),
        ({"sha256": "ABC"}, "row 1: sha256 is not 64 hexadecimal digits"),
        ({"sha256": 5}, "the column sha256 is int64 instead of text"),
        ({"url": ""}, "row 1: url is empty"),
        ({"url": "https://a.example/" + "x" * 9000}, "row 1: The URL is longer than"),
        ({"width": 0}, "row 1: width, height and bytes should be greater than 0"),
        ({"width": None}, "row 1: width is empty"),
        ({"format": "EXE"}, "row 1: format is none of "),
        ({"thumbnail": b"GIF89a"}, "row 1: thumbnail is no JPEG"),
        ({"thumbnail": b"\xff\xd8\xff and no more"}, "row 1: "),
        ({"exif": "{"}, "row 1: exif is not JSON"),
        ({"metadata": "[]"}, "row 1: metadata should be a JSON object"),
        ({"id": "5"}, "row 1: "),
        ({"title": "a\0b"}, "The database cannot take these values"),
        ({"tags": "a, b"}, "the column tags is string instead of a list of texts"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_part_is_said_to_be(
    server: Server, loop: Loop, tmp_path: Path, changed: dict[str, Any], why: str
) -> None:
    folder = Folder(str(tmp_path / "in"), fsspec.filesystem("file"), str(tmp_path / "in"))
    folder.write("a.parquet", [foreign(1, server.lookalike, **changed)])
    folder.write("b.parquet", [foreign(2, server.lookalike)])
    done = loop.run(read(server.lookalike, folder.place))
    assert (done.failed, done.steps[-1].images) == (1, 1)
    assert "a.parquet" in done.said[0]
    assert why in done.said[0]


def test_columns_of_the_wrong_size_are_found_before_anything_is_read(
    server: Server, loop: Loop, tmp_path: Path
) -> None:
    lookalike = server.lookalike
    path, row = tmp_path / "a.parquet", foreign(1, lookalike, vector=[1.0] * 511)
    del row["encoder"]
    table = pa.Table.from_pylist([row])
    pq.write_table(table, path)
    with pytest.raises(InvalidRequest, match="nothing says which encoder made vector"):
        count_images(path)
    kind = pa.list_(pa.float32(), 511)
    at = table.schema.get_field_index("vector")
    told = {b"lookalike.encoder": lookalike.encoder.model.fingerprint.encode()}
    fixed = table.set_column(at, "vector", table["vector"].cast(kind))
    pq.write_table(fixed.replace_schema_metadata(told), path)

    async def one() -> None:
        async for _ in archive_of(lookalike).read(path):
            pass

    with pytest.raises(InvalidRequest, match="vector has 511 components; those of builtin have"):
        loop.run(one())


def test_a_pipe_among_the_parts_does_not_block(server: Server, loop: Loop, tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "in"), fsspec.filesystem("file"), str(tmp_path / "in"))
    folder.write("b.parquet", [foreign(2, server.lookalike)])
    os.mkfifo(tmp_path / "in" / "a.parquet")
    done = loop.run(read(server.lookalike, folder.place))
    assert (done.failed, done.steps[-1]) == (1, Imported(1, 1))
    assert "a.parquet cannot be opened: It is not a regular file" in done.said[0]


def test_a_single_file_may_be_in_a_bucket(
    indexed: Lookalike, elsewhere: Settings, loop: Loop
) -> None:
    place = f"memory://bucket-{uuid4()}/index.parquet"

    async def write() -> list[int]:
        return [count async for count in archive_of(indexed).write(place)]

    async def back(lookalike: Lookalike) -> list[Imported]:
        return [done async for done in archive_of(lookalike).read(place)]

    with pytest.raises(NotFound):
        Place(place).is_folder()
    assert loop.run(write()) == [5]
    assert not Place(place).is_folder()
    assert count_images(place) == 5
    with loop.entered(open_lookalike(elsewhere, announce=lambda _: None)) as other:
        assert loop.run(back(other)) == [Imported(5, 5)]


def test_the_commands_export_and_import_folders_and_files(
    database_url: str, new_database: Callable[..., str], tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(3):
        (photos / f"{seed}.png").write_bytes(png(seed))
    environment = {"ENCODER": "builtin", "DATA_DIR": str(tmp_path / "data")}
    here = {**environment, "DATABASE_URL": database_url}
    there = {**environment, "DATABASE_URL": new_database()}
    assert command("index", str(photos), **here).returncode == 0
    out = tmp_path / HOSTILE
    done = command("export", f"{out}/", "--rows-per-file", "2", **here)
    assert done.returncode == 0, done.stderr
    assert "Exported 3 images with their vectors to " in done.stderr
    assert "(parts: 2)" in done.stderr
    assert command("export", f"{out}/", **here).returncode == 1
    (out / "part-000001.parquet").write_bytes(b"PAR1")
    done = command("import", str(out), **there)
    assert done.returncode == 3, done.stderr
    assert "part-000001.parquet is not a Parquet file" in done.stderr
    assert "Imported 2 images from" in done.stderr
    file = tmp_path / "one.parquet"
    assert command("export", str(file), **here).returncode == 0
    done = command("import", str(file), **there)
    assert done.returncode == 0, done.stderr
    assert "Imported 3 images from" in done.stderr
    assert "The index has 3 now." in done.stderr
    assert command("import", str(tmp_path / "none"), **there).returncode == 2
