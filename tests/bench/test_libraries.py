"""Every library builds the same net: in float64, where rounding hides nothing, it learns what we learn."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench import _contest
from fcnn_gpu.bench._worker import call_apart
from fcnn_gpu.bench.agreement import deviation
from fcnn_gpu.bench.libraries import LIBRARIES, Entrant, Problem, backends_here, own_variants, peers
from fcnn_gpu.bench.libraries import ours as ours_module
from fcnn_gpu.bench.libraries._base import Batches, weights_of
from fcnn_gpu.bench.libraries.ours import OurContestant, OurNet, matrix_products
from fcnn_gpu.bench.libraries.pytorch import AUTOTUNED_STEP, COMPILED_STEP
from fcnn_gpu.bench.nets import Net
from fcnn_gpu.bench.results import OURS, Job
from fcnn_gpu.bench.settings import PEERS, Settings
from tests.conftest import compiled_ops, cuda_ops, emulated_ops

SETTINGS = Settings(threads=1, timeout=120)
PLAIN = Problem(Net((20, 16, 12, 5)), 32, dtype="float64")
NORMALIZED = replace(PLAIN, net=Net((20, 16, 12, 5), batch_norm=True, dropout=0.5))
WHOLE = replace(PLAIN, net=Net((20, 16, 12, 5), activation="tanh"), batch=8200)
"""A batch that is all of the data."""

US, COMPILED = Entrant(OURS, "numpy"), Entrant(OURS, "cpu")
ENTRANTS = [
    US,
    COMPILED,
    Entrant("torch", "foreach"),
    Entrant("torch", "fused"),
    Entrant("jax", "jit"),
    Entrant("jax", "scan"),
    Entrant("jax", "scan, ready batches"),
    Entrant("sklearn", "partial_fit"),
]


@pytest.fixture(params=ENTRANTS, ids=lambda entrant: entrant.label)
def entrant(request: pytest.FixtureRequest) -> Entrant:
    """A library in one variant, in this process; skips the test where it is not installed."""
    entrant: Entrant = request.param
    if entrant == COMPILED:
        compiled_ops()
        if COMPILED.variant not in backends_here():
            pytest.skip("the kernels were compiled after this process had looked for them")
    missing = LIBRARIES[entrant.key].missing()
    if missing is not None:
        pytest.skip(f"{entrant.library}: {missing}")
    return entrant


def test_the_settings_know_every_peer() -> None:
    assert set(PEERS) | {US.key} == set(LIBRARIES)


@pytest.mark.parametrize("problem", [PLAIN, NORMALIZED, WHOLE], ids=["plain", "batch norm and dropout", "whole"])
def test_libraries_learn_the_same(entrant: Entrant, problem: Problem) -> None:
    lacks = LIBRARIES[entrant.key].lacks(problem)
    if lacks is not None:
        assert (entrant.key, problem) == ("sklearn", NORMALIZED)
        pytest.skip(lacks)
    expected = OurNet(problem.without_dropout())
    expected.train(5)
    ours = weights_of(expected.model) | {"outputs": expected.outputs()}
    ours["outputs"] = ours["outputs"] - ours["outputs"].mean(axis=1, keepdims=True)
    assert _contest.build(entrant, problem) is None
    for _ in range(2):  # again after a reset: nothing may be left of the steps before
        theirs = _contest.computed(entrant, problem, 5)
        found = deviation(theirs, ours, problem.without_dropout().initial_weights(), problem.net)
        # scikit-learn's ε is added before the bias correction: steps along tiny gradients are shorter
        assert found.value < (3e-2 if entrant.key == "sklearn" else 1e-8), found
        _contest.stretch("train", 2, 3)


def _compiled(problem: Problem, variant: str, n_steps: int) -> tuple[dict[str, HostArray], dict[str, HostArray], int]:
    """Weights after training without dropout and with it, and how many processes are left of the compilation."""
    entrant = Entrant("torch", variant)
    assert _contest.build(entrant, problem) is None
    without = _contest.computed(entrant, problem, n_steps)
    contestant = _contest._present()
    contestant.reset()
    contestant.train(n_steps)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    return without, contestant.weights(), len(children.read_text().split()) if children.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "problem"),
    [("compile", PLAIN), (COMPILED_STEP, PLAIN), (COMPILED_STEP, NORMALIZED), (AUTOTUNED_STEP, PLAIN)],
    ids=["module", "step", "step with batch norm and dropout", "autotuned step"],
)
def test_what_pytorch_compiles_learns_the_same(variant: str, problem: Problem) -> None:
    pytest.importorskip("torch")
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("there is no C++ compiler")
    n_steps = 12
    expected = OurNet(problem.without_dropout())
    expected.train(n_steps)
    without, dropped, n_children = call_apart(_compiled, problem, variant, n_steps, settings=SETTINGS)
    ours = weights_of(expected.model) | {"outputs": without["outputs"]}
    found = deviation(without, ours, problem.without_dropout().initial_weights(), problem.net)
    assert found.value < 1e-8, found
    moved = np.abs(dropped["W0"] - without["W0"]).max()
    assert moved > 1e-4 if problem.net.dropout else moved == 0
    assert n_children == 0


@pytest.mark.parametrize("variant", ["compile", COMPILED_STEP, AUTOTUNED_STEP])
def test_without_a_compiler_nothing_is_compiled(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("CXX", "no-such-compiler")
    reason = _contest.build(Entrant("torch", variant), PLAIN)
    assert reason is not None
    assert "needs a C++ compiler, and no-such-compiler was not found" in reason


@pytest.mark.parametrize("variant", ["scan", "scan, ready batches"])
def test_a_scan_makes_exactly_as_many_steps(variant: str) -> None:
    """Of an epoch, of a part of one, and of those that are left; also from the middle of an epoch."""
    pytest.importorskip("jax")
    problem = replace(PLAIN, batch=256)  # 32 batches
    net, expected = LIBRARIES["jax"].build(problem, variant), OurNet(problem)
    net.prepare()
    for n_steps in (32 + 16 + 3, 31, 1):
        net.train(n_steps)
        expected.train(n_steps)
        for name, array in weights_of(expected.model).items():
            np.testing.assert_allclose(net.weights()[name], array, rtol=0, atol=1e-10)


def test_a_scan_reads_every_batch() -> None:
    """Of each the outputs, none of which may be left out or computed once for all."""
    pytest.importorskip("jax")
    problem = replace(PLAIN, batch=1024)  # 8 batches
    net = LIBRARIES["jax"].build(problem, "scan")
    net.infer(8)
    outputs = np.array(net._last)  # type: ignore[attr-defined]
    expected = OurNet(problem).model(problem.ordered_data()[0])
    np.testing.assert_allclose(outputs.reshape(expected.shape), expected, rtol=0, atol=1e-12)
    net.infer(3)
    np.testing.assert_allclose(np.array(net._last)[0], expected[2048:3072], rtol=0, atol=1e-12)  # type: ignore[attr-defined]
    assert net.jobs().keys() == {"train", "infer"}
    assert LIBRARIES["jax"].build(problem, "scan, ready batches").jobs().keys() == {"train"}


def test_a_whole_data_set_is_scanned_without_epochs() -> None:
    pytest.importorskip("jax")
    net, expected = LIBRARIES["jax"].build(WHOLE, "scan"), OurNet(WHOLE)
    net.train(64 + 16 + 2)
    net.infer(17)
    expected.train(64 + 16 + 2)
    for name, array in weights_of(expected.model).items():
        np.testing.assert_allclose(net.weights()[name], array, rtol=0, atol=1e-10)


def test_compiled_kernels_that_are_not_there_are_no_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours_module, "choose_backend", lambda name, who: (Ops(), "NumPy, because none were compiled"))
    reason = _contest.build(COMPILED, PLAIN)
    assert reason == "this backend cannot be had: NumPy, because none were compiled"
    assert backends_here() == ("numpy",)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_peers_in_fewer_bits_learn_what_float32_learns(library: str, precision: str) -> None:
    """On the CPU, where ours has no such precision: the limits must hold between the types, too."""
    if LIBRARIES[library].missing() is not None:
        pytest.skip("not installed")
    if (library, precision) == ("jax", "float16"):
        pytest.skip("JAX has no loss scaling")
    plain = Problem(Net((40, 32, 10)), 64)
    entrant = Entrant(library, "foreach" if library == "torch" else "jit")
    assert _contest.build(US, plain) is None
    ours = _contest.computed(US, plain, 5)
    assert _contest.build(entrant, replace(plain, precision=precision)) is None
    for _ in range(2):
        theirs = _contest.computed(entrant, plain, 5)
        found = deviation(theirs, ours, plain.initial_weights(), plain.net, precision)
        assert found.agrees, found
        if precision != "tf32":  # which no CPU has
            assert found.value > 1e-5, "nothing was rounded"
        for job in _contest.jobs():
            _contest.stretch(job, 1, 2)


def test_libraries_go_through_the_data_again_and_again(entrant: Entrant) -> None:
    problem = replace(PLAIN, batch=2048)  # 8 batches
    steps = problem.n_batches + 3
    expected = OurNet(problem)
    expected.train(steps)
    assert _contest.build(entrant, problem) is None
    theirs = _contest.computed(entrant, problem, steps)
    found = deviation(
        theirs,
        weights_of(expected.model) | {"outputs": theirs["outputs"]},
        problem.without_dropout().initial_weights(),
        problem.net,
    )
    assert found.value < (3e-2 if entrant.key == "sklearn" else 1e-8), found


@pytest.mark.parametrize("problem", [PLAIN, NORMALIZED.without_dropout()], ids=["plain", "batch norm"])
def test_batches_that_come_from_the_host_are_the_same(entrant: Entrant, problem: Problem) -> None:
    """What is timed on a GPU with transfers; on a CPU the same code copies nothing."""
    if entrant.key in ("sklearn", US.key) or entrant.variant.startswith("scan"):
        pytest.skip("has no such job on the CPU")
    contestant = LIBRARIES[entrant.key].build(problem, entrant.variant)
    contestant.train(4)
    expected = contestant.weights()
    contestant.reset()
    contestant.train_from_host(4)  # type: ignore[attr-defined]
    contestant.infer_from_host(2)  # type: ignore[attr-defined]
    contestant.wait()
    for name, array in contestant.weights().items():
        np.testing.assert_array_equal(array, expected[name])


def test_dropout_takes_part_in_training_alone(entrant: Entrant) -> None:
    library = LIBRARIES[entrant.key]
    if library.lacks(NORMALIZED) is not None:
        pytest.skip("has no dropout")
    first = OurNet(NORMALIZED).outputs()
    trained = []
    for p in (0.5, 0.25):
        contestant = library.build(replace(NORMALIZED, net=replace(NORMALIZED.net, dropout=p)), entrant.variant)
        np.testing.assert_allclose(contestant.outputs(), first, rtol=1e-9)
        contestant.train(5)
        np.testing.assert_array_equal(contestant.outputs(), contestant.outputs())
        trained.append(contestant.weights()["W0"])
    assert np.abs(trained[0] - trained[1]).max() > 1e-4


@pytest.mark.gpu
@pytest.mark.parametrize("problem", [PLAIN, NORMALIZED], ids=["plain", "batch norm and dropout"])
def test_libraries_learn_the_same_on_a_gpu(problem: Problem) -> None:
    on_gpu = replace(problem, backend="cupy", dtype="float32")
    cuda_ops()
    ours = None
    for entrant in [*own_variants(on_gpu, SETTINGS), *peers(on_gpu, SETTINGS)[0]]:
        if _contest.build(entrant, on_gpu) is not None:
            continue  # installed for the CPU only
        theirs = _contest.computed(entrant, on_gpu, 5)
        ours = theirs if ours is None else ours
        found = deviation(theirs, ours, on_gpu.without_dropout().initial_weights(), on_gpu.net)
        assert found.agrees, (entrant.label, found)
        for job in _contest.jobs():
            stretch = _contest.stretch(job, 2, 5)
            assert stretch.seconds > 0
            assert (stretch.device_seconds is None) == (entrant.key == "jax")


def test_stretches_and_their_lengths(entrant: Entrant) -> None:
    _contest.build(entrant, replace(PLAIN, dtype="float32"))
    for job in _contest.jobs():
        n = _contest.repetitions(job, 1e-3)
        assert n >= 1
        stretch = _contest.stretch(job, 2, n)
        assert 0 < stretch.host_seconds <= stretch.seconds
        assert stretch.device_seconds is None  # the CPU has no other clock


def test_a_library_that_is_not_there_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    present, absent = peers(PLAIN, SETTINGS)
    assert present == []
    assert {a.library: a.reason for a in absent} == {
        "PyTorch": "not installed (pip install torch)",
        "JAX": "not installed (pip install jax)",
        "scikit-learn": "not installed (pip install scikit-learn)",
    }


@pytest.fixture
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in LIBRARIES.values():
        monkeypatch.setattr(library, "missing", lambda: None)


@pytest.mark.usefixtures("all_installed")
def test_variants_by_case() -> None:
    def labels(problem: Problem, settings: Settings) -> list[str]:
        return [entrant.label for entrant in peers(problem, settings)[0]]

    scans = ["JAX scan", "JAX scan, ready batches"]
    on_cpu = ["PyTorch foreach", "PyTorch fused", "JAX jit", *scans, "scikit-learn partial_fit"]
    assert labels(PLAIN, SETTINGS) == on_cpu
    compiled = ["PyTorch compile", "PyTorch compile step", "PyTorch compile step, max-autotune"]
    assert labels(PLAIN, replace(SETTINGS, compile=True)) == [*on_cpu[:2], *compiled, *on_cpu[2:]]
    assert labels(PLAIN, replace(SETTINGS, libraries=("jax",))) == ["JAX jit", *scans]
    assert labels(WHOLE, replace(SETTINGS, libraries=("jax",))) == ["JAX jit", scans[0]]
    assert labels(NORMALIZED, SETTINGS) == on_cpu[:-1]
    on_gpu = replace(NORMALIZED, backend="cupy")
    with_masks = [name + masks for masks in ("", ", rbg") for name in ("JAX jit", *scans)]
    assert labels(on_gpu, SETTINGS) == [*on_cpu[:2], "PyTorch CUDA graph", *with_masks]
    compiled = labels(on_gpu, replace(SETTINGS, compile=True, libraries=("torch",)))
    assert compiled == [*on_cpu[:2], "PyTorch compile", "PyTorch compile reduce-overhead", "PyTorch CUDA graph"]
    scaled = replace(on_gpu, precision="float16")
    assert labels(scaled, SETTINGS) == on_cpu[:2]


@pytest.mark.usefixtures("all_installed")
@pytest.mark.parametrize(
    ("problem", "library", "reason"),
    [
        (PLAIN, "PyTorch", "--compile"),
        (NORMALIZED, "scikit-learn", "neither batch norm nor dropout"),
        (replace(PLAIN, backend="cupy"), "scikit-learn", "CPU only"),
        (replace(PLAIN, net=Net((4, 2))), "scikit-learn", "one output"),
        (replace(PLAIN, precision="bfloat16"), "scikit-learn", "float32 and float64 only"),
        (replace(PLAIN, backend="cupy", precision="float16"), "JAX", "loss scale"),
    ],
)
def test_what_is_left_out_says_why(problem: Problem, library: str, reason: str) -> None:
    reasons = {a.library: a.reason for a in peers(problem, SETTINGS)[1]}
    assert reason in reasons[library]


@pytest.mark.parametrize("entrant", [Entrant("torch", "fused"), Entrant("jax", "jit")], ids=lambda e: e.label)
def test_a_peer_without_a_gpu_says_so(entrant: Entrant) -> None:
    if LIBRARIES[entrant.key].missing() is not None:
        pytest.skip("not installed")
    reason = _contest.build(entrant, replace(PLAIN, backend="cupy:7"))
    assert reason is not None
    assert "sees no" in reason


def test_batches_come_round() -> None:
    batches = Batches(3)
    assert [batches.next() for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert (batches.left, batches.at_start) == (2, False)
    batches.skip(2)
    assert (batches.left, batches.at_start) == (3, True)
    batches.skip(1)
    batches.restart()
    assert batches.next() == 0


@pytest.mark.parametrize(
    ("batch", "n_batches"), [(1, 256), (32, 256), (128, 64), (512, 16), (4096, 8), (8192, 8), (8193, 1)]
)
def test_the_data_set_grows_with_the_batch(batch: int, n_batches: int) -> None:
    assert replace(PLAIN, batch=batch).n_batches == n_batches


def test_the_data_is_the_seeds() -> None:
    X, y = PLAIN.data()
    again, _ = replace(PLAIN, backend="cupy").data()
    np.testing.assert_array_equal(X, again)
    assert X.shape == (8192, 20)
    assert (X.dtype, y.dtype) == (np.float64, np.int64)
    assert sorted(set(y)) == [0, 1, 2, 3, 4]
    assert not np.array_equal(X, replace(PLAIN, seed=1).data()[0])
    ordered, labels = PLAIN.ordered_data()
    order = PLAIN.order()
    np.testing.assert_array_equal(ordered[5], X[order[5]])
    assert labels[5] == y[order[5]]


def test_products_are_those_of_a_step() -> None:
    shapes: list[tuple[int, int, int]] = []

    class Recording(Ops):
        def gemm(self, A: np.ndarray, B: np.ndarray, out: np.ndarray, alpha: float = 1.0, beta: float = 0.0) -> None:
            shapes.append((A.shape[0], B.shape[1], A.shape[1]))
            assert out.shape == (A.shape[0], B.shape[1])
            super().gemm(A, B, out, alpha, beta)

    jobs: tuple[Job, ...] = ("train", "infer")
    for job in jobs:
        shapes.clear()
        for product in matrix_products(Recording(), PLAIN, job):
            product()
        assert shapes == PLAIN.net.products(PLAIN.batch, job)


def test_a_step_that_stops_updating_is_found_out() -> None:
    net = OurNet(PLAIN)
    net.model.layers[0].W[0, 0] = np.inf  # type: ignore[attr-defined]
    net.train(1)
    with pytest.raises(ArithmeticError, match="not finite"):
        net.check()


@pytest.mark.parametrize("precision", [None, "tf32", "bfloat16", "float16"])
def test_our_net_on_an_emulated_gpu(monkeypatch: pytest.MonkeyPatch, precision: str | None) -> None:
    """The paths for a GPU: batches in its memory, batches that come from the host, the references for the verdict."""
    ops = emulated_ops()
    monkeypatch.setattr("fcnn_gpu.model._network.resolve_backend", lambda name: ops if name == "cupy" else Ops())
    on_cpu = Problem(Net((6, 5, 3), batch_norm=True), 1024)
    on_gpu = replace(on_cpu, backend="cupy", precision=precision)
    expected, net = OurNet(on_cpu), OurContestant(on_gpu)
    expected.train(11)
    for job in ("train", "train from host"):
        net.reset()
        net.jobs()[job](11)  # 8 batches: a graph of them all, and 3 steps of the next round
        net.wait()
        net.check()
        theirs = net.weights() | {"outputs": net.outputs()}
        ours = expected.weights() | {"outputs": expected.outputs()}
        found = deviation(theirs, ours, on_cpu.initial_weights(), on_cpu.net, on_gpu.arithmetic)
        assert found.agrees, found
        if precision in ("bfloat16", "float16"):
            assert found.value > 1e-5, "nothing was rounded"
    read = net.stopwatch()
    assert read is not None
    for name, run in net.jobs().items():
        if name not in ("train", "train from host"):
            run(2)
    net.wait()
    assert read() > 0
