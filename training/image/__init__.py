"""The image tower that finds copies: its network, its teacher, how it is trained, and the export.

It may import `learning` and `data`.
"""
