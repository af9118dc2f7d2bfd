"""A contact sheet: a grid of images with the names of what they show."""

import textwrap

from PIL import Image, ImageDraw, ImageFont

COLUMNS = 8
# Width of a cell and height of the text under its image, in pixels; the text is up to three lines.
CELL, TEXT = 176, 48


def write(path, folder, images):
    """Writes a PNG.

    Args:
      path: of the PNG.
      folder: what the images' paths are relative to.
      images: (path, names) of each, row by row.
    """
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * (CELL + TEXT)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (name, names) in enumerate(images):
        left, top = number % COLUMNS * CELL, number // COLUMNS * (CELL + TEXT)
        with Image.open(folder / name) as image:
            scale = (CELL - 8) / max(image.size)
            small = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
        sheet.paste(small, (left + (CELL - small.width) // 2, top + CELL - small.height))
        text = textwrap.wrap(", ".join(names), 28)[:3]
        pen.multiline_text((left + CELL // 2, top + CELL + 2), "\n".join(text), "black", font, "ma", align="center")
    sheet.save(path)
