"""Orders of lists: each is read from an index, forwards or backwards, page by page."""

from typing import get_args
from uuid import UUID

import pytest
from sqlalchemy import select, text

from app.lookalike import Lookalike
from app.store.orders import CatalogOrder, Position, in_order
from app.store.tables import IMAGES
from tests.live import Loop

FIRST = UUID(int=0)


@pytest.mark.parametrize("order", get_args(CatalogOrder))
@pytest.mark.parametrize("is_first", [True, False])
def test_a_page_needs_no_sorting(
    lookalike: Lookalike, loop: Loop, order: CatalogOrder, is_first: bool
) -> None:
    async def plan() -> str:
        async with lookalike.database.begin() as connection:
            end = 1
            if order in ("newest", "oldest"):
                end = await lookalike.trash.table.now()
            after = None if is_first else Position(end, FIRST)
            query = in_order(select(IMAGES.c.id), order, after=after).limit(61)
            written = query.compile(
                dialect=connection.dialect, compile_kwargs={"literal_binds": True}
            )
            # The table is empty, and so would be read whole.
            for way in ("seqscan", "bitmapscan", "sort"):
                await connection.execute(text(f"SET LOCAL enable_{way} = off"))
            lines = await connection.execute(text(f"EXPLAIN {written}".replace(":", r"\:")))
            return "\n".join(lines.scalars())

    found = loop.run(plan())
    assert "Index" in found
    assert "Sort" not in found, found
