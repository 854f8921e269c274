"""kernels/cpu/threads.c: any number of threads leaves the same bits, whoever else runs, forks, stops or fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend._compiled._build import compiler

from ..conftest import compiled_ops
from .programs import Steps

ROOT = Path(__file__).parents[2]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")


@pytest.fixture(autouse=True)
def _compiled() -> None:
    compiled_ops()


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return out


@pytest.mark.parametrize("n_parts", [2, 3, 8, 256])
def test_thousands_of_short_phases(n_parts: int) -> None:
    steps = Steps(n_parts)
    expected = steps.run(3000, 1)
    for n_threads in (2, 3, 8):
        assert steps.run(3000, n_threads) == expected


def test_several_python_threads_at_once() -> None:
    """One of them has the helpers at a time, the others compute alone."""
    expected = Steps(4).run(300, 1)
    barrier = threading.Barrier(4)

    def work(n_threads: int) -> list[bytes]:
        steps = Steps(4)
        barrier.wait()
        return [steps.run(300, n_threads) for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(work, [1, 2, 3, 5]):
            assert set(results) == {expected}


def test_several_python_threads_predict_with_one_model() -> None:
    model = fcnn.Sequential([fcnn.Dense(64, activation="relu"), fcnn.Dense(5)], 20, seed=0, backend=compiled_ops())
    X = np.random.default_rng(0).normal(size=(500, 20)).astype(np.float32)
    expected = model.predict(X, batch_size=32)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: [model.predict(X, batch_size=32) for _ in range(20)], range(4)):
            assert all((one == expected).all() for one in result)


FORKS = """
import os, threading
from tests.cpu_kernels.programs import Steps, helpers

steps = Steps(4)
expected = steps.run(100, 1)
assert steps.run(100, 4) == expected
helpers(3)
ended = threading.Event()
results = set()

def work():
    other = Steps(4)
    while not ended.is_set():
        results.add(other.run(100, 4))

thread = threading.Thread(target=work)
thread.start()
for _ in range(30):
    child = os.fork()
    if child == 0:
        helpers(0)
        if steps.run(100, 4) == expected and helpers(3):
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
ended.set()
thread.join()
assert results == {expected}
"""


@on_linux
def test_a_forks_child_has_helpers_of_its_own() -> None:
    """Also one that is forked while another thread runs a program with the helpers."""
    finish(python(FORKS))


WORKERS = """
import multiprocessing
import joblib
import numpy as np
import fcnn_gpu as fcnn

def weights(seed):
    fcnn.set_threads(2)
    model = fcnn.Sequential([fcnn.Dense(64, activation="relu"), fcnn.Dense(3)], 20, seed=0, backend="cpu")
    X = np.random.default_rng(0).normal(size=(256, 20)).astype(np.float32)
    fcnn.Trainer(model).fit(X, np.arange(256) % 3, epochs=3, batch_size=64, progress=False)
    return b"".join(layer.W.tobytes() for layer in model.layers)

if __name__ == "__main__":
    expected = weights(0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert set(pool.map(weights, range(4))) == {expected}
    assert set(joblib.Parallel(2)(joblib.delayed(weights)(i) for i in range(4))) == {expected}
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
def test_workers_train_after_their_parent_has(tmp_path: Path) -> None:
    (tmp_path / "workers.py").write_text(WORKERS, encoding="utf-8")
    finish(python(f"import runpy; runpy.run_path({str(tmp_path / 'workers.py')!r}, run_name='__main__')"))


ENDLESS = """
import sys, threading
from tests.cpu_kernels.programs import Steps

steps = Steps(2)
steps.run(1, 2)
print("running", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it sends SIGINT")
def test_ctrl_c_ends_a_program() -> None:
    process = python(ENDLESS + "steps.run(10**12, 2)")
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130), err
    assert "KeyboardInterrupt" in err


def test_a_process_ends_while_a_program_runs() -> None:
    code = "threading.Thread(target=steps.run, args=(10**12, 2), daemon=True).start()"
    assert finish(python(ENDLESS + code)) == "running\n"


SIGNALS = """
import signal
from tests.cpu_kernels.programs import Steps, helpers

Steps(3).run(10, 3)
for task in helpers(2):
    (blocked,) = (line.split()[1] for line in (task / "status").read_text().splitlines() if line.startswith("SigBlk"))
    print(bool(int(blocked, 16) >> signal.SIGINT - 1 & 1), bool(int(blocked, 16) >> signal.SIGSEGV - 1 & 1))
"""


@on_linux
def test_signals_but_faults_go_to_threads_that_know_python() -> None:
    assert finish(python(SIGNALS)) == "True False\n" * 2


WITHOUT_THREADS = """
import resource
from pathlib import Path
from tests.cpu_kernels.programs import Steps, helpers

steps = Steps(8)
expected = steps.run(100, 1)
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 2**22
_, most = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (limit, most))  # room for a helper's memory, and none for its stack
assert steps.run(100, 8) == expected
helpers(0)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
assert steps.run(100, 8) == expected
helpers(7)
"""


@on_linux
def test_the_system_gives_no_thread() -> None:
    finish(python(WITHOUT_THREADS))


FLUSHING = """
import ctypes, sys
import numpy as np
from tests.cpu_kernels.programs import Steps

control = ctypes.CDLL(sys.argv[1])
steps = Steps(8)
steps._start *= np.float32(2e-38)  # all steps compute with subnormal numbers
expected = steps.run(100, 1)
assert np.frombuffer(expected, np.float32).any()
control.set(0x9fc0)
found = [steps.run(100, n) for n in (1, 8)]
kept = control.get() & 0xffc0
control.set(0x1f80)
assert kept == 0x9fc0, "the thread's own setting stays"
assert set(found) == {expected}
"""


@pytest.mark.skipif(os.name == "nt", reason="the flags are those of POSIX systems")
def test_what_a_library_sets_of_rounding_changes_no_bit(tmp_path: Path) -> None:
    """Some, compiled with -ffast-math, flush subnormal numbers to 0 in the thread that loads them."""
    source, library = tmp_path / "control.c", tmp_path / "control.so"
    source.write_text(
        "#include <stdint.h>\n"
        "#ifdef __x86_64__\n"
        "void set(uint32_t x) { __builtin_ia32_ldmxcsr(x); }\n"
        "uint32_t get(void) { return __builtin_ia32_stmxcsr(); }\n"
        "#else\n"
        "#error another architecture\n"
        "#endif\n"
    )
    made = subprocess.run([*compiler(), "-shared", "-fPIC", str(source), "-o", str(library)], capture_output=True)
    if made.returncode:
        pytest.skip("this architecture has other settings")
    finish(python(FLUSHING, str(library)))
