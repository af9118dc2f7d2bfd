"""VOC's annotations: what they say, and what cannot be used, from folders and tars."""

import os
import re
import tarfile
import xml.etree.ElementTree

from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from data_processing.sources import voc
from data_processing.sources.labeled_images import SourceError
from tests import voc_devkit
from tests.voc_devkit import annotation, thing

PARTS = (
    "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>"
    "<actions><jumping>1</jumping></actions>"
)


def test_an_annotation_by_hand():
    found = voc.parse(
        annotation(
            thing("person", (1, 1, 60, 40), truncated=1, more=PARTS),
            thing("tvmonitor", ("45.7000007", " 2 ", "46", "2"), difficult=1),
            thing("aeroplane", (0, 3, 61, 9)),  # a pixel over the edges, as annotations are rounded
            thing("dog", (7, 7, 7, 7)),  # one pixel: both ends are included
        ),
        "here",
    )
    expected = [[0, 0, 60, 40], [44.7000007, 1, 46, 2], [-1, 2, 61, 9], [6, 6, 7, 7]]
    np.testing.assert_array_equal(found.box, np.array(expected))
    assert found.box.dtype == np.float64 and found.names == ["person", "tvmonitor", "aeroplane", "dog"]
    assert found.difficult.tolist() == [False, True, False, False] and found.difficult.dtype == bool
    assert found.truncated.tolist() == [True, False, False, False]
    assert found[4:] == (60, 40, "here")


def test_what_an_annotation_need_not_say():
    bare = b"<annotation><object><name> dog </name><bndbox><ymax>4</ymax><xmin>1</xmin><ymin>3</ymin><xmax>2</xmax>"
    found = voc.parse(bare + b"</bndbox></object></annotation>", "")
    assert found.box.tolist() == [[0, 2, 2, 4]] and not found.difficult[0] and not found.truncated[0]
    assert (found.width, found.height) == (None, None)
    empty = voc.parse(annotation(), "")
    assert empty.box.shape == (0, 4) and empty.names == [] and empty.difficult.shape == (0,)


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "'
    + b"&a;" * 99
    + b'"><!ENTITY c "'
    + b"&b;" * 99
    + b'">]><annotation>&c;</annotation>'
)
OUTSIDE = {
    "outside": (annotation(thing("dog", (1, 1, 62, 40))), r"box 1 \(0, 0, 62, 40\) is outside of the image, 60 x 40"),
    "above": (annotation(thing("dog", (-1, 1, 20, 40))), r"box 1 \(-2, 0, 20, 40\) is outside"),
    "far away": (annotation(thing("dog", (61, 1, 61, 40))), "outside of the image"),
}
BAD = {
    "max below min": (annotation(thing("dog", (9, 1, 8, 40))), r"object 1 \(dog\): xmin 9, ymin 1 above xmax 8"),
    "class": (annotation(thing("cat", (1, 1, 2, 2)), thing("Dog", (1, 1, 2, 2))), "object 2: 'Dog' is no class of VOC"),
    "part alone": (annotation(thing("person", None, more=PARTS)), r"object 1 \(person\) has no bndbox"),
    "no number": (annotation(thing("dog", (1, "one", 2, 2))), "ymin is 'one', no number"),
    "not finite": (annotation(thing("dog", ("nan", 1, 2, 2))), "xmin is 'nan', no number"),
    "overflow": (annotation(thing("dog", (1, 1, "1e999", 2))), "xmax is '1e999', no number"),
    "flag": (annotation(thing("dog", (1, 1, 2, 2), difficult="maybe")), "difficult is 'maybe', neither 0 nor 1"),
    "size": (annotation(size=(0, 0)), "size 0 x 0; correct it"),
    "broken": (annotation()[:50], "broken XML: "),
    "empty": (b"", "broken XML: no element found"),
    "HTML": (b"<html></html>", "XML of <html>, not of <annotation>"),
    "encoding": (b'<?xml version="1.0" encoding="no-such"?><annotation/>', "broken XML: "),
    "bomb": (BOMB, "XML with a document type or entities"),
    "file": (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>', "document type"),
    "DTD": (b'<!DOCTYPE annotation SYSTEM "http://localhost/a.dtd">' + annotation(), "document type"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used(case):
    data, reason = BAD[case]
    with pytest.raises(voc.AnnotationError, match=reason):
        voc.parse(data, "here")


@pytest.mark.parametrize("case", OUTSIDE)
def test_what_is_outside_counts_as_annotated_and_is_not_trained_on(tmp_path, case):
    data, reason = OUTSIDE[case]
    content = voc_devkit.small()
    content["VOC2007/Annotations/000009.xml"] = data
    folder, bad = voc_devkit.unpacked(tmp_path, content), []
    [box] = voc.annotations(folder, (2007,), "test", bad)["000009"].box.tolist()
    assert not bad
    edges = [int(edge.text) for edge in xml.etree.ElementTree.fromstring(data).find("object/bndbox")]
    assert box == [edges[0] - 1, edges[1] - 1, edges[2], edges[3]]
    row = voc.read(f"voc2007:{folder}").val[0]
    assert row.path.endswith("000009.jpg") and re.search(reason, row.problem) and not row.boxes


def as_lists(objects):
    return {name: [getattr(field, "tolist", lambda field=field: field)() for field in found[:6]]
            for name, found in objects.items()}  # fmt: skip


def test_places_of_a_devkit(tmp_path):
    """All ways to name it give the same, and what a stock XML reader sees."""
    content = voc_devkit.small()
    folder = voc_devkit.unpacked(tmp_path / "home/VOCdevkit", content)
    tars = voc_devkit.packed_as_published(tmp_path / "tars", content)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.rename(tars / voc_devkit.TEST, elsewhere / "test.tar")
    both = f"{tars / voc_devkit.TRAINVAL},{elsewhere / 'test.tar'}"
    (tmp_path / "link").symlink_to(folder / "VOC2007")
    expected = as_lists(voc.annotations(folder, (2007,), "test"))
    assert list(expected) == ["000009", "000010", "000011", "000012"]
    for name, (box, labels, *_) in expected.items():
        root = xml.etree.ElementTree.fromstring(content[f"VOC2007/Annotations/{name}.xml"])
        edges = [[int(edge.text) for edge in element] for element in root.iter("bndbox")]
        assert box == [[edge[0] - 1, edge[1] - 1, edge[2], edge[3]] for edge in edges]
        assert labels == [element.text for element in root.iter("name")]
    for place in (tmp_path / "home", folder / "VOC2007", tmp_path / "link", both, str(elsewhere / "test.tar")):
        assert as_lists(voc.annotations(place, (2007,), "test")) == expected
    os.rename(folder / "VOC2007", folder / "mine")
    assert as_lists(voc.annotations(folder / "mine", (2007,), "test")) == expected
    source = voc.read(f"voc2007:{both}")
    paths = [row.path for row in source.train + source.val]
    assert paths[0] == "tars/VOCtrainval_06-Nov-2007/VOCdevkit/VOC2007/JPEGImages/000001.jpg"
    assert [voc.image_id(path) for path in paths] == [f"{k:06d}" for k in range(1, 13)]
    assert {voc.year(path) for path in paths} == {2007} and source.kind == "boxes" and source.names == [*voc.CLASSES]


def test_parts_by_year(tmp_path):
    content = voc_devkit.small() | voc_devkit.small(2012)
    folder = voc_devkit.unpacked(tmp_path, content)
    sizes = {kind: [len(rows) for rows in voc.read(f"{kind}:{folder}")[2:4]] for kind in voc.YEARS}
    assert sizes == {"voc2007": [8, 4], "voc2012": [4, 4], "voc2007+2012": [16, 4]}
    assert list(voc.annotations(folder, (2007, 2012), "val"))[3:5] == ["000008", "2012_000005"]
    (folder / "VOC2007/ImageSets/Main/test.txt").unlink()
    source = voc.read(f"voc2007+2012:{folder}")
    assert [len(source.train), len(source.val)] == [8, 8]
    assert {voc.year(row.path) for row in source.val} == {2007, 2012}
    assert voc.years("voc2007+2012:x") == (2007, 2012) and voc.years("folder:x") == () and voc.year("a/1.jpg") is None


def test_bad_annotations_are_listed(tmp_path):
    content = voc_devkit.small()
    content["VOC2007/ImageSets/Main/test.txt"] += b"000099\n000009  1\n\n../../etc/passwd\n"
    content["VOC2007/Annotations/000010.xml"] = BOMB
    content["VOC2007/Annotations/000011.xml"] = annotation() + b" " * voc.MAX_XML
    folder = voc_devkit.unpacked(tmp_path / "VOCdevkit", content)
    for place in (folder, voc_devkit.packed_as_published(tmp_path / "tars", content)):
        bad = []
        assert list(voc.annotations(place, (2007,), "test", bad)) == ["000009", "000012"]
        reasons = ("XML with a document type", "1,04", "missing", "no id of an image in the list")
        assert len(bad) == len(reasons)
        assert all(reason.startswith(expected) for (_, reason), expected in zip(bad, reasons, strict=True))
        assert bad[0][0].endswith("VOCdevkit/VOC2007/Annotations/000010.xml") and "000099.xml" in bad[2][0]
        assert "bytes, more than 1,048,576" in bad[1][1]


def test_what_a_tar_may_not_do(tmp_path):
    """Members that are links, lie outside or are called like a folder's way out are none."""
    content = voc_devkit.small()
    links = []
    for name, kind, target in (
        ("VOCdevkit/VOC2007/Annotations/000001.xml", tarfile.SYMTYPE, "/etc/passwd"),
        ("VOCdevkit/VOC2007/Annotations/000002.xml", tarfile.LNKTYPE, "VOCdevkit/VOC2007/Annotations/000003.xml"),
        ("VOCdevkit/VOC2007/Annotations/000004.xml", tarfile.FIFOTYPE, ""),
        ("/VOC2007/Annotations/000005.xml", tarfile.REGTYPE, ""),
        ("../VOC2007/Annotations/000006.xml", tarfile.REGTYPE, ""),
        ("VOCdevkit/VOC2007/Annotations/../Annotations/000007.xml", tarfile.REGTYPE, ""),
    ):
        links.append(tarfile.TarInfo(name))
        links[-1].type, links[-1].linkname = kind, target
    replaced = tuple(f"{k:06d}.xml" for k in range(1, 8))
    kept = {name: data for name, data in content.items() if not name.endswith(replaced)}
    voc_devkit.packed(tmp_path / voc_devkit.TRAINVAL, kept, links)
    bad = []
    assert list(voc.annotations(tmp_path, (2007,), "trainval", bad)) == ["000008"]
    assert [reason for _, reason in bad] == ["missing"] * 7
    (tmp_path / voc_devkit.TRAINVAL).write_bytes((tmp_path / voc_devkit.TRAINVAL).read_bytes()[:20_000])
    with pytest.raises(SourceError, match="ImageSets/Main/trainval.txt: missing; it must list the images of trainval"):
        voc.annotations(tmp_path, (2007,), "trainval")


def test_what_a_folder_may_not_do(tmp_path):
    folder = voc_devkit.unpacked(tmp_path / "VOCdevkit", voc_devkit.small())
    annotations = folder / "VOC2007/Annotations"
    (tmp_path / "secret.xml").write_bytes(annotation())
    for k, make in enumerate((os.mkfifo, os.mkdir, lambda path: os.symlink(tmp_path / "secret.xml", path)), start=1):
        (annotations / f"{k:06d}.xml").unlink()
        make(annotations / f"{k:06d}.xml")
    bad = []
    assert list(voc.annotations(folder, (2007,), "train", bad)) == ["000004"]
    assert [reason for _, reason in bad] == ["not a file", "not a file", "path leaves the folder of images"]
    os.rename(annotations, tmp_path / "Annotations")
    annotations.symlink_to(tmp_path / "Annotations")
    with pytest.raises(SourceError, match="Annotations: 1 links that lead out of"):
        voc.annotations(folder, (2007,), "train")


def test_says_what_is_missing(tmp_path):
    folder = voc_devkit.unpacked(tmp_path / "VOCdevkit", voc_devkit.small())
    for place, years, split, message in (
        (tmp_path / "nowhere", (2007,), "test", "there is no .*nowhere; give VOCdevkit"),
        (folder, (2012,), "val", "no VOC2012 in it; give VOCdevkit, .* or VOCtrainval_11-May-2012.tar"),
        (folder, (2007,), "tset", "Main/tset.txt: missing; it must list the images of tset, an id a line"),
        (folder / "VOC2007/ImageSets/Main/val.txt", (2007,), "val", "val.txt: no .tar; give the folder VOCdevkit"),
    ):
        with pytest.raises(SourceError, match=message):
            voc.annotations(place, years, split)
    (folder / "VOC2007/ImageSets/Main/val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match="val.txt: not UTF-8"):
        voc.annotations(folder, (2007,), "val")


EDGE = st.one_of(st.integers(-3, 64), st.floats(-3, 64), st.sampled_from(["", "nan", "1e9", "0x1", "1_0", "\u0663"]))
THINGS = st.builds(
    thing, st.sampled_from(["dog", "person", "elephant", "", "&amp;"]), st.none() | st.tuples(EDGE, EDGE, EDGE, EDGE),
    st.sampled_from([0, 1, 2, ""]), st.sampled_from([0, 1, "x"]), st.sampled_from(["", PARTS, "<object/>"]),
)  # fmt: skip
SIZES = st.none() | st.tuples(st.integers(-1, 70), st.integers(-1, 70))


@st.composite
def documents(draw):
    """An annotation, of which a few bytes may be others."""
    content = bytearray(annotation(*draw(st.lists(THINGS, max_size=3)), size=draw(SIZES)))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(content)))
        content[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(content)


@settings(max_examples=300, deadline=None)
@given(documents() | st.binary(max_size=60))
@example(b"<annotation>" + b"<a>" * 100_000)
@example(b"<annotation><size/></annotation>")
@example(b"<annotation><object><bndbox/></object></annotation>")
@example('<?xml version="1.0" encoding="utf-16"?><annotation/>'.encode("utf-16"))
def test_any_bytes_are_objects_or_an_error(data):
    try:
        found = voc.parse(data, "here")
    except voc.AnnotationError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert len(found.box) == len(found.names) == len(found.difficult) == len(found.truncated)
    assert set(found.names) <= set(voc.CLASSES) and np.isfinite(found.box).all()
    assert (found.box[:, :2] < found.box[:, 2:]).all()
