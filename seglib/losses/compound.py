"""Losses made of other losses."""

import math

import keras

from seglib.losses.base import SegmentationLoss


@keras.saving.register_keras_serializable("seglib")
class WeightedSum(SegmentationLoss):
    r"""A sum of losses, each times its weight; what `a * loss_1 + b * loss_2` makes.

    $$L = \sum_k a_k L_k$$

    Every term keeps its own class weights and ignore label. A sum inside a sum is taken apart, so
    that `terms` and `term_weights` list plain losses.

    Args:
        terms: the losses.
        term_weights: one number of at least 0 for each loss, or `None` for 1 each.
        name: name of the loss.

    Shape:
        As the terms.

    Raises:
        ValueError: if there is no term, or the weights are not one a term.

    When to use: a pixel loss that teaches from the first step plus a region or boundary loss that
    is nearer to the score. What breaks: the terms' scales differ by much (a boundary loss is in
    pixels), so look at each term's value before choosing its weight.

    Example:
        >>> loss = CrossEntropy() + 0.5 * Dice()
    """

    def __init__(self, terms, term_weights=None, *, name="weighted_sum"):
        terms = list(terms)
        term_weights = [1.0] * len(terms) if term_weights is None else list(term_weights)
        if not terms or len(terms) != len(term_weights):
            raise ValueError(
                f"There are {len(term_weights)} weights for {len(terms)} losses, expected at least "
                "one loss and as many weights."
            )
        for term, weight in zip(terms, term_weights, strict=True):
            if not isinstance(term, SegmentationLoss):
                raise ValueError(f"A term is {term!r}, expected a loss of seglib.losses.")
            if not 0 <= float(weight) < math.inf:
                raise ValueError(f"A weight is {weight}, expected a number of at least 0.")
        super().__init__(name=name)
        self.terms, self.term_weights = flatten(terms, term_weights)

    def __call__(self, y_true, y_pred, sample_weight=None):
        return sum(
            weight * term(y_true, y_pred, sample_weight)
            for term, weight in zip(self.terms, self.term_weights, strict=True)
        )

    def get_config(self):
        return {
            "name": self.name,
            "terms": [keras.saving.serialize_keras_object(term) for term in self.terms],
            "term_weights": self.term_weights,
        }

    @classmethod
    def from_config(cls, config):
        terms = [keras.saving.deserialize_keras_object(term) for term in config["terms"]]
        return cls(**config | {"terms": terms})


def flatten(terms, term_weights):
    """Returns terms and weights with the sums among the terms taken apart."""
    flat_terms, flat_weights = [], []
    for term, weight in zip(terms, term_weights, strict=True):
        inner = isinstance(term, WeightedSum)
        flat_terms += term.terms if inner else [term]
        flat_weights += [float(weight) * w for w in (term.term_weights if inner else [1.0])]
    return flat_terms, flat_weights
