from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from app.encoding.encoder import Reading, unit
from app.encoding.onnx_model import OnnxModel, fingerprint
from app.encoding.weights import BUILTIN_DIRECTORY
from app.problems import UnusableEncoder
from demo.__main__ import sample_photos
from tests.onnx_models import DIMENSIONS, PREPROCESSOR, write_clip
from tests.samples import photo

# Phrases, each with the demo photo that should be among the first three results.
SHOWN = {
    "a cat": "chelsea.png",
    "a cup of coffee": "coffee.png",
    "flowers": "flower.jpg",
    "a motorcycle": "motorcycle_left.png",
    "a man with a camera": "camera.png",
    "a building": "china.jpg",
    "grass": "grass.png",
    "a brick wall": "brick.png",
}


def opened(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def test_both_towers_embed(tmp_path: Path) -> None:
    model = OnnxModel(write_clip(tmp_path / "m"), name="tiny")
    assert (model.dimensions, model.has_text, model.precision) == (DIMENSIONS, True, "fp32")
    vectors = model.embed_images([model.prepare(photo(seed)) for seed in range(3)])
    assert (vectors.shape, vectors.dtype) == ((3, DIMENSIONS), np.float32)
    assert model.embed_texts(["a red cat", "snow"]).shape == (2, DIMENSIONS)


def test_a_batch_gives_the_same_vectors_as_its_members_alone(tmp_path: Path) -> None:
    model = OnnxModel(write_clip(tmp_path / "m"), name="tiny")
    texts = ["a", "a red cat in the snow"]
    together = model.embed_texts(texts)
    alone = np.concatenate([model.embed_texts([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_texts_are_cut_at_77_tokens_and_keep_the_end_token(tmp_path: Path) -> None:
    model = OnnxModel(write_clip(tmp_path / "m", mask=False), name="tiny")
    # Start, 75 words and end make 77; the tower sums its inputs.
    full = model.embed_texts([" ".join(["cat"] * 75)])
    np.testing.assert_allclose(model.embed_texts([" ".join(["cat"] * 500)]), full, atol=1e-4)
    assert not np.allclose(model.embed_texts([" ".join(["cat"] * 74)]), full, atol=1e-4)


def test_a_model_without_a_text_tower_embeds_images_only(tmp_path: Path) -> None:
    model = OnnxModel(write_clip(tmp_path / "m", text=False), name="tiny")
    assert (model.has_text, model.read("a cat")) == (False, Reading(is_empty=True))


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("a red cat", Reading()),
        ("a wug and a red wug", Reading(unknown_words=("wug", "and"))),
        ("wug", Reading(unknown_words=("wug",), is_empty=True)),
        (" ", Reading(is_empty=True)),
        ("cat " * 76, Reading(is_cut=True)),
    ],
)
def test_read_says_how_much_of_a_text_is_used(tmp_path: Path, text: str, reading: Reading) -> None:
    assert OnnxModel(write_clip(tmp_path / "m"), name="tiny").read(text) == reading


def test_a_model_that_spells_words_has_no_unknown_words(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "m", mask=False)
    letters = {letter: place for place, letter in enumerate(["<|endoftext|>", *"acdegnorsw</w>"])}
    spelling = Tokenizer(models.BPE(letters, [], unk_token="<|endoftext|>"))
    spelling.pre_tokenizer = pre_tokenizers.Whitespace()
    spelling.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    spelling.save(str(folder / "tokenizer.json"))
    assert OnnxModel(folder, name="tiny").read("warg") == Reading()


def test_the_builtin_model_loads() -> None:
    model = OnnxModel(BUILTIN_DIRECTORY, name="builtin")
    assert (model.dimensions, model.has_text) == (512, True)


def test_the_builtin_model_finds_sample_photos_by_text() -> None:
    model = OnnxModel(BUILTIN_DIRECTORY, name="builtin")
    assert model.read("A flurble in the snow") == Reading(unknown_words=("flurble",))
    photos = sample_photos()
    pictures = unit(model.embed_images([model.prepare(opened(p)) for p in photos.values()]))
    for text, name in SHOWN.items():
        best = np.argmax(pictures @ unit(model.embed_texts([text]))[0])
        assert list(photos)[best] == name, text


def test_the_fingerprint_depends_on_the_files_that_determine_image_vectors(tmp_path: Path) -> None:
    one, same = write_clip(tmp_path / "one"), write_clip(tmp_path / "same")
    assert fingerprint(one) == fingerprint(same)
    other = write_clip(tmp_path / "other", preprocessor={**PREPROCESSOR, "resample": 2})
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) != fingerprint(write_clip(tmp_path / "wide", outlier=1.0))


def test_another_text_tower_has_the_same_fingerprint(tmp_path: Path) -> None:
    reading, silent = write_clip(tmp_path / "one"), write_clip(tmp_path / "two", text=False)
    assert fingerprint(reading) == fingerprint(silent)


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ("onnx/vision_model.onnx", "vision_model.onnx"),
        ("onnx/text_model.onnx", "text_model.onnx"),
        ("tokenizer.json", "tokenizer.json"),
        ("preprocessor_config.json", "preprocessor_config.json"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, broken: str, named: str) -> None:
    folder = write_clip(tmp_path / "m")
    (folder / broken).write_bytes(b"not what it should be")
    with pytest.raises(UnusableEncoder, match=named):
        OnnxModel(folder, name="tiny")


@pytest.mark.parametrize("missing", ["onnx/vision_model.onnx", "preprocessor_config.json"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    folder = write_clip(tmp_path / "m")
    (folder / missing).unlink()
    with pytest.raises(UnusableEncoder, match=Path(missing).name):
        OnnxModel(folder, name="tiny")


def test_a_model_with_other_inputs_is_refused(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "m")
    (folder / "onnx/text_model.onnx").replace(folder / "onnx/vision_model.onnx")
    with pytest.raises(UnusableEncoder, match="no input pixel_values"):
        OnnxModel(folder, name="tiny")


def test_a_config_that_does_not_fit_the_model_is_refused(tmp_path: Path) -> None:
    config = {**PREPROCESSOR, "crop_size": {"height": 48, "width": 48}}
    with pytest.raises(UnusableEncoder, match="cannot embed an image"):
        OnnxModel(write_clip(tmp_path / "m", preprocessor=config), name="tiny")
