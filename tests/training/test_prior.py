"""Biases and weights by label counts, against counts in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from data_processing.records import label_counts
from data_processing.records.index import RecordIndex, index_split
from tests.sample_shards import RECORDS, write_shards
from training import prior

LABELS = np.array([[1, 0.5, -1, 0], [1, 0, -1, 0], [1, 0.25, 1, 0], [1, -1, -1, 0], [1, 1, 0, 0]])


def tallied(labels=LABELS):
    tally = label_counts.Tally()
    for row in labels:
        tally.add([(int(k), row[k]) for k in np.flatnonzero(row)])
    return tally.counts(labels.shape[1])


def test_log_odds_are_those_of_the_list():
    for k, column in enumerate(LABELS.T):
        known = column[column != -1]
        share = (known.sum() + 0.5) / (len(known) + 1)
        assert prior.log_odds(tallied())[k] == pytest.approx(np.log(share / (1 - share)))
    biases = prior.head_bias("prior", "sigmoid", 4, tallied)
    assert biases.dtype == np.float32 and np.all(np.isfinite(biases))
    # A network whose features say nothing then says how often each class is labelled.
    np.testing.assert_allclose(tf.sigmoid(biases)[:2], [5.5 / 6, 2.25 / 5])


def test_log_shares_are_those_of_the_list():
    labels = np.eye(3)[[0, 0, 0, 1, 1, 0, 0]]
    biases = prior.head_bias("prior", "softmax", 3, lambda: tallied(labels))
    np.testing.assert_allclose(tf.nn.softmax(biases), np.array([5.5, 2.5, 0.5]) / 8.5, rtol=1e-6)
    np.testing.assert_allclose(np.exp(biases).sum(), 1, rtol=1e-6)


@pytest.mark.parametrize("asked, value", [("zero", 0), ("-4.5", -4.5), ("1e-2", 0.01)])
def test_one_bias_for_all_needs_no_counts(asked, value):
    np.testing.assert_array_equal(prior.head_bias(asked, "sigmoid", 3, counted=None), np.float32([value] * 3))


def test_records_are_counted_once_and_where_it_is_asked_for(tmp_path, monkeypatch, capsys):
    write_shards(tmp_path)
    index = index_split(tmp_path, "train", 6)
    counted = prior.counting(index, 6)
    assert prior.class_counts("sigmoid", counted, 6) is None and not list(tmp_path.glob("*.json"))
    expected = [0.75 * len(range(k, RECORDS, 5)) for k in range(5)] + [0]
    assert prior.class_counts("class_balanced", counted, 6).tolist() == expected
    monkeypatch.setattr(label_counts, "noted", lambda *args: None)
    assert counted().records == RECORDS
    assert capsys.readouterr().out.count("counted the labels") == 1


def test_a_plan_writes_nothing_and_goes_without_records(tmp_path):
    write_shards(tmp_path)
    counted = prior.counting(index_split(tmp_path, "train", 6), 6, is_plan=True)
    assert counted().records == RECORDS and not list(tmp_path.glob("*.json"))
    for index in (None, RecordIndex.of_count(9, "sparse")):
        counted = prior.counting(index, 6, is_plan=True)
        assert counted() is None
        assert prior.class_counts("class_balanced", counted, 6).tolist() == [1] * 6
