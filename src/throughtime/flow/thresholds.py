"""From which number on is something wrong? Every threshold of every finding, in one table.

They were fixed before any patient was made to test them on; a change is a commit of its own, with
the reason. Where a healthy model could come near one, it was set so that a disease is missed rather
than invented.
"""

from dataclasses import dataclass

__all__ = ["THRESHOLDS", "Threshold", "limit"]


@dataclass(frozen=True)
class Threshold:
    """A number that a measure is compared with, its unit, and why it is neither less nor more."""

    value: float
    unit: str
    reason: str


THRESHOLDS: dict[str, Threshold] = {
    "non_finite": Threshold(
        0.0, "numbers that are not finite", "one is enough: everything computed from it is lost"
    ),
    "non_finite_share": Threshold(
        0.05,
        "share of updates",
        "single ones are left out by every sensible loop; 1 of 20 means that the weights stand "
        "where the error cannot be computed",
    ),
    "exploding": Threshold(
        1e3,
        "times the error at lag 0",
        "the gradient is a sum over lags: a thousandfold term leaves nothing of the near ones in "
        "float32's seven digits after clipping. Mixing paths of a healthy gated layer gains less "
        "than ten",
    ),
    "exploding_growth": Threshold(
        1.0,
        "times a step",
        "Pascanu et al. 2013, arXiv:1211.5063: below 1 no product of steps can grow without bound; "
        "demanded besides, so that one large step is not taken for growth",
    ),
    "truncated": Threshold(
        1.0,
        "windows",
        "an error that dies before the window's end is not cut by it, and longer windows would "
        "bring nothing; both the error and the use of context must reach it",
    ),
    "state_not_carried": Threshold(
        1.0, "windows", "what lies within a window is seen without the state of the one before"
    ),
    "state_not_carried_use": Threshold(
        0.5,
        "windows",
        "the context-use curve has a point an octave: what is used up to the last octave before "
        "the window's end may be wanted beyond it",
    ),
    "saturated": Threshold(
        0.6,
        "share of gate activations",
        "within 0.02 of a bound a sigmoid's derivative is below 0.02, a twelfth of its largest. "
        "Trained LSTMs have gates that are often shut or open (Karpathy et al. 2015, "
        "arXiv:1506.02078), some of them always, but not most of all at once. Gates that keep or "
        "write do not count against a layer: open and shut is how chrono units remember",
    ),
    "dead_units": Threshold(
        0.5,
        "share of units",
        "a unit that is the same at every step of every row carries nothing; relu layers live well "
        "with some of them, hardly with half",
    ),
    "forgetting": Threshold(
        1.0 / 3.0,
        "of the needed lag",
        "after three time constants 5 % is left of what a unit held, and of the error through it",
    ),
    "forgetting_quantile": Threshold(
        0.9,
        "quantile over units",
        "a tenth of the units suffices to remember (Tallec & Ollivier 2018, arXiv:1804.11188, give "
        "each its own time constant on purpose), so the median unit may forget at once",
    ),
    "rank_collapse": Threshold(
        1.0,
        "directions",
        "along one direction one number comes back, whatever it was that the layer held",
    ),
    "rank_collapse_units": Threshold(
        4.0, "units", "a state of fewer has few directions to begin with"
    ),
    "vanishing": Threshold(
        1.0,
        "of the needed lag",
        "the horizon is where 1 % of the error is left: what lies behind it is drowned by the "
        "nearer lags of the same sum",
    ),
    "clipped_always": Threshold(
        0.9,
        "share of updates",
        "clipping is for the cliffs, not for the way: Pascanu et al. 2013 take 0.5 to 10 times the "
        "mean norm, which clips about all at 0.5 and few from 2 on",
    ),
    "clipped_always_updates": Threshold(
        20.0, "updates", "of fewer, 9 of 10 say nothing: the first ones of a run are the steepest"
    ),
    "unused_context": Threshold(
        0.5,
        "of the needed lag",
        "the context-use curve has a point an octave, so a model that uses the needed lag shows it "
        "at more than half of it",
    ),
    "unused_context_updates": Threshold(
        100.0,
        "updates",
        "a model that context gains nothing may be one that has not been trained: fewer updates "
        "than this are no training",
    ),
    "unused_context_gain": Threshold(
        0.25,
        "of the loss without context",
        "where nothing is known of the training, context must gain so much that it cannot be the "
        "chance of an untrained model",
    ),
    "context_gain": Threshold(
        0.05,
        "of the loss without context",
        "resets move the loss of an untrained model by some hundredths, up or down, by chance; "
        "what context gains must be more than that to say how far it is used",
    ),
    "context_left": Threshold(
        0.05,
        "of what context gains in all",
        "as for `ContextUse.uses_steps`: the last twentieth of the gain is within the noise of "
        "a batch",
    ),
    "context_halves": Threshold(
        0.5,
        "of the loss with less context",
        "a reset at every step can cost so much that a twentieth of it hides all that memory is "
        "for; context that halves what is left of the loss is used",
    ),
}
"""By finding; a name with more behind it is a second condition of the same finding."""


def limit(name: str) -> float:
    """The value of a threshold."""
    return THRESHOLDS[name].value
