"""The encoder `lite`: its network, its maps' ranges in 8 bits, the projection of its features.

It may import `learning` and `data`.
"""
