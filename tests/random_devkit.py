"""Random devkits of VOC with results, and VOC's measure once more, in plain Python that shares nothing with ours."""

from pathlib import Path
import random
import xml.etree.ElementTree as ET

from PIL import Image

WIDTH, HEIGHT = 120, 90
ALL = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor"
).split()


def write(folder, seed, images=30, decimals=0, without_size=False):
    """Writes VOCdevkit/VOC2007, of the list "test", and results/VOC2007/Main into `folder`.

    Of the classes "boat" has no object, "bus" difficult ones only, "car" an empty file, "cat" no file, "cow" neither
    objects nor a file. Many scores are equal; boxes have `decimals` digits after the point.
    """
    chance = random.Random(seed)
    year, main = Path(folder, "VOCdevkit/VOC2007"), Path(folder, "results/VOC2007/Main")
    for path in (year / "Annotations", year / "ImageSets/Main", year / "JPEGImages", main):
        path.mkdir(parents=True)
    ids = [f"{number:06d}" for number in chance.sample(range(1, 9999), images)]
    (year / "ImageSets/Main/test.txt").write_text("".join(f"{name}\n" for name in ids))
    lines = {name: [] for name in ALL}
    for name in ids:
        Image.new("RGB", (WIDTH, HEIGHT), (60, 90, 120)).save(year / f"JPEGImages/{name}.jpg")
        objects = [_object(chance, chance.choice(ALL[:12])) for _ in range(chance.choice([0, 1, 2, 3, 5]))]
        objects = [one for one in objects if one[0] not in ("boat", "cow")]
        _write_annotation(year / f"Annotations/{name}.xml", objects, without_size)
        for label, box, _ in objects:
            for _ in range(chance.choice([0, 1, 1, 2])):
                found = label if chance.random() < 0.8 else chance.choice(ALL)
                lines[found].append((name, chance.randrange(1, 20) / 20, _near(chance, box, decimals)))
        if chance.random() < 0.5:
            lines[chance.choice(ALL)].append((name, chance.random(), _near(chance, _box(chance), decimals)))
    for label in ALL:
        chance.shuffle(lines[label])
        text = "".join(f"{name} {score} {' '.join(map(str, box))}\n" for name, score, box in lines[label])
        if label not in ("cat", "cow"):
            (main / f"comp4_det_test_{label}.txt").write_text("" if label == "car" else text)


def _box(chance):
    left, top = chance.randint(1, WIDTH - 10), chance.randint(1, HEIGHT - 10)
    return left, top, chance.randint(left, WIDTH), chance.randint(top, HEIGHT)


def _object(chance, label):
    return label, _box(chance), label == "bus" or chance.random() < 0.2


def _near(chance, box, decimals):
    """A box that may be the same, or a little or far off; within the image."""
    reach = chance.choice([0, 3, 12])
    moved = [round(edge + chance.uniform(-reach, reach), decimals or None) for edge in box]
    left, top = max(1, moved[0]), max(1, moved[1])
    return left, top, max(left, min(WIDTH, moved[2])), max(top, min(HEIGHT, moved[3]))


def _write_annotation(path, objects, without_size):
    root = ET.Element("annotation")
    if not without_size:
        size = ET.SubElement(root, "size")
        for tag, value in (("width", WIDTH), ("height", HEIGHT), ("depth", 3)):
            ET.SubElement(size, tag).text = str(value)
    for label, box, difficult in objects:
        element = ET.SubElement(root, "object")
        ET.SubElement(element, "name").text = label
        ET.SubElement(element, "difficult").text = str(int(difficult))
        bndbox = ET.SubElement(element, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ET.SubElement(bndbox, tag).text = str(value)
    path.write_bytes(ET.tostring(root))


def read(folder):
    """Returns {class: {id: [(box, difficult)]}} and {class: [(id, score, box)]} of what `write` wrote."""
    year, truth = Path(folder, "VOCdevkit/VOC2007"), {label: {} for label in ALL}
    for name in (year / "ImageSets/Main/test.txt").read_text().split():
        for element in ET.parse(year / f"Annotations/{name}.xml").iter("object"):
            box = [float(element.findtext(f"bndbox/{tag}")) for tag in ("xmin", "ymin", "xmax", "ymax")]
            objects = truth[element.findtext("name")].setdefault(name, [])
            objects.append((box, element.findtext("difficult") == "1"))
    return truth, read_results(folder)


def read_results(folder):
    """Returns the second of what `read` does."""
    found = {}
    for label in ALL:
        path = Path(folder, f"results/VOC2007/Main/comp4_det_test_{label}.txt")
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        found[label] = [(name, float(score), [float(edge) for edge in box]) for name, score, *box in rows]
    return found


def plain_measures(truth, found):
    """Returns AP by 11 points and by area of one class, or None without a positive; arguments by class as of `read`."""
    positives = sum(not difficult for objects in truth.values() for _, difficult in objects)
    if not positives:
        return None
    taken, curve, right, wrong = set(), [], 0, 0
    for name, _, box in sorted(found, key=lambda one: -one[1]):  # (sorted keeps the order of equals)
        best, overlap = None, 0.0
        for number, (other, _) in enumerate(truth.get(name, [])):
            if plain_overlap(box, other) > overlap:
                best, overlap = number, plain_overlap(box, other)
        if overlap >= 0.5 and truth[name][best][1]:
            continue
        if overlap >= 0.5 and (name, best) not in taken:
            taken.add((name, best))
            right += 1
        else:
            wrong += 1
        curve.append((right / positives, right / (right + wrong)))
    points = [max((p for r, p in curve if r >= k * 0.1), default=0.0) for k in range(11)]
    area, before = 0.0, 0.0
    for place, (recall, _) in enumerate(curve):
        area += (recall - before) * max(precision for _, precision in curve[place:])
        before = recall
    return sum(points) / 11, area


def plain_overlap(one, other):
    """Intersection over union of VOC's inclusive boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    return width * height / (sum(areas) - width * height)
