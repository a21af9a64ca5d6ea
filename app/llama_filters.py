"""LlamaIndex's metadata filters as SQL with every key and value bound.

The store's own pasted them into SQL text (LlamaIndex issue 22475).
"""

# LlamaIndex leaves the types of filters' values open.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from typing import Any, TypeAlias

from llama_index.core.vector_stores.types import FilterOperator
from sqlalchemy import Float, case, cast, func, literal, not_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement

Untyped: TypeAlias = Any


def filter_clause(field: Untyped, operator: FilterOperator, value: Untyped) -> ColumnElement[bool]:
    """Return a comparison of a JSON field with a value."""
    as_text = field.astext
    match operator:
        case FilterOperator.IN:
            return as_text.in_([str(item) for item in value])
        case FilterOperator.NIN:
            return as_text.not_in([str(item) for item in value])
        case FilterOperator.ANY:
            return func.jsonb_exists_any(field, literal([str(item) for item in value]))
        case FilterOperator.ALL:
            return func.jsonb_exists_all(field, literal([str(item) for item in value]))
        case FilterOperator.CONTAINS:
            return field.op("@>")(cast(literal([value], JSONB), JSONB))
        case FilterOperator.TEXT_MATCH:
            return as_text.contains(value, autoescape=True)
        case FilterOperator.TEXT_MATCH_INSENSITIVE:
            return as_text.icontains(value, autoescape=True)
        case FilterOperator.IS_EMPTY:
            return as_text.is_(None)
        case _:
            return _comparison(field, operator, value)


def _comparison(field: Untyped, operator: FilterOperator, value: Untyped) -> ColumnElement[bool]:
    if isinstance(value, int | float):
        # CASE, because AND may evaluate the cast first, and fail on another row's text.
        number = case((func.jsonb_typeof(field) == "number", cast(field.astext, Float)))
        return _compare(number, operator, value)
    return _compare(field.astext, operator, value)


def _compare(left: Untyped, operator: FilterOperator, right: Untyped) -> ColumnElement[bool]:
    match operator:
        case FilterOperator.GT:
            return left > right
        case FilterOperator.LT:
            return left < right
        case FilterOperator.GTE:
            return left >= right
        case FilterOperator.LTE:
            return left <= right
        case FilterOperator.NE:
            return not_(left == right)
        case _:
            return left == right
