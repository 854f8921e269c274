"""Training on data that is read block by block: the same numbers as from arrays, in the order that the source says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.data._what_streams import DataSet
from fcnn_gpu.datasets import BlockSource, open_arrays
from fcnn_gpu.datasets._order import BlockOrder
from fcnn_gpu.datasets._source import Piece
from fcnn_gpu.training._diagnosis import DivergenceError

from .test_streaming import N_CLASSES, N_IN, assert_equal, samples, streaming, trainer

SMALL = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Recorded(BlockSource):
    """Arrays in blocks of these sizes, given in pieces; `reads` has the blocks and pieces in order."""

    def __init__(
        self, X: HostArray, y: HostArray, w: HostArray | None, sizes: HostArray | list[int], piece: int = 10**9
    ) -> None:
        super().__init__(X.shape[1], X.dtype, sizes, has_weights=w is not None)
        self.arrays, self.piece, self.reads = (X, y, w), piece, [(0, 0)][:0]

    def read(self, block: int) -> Iterator[Piece]:
        start, end = self.starts[block : block + 2]
        for first in range(start, end, self.piece):
            rows = slice(first, min(first + self.piece, end))
            self.reads.append((block, first))
            X, y, w = self.arrays
            yield X[rows], y[rows], None if w is None else w[rows]

    def read_targets(self, block: int) -> Iterator[tuple[HostArray | None, HostArray | None]]:
        rows = slice(*self.starts[block : block + 2])
        yield self.arrays[1][rows], None if self.arrays[2] is None else self.arrays[2][rows]


def cut(n: int, n_blocks: int, seed: int = 0) -> HostArray:
    """Sizes of blocks that n samples are in."""
    places = np.random.default_rng(seed).choice(np.arange(1, n), min(n_blocks, n) - 1, replace=False)
    return np.diff([0, *sorted(places), n])


def run(t: fcnn.Trainer, X: Any, y: Any = None, w: Any = None, **options: Any) -> dict[str, Any]:
    history = t.fit(X, y, sample_weight=w, **({"epochs": 1, "batch_size": 8, "progress": False} | options))
    columns = {k: v for k, v in history.to_dict().items() if k not in ("seconds", "samples_per_second")}
    state = {name: t.model.ops.to_numpy(array).copy() for name, array in t.model.snapshot().items()}
    return columns | state


@pytest.fixture
def backend(ops: Ops) -> Ops:
    return ops


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if "prefetch" in thread.name]


class TestOrder:
    @given(
        sizes=st.lists(st.integers(1, 30), min_size=1, max_size=20),
        seed=st.integers(0, 5),
        epoch=st.integers(0, 5),
        buffer=st.integers(1, 400),
    )
    def test_every_sample_once_and_none_before_it_can_have_been_read(
        self, sizes: list[int], seed: int, epoch: int, buffer: int
    ) -> None:
        n = sum(sizes)
        rule = BlockOrder(np.array(sizes), seed, epoch, True, min(buffer, n))
        order = np.concatenate(list(rule.numbers()))
        assert sorted(order) == list(range(n))
        starts = np.cumsum([0, *sizes])
        stream = np.concatenate([np.arange(starts[b], starts[b + 1]) for b in rule.blocks()])
        read_at = np.empty(n, int)
        read_at[stream] = np.arange(n)
        assert (read_at[order] < np.arange(n) + rule.buffer).all(), "the buffer holds no more than its size"
        np.testing.assert_array_equal(np.concatenate(list(rule.numbers())), order)
        for first, stop in ((0, n), (n // 3, n // 2 + 1), (n - 1, n)):
            np.testing.assert_array_equal(rule.between(first, stop), order[first:stop])

    def test_it_differs_from_epoch_to_epoch_and_by_seed(self) -> None:
        source = open_arrays(np.zeros((500, 2), np.float32), np.zeros(500, int), block_size=20)
        orders = [tuple(source.order(seed, epoch, 50)) for seed in range(3) for epoch in range(4)]
        assert len(set(orders)) == 12

    def test_in_the_order_of_the_files(self) -> None:
        rule = BlockOrder(np.array([3, 2**17, 1]), 0, 0, False, 5)
        np.testing.assert_array_equal(np.concatenate(list(rule.numbers())), np.arange(2**17 + 4))

    def test_a_buffer_that_holds_all_draws_any_permutation(self) -> None:
        """Where sample 0 of 4 comes, over many epochs: each place equally often, up to five standard deviations."""
        source = open_arrays(np.zeros((4, 1), np.float32), block_size=2)
        places = [list(source.order(0, epoch)).index(0) for epoch in range(4000)]
        assert np.abs(np.bincount(places) - 1000).max() < 5 * np.sqrt(4000 * 0.25 * 0.75)

    def test_a_file_sorted_by_class_comes_mixed(self) -> None:
        """Ten classes one after the other: in any 256 samples that follow each other all ten occur."""
        labels = np.repeat(np.arange(10), 2000)
        source = open_arrays(np.zeros((20_000, 1), np.float32), labels, block_size=50)
        visited = labels[source.order(3, 0, 4000)]
        counts = np.array([np.bincount(part, minlength=10) for part in visited[: 78 * 256].reshape(78, 256)])
        assert counts.min() > 0

    @pytest.mark.parametrize("size", [0, -1])
    def test_sizes_that_are_refused(self, size: int) -> None:
        source = open_arrays(np.zeros((4, 1), np.float32))
        with pytest.raises(ValueError, match="shuffle_buffer expects an integer of at least 1"):
            source.order(0, 0, size)


@SMALL
@given(
    n=st.integers(2, 70),
    n_blocks=st.integers(1, 12),
    piece=st.integers(1, 40),
    buffer=st.integers(1, 100),
    batch=st.integers(2, 20),
    batches=st.integers(1, 4),
    dtype=st.sampled_from(["float32", "uint8", "float16", "float64", "int16", "bool"]),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    weighted=st.booleans(),
    capture=st.booleans(),
)
def test_a_run_on_a_source_is_a_run_on_arrays_in_its_order(
    backend: Ops,
    n: int,
    n_blocks: int,
    piece: int,
    buffer: int,
    batch: int,
    batches: int,
    dtype: str,
    shuffle: bool,
    weighted: bool,
    **flags: bool,
) -> None:
    batch = min(batch, n)
    if n % batch == 1:
        n += 1  # batch normalization does not train on one sample
    X, y, w = samples(n, "float64")
    X = (X > 100).astype(bool) if dtype == "bool" else X.astype(dtype)
    weights = w if weighted else None
    source = Recorded(X, y, weights, cut(n, n_blocks), piece)
    held_out = samples(n // 2 + 1, seed=1)
    expected, actual = trainer(backend), streaming(trainer(backend), batches * batch)
    for epoch in range(2):
        order = source.order(1, epoch, buffer) if shuffle else np.arange(n)
        in_order = X[order], y[order], None if weights is None else weights[order]
        options: dict[str, Any] = {"batch_size": batch, "validation_data": held_out, **flags}
        on_source = {"shuffle_buffer": buffer} if shuffle else {"shuffle": False}
        assert_equal(run(actual, source, **options, **on_source), run(expected, *in_order, **options, shuffle=False))


def test_blocks_are_read_one_after_the_other_and_none_twice() -> None:
    X, y, _ = samples(300)
    source = Recorded(X, y, None, cut(300, 20), piece=7)
    run(streaming(trainer(Ops()), 16), source, shuffle_buffer=40)
    blocks = [block for block, _ in source.reads]
    order = [block for i, block in enumerate(blocks) if i == 0 or block != blocks[i - 1]]
    assert order == list(source.visiting(1, 0, True, 40).blocks())
    firsts = [first for block, first in source.reads if block == order[0]]
    assert firsts == sorted(firsts)


def test_no_more_is_read_than_is_visited_and_held() -> None:
    X, y, _ = samples(1000)
    source = Recorded(X, y, None, np.full(100, 10))
    t = streaming(trainer(Ops(), metrics=()), 16)
    data = t._feed.training(t._intake.prepare(source, None, None, "fit", 50), 16, 16)
    with data.visit(data.order_of(1, 0, True), 1000) as stretches:
        next(stretches)
        threading.Event().wait(0.05)
        assert len(source.reads) <= -(-(50 + 2 * 16) // 10)


@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy"])
def test_matrices_of_targets(backend: Ops, loss: str) -> None:
    X, _, w = samples(60)
    y = np.random.default_rng(4).uniform(size=(60, N_CLASSES))
    source = open_arrays(X, y, w, block_size=7)
    order = source.order(1, 0, 20)
    expected = run(trainer(backend, loss=loss, metrics=()), X[order], y[order], w[order], shuffle=False)
    assert_equal(run(trainer(backend, loss=loss, metrics=()), source, shuffle_buffer=20), expected)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 2.0, 2: 0.5}])
def test_class_weights(backend: Ops, class_weight: Any) -> None:
    X, y, w = samples(80)
    source = Recorded(X, y, w, cut(80, 9))
    order = source.order(1, 0, 20)
    options = {"class_weight": class_weight, "epochs": 1}
    expected = run(trainer(backend), X[order], y[order], w[order], shuffle=False, **options)
    assert_equal(run(trainer(backend), source, shuffle_buffer=20, **options), expected)


def test_targets_and_weights_in_arrays_beside_a_source(backend: Ops) -> None:
    X, y, w = samples(80)
    expected = run(trainer(backend), open_arrays(X, y, w, block_size=9))
    assert_equal(run(trainer(backend), open_arrays(X, block_size=9), y, w), expected)
    assert_equal(run(trainer(backend), open_arrays(X, y, block_size=9), None, w), expected)


def test_what_metrics_keep_of_a_source_is_planned_with_its_weights(backend: Ops) -> None:
    X, y, w = samples(80)
    t = trainer(backend)
    given = [t._intake.prepare(open_arrays(X, y, *weights), None, None, "fit") for weights in ((), (w,))]
    f1 = [fcnn.metrics.F1()]  # which needs all samples at once
    kept = [[DataSet.of(supply, 8, 8, 4 * N_CLASSES, metrics=metrics).host for metrics in ([], f1)] for supply in given]
    without, with_weights = (all_ - none for none, all_ in kept)
    assert with_weights - without == 80 * w.itemsize


def test_evaluation_and_validation(backend: Ops) -> None:
    X, y, w = samples(1100, "uint8")
    source = open_arrays(X, y, w, block_size=100)
    t = trainer(backend)
    assert t.evaluate(source) == t.evaluate(X, y, w)
    assert streaming(t, None, 1024).evaluate(source) == t.evaluate(X, y, w)
    X, y, w = X[:200], y[:200], w[:200]
    source = open_arrays(X, y, w, block_size=30)
    expected = run(trainer(backend), X, y, w, validation_data=(X, y, w), shuffle=False)
    for held_out in (source, (open_arrays(X, block_size=100), y, w)):
        actual = run(trainer(backend), source, validation_data=held_out, shuffle=False)
        assert_equal(actual, expected)


def test_a_part_is_held_out(backend: Ops) -> None:
    X, y, w = samples(103)
    source = Recorded(X, y, w, cut(103, 9), piece=5)
    t = trainer(backend)
    training, held_out = t._intake.split(t._intake.prepare(source, None, None, "fit"), 0.2)
    rows = [np.concatenate([x for x, _, _ in whole(part.source)]) for part in (training, held_out)]  # type: ignore[union-attr]
    assert [len(part) for part in rows] == [82, 21]
    both = np.concatenate(rows)
    np.testing.assert_array_equal(both[np.lexsort(both.T)], X[np.lexsort(X.T)])
    for part in (training, held_out):
        for sample, (x, _, _) in enumerate(whole(part.source, 1)):  # type: ignore[union-attr]
            row = int(part.source.place(sample).removeprefix("row "))  # type: ignore[union-attr]
            np.testing.assert_array_equal(x[0], X[row])
    first = run(trainer(backend), source, validation_split=0.2)
    assert_equal(run(trainer(backend), source, validation_split=0.2), first)
    with pytest.raises(ValueError, match=r"validation_split=0.001 of 103 samples leaves 103"):
        run(trainer(backend), source, validation_split=0.001)


def whole(source: BlockSource, size: int | None = None) -> Iterator[Piece]:
    for block in range(len(source.block_sizes)):
        for X, y, w in source.read(block):
            for first in range(0, len(X), size or len(X)):
                yield X[first : first + (size or len(X))], y, w


def test_divergence_is_named_as_with_arrays(backend: Ops) -> None:
    X, _, _ = samples(100)
    y = np.zeros((100, N_CLASSES))
    y[71, 1] = 1e30  # its square is infinite in float32
    source = Recorded(X, y, None, cut(100, 9))
    order, messages = source.order(1, 0, 30), []
    for data in ((source,), (X[order], y[order])):
        t = streaming(trainer(backend, loss="mse", metrics=()), 16)
        options: dict[str, Any] = {"shuffle_buffer": 30} if len(data) == 1 else {"shuffle": False}
        with np.errstate(over="ignore", invalid="ignore"), pytest.raises(DivergenceError) as caught:
            t.fit(*data, batch_size=8, progress=False, **options)
        messages.append((str(caught.value), t.model.ops.to_numpy(t.model.flat.values).tolist()))
    assert messages[0] == messages[1]
    assert "the loss mse is not finite" in messages[0][0]


class TestMemoryLimit:
    def test_results_do_not_depend_on_it(self, backend: Ops) -> None:
        X, y, w = samples(200)
        source = open_arrays(X, y, w, block_size=20)
        model = trainer(backend).model
        need = model.memory_report(8).total + model.memory_report(200, training=False).total
        options = {"shuffle_buffer": 50, "validation_data": (X, y)}
        expected = run(trainer(backend), source, **options)
        for spare in (40_000, 400_000):
            assert_equal(run(trainer(backend), source, memory_limit=need + spare, **options), expected)

    def test_too_little_is_refused_with_what_suffices(self, backend: Ops) -> None:
        X, y, _ = samples(500)
        source = open_arrays(X, y, block_size=20)
        t = trainer(backend, metrics=())
        before = t.model.ops.to_numpy(t.model.flat.values).copy()
        with pytest.raises(ValueError, match=r"allows 100 bytes.*smaller shuffle_buffer.*Allow [\d,]+ bytes") as caught:
            t.fit(source, memory_limit=100, progress=False)
        np.testing.assert_array_equal(t.model.ops.to_numpy(t.model.flat.values), before)
        enough = int(str(caught.value).split("Allow ")[1].split(" ")[0].replace(",", ""))
        with pytest.raises(ValueError, match="allows"):
            t.fit(source, memory_limit=enough - 1, progress=False)
        t.fit(source, memory_limit=enough, epochs=1, progress=False)


class TestMistakes:
    """Each is an error that names the place, and the weights are those of the last step."""

    def refused(self, source: Any, match: str, error: type[Exception] = ValueError, **options: Any) -> None:
        t = trainer(Ops())
        before = t.model.ops.to_numpy(t.model.flat.values).copy()
        with pytest.raises(error, match=match):
            t.fit(source, progress=False, **options)
        np.testing.assert_array_equal(t.model.ops.to_numpy(t.model.flat.values), before)

    @pytest.mark.parametrize(("label", "what"), [(3, "got 3 in row 77"), (-1, "got -1 in row 77")])
    def test_labels_out_of_range_are_found_before_training(self, label: int, what: str) -> None:
        X, y, _ = samples(100)
        y[77] = label
        self.refused(Recorded(X, y, None, cut(100, 9)), what)

    def test_numbers_that_are_not_finite_end_the_run_with_the_last_step_done(self, backend: Ops) -> None:
        X, y, w = samples(400)
        X[250, 3] = np.nan
        t = streaming(trainer(backend), 16)
        with pytest.raises(ValueError, match=r"fit: X holds nan \(first in row 250, column 3\)"):
            run(t, Recorded(X, y, w, np.full(40, 10)), shuffle=False)
        assert t.history.stopped_by == "error"
        steps = int(t.model.ops.to_numpy(t.optimizer.control.step)[0])
        assert 0 < steps <= 31, "no step on a sample of the bad piece"
        t2 = trainer(backend)
        run(t2, X[: 8 * steps], y[: 8 * steps], w[: 8 * steps], shuffle=False)
        for name, array in t.model.named_arrays().items():
            expected = t2.model.ops.to_numpy(t2.model.named_arrays()[name])
            np.testing.assert_array_equal(t.model.ops.to_numpy(array), expected)

    def test_weights(self) -> None:
        X, y, w = samples(100)
        w[5] = -1
        self.refused(Recorded(X, y, w, cut(100, 9)), r"sample_weight expects finite weights of at least 0, got -1 in r")
        self.refused(Recorded(X, y, 0 * w, cut(100, 9)), "the weight of every sample is 0")

    def test_sources_that_do_not_keep_their_word(self) -> None:
        X, y, _ = samples(100)
        source = Recorded(X, y, None, np.full(10, 10))
        source.block_sizes = np.full(10, 11)
        source.starts = np.arange(0, 111, 11)
        self.refused(source, r"block 9 \(row 99\) has 1 samples, but 11 were announced")
        wide = Recorded(X, y, None, np.full(10, 10))
        wide.arrays = (np.ones((100, N_IN + 1)), y, None)
        self.refused(wide, rf"gives X of shape \(10, {N_IN + 1}\) \(float64\) at row \d+; expected \(n, {N_IN}\)")

    def test_a_first_block_without_samples(self) -> None:
        class Empty(BlockSource):
            def read(self, block: int) -> Iterator[Piece]:
                yield from ()

        self.refused(Empty(N_IN, "float32", [10, 10]), "fit: the data set has no targets at row 0")

    def test_the_order_of_no_epoch(self) -> None:
        source = open_arrays(*samples(20)[:2])
        with pytest.raises(ValueError, match=r"order\(seed\) expects an integer of at least 0, got -1"):
            source.order(-1, 0)
        epoch: Any = "last"
        with pytest.raises(TypeError, match=r"order\(epoch\) expects an integer, got 'last'"):
            source.order(0, epoch)

    def test_what_does_not_go_together(self) -> None:
        X, y, w = samples(100)
        source = open_arrays(X, y, w)
        self.refused(source, "fit got y, but the data set .* has its own. Leave one out", y=y)
        self.refused(source, "fit got sample_weight, but the data set", sample_weight=w)
        self.refused(open_arrays(X), "fit needs targets, and RowSource: 100 samples .* has none")
        self.refused(open_arrays(X), "fit expects y with a row for each of the 100 samples, got 99 rows", y=y[1:])
        self.refused(open_arrays(X[:, :4], y), "fit expects samples of 5 features, got RowSource: 100 samples of 4")
        self.refused(X, r"fit\(shuffle_buffer\) is for a data set that is read block", TypeError, y=y, shuffle_buffer=5)
        self.refused(X, "fit expects X and y; only a data set or a data source", TypeError)
        self.refused(source, r"class_weight names the class 7", class_weight={7: 1.0})

    def test_sources_that_cannot_be(self) -> None:
        with pytest.raises(ValueError, match=r"Recorded\(block_sizes\) expects whole numbers of at least 1"):
            Recorded(*samples(10), [5, 0, 5])
        with pytest.raises(TypeError, match="RowSource expects X to hold real numbers, got complex64"):
            open_arrays(np.ones((3, 2), np.complex64))
        with pytest.raises(ValueError, match=r"as many targets as samples; got 4 .* for 3"):
            open_arrays(np.ones((3, 2)), np.ones(4))
        with pytest.raises(ValueError, match=r"expects X of shape \(n_samples, n_features\)"):
            open_arrays(np.ones(3))


def test_a_failing_read_reaches_the_caller(backend: Ops) -> None:
    class Failing(Recorded):
        def read(self, block: int) -> Iterator[Piece]:
            if block == 6:
                raise OSError("the disk is gone")
            return super().read(block)

    X, y, _ = samples(100)
    t = streaming(trainer(backend), 16)
    with pytest.raises(OSError, match="the disk is gone"):
        run(t, Failing(X, y, None, np.full(10, 10)), shuffle_buffer=20)
    assert t.history.stopped_by == "error"
    run(t, Recorded(X, y, None, np.full(10, 10)))
    assert t.history.stopped_by == "epochs"


def test_running_out_of_memory_while_reading(backend: Ops) -> None:
    class Large(Recorded):
        def read(self, block: int) -> Iterator[Piece]:
            if block == 6:
                raise MemoryError
            return super().read(block)

    X, y, _ = samples(100)
    with pytest.raises(fcnn.OutOfMemoryError, match="fit ran out of memory on the host"):
        run(streaming(trainer(backend), 16), Large(X, y, None, np.full(10, 10)))


@pytest.mark.parametrize("micro_batch_size", [3, 8])
def test_batches_in_parts(backend: Ops, micro_batch_size: int) -> None:
    X, y, w = samples(100)
    source = open_arrays(X, y, w, block_size=9)
    order, results = source.order(1, 0, 30), []
    for data in ((source,), (X[order], y[order], w[order])):
        model = fcnn.Sequential([fcnn.Dense(6), fcnn.Dropout(0.2), fcnn.Dense(3)], n_in=N_IN, seed=1, backend=backend)
        t = streaming(fcnn.Trainer(model, metrics=["accuracy"]), 32 if len(data) == 1 else None)
        options: dict[str, Any] = {"shuffle_buffer": 30} if len(data) == 1 else {"shuffle": False}
        results.append(run(t, *data, batch_size=16, micro_batch_size=micro_batch_size, **options))
    assert_equal(*results)


def test_a_map_that_exceeds_the_memory_streams_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fcnn_gpu.data._stream import StreamedData
    from fcnn_gpu.training._feed import Feed

    X, y, w = samples(90)
    X.tofile(tmp_path / "X")
    mapped = np.memmap(tmp_path / "X", X.dtype, "r", shape=X.shape)
    expected = run(trainer(Ops()), X, y, w, validation_data=(X, y))
    kinds: list[type] = []
    make = Feed.training

    def noted(self: Feed, *args: Any) -> Any:
        data = make(self, *args)
        kinds.append(type(data))
        return data

    monkeypatch.setattr(Feed, "training", noted)
    run(trainer(Ops()), mapped, y, w)
    monkeypatch.setattr("fcnn_gpu.data._input_checks.available_memory", lambda: 2 * X.nbytes - 1)
    assert_equal(run(trainer(Ops()), mapped, y, w, validation_data=(mapped, y)), expected)
    run(trainer(Ops()), X, y, w)
    assert [kind is StreamedData for kind in kinds] == [False, True, False]


@pytest.mark.parametrize("layout", ["C", "F", "memmap", "big-endian memmap", "images"])
def test_arrays_of_any_layout(layout: str, tmp_path: Path) -> None:
    X, y, _ = samples(90)
    given: Any = X
    if layout == "F":
        given = np.asfortranarray(X)
    elif layout.endswith("memmap"):
        dtype = np.dtype(">f4" if "big" in layout else "<f4")
        X.astype(dtype).tofile(tmp_path / "X")
        given = np.memmap(tmp_path / "X", dtype, "r", shape=X.shape)
    elif layout == "images":
        given = X.reshape(90, 1, N_IN)
    source = open_arrays(given, y, block_size=7)
    np.testing.assert_array_equal(np.concatenate([x for x, _, _ in whole(source)]), X)
    assert_equal(run(trainer(Ops()), source), run(trainer(Ops()), open_arrays(X, y, block_size=7)))


class TestPrediction:
    @pytest.mark.parametrize("dtype", ["float32", "uint8", "float64"])
    @pytest.mark.parametrize("size", [None, 7, 1000])
    def test_predictions_come_in_order(
        self, backend: Ops, dtype: str, size: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fcnn_gpu.data._source_supply._PREDICTED_BYTES", 500)
        X, y, _ = samples(150, dtype)
        source, t = Recorded(X, y, None, cut(150, 9), piece=11), trainer(backend)
        for predict in (t.model, t.model.predict, t.predict, t.predict_proba, t.model.predict_classes):
            np.testing.assert_array_equal(predict(source, size), predict(X, size))

    def test_what_is_wrong_is_said(self) -> None:
        X, y, _ = samples(150)
        model = trainer(Ops()).model
        with pytest.raises(ValueError, match=r"model.predict expects samples of 5 features, got RowSource: 150"):
            model.predict(open_arrays(X[:, 1:], y))
        X[70, 1] = np.nan
        with pytest.raises(ValueError, match=r"model.predict: X holds nan \(first in row 70, column 1\)"):
            model.predict(open_arrays(X, y, block_size=20))

    def test_a_single_pass_takes_an_array(self) -> None:
        X, _, _ = samples(150)
        with pytest.raises(TypeError, match=r"model.forward takes one batch, an array; .* RowSource: 150 samples"):
            trainer(Ops()).model.forward(open_arrays(X))

    def test_a_source_without_targets(self) -> None:
        X, _, _ = samples(150)
        model = trainer(Ops()).model
        np.testing.assert_array_equal(model.predict(open_arrays(X, block_size=20)), model.predict(X))


@pytest.mark.parametrize(
    ("loss", "metrics", "n_out"),
    [
        ("cross_entropy", ["accuracy", "top_2_accuracy"], 3),
        ("cross_entropy", ["accuracy", "f1"], 3),
        ("binary_cross_entropy", ["accuracy"], 1),
        ("binary_cross_entropy", ["accuracy"], 3),
        ("mse", ["mse", "r2", "mae"], 3),
    ],
)
def test_metrics_are_those_of_all_samples_at_once(loss: str, metrics: list[str], n_out: int) -> None:
    X, y, _ = samples(1200)
    if loss == "binary_cross_entropy":
        y = np.eye(3)[y] if n_out == 3 else (y > 0).astype(float)
        if n_out == 3:
            y[1100:, 0] = 1  # several labels, but not at the beginning
    elif loss == "mse":
        y = np.random.default_rng(0).normal(size=(1200, 3))

    def new() -> fcnn.Trainer:
        model = fcnn.Sequential([fcnn.Dense(n_out)], n_in=N_IN, seed=0, backend="numpy", input_scale=1 / 255)
        return streaming(fcnn.Trainer(model, loss=loss, metrics=metrics), 160, 1024)

    source = open_arrays(X, y, block_size=30)
    expected, actual = new(), new()
    actual.fit(source, shuffle=False, validation_data=source, progress=False, epochs=2, batch_size=32)
    streaming(expected, None, None).fit(
        X, y, shuffle=False, validation_data=(X, y), progress=False, epochs=2, batch_size=32
    )
    for name in actual.columns:
        if name not in ("seconds", "samples_per_second"):
            assert actual.history[name] == expected.history[name], name


def test_the_memory_report_counts_what_streams(backend: Ops) -> None:
    X, y, w = samples(300)
    source = open_arrays(X, y, w, block_size=20)
    model = trainer(backend).model
    without, report = model.memory_report(8), model.memory_report(8, data=source, metrics=["accuracy"])
    window = 304  # all in one chunk, in whole batches
    sample, output = N_IN * 4 + 8 + 4, N_CLASSES * 4
    chunks, reading = 2 * window * sample, 300 * (sample + 8) + 20 * N_IN * 4
    on_device = chunks + window * (8 + output)
    added = report.data - without.data, report.host - without.host
    assert added == ((on_device, chunks + reading) if backend.asynchronous else (on_device + reading, 0))
    trainer(backend).fit(source, batch_size=8, epochs=1, memory_limit=report.total + report.host, progress=False)
