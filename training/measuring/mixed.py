"""Measure a phrase with a liked image beside it, against either of them alone:
`python -m training.measuring.mixed --photos PLACE… [--labels FILE] [--model NAME…]`.

The phrase is the name of a class, the liked image one of its photos. Measured is the share of the
class among the first ten others, on average over all photos.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from app.encoding.encoder import Vector, Vectors
from app.search.query import Marked
from app.search.spreads import Spread, spread_ratio
from training.measuring.embedding import embed_images, embed_texts
from training.measuring.models import load_models
from training.measuring.similar import NEAREST, asked, sets

# A class needs so many photos for its share to say anything.
FEWEST = 5


def shares(images: Vectors, classes: Sequence[str], names: dict[str, Vector]) -> dict[str, float]:
    """Return the shares by a class's name, by a photo, and by both, as searches sum them."""
    ratio = spread_ratio(np.array(list(names.values())), images)
    spread = Spread(len(images), ratio, images)
    counts = Counter(classes)
    labels = np.array(classes)
    found: dict[str, list[float]] = {"name": [], "photo": [], "both": []}
    for place, (name, photo) in enumerate(zip(classes, images, strict=True)):
        if counts[name] < FEWEST:
            continue
        queries = {
            "name": names[name],
            "photo": photo,
            "both": spread.marked_beside_text(names[name], Marked([photo])),
        }
        for kind, query in queries.items():
            similarities = images @ query
            similarities[place] = -np.inf
            first = np.argsort(-similarities, kind="stable")[: min(NEAREST, counts[name] - 1)]
            found[kind].append(float((labels[first] == name).mean()))
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def main() -> None:
    args = asked(__doc__, most=12)
    models = load_models(args.model)
    print(f"{'':36}" + "".join(f"{title:>10}" for title in ("name", "photo", "both", "of better")))
    for name, classes, images in sets(args):
        phrases = sorted(set(classes))
        for title, model in models.items():
            named = dict(zip(phrases, embed_texts(model, phrases), strict=True))
            found = shares(embed_images(model, images), classes, named)
            row = [*found.values(), found["both"] / max(found["name"], found["photo"])]
            print(f"{f'{name}, {title}':36}" + "".join(f"{value:10.3f}" for value in row))


if __name__ == "__main__":
    main()
