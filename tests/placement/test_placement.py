"""Weights on the host or on disk train to the same bits as weights in memory, in the same tiles of rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.optimizers import Optimizer

from ..support import placement_cases as cases
from ..support.placement_cases import (
    N_IN,
    OPTIMIZERS,
    PLACES,
    X,
    Y,
    assert_equal,
    chunked,
    fit,
    outcome,
    stored_network,
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_gives_the_bits_of_weights_in_memory(name: str, place: str) -> None:
    rows = 7  # divides neither 33 nor 17
    expected = fit(cases.network(chunked(rows), chunked(rows)), OPTIMIZERS[name]())
    found = fit(stored_network(place, rows), OPTIMIZERS[name]())
    penalties = "history penalty"
    a, b = outcome(expected), outcome(found)
    np.testing.assert_allclose(a.pop(penalties), b.pop(penalties), rtol=1e-6)  # summed in another order
    assert_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 4, 16, 17, 32, 33, 64])
def test_tiles_of_any_height(rows: int, dtype: str) -> None:
    expected = outcome(fit(cases.network(chunked(rows), chunked(rows), dtype=dtype), fcnn.Adam(0.01)))
    for place in PLACES:
        found = outcome(fit(stored_network(place, rows, dtype=dtype), fcnn.Adam(0.01)))
        np.testing.assert_allclose(found.pop("history penalty"), expected["history penalty"], rtol=1e-6)
        assert_equal(found, {n: x for n, x in expected.items() if n != "history penalty"})


def test_a_plain_layer_differs_by_rounding_alone() -> None:
    plain = fit(cases.network(fcnn.Dense, fcnn.Dense, dtype="float64"), fcnn.Adam(0.01))
    found = fit(stored_network("disk", 5, dtype="float64"), fcnn.Adam(0.01))
    for name, expected in outcome(plain).items():
        np.testing.assert_allclose(outcome(found)[name], expected, rtol=1e-8, atol=1e-11, err_msg=name)


def test_one_tile_computes_what_a_plain_first_layer_computes() -> None:
    """All rows at once, and no product with Wᵀ: the same calls of BLAS as a layer in memory, but for memory order."""
    W = fcnn.Sequential([fcnn.Dense(64)], 100, seed=0, backend="numpy").named_arrays()["0.W"]
    stored = fcnn.Sequential([fcnn.Dense(64, placement="host")], 100, seed=0, backend="numpy")
    np.testing.assert_array_equal(np.asarray(stored.named_arrays()["0.W"]), W)


@pytest.mark.parametrize("place", PLACES)
def test_clipping_by_norm_takes_stored_gradients_into_account(place: str) -> None:
    plain = fit(cases.network(fcnn.Dense, fcnn.Dense, dtype="float64"), fcnn.SGD(0.05, clip_norm=0.05))
    found = fit(stored_network(place, 5, dtype="float64"), fcnn.SGD(0.05, clip_norm=0.05))
    scale = plain.optimizer.control.clip_scale[0]
    assert scale < 0.9
    np.testing.assert_allclose(found.optimizer.control.clip_scale[0], scale, rtol=1e-9)
    for name, expected in outcome(plain).items():
        np.testing.assert_allclose(outcome(found)[name], expected, rtol=1e-8, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("place", PLACES)
def test_an_optimizer_of_the_users_own_updates_stored_weights(place: str) -> None:
    class SignOfMean(Optimizer):
        """θ ← θ − η·sign(m), m ← m + g: one array of state."""

        def _state_names(self) -> tuple[str, ...]:
            return ("mean",)

        def _update(self, ops: Any, flat: Any, control: Any, state: Any) -> None:
            if control.failed_step[0] < 0:
                g = np.empty_like(flat.gradients)
                ops.penalized_gradient(flat, g)
                state["mean"] += g
                flat.values -= np.float32(control.learning_rate[0]) * np.sign(state["mean"])

    expected = fit(cases.network(chunked(6), chunked(6)), SignOfMean(0.01))
    found = fit(stored_network(place, 6), SignOfMean(0.01))
    a, b = outcome(expected), outcome(found)
    np.testing.assert_allclose(a.pop("history penalty"), b.pop("history penalty"), rtol=1e-6)
    assert_equal(a, b)


@pytest.mark.parametrize("place", PLACES)
def test_the_explicit_loop(place: str) -> None:
    ends = []
    for model in (cases.network(chunked(9), chunked(9)), stored_network(place, 9)):
        optimizer, loss = fcnn.Adam(0.01).bind(model), fcnn.losses.CrossEntropy()
        for _ in range(3):
            loss.forward(model.forward(X[:20].astype("float32"), training=True), Y[:20])
            model.backward(loss.backward())
            optimizer.step()
        ends.append({name: np.asarray(array) for name, array in model.named_arrays().items()})
    assert_equal(*ends)


@pytest.mark.parametrize("place", PLACES)
def test_input_gradients_flow_through_stored_weights(place: str) -> None:
    model = stored_network(place, 5, dtype="float64")
    report = fcnn.gradient_check.check_model(model, "cross_entropy", X[:6], Y[:6])
    assert report.passed, str(report)
    assert {"0.W", "2.W", "X"} <= {check.name for check in report.checks}


@pytest.mark.parametrize("place", PLACES)
def test_a_gradient_that_is_not_finite_stops_the_step(place: str) -> None:
    """dZ·A₀ᵀ overflows though both factors are finite, and resident gradients are sound."""
    model = fcnn.Sequential([fcnn.Dense(4, placement=place, bias=False)], 3, seed=0, backend="numpy")
    big = np.full((8, 3), 1e30, "float32")
    before = np.asarray(model.named_arrays()["0.W"])
    trainer = fcnn.Trainer(model, loss="mse", optimizer=fcnn.SGD(1e-3))
    with pytest.raises(fcnn.DivergenceError):
        trainer.fit(big, np.zeros((8, 4), "float32"), epochs=1, batch_size=8, progress=False)
    np.testing.assert_array_equal(np.asarray(model.named_arrays()["0.W"]), before)
    assert trainer.optimizer.control.step[0] == 0


@pytest.mark.parametrize("place", PLACES)
def test_large_factors_with_a_small_product_are_no_failure(place: str) -> None:
    """The bound ‖dZ‖·‖A₀‖ overflows and proves nothing; the products, which are 0, are then computed."""
    model = fcnn.Sequential([fcnn.Dense(2, placement=place, bias=False)], 2, seed=0, backend="numpy")
    model.named_arrays()["0.W"][...] = 0.0
    x = np.array([[1e19, 0.0], [0.0, 1e-19]], "float32")
    y = np.array([[0.0, 0.0], [1.0e19, 1.0]], "float32")  # dZ is 0 where x is large
    trainer = fcnn.Trainer(model, loss="mse", optimizer=fcnn.SGD(1e-30))
    calls = []
    stored = model.stored
    assert stored is not None
    weight = stored.weights[0]
    square = weight.gradient_square
    weight.gradient_square = lambda *a: calls.append(1) or square(*a)  # type: ignore[method-assign,func-returns-value]
    trainer.fit(x, y, epochs=1, batch_size=2, shuffle=False, progress=False)
    assert calls
    assert trainer.optimizer.control.step[0] == 1


def test_no_product_is_computed_to_judge_a_usual_gradient() -> None:
    model = stored_network("host", 5)
    assert model.stored is not None
    for weight in model.stored.weights:
        weight.gradient_square = lambda *a: pytest.fail("a product")  # type: ignore[method-assign]
    fit(model, fcnn.Adam(0.01), epochs=1)


def test_a_gradient_is_asked_for_before_there_is_one() -> None:
    model = stored_network("host", 5)
    optimizer = fcnn.SGD(0.1).bind(model)
    with pytest.raises(RuntimeError, match=r"no gradient of 0\.W.*on the host"):
        optimizer.step()
    with pytest.raises(RuntimeError, match="no gradient"):
        model.parameters[0].gradient[0, 0]


def test_a_fused_or_captured_pass_does_not_take_stored_weights() -> None:
    model = fcnn.Sequential([fcnn.Dense(4, placement="host"), fcnn.Dense(3)], N_IN, seed=0, backend="numpy")
    assert not model.consists_of_primitives


@pytest.mark.parametrize("place", PLACES)
def test_batches_in_parts_keep_the_factors_of_the_whole(place: str) -> None:
    """16 samples as 6 + 6 + 4: the gradient is one product over all of them, and so are dropout's masks."""

    def network() -> fcnn.Sequential:
        layers = [
            fcnn.Dense(9, activation="relu", placement=place),
            fcnn.Dropout(0.3),
            fcnn.Dense(7, activation="tanh", placement=place, l2=1e-3),
            fcnn.Dense(3),
        ]
        return fcnn.Sequential(layers, N_IN, seed=1, backend="numpy", dtype="float64")

    whole = fit(network(), fcnn.Adam(0.01))
    parts = fit(network(), fcnn.Adam(0.01), micro_batch_size=6)
    for name, expected in outcome(whole).items():
        np.testing.assert_allclose(outcome(parts)[name], expected, rtol=1e-8, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_running_out_of_memory_goes_on_in_smaller_parts(
    place: str, at: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A tile of the forward or backward pass for which there is no room: the step is undone, and made in halves."""

    def network() -> fcnn.Sequential:
        layers = [fcnn.Dense(9, activation="relu", placement=place), fcnn.Dense(7, placement=place), fcnn.Dense(3)]
        return fcnn.Sequential(layers, N_IN, seed=1, backend="numpy", dtype="float64")

    expected = outcome(fit(network(), fcnn.Adam(0.01), epochs=2))
    model = network()
    assert model.stored is not None
    tiles, calls = model.stored._tiles, []
    reading = tiles.reading

    def short(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 4 + at:
            raise MemoryError("no room for a tile")
        return reading(*args)

    monkeypatch.setattr(tiles, "reading", short)
    trainer = fit(model, fcnn.Adam(0.01), epochs=2)
    assert trainer.history.micro_batch_size == 8
    for name, found in outcome(trainer).items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-8, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("recompute", [1, 2, True])
def test_layers_around_stored_weights_are_run_again(place: str, recompute: Any) -> None:
    """The input of stored weights is a factor of their gradient, and outlasts the second run of what computed it."""

    def network(**options: Any) -> fcnn.Sequential:
        layers = [
            fcnn.Dense(9, activation="relu"),
            fcnn.Dropout(0.3),
            fcnn.Dense(7, activation="tanh", placement=place),
            fcnn.BatchNorm(),
            fcnn.Dense(8, activation="relu"),
            fcnn.Dense(5, placement=place),
            fcnn.Dense(3),
        ]
        return fcnn.Sequential(layers, N_IN, seed=1, backend="numpy", **options)

    expected = outcome(fit(network(), fcnn.Adam(0.01), batch_size=17, drop_last=True))
    found = outcome(fit(network(recompute=recompute), fcnn.Adam(0.01), batch_size=17, drop_last=True))
    assert_equal(found, expected)
    shared = outcome(fit(network(share_workspace=True), fcnn.Adam(0.01), batch_size=17, drop_last=True))
    assert_equal(shared, expected)


@pytest.mark.parametrize("place", PLACES)
def test_an_optimizers_own_step_must_not_leave_stored_weights_out(place: str) -> None:
    class Twice(fcnn.SGD):
        """Two updates by one gradient."""

        def step(self) -> None:
            super().step()
            super().step()

    class Alone(fcnn.SGD):
        def step(self) -> None:
            ops, flat, control, _ = self._require()
            ops.sgd_update(flat, control, 0.0, False, None)

    expected = outcome(fit(cases.network(chunked(6), chunked(6)), Twice(0.01), epochs=1))
    found = outcome(fit(stored_network(place, 6), Twice(0.01), epochs=1))
    np.testing.assert_allclose(found.pop("history penalty"), expected.pop("history penalty"), rtol=1e-6)
    assert_equal(found, expected)
    with pytest.raises(RuntimeError, match=r"Alone\.step has not updated.*super\(\)\.step"):
        fit(stored_network(place, 6), Alone(0.01))


@pytest.mark.parametrize("place", PLACES)
def test_data_streams_beside_stored_weights(place: str) -> None:
    model = stored_network(place, 5)
    need = model.memory_report(16, "adam").total
    found = outcome(fit(model, fcnn.Adam(0.01), memory_limit=need + 6_000))
    assert_equal(found, outcome(fit(stored_network(place, 5), fcnn.Adam(0.01))))
    with pytest.raises(ValueError, match="the model alone takes"):
        fit(stored_network(place, 5), fcnn.Adam(0.01), memory_limit=need // 2)


def test_threads_predict_with_one_network() -> None:
    model = stored_network("disk", 3)
    inputs = [X.astype("float32") + i for i in range(4)]
    expected = [model.predict(x) for x in inputs]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            for a, b in zip(threads.map(model.predict, inputs), expected, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("place", PLACES)
def test_within_residual_blocks(place: str) -> None:
    def network(dense: Any) -> fcnn.Sequential:
        layers = [fcnn.Residual([dense(30, activation="relu"), fcnn.LayerNorm(), dense(12)]), fcnn.Dense(3)]
        return fcnn.Sequential(layers, N_IN, seed=4, backend="numpy")

    expected = fit(network(chunked(7)), fcnn.Adam(0.01))
    model = network(lambda n_out, **options: fcnn.Dense(n_out, placement=place, **options))
    cases.set_tiles(model, 7)
    assert set(model.named_arrays()) >= {"0.block.0.W", "0.projection.W"}
    assert_equal(outcome(fit(model, fcnn.Adam(0.01))), outcome(expected))


@pytest.mark.parametrize("place", PLACES)
def test_within_branches(place: str) -> None:
    def network(dense: Any) -> fcnn.Sequential:
        branches = [[dense(30, activation="relu"), fcnn.Dense(4)], [dense(11), "tanh"]]
        return fcnn.Sequential([fcnn.Branches(branches), fcnn.Dense(3)], N_IN, seed=4, backend="numpy")

    expected = fit(network(chunked(7)), fcnn.Adam(0.01))
    model = network(lambda n_out, **options: fcnn.Dense(n_out, placement=place, **options))
    cases.set_tiles(model, 7)
    assert_equal(outcome(fit(model, fcnn.Adam(0.01))), outcome(expected))


@pytest.mark.parametrize("place", PLACES)
def test_the_checker_takes_a_layer_with_stored_weights(place: str) -> None:
    layer = fcnn.Dense(3, activation="gelu", l1=0.1, l2=0.1, placement=place)
    assert fcnn.gradient_check.check_layer(layer, n_in=4).passed
