"""Boxes drawn into images: where the lines are, that captions are readable and stay inside, and odd boxes and sizes."""

import itertools

import numpy as np
from PIL import Image, ImageDraw
import pytest

from evaluation import drawing

RED = (255, 0, 0)


def ground(height, width, value=128):
    return np.full([height, width, 3], value, np.uint8)


def where(drawn, color):
    """First row, last row, first and last column of a color."""
    rows, columns = np.nonzero((drawn == color).all(axis=-1))
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_lines_lie_on_the_boxs_pixels_and_the_image_is_left_alone():
    image = ground(100, 120)
    drawn = drawing.draw(image, [[10, 20, 50, 81]], [""], [RED])
    assert drawn.dtype == np.uint8 and drawn.shape == image.shape and (image == 128).all()
    changed = np.argwhere((drawn != image).any(axis=-1))
    assert [*changed.min(axis=0), *changed.max(axis=0)] == [20, 10, 80, 49]
    assert where(drawn, RED) == (21, 79, 11, 48)  # inside its edge
    assert (drawn[40, 10:13] == [(255, 255, 255), RED, (255, 255, 255)]).all()
    assert (drawn[30:70, 20:40] == 128).all()


@pytest.mark.parametrize("value", [0, 76, 128, 255])
@pytest.mark.parametrize("color", [RED, (0, 0, 0), (255, 255, 255), (128, 128, 128), drawing.color_of(3)])
def test_on_any_ground_something_stands_out(value, color):
    """One of the line and its edge differs from the ground by a quarter of the scale, and so do the letters."""
    drawn = drawing.draw(ground(90, 90, value), [[20, 30, 80, 80]], ["dog 0.93"], [color]).astype(int)
    assert abs(drawn[77:80, 50] - value).max() > 64 and abs(drawn[60, 20:23] - value).max() > 64
    caption = drawn[18:28, 20:60].reshape(-1, 3)
    assert np.ptp(caption @ (0.299, 0.587, 0.114)) > 64


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (40, 300), (300, 40), (375, 500), (32, 5000), (1200, 2000)])
def test_captions_stay_inside_at_any_size(monkeypatch, size):
    """Whatever the box: what is drawn as text and its ground lies in the image as a whole."""
    height, width = size
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(-0.2, 1.2, [8, 2, 2]), axis=1).reshape(8, 4) * [width, height, width, height]
    boxes = [*boxes, [0, 0, width, height], [width - 1, height - 1, width, height], [0, 0, 1, 1]]
    grounds, texts = [], []
    rectangle, text = ImageDraw.ImageDraw.rectangle, ImageDraw.ImageDraw.text

    def record_rectangle(pen, place, fill=None, **options):
        if fill:
            grounds.append(place)
        rectangle(pen, place, fill=fill, **options)

    def record_text(pen, xy, words, fill, font):
        texts.append(pen.textbbox(xy, words, font))
        text(pen, xy, words, fill, font)

    monkeypatch.setattr(ImageDraw.ImageDraw, "rectangle", record_rectangle)
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record_text)
    captions = [f"a class of a long name {k} 0.{k}" for k in range(len(boxes))]
    drawn = drawing.draw(ground(*size), boxes, captions, [drawing.color_of(k) for k in range(len(boxes))])
    assert drawn.shape == (*size, 3)
    assert len(texts) == len(grounds) > (6 if min(size) > 30 else -1)
    for place, words in zip(grounds, texts, strict=True):
        assert 0 <= place[0] < place[2] < width and 0 <= place[1] < place[3] < height
        assert place[0] <= words[0] and words[2] <= place[2] + 1 and place[1] <= words[1] and words[3] <= place[3] + 1


def test_a_wide_caption_is_cut_and_captions_keep_apart():
    drawn = drawing.draw(ground(100, 60), [[5, 40, 50, 90]], ["a very long name of a class"], [RED])
    assert where(drawn[:40], RED)[2] >= 0
    box = [20, 100, 120, 180]
    drawn = drawing.draw(ground(200, 200), [box, box, box], ["one", "two", "three"], [RED, (0, 99, 0), (0, 0, 99)])
    rows = [where(drawn, color)[:2] for color in ((0, 99, 0), (0, 0, 99))]
    assert rows[0][0] >= 100 and rows[1][1] > rows[0][1]  # the first is above, the others find places of their own


def test_lines_and_letters_grow_with_the_image():
    found = []
    for scale in (1, 2, 4):
        drawn = drawing.draw(ground(400 * scale, 500 * scale), [np.array([100, 100, 300, 300]) * scale], ["dog"], [RED])
        ground_of_text = where(drawn[: 100 * scale], RED)
        found.append((ground_of_text[1] - ground_of_text[0], (drawn[200 * scale, : 200 * scale] == RED).all(-1).sum()))
    heights, lines = np.array(found).T
    np.testing.assert_allclose(heights[1:] / heights[:-1], 2, atol=0.3)
    assert lines.tolist() == [2, 4, 9]


def test_what_is_no_box_is_left_out():
    image = ground(50, 50)
    odd = [[np.nan, 0, 5, 5], [0, 0, np.inf, 5], [60, 0, 70, 10], [-9, 0, 0, 10], [10, 10, 10, 20], [20, 20, 10, 30]]
    assert (drawing.draw(image, odd, ["no"] * 6, [RED] * 6) == 128).all()
    assert (drawing.draw(image, np.zeros([0, 4], np.float32), [], []) == 128).all()
    thin = drawing.draw(image, [[10.2, 10.2, 10.4, 40]], ["\n"], [RED])
    assert (thin != 128).any(axis=-1).sum() == 30
    with pytest.raises(ValueError):
        drawing.draw(image, [[0, 0, 9, 9]], [], [RED])


def test_the_first_lies_on_top():
    drawn = drawing.draw(ground(99, 99), [[10, 10, 90, 90]] * 2, ["", ""], [RED, (0, 0, 99)])
    assert (drawn == RED).all(-1).any() and not (drawn == (0, 0, 99)).all(-1).any()


def test_colors_of_classes_are_stable_and_apart():
    assert [drawing.color_of(k) for k in (0, 1, 19)] == [(249, 6, 6), (116, 155, 251), (178, 116, 251)]
    colors = np.array([drawing.color_of(k) for k in range(20)], float)
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(colors, 2)) > 60
    assert len({drawing.color_of(k) for k in range(500)}) > 450


def test_of_a_file(tmp_path):
    """An image as it is read, of memory that may not be written to or is not in one piece."""
    path = tmp_path / "a.png"
    Image.fromarray(ground(40, 60)).save(path)
    image = np.asarray(Image.open(path))
    assert (drawing.draw(image[:, ::-1], [[5, 5, 30, 30]], ["x"], [RED]) != 128).any()
