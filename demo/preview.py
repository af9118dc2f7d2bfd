"""Draws the image of the README from what a demo left: images, the classes that are named, the nearest neighbours.

    python demo/preview.py --output_dir=out/demo --result=docs/demo.png

The images are the first ones of the validation list, not chosen ones. They show emoji of OpenMoji
(https://openmoji.org, CC BY-SA 4.0), so the image is under that licence too.
"""

import json
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, run, script

script(__name__, __doc__, first="output_dir result", defaults={"output_dir": "out/demo", "result": "docs/demo.png"})

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_processing.lists import dictionary, image_list
from demo import report
from utils.files import atomic_write

ROWS, NAMED = 4, 8
# Sides of an image and of the text beside it, heights of a row and of the header, in pixels.
SIDE, TEXT, ROW, HEADER = 88, 300, 108, 26
RIGHT, WRONG, QUERY = "#16803c", "#777777", "#4a7ebb"


def main(argv):
    del argv
    out = Path(FLAGS.output_dir)
    world = out / "world"
    entries = dictionary.read(world / "dictionary_and_semantic_hierarchy.txt")
    rows = list(image_list.read(world / "val.txt"))
    predictions = json.loads((out / "predictions.json").read_text())[:ROWS]
    neighbours = report.nearest(np.load(out / "features.npz")["features"])
    drawn = set(range(len(entries))) - {entry.parent for entry in entries}
    page = Image.new("RGB", (SIDE + 12 + TEXT + (SIDE + 8) * neighbours.shape[1], HEADER + ROW * ROWS), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    headers = {0: "image", SIDE + 14: "classes named; green: right", SIDE + 12 + TEXT: "nearest neighbours by feature"}
    for left, text in headers.items():
        pen.text((left + 4, 4), text, "black", font)
    for k, prediction in enumerate(predictions):
        top = HEADER + k * ROW
        _paste(page, world / rows[k].path, 2, top)
        pen.rectangle((0, top - 2, SIDE + 3, top + SIDE + 1), outline=QUERY, width=2)
        shown = ", ".join(report.first_name(entries[label].names) for label in rows[k].labels if label in drawn)
        pen.text((SIDE + 14, top), f"shows {shown}", "black", font)
        _write_classes(pen, font, (SIDE + 14, top + 20), prediction["classes"][:NAMED], rows[k].labels)
        for n, other in enumerate(neighbours[k]):
            _paste(page, world / rows[other].path, SIDE + 12 + TEXT + n * (SIDE + 8), top)
    with atomic_write(FLAGS.result) as temp_path:
        page.quantize(256).save(temp_path, "PNG", optimize=True)
    print(f"written: {FLAGS.result}")


def _paste(page, path, left, top):
    """Puts an image into a square of SIDE pixels, its middle part if it is not square itself."""
    with Image.open(path) as image:
        least = min(image.size)
        corner = [(side - least) // 2 for side in image.size]
        square = image.crop((*corner, corner[0] + least, corner[1] + least))
    page.paste(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (left, top))


def _write_classes(pen, font, place, classes, labels):
    """Writes names and scores in lines of TEXT pixels; those of `labels` are green."""
    left, top = place
    for prediction in classes:
        text = f"{report.first_name(prediction['name'])} {prediction['score']:.2f}"
        width = pen.textlength(text, font) + 12
        if left + width > place[0] + TEXT - 8:
            left, top = place[0], top + 18
        pen.text((left, top), text, RIGHT if prediction["index"] in labels else WRONG, font)
        left += width


if __name__ == "__main__":
    run(main)
