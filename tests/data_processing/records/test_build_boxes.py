"""Records of boxes, built of VOC, COCO and TFDS: what is in them, what is left out, and that they stay the same."""

import hashlib
import io
import json

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from data_processing.lists import dictionary
from data_processing.records import build_dataset, classes, schema, shard_writer
from data_processing.records.index import index_split
from data_processing.sources import tfds_source, voc
from data_processing.sources.labeled_images import SourceError
from tests import voc_devkit
from tests.data_processing.sources.test_coco_boxes import instances, place
from tests.scripts import run_script
from tests.voc_devkit import annotation, jpeg, thing


def build(source, output, **config):
    return build_dataset.build(source, output, build_dataset.DatasetConfig(**config))


def records(folder):
    """{name: (image, parsed)} of the shards in a folder, read by TensorFlow, with its own names of features."""
    features = {name: tf.io.VarLenFeature(tf.int64) for name in ("box_class", "difficult", "truncated")}
    features |= {"box": tf.io.VarLenFeature(tf.float32)}
    features |= {name: tf.io.FixedLenFeature([], tf.string) for name in ("image", "name")}
    features |= {name: tf.io.FixedLenFeature([], tf.int64) for name in ("width", "height")}
    found = {}
    for path in sorted(folder.glob("*.tfrecords")):
        for data in tf.data.TFRecordDataset(str(path)):
            record = tf.io.parse_single_example(data, features)
            dense = {key: getattr(value, "values", value).numpy() for key, value in record.items()}
            found[dense.pop("name").decode()] = dense
    return found


@pytest.fixture(scope="module")
def devkit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devkit") / "VOCdevkit"
    return voc_devkit.unpacked(folder, voc_devkit.small())


def test_records_of_a_devkit(devkit, tmp_path):
    out = tmp_path / "out"
    assert build_dataset.plan(f"voc2007:{devkit}", out, build_dataset.DatasetConfig())[2:] == (8, 4, "boxes")
    assert not out.exists()
    made = build(f"voc2007:{devkit}", out)
    assert made == (20, 8, 4) and dictionary.read_names(out / "dictionary.txt") == list(voc.CLASSES)
    assert build_dataset.plan(f"voc2007:{devkit}", out, build_dataset.DatasetConfig())[2:] == (8, 4, "boxes")
    found = classes.find(out, f"voc2007:{devkit}")
    assert found.count == 20 and found.names[11] == "dog" and found.guessed_from == ""
    for part, split in (("train", "trainval"), ("val", "test")):
        assert build_dataset.list_name(out, part) == split
        expected = voc.annotations(devkit, (2007,), split)
        there = records(out / part)
        assert {voc.image_id(name) for name in there} == expected.keys()
        for name, record in there.items():
            objects = expected[voc.image_id(name)]
            assert name == f"VOC2007/JPEGImages/{voc.image_id(name)}.jpg"
            np.testing.assert_array_equal(record["box"].reshape(-1, 4), objects.box)
            assert [voc.CLASSES[k] for k in record["box_class"]] == objects.names
            assert record["difficult"].tolist() == objects.difficult.tolist()
            assert (record["width"], record["height"]) == (objects.width, objects.height)
            assert record["image"] == (devkit / name).read_bytes()
        manifest = json.loads((out / part / "manifest.json").read_text())
        assert manifest["settings"]["label_format"] == "boxes" and "portrait" not in str(manifest)
        images_of = {k: sum(k in record["box_class"] for record in there.values()) for k in (0, 11)}
        assert manifest["classes"] == {str(k): count for k, count in images_of.items()}


def test_the_index_says_which_images_are_upright(devkit, tmp_path):
    build(f"voc2007:{devkit}", tmp_path / "out")
    for _ in range(2):
        index = index_split(tmp_path / "out", "train", 20)
        expected = [record["height"] > record["width"] for record in records(tmp_path / "out/train").values()]
        assert index.kind == "boxes" and index.portrait.dtype == bool and index.portrait.tolist() == expected
        assert 0 < sum(expected) < len(expected)
        # Without what the writer noted, the records say it.
        for path in (tmp_path / "out/train").glob("train-*.json"):
            path.unlink()


def test_tars_make_what_a_folder_makes(devkit, tmp_path):
    tars = voc_devkit.packed_as_published(tmp_path / "published", voc_devkit.small())
    before = {path: path.stat().st_mtime_ns for path in tars.iterdir()}
    both = {}
    for form, source in (("folder", devkit), ("tars", tars)):
        assert build(f"voc2007:{source}", tmp_path / form) == (20, 8, 4)
        there = records(tmp_path / form / "train") | records(tmp_path / form / "val")
        both[form] = {voc.image_id(name): str(record) for name, record in there.items()}
    assert both["folder"] == both["tars"] and len(both["tars"]) == 12
    assert before == {path: path.stat().st_mtime_ns for path in tars.iterdir()}  # and nothing was unpacked


def test_images_with_a_bad_annotation_are_left_out_and_listed(tmp_path):
    content = voc_devkit.small()
    train = {
        "000001": annotation(thing("dog", (1, 1, 99, 9))),
        "000002": annotation(thing("dragon", (1, 1, 9, 9))),
        "000003": b"<annotation>",
        "000004": annotation(size=(61, 40)),
    }
    content |= {f"VOC2007/Annotations/{name}.xml": data for name, data in train.items()}
    del content["VOC2007/Annotations/000005.xml"], content["VOC2007/JPEGImages/000006.jpg"]
    folder = voc_devkit.unpacked(tmp_path / "VOCdevkit", content)
    with pytest.raises(ValueError, match="6 of 8 images were rejected, more than --max_rejected=0.01 .*rejected.tsv"):
        build(f"voc2007:{folder}", tmp_path / "strict")
    assert build(f"voc2007:{folder}", tmp_path / "out", max_rejected=0.9) == (20, 2, 4)
    lines = (tmp_path / "out/train/rejected.tsv").read_text().splitlines()
    rejected = {voc.image_id(line.split("\t")[0]): line.split("\t")[1] for line in lines}
    for name, reason in {
        "000001": "annotation: box 1 (0, 0, 99, 9) is outside of the image, 60 x 40 pixels",
        "000002": "annotation: object 1: 'dragon' is no class of VOC",
        "000003": "annotation: broken XML: ",
        "000004": "the image has 40 x 60 pixels, its annotation is of 61 x 40",
        "000005": "annotation: missing",
        "000006": "No such file or directory",
    }.items():
        assert rejected.pop(name).startswith(reason)
    assert not rejected


def test_shards_are_the_same_by_any_number_of_processes_and_after_a_stop(devkit, tmp_path):
    build(f"voc2007:{devkit}", tmp_path / "out")
    config = shard_writer.ShardConfig("train", "boxes", 20, num_shards=3, random_seed=5, max_rejected=0.0)
    digests = []
    for ranks in (1, 2):
        folder = tmp_path / f"by {ranks}"
        for rank in range(ranks):
            shard_writer.build(tmp_path / "out/train.txt", devkit, folder, config, rank, ranks)
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()})
    assert digests[0] == digests[1] and len(records(folder)) == 8
    # A shard without its .json was not finished.
    lost = sorted(folder.glob("train-*.json"))[1]
    lost.unlink()
    lost.with_suffix(".tfrecords").write_bytes(b"half")
    shard_writer.build(tmp_path / "out/train.txt", devkit, folder, config)
    assert digests[0] == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=r"made with other settings \(random_seed 5, now 6\)"):
        shard_writer.build(tmp_path / "out/train.txt", devkit, folder, config._replace(random_seed=6))


def test_records_of_coco(tmp_path, capsys):
    content = instances(1, 9)
    where = place(tmp_path, content)
    for k, image in enumerate(content["images"][:-1]):
        (tmp_path / "a,b" / image["file_name"]).write_bytes(jpeg(k, image["width"], image["height"]))
    config = {"val_fraction": 0.4, "max_rejected": 0.5}
    planned = build_dataset.plan(f"coco:{where}", tmp_path / "out", build_dataset.DatasetConfig(**config))
    made = build(f"coco:{where}", tmp_path / "out", **config)
    assert planned.kind == "boxes" and planned.train + planned.val == 9 == made.train + made.val + 1
    assert planned.names == ["person", "car", "dog, brown"] == dictionary.read_names(tmp_path / "out/dictionary.txt")
    train, val = records(tmp_path / "out/train"), records(tmp_path / "out/val")
    assert len(train) >= 4 and len(val) >= 2 and not train.keys() & val.keys()
    there = train | val
    for image in content["images"][:-1]:
        boxes = [entry["bbox"] for entry in content["annotations"] if entry["image_id"] == image["id"]]
        expected = [[x, y, x + wide, y + high] for x, y, wide, high in boxes]
        np.testing.assert_allclose(there[image["file_name"]]["box"], np.ravel(expected), atol=1e-5)
    assert any(len(record["box"]) == 0 for record in there.values())  # of an image of nothing
    content["annotations"].pop()
    place(tmp_path, content)
    with pytest.raises(ValueError, match="made with other settings .annotations_sha256"):
        build(f"coco:{where}", tmp_path / "out", **config)
    with pytest.raises(SourceError, match="--train_per_class=3: images of coco have any number of classes"):
        build(f"coco:{where}", tmp_path / "other", train_per_class=3)


class Objects(tfds.core.GeneratorBasedBuilder):
    """Images with objects, as coco/2017 has them."""

    VERSION = tfds.core.Version("1.0.0")
    name = "objects_of_box_tests"
    FLAG = "is_crowd"

    def _info(self):
        objects = {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.ClassLabel(names=["cat", "dog"])}
        features = {
            "image": tfds.features.Image(encoding_format="png"),
            "image/filename": tfds.features.Text(),
            "objects": tfds.features.Sequence(objects | {self.FLAG: np.bool_}),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(k) for k, name in enumerate(("train", "validation", "test"))}

    def _generate_examples(self, part):
        for k in range(4):
            box = tfds.features.BBox(3 / 41, 7.25 / 67, 33.5 / 41, 67 / 67)
            objects = [{"bbox": box, "label": k % 2, self.FLAG: k == 3}] * (k % 3)
            pixels = np.full((41, 67, 3), 40 * k + part, np.uint8)
            yield k, {"image": pixels, "image/filename": f"{part}_{k}.jpg", "objects": objects}


class Voc(Objects, skip_registration=True):
    """A dataset that goes by the name of VOC, whose edges TFDS leaves counted from 1."""

    name = "voc"
    FLAG = "is_difficult"
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="2007", version=tfds.core.Version("1.0.0"))]


@pytest.mark.parametrize("form", ["objects", "voc"])
def test_records_of_tfds(tmp_path, monkeypatch, form):
    of_form = {"objects": Objects, "voc": Voc}[form]

    def builder(name, data_dir=None):
        assert name == form
        return of_form(data_dir=str(tmp_path / "data"))

    monkeypatch.setattr(tfds_source.tfds, "builder", builder)
    config = build_dataset.DatasetConfig()
    with pytest.raises(SourceError, match="once it is prepared; leave --dry_run out"):
        build_dataset.plan(f"tfds:{form}", tmp_path / "out", config)
    made = build(f"tfds:{form}", tmp_path / "out")
    assert made == ((2, 8, 4) if form == "voc" else (2, 4, 4))
    (tmp_path / "out").rename(tmp_path / "moved")
    planned = build_dataset.plan(f"tfds:{form}", tmp_path / "out", config)
    assert planned == (2, ["cat", "dog"], *made[1:], "boxes")
    there = records(tmp_path / "moved/train") | records(tmp_path / "moved/val")
    parts = (0, 1, 2) if form == "voc" else (0, 1)
    assert {voc.image_id(name) for name in there} == {f"{part}_{k}" for part in parts for k in range(4)}
    first = 1 if form == "voc" else 0
    for name, record in there.items():
        k = int(voc.image_id(name)[2:])
        np.testing.assert_array_equal(record["box"], [7.25 - first, 3 - first, 67, 33.5] * (k % 3))
        assert record["box_class"].tolist() == [k % 2] * (k % 3)
        assert not record["difficult"].any() and not record["truncated"].any()
        assert Image.open(io.BytesIO(record["image"])).size == (67, 41)


def test_as_a_user_runs_it(devkit, tmp_path):
    script = "data_processing/build_classification.py"
    done = run_script(script, f"--output_dir={tmp_path}/out", f"--dataset=voc2007:{devkit}")
    assert f"{tmp_path}/out: 20 classes, 8 images to train, 4 to validate" in done.stdout
    done = run_script(script, f"--output_dir={tmp_path}/other", "--dataset=voc2012:nowhere", status=1)
    assert done.stderr.endswith("/nowhere; give VOCdevkit, VOC2012, or the published tars\n")


def test_parse_of_boxes_that_do_not_fit():
    image = schema.Image(b"x", 40, 30, "a.jpg")
    good = {"box": [1.0, 2.0, 30.0, 30.0], "box_class": [3], "difficult": [1], "truncated": [0]}

    def example(changes):
        message = tf.train.Example.FromString(schema.encode_boxes(image, []))
        for name, values in (good | changes).items():
            kind = "float_list" if name == "box" else "int64_list"
            getattr(message.features.feature[name], kind).value[:] = values
        return message.SerializeToString()

    parse = tf.function(lambda data: schema.parse(data, "boxes", 4), input_signature=[tf.TensorSpec([], tf.string)])
    parsed = parse(example({"box": [0.0, 2.0, 41.0, 30.0]}))
    assert parsed["box"].numpy().tolist() == [[0, 2, 40, 30]] and parsed["difficult"].numpy().tolist() == [True]
    assert parsed["label"].numpy().tolist() == [3] and parsed["truncated"].dtype == tf.bool
    assert (parsed["width"].numpy(), parsed["height"].numpy()) == (40, 30)
    for changes in (
        {"box": [0.0, 2.0, 41.5, 30.0]}, {"box": [1.0, 2.0, 1.0, 30.0]}, {"box": [1.0, 2.0, float("nan"), 30.0]},
        {"box": [1.0, 2.0, float("inf"), 30.0]}, {"box": [1.0, 2.0, 3.0]}, {"box": [1.0, 2.0, 3.0, 4.0] * 2},
        {"box_class": [4]}, {"box_class": [-1]}, {"box_class": []}, {"difficult": []}, {"truncated": [0, 1]},
        {"width": [0]}, {"height": [-5]},
    ):  # fmt: skip
        with pytest.raises(tf.errors.InvalidArgumentError):
            parse(example(changes))
        if changes != {"box_class": [4]}:  # how many classes there are, only `parse` knows
            with pytest.raises(schema.RecordError, match="here: its features are not those of boxes"):
                schema.decode(example(changes), "boxes", "here")
