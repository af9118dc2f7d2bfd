"""Records of masks, built of VOC 2012, SBD, folders and TFDS: what is in them, and what is left out and why."""

import io

import numpy as np
from PIL import Image, ImageOps
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from data_processing.lists import dictionary
from data_processing.records import build_dataset
from data_processing.records.index import index_split
from data_processing.sources import tfds_source, voc_masks
from data_processing.sources.labeled_images import SourceError
from tests import mask_files, voc_devkit
from tests.mask_files import mask, mat, png, saved
from tests.scripts import run_script


def build(source, output, **config):
    return build_dataset.build(source, output, build_dataset.DatasetConfig(**config))


def records(folder):
    """{stem of the image: (mask as array, width, height)}, read by TensorFlow and Pillow."""
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in ("image", "name", "mask")}
    features |= {name: tf.io.FixedLenFeature([], tf.int64) for name in ("width", "height")}
    found = {}
    for path in sorted(folder.glob("*.tfrecords")):
        for data in tf.data.TFRecordDataset(str(path)):
            record = {k: v.numpy() for k, v in tf.io.parse_single_example(data, features).items()}
            image = Image.open(io.BytesIO(record["mask"]))
            assert image.mode == "L" and image.size == (record["width"], record["height"])
            assert image.size == Image.open(io.BytesIO(record["image"])).size
            found[record["name"].decode().rpartition("/")[2].rpartition(".")[0]] = np.asarray(image)
    return found


def rejected(folder):
    lines = (folder / "rejected.tsv").read_text().splitlines()
    return {line.split("\t")[0].rpartition("/")[2].rpartition(".")[0]: line.split("\t")[1] for line in lines}


def assert_masks(found, masks):
    assert found.keys() == set(masks)
    for name, values in found.items():
        np.testing.assert_array_equal(values, masks[name])


def test_records_of_a_devkit_and_of_its_tar(tmp_path):
    content, masks = mask_files.devkit(tmp_path / "VOCdevkit")
    ids = sorted(masks)
    tar = tmp_path / "tar" / "VOCtrainval_11-May-2012.tar"
    tar.parent.mkdir()
    voc_devkit.packed(tar, content)
    for k, place in enumerate((tmp_path / "VOCdevkit", tmp_path / "VOCdevkit/VOC2012", tar, tar.parent)):
        out = tmp_path / f"out{k}"
        planned = build_dataset.plan(f"voc2012seg:{place}", out, build_dataset.DatasetConfig())
        assert planned[0] == 21 and planned[2:] == (5, 4, "masks") and not out.exists()
        assert build(f"voc2012seg:{place}", out) == (21, 5, 4)
        assert dictionary.read_names(out / "dictionary.txt") == list(voc_masks.CLASSES)
        assert_masks(records(out / "train"), {name: masks[name] for name in ids[:5]})
        assert_masks(records(out / "val"), {name: masks[name] for name in ids[5:]})
        assert index_split(out, "val", 21).kind == "masks"
        assert build_dataset.plan(f"voc2012seg:{place}", out, build_dataset.DatasetConfig()).kind == "masks"
    assert [path.name for path in tar.parent.iterdir()] == [tar.name]


@pytest.mark.parametrize(("place", "ending"), [("dataset/cls", "mat"), ("SegmentationClassAug", "png"), ("", "mat")])
def test_sbd_adds_what_is_not_of_val(tmp_path, place, ending):
    _, masks = mask_files.devkit(tmp_path / "VOCdevkit", more=6)
    ids = sorted(masks)
    folder = tmp_path / "sbd" / place
    folder.mkdir(parents=True)
    # Of all images, others than VOC's.
    own = {name: mask(100 + k, *masks[name].shape[::-1], classes=(0, 5, 6)) for k, name in enumerate(ids)}
    for name in ids[2:]:
        (folder / f"{name}.{ending}").write_bytes(mat(own[name]) if ending == "mat" else png(own[name], None))
    out = tmp_path / "out"
    assert build(f"voc2012seg:{tmp_path / 'VOCdevkit'}", out, sbd=str(tmp_path / "sbd")) == (21, 11, 4)
    assert_masks(records(out / "train"), {n: masks[n] for n in ids[:5]} | {n: own[n] for n in ids[9:]})
    assert_masks(records(out / "val"), {name: masks[name] for name in ids[5:9]})
    with pytest.raises(ValueError, match="made with other settings"):
        build(f"voc2012seg:{tmp_path / 'VOCdevkit'}", out)


def test_what_cannot_be_used_is_left_out_and_listed(tmp_path):
    content, _ = mask_files.devkit(tmp_path / "VOCdevkit", train=12)
    folder = tmp_path / "VOCdevkit/VOC2012/SegmentationClass"
    (folder / "2012_000000.png").unlink()
    for name, data in {
        "2012_000001": png(mask(0, 41, 60)), "2012_000002": png(mask(0, classes=(0, 21))),
        "2012_000003": saved(Image.new("RGB", (40, 60))), "2012_000004": png(mask(0))[:200], "2012_000005": b"",
        "2012_000006": saved(Image.fromarray(mask(0).astype(np.uint16))), "2012_000007": b"<html>",
    }.items():  # fmt: skip
        (folder / f"{name}.png").write_bytes(data)
    (tmp_path / "VOCdevkit/VOC2012/JPEGImages/2012_000008.jpg").write_bytes(
        voc_devkit.jpeg(8, exif=_exif(3))
    )  # as wide, and turned
    with pytest.raises(ValueError, match="9 of 12 images were rejected, more than --max_rejected=0.01 .*rejected.tsv"):
        build(f"voc2012seg:{tmp_path / 'VOCdevkit'}", tmp_path / "strict")
    assert build(f"voc2012seg:{tmp_path / 'VOCdevkit'}", tmp_path / "out", max_rejected=0.9) == (21, 3, 4)
    found = rejected(tmp_path / "out/train")
    for name, reason in {
        "2012_000000": "mask: No such file or directory: VOC2012/SegmentationClass/2012_000000.png",
        "2012_000001": "mask: 41 x 60 pixels, the image has 40 x 60",
        "2012_000002": "mask: index 21 above the classes, 0 to 20; 255 is void",
        "2012_000003": "mask: RGB: the colors are no indices; save the index of each pixel's class",
        "2012_000004": "mask: damaged or truncated",
        "2012_000005": "mask: empty file",
        "2012_000006": "mask: 16 bits of grey; save it with 8",
        "2012_000007": "mask: neither a PNG nor a .mat of SBD",
        "2012_000008": "mask: EXIF orientation 3 of the image, and nothing tells",
    }.items():
        assert found.pop(name).startswith(reason), name
    assert not found and content


def _exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_masks_of_images_that_exif_turns(tmp_path, orientation):
    """An image's pixels as classes: turned as the image is, or drawn on it when it was turned."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir(), masks.mkdir()
    values = mask(7, 60, 40, (0, 1))
    image = Image.fromarray(values * 255).convert("RGB")
    for name in ("before", "after"):
        image.save(images / f"{name}.jpg", quality=95, exif=_exif(orientation))
    (masks / "before.png").write_bytes(png(values))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(images / "after.jpg")))[..., 0]
    upright = (upright > 127).astype(np.uint8)
    (masks / "after.png").write_bytes(png(upright))
    build(f"masks:{images},{masks}", tmp_path / "out", val_fraction=0.5)
    found = records(tmp_path / "out/train") | records(tmp_path / "out/val")
    assert_masks(found, {"before": upright, "after": upright})


def folders(root, names, **of_mask):
    masks = {}
    for k, name in enumerate(names):
        one = png(mask(k, **of_mask), (None, mask_files.PALETTE)[k % 2])
        for path, data in ((root / f"images/{name}.jpg", voc_devkit.jpeg(k)), (root / f"masks/{name}.png", one)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        masks[name.rpartition("/")[2]] = mask(k, **of_mask)
    return f"masks:{root / 'images'},{root / 'masks'}", masks


def test_records_of_two_folders(tmp_path):
    source, masks = folders(tmp_path, [f"sub/{k}" for k in range(10)], classes=(0, 3, 255))
    made = build(source, tmp_path / "out", val_fraction=0.3)
    train, val = records(tmp_path / "out/train"), records(tmp_path / "out/val")
    assert made == (4, len(train), len(val)) and len(train) > 3 and val
    assert_masks(train | val, masks)
    assert dictionary.read_names(tmp_path / "out/dictionary.txt") == ["0", "1", "2", "3"]
    # By names index 3 is above the classes.
    (tmp_path / "masks/classes.txt").write_text("ground\nroad\ntree\n")
    with pytest.raises(SourceError, match="no image for train can be used; see .*rejected.tsv"):
        build(source, tmp_path / "named", max_rejected=1.0)
    assert set(rejected(tmp_path / "named/train").values()) == {"mask: index 3 above the classes, 0 to 2; 255 is void"}
    (tmp_path / "masks/classes.txt").write_text("ground\nroad\n\n")
    with pytest.raises(SourceError, match=r"classes.txt:3: '' is empty, or came before"):
        build(source, tmp_path / "wrong")
    (tmp_path / "masks/classes.txt").write_text("")
    with pytest.raises(SourceError, match=r"masks: 0 classes; .*name them in classes.txt, one a line, and with --void"):
        build(source, tmp_path / "wrong")


def test_void_and_splits(tmp_path):
    names = [f"train/{k}" for k in range(4)] + [f"val/{k + 4}" for k in range(3)]
    source, masks = folders(tmp_path, names, classes=(0, 1, 2))
    assert build(source, tmp_path / "out", void=0) == (3, 4, 3)
    expected = {name: np.where(values == 0, 255, values) for name, values in masks.items()}
    assert_masks(records(tmp_path / "out/train"), {str(k): expected[str(k)] for k in range(4)})
    assert_masks(records(tmp_path / "out/val"), {str(k): expected[str(k)] for k in range(4, 7)})
    with pytest.raises(ValueError, match="made with other settings .void 0, now 255"):
        build(source, tmp_path / "out")


def test_places_that_are_none(tmp_path):
    folder = mask_files.devkit(tmp_path / "VOCdevkit") and tmp_path / "VOCdevkit"
    for source, config, reason in (
        (f"masks:{folder},nowhere", {}, "not IMAGES,MASKS of two folders"),
        (f"voc2012seg:{folder}", {"sbd": str(folder)}, "--sbd=.*: no masks in it; give the folder of SBD's"),
        (f"voc2012seg:{tmp_path / 'no'}", {}, "there is no .*; give VOCdevkit, VOC2012, or"),
        (f"voc2012seg:{folder}", {"void": 0}, "--void=0 belongs to --dataset=masks:"),
        (f"voc2012:{folder}", {"sbd": "x"}, "--sbd=x belongs to --dataset=voc2012seg:"),
        (f"voc2012seg:{folder}", {"train_per_class": 3}, "images of voc2012seg have any number of classes"),
        (f"masks:{folder}/VOC2012/JPEGImages,{tmp_path}", {}, "no mask in it can be used; the first: .*No such file"),
    ):
        with pytest.raises(SourceError, match=reason):
            build(source, tmp_path / "out", **config)
    (folder / "VOC2012/ImageSets/Segmentation/val.txt").write_text("\r\n\n")
    with pytest.raises(SourceError, match=r"Segmentation/val.txt: there is no image in it; write an id a line"):
        build(f"voc2012seg:{folder}", tmp_path / "out")
    (folder / "VOC2012/ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(SourceError, match=r"Segmentation/val.txt: missing; it must list the images of val"):
        build(f"voc2012seg:{folder}", tmp_path / "out")


class Pets(tfds.core.GeneratorBasedBuilder):
    """Images with a label and a mask, as oxford_iiit_pet has them."""

    VERSION = tfds.core.Version("1.0.0")
    name = "pets_of_mask_tests"

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "segmentation_mask": tfds.features.Image(shape=(None, None, 1), use_colormap=True),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(k) for k, name in enumerate(("train", "test"))}

    def _generate_examples(self, part):
        for k in range(3):
            pixels = np.full((40, 60, 3), 40 * k + part, np.uint8)
            values = mask(10 * part + k, classes=(1, 2, 3))[..., None]
            yield k, {"image": pixels, "label": k % 2, "segmentation_mask": values}


class Named(Pets, skip_registration=True):
    """Images with a mask alone, whose classes have names."""

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="png"),
            "segmentation_mask": tfds.features.LabeledImage(labels=list("abcd"), shape=(None, None, 1)),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, part):
        for k, example in super()._generate_examples(part):
            del example["label"]
            yield k, example


@pytest.mark.parametrize("form", [Pets, Named])
def test_records_of_tfds(tmp_path, monkeypatch, form):
    monkeypatch.setattr(tfds_source.tfds, "builder", lambda name, data_dir=None: form(data_dir=str(tmp_path / "data")))
    source = "tfds:pets,segmentation_mask" if form is Pets else "tfds:pets"
    assert build(source, tmp_path / "out") == (4, 3, 3)
    names = list("0123" if form is Pets else "abcd")
    assert dictionary.read_names(tmp_path / "out/dictionary.txt") == names
    for part, split in enumerate(("train", "val")):
        found = records(tmp_path / "out" / split)
        of_split = [mask(10 * part + k, classes=(1, 2, 3)).tobytes() for k in range(3)]
        assert sorted(values.tobytes() for values in found.values()) == sorted(of_split)
    (tmp_path / "out").rename(tmp_path / "moved")
    if form is Named:
        planned = build_dataset.plan(source, tmp_path / "out", build_dataset.DatasetConfig())
        assert planned == (4, names, 3, 3, "masks")
        return
    with pytest.raises(SourceError, match="how many classes it has is known once records are made; leave --dry_run"):
        build_dataset.plan(source, tmp_path / "out", build_dataset.DatasetConfig())
    assert build_dataset.plan("tfds:pets", tmp_path / "out", build_dataset.DatasetConfig()).kind == "single"
    with pytest.raises(SourceError, match="tfds:pets,masks: it has no image and masks; its features are image, label"):
        build("tfds:pets,masks", tmp_path / "out")


def test_as_a_user_runs_it(tmp_path):
    source, _ = folders(tmp_path, "abcdef", classes=(0, 1, 2))
    script = "data_processing/build_classification.py"
    done = run_script(script, f"--output_dir={tmp_path}/out", f"--dataset={source}", "--void=0")
    assert f"{tmp_path}/out: 3 classes, " in done.stdout
    done = run_script(script, f"--output_dir={tmp_path}/b", "--dataset=folder:x", "--sbd=there", status=1)
    assert "--sbd=there belongs to --dataset=voc2012seg:…, not to folder:…" in done.stderr
