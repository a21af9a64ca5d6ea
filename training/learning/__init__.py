"""How both towers learn: the training loop, losses and least squares.

It may import `data`.
"""
