"""Trains, exports and measures the built-in encoder. Needs torch, which the server does not.

Imports point one way: measuring > text > image > learning > data.
"""
