"""The vector table, as used by Lookalike and by LlamaIndex."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import ImageDocument, QueryBundle
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.utils import node_to_metadata_dict
from llama_index.vector_stores.postgres import PGVectorStore
from sqlalchemy import text

from app.encoding.encoder import Encoder
from app.encoding.onnx_model import OnnxModel
from app.encoding.weights import BUILTIN_DIRECTORY
from app.settings import Settings
from app.store.database import Database, open_database
from app.store.images import Entry
from app.store.llama_index import EncoderEmbedding, ImageVectorStore, image_node
from app.store.nodes import node_metadata
from app.store.spaces import open_vectors
from app.store.vectors import NewVector, VectorTable
from tests.onnx_models import write_clip
from tests.samples import altered, cosine, encode, facts, photo, png

DIMENSIONS = 512


@pytest.fixture
def database(settings: Settings) -> Generator[Database]:
    database = open_database(settings)
    yield database
    asyncio.run(database.close())


@pytest.fixture
def vectors(database: Database, encoder: Encoder) -> VectorTable:
    return open_vectors(database, encoder)


@pytest.fixture
def store(vectors: VectorTable) -> ImageVectorStore:
    return ImageVectorStore.of(vectors)


@asynccontextmanager
async def ended(database: Database) -> AsyncGenerator[None]:
    """The engine's connections belong to one event loop and end with it."""
    yield
    await database.engine.dispose()


def vector(seed: int) -> Any:
    values = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    return values / np.linalg.norm(values)


def node(number: int, **metadata: Any) -> ImageDocument:
    made = image_node(
        Entry(f"https://example.com/{number}"), sha256=f"{number:064x}", vector=vector(number)
    )
    made.metadata.update(metadata)
    return made


def count(database: Database, store: ImageVectorStore) -> int:
    with database.sync_engine.begin() as connection:
        return connection.scalar(text(f"SELECT count(*) FROM {store.table.name}")) or 0


def test_adding_a_node_twice_replaces_it(database: Database, store: ImageVectorStore) -> None:
    store.add([node(1), node(2)])
    store.add([node(1, colour="red"), node(1, colour="blue")])
    assert count(database, store) == 2
    found = store.query(VectorStoreQuery(query_embedding=vector(1).tolist(), similarity_top_k=1))
    assert found.nodes is not None
    assert found.nodes[0].metadata["colour"] == "blue"

    async def run() -> None:
        async with ended(database):
            await store.async_add([node(1), node(3)])

    asyncio.run(run())
    assert count(database, store) == 3


def test_nearest_returns_cosines_best_first(
    database: Database, store: ImageVectorStore, vectors: VectorTable
) -> None:
    store.add([node(number) for number in range(20)])

    async def run() -> list[Any]:
        async with ended(database):
            return await vectors.nearest(vector(7), limit=20)

    found = asyncio.run(run())
    assert found[0] == (Entry("https://example.com/7").id, pytest.approx(1, abs=1e-3))
    similarities = [similarity for _, similarity in found]
    assert similarities == sorted(similarities, reverse=True)
    expected = sorted((cosine(vector(7), vector(n)) for n in range(20)), reverse=True)
    assert similarities == pytest.approx(expected, abs=2e-3)


def test_the_vector_index_returns_as_many_results_as_requested(
    database: Database, store: ImageVectorStore, vectors: VectorTable
) -> None:
    store.add([node(number) for number in range(600)])

    async def run() -> list[int]:
        async with ended(database):
            return [len(await vectors.nearest(vector(1), limit=limit)) for limit in (10, 150, 500)]

    assert asyncio.run(run()) == [10, 150, 500]
    query = VectorStoreQuery(query_embedding=vector(1).tolist(), similarity_top_k=300)
    assert len(store.query(query).ids or []) == 300


def test_a_search_uses_the_vector_index(database: Database, store: ImageVectorStore) -> None:
    store.add([node(number) for number in range(300)])
    with database.sync_engine.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        distance = store.table.c.embedding.cosine_distance(vector(1)).label("distance")
        plan = connection.execute(
            text(
                "EXPLAIN "
                + str(
                    store.table.select()
                    .with_only_columns(store.table.c.node_id, distance)
                    .order_by(distance)
                    .limit(10)
                    .compile(connection, compile_kwargs={"literal_binds": True})
                )
            )
        )
        assert "halfvec_m16_ef64" in "\n".join(plan.scalars())


def index_names(database: Database) -> list[str]:
    query = text(
        "SELECT indexname FROM pg_indexes "
        "WHERE indexdef LIKE '%USING hnsw%' AND tablename LIKE 'data_%'"
    )
    with database.sync_engine.begin() as connection:
        return list(connection.scalars(query))


def test_other_index_parameters_replace_the_index(database: Database, vectors: VectorTable) -> None:
    name = vectors.table.name
    assert index_names(database) == [f"{name}_halfvec_m16_ef64"]
    changed = VectorTable(database, vectors.name, dimensions=DIMENSIONS, m=8)
    with database.set_up() as connection:
        changed.set_up(connection)
    assert index_names(database) == [f"{name}_halfvec_m8_ef64"]


def test_query_settings_end_with_the_transaction(
    database: Database, store: ImageVectorStore, vectors: VectorTable
) -> None:
    store.add([node(1)])
    store.query(VectorStoreQuery(query_embedding=vector(1).tolist(), similarity_top_k=500))

    async def run() -> tuple[str | None, str | None]:
        async with ended(database):
            await vectors.nearest(vector(1), limit=500)
            async with database.begin() as connection:
                return (
                    await connection.scalar(text("SELECT current_setting('hnsw.ef_search')")),
                    await connection.scalar(text("SELECT current_setting('hnsw.iterative_scan')")),
                )

    assert asyncio.run(run()) == ("40", "off")


def test_a_filtered_query_returns_the_limit(database: Database, store: ImageVectorStore) -> None:
    # The rows that pass are the farthest from the query.
    far = sorted(range(1000), key=lambda number: cosine(vector(0), vector(number)))[:30]
    store.add([node(number, wanted="yes" if number in far else "no") for number in range(1000)])
    with database.sync_engine.begin() as connection:
        connection.execute(text(f"ANALYZE {store.table.name}"))
    filters = MetadataFilters(filters=[MetadataFilter(key="wanted", value="yes")])
    query = VectorStoreQuery(
        query_embedding=vector(0).tolist(), similarity_top_k=30, filters=filters
    )
    assert len(store.query(query).ids or []) == 30


METADATA = [
    {"name": "red cat", "size": 3, "tags": ["a", "b"]},
    {"name": "blue dog", "size": 12, "tags": ["b", "c"]},
    {"name": "50%_off", "size": 7.5},
]


@pytest.mark.parametrize(
    ("key", "operator", "value", "expected"),
    [
        ("name", FilterOperator.EQ, "red cat", [0]),
        ("name", FilterOperator.NE, "red cat", [1, 2]),
        ("size", FilterOperator.EQ, 12, [1]),
        ("size", FilterOperator.GT, 5, [1, 2]),
        ("size", FilterOperator.GTE, 7.5, [1, 2]),
        ("size", FilterOperator.LT, 12, [0, 2]),
        ("size", FilterOperator.LTE, 3, [0]),
        ("name", FilterOperator.GT, "a", [1, 0]),
        ("name", FilterOperator.LT, 5, []),
        ("name", FilterOperator.IN, ["red cat", "x"], [0]),
        ("name", FilterOperator.NIN, ["red cat", "x"], [1, 2]),
        ("tags", FilterOperator.CONTAINS, "b", [0, 1]),
        ("tags", FilterOperator.ANY, ["a", "c"], [0, 1]),
        ("tags", FilterOperator.ALL, ["b", "c"], [1]),
        ("name", FilterOperator.TEXT_MATCH, "cat", [0]),
        ("name", FilterOperator.TEXT_MATCH, "%_", [2]),
        ("name", FilterOperator.TEXT_MATCH_INSENSITIVE, "DOG", [1]),
        ("tags", FilterOperator.IS_EMPTY, None, [2]),
    ],
)
def test_llama_index_filters(
    database: Database,
    store: ImageVectorStore,
    key: str,
    operator: FilterOperator,
    value: Any,
    expected: list[int],
) -> None:
    store.add([node(number, **metadata) for number, metadata in enumerate(METADATA)])
    filters = MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])
    query = VectorStoreQuery(
        query_embedding=vector(0).tolist(), similarity_top_k=10, filters=filters
    )
    ids = {str(Entry(f"https://example.com/{number}").id) for number in expected}
    assert set(store.query(query).ids or []) == ids

    async def run() -> set[str]:
        async with ended(database):
            return set((await store.aquery(query)).ids or [])

    assert asyncio.run(run()) == ids


def test_llama_index_filters_can_be_combined(store: ImageVectorStore) -> None:
    store.add([node(number, **metadata) for number, metadata in enumerate(METADATA)])
    either = MetadataFilters(
        filters=[MetadataFilter(key="size", value=3), MetadataFilter(key="size", value=12)],
        condition=FilterCondition.OR,
    )
    both = MetadataFilters(
        filters=[either, MetadataFilter(key="name", value="blue dog")],
        condition=FilterCondition.AND,
    )
    query = VectorStoreQuery(query_embedding=vector(0).tolist(), similarity_top_k=10, filters=both)
    assert store.query(query).ids == [str(Entry("https://example.com/1").id)]


INJECTIONS = [
    "x' OR '1'='1",
    "x'; DROP TABLE images; --",
    "x\\' OR 1=1 --",
    ":ef_search",
    "%(x)s",
    "$1",
    "x\" ->> 'y",
]


@pytest.mark.parametrize("injected", INJECTIONS)
def test_filter_keys_and_values_are_bound_parameters(
    database: Database, store: ImageVectorStore, injected: str
) -> None:
    store.add([node(1, name="plain"), node(2, **{injected: injected})])

    def found(key: str, value: Any, operator: FilterOperator = FilterOperator.EQ) -> list[str]:
        filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])
        query = VectorStoreQuery(
            query_embedding=vector(1).tolist(), similarity_top_k=10, filters=filters
        )
        return store.query(query).ids or []

    second = [str(Entry("https://example.com/2").id)]
    assert found("name", injected) == []
    assert found(injected, injected) == second
    assert found(injected, "plain") == []
    assert found(injected, [injected], FilterOperator.IN) == second
    assert found(injected, injected, FilterOperator.TEXT_MATCH) == second
    assert count(database, store) == 2


def test_each_encoder_has_its_own_table(database: Database, store: ImageVectorStore) -> None:
    other = Encoder(OnnxModel(BUILTIN_DIRECTORY, name="other/model"), source="other")
    second = ImageVectorStore.of(open_vectors(database, other))
    assert second.table.name != store.table.name
    store.add([node(1)])
    assert (count(database, store), count(database, second)) == (1, 0)
    other.close()


def test_llama_index_retrieves_images_from_the_table(
    store: ImageVectorStore, encoder: Encoder
) -> None:
    embedding = EncoderEmbedding(encoder, max_pixels=10**8)
    for seed in range(3):
        image = encoder.submit_image(photo(seed)).result()
        entry = Entry(f"https://example.com/{seed}", title=f"photo {seed}")
        store.add([image_node(entry, sha256=f"{seed:064x}", vector=image)])
    index = VectorStoreIndex.from_vector_store(store, embed_model=embedding)
    query = embedding.get_image_embedding(BytesIO(altered(png(1))))
    retriever = index.as_retriever(similarity_top_k=2)
    found = retriever.retrieve(QueryBundle("", embedding=query))
    assert found[0].node.metadata["url"] == "https://example.com/1"
    assert found[0].node.metadata["title"] == "photo 1"
    assert found[0].score == pytest.approx(1, abs=0.1)
    assert len(found) == 2


def test_llama_index_retrieves_by_text(database: Database, tmp_path: Path) -> None:
    model = OnnxModel(write_clip(tmp_path / "clip"), name="tiny")
    encoder = Encoder(model, source="tiny")
    store = ImageVectorStore.of(open_vectors(database, encoder))
    for word in ("cat", "dog", "snow"):
        vector = asyncio.run(encoder.embed_text(word))
        store.add([image_node(Entry(word), sha256=word, vector=vector)])
    embedding = EncoderEmbedding(encoder, max_pixels=10**8)
    index = VectorStoreIndex.from_vector_store(store, embed_model=embedding)
    [found] = index.as_retriever(similarity_top_k=1).retrieve("dog")
    assert (found.node.metadata["url"], found.score) == ("dog", pytest.approx(1, abs=1e-3))
    encoder.close()


def test_the_encoder_is_a_multi_modal_embedding(encoder: Encoder, tmp_path: Path) -> None:
    embedding = EncoderEmbedding(encoder, max_pixels=10**8)
    assert isinstance(embedding, MultiModalEmbedding)
    path = tmp_path / "photo.png"
    path.write_bytes(encode(photo(1)))
    given = embedding.get_image_embedding(str(path))
    assert np.linalg.norm(given) == pytest.approx(1, abs=1e-6)
    assert asyncio.run(embedding.aget_image_embedding(str(path))) == pytest.approx(given, abs=1e-6)
    batch = embedding.get_image_embedding_batch([str(path), BytesIO(encode(photo(2)))])
    assert len(batch) == 2
    assert batch[0] == pytest.approx(given, abs=1e-5)


def described(vectors: VectorTable, entry: Entry, values: Any) -> NewVector:
    return NewVector(entry, facts(), "0" * 64, values)


SAID_OF_IMAGES = [
    Entry("https://example.com/1", "", "", [], {}),
    Entry("https://example.com/2", 'A "cat" ü', "In\nsnow", ["red", "näh"], {"sku": "a"}),
]


@pytest.mark.parametrize("entry", SAID_OF_IMAGES)
def test_stored_metadata_equals_that_of_llama_index(entry: Entry) -> None:
    theirs = node_to_metadata_dict(
        image_node(entry, sha256="ab", vector=vector(1)), remove_text=True, flat_metadata=False
    )
    assert node_metadata(entry, sha256="ab") == theirs


def test_the_table_equals_that_of_llama_index(database: Database, vectors: VectorTable) -> None:
    """Stock LlamaIndex, without our classes, creates the same table and reads our rows."""
    stock = PGVectorStore(
        table_name="stock",
        embed_dim=DIMENSIONS,
        use_jsonb=True,
        use_halfvec=True,
        initialization_fail_on_error=True,
        engine=database.sync_engine,
        async_engine=database.engine,
    )
    stock._initialize()
    query = text(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute "
        "WHERE attrelid = to_regclass(:name) AND attnum > 0 ORDER BY attnum"
    )
    with database.sync_engine.begin() as connection:
        theirs = connection.execute(query, {"name": "data_stock"}).all()
        ours = connection.execute(query, {"name": vectors.table.name}).all()
    assert ours[: len(theirs)] == theirs

    async def store_two() -> None:
        async with ended(database), database.begin() as connection:
            await vectors.upsert(
                connection,
                [described(vectors, e, vector(n)) for n, e in enumerate(SAID_OF_IMAGES)],
            )

    asyncio.run(store_two())
    opened = PGVectorStore(
        table_name=vectors.name,
        embed_dim=DIMENSIONS,
        use_jsonb=True,
        use_halfvec=True,
        perform_setup=False,
        engine=database.sync_engine,
        async_engine=database.engine,
    )
    found = opened.query(VectorStoreQuery(query_embedding=vector(1).tolist(), similarity_top_k=1))
    assert found.nodes is not None
    [best] = found.nodes
    assert (best.node_id, best.metadata["title"]) == (str(SAID_OF_IMAGES[1].id), 'A "cat" ü')


def test_a_table_created_by_llama_index_gets_the_missing_columns(
    database: Database, encoder: Encoder
) -> None:
    """The table was created by PGVectorStore, as by all earlier versions."""
    name = "older"
    stock = PGVectorStore(
        table_name=name,
        embed_dim=DIMENSIONS,
        use_jsonb=True,
        use_halfvec=True,
        initialization_fail_on_error=True,
        engine=database.sync_engine,
        async_engine=database.engine,
    )
    stock.add([node(1)])
    vectors = VectorTable(database, name, dimensions=DIMENSIONS)
    with database.set_up() as connection:
        vectors.set_up(connection)
    with database.set_up() as connection:
        vectors.set_up(connection)  # changes nothing the second time

    async def run() -> list[tuple[UUID, float]]:
        async with ended(database):
            async with database.begin() as connection:
                await vectors.upsert(connection, [described(vectors, SAID_OF_IMAGES[1], vector(2))])
            assert await vectors.count_without_facets() == 1
            return await vectors.nearest(vector(1), limit=2)

    found = asyncio.run(run())
    assert [image_id for image_id, _ in found] == [
        Entry("https://example.com/1").id,
        SAID_OF_IMAGES[1].id,
    ]
