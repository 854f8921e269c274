"""What is said and let go of when a network finds no memory: while it is built, in a pass, at inference."""

from __future__ import annotations

import gc
from collections.abc import Sized
from typing import TYPE_CHECKING, Any

from ..memory import describe_shortage, describe_use, human

if TYPE_CHECKING:
    from .sequential import Sequential


def explain_building(model: Sequential, error: BaseException, *args: Any, **options: Any) -> str:
    """That of building a model."""
    if not hasattr(model, "ops"):
        return "Sequential ran out of memory on the host."
    model.ops.release_memory()
    n = sum(parameter.initial.size for parameter in model.parameters)
    size = n * model.dtype.itemsize
    return (
        f"{describe_shortage('Sequential', error, model)} Its {n:,} parameters take {human(size)}, their gradients as "
        f"much and Adam's moments twice as much; on the host they are drawn in float64 ({human(8 * n)}). Use "
        "Sequential(memory_limit=...), which keeps the largest layers' weights on the host or on disk, or narrower "
        "layers, or end what else takes memory."
    )


def explain_forward(model: Sequential, error: BaseException, X: Any, training: bool = False) -> str:
    """That of one pass."""
    release(model)
    use = describe_use(model, error, len(X), lambda n: model.memory_report(n, training=training))
    return f"{describe_shortage('model.forward', error, model)} {use}"


def explain_inference(
    model: Sequential, error: BaseException, samples: Sized, link: str | None, size: int, *_: Any
) -> str:
    """That of inference in batches."""
    release(model)
    use = describe_use(model, error, min(size, len(samples)), lambda n: model.memory_report(n, training=False))
    return f"{describe_shortage('Inference', error, model)} {use}"


def release(model: Sequential) -> None:
    """Let go of all that a model computes in and can make anew, and give it back to the device."""
    model.forget_forward()
    model._workspace.release()
    if model.stored is not None:
        model.stored.release()
    gc.collect()
    model.ops.release_memory()


def release_inference(model: Sequential) -> None:
    """The same of what this thread predicts and evaluates in."""
    model._workspace.release_inference()
    gc.collect()
    model.ops.release_memory()
