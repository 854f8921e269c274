"""What a network's inputs and outputs are called, as far as it knows."""

from __future__ import annotations

from collections.abc import Sequence

from ..model import Sequential

_MOST_PIXELS = 2**16


def image_shape(model: Sequential) -> tuple[int, ...]:
    """(height, width) where the network was trained on images of one channel (`model.info["feature_shape"]`), or ()."""
    given = model.info.get("feature_shape")
    if not isinstance(given, Sequence) or not all(isinstance(n, int) for n in given):
        return ()
    shape = tuple(n for n in given if n != 1)
    return shape if len(shape) == 2 and shape[0] * shape[1] == model.n_in <= _MOST_PIXELS else ()


def input_names(model: Sequential) -> list[str]:
    """Those of its signature, those that its preparation gives, "row, column" of pixels, or numbers from 0."""
    known: Sequence[str] | None = model.signature.feature_names
    if model.preparation is not None:
        known = model.preparation.get_feature_names_out().tolist()
    if known is not None and len(known) == model.n_in:
        return [str(name) for name in known]
    shape = image_shape(model)
    return [f"{i // shape[1]}, {i % shape[1]}" if shape else str(i) for i in range(model.n_in)]


def output_names(model: Sequential) -> list[str]:
    """Classes or targets by their names where each prediction has one, or numbers from 0."""
    signature, n = model.signature, model.n_predictions
    named: Sequence[object] | None = signature.class_names
    if named is None or len(named) != n:
        named = signature.target_names
    if named is None and n == 1 and isinstance(model.info.get("target"), str):
        named = [model.info["target"]]
    return [str(name) for name in (named if named is not None and len(named) == n else range(n))]
