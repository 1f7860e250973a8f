"""What do a perfect answer and a constant one score? Shared by the tests of tasks."""

import numpy as np

__all__ = ["entropy_given", "perfect", "score", "symbols"]


def symbols(batch):
    """The numbers of one-hot inputs, -1 where nothing is shown."""
    assert set(np.unique(batch.inputs)) <= {0.0, 1.0}
    return np.where(batch.inputs.any(-1), batch.inputs.argmax(-1), -1)


def perfect(task, batch):
    """Outputs that are right and sure of it."""
    if task.answer == "class":
        return np.eye(task.output_size, dtype=np.float32)[batch.targets] * 100
    return batch.targets if task.answer == "value" else (batch.targets - 0.5) * 200


def score(task, outputs, batch):
    """The mean over the counted steps, as the interface words it; in float64."""
    asked = outputs[batch.is_counted].astype(np.float64)
    wanted = batch.targets[batch.is_counted]
    if task.answer == "value":
        return float(((asked - wanted) ** 2).mean())
    if task.answer == "keys":
        nats = np.logaddexp(0, asked) - asked * wanted
        return float(nats.sum(-1).mean())
    log_sums = np.log(np.exp(asked - asked.max(-1, keepdims=True)).sum(-1)) + asked.max(-1)
    return float((log_sums - asked[np.arange(len(wanted)), wanted]).mean())


def entropy_given(known, answers):
    """Nats of an answer to who knows `known` of it and how often which answer comes then."""
    _, pair_counts = np.unique(np.stack([known, answers]), axis=1, return_counts=True)
    _, known_counts = np.unique(known, return_counts=True)

    def summed(counts):
        return float((counts * np.log(counts)).sum())

    return (summed(known_counts) - summed(pair_counts)) / len(answers)
