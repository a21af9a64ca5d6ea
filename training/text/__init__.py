"""The text tower: its network, how it is trained against the image tower, and the export.

It may import `image`, `learning` and `data`.
"""
