"""Average precision and AUC against scikit-learn, the binned mode's bound, and the memory of both modes."""

import itertools
import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from evaluation import ranking
from evaluation.ranking import BinnedRanking, ExactRanking, average_precision_and_auc

# Class 2 has no positive, class 3 no negative, class 5 no known label.
CLASSES = 7


def make_data(seed, images, decimals=None):
    """Scores, positives and known labels with all the odd classes; `decimals` rounds scores, which makes ties."""
    rng = np.random.default_rng(seed)
    known = rng.random([images, CLASSES]) > 0.15
    positive = rng.random([images, CLASSES]) < 0.2
    positive[:, 2] = False
    positive[:, 3] = True
    known[:, 5] = False
    positive &= known
    scores = rng.normal(-6, 2, [images, CLASSES]) + 1.5 * positive
    scores[:, 6] = -scores[:, 6] * 1e4
    scores = scores if decimals is None else np.round(scores, decimals)
    return scores.astype(np.float32), positive, known


def run(accumulator, scores, positive, known, batch):
    for begin in range(0, len(scores), batch):
        accumulator.add(*(x[begin : begin + batch] for x in (scores, positive, known)))
    return accumulator.finish()


def reference(scores, positive, known):
    """AP and AUC of one class by scikit-learn, NaN where it is not defined."""
    scores, positive = scores[known], positive[known]
    ap = average_precision_score(positive, scores) if positive.any() else np.nan
    auc = roc_auc_score(positive, scores) if positive.any() and not positive.all() else np.nan
    return ap, auc


def reference_classes(scores, positive, known):
    return np.array([reference(*columns) for columns in zip(scores.T, positive.T, known.T, strict=True)]).T


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize(("images", "batch"), [(3, 2), (512, 512), (1300, 100), (1300, 1300)])
def test_exact_agrees_with_scikit_learn(monkeypatch, images, batch, decimals):
    monkeypatch.setattr(ranking, "BLOCK", 2 * 1536)  # several blocks, the last one smaller
    data = make_data(images, images, decimals)
    result = run(ExactRanking(CLASSES), *data, batch)
    ap, auc = reference_classes(*data)
    np.testing.assert_allclose(result.ap, ap, atol=1e-9)
    np.testing.assert_allclose(result.auc, auc, atol=1e-9)
    np.testing.assert_allclose([result.micro_ap, result.micro_auc], reference(*data), atol=1e-9)
    np.testing.assert_array_equal(result.positives, data[1].sum(0))
    np.testing.assert_array_equal(result.known, data[2].sum(0))
    assert not result.ap_error.any() and result.micro_ap_error == 0


def test_one_class_of_extreme_scores():
    scores = np.array([0.0, -0.0, 3e38, -3e38, 1e-45, -1e-45, 1.0, 1.0], np.float32)
    positive = np.array([1, 0, 1, 0, 1, 0, 0, 1], bool)
    np.testing.assert_allclose(
        average_precision_and_auc(scores, positive), reference(scores, positive, np.ones(8, bool)), atol=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_binned_is_within_its_own_bound(monkeypatch, seed, decimals):
    # Few bins, so that there is an error to bound.
    monkeypatch.setattr(ranking, "BINS", 24)
    monkeypatch.setattr(ranking, "MICRO_BITS", 10)
    data = make_data(seed, 700, decimals)
    accumulator = BinnedRanking(CLASSES)
    result = run(accumulator, *data, 97)
    ap, auc = reference_classes(*data)
    micro_ap, _ = reference(*data)
    assert np.nanmax(np.abs(result.ap - ap)) > 1e-4
    defined = ~np.isnan(ap)
    assert (np.abs(result.ap - ap) <= result.ap_error + 1e-12)[defined].all()
    assert abs(result.micro_ap - micro_ap) <= result.micro_ap_error + 1e-12
    np.testing.assert_array_equal(np.isnan(result.ap), np.isnan(ap))
    positives, negatives = accumulator.positive.astype(float), (accumulator.known - accumulator.positive).astype(float)
    defined = ~np.isnan(auc)
    tied = np.sum(positives * negatives, axis=1)[defined] / (positives.sum(1) * negatives.sum(1))[defined]
    assert (np.abs(result.auc - auc)[defined] <= tied / 2 + 1e-12).all()


@pytest.mark.parametrize("batch", [50, 4000])
def test_binned_with_all_its_bins_is_close(batch):
    data = make_data(1, 4000)
    result = run(BinnedRanking(CLASSES), *data, batch)
    ap, auc = reference_classes(*data)
    micro_ap, micro_auc = reference(*data)
    np.testing.assert_allclose(result.ap, ap, atol=2e-3)
    np.testing.assert_allclose(result.auc, auc, atol=1e-3)
    np.testing.assert_allclose([result.micro_ap, result.micro_auc], [micro_ap, micro_auc], atol=2e-4)
    assert np.nanmax(result.ap_error) < 2e-2
    np.testing.assert_array_equal(result.positives, data[1].sum(0))
    np.testing.assert_array_equal(result.known, data[2].sum(0))


def test_binned_takes_constant_and_extreme_scores():
    data = make_data(0, 300)
    data[0][:, 0] = -4.5
    data[0][:2, 1] = [3e38, -3e38]
    result = run(BinnedRanking(CLASSES), *data, 300)
    ap, auc = reference_classes(*data)
    np.testing.assert_allclose(result.ap[0], ap[0], atol=1e-12)
    np.testing.assert_allclose(result.auc[0], 0.5, atol=1e-12)
    assert abs(result.ap[1] - ap[1]) <= result.ap_error[1]


@pytest.mark.parametrize("decimals", [None, 0])
def test_bins_keep_the_order_of_scores(decimals):
    scores = np.random.default_rng(0).normal(0, 1, 5000).astype(np.float32)
    scores *= 10 ** np.random.default_rng(1).uniform(-40, 30, 5000).astype(np.float32)
    scores = np.sort(scores if decimals is None else np.round(scores))
    assert (np.diff(ranking._leading_bits(scores)) >= 0).all()


def peak_memory(make, images):
    """Bytes allocated at the peak by an accumulator of 256 classes that is fed `images` in batches of 128."""
    rng = np.random.default_rng(0)
    tracemalloc.start()
    accumulator = make(256)
    for _ in range(images // 128):
        positive = rng.random([128, 256]) < 0.001
        accumulator.add(rng.normal(size=[128, 256]).astype(np.float32), positive, np.ones([128, 256], bool))
    accumulator.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("make", [ExactRanking, BinnedRanking])
def test_memory_does_not_grow_with_images(monkeypatch, make):
    monkeypatch.setattr(ranking, "BLOCK", 2**16)
    few, many = peak_memory(make, 2048), peak_memory(make, 16384)
    scores = 4 * 256 * 16384
    # The scores of 3,700 more positive labels stay in memory (15 KB), those of 3.7 million more labels do not (15 MB).
    assert many < few + 2**18
    assert make is BinnedRanking or many < scores / 4


def test_exact_leaves_nothing_on_disk(tmp_path):
    run(ExactRanking(CLASSES, tmp_path), *make_data(0, 600), 600)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("known", "positives"), [(1, 1), (5, 1), (6, 3), (7, 7)])
def test_chance_is_the_mean_over_all_orders(known, positives):
    values = []
    for chosen in itertools.combinations(range(known), positives):
        positive = np.isin(np.arange(known), chosen)
        values.append(average_precision_score(positive, np.arange(known)))
    assert ranking.chance_average_precision(positives, known) == pytest.approx(np.mean(values), abs=1e-12)


def test_chance_is_continuous_where_the_sum_ends():
    n = np.array([998, 999, 1000, 1001])
    np.testing.assert_allclose(ranking._harmonic(n), [np.sum(1 / np.arange(1, m + 1)) for m in n], rtol=1e-14)
