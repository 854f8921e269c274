"""What a primitive must move at the least: the bytes of every array that it reads or writes, each counted once.

An array that is read and then overwritten counts twice. Not counted are scratch memory (the partial sums of chunks),
what a second kernel reads again, and numbers that stand alone (a step counter, a cursor). A test holds the counts to
the arrays that the kernels are launched on.
"""

from __future__ import annotations

from collections.abc import Callable


def wide(itemsize: int) -> int:
    """Bytes of a number in the type that sums run in: biases, statistics, losses, master parameters."""
    return max(4, itemsize)


def moved(matrices: int, per_unit: int = 0, per_sample: int = 0, byte_matrices: int = 0) -> Callable[..., float]:
    """Bytes of so many (n, batch) matrices, of vectors over units and over samples, and of matrices of bytes."""

    def count(itemsize: int, n: int, batch: int) -> float:
        elements = (matrices * itemsize + byte_matrices) * n * batch
        return float(elements + wide(itemsize) * (per_unit * n + per_sample * batch))

    return count


def of_parameters(numbers: int, low: bool = False, losses: int = 0) -> Callable[..., float]:
    """Bytes of so many numbers per parameter in the flat buffers, and of as many losses.

    `low`: with 16-bit activations an update also writes each weight's 16-bit copy.
    """

    def count(itemsize: int, n_parameters: int) -> float:
        copy = itemsize if low and itemsize < wide(itemsize) else 0
        return float((numbers * wide(itemsize) + copy) * n_parameters + wide(itemsize) * losses)

    return count


def of_logits(matrices: int, targets: int = 0, labels: int = 0, losses: int = 0) -> Callable[..., float]:
    """Bytes of so many (n_classes, batch) matrices, of matrices of targets, of 8-byte labels and of losses."""

    def count(itemsize: int, n_classes: int, batch: int) -> float:
        elements = (matrices * itemsize + targets * wide(itemsize)) * n_classes * batch
        return float(elements + (8 * labels + wide(itemsize) * losses) * batch)

    return count


def of_rows(source: int = 0, order: bool = False) -> Callable[..., float]:
    """Bytes of a batch's rows, read in `source` bytes a number (0: as many as are written), and of their order."""

    def count(itemsize: int, n_samples: int, n_features: int, batch: int) -> float:
        return float(((source or itemsize) + itemsize) * n_features * batch + 8 * order * batch)

    return count


def of_stored_rows(itemsize: int, n: int, batch: int) -> float:
    """Bytes of rows that are read, and written in the type of sums."""
    return float((itemsize + wide(itemsize)) * n * batch)
