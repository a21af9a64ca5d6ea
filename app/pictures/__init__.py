"""From bytes to a `Picture`: decoding, EXIF, colours.

It may import `settings` and `problems`.
"""
