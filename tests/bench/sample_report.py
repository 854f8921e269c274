"""A report made by hand, with every kind of result in it, for the tests of tables, pictures and files."""

from __future__ import annotations

import dataclasses

from fcnn_gpu.bench.nets import Net
from fcnn_gpu.bench.results import (
    OURS,
    Absent,
    Agreement,
    Bound,
    CaseResult,
    Ceilings,
    Crossover,
    CrossoverPoint,
    EpochResult,
    Job,
    OperationResult,
    Report,
    Timing,
)

CPU, GPU = "CPU (NumPy 2.4.0)", "NVIDIA H100 (device 0, 80 GiB, CuPy 14.0.1)"
NORMALIZED = "784-512-512-10, batch norm, dropout 0.5"
ROUNDS = (0.98, 1.0, 1.01, 1.0, 1.04)
PEER_ROUNDS = (1.03, 1.0, 1.0, 0.97, 1.05)
"""What each round takes as a multiple of the median: not sorted, so that quartiles are not first and last."""


def timing(library: str, variant: str, median: float, cold: float) -> Timing:
    """Five rounds around a median in seconds."""
    rounds = ROUNDS if library == OURS else PEER_ROUNDS
    return Timing(library, variant, [median * factor for factor in rounds], cold)


def case(
    net: str = "784-128-10",
    batch: int = 32,
    job: Job = "train",
    ours: float = 1e-4,
    ratios: dict[tuple[str, str], float] | None = None,
    bound: Bound = "Python",
    products: float = 0.6,
    device: str = CPU,
) -> CaseResult:
    """`ratios`: how many times as long each peer takes. `products`: the share of the matrix products in our time."""
    peers = [("PyTorch", "foreach"), ("PyTorch", "fused"), ("JAX", "jit"), ("scikit-learn", "")]
    found = dict(zip(peers, (1.9, 1.4, 1.6, 5.0), strict=True)) if ratios is None else ratios
    return CaseResult(
        net=net,
        batch=batch,
        job=job,
        device=device,
        dtype="float32",
        n_parameters=Net.parse(net).n_parameters,
        flops=Net.parse(net).flops(batch, job),
        bytes=Net.parse(net).bytes(batch, job),
        timings=[
            timing(OURS, "", ours, 2.5e-3),
            *(timing(*label, ours * ratio, 0.35) for label, ratio in found.items()),
        ],
        agreements=[Agreement(*label, 2.3e-6 * (1 + i), 1e-4) for i, label in enumerate(found)],
        absent=[Absent("PyTorch", "compile", "compiling takes tens of seconds: add --compile")],
        bound=bound,
        bound_because=f"{ours * 1e6:.0f} µs, of which 34 calls × 1.1 µs = 37 µs outside the products",
        products_seconds=ours * products,
        hollow_seconds=8e-6 if job == "train" else 2e-6,
    )


def cases() -> list[CaseResult]:
    """The six standard cases, trained and at inference: ahead, level and behind."""
    labels = [("PyTorch", "foreach"), ("PyTorch", "fused"), ("JAX", "jit"), ("scikit-learn", "")]

    def ratios(*values: float) -> dict[tuple[str, str], float]:
        return dict(zip(labels, values, strict=False))

    return [
        case("64-64-64-10", 32, "train", 61e-6, ratios(4.6, 3.4, 1.62, 9.1), "Python", 0.11),
        case("784-128-10", 32, "train", 118e-6, ratios(3.1, 2.4, 1.38, 5.2), "memory", 0.31),
        case("784-128-10", 128, "train", 214e-6, ratios(2.2, 1.31, 1.5, 3.3), "memory", 0.55),
        case("784-512-512-10", 256, "train", 2.42e-3, ratios(1.3, 1.12, 1.4, 2.0), "arithmetic", 0.78),
        case("784-2048-2048-10", 512, "train", 41.3e-3, ratios(1.08, 1.004, 1.2, 1.6), "arithmetic", 0.93),
        case(NORMALIZED, 256, "train", 3.6e-3, ratios(1.33, 1.21, 1.02), "arithmetic", 0.52),
        case("64-64-64-10", 32, "infer", 9e-6, ratios(2.6, 2.7, 1.9, 14.0), "Python", 0.4),
        case("784-128-10", 32, "infer", 20e-6, ratios(1.8, 1.8, 1.2, 9.0), "Python", 0.5),
        case("784-128-10", 128, "infer", 61e-6, ratios(1.5, 1.5, 1.12, 5.0), "arithmetic", 0.7),
        case("784-512-512-10", 256, "infer", 760e-6, ratios(1.1, 1.1, 1.04, 2.3), "arithmetic", 0.86),
        case("784-2048-2048-10", 512, "infer", 13.6e-3, ratios(1.0, 1.0, 0.93, 1.5), "arithmetic", 0.97),
        case(NORMALIZED, 256, "infer", 790e-6, ratios(1.25, 1.24, 1.01), "arithmetic", 0.82),
    ]


def operation(
    name: str = "matrix product",
    shape: str = "512×784 · 784×256",
    flops: float = 2.06e8,
    n_bytes: float = 2.9e6,
    seconds: float = 1.7e-3,
    bound: Bound = "arithmetic",
    device: str = CPU,
    ratio: float | None = 1.1,
) -> OperationResult:
    """One operation; `ratio`: how many times as long PyTorch takes."""
    seconds_by_round = [seconds * factor for factor in ROUNDS]
    because = f"{seconds * 1e6:.0f} µs"
    peers = [] if ratio is None else [timing("PyTorch", "", seconds * ratio, 1e-3)]
    absent = [Absent("PyTorch", "", "has no such operation")] if ratio is None else []
    return OperationResult(
        name, shape, device, "float32", flops, n_bytes, seconds_by_round, 2e-3, bound, because, 3e-7, peers, absent
    )


def operations() -> list[OperationResult]:
    """Of every bound but launches, one without arithmetic and one that no peer has."""
    return [
        operation(),
        operation("matrix product", "2048×2048 · 2048×512", 4.29e9, 2.5e7, 36e-3, ratio=1.01),
        operation("bias + ReLU", "512×256", 2.6e5, 1.05e6, 31e-6, "Python", ratio=1.7),
        operation("bias + ReLU", "2048×512", 2.1e6, 8.4e6, 700e-6, "memory", ratio=0.8),
        operation("softmax cross-entropy", "10×256", 1.3e4, 2.3e4, 28e-6, "Python", ratio=2.1),
        operation("Adam", "670,218", 8.0e6, 1.88e7, 1.1e-3, "memory", ratio=1.24),
        operation("dropout", "512×256", 2.6e5, 1.05e6, 160e-6, "arithmetic", ratio=3.3),
        operation("batch norm", "512×256", 1.0e6, 1.05e6, 150e-6, "memory", ratio=1.02),
        operation("gather", "256 of 60000×784", 0.0, 1.6e6, 52e-6, "memory", ratio=None),
    ]


def epochs() -> list[EpochResult]:
    """The two epochs that have targets."""
    small = EpochResult(
        "784-128-10", 128, CPU, 60_000, [0.21, 0.2, 0.205], [0.17, 0.171, 0.17], [0.03, 0.028, 0.03], [0.04]
    )
    tiny = EpochResult(
        "64-64-64-10", 32, CPU, 60_000, [0.31, 0.32, 0.315], [0.2, 0.205, 0.201], [0.06, 0.06, 0.061], [0.05]
    )
    return [small, tiny]


def crossovers() -> list[Crossover]:
    """Along the batch size with a crossing, along the width with one too."""
    by_batch = [
        CrossoverPoint("784-512-512-10", 2**i, 512, 1.1e-4 + 9e-6 * 2**i, 2.6e-4 + 1.3e-7 * 2**i) for i in range(13)
    ]
    by_width = [
        CrossoverPoint(f"784-{w}-{w}-10", 128, w, 6e-5 + 2e-9 * w * w + 6e-7 * w, 2.4e-4 + 5e-11 * w * w)
        for w in (16, 32, 64, 128, 256, 512, 1024, 2048)
    ]
    return [
        Crossover("batch", "net 784-512-512-10", by_batch),
        Crossover("width", "net 784-n-n-10, batch 128", by_width),
    ]


COPY_RATES = [(2**14, 9.1e10), (2**18, 6.2e10), (2**22, 2.8e10), (2**28, 1.9e10)]
CEILINGS = Ceilings(CPU, "float32", 1.31e11, "2048 × 2048 × 2048", 1.9e10, 2**28, 3.2e-7, COPY_RATES)


def report() -> Report:
    """Everything at once."""
    return Report(
        created="2026-11-23T08:30:00+00:00",
        command="fcnn-gpu bench --threads 2",
        machine={
            "cpu": "Intel(R) Xeon(R) Processor @ 2.90GHz",
            "cores": 2,
            "memory_gib": 15.6,
            "caches": {"L1d": "48 KiB", "L2": "2 MiB", "L3": "105 MiB"},
            "instruction_sets": ["AVX2", "AVX512F", "AMX"],
            "blas": [{"library": "openblas", "version": "0.3.30", "kernels": "SkylakeX", "threads": 2}],
            "gpu": None,
        },
        versions={"fcnn_gpu": "0.1.0", "python": "3.12.3", "numpy": "2.4.0", "torch": "2.13.0", "jax": "0.10.2"},
        settings={
            "threads": 2,
            "rounds": 21,
            "seed": 0,
            "instructions": "native",
            "removed_from_environment": ["OPENBLAS_CORETYPE=Haswell"],
        },
        ceilings=[CEILINGS],
        cases=cases(),
        operations=operations(),
        epochs=epochs(),
        crossovers=crossovers(),
        notes=["whole nets are float32: mixed precision is not there yet", "not run on a GPU: no CUDA driver"],
    )


def on_two_backends(threads: int = 2, ours: float = 5e-5) -> CaseResult:
    """A case in which ours was timed on NumPy and, twice as fast, compiled."""
    slower = case()
    timings = [
        dataclasses.replace(slower.timings[0], variant="numpy"),
        timing(OURS, "cpu", ours, 2e-3),
        *slower.timings[1:],
    ]
    agreements = [Agreement(OURS, "cpu", 1e-7, 1e-4), *slower.agreements]
    return dataclasses.replace(slower, device="CPU (abacus)", timings=timings, agreements=agreements, threads=threads)


def on_gpu(result: CaseResult) -> CaseResult:
    """The same case on a GPU, transfers timed."""
    timings = [
        dataclasses.replace(timing, transfer_seconds=[2 * seconds for seconds in timing.seconds])
        for timing in result.timings
    ]
    return dataclasses.replace(result, device=GPU, timings=timings, bound="launches")
