"""What compiled passes would gain over NumPy's: the same three passes as one loop each in C, on one thread and on all.

    python benchmarks/compiled_passes.py

The CPU backend is NumPy alone, so that it installs anywhere; this measures the price. It needs a C compiler (`cc`, or
the one in CC) that knows OpenMP. Each loop is compared with ours before it is timed, both take turns, and the times are
medians. The machine's other threads are let fall asleep before each turn (see README.md, "Why one can believe it").
"""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fcnn_gpu.backend import quiet_arithmetic
from fcnn_gpu.backend._ops import FlatParameters, Ops, Segment, StepControl
from fcnn_gpu.bench._quiet import wait_until_idle

SOURCE = r"""
#include <math.h>
#include <stddef.h>

void adam(ptrdiff_t n, float beta1, float beta2, float rate, float floor_, const float *g, float *m, float *v, float *p)
{
    #pragma omp parallel for simd schedule(static)
    for (ptrdiff_t i = 0; i < n; i++) {
        m[i] = beta1 * m[i] + g[i];
        v[i] = beta2 * v[i] + g[i] * g[i];
        p[i] -= rate * m[i] / (sqrtf(v[i]) + floor_);
    }
}

void bias_relu(ptrdiff_t batch, ptrdiff_t n, const float *b, float *z)
{
    #pragma omp parallel for schedule(static)
    for (ptrdiff_t j = 0; j < batch; j++)
        for (ptrdiff_t i = 0; i < n; i++) {
            float t = z[j * n + i] + b[i];
            z[j * n + i] = t > 0 ? t : 0;
        }
}

void relu_backward(ptrdiff_t batch, ptrdiff_t n, const float *a, float *d)
{
    #pragma omp parallel for schedule(static)
    for (ptrdiff_t j = 0; j < batch; j++)
        for (ptrdiff_t i = 0; i < n; i++)
            d[j * n + i] = a[j * n + i] > 0 ? d[j * n + i] : 0;
}
"""
FLAGS = ["-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC"]
ROUNDS, ROUND_SECONDS = 15, 0.05
NETS = {"64-64-64-10, 32": ((64, 64, 64, 10), 32), "784-128-10, 32": ((784, 128, 10), 32)}
NETS |= {"784-128-10, 128": ((784, 128, 10), 128), "784-512-512-10, 256": ((784, 512, 512, 10), 256)}
NETS |= {"784-2048-2048-10, 512": ((784, 2048, 2048, 10), 512)}

Call = Callable[[], None]


def compiled(folder: Path) -> ctypes.CDLL:
    """The loops as a library. CalledProcessError shows what the compiler says."""
    source, library = folder / "passes.c", folder / "passes.so"
    source.write_text(SOURCE, encoding="utf-8")
    subprocess.run([os.environ.get("CC", "cc"), *FLAGS, str(source), "-o", str(library), "-lm"], check=True)
    return ctypes.CDLL(str(library))


def loop(function: Callable[..., Any], sizes: tuple[Any, ...], arrays: list[np.ndarray]) -> Call:
    """A call of a compiled loop, which keeps its arrays alive."""
    pointers = [ctypes.c_void_p(x.ctypes.data) for x in arrays]

    def call() -> None:
        assert arrays
        function(*sizes, *pointers)

    return call


def adam_pair(library: ctypes.CDLL, n: int) -> tuple[Call, Call, np.ndarray, np.ndarray]:
    """(ours, compiled, our parameters, the compiled loop's) for n parameters; both begin alike."""
    ops, rng = Ops(), np.random.default_rng(0)
    theta, g = (rng.normal(size=n).astype(np.float32) for _ in range(2))
    ours = [ops.zeros(n, np.float32) for _ in range(4)]  # θ, g, m, v
    ours[0][...], ours[1][...] = theta, g
    control = StepControl(np.zeros(1, np.int64), np.full(1, 1e-3), np.ones(1), np.full(1, -1))
    flat = FlatParameters(ours[0], ours[1], (Segment(0, n),))

    step = ops.capture(lambda: ops.adam_update(flat, control, 0.9, 0.999, 1e-8, 0.0, ours[2], ours[3]))
    theirs = [x.copy() for x in ours]
    c = np.sqrt((1 - 0.999) / (1 - 0.999))
    numbers = [ctypes.c_float(x) for x in (0.9, 0.999, 1e-3 * (1 - 0.9) / ((1 - 0.9) * c), 1e-8 / c)]
    sizes = ctypes.c_ssize_t(n), *numbers
    return step, loop(library.adam, sizes, [theirs[k] for k in (1, 2, 3, 0)]), ours[0], theirs[0]


def activation_pair(library: ctypes.CDLL, name: str, n: int, batch: int) -> tuple[Call, Call, np.ndarray, np.ndarray]:
    """The same for bias and ReLU, or for ReLU's gradient, on n units."""
    ops, rng = Ops(), np.random.default_rng(0)
    ours, other = ops.matrix(n, batch, np.float32), ops.matrix(n, batch, np.float32)
    ours[...], other[...] = rng.normal(size=(n, batch)), np.maximum(rng.normal(size=(n, batch)), 0)
    theirs, b = ours.copy(order="K"), rng.normal(size=(n, 1)).astype(np.float32) * 0.1
    sizes = ctypes.c_ssize_t(batch), ctypes.c_ssize_t(n)
    if name == "bias_relu":
        step = ops.capture(lambda: ops.bias_activation(ours, b, "relu", 0.0, ours))
        return step, loop(library.bias_relu, sizes, [b, theirs]), ours, theirs
    step = ops.capture(lambda: ops.activation_backward(ours, other, "relu", 0.0, ours))
    return step, loop(library.relu_backward, sizes, [other, theirs]), ours, theirs


def seconds_of(call: Call, repeats: int) -> float:
    wait_until_idle()
    call()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def compare(pair: tuple[Call, Call, np.ndarray, np.ndarray], set_threads: Callable[[int], None]) -> list[float]:
    """Median seconds of ours, of the loop on one thread, and on all, after both gave the same."""
    ours, theirs, mine, its = pair
    ours()
    theirs()
    np.testing.assert_allclose(its, mine, rtol=1e-5, atol=1e-7)
    repeats = max(1, int(ROUND_SECONDS / max(seconds_of(ours, 3), 1e-7)))
    times: list[list[float]] = [[], [], []]
    for _ in range(ROUNDS):
        times[0].append(seconds_of(ours, repeats))
        for k, threads in ((1, 1), (2, len(os.sched_getaffinity(0)))):
            set_threads(threads)
            times[k].append(seconds_of(theirs, repeats))
    return [statistics.median(x) for x in times]


def main() -> None:
    threads = len(os.sched_getaffinity(0))
    print(f"microseconds; NumPy {np.__version__}; C on 1 thread; C on {threads}")
    print(f"{'net, batch':24s}{'pass':16s}{'NumPy':>10s}{'C, 1':>10s}{f'C, {threads}':>10s}")
    with tempfile.TemporaryDirectory() as folder, quiet_arithmetic():
        library = compiled(Path(folder))
        openmp = ctypes.CDLL("libgomp.so.1")
        for net, (widths, batch) in NETS.items():
            n = sum((i + 1) * o for i, o in pairwise(widths))
            rows = {"adam": compare(adam_pair(library, n), openmp.omp_set_num_threads)}
            for name in ("bias_relu", "relu_backward"):  # the hidden layers of each net are of one width
                one = compare(activation_pair(library, name, widths[1], batch), openmp.omp_set_num_threads)
                rows[name] = [(len(widths) - 2) * seconds for seconds in one]
            rows["all three"] = [sum(column) for column in zip(*rows.values(), strict=True)]
            for name, times in rows.items():
                print(f"{net:24s}{name:16s}" + "".join(f"{1e6 * t:10.1f}" for t in times), flush=True)


if __name__ == "__main__":
    main()
