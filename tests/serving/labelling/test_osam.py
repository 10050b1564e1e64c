"""osam's own requests, prompts and responses go through our model, as labelme sends them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("osam", reason="needs osam: pip install osam")

import osam
from osam import types

from sam2rt.configs.errors import InputError
from sam2rt.serving.labelling.osam_model import register
from sam2rt.serving.labelling.outlines import edges_of


@pytest.fixture(scope="module")
def registered(built_in) -> Any:
    made = register(str(built_in.path), "sam2:latest", threads=1)
    yield made
    osam.apis.registered_model_types.remove(made)
    osam.apis.running_model = None


def inside(mask: Any) -> list[float]:
    rows, columns = np.nonzero(mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return [float(columns[nearest]), float(rows[nearest])]


def whole(annotation: Any, size: tuple[int, int]) -> Any:
    box, pixels = annotation.bounding_box, np.zeros(size, bool)
    pixels[box.ymin : box.ymax + 1, box.xmin : box.xmax + 1] = annotation.mask
    return pixels


def request(points: Any, labels: Any, **more: Any) -> Any:
    prompt = types.Prompt(points=np.array(points, float), point_labels=np.array(labels))
    return types.GenerateRequest(model="sam2:latest", prompt=prompt, **more)


@pytest.mark.parametrize("kind", ["clicks", "box"])
def test_the_mask_is_that_of_the_image_predictor(kind, registered, clip, segmented):
    true, other = clip.labels[0] == 2, clip.labels[0] == 1
    if kind == "clicks":
        points, labels = [inside(true), inside(other)], [1, 0]
        expected, score = segmented(points, labels)
    else:
        x0, y0, x1, y1 = edges_of(true)
        points, labels = [[x0, y0], [x1, y1]], [2, 3]
        expected, score = segmented(box=[x0, y0, x1, y1])
    response = osam.apis.generate(request(points, labels, image=clip.frames[0]))
    (annotation,) = response.annotations
    np.testing.assert_array_equal(whole(annotation, true.shape), expected)
    assert annotation.score == pytest.approx(score)
    assert response.model == "sam2:latest"
    assert (expected & true).sum() / (expected | true).sum() > 0.9


def test_an_embedding_serves_many_requests_in_json_too(registered, clip, segmented):
    """As labelme keeps embeddings, and as osam's server sends them."""
    model = osam.apis.get_model_type_by_name("sam2")()
    kept = model.encode_image(clip.frames[0])
    sent = types.ImageEmbedding.model_validate_json(kept.model_dump_json())
    for number in (1, 2):
        click = inside(clip.labels[0] == number)
        expected, _ = segmented([click], [1])
        for embedding in (kept, sent):
            asked = request([click], [1], image_embedding=embedding)
            (annotation,) = model.generate(asked).annotations
            np.testing.assert_array_equal(whole(annotation, expected.shape), expected)


def test_the_bundle_is_listed_and_there(registered, built_in):
    assert osam.apis.get_model_type_by_name("sam2:latest") is registered
    assert registered.get_id() == built_in.digest[:12]
    assert registered.get_size() >= (built_in.path / "manifest.json").stat().st_size
    assert registered.get_modified_at() > 0
    registered.pull()
    with pytest.raises(InputError, match="is a bundle of yours: remove its folder yourself"):
        registered.remove()
    assert built_in.path.is_dir()


def test_what_is_wrong_is_one_line(registered, clip, built_in):
    generate = osam.apis.generate
    words = types.GenerateRequest(
        model="sam2:latest", image=clip.frames[0], prompt=types.Prompt(texts=["cat"])
    )
    with pytest.raises(InputError, match="SAM 2 takes points and boxes, not words"):
        generate(words)
    with pytest.raises(InputError, match="the request has no image: give image or"):
        generate(request([[3, 3]], [1]))
    with pytest.raises(InputError, match=r"the point \[9999.0, 3.0\] lies outside the image"):
        generate(request([[9999, 3]], [1], image=clip.frames[0]))
    foreign = types.ImageEmbedding(
        original_height=9, original_width=9, embedding=np.zeros((2, 3, 3), np.float32)
    )
    with pytest.raises(InputError, match="the embedding is of another model"):
        generate(request([[3, 3]], [1], image_embedding=foreign))
    with pytest.raises(InputError, match="name is 'sam2': expected one such as sam2:latest"):
        register(str(built_in.path), "sam2")
