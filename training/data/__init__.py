"""What the towers learn from: photos, augmented views of them, captions, labels and words.

It may import nothing else of `training`.
"""
