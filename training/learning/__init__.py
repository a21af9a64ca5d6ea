"""How both towers learn: the training loop, losses, the Muon optimiser and least squares.

It may import `data`.
"""
