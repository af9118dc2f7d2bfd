"""What a run does where its flags do not say, against figures computed by hand."""

import math

import pytest

from models.resnet import NetworkConfig
from training import defaults
from training.loop import Configs, RunConfig
from training.schedule import ScheduleConfig
from training.train_step import StepConfig

NETWORK = NetworkConfig(batch_norm_decay=None)
PRETRAINING = defaults.Rule(defaults.pretraining_images, 0.025)
FINE_TUNING = defaults.Rule(defaults.fine_tuning_images, 0.1)


def complete(configs, records, rule, processes=1):
    """The configs and the line of what was chosen."""
    completed, _, chosen = defaults.complete(configs, NETWORK, records, processes, rule)
    return completed, chosen


def configs(batch_size=32, accumulate_steps=1, lr=None, lr_scaling="none", **run):
    schedule = ScheduleConfig(lr, None, accumulate_steps=accumulate_steps, lr_scaling=lr_scaling)
    of_run = RunConfig("model", "log", batch_size, accumulate_steps=accumulate_steps, **run)
    return Configs(of_run, schedule, StepConfig(1e-4), None, None)


@pytest.mark.parametrize(
    ("records", "batch", "images"),
    [
        (300, 32, 16_000),  # 500 steps, 53 epochs
        (5_000, 32, 100_000),  # 20 epochs
        (5_000, 512, 256_000),  # BiT's 500 steps, where a batch is BiT's
        (19_999, 32, 256_000),
        (20_000, 32, 400_000),
        (1_281_167, 256, 10_240_000),  # ImageNet: BiT's 20,000 steps
    ],
)
def test_images_of_fine_tuning(records, batch, images):
    assert defaults.fine_tuning_images(records, batch) == images


def test_pretraining_sees_each_record_60_times():
    completed, chosen = complete(configs(), 6400, PRETRAINING)
    assert completed.run.max_iter == completed.schedule.max_iter == 60 * 6400 / 32 == 12_000
    assert completed.run.test_interval == 1200 and completed.schedule.lr_schedule == "cosine"
    assert completed.schedule.lr == pytest.approx(0.025 * 32 / 256)
    assert "12,000 steps = 60.0 epochs (--epochs)" in chosen and "learning rate 0.00313 (--lr)" in chosen


def test_what_is_given_stays():
    given = configs(lr=0.1, max_iter=70, test_interval=0)
    completed, chosen = complete(given, 6400, PRETRAINING)
    assert (completed.run, chosen) == (given.run, "")
    assert completed.schedule == given.schedule._replace(max_iter=70, lr_schedule="step")


@pytest.mark.parametrize(("processes", "accumulate_steps"), [(1, 1), (4, 1), (2, 3)])
def test_epochs_and_rate_follow_the_whole_batch(processes, accumulate_steps):
    batch = 8 * processes * accumulate_steps
    for scaling in ("none", "linear"):
        begun = configs(8, accumulate_steps, epochs=2.5, lr_scaling=scaling)
        completed, _ = complete(begun, 1000, FINE_TUNING, processes)
        assert completed.run.max_iter == math.ceil(2500 / batch)
        assert completed.schedule.lr * completed.schedule.factor(processes) == pytest.approx(0.1 * batch / 256)


def test_validations_are_no_more_than_one_an_epoch_and_end_with_the_run():
    for records, steps, interval in ((3200, 500, 100), (320, 500, 50), (32_000, 500, 500)):
        completed, _ = complete(configs(max_iter=steps), records, FINE_TUNING)
        assert completed.run.test_interval == interval
    endless, _ = complete(configs(max_iter=-1, lr=0.1), 3201, PRETRAINING)
    assert endless.run.test_interval == 101 and endless.schedule.lr_schedule == "step"


def test_contradictions_and_what_cannot_be_known():
    with pytest.raises(ValueError, match="--epochs and --max_iter both"):
        complete(configs(epochs=1, max_iter=1), 100, FINE_TUNING)
    with pytest.raises(ValueError, match="without records only --max_iter"):
        complete(configs(), None, FINE_TUNING)


def test_elastic_processes_choose_nothing_by_their_number(monkeypatch):
    monkeypatch.setattr(defaults.distributed, "ELASTIC", True)
    for given in (dict(max_iter=5), dict(lr=0.1)):
        with pytest.raises(ValueError, match="elastic training needs --max_iter and --lr"):
            complete(configs(**given), 100, FINE_TUNING)
    completed, _ = complete(configs(max_iter=5, lr=0.1), 100, FINE_TUNING)
    assert completed.run.test_interval == 0


def test_batch_norm_forgets_within_a_short_run_unless_its_length_or_the_decay_is_given():
    for given, records, decay in (
        (configs(), 300, 0.98),
        (configs(epochs=1), 64, 0.9),
        (configs(), 1_000_000, 0.997),
        (configs(max_iter=30), 300, 0.997),
    ):
        _, network, chosen = defaults.complete(given, NETWORK, records, 1, FINE_TUNING)
        assert network.batch_norm_decay == pytest.approx(decay)
        assert ("--batch_norm_decay" in chosen) == (decay < 0.997)
    _, network, _ = defaults.complete(configs(), NetworkConfig(batch_norm_decay=0.5), 300, 1, FINE_TUNING)
    assert network.batch_norm_decay == 0.5
