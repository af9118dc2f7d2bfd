"""Records of a CSV with any number of classes an image, and of class folders that are split; and plans of them."""

import pytest
import tensorflow as tf

from data_processing.lists import dictionary, image_list
from data_processing.records import build_dataset, classes, schema
from data_processing.sources.csv_labels import CsvConfig
from data_processing.sources.labeled_images import SourceError
from tests.archives import jpeg
from tests.class_folders import class_folders

NAMES = ["dog, brown", "猫", "Größe", "  two  blanks"]


def build(source, output, **config):
    return build_dataset.build(source, output, build_dataset.DatasetConfig(**config))


def plan(source, output, **config):
    return build_dataset.plan(source, output, build_dataset.DatasetConfig(**config))


def records(folder, kind="sparse"):
    """{name: (labels, image)} of the shards in a folder."""
    images = {}
    for path in sorted(folder.glob("*.tfrecords")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            name, image, labels = schema.decode(record, kind)
            images[name.decode()] = (dict(labels), image)
    return images


@pytest.fixture
def source(tmp_path):
    """A CSV of 20 images, one of them without a label, and its --images."""
    lines = ["path,label"]
    for k in range(20):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{k}.jpg").write_bytes(jpeg(k))
        lines.append(f'{k}.jpg,"{"|".join(NAMES[k % 4 :])}"' if k else "0.jpg,")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"csv:{tmp_path}/labels.csv", {"images": f"{tmp_path}/images"}


def expected(k):
    order = [NAMES.index(name) for name in (NAMES[1:] + NAMES[:1])]  # of appearance
    return {order.index(n): 1.0 for n in range(k % 4, 4)} if k else {}


@pytest.mark.parametrize("keep", [False, True])
def test_records_dictionary_and_plan(tmp_path, source, keep):
    csv, config = source
    config |= {"keep_unlabeled": keep, "val_fraction": 0.25}
    planned = plan(csv, tmp_path / "out", **config)
    assert not (tmp_path / "out").exists()
    made = build(csv, tmp_path / "out", **config)
    names = NAMES[1:] + NAMES[:1]
    assert planned == (4, names, made.train, made.val, "sparse") and made.train + made.val == 19 + keep
    train, val = records(tmp_path / "out/train"), records(tmp_path / "out/val")
    assert (len(train), len(val)) == made[1:] and not train.keys() & val.keys()
    for name, (labels, image) in (train | val).items():
        k = int(name.removesuffix(".jpg"))
        assert labels == expected(k) and image == (tmp_path / "images" / name).read_bytes()
    # The lists hold all, and the dictionary says that any number of classes is in an image.
    listed = [row.path for part in ("train", "val") for row in image_list.read(tmp_path / f"out/{part}.txt", 4, False)]
    assert sorted(listed) == sorted(f"{k}.jpg" for k in range(20))
    held = dictionary.load(tmp_path / "out/dictionary.txt")
    assert held.names == held.ids == names and held.ancestors == [()] * 4
    found = classes.find(tmp_path / "out", csv)
    assert found.count == 4 and found.names == names
    # It is there already, and made with other settings.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert build(csv, tmp_path / "out", **config) == made and plan(csv, tmp_path / "out", **config) == planned
    for name, other in {"keep_unlabeled": not keep, "class_order": CsvConfig(class_order="frequency")}.items():
        changed = config | {name if name in config else "csv": other}
        for function in (build, plan):
            with pytest.raises(ValueError, match=f"made with other settings [(]{name} "):
                function(csv, tmp_path / "out", **changed)
    (tmp_path / "labels.csv").write_text("path,label\n1.jpg,x\n2.jpg,y\n")
    with pytest.raises(ValueError, match=r"made with other settings \(csv_sha256"):
        plan(csv, tmp_path / "out", **config)
    assert before.keys() == {*tmp_path.rglob("*")}


def test_one_missing_image_is_left_out_and_many_are_an_error(tmp_path, source, capsys):
    csv, config = source
    (tmp_path / "images/7.jpg").unlink()
    made = build(csv, tmp_path / "out", **config)
    assert made.train + made.val == 18
    assert f"1 images that are not in {tmp_path}/images, of which no record will be made: " in capsys.readouterr().out
    (tmp_path / "images/8.jpg").unlink()
    with pytest.raises(
        SourceError, match=r"2 of 20 images are not in .*images, more than --max_rejected=0.01; is --im"
    ):
        build(csv, tmp_path / "other", **config)
    assert build(csv, tmp_path / "other", **config, max_rejected=0.1)[1:] != made[1:]


def test_what_a_csv_cannot_be(tmp_path, source):
    csv, config = source
    with pytest.raises(SourceError, match="--train_per_class=3: images of a CSV have any number of classes"):
        build(csv, tmp_path / "out", **config, train_per_class=3)
    with pytest.raises(SourceError, match=r"--dataset=csv:nowhere.csv: there is no file nowhere.csv"):
        plan("csv:nowhere.csv", tmp_path / "out")
    with pytest.raises(SourceError, match=r"--dataset=cvs:a.csv: write it as one of .*; csv:FILE of paths"):
        plan("cvs:a.csv", tmp_path / "out")
    (tmp_path / "labels.csv").write_text("path,label\n1.jpg,x\n")
    with pytest.raises(SourceError, match="no image with a label is left for val"):
        build(csv, tmp_path / "out", **config)


def test_the_split_of_folders_is_kept_to_the_image(tmp_path, capsys):
    class_folders(tmp_path / "source/train")
    class_folders(tmp_path / "source/val", images=2)
    class_folders(tmp_path / "source/test", images=1)
    names = ["Größe", "class 1", "class  2"]
    for part in ("train", "val", "test"):
        for k in (0, 2):
            (tmp_path / "source" / part / f"class {k}").rename(tmp_path / "source" / part / names[k])
    planned = plan(f"folder:{tmp_path}/source", tmp_path / "out")
    made = build(f"folder:{tmp_path}/source", tmp_path / "out")
    assert made == (3, 18, 6) and planned == (3, sorted(names), 18, 6, "single")
    assert plan(f"folder:{tmp_path}/source", tmp_path / "out") == planned
    assert dictionary.read_names(tmp_path / "out/dictionary.txt") == sorted(names)
    for part in ("train", "val"):
        found = records(tmp_path / "out" / part, "single")
        files = {
            path.relative_to(tmp_path / "source").as_posix(): path
            for path in (tmp_path / "source" / part).rglob("*.jpg")
        }
        assert found.keys() == files.keys()
        for name, ([label], image) in found.items():
            assert sorted(names)[label] == files[name].parent.name and image == files[name].read_bytes()
    assert f"{tmp_path}/source/test is left out" in capsys.readouterr().out
