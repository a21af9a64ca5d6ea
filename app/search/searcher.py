"""Search: a page of the images nearest to a query, or that have its words."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, get_args
from uuid import UUID

import numpy as np

from app.encoding.encoder import Vector
from app.problems import FetchTimedOut
from app.search import cursors
from app.search.asked import Asked
from app.search.candidates import MOST_VERIFIED, candidates
from app.search.hits import (
    Hit,
    Reason,
    marginal_relevance,
    one_per_file,
    reciprocal_rank_fusion,
)
from app.search.nearest_hits import MOST_NEAREST, NearestHits, matched
from app.search.pages import Near, Page, Results, reasons_of, split
from app.search.parts import PartFinder, with_parts
from app.search.places import Places, Turns, limited
from app.search.proofs import Proof, proofs_of, with_matches
from app.search.query import Kind, Query, check_sizes
from app.search.resolver import Clock, Resolved, Resolver
from app.search.sorting import Ranking, divided, in_order, is_at_least
from app.search.verifier import Subject, Verifier
from app.store.beside import Beside
from app.store.catalog import Catalog
from app.store.fingerprints import Fingerprint, Fingerprints
from app.store.spaces import Spaces

T = TypeVar("T")

# Concurrent searches; further ones are refused.
MOST_SEARCHES = 64
# Of them, those that fetch URLs: hosts may be slow, and other searches need places, too.
MOST_FETCHING = 32
# The share of a search's time that its URLs may take.
FETCHING_SHARE = 0.8
# For a query with words, this many of the nearest and of the best text matches are merged.
MOST_FUSED = 300
# Concurrent searches for a next page, which compare all rows, and how many of them run at once.
MOST_PAGES, PAGES_AT_ONCE = 16, 4
# Varied results are chosen from this many candidates per result.
DIVERSITY_CANDIDATES = 4
NEXT_PAGE = "next page"


class Searcher:
    """Answers up to 64 concurrent searches, of which 32 may fetch URLs.

    Those that come when all places are taken raise `TooBusy` at once, and so do those that take
    longer than `timeout_s` in all (or `FetchTimedOut`, if they are still fetching). `searches`
    counts those that were asked for, by kind.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        fingerprints: Fingerprints,
        spaces: Spaces,
        resolver: Resolver,
        verifier: Verifier,
        part_finder: PartFinder,
        timeout_s: float,
    ) -> None:
        self._catalog = catalog
        self._fingerprints = fingerprints
        self._spaces = spaces
        self._nearest = NearestHits(catalog=catalog, spaces=spaces)
        self._resolver = resolver
        self._verifier = verifier
        self._part_finder = part_finder
        self._paging = Turns(MOST_PAGES, at_once=PAGES_AT_ONCE)
        self.timeout_s = timeout_s
        self._places = Places(MOST_SEARCHES)
        self._fetching = Places(MOST_FETCHING)
        self.searches: Counter[str] = Counter(dict.fromkeys([*get_args(Kind), NEXT_PAGE], 0))

    def warm_up(self) -> None:
        """Do in the background what the first search would wait for."""
        self._verifier.warm_up()

    async def search(self, query: Query) -> Results:
        """Return the first page of results; raises `TooBusy` and what `Resolver` raises."""
        self.searches[query.kind] += 1
        return await self.in_place(query, self._first_page)

    async def in_place(self, query: Query, work: Callable[[Query], Awaitable[T]]) -> T:
        """Do work on a query, whose URLs are fetched before, in the place of a search.

        Raises `TooBusy`, what the fetcher raises and what `work` raises.
        """
        check_sizes(query.terms)
        deadline = self._deadline()
        with self._places.taken():
            # Each wait has one limit, so that it is clear which of two was reached.
            if query.urls:
                query = await self._fetch(query)
            async with limited(deadline, self.timeout_s):
                return await work(query)

    async def next_page(
        self,
        cursor: str,
        *,
        limit: int,
        sees_faces: bool = True,
        beside: frozenset[Beside] = frozenset(),
    ) -> Results:
        """Return the page after the one that gave this cursor; raises `InvalidRequest`."""
        self.searches[NEXT_PAGE] += 1
        with self._places.taken():
            async with limited(self._deadline(), self.timeout_s), self._paging.taken():
                clock = Clock()
                asked = Asked.read(cursor, spaces=self._spaces, sees_faces=sees_faces)
                asked = asked.model_copy(update={"beside": beside})
                return await self._answer(asked, limit, clock)

    async def _fetch(self, query: Query) -> Query:
        limit_s = self.timeout_s * FETCHING_SHARE
        try:
            with self._fetching.taken():
                async with asyncio.timeout(limit_s):
                    return await self._resolver.fetch(query)
        except TimeoutError as exc:
            raise FetchTimedOut(f"The URLs took longer than {limit_s:g} s together.") from exc

    async def _first_page(self, query: Query) -> Results:
        clock = Clock()
        resolved = await self._resolver.resolve(query, clock)
        asked, near, notes = resolved.asked, None, list[str]()
        if resolved.subject is not None and query.verified:
            asked, near, notes = await self._verified(resolved, resolved.subject, query.limit)
        results = await self._answer(asked, query.limit, clock, near)
        notes = [*results.notes, *notes]
        return replace(results, picture=resolved.picture, size=asked.size, notes=notes)

    async def _verified(
        self, resolved: Resolved, subject: Subject, limit: int
    ) -> tuple[Asked, Near, Sequence[str]]:
        """Compare the query image with the nearest images by either vector.

        Return the nearest by that of the ranking, too, and notes. What is proved comes first.
        """
        asked = resolved.asked
        vector = asked.query_vector
        assert vector is not None  # noqa: S101 - an image has one
        near = await self._nearest.near(asked, vector, max(limit, MOST_VERIFIED))
        by_copy = await self._nearest.by_copy(asked, near.hits)
        rankings = {self._spaces.of(asked.ranked_by).name: near.hits}
        if by_copy:
            rankings = {self._spaces.copy.name: by_copy, **rankings}
        compared = candidates(subject, rankings)
        verification = await self._verifier.verify(subject, compared, resolved.view)
        found, notes = dict(verification.found), [*verification.notes]
        others = await self._nearest.missing(asked, vector, by_copy, near.hits)
        if resolved.parts:
            known = [i for i, verified in found.items() if verified.match == "copy"]
            parts = await self._part_finder.find(asked, resolved.parts, known)
            others += with_parts([*near.hits, *others], parts, found)
            notes += [note for note in parts.verification.notes if note not in notes]
        hits = with_matches([*near.hits, *others], found, sha256=asked.sha256)
        proofs = proofs_of(hits, lowest=asked.min_similarity)
        files = {hit.image.id: hit.image.sha256 for hit in hits}
        lifted = [files[proof.ids[0]] for proof in proofs if proof.lifted]
        return asked.proving(proofs, lifted), replace(near, hits=hits[: len(near.hits)]), notes

    async def _answer(
        self, asked: Asked, limit: int, clock: Clock, near: Near | None = None
    ) -> Results:
        """Answer a query; `near` are its nearest images, if they are known."""
        page = await self._page(asked, limit, near)
        both = await self._nearest.with_copy_similarities(asked, [*page.hits, *page.below])
        hits, below = both[: len(page.hits)], both[len(page.hits) :]
        clock.lap("search")
        cursor = page.following.cursor() if page.following else None
        notes = asked.notes
        if page.following and cursor is None:
            notes = [*notes, cursors.TOO_LONG]
        return Results(
            hits,
            below,
            clock.timings(),
            asked.min_similarity,
            cursor,
            notes,
            asked.unknown_words,
            size=asked.size,
        )

    async def _page(self, asked: Asked, limit: int, near: Near | None = None) -> Page:
        vector = asked.query_vector
        # A next page is of the same kind as the first, whatever has been added since.
        if asked.left:
            return await self._merged(asked, vector, await self._left(asked), limit)
        worded: list[UUID] = []
        if asked.words and asked.beyond is None:
            worded = await self._spaces.semantic.vectors.worded(
                asked.words, limit=MOST_FUSED, filters=asked.filters
            )
        if vector is None or worded:
            return await self._fused(asked, vector, worded, limit)
        if asked.diversity:
            return split(asked, await self._diverse(asked, vector, limit), None)
        if asked.sort != "best":
            return await self._sorted(asked, vector, limit)
        return await self._after_proofs(asked, vector, limit, near)

    async def _after_proofs(
        self, asked: Asked, vector: Vector, limit: int, near: Near | None
    ) -> Page:
        """Return a page of what is proved, as long as there is any, and then of the nearest."""
        lifted = [proof for proof in asked.proofs if proof.is_at_least(asked.match)]
        first, left = lifted[:limit], lifted[limit:]
        hits = await self._proved(asked, vector, first) if first else []
        others = [proof for proof in asked.proofs if not proof.lifted]
        following = asked.model_copy(update={"proofs": [*left, *others]})
        if left or asked.match:
            return Page(hits, following=following if left else None)
        room = limit - len(first)
        if room:
            page = await self._nearest.page(following, vector, room, near)
        else:
            page = Page([], following=following)
        return replace(page, hits=[*hits, *page.hits])

    async def _proved(self, asked: Asked, vector: Vector, proofs: Sequence[Proof]) -> list[Hit]:
        """Return hits of what was proved, without images deleted since."""
        ids = [image_id for proof in proofs for image_id in proof.ids]
        images = await self._catalog.find_all(ids, beside=asked.beside)
        similarities = await self._nearest.similarities(asked, vector, ids)
        hits: list[Hit] = []
        for proof in proofs:
            rows = [images[i] for i in proof.ids if i in images]
            if rows:
                similarity = similarities.get(rows[0].id)
                hit = Hit(rows[0], similarity, proof.match, places=rows[1:])
                hits.append(replace(hit, alignment=proof.alignment))
        return hits

    async def _sorted(self, asked: Asked, vector: Vector, limit: int) -> Page:
        """Return the first page of the nearest images in another order than the best first."""
        near = await self._nearest.vectors(asked).nearest(
            vector, limit=MOST_FUSED, filters=asked.filters
        )
        images = await self._fingerprints.find([image_id for image_id, _ in near])
        ranking: list[tuple[Fingerprint, Sequence[Reason]]] = [
            (images[i], ("picture",)) for i, _ in near if i in images and i not in asked.left_out
        ]
        return await self._passing(asked, vector, ranking, dict(near), limit)

    async def _fused(
        self, asked: Asked, vector: Vector | None, worded: list[UUID], limit: int
    ) -> Page:
        """Return the first page of images that are near or have the words."""
        near: list[tuple[UUID, float]] = []
        if vector is not None:
            near = await self._nearest.vectors(asked).nearest(
                vector, limit=MOST_FUSED, filters=asked.filters
            )
        order = reciprocal_rank_fusion([[i for i, _ in near], worded])
        images = await self._fingerprints.find(order)
        near_ids, worded_ids = {i for i, _ in near}, set(worded)
        ranking = [
            (images[i], reasons_of(near=i in near_ids, worded=i in worded_ids))
            for i in order
            if i in images and i not in asked.left_out
        ]
        similarities = dict(near)
        if vector is not None and asked.min_similarity is not None:
            similarities |= await self._nearest.similarities(
                asked, vector, [i for i in worded if i not in near_ids]
            )
        return await self._passing(asked, vector, ranking, similarities, limit)

    async def _passing(
        self,
        asked: Asked,
        vector: Vector | None,
        ranking: Ranking,
        similarities: Mapping[UUID, float],
        limit: int,
    ) -> Page:
        """Return the first page of those that pass in a ranking, and what is below, if all fit."""
        matches = asked.matches([image for image, _ in ranking])
        passing, others = divided(
            ranking, matches, similarities, lowest=asked.min_similarity, wanted=asked.match
        )
        ranked = in_order(passing, matches, similarities, asked.sort)
        page = await self._merged(asked, vector, ranked, limit)
        if page.following or asked.match:
            return page
        rest = await self._merged(asked, vector, others, limit - len(page.hits))
        return replace(page, below=rest.hits)

    async def _left(self, asked: Asked) -> Ranking:
        """Return what is left of the first page's ranking, without images deleted since."""
        ranking = asked.ranking
        images = await self._fingerprints.find_brief(list(ranking))
        return [(images[i], reasons) for i, reasons in ranking.items() if i in images]

    async def _merged(
        self, asked: Asked, vector: Vector | None, ranking: Ranking, limit: int
    ) -> Page:
        """Return the first of ranked images, one hit per file; the next page has the others."""
        files: dict[str, list[tuple[UUID, Sequence[Reason]]]] = {}
        for image, reasons in ranking:
            files.setdefault(image.sha256, []).append((image.id, reasons))
        each = list(files.values())
        shown = [pair for pairs in each[:limit] for pair in pairs]
        left = [pair for pairs in each[limit:] for pair in pairs]
        ids = [image_id for image_id, _ in shown]
        images = await self._catalog.find_all(ids, beside=asked.beside)
        similarities: dict[UUID, float] = {}
        if vector is not None:
            similarities = await self._nearest.similarities(asked, vector, ids)
        hits = [
            matched(asked, Hit(images[i], similarities.get(i), None, reasons))
            for i, reasons in shown
            if i in images
        ]
        return Page(one_per_file(hits), following=asked.leaving(left) if left else None)

    async def _diverse(self, asked: Asked, vector: Vector, limit: int) -> list[Hit]:
        """Return near images that differ from each other, best first."""
        candidates = min(DIVERSITY_CANDIDATES * limit + len(asked.left_out), MOST_NEAREST)
        found = await self._nearest.vectors(asked).nearest(
            vector, limit=candidates, filters=asked.filters
        )
        hits = one_per_file(await self._nearest.hits(asked, found))
        near = {
            hit.image.id: hit
            for hit in hits
            if hit.passes(asked.min_similarity) and is_at_least(hit.match, asked.match)
        }
        vectors = await self._nearest.vectors(asked).fetch(list(near))
        chosen = marginal_relevance(
            vector,
            np.array(list(vectors.values())).reshape(-1, len(vector)),
            limit=limit,
            diversity=asked.diversity,
        )
        ids = list(vectors)
        return [near[ids[index]] for index in chosen]

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.timeout_s
