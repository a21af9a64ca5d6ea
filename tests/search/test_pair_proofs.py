"""Duplicates are proved: crops, mirrored and turned copies are, look-alikes are not."""

from uuid import UUID

import numpy as np
import pytest
from PIL import Image, ImageOps

from app.lookalike import Lookalike
from app.search import duplicates
from app.search.pair_proofs import PairProofs
from app.store.fingerprints import Fingerprint, Fingerprints
from app.store.images import Entry
from app.store.vectors import NewVector
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import altered, encode, photo, png
from tests.search.test_duplicates import groups_of


def fingerprints(lookalike: Lookalike, loop: Loop, urls: list[str]) -> list[Fingerprint]:
    ids = [Entry(url).id for url in urls]
    found = loop.run(Fingerprints(lookalike.database).find(ids))
    return [found[image_id] for image_id in ids]


def proofs(lookalike: Lookalike) -> PairProofs:
    return PairProofs(
        catalog=lookalike.catalog, keypoints=lookalike.index.keypoints, pairs=lookalike.pairs
    )


def test_altered_copies_of_every_kind_are_one_group(server: Server, host: ImageHost) -> None:
    whole = photo(1, (400, 400))
    kinds = {
        "whole.png": encode(whole),
        "half.jpg": altered(encode(whole)),
        "mirrored.png": encode(ImageOps.mirror(whole)),
        "turned.png": encode(whole.transpose(Image.Transpose.ROTATE_90)),
        "crop.png": encode(whole.crop((40, 40, 360, 360))),
    }
    copies = [host.add(name, data) for name, data in kinds.items()]
    server.upsert([*copies, *(host.url(f"seed/{n}.png") for n in range(2, 8))])
    # Whatever is near enough to be compared.
    assert groups_of(server, min_similarity=0.3) == [set(copies)]
    [group] = server.client.get("/api/duplicates?min_similarity=0.3").json()["groups"]
    assert {hit["match"] for hit in group[1:]} == {"copy"}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_photo_in_any_orientation_is_found_whatever_its_vector(
    server: Server, loop: Loop, host: ImageHost, seed: int
) -> None:
    whole = photo(seed, (400, 300))
    turned = [whole, *(whole.transpose(method) for method in Image.Transpose)]
    urls = [
        host.add(f"{number}.jpg", encode(image, "JPEG", quality=60))
        for number, image in enumerate(turned)
    ]
    server.upsert([*urls, *(host.url(f"seed/{n}.png") for n in range(3, 6))])
    ids = [Entry(url).id for url in urls]
    loop.run(scatter(server.lookalike, ids))
    assert groups_of(server) == [set(urls)]


async def scatter(lookalike: Lookalike, ids: list[UUID]) -> None:
    """Give images vectors that say nothing of what they show."""
    random = np.random.default_rng(0)
    images = await lookalike.catalog.find_all(ids)
    vectors = [
        NewVector(
            Entry(image.url).over(image),
            image,
            image.sha256,
            random.normal(size=lookalike.encoder.dimensions).astype(np.float32),
        )
        for image in images.values()
    ]
    async with lookalike.database.begin() as connection:
        await lookalike.vectors.upsert(connection, vectors)


def test_what_was_compared_is_kept_until_the_pixels_change(
    lookalike: Lookalike, loop: Loop, host: ImageHost
) -> None:
    urls = [
        host.add("a.png", png(1)),
        host.add("b.jpg", altered(png(1))),
        host.add("c.png", png(2)),
    ]
    loop.run(lookalike.indexer.upsert_urls([Entry(url) for url in urls]))
    a, b, c = fingerprints(lookalike, loop, urls)
    first = loop.run(proofs(lookalike).prove([(a, b), (c, a), (a, a)]))
    assert (list(first.are_duplicates), first.compared) == ([True, False, True], 2)
    again = loop.run(proofs(lookalike).prove([(b, a), (a, c)]))
    assert (list(again.are_duplicates), again.compared) == ([True, False], 0)
    assert loop.run(lookalike.index.keypoints.made()).made == 3
    host.add("c.png", altered(encode(photo(1).convert("L"))))
    loop.run(lookalike.indexer.upsert("web", Entry(urls[2])))
    # Of the file that it no longer is.
    loop.run(lookalike.pairs.keep({_pair(a, c): False}, {a.id: a, c.id: c}, version=1001))
    [c] = fingerprints(lookalike, loop, urls[2:])
    assert loop.run(proofs(lookalike).prove([(a, c)])).are_duplicates == [True]
    loop.run(lookalike.trash.put([a.id]))
    loop.run(lookalike.trash.restore([a.id]))
    assert loop.run(proofs(lookalike).prove([(a, b)])).compared == 1


def _pair(one: Fingerprint, other: Fingerprint) -> tuple[UUID, UUID]:
    first, second = sorted((one.id, other.id))
    return first, second


def test_what_was_said_not_to_be_duplicates_is_not_for_ever(
    server: Server, loop: Loop, host: ImageHost
) -> None:
    same = [host.add(name, png(1)) for name in ("a.png", "b.png")]
    near = [host.add("c.png", png(2)), host.add("d.jpg", altered(png(2)))]
    server.upsert([*same, *near])
    pairs = server.lookalike.pairs
    assert sorted(map(sorted, groups_of(server))) == sorted(map(sorted, [same, near]))
    for group in (same, near):
        files = fingerprints(server.lookalike, loop, group)
        loop.run(pairs.deny([file.sha256 for file in files]))
    assert groups_of(server) == []
    # Also of images that are deleted and come back.
    server.client.delete("/api/images?q=http")
    server.upsert([*same, *near])
    assert groups_of(server) == []
    loop.run(pairs.allow([file.sha256 for file in fingerprints(server.lookalike, loop, near)]))
    assert groups_of(server) == [set(near)]


def test_a_denied_pair_cuts_a_chain_only_there(server: Server, loop: Loop, host: ImageHost) -> None:
    urls = [host.add("a.png", png(1)), host.add("b.jpg", altered(png(1)))]
    urls.append(host.add("c.jpg", encode(photo(1), "JPEG", quality=60)))
    server.upsert(urls)
    a, b, _ = fingerprints(server.lookalike, loop, urls)
    loop.run(server.lookalike.pairs.deny([a.sha256, b.sha256]))
    # Both are copies of the third.
    assert groups_of(server) == [set(urls)]


def test_an_answer_compares_only_so_many(
    server: Server, host: ImageHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = [host.add("a.png", png(1)), host.add("b.jpg", altered(png(1)))]
    server.upsert([*pair, *(host.url(f"seed/{n}.png") for n in range(2, 7))])
    monkeypatch.setattr(duplicates, "MAX_COMPARED", 1)
    # The first image has others to be compared with, whichever it is.
    answer = server.client.get("/api/duplicates?min_similarity=0").json()
    assert answer["next"] is not None
    assert groups_of(server, min_similarity=0) == [set(pair)]
