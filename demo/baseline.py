"""What colours alone tell: logistic regression on a histogram of colours, on the same images and labels."""

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from data_processing.lists import image_list
from evaluation.multi_label import MultiLabelEvaluator

# Levels of red, green and blue: 216 bins.
LEVELS = 6


def evaluate(world, class_num):
    """Trains on train.txt of the folder `world`; returns the metrics on val.txt (`evaluation.multi_label`)."""
    train_bags, train_labels = _read(world, "train", class_num)
    val_bags, val_labels = _read(world, "val", class_num)
    scaler = StandardScaler().fit(train_bags)
    train_bags, val_bags = scaler.transform(train_bags), scaler.transform(val_bags)
    logits = np.zeros(val_labels.shape, np.float32)
    for k in range(class_num):
        positive = train_labels[:, k] > 0
        if positive.any() and not positive.all():
            model = LogisticRegression(C=0.01, max_iter=200).fit(train_bags, positive)
            logits[:, k] = model.decision_function(val_bags)
    evaluator = MultiLabelEvaluator(class_num)
    evaluator.add({"label": val_labels}, {"logits": logits})
    return evaluator.result()


def _read(world, split, class_num):
    """Returns square roots of the shares of each image's colours, float32 [n, LEVELS ** 3], and its labels."""
    bags, labels = [], []
    for row in image_list.read(world / f"{split}.txt"):
        pixels = np.asarray(Image.open(world / row.path).convert("RGB"), np.int64) * LEVELS // 256
        bins = (pixels[..., 0] * LEVELS + pixels[..., 1]) * LEVELS + pixels[..., 2]
        bags.append(np.sqrt(np.bincount(bins.ravel(), minlength=LEVELS**3) / bins.size).astype(np.float32))
        label = np.zeros(class_num, np.float32)
        label[list(row.labels)] = row.confidences
        labels.append(label)
    return np.stack(bags), np.stack(labels)
