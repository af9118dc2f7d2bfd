"""The moving average of the weights, against the recurrence in NumPy."""

import numpy as np
import tensorflow as tf

from training.ema import WeightAverage


def test_follows_the_recurrence_and_a_restart_resumes():
    variables = {"a": tf.Variable([1.0, -2.0]), "b": tf.Variable(3.0)}
    average = WeightAverage(variables, 0.9)
    random = np.random.default_rng(0)
    expected = {name: v.numpy().astype(np.float64) for name, v in variables.items()}
    for step in range(120):
        if step == 60:  # a new process, from the checkpoint
            held = {name: v.numpy() for name, v in average.variables_by_name().items()}
            average = WeightAverage(variables, 0.9)
            for name, variable in average.variables_by_name().items():
                variable.assign(held[name])
        decay = min(0.9, (1 + step) / (10 + step))
        for name, variable in variables.items():
            variable.assign(random.normal(size=variable.shape).astype(np.float32))
            expected[name] = decay * expected[name] + (1 - decay) * variable.numpy()
        average.update()
    now = {name: v.numpy() for name, v in variables.items()}
    with average.in_place():
        for name, variable in variables.items():
            np.testing.assert_allclose(variable, expected[name], rtol=1e-5)
    for name, variable in variables.items():
        np.testing.assert_array_equal(variable, now[name])
    average.reset()
    with average.in_place():
        np.testing.assert_array_equal(variables["a"], now["a"])
    assert set(average.variables_by_name()) == {
        "a/ExponentialMovingAverage",
        "b/ExponentialMovingAverage",
        "weight_average/steps",
    }


def test_weights_come_back_after_an_error():
    variable = tf.Variable(1.0)
    average = WeightAverage({"a": variable}, 0.5)
    variable.assign(5.0)
    try:
        with average.in_place():
            assert float(variable) == 1
            raise KeyError
    except KeyError:
        assert float(variable) == 5
