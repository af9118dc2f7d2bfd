"""Records of masks against TensorFlow's own reader, and those that are not as they must be."""

import io

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from data_processing.records import schema
from data_processing.records.schema import RecordError

IMAGE = schema.Image(b"\xff\xd8 image", 40, 30, "dir/é.jpg")


def png(mode="L", size=(40, 30)):
    file = io.BytesIO()
    Image.new(mode, size, 1).save(file, "PNG")
    return file.getvalue()


def test_records_hold_what_the_schema_says():
    record = schema.encode_mask(IMAGE, png())
    feature = tf.train.Example.FromString(record).features.feature
    assert sorted(feature) == ["height", "image", "mask", "name", "width"]
    assert list(feature["mask"].bytes_list.value) == [png()] and list(feature["image"].bytes_list.value) == [
        b"\xff\xd8 image"
    ]
    assert (feature["width"].int64_list.value[0], feature["height"].int64_list.value[0]) == (40, 30)
    assert schema.label_kind(record, 21, "here") == "masks" and schema.dense_classes(record) is None
    assert schema.decode(record, "masks") == ("dir/é.jpg".encode(), b"\xff\xd8 image", png())
    parsed = schema.parse(record, "masks", 21)
    assert sorted(parsed) == ["height", "image", "mask", "name", "width"]
    assert parsed["mask"].numpy() == png() and parsed["name"].numpy().decode() == "dir/é.jpg"
    np.testing.assert_array_equal(tf.io.decode_png(parsed["mask"])[..., 0], np.ones((30, 40)))
    assert not schema.is_portrait(record)


@pytest.mark.parametrize(
    "mask", [b"", b"\x89PNG", png("RGB"), png("P"), png("1"), png("I;16"), png(size=(30, 40)), png(size=(41, 30))]
)
def test_masks_of_another_form_are_no_masks(mask):
    with pytest.raises(RecordError, match="'dir/é.jpg': its mask is no PNG of 8 bits of grey of 40 x 30"):
        schema.encode_mask(IMAGE, mask)
    message = tf.train.Example.FromString(schema.encode_mask(IMAGE, png()))
    message.features.feature["mask"].bytes_list.value[:] = [mask]
    with pytest.raises(RecordError, match="here: its features are not those of masks; build"):
        schema.decode(message.SerializeToString(), "masks", "here")


def test_records_of_another_kind_have_no_mask():
    for other in (schema.encode_boxes(IMAGE, []), schema.encode(IMAGE, [3], [1.0], "single", 4)):
        with pytest.raises(RecordError, match="its features are not those of masks"):
            schema.decode(other, "masks")
        with pytest.raises(tf.errors.InvalidArgumentError):
            schema.parse(other, "masks", 21)
