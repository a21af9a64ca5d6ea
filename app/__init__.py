"""Lookalike, a reverse image search server; one package per job.

    cli > web > lookalike > jobs | search > indexing > store > encoding | pictures
        > settings | logs > problems

Imports point rightwards only. docs/design.md shows the way of a query and of an upsert.
"""
