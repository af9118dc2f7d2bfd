"""The model of benchmarks/scaling.py; its measurements are made by `make test-slow`, as of all benchmarks."""

import numpy as np
import pytest

from benchmarks import scaling


def test_fit_finds_latency_and_bandwidth():
    sizes = np.array([2**k for k in range(12, 27, 2)])
    assert scaling.fit([(size, 0.002 + size / 3e9) for size in sizes]) == pytest.approx([0.002, 1 / 3e9])


def test_published_figures_follow_from_the_two_that_were_fitted():
    latency, together = scaling.calibrate()
    assert 1e-6 < latency < 1e-4
    for network in scaling.PUBLISHED.values():
        for gpus, published in network.efficiency.items():
            assert scaling.published_efficiency(network, gpus, latency, together) == pytest.approx(published, abs=0.02)
