"""The image tower: its two branches, its teacher, how each branch is trained, and the export.

It may import `learning` and `data`.
"""
