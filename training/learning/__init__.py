"""How both towers learn: the training loop, and losses.

It may import `data`.
"""
