"""An exponential moving average of the weights (EMA), which is validated and kept while the weights are trained."""

import contextlib

import tensorflow as tf

SUFFIX = "/ExponentialMovingAverage"


class WeightAverage(tf.Module):
    """Averages of variables: average <- decay * average + (1 - decay) * variable after each step.

    In the first steps the decay is at most (1 + steps) / (10 + steps), so that the random beginning is soon forgotten
    (as `tf.train.ExponentialMovingAverage` does).
    """

    def __init__(self, variables, decay):
        """Args: dictionary from name to variable, and the decay in [0, 1)."""
        super().__init__()
        self.variables_of = {name: v if isinstance(v, tf.Variable) else v.value for name, v in variables.items()}
        self.averages = {name: tf.Variable(v, trainable=False) for name, v in self.variables_of.items()}
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.decay = decay

    def variables_by_name(self):
        """Returns the state that a restart needs: a dictionary from a name in the checkpoint to a variable."""
        named = {name + SUFFIX: average for name, average in self.averages.items()}
        return named | {"weight_average/steps": self.steps}

    def reset(self):
        """Begins anew from the present values of the variables."""
        self.steps.assign(0)
        for name, average in self.averages.items():
            average.assign(self.variables_of[name])

    @tf.function
    def update(self):
        """Moves the averages after a step."""
        steps = tf.cast(self.steps, tf.float32)
        left = 1 - tf.minimum(self.decay, (1 + steps) / (10 + steps))
        for name, average in self.averages.items():
            average.assign_sub(left * (average - self.variables_of[name]))
        self.steps.assign_add(1)

    @contextlib.contextmanager
    def in_place(self):
        """Gives the variables the values of their averages for as long as the context lasts."""
        kept = {name: tf.identity(variable) for name, variable in self.variables_of.items()}
        for name, variable in self.variables_of.items():
            variable.assign(self.averages[name])
        try:
            yield
        finally:
            for name, variable in self.variables_of.items():
                variable.assign(kept[name])
