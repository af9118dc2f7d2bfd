"""Regions of Faster R-CNN: proposed by anchors, sampled for training, cropped, and what is found in them."""

import math

import tensorflow as tf

from models import anchors, boxes

# How many of the likeliest anchors are looked at, and how many proposals they make, in training; and how many are
# looked at in use. (Ren et al. 2015, section 3.3; reference recipe.)
TRAINING_COUNTS, TEST_ANCHORS = (12000, 2000), 6000
PROPOSAL_NMS = 0.7
FOREGROUND_IOU, FOREGROUND_SHARE = 0.5, 0.25
# What the offsets of regions are divided by, to be about as large as 1 (reference recipe).
OFFSET_SCALES = (0.1, 0.1, 0.2, 0.2)
CROP = 7  # cells of a crop's side
DETECTION_NMS, DETECTIONS = 0.3, 100


def propose(places, logits, offsets, image_sizes, counts):
    """Returns the likeliest places of objects, the likeliest first, without those that overlap a likelier one.

    Args:
      places: float32 [anchors, 4], the anchors. Those of cells on padding propose nothing.
      logits: float32 [batch, anchors], of there being an object.
      offsets: float32 [batch, anchors, 4], of the boxes.
      image_sizes: int32 [batch, 2], height and width of the true images, which proposals do not leave.
      counts: how many anchors to look at, and how many proposals to return at most.

    Returns:
      proposals: float32 [batch, n, 4]; n is the lower of the second count and the number of anchors.
      valid: bool [batch, n], False where there is no further proposal.
    """
    logits = tf.where(anchors.on_image(places, image_sizes), tf.stop_gradient(logits), -math.inf)
    looked_at, proposed = (tf.minimum(count, tf.shape(places)[0]) for count in counts)
    logits, best = tf.math.top_k(logits, looked_at)
    proposals = boxes.decode(tf.gather(places, best), tf.gather(tf.stop_gradient(offsets), best, batch_dims=1))
    proposals = boxes.clip(proposals, image_sizes)
    usable = boxes.large_enough(proposals) & (logits > -math.inf)
    # Ranks for scores: the operation counts what it fills up with, of score 0, as valid unless the threshold is 0.
    scores = tf.where(usable, tf.cast(tf.range(looked_at, 0, -1), tf.float32), 0.0)
    kept, _, _, valid = tf.image.combined_non_max_suppression(
        proposals[:, :, None], scores[:, :, None], proposed, proposed, PROPOSAL_NMS, 0.0, clip_boxes=False
    )
    return kept, tf.range(proposed) < valid[:, None]


def sample(proposals, valid, objects, seeds, count):
    """Returns the regions of an image to train on, true objects among them.

    Args:
      proposals, valid: of `propose`.
      objects: `boxes.Objects`. What overlaps a difficult one like an object is not background.
      seeds: int64 [batch, 2].
      count: regions of an image, a quarter of them on objects at most.

    Returns:
      regions: float32 [batch, n, 4]; n is `count`, or less where there are fewer proposals and objects.
      kinds: int32 [batch, n], 1 on an object, 0 on background, -1 where there was no region to sample: one of those
        that were, again, so that batch normalisation sees nothing else.
      nearest: int [batch, n], the object of the highest IoU, for `Objects.of`.
    """
    candidates = tf.concat([proposals, objects.boxes], axis=1)
    valid = tf.concat([valid, objects.wanted], axis=1)
    overlaps = objects.overlaps(candidates)
    wanted = objects.wanted_overlaps(overlaps)
    foreground = valid & (tf.reduce_max(wanted, axis=2) >= FOREGROUND_IOU)
    background = valid & ~foreground & (tf.reduce_max(overlaps, axis=2) < FOREGROUND_IOU)
    keys = boxes.random_keys(seeds, tf.shape(candidates)[1], 1)
    foreground = boxes.sample(foreground, int(FOREGROUND_SHARE * count), keys)
    taken = tf.reduce_sum(tf.cast(foreground, tf.int32), axis=1, keepdims=True)
    background = boxes.sample(background, count - taken, keys)
    kinds = tf.where(foreground, 1, tf.where(background, 0, -1))
    kinds, chosen = tf.math.top_k(kinds, tf.minimum(count, tf.shape(candidates)[1]))
    sampled = tf.reduce_sum(tf.cast(kinds >= 0, tf.int32), axis=1, keepdims=True)
    chosen = tf.gather(chosen, tf.range(tf.shape(chosen)[1]) % tf.maximum(sampled, 1), batch_dims=1)
    nearest = tf.gather(tf.argmax(wanted, axis=2), chosen, batch_dims=1)
    return tf.gather(candidates, chosen, batch_dims=1), kinds, nearest


def crop(features, regions):
    """Returns the regions' parts of a map, float32 [batch * n, 7, 7, channels]; no gradient goes to the regions.

    Args:
      features: [batch, height, width, channels], of stride 16.
      regions: float32 [batch, n, 4].

    A crop's corners are in the centres of the region's first and last pixel, and the other values at equal distances
    between them. The network's padding puts a cell's centre in that of pixel 16 times its number; beyond the last
    cell is nothing, so that no crop goes there.
    """
    cells = tf.shape(features)[1:3] - 1
    last = tf.cast(tf.tile(cells, [2]), tf.float32)
    left, top, right, bottom = tf.unstack(tf.reshape(tf.stop_gradient(regions), [-1, 4]), axis=1)
    corners = tf.stack([top, left, bottom - 1, right - 1], axis=1) / anchors.STRIDE
    indices = tf.repeat(tf.range(tf.shape(regions)[0]), tf.shape(regions)[1])
    shares = tf.clip_by_value(corners, 0.0, last) / tf.maximum(last, 1.0)
    return tf.image.crop_and_resize(tf.cast(features, tf.float32), shares, indices, [CROP, CROP])


def detect(regions, valid, logits, offsets, image_sizes):
    """Returns the objects in regions, the likeliest first; see `faster_rcnn.Detector.detect`.

    Args:
      regions, valid: of `propose`.
      logits: float32 [batch, n, classes + 1], the background's last.
      offsets: float32 [batch, n, classes, 4].
      image_sizes: int32 [batch, 2].
    """
    found = boxes.clip(boxes.decode(regions[:, :, None], offsets, OFFSET_SCALES), image_sizes)
    scores = tf.nn.softmax(logits)[..., :-1]
    scores = tf.where(valid[:, :, None] & boxes.large_enough(found), scores, -1.0)
    found, scores, classes, count = tf.image.combined_non_max_suppression(
        found, scores, DETECTIONS, DETECTIONS, DETECTION_NMS, 0.0, clip_boxes=False
    )
    there = tf.range(DETECTIONS) < count[:, None]
    return {"boxes": found, "scores": scores, "classes": tf.where(there, tf.cast(classes, tf.int32), -1)}
