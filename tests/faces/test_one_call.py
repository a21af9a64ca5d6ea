"""All that is kept of an image's neighbours comes in one answer, by few statements."""

from app.encoding.encoder import Encoder
from app.settings import Settings
from tests.faces.conftest import linked
from tests.live import Loop
from tests.statements import counting

ALL = ["exif", "hashes", "colours", "metadata", "faces", "keypoints"]


def test_it_takes_three_statements(
    settings: Settings, loop: Loop, encoder: Encoder, portrait: str, stranger: str
) -> None:
    wanted = linked(settings).model_copy(update={"faces": "vectors"})
    with counting(wanted, loop, encoder) as (server, statements):
        _, other = server.upsert([portrait, stranger])
        asked = {"like": [other["id"]], "include": ALL}
        [hit] = server.client.post("/api/search", json=asked).json()["results"]
        assert hit["keypoints"] is None

        while loop.run(server.lookalike.keypoint_maker.make_some()):
            pass
        statements.clear()
        answer = server.client.post("/api/search", json=asked)
        assert len(statements) <= 3, statements
        [hit] = answer.json()["results"]
        [face] = hit["faces"]
        assert (face["order"], face["box"]["x"] > 0) == (0, True)
        points = hit["keypoints"]
        assert len(points["places"]) == len(points["sizes"]) == len(points["angles"]) > 10
        assert all(
            0 <= x <= points["width"] and 0 <= y <= points["height"] for x, y in points["places"]
        )
        for name in ("exif", "sha256", "dhash", "colours", "metadata", "taken_at"):
            assert name in hit
        # What was not asked for is not there.
        [hit] = server.client.post("/api/search", json={"like": [other["id"]]}).json()["results"]
        assert not {"faces", "keypoints", "face", "exif"} & hit.keys()
