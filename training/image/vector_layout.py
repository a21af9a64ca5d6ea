"""What an exported vector's 512 dimensions hold: copies, semantics, hubness, and a constant.

The embeddings of both branches are side by side, so that the similarity of two images is the
weighted mean of the branches' similarities. A text is compared with the semantic part only.

One dimension holds the hubness (see `training.text.querybank`), by which a text lowers its
similarity with images that are close to every text. It is 0 until the text tower is exported, and
so small that similarities between images hardly change.

The last dimension is constant, for calibration: it raises every similarity s between images to
(1 - offset) s + offset, so that copies begin at 0.90.
"""

from training.image.network import DIMENSIONS

# The dimensions of the semantic part, and its share of a vector's squared length.
SEMANTIC_DIMENSIONS, SEMANTIC_SHARE = 190, 0.04
HUBNESS_DIMENSION = DIMENSIONS - 2
SEMANTIC_PART = slice(HUBNESS_DIMENSION - SEMANTIC_DIMENSIONS, HUBNESS_DIMENSION)
# The inverse temperature at which the nearest texts dominate the hubness.
HUBNESS_SHARPNESS = 16.0
# The names in the image tower's graph of the querybank's texts in 8 bits, their scale, and the
# logarithms of how much each counts.
BANK_NAMES = ("querybank", "querybank_scale", "querybank_counts")
