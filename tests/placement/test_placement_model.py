"""What a model does with weights that lie elsewhere: reading, writing, copying, saving, describing, planning."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.initializers import Draw
from fcnn_gpu.model._precision import resolve_precision
from fcnn_gpu.placement import StoredMatrix, _plan

from ..support import placement_cases as cases
from ..support.placement_cases import N_IN, PLACES, X, Y, assert_equal, fit, outcome, stored_network

X32 = X.astype("float32")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def weights_of(model: fcnn.Sequential) -> Any:
    return model.parameters[0].value


INDICES: list[Any] = [
    3,
    -1,
    (2, 5),
    (-3, -4),
    slice(None),
    slice(4, 9),
    slice(20, 3, -4),
    (slice(2, 30, 7), slice(1, None, 3)),
    (5, slice(3, 8)),
    (slice(3, 8), 5),
    Ellipsis,
    (Ellipsis, 2),
    (1, Ellipsis),
    (Ellipsis, slice(0, 2)),
    [3, 1, 3],
    np.array([0, 32]),
    ([4, 2, 4], [1, 19, 0]),
    (np.array([[1], [2]]), np.array([[3, 4]])),
    (slice(1, 4), [0, 5]),
    np.arange(33) % 3 == 0,
    (None, 4),
    slice(7, 7),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_reading_and_writing_parts(place: str, index: Any) -> None:
    W = weights_of(stored_network(place, 4))
    expected = np.array(W)
    found = W[index]
    np.testing.assert_array_equal(found, expected[index])
    assert type(found) is type(expected[index])
    new = np.arange(np.size(expected[index]), dtype="float64").reshape(np.shape(expected[index]))
    if not (isinstance(index, tuple) and index[0] is None):
        expected[index] = new
        W[index] = new
        np.testing.assert_array_equal(np.asarray(W), expected)
        W[index] = 2.5
        expected[index] = 2.5
        np.testing.assert_array_equal(np.asarray(W), expected)


def test_an_index_out_of_range_is_an_error(place: str) -> None:
    W = weights_of(stored_network(place, 4))
    for index in (33, (0, 20), (0, 0, 0), [33], "W"):
        with pytest.raises(IndexError):
            W[index]
    with pytest.raises(ValueError, match="broadcast"):
        W[...] = np.zeros((3, 3))


def test_a_stored_matrix_says_what_it_is(place: str) -> None:
    W = weights_of(stored_network(place, 4))
    where = "the host" if place == "host" else "disk"
    assert repr(W) == f"<33×20 float32 weights, 2.6 KiB, on {where}>"
    assert (W.shape, W.ndim, W.size, W.nbytes, len(W)) == ((33, 20), 2, 660, 2640, 33)
    with pytest.raises(ValueError, match="only be copied"):
        np.asarray(W, copy=False)
    assert np.asarray(W, np.float64).dtype == np.float64


def test_gradients_are_read_like_weights(place: str) -> None:
    model = stored_network(place, 4, dtype="float64")
    loss = fcnn.losses.CrossEntropy()
    loss.forward(model.forward(X, training=True), Y)
    model.backward(loss.backward())
    layer: Any = model.layers[0]
    dW = np.asarray(layer.dW)
    dZ, A0 = model.stored.weights[0].factors  # type: ignore[union-attr,misc]
    for index in (3, (2, 5), slice(3, 30, 4), ([4, 32, 4], [1, 19, 0])):
        np.testing.assert_array_equal(layer.dW[index], dW[index])
    np.testing.assert_allclose(layer.dW[7, 11], sum(dZ[7, k] * A0[11, k] for k in range(len(X))), rtol=1e-12)
    assert "gradient of 0.W, 33×20" in repr(layer.dW)


def test_snapshots_lie_where_the_weights_lie(place: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"storage": tmp_path} if place == "disk" else {}
    model = stored_network(place, 4, **options)
    before = {name: np.array(array) for name, array in model.named_arrays().items()}
    snapshot = model.snapshot()
    assert isinstance(snapshot["0.W"], StoredMatrix)
    assert snapshot["0.W"].stored.place == ("the host" if place == "host" else "disk")
    n_files = len(list(tmp_path.iterdir()))
    fit(model, fcnn.SGD(0.1), epochs=1)
    assert (np.asarray(snapshot["0.W"]) == before["0.W"]).all()
    assert (np.asarray(weights_of(model)) != before["0.W"]).any()
    model.restore(snapshot)
    assert_equal({name: np.asarray(array) for name, array in model.named_arrays().items()}, before)
    del snapshot
    if place == "disk":
        assert len(list(tmp_path.iterdir())) == n_files - 2


def test_the_best_weights_come_back(place: str) -> None:
    runs = []
    for model in (cases.network(cases.chunked(4), cases.chunked(4)), stored_network(place, 4)):
        stop = fcnn.EarlyStopping(monitor="loss", greater_is_better=True, patience=2)
        trainer = fit(model, fcnn.SGD(0.05), epochs=5, callbacks=[stop])
        assert trainer.history.best_epoch != len(trainer.history.records)
        runs.append({name: np.asarray(array) for name, array in model.named_arrays().items()})
    assert_equal(*runs)


def test_a_model_file_is_that_of_weights_in_memory(place: str, tmp_path: Path) -> None:
    model = stored_network(place, 4)
    fit(model, fcnn.SGD(0.1), epochs=1)
    model.save(tmp_path / "m.safetensors")
    predictions = model.predict(X32)
    stored = fcnn.load(tmp_path / "m.safetensors", backend="numpy")
    assert stored.stored is not None
    assert stored.stored.store.place == place
    np.testing.assert_allclose(stored.predict(X32), predictions, rtol=1e-5)
    plain = cases.network(fcnn.Dense, fcnn.Dense)
    plain.restore({name: np.asarray(array) for name, array in model.named_arrays().items()})
    plain.save(tmp_path / "plain.safetensors")
    from safetensors.numpy import load_file

    assert_equal(load_file(tmp_path / "m.safetensors"), load_file(tmp_path / "plain.safetensors"))


def test_a_large_file_streams_into_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("_blocks", "_tensor_file"):
        monkeypatch.setattr(f"fcnn_gpu.files.{module}.BLOCK_BYTES", 1000)
    plain = cases.network(fcnn.Dense, fcnn.Dense)
    plain.save(tmp_path / "plain.safetensors")
    model = fcnn.load(tmp_path / "plain.safetensors", backend="numpy", memory_limit=20_000, storage=tmp_path / "net")
    assert model.stored is not None
    assert_equal({name: np.asarray(array) for name, array in model.named_arrays().items()}, dict(plain.named_arrays()))
    model.save(tmp_path / "again.safetensors")
    content = (tmp_path / "again.safetensors").read_bytes()
    same = fcnn.load(tmp_path / "again.safetensors", backend="numpy")
    assert same.stored is None
    assert_equal(dict(same.named_arrays()), dict(plain.named_arrays()))
    (tmp_path / "again.safetensors").write_bytes(content[:-2000] + bytes([content[-2000] ^ 1]) + content[-1999:])
    with pytest.raises(fcnn.ModelFileError, match="checksum"):
        fcnn.load(tmp_path / "again.safetensors", backend="numpy")


def test_deep_copies_are_networks_of_their_own(place: str) -> None:
    model = stored_network(place, 4)
    fit(model, fcnn.SGD(0.1), epochs=1)
    twin = copy.deepcopy(model)
    assert twin.stored is not None
    assert twin.stored.store.place == place
    assert_equal(*({name: np.asarray(a) for name, a in m.named_arrays().items()} for m in (model, twin)))
    assert twin.random_step[0] == model.random_step[0]
    weights_of(twin)[0, 0] = 77.0
    assert weights_of(model)[0, 0] != 77.0


def test_pickling() -> None:
    model = stored_network("host", 4)
    twin = pickle.loads(pickle.dumps(model))
    assert_equal(*({name: np.asarray(a) for name, a in m.named_arrays().items()} for m in (model, twin)))
    with pytest.raises(TypeError, match=r"model\.save\(path\).*copy\.deepcopy"):
        pickle.dumps(stored_network("disk", 4))


def test_the_summary_counts_and_places_stored_weights(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = stored_network(place, 4)
    assert model.n_parameters == cases.network(fcnn.Dense, fcnn.Dense).n_parameters
    model.summary()
    said = capsys.readouterr().out
    assert f"placement='{place}'" in said
    assert f"{model.n_parameters:,} parameters" in said
    assert f"Dense({N_IN} → 33, relu, placement='{place}')" in repr(model)


def test_one_flat_gradient_is_refused(place: str) -> None:
    with pytest.raises(TypeError, match=r"layer\.dW\[rows\]"):
        stored_network(place, 4).objective_gradient()


def test_verify_reproducible(place: str) -> None:
    report = fcnn.verify_reproducible(lambda: fcnn.Trainer(stored_network(place, 4)), X32, Y, epochs=1)
    assert report.ok, str(report)
    assert report.n_arrays > 20


def test_configurations_name_a_placement_that_was_chosen(place: str) -> None:
    config = stored_network(place, 4).config()
    assert config["layers"][0]["placement"] == place
    assert "placement" not in config["layers"][4]  # files of other networks are those of older releases
    assert fcnn.Sequential.from_config(config, "numpy").stored is not None


# Initial weights


@pytest.mark.parametrize(
    "name",
    [n for n in fcnn.initializers.INITIALIZERS if n != "array" and not fcnn.initializers.INITIALIZERS[n].looks_at_data],
)
def test_rows_are_drawn_like_the_whole(name: str) -> None:
    if name in ("zeros", "constant"):
        layers = [fcnn.Dense(33, init=name, placement=p) for p in ("device", "disk")]
        a, b = (fcnn.Sequential([layer], N_IN, seed=5, backend="numpy") for layer in layers)
    else:
        a, b = (
            fcnn.Sequential([fcnn.Dense(33, init=name, placement=p), fcnn.Dense(2)], N_IN, seed=5, backend="numpy")
            for p in ("device", "disk")
        )
    np.testing.assert_array_equal(np.asarray(b.named_arrays()["0.W"]), a.named_arrays()["0.W"])
    draw = Draw("a layer", fcnn.initializers.INITIALIZERS[name](), np.random.SeedSequence(1), 33, 20)
    for rows in (1, 4, 33, 50):
        blocks = draw.blocks(rows)
        if name == "orthogonal":
            assert blocks is None
        else:
            assert blocks is not None
            np.testing.assert_array_equal(np.concatenate(list(blocks)), draw.whole())


def test_subclasses_that_draw_otherwise_are_drawn_whole() -> None:
    class Doubled(fcnn.initializers.HeNormal):
        def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> Any:
            return 2.0 * super().__call__(rng, n_out, n_in)

    model = fcnn.Sequential([fcnn.Dense(33, init=Doubled(), placement="disk")], N_IN, seed=5, backend="numpy")
    plain = fcnn.Sequential([fcnn.Dense(33, init="he_normal")], N_IN, seed=5, backend="numpy")
    np.testing.assert_array_equal(np.asarray(weights_of(model)), 2.0 * np.asarray(weights_of(plain)))


def test_a_matrix_that_has_no_room_whole_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcnn_gpu.placement._build.available_memory", lambda: 1000)
    with pytest.raises(ValueError, match=r"draws all weights at once.*row by row"):
        fcnn.Sequential([fcnn.Dense(33, init="orthogonal", placement="disk")], N_IN, seed=5, backend="numpy")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_initial_weights_are_finite_wherever_they_lie(value: float) -> None:
    class Odd(fcnn.initializers.ElementwiseInitializer):
        def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> Any:
            return np.full(shape, value)

    with pytest.raises(ValueError, match="finite weights"):
        fcnn.Sequential([fcnn.Dense(33, init=Odd(), placement="disk")], N_IN, seed=5, backend="numpy")


def test_equal_neurons_are_warned_of_wherever_they_lie(place: str) -> None:
    with pytest.warns(fcnn.SymmetryWarning):
        fcnn.Sequential([fcnn.Dense(5, init="constant", placement=place), fcnn.Dense(2)], N_IN, backend="numpy")


# Planning


def placements(limit: int | None, *layers: fcnn.Dense, **options: Any) -> list[str]:
    model = fcnn.Sequential(list(layers), 100, seed=0, backend="numpy", memory_limit=limit, **options)
    return ["device" if parameter.stored is None else "disk" for parameter in model.parameters if parameter.is_weight]


def test_the_largest_layers_go_first() -> None:
    def layers() -> list[fcnn.Dense]:
        return [fcnn.Dense(50), fcnn.Dense(400), fcnn.Dense(60)]  # 5,000, 20,000 and 24,000 weights

    assert placements(None, *layers()) == ["device"] * 3
    assert placements(10**6, *layers()) == ["device"] * 3
    assert placements(750_000, *layers()) == ["device", "device", "disk"]
    assert placements(200_000, *layers()) == ["device", "disk", "disk"]
    assert placements(40_000, *layers()) == ["disk"] * 3


def test_a_layer_that_is_to_stay_stays() -> None:
    assert placements(300_000, fcnn.Dense(50), fcnn.Dense(400), fcnn.Dense(10, placement="device")) == [
        "device",
        "disk",
        "device",
    ]


def test_a_limit_that_is_too_small_names_the_smallest_that_works() -> None:
    layers = [fcnn.Dense(50), fcnn.Dense(400, placement="device"), fcnn.Dense(60)]
    with pytest.raises(ValueError, match=r"Allow ([\d,]+) bytes") as raised:
        placements(1000, *layers)
    found = re.search(r"Allow ([\d,]+) bytes", str(raised.value))
    assert found is not None
    least = int(found[1].replace(",", ""))
    assert placements(least, *layers) == ["disk", "device", "disk"]
    with pytest.raises(ValueError, match="Allow"):
        placements(least - 1, fcnn.Dense(50), fcnn.Dense(400, placement="device"), fcnn.Dense(60))


@pytest.mark.parametrize("limit", [2_100, 5_000, 30_000, 60_000, 200_000])
def test_parameters_and_tiles_keep_to_the_limit(limit: int) -> None:
    model = fcnn.Sequential([fcnn.Dense(64)], 50, seed=0, backend="numpy", memory_limit=limit * 4)
    report = model.memory_report(1)
    assert report.parameters + report.gradients + report.optimizer + report.tiles <= 4 * limit + 2000
    if model.stored is not None:
        assert report.disk == 2 * 3 * 64 * 50 * 4


@given(
    st.integers(1, 3000),
    st.lists(st.tuples(st.sampled_from(["auto", "device", "disk"]), st.integers(1, 300)), min_size=1, max_size=5),
    st.integers(1, 2 * 10**7),
    st.sampled_from(["float32", "float64"]),
)
def test_any_network_within_any_limit(n_in: int, layers: list[tuple[str, int]], limit: int, dtype: str) -> None:
    """The plan keeps to the limit, tiles cover every row once, and a refusal names the smallest limit that works."""
    widths = [n_in, *(n for _, n in layers)]
    weights = [_plan.Weights(place, n, m) for (place, n), m in zip(layers, widths, strict=False)]
    ops, precision = Ops(), resolve_precision(None, np.dtype(dtype))
    others = sum(n for _, n in layers)

    def plan(allowed: int) -> _plan.Plan:
        return _plan.plan_placement(weights, others, ops, precision, allowed)

    try:
        chosen = plan(limit)
    except ValueError as error:
        found = re.search(r"Allow ([\d,]+) bytes", str(error))
        assert found is not None
        least = int(found[1].replace(",", ""))
        assert least > limit
        limit, chosen = least, plan(least)
        with pytest.raises(ValueError, match="Allow"):
            plan(least - 1)
    item = precision.dtype.itemsize
    taken = 4 * item * others
    for weight, where in zip(weights, chosen.places, strict=True):
        assert where == weight.placement or weight.placement == "auto"
        if where == "device":
            taken += 4 * item * weight.size
    tiles = [0]
    for weight, where in zip(weights, chosen.places, strict=True):
        if where != "device":
            rows = _plan.tile_rows(chosen.tile_bytes, weight.n_out, weight.n_in, item)
            assert 1 <= rows <= weight.n_out
            covered = [
                i for start in range(0, weight.n_out, rows) for i in range(start, min(start + rows, weight.n_out))
            ]
            assert covered == list(range(weight.n_out))
            tiles.append(10 * rows * weight.n_in * item)  # three slots of weights and two moments, and a gradient
    assert taken + max(tiles) <= limit


def test_what_is_free_is_not_asked_for_small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> int:
        raise AssertionError("a small network does not pay for the question")

    ops, precision = Ops(), resolve_precision(None, np.dtype(np.float32))
    _plan.plan_placement([_plan.Weights("auto", 64, 64)] * 3, 100, ops, precision, None, None, ask)
    with pytest.raises(AssertionError, match="question"):
        _plan.plan_placement([_plan.Weights("auto", 4096, 2048)], 100, ops, precision, None, None, ask)


def test_without_a_limit_what_is_free_decides() -> None:
    ops, precision = Ops(), resolve_precision(None, np.dtype(np.float32))
    large = [_plan.Weights("auto", 4096, 2048), _plan.Weights("auto", 4096, 4096)]
    for free, expected in ((None, ("device",) * 2), (10**9, ("device",) * 2), (3 * 10**8, ("device", "disk"))):
        found = _plan.plan_placement(large, 100, ops, precision, None, None, lambda free=free: free)  # type: ignore[misc]
        assert found.places == expected


def test_host_and_disk_do_not_mix() -> None:
    with pytest.raises(ValueError, match="Choose one"):
        placements(None, fcnn.Dense(5, placement="host"), fcnn.Dense(5, placement="disk"))


def test_wrong_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Did you mean 'disk'"):
        fcnn.Dense(5, placement="disc")
    with pytest.raises(ValueError, match="is for weights on disk"):
        fcnn.Sequential([fcnn.Dense(5)], 3, backend="numpy", storage=tmp_path)
    with pytest.raises(TypeError, match=r"Sequential\(storage\)"):
        fcnn.Sequential([fcnn.Dense(5)], 3, backend="numpy", storage=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"memory_limit"):
        fcnn.Sequential([fcnn.Dense(5)], 3, backend="numpy", memory_limit="much")
    with pytest.raises(TypeError, match=r"Storage\(folder\)"):
        fcnn.Storage(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Storage\(durable\)"):
        fcnn.Storage(None, 1)  # type: ignore[arg-type]


def test_a_folder_is_trained_with_another_limit(tmp_path: Path) -> None:
    model = stored_network("disk", 16, storage=tmp_path)
    fcnn.Adam(0.01).bind(model)
    model.close()
    again = fcnn.load(tmp_path, backend="numpy", memory_limit=10_000)
    assert again.stored is not None
    assert max(weight.tile_rows for weight in again.stored.weights) < 16
    with pytest.raises(ValueError, match="in its own folder"):
        fcnn.load(tmp_path, backend="numpy", storage=tmp_path / "other")


@pytest.mark.parametrize("optimizer", [fcnn.Adam(0.01), fcnn.SGD(0.1)])
def test_the_estimators_keep_what_is_stored(place: str, optimizer: fcnn.optimizers.Optimizer) -> None:
    """Their networks are pickled as arrays of the host, moments of stored weights included."""
    trainer = fit(stored_network(place, 5), copy.copy(optimizer))
    found = {name: np.asarray(array) for name, array in trainer.optimizer.whole_state.items()}
    for name in trainer.optimizer._state_names():
        assert found[f"0.W.{name}"].shape == (33, N_IN)
    assert outcome(trainer)


def test_a_gradient_is_computed_once_for_all_rows_of_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = stored_network("host", 5, dtype="float64")
    loss = fcnn.CrossEntropy()
    loss.forward(model.forward(X, training=True), Y)
    model.backward(loss.backward())
    first, weight = model.layers[0], model.stored.weights[0]
    whole = np.array(first.dW)
    computed: list[slice] = []
    real = weight.gradient_tile

    def gradient_tile(rows: slice) -> Any:
        computed.append(rows)
        return real(rows)

    monkeypatch.setattr(weight, "gradient_tile", gradient_tile)
    for key in ((slice(None), 3), slice(4, 11), (slice(None, None, -2), [1, 0]), ([7, 30, 6, 7], 2), whole > 0):
        computed.clear()
        np.testing.assert_array_equal(first.dW[key], whole[key])
        assert len(computed) <= len(weight.cut())
    assert len(weight.cut()) < len(whole)
