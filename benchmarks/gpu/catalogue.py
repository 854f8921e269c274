"""The parts of the report, the most important first, and the groups of them that one call can make."""

from __future__ import annotations

from . import (
    compilation,
    contest,
    environment,
    fits,
    fused,
    graphs,
    kernels,
    large,
    products,
    sanitizer,
    suite,
    turning_points,
)
from .plan import Part

PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part(
            "environment",
            "Device and software",
            35.0,
            environment.measure,
        ),
        Part(
            "compilation",
            "Kernels compiled",
            50.0,
            compilation.measure,
            (
                "Every instance of every kernel for this device, by several processes, into CuPy's cache on the disk: "
                "where all of them are in it already, this takes a few seconds.",
            ),
        ),
        Part(
            "tests",
            "Tests on the GPU",
            310.0,
            suite.measure,
            (
                "pytest -m gpu, the kernels' tests first. Compiled kernels are in CuPy's cache from before. Warnings "
                "of other libraries do not count as failures here. A process whose device a test has lost (an illegal "
                "access stays for good) ends after it, and another goes on.",
            ),
        ),
        Part(
            "mnist",
            "Ten epochs of MNIST",
            45.0,
            fits.measure,
            (
                "Wall time of one call of Trainer.fit, from its beginning until the device is done, with the data on "
                "the device before: checks of the arguments, the drawing of the orders and the history are in it. The "
                "first call, which also loads kernels, tunes products and records graphs, stands by itself.",
            ),
        ),
        Part(
            "peers",
            "Against PyTorch and JAX",
            400.0,
            contest.measure,
            (
                "Every library and variant runs in a process of its own, all on the same device, one at a time and in "
                "turn, after its weights and outputs have been compared with ours after five steps. The data is on the "
                "device. A ratio is formed within each round, the peer's time over ours: above 1 we are faster. Times "
                "are wall times of many steps until the device is done. Libraries are built side by side: their first "
                "steps (cold) take longer than they would alone.",
            ),
        ),
        Part(
            "graphs",
            "Training steps as CUDA graphs",
            45.0,
            graphs.measure,
            (
                "The same training step queued call by call (eager) and as graphs of so many steps, in turn, from the "
                "same weights. step: wall time of one of many. host: the share of it that the host needed to queue it; "
                "where that is nearly 100 %, the host is the limit. device: between two events of the stream.",
            ),
        ),
        Part(
            "products",
            "Matrix products",
            55.0,
            products.measure,
            (
                "ceiling: the faster of two large square products in the same precision, in the same run, on random "
                "numbers. time: of one product, between two events of the stream around many of them in a CUDA graph "
                "(or, where it says loop, queued one by one). Operands of small products lie in the caches.",
            ),
        ),
        Part(
            "kernels",
            "Kernels",
            200.0,
            kernels.measure,
            (
                "time: of one call, between two events of the stream around many of them in a CUDA graph. GB/s: every "
                "input read once, every output written once. floor: the time that a copy of as many bytes takes at the "
                "measured rate, or that of the operation's launches, each as long as the smallest kernel in a graph, "
                "if that is more. share: floor over time. Small sizes fit the caches, and are held against the fastest "
                "copy of any size; large ones do not, and are held against the largest copy. regs, local: registers "
                "and bytes of local memory (spills) of a thread, the largest of the operation's kernels.",
            ),
        ),
        Part(
            "crossover",
            "CPU against GPU",
            40.0,
            turning_points.measure,
            ("Seconds of a training step of the NumPy backend and of this device, data in each one's memory.",),
        ),
        Part(
            "large",
            "Products larger than the device's memory",
            60.0,
            large.measure,
            (
                "fcnn.chunked_matmul of matrices that lie in pageable host memory, the result as well, within so many "
                "bytes of the device. time: wall time of a call, buffers and page-locked memory made anew in each. "
                "arithmetic, transfer: what each alone would take at its ceiling, measured in the same run: a large "
                "product on the device, and copies from and to page-locked memory. share: the longer of the two over "
                "the time.",
            ),
        ),
        Part(
            "fused",
            "Small networks in one kernel",
            30.0,
            fused.measure,
            (
                "The forward pass of a network whose layers have at most 128 units, hidden activations kept for the "
                "backward pass: all layers in one kernel, and one by one, each in the way that the autotuner found "
                "fastest. time: of one pass, between two events of the stream around many of them in a CUDA graph.",
            ),
        ),
    )
}
"""By name, in the order in which they run."""

GROUP_SECONDS = 540.0
"""What a group may take, looking at the device included: machines are lent for ten minutes at a time."""
GROUPS: dict[str, tuple[str, ...]] = {
    "training": ("environment", "compilation", "tests", "mnist", "graphs"),
    "contest": ("environment", "compilation", "peers"),
    "primitives": ("environment", "compilation", "products", "kernels", "crossover", "large", "fused"),
}
"""Each says what it ran on and compiles by itself: the next call may be on another machine."""

SANITIZER = Part(
    "sanitizer",
    "compute-sanitizer over the kernel tests",
    sanitizer.SECONDS,
    sanitizer.measure,
    (
        "memcheck finds accesses outside of an allocation, racecheck accesses of shared memory without a barrier "
        "between them. Every argument of a kernel has an allocation of its own length. Exit status 86: it found "
        "something.",
    ),
)
"""What `--sanitizer` runs instead of all others."""

ALL = PARTS | {SANITIZER.name: SANITIZER}


def chosen(names: list[str]) -> list[Part]:
    """The parts that names of parts and groups stand for, each once, in the order in which they run."""
    wanted = {part for name in names for part in GROUPS.get(name, (name,))}
    return [part for name, part in PARTS.items() if name in wanted]
