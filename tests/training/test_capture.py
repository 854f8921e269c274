"""Training steps as CUDA graphs, emulated and on a GPU: the same bits as eager steps, and nothing left outside."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.callbacks import Callback

from ..conftest import cuda_ops, emulated_ops
from ..support.emulated import CaptureFault, EmulatedRuntime, make_emulated_ops

OPTIMIZERS = {
    "sgd": lambda rate: fcnn.SGD(rate, momentum=0.9, clip_value=0.1),
    "adam": lambda rate: fcnn.Adam(rate, clip_norm=1.0),
    "adamw": lambda rate: fcnn.AdamW(rate),
    "rmsprop": lambda rate: fcnn.RMSprop(rate, momentum=0.5),
    "adagrad": lambda rate: fcnn.Adagrad(rate),
    "nadam": lambda rate: fcnn.NAdam(rate, weight_decay=0.1),
    "muon": lambda rate: fcnn.Muon(rate, clip_norm=1.0),
}


def network(ops: Ops, **options: Any) -> fcnn.Sequential:
    """Every kind of layer, dropout with its counter and batch norm with its running statistics among them."""
    layers = [
        fcnn.Dense(9, activation="relu", l2=1e-3),
        fcnn.Dropout(0.25),
        fcnn.BatchNorm(),
        fcnn.Residual([fcnn.Dense(9, activation="gelu"), fcnn.LayerNorm()]),
        fcnn.Scale(),
        fcnn.Dense(8, parametrization="ntk"),
        fcnn.ParametricActivation(),
        fcnn.PReLU(),
        fcnn.Dense(3),
    ]
    return fcnn.Sequential(layers, n_in=6, seed=5, backend=ops, **options)


def data(n: int) -> tuple[HostArray, HostArray]:
    rng = np.random.default_rng(n)
    return rng.normal(size=(n, 6)).astype(np.float32), rng.integers(0, 3, n)


def run(ops: Ops, optimizer: Any, n: int, capture: bool, **options: Any) -> dict[str, HostArray]:
    """All that training leaves behind, on the host."""
    model = network(ops)
    trainer = fcnn.Trainer(model, optimizer=optimizer, metrics=["accuracy"])
    X, y = data(n)
    defaults: dict[str, Any] = {"epochs": 3, "batch_size": 16, "validation_data": (X, y), "progress": False}
    history = trainer.fit(X, y, capture=capture, **(defaults | options))
    arrays = model.named_arrays() | trainer.optimizer.state | {"step": trainer.optimizer.control.step}
    kept = {name: ops.to_numpy(array).copy() for name, array in arrays.items()}
    columns = {k: v for k, v in history.to_dict().items() if k not in ("seconds", "samples_per_second")}
    return kept | {k: np.asarray(v) for k, v in columns.items()}


def assert_identical(actual: dict[str, HostArray], expected: dict[str, HostArray]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


@pytest.mark.parametrize("n", [16, 40, 152], ids=["one batch", "a smaller last batch", "several steps per graph"])
@pytest.mark.parametrize("scheduled", [False, True], ids=["constant", "scheduled"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_graph_and_eager_give_the_same_bits(device_ops: Ops, name: str, scheduled: bool, n: int) -> None:
    rate = fcnn.schedules.Cosine(0.01) if scheduled else 0.01
    make = OPTIMIZERS[name]
    assert_identical(run(device_ops, make(rate), n, True), run(device_ops, make(rate), n, False))


@pytest.mark.parametrize("options", [{"drop_last": True}, {"shuffle": False}, {"sample_weight": np.linspace(0, 1, 75)}])
def test_options_of_fit(device_ops: Ops, options: dict[str, Any]) -> None:
    assert_identical(
        run(device_ops, fcnn.Adam(), 75, True, **options), run(device_ops, fcnn.Adam(), 75, False, **options)
    )


def test_steps_are_replayed_as_graphs_of_several_steps() -> None:
    emulated_ops()  # skips without a compiler
    ops = make_emulated_ops()
    runtime = ops._runtime
    assert isinstance(runtime, EmulatedRuntime)
    X, y = data(16 * 11 + 4)
    trainer = fcnn.Trainer(network(ops), optimizer="sgd")
    trainer.fit(X, y, epochs=4, batch_size=16, progress=False)
    # In an epoch of 11 steps and a smaller one: a graph of 8, three calls of a single step, and one of the smaller.
    # Each program runs eagerly once; then it is a graph.
    assert len(runtime.graph_sizes) == 3
    assert max(runtime.graph_sizes) % 8 == 0
    assert runtime.launches == 3 + (4 * 3 - 1) + 3


@pytest.mark.gpu
@pytest.mark.parametrize("after", ["begin_capture", "end_capture"])
def test_an_interrupt_at_the_ends_of_a_recording(monkeypatch: pytest.MonkeyPatch, after: str) -> None:
    """Ctrl-C just when the recording has begun, or ended, leaves the thread's stream to the next one."""
    ops: Any = cuda_ops()
    stream = ops.xp.cuda.Stream
    x, original = ops.zeros(4, np.float32), getattr(stream, after)

    def interrupted(self: Any, *args: Any) -> Any:
        original(self, *args)
        raise KeyboardInterrupt

    def add_one() -> None:
        ops.add(x, ones, x)

    ones = ops.asarray(np.ones(4, np.float32))
    run = ops.capture(add_one)
    run()
    with monkeypatch.context() as patched:
        patched.setattr(stream, after, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run()
    run()
    np.testing.assert_array_equal(ops.to_numpy(x), np.full(4, 2, np.float32))


def test_without_capture_nothing_is_recorded() -> None:
    emulated_ops()  # skips without a compiler
    ops = make_emulated_ops()
    X, y = data(200)
    fcnn.Trainer(network(ops)).fit(X, y, epochs=3, batch_size=16, progress=False, capture=False)
    assert ops._runtime.graph_sizes == []  # type: ignore[attr-defined]


def test_the_host_does_not_wait_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of the device and waits for it are as many in an epoch of 45 steps as in one of 3."""
    emulated_ops()
    monkeypatch.setattr("fcnn_gpu.training._run._TICK_SECONDS", 1e9)  # progress ticks are the exception

    def waits(n: int) -> int:
        ops = make_emulated_ops()
        runtime, counted = ops._runtime, list[str]()
        for name in ("to_host", "synchronize", "to_device"):
            original = getattr(runtime, name)

            def call(*args: Any, name: str = name, original: Any = original) -> Any:
                if name != "to_device" or not ops._runtime.is_device_array(args[0]):  # a copy from the host waits, too
                    counted.append(name)
                return original(*args)

            monkeypatch.setattr(runtime, name, call)
        X, y = data(n)
        trainer = fcnn.Trainer(network(ops), optimizer=fcnn.Adam(fcnn.schedules.Cosine(0.01), clip_norm=1.0))
        trainer.fit(X, y, epochs=2, batch_size=16, progress=False)
        return len(counted)

    assert waits(16 * 45) == waits(16 * 3) > 0


def test_a_changed_setting_reaches_the_next_step(device_ops: Ops) -> None:
    class Change(Callback):
        def on_epoch_begin(self, trainer: fcnn.Trainer, epoch: int) -> None:
            trainer.model.layers[1].p = 0.1 * epoch

    actual = run(device_ops, fcnn.Adam(), 200, True, callbacks=[Change()])
    assert_identical(actual, run(device_ops, fcnn.Adam(), 200, False, callbacks=[Change()]))
    plain = run(device_ops, fcnn.Adam(), 200, True)
    assert (plain["0.W"] != actual["0.W"]).any()


def test_a_rate_set_by_a_callback_holds(ops: Ops) -> None:
    class Lower(Callback):
        def on_epoch_begin(self, trainer: fcnn.Trainer, epoch: int) -> None:
            if epoch == 2:
                trainer.optimizer.set_learning_rate(0.0)

    class Keep(Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            weights.append(trainer.model.ops.to_numpy(trainer.model.flat.values).copy())

    weights: list[HostArray] = []
    X, y = data(200)
    fcnn.Trainer(network(ops), optimizer=fcnn.SGD(0.1)).fit(
        X, y, epochs=3, batch_size=16, progress=False, callbacks=[Lower(), Keep()]
    )
    np.testing.assert_array_equal(weights[1], weights[0])
    np.testing.assert_array_equal(weights[2], weights[0])


def test_divergence_stops_a_graph_at_the_same_step(device_ops: Ops) -> None:
    messages = []
    for capture in (True, False):
        with pytest.raises(fcnn.DivergenceError) as caught:
            run(device_ops, fcnn.SGD(1e18), 200, capture)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


# capture itself


def test_calls_count_once_each(ops: Ops) -> None:
    counter = ops.asarray(np.array([0]))
    replay = ops.capture(lambda: ops.advance(counter, 2))
    for _ in range(5):
        replay()
    assert ops.to_numpy(counter).tolist() == [10]


def test_a_capture_within_a_capture_is_part_of_it(device_ops: Ops) -> None:
    counter = device_ops.zeros(1, np.int64)
    inner = device_ops.capture(lambda: device_ops.advance(counter, 1))

    def three() -> None:
        for _ in range(3):
            inner()

    outer = device_ops.capture(three)
    for _ in range(4):
        outer()
    inner()
    inner()
    assert device_ops.to_numpy(counter).tolist() == [14]


def test_a_graph_outlives_the_scratch_that_it_was_recorded_with(device_ops: Ops) -> None:
    """Another network's larger scratch takes the tag: the graph's own must not be freed under it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 300)).astype(np.float32)
    small, out = device_ops.asarray(X.T).T, device_ops.zeros((3, 1), np.float32)
    replay = device_ops.capture(lambda: device_ops.row_sum(small, out))
    replay()
    replay()
    large = device_ops.matrix(200, 4096, np.float32)
    device_ops.fill(large, 1.0)
    device_ops.row_sum(large, device_ops.zeros((200, 1), np.float32))
    device_ops.fill(device_ops.empty(200 * 64, np.float32), np.nan)  # would get the freed memory
    device_ops.fill(out, 0.0)
    replay()
    np.testing.assert_allclose(device_ops.to_numpy(out)[:, 0], X.sum(1), rtol=1e-4, atol=1e-4)


def test_another_thread_warms_up_for_itself(device_ops: Ops) -> None:
    X = device_ops.matrix(40, 4096, np.float32)
    device_ops.fill(X, 1.0)
    out = device_ops.zeros((40, 1), np.float32)
    replay = device_ops.capture(lambda: device_ops.row_sum(X, out))
    replay()

    def three_times() -> None:
        for _ in range(3):
            replay()

    in_a_thread(three_times)
    assert (device_ops.to_numpy(out) == 4096).all()


def in_a_thread(work: Callable[[], None]) -> int:
    """Do `work` in a thread of its own, whose number the system may give to the next one; that number."""
    faults: list[BaseException] = []

    def call() -> None:
        try:
            work()
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=call)
    thread.start()
    number = thread.ident
    thread.join()
    if faults:
        raise faults[0]
    assert number is not None
    return number


def test_a_thread_that_gets_the_number_of_one_before_it_warms_up_for_itself(device_ops: Ops) -> None:
    X, out = device_ops.matrix(40, 4096, np.float32), device_ops.zeros((40, 1), np.float32)
    device_ops.fill(X, 1.0)
    replay = device_ops.capture(lambda: device_ops.row_sum(X, out))
    numbers = [in_a_thread(replay) for _ in range(4)]  # scratch is each thread's own: recording would have to make it
    assert len(set(numbers)) < 4
    assert (device_ops.to_numpy(out) == 4096).all()


def test_an_allocation_while_recording_is_refused(device_ops: Ops) -> None:
    calls: list[Any] = []

    def allocates() -> None:
        calls.append(device_ops.zeros(1000 + len(calls), np.float32))

    replay = device_ops.capture(allocates)
    replay()
    with pytest.raises((RuntimeError, CaptureFault), match=r"recorded"):
        replay()
    device_ops.synchronize()  # the device is as good as before
    device_ops.zeros(10, np.float32)


def test_an_error_while_recording_leaves_the_device_usable(device_ops: Ops) -> None:
    counter = device_ops.zeros(1, np.int64)
    calls: list[int] = []

    def fails() -> None:
        device_ops.advance(counter, 1)
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError

    replay = device_ops.capture(fails)
    replay()
    with pytest.raises(ZeroDivisionError):
        replay()
    replay()
    replay()
    assert device_ops.to_numpy(counter).tolist() == [3]


@pytest.mark.parametrize(
    "what", ["to_numpy", "asarray", "synchronize", "copy", "matrix"], ids=lambda name: f"ops.{name}"
)
def test_the_emulation_refuses_what_a_capture_cannot_hold(what: str) -> None:
    ops = emulated_ops()
    x = ops.zeros(3, np.float32)
    arguments: dict[str, Any] = {
        "to_numpy": (x,),
        "asarray": ([1.0],),
        "synchronize": (),
        "copy": (x,),
        "matrix": (2, 2, np.float32),
    }
    replay = ops.capture(lambda: getattr(ops, what)(*arguments[what]))
    replay()
    with pytest.raises(CaptureFault):
        replay()
