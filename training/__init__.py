"""Trains, exports and evaluates the built-in encoder. Needs torch; the server does not."""
