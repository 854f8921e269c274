"""What the software driver promises, case by case; run as a module it runs the cases of one setting.

Each case is a function of a driver of its own: a process that has not loaded it yet forks one child for each.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.software_cuda import calls
from tests.software_cuda.calls import DEVICE_TO_DEVICE, DEVICE_TO_HOST, HOST_TO_DEVICE, Cuda, status_of

Case = Callable[[Cuda], None]

CASES: dict[str, dict[str, Case]] = {}
"""The cases by their settings, as `name=value` joined with spaces."""


def case(settings: str) -> Callable[[Case], Case]:
    def registered(function: Case) -> Case:
        CASES.setdefault(settings, {})[function.__name__] = function
        return function

    return registered


late = case("execution=late devices=2 memory_mib=64")
eager = case("execution=eager")
random = case("execution=random seed=7")


# ---- when work is done ---------------------------------------------------------------------------------------------


@late
def page_locked_memory_is_read_when_somebody_waits(cuda: Cuda) -> None:
    stream, source, target = cuda.stream(), cuda.page_locked(value=1), cuda.device()
    cuda.copy(target, source, HOST_TO_DEVICE, stream)
    source.write(2)  # too early: nobody has waited
    cuda.synchronize(stream)
    assert target.holds(2)


@late
def pageable_memory_is_read_at_the_call(cuda: Cuda) -> None:
    stream, source, target = cuda.stream(), cuda.pageable(value=1), cuda.device()
    cuda.copy(target, source, HOST_TO_DEVICE, stream)
    source.write(2)
    assert not target.holds(1)
    cuda.synchronize(stream)
    assert target.holds(1)


@late
def a_copy_to_the_host_has_ended_if_the_memory_is_pageable(cuda: Cuda) -> None:
    stream, device = cuda.stream(), cuda.device()
    cuda.fill(device, 5, stream)
    pageable, page_locked = cuda.pageable(), cuda.page_locked()
    cuda.copy(page_locked, device, DEVICE_TO_HOST, stream)
    assert page_locked.holds(0)
    cuda.copy(pageable, device, DEVICE_TO_HOST, stream)
    assert pageable.holds(5)
    assert page_locked.holds(5)  # it came before on the same stream


@late
def a_wait_of_a_stream_is_no_wait_of_the_host(cuda: Cuda) -> None:
    copies, compute = cuda.stream(), cuda.stream()
    source, target, result = cuda.page_locked(value=1), cuda.device(), cuda.device()
    cuda.copy(target, source, HOST_TO_DEVICE, copies)
    event = cuda.recorded(copies)
    cuda.waits(compute, event)
    cuda.copy(result, target, DEVICE_TO_DEVICE, compute)
    source.write(2)  # the copy is still to come
    cuda.synchronize(compute)
    assert result.holds(2)


@late
def who_waits_for_an_event_waits_for_nothing_behind_it(cuda: Cuda) -> None:
    stream, first, second = cuda.stream(), cuda.device(), cuda.device()
    cuda.fill(first, 1, stream)
    event = cuda.recorded(stream)
    cuda.fill(second, 1, stream)
    cuda.call("cudaEventSynchronize", event)
    assert first.holds(1)
    assert second.holds(0xFF)


@late
def an_event_means_the_moment_at_which_it_was_recorded_last(cuda: Cuda) -> None:
    one, two, target, result = cuda.stream(), cuda.stream(), cuda.device(), cuda.device()
    event = cuda.recorded(one)
    cuda.waits(two, event)  # of the first moment
    cuda.fill(target, 1, one)
    cuda.recorded(one, event)
    cuda.copy(result, target, DEVICE_TO_DEVICE, two)
    cuda.synchronize(two)
    assert result.holds(0xFF)


@late
def an_event_that_was_never_recorded_is_waited_for_by_nobody(cuda: Cuda) -> None:
    event = cuda.made("cudaEventCreateWithFlags", 0)
    stream = cuda.stream()
    cuda.waits(stream, event)
    cuda.call("cudaEventSynchronize", event)
    cuda.synchronize(stream)


@late
def a_query_says_not_ready_until_all_is_done(cuda: Cuda) -> None:
    stream = cuda.stream()
    cuda.fill(cuda.device(), 1, stream)
    cuda.fill(cuda.device(), 1, stream)
    assert [status_of(cuda.call, "cudaStreamQuery", stream) for _ in range(3)] == [calls.NOT_READY, calls.NOT_READY, 0]


@late
def times_between_events_are_known_once_both_have_passed(cuda: Cuda) -> None:
    stream = cuda.stream()
    start = cuda.recorded(stream)
    cuda.fill(cuda.device(2**20), 1, stream)
    end = cuda.recorded(stream)
    assert status_of(cuda.elapsed, start, end) == calls.NOT_READY
    cuda.synchronize(stream)
    assert cuda.elapsed(start, end) >= 0
    untimed = cuda.made("cudaEventCreateWithFlags", 2)
    cuda.recorded(stream, untimed)
    cuda.synchronize(stream)
    assert status_of(cuda.elapsed, start, untimed) == calls.INVALID_HANDLE


@late
def freeing_waits_for_what_is_queued(cuda: Cuda) -> None:
    stream, source, target = cuda.stream(), cuda.page_locked(value=3), cuda.device()
    cuda.copy(target, source, HOST_TO_DEVICE, stream)
    cuda.release(source, "cudaFreeHost")
    assert target.holds(3)


@late
def the_work_of_a_destroyed_stream_goes_on(cuda: Cuda) -> None:
    stream, target = cuda.stream(), cuda.device()
    cuda.fill(target, 4, stream)
    cuda.call("cudaStreamDestroy", stream)
    assert status_of(cuda.fill, target, 5, stream) == calls.INVALID_HANDLE
    assert status_of(cuda.synchronize, stream) == calls.INVALID_HANDLE
    cuda.call("cudaDeviceSynchronize")
    assert target.holds(4)


@eager
def eager_work_is_done_at_the_call(cuda: Cuda) -> None:
    target = cuda.device()
    cuda.fill(target, 4, cuda.stream())
    assert target.holds(4)


@random
def unordered_streams_come_in_both_orders(cuda: Cuda) -> None:
    one, two, target = cuda.stream(), cuda.stream(), cuda.device(8)
    seen = set()
    for _ in range(200):
        cuda.fill(target, 1, one)
        cuda.fill(target, 2, two)
        cuda.call("cudaDeviceSynchronize")
        seen.add(target.bytes()[0])
    assert seen == {1, 2}


@random
def ordered_streams_keep_their_order(cuda: Cuda) -> None:
    one, two, target = cuda.stream(), cuda.stream(), cuda.device(8)
    for _ in range(200):
        cuda.fill(target, 1, one)
        cuda.waits(two, cuda.recorded(one))
        cuda.fill(target, 2, two)
        cuda.synchronize(two)
        assert target.holds(2)


# ---- the default stream --------------------------------------------------------------------------------------------


@late
def the_default_stream_waits_for_blocking_streams(cuda: Cuda) -> None:
    target, result = cuda.device(), cuda.device()
    cuda.fill(target, 1, cuda.stream(0))
    cuda.copy(result, target, DEVICE_TO_DEVICE)
    cuda.synchronize()
    assert result.holds(1)


@late
def blocking_streams_wait_for_the_default_stream(cuda: Cuda) -> None:
    target, result, stream = cuda.device(), cuda.device(), cuda.stream(0)
    cuda.fill(target, 1)
    cuda.copy(result, target, DEVICE_TO_DEVICE, stream)
    cuda.synchronize(stream)
    assert result.holds(1)


@late
def non_blocking_streams_and_the_default_stream_do_not_wait_for_each_other(cuda: Cuda) -> None:
    target, result = cuda.device(), cuda.device()
    cuda.fill(target, 1, cuda.stream())
    cuda.copy(result, target, DEVICE_TO_DEVICE)
    cuda.synchronize()
    assert result.holds(0xFF)


# ---- host functions ------------------------------------------------------------------------------------------------


@late
def a_host_function_may_wait_for_another_thread_that_calls_the_driver(cuda: Cuda) -> None:
    stream, other, allocated = cuda.stream(), cuda.stream(), []

    def function() -> None:
        thread = threading.Thread(target=lambda: allocated.append(status_of(cuda.fill, cuda.device(), 1, other)))
        thread.start()
        thread.join(20)

    cuda.host_function(stream, function)
    cuda.synchronize(stream)
    assert allocated == [0]


@late
def a_host_function_may_not_call_the_driver(cuda: Cuda) -> None:
    stream, seen = cuda.stream(), []
    cuda.host_function(stream, lambda: seen.append(status_of(cuda.synchronize, stream)))
    cuda.synchronize(stream)
    assert seen == [calls.NOT_PERMITTED]


# ---- captures and graphs -------------------------------------------------------------------------------------------


@late
def a_graph_reads_what_lies_there_when_it_is_launched(cuda: Cuda) -> None:
    stream, source, target, result = cuda.stream(), cuda.device(), cuda.device(), cuda.pageable()
    cuda.begin(stream)
    cuda.copy(target, source, DEVICE_TO_DEVICE, stream)
    graph = cuda.end(stream)
    for value in (1, 2):
        cuda.fill(source, value, stream)
        cuda.call("cudaGraphLaunch", graph, stream)
        cuda.copy(result, target, DEVICE_TO_HOST, stream)
        assert result.holds(value)


@late
def capturing_does_nothing(cuda: Cuda) -> None:
    stream, target = cuda.stream(), cuda.device()
    cuda.begin(stream)
    cuda.fill(target, 1, stream)
    cuda.end(stream)
    cuda.call("cudaDeviceSynchronize")
    assert target.holds(0xFF)


def _forked(cuda: Cuda, joined: bool) -> int:
    main, branch, a, b = cuda.stream(), cuda.stream(), cuda.device(), cuda.device()
    cuda.begin(main)
    cuda.fill(a, 1, main)
    cuda.waits(branch, cuda.recorded(main))
    cuda.copy(b, a, DEVICE_TO_DEVICE, branch)
    if joined:
        cuda.waits(main, cuda.recorded(branch))
        cuda.fill(a, 2, main)
    status = 0
    try:
        graph = cuda.end(main)
    except calls.CudaError as error:
        status = error.status
    else:
        cuda.call("cudaGraphLaunch", graph, main)
        cuda.synchronize(main)
        assert b.holds(1)
        assert a.holds(2)
    return status


@late
def a_branch_that_is_joined_keeps_its_order(cuda: Cuda) -> None:
    assert _forked(cuda, joined=True) == 0


@random
def a_branch_that_is_joined_keeps_its_order_at_random(cuda: Cuda) -> None:
    for _ in range(30):
        assert _forked(cuda, joined=True) == 0


@late
def a_branch_that_is_not_joined_is_refused(cuda: Cuda) -> None:
    assert _forked(cuda, joined=False) == calls.UNJOINED


@random
def branches_of_a_graph_come_in_both_orders(cuda: Cuda) -> None:
    main, branch, target = cuda.stream(), cuda.stream(), cuda.device(8)
    cuda.begin(main)
    cuda.waits(branch, cuda.recorded(main))
    cuda.fill(target, 1, main)
    cuda.fill(target, 2, branch)
    cuda.waits(main, cuda.recorded(branch))
    graph = cuda.end(main)
    seen = set()
    for _ in range(100):
        cuda.call("cudaGraphLaunch", graph, main)
        cuda.synchronize(main)
        seen.add(target.bytes()[0])
    assert seen == {1, 2}


@late
def waiting_breaks_off_a_capture(cuda: Cuda) -> None:
    target = cuda.device()
    for wait in ("cudaStreamSynchronize", "cudaStreamQuery", "cudaDeviceSynchronize"):
        stream = cuda.stream()
        cuda.begin(stream)
        assert status_of(cuda.call, wait, stream) == calls.UNSUPPORTED
        assert status_of(cuda.fill, target, 1, stream) == calls.INVALIDATED
        assert status_of(cuda.end, stream) == calls.INVALIDATED


@late
def the_default_stream_would_wait_for_a_blocking_stream_that_is_captured(cuda: Cuda) -> None:
    stream = cuda.stream(0)
    cuda.begin(stream)
    assert status_of(cuda.copy, cuda.device(), cuda.page_locked(), HOST_TO_DEVICE) == calls.IMPLICIT
    assert status_of(cuda.end, stream) == calls.INVALIDATED


@late
def an_event_of_a_capture_says_nothing_outside_of_it(cuda: Cuda) -> None:
    stream = cuda.stream()
    cuda.begin(stream)
    event = cuda.recorded(stream)
    assert status_of(cuda.call, "cudaEventSynchronize", event) == calls.CAPTURED_EVENT
    assert status_of(cuda.end, stream) == calls.INVALIDATED


@late
def nor_when_the_capture_has_ended(cuda: Cuda) -> None:
    stream, other = cuda.stream(), cuda.stream()
    cuda.begin(stream)
    event = cuda.recorded(stream)
    cuda.fill(cuda.device(), 1, stream)
    cuda.end(stream)
    for ask in ("cudaEventSynchronize", "cudaEventQuery"):
        assert status_of(cuda.call, ask, event) == calls.CAPTURED_EVENT
    assert status_of(cuda.waits, other, event) == calls.CAPTURED_EVENT
    cuda.call("cudaEventRecord", event, other)
    cuda.call("cudaEventSynchronize", event)


@late
def a_capture_may_not_wait_for_what_lies_outside(cuda: Cuda) -> None:
    stream, other = cuda.stream(), cuda.stream()
    cuda.fill(cuda.device(), 1, other)
    event = cuda.recorded(other)
    cuda.begin(stream)
    assert status_of(cuda.waits, stream, event) == calls.ISOLATION


@late
def two_captures_may_not_be_merged(cuda: Cuda) -> None:
    one, two = cuda.stream(), cuda.stream()
    cuda.begin(one)
    cuda.begin(two)
    assert status_of(cuda.waits, two, cuda.recorded(one)) == calls.MERGE
    assert status_of(cuda.end, one) == calls.INVALIDATED


@late
def a_capture_ends_on_the_stream_where_it_began(cuda: Cuda) -> None:
    one, two = cuda.stream(), cuda.stream()
    cuda.begin(one)
    cuda.waits(two, cuda.recorded(one))
    cuda.fill(cuda.device(), 1, two)
    assert status_of(cuda.end, two) == calls.UNMATCHED
    assert status_of(cuda.end, cuda.stream()) == calls.ILLEGAL_STATE


@late
def a_capture_of_a_thread_does_not_end_in_another(cuda: Cuda) -> None:
    stream, seen = cuda.stream(), []
    cuda.begin(stream, calls.THREAD_LOCAL)
    thread = threading.Thread(target=lambda: seen.append(status_of(cuda.end, stream)))
    thread.start()
    thread.join()
    assert seen == [calls.WRONG_THREAD]


@late
def the_default_stream_cannot_be_captured(cuda: Cuda) -> None:
    assert status_of(cuda.begin, None) == calls.UNSUPPORTED


@late
def what_a_capture_forbids_depends_on_its_mode_and_thread(cuda: Cuda) -> None:
    for mode, here, elsewhere in (
        (calls.GLOBAL, calls.UNSUPPORTED, calls.UNSUPPORTED),
        (calls.THREAD_LOCAL, calls.UNSUPPORTED, 0),
        (calls.RELAXED, 0, 0),
    ):
        for expected, in_thread in ((here, False), (elsewhere, True)):
            stream = cuda.stream()
            cuda.begin(stream, mode)
            with ThreadPoolExecutor(1) as other:
                seen = other.submit(status_of, cuda.device).result() if in_thread else status_of(cuda.device)
            assert seen == expected, (mode, in_thread)
            assert status_of(cuda.end, stream) == (calls.INVALIDATED if expected else 0)


@late
def one_graph_is_never_launched_twice_at_a_time(cuda: Cuda) -> None:
    one, two, a, b = cuda.stream(), cuda.stream(), cuda.device(8), cuda.device(8)
    cuda.begin(one)
    cuda.copy(b, a, DEVICE_TO_DEVICE, one)
    graph = cuda.end(one)
    cuda.fill(a, 1, one)
    cuda.call("cudaGraphLaunch", graph, one)
    cuda.call("cudaGraphLaunch", graph, two)  # comes after the launch on the other stream
    cuda.synchronize(two)
    assert b.holds(1)


# ---- memory and its guards -----------------------------------------------------------------------------------------


@late
def fresh_memory_is_nobodys_zero(cuda: Cuda) -> None:
    assert cuda.device(1000).holds(0xFF)


@late
def memory_is_limited(cuda: Cuda) -> None:
    kept = cuda.device(40 << 20)
    assert status_of(cuda.device, 40 << 20) == calls.OUT_OF_MEMORY
    cuda.release(kept)
    cuda.device(40 << 20)


@late
def copies_beyond_an_allocation_are_refused(cuda: Cuda) -> None:
    target, source = cuda.device(1024), cuda.pageable(8192)
    target.n_bytes = 8192
    assert status_of(cuda.copy, target, source, HOST_TO_DEVICE) == calls.INVALID_VALUE
    assert status_of(cuda.fill, target, 0) == calls.INVALID_VALUE


@late
def copies_in_the_wrong_direction_are_refused(cuda: Cuda) -> None:
    assert status_of(cuda.copy, cuda.device(), cuda.pageable(), DEVICE_TO_HOST) == calls.INVALID_VALUE
    assert status_of(cuda.copy, cuda.device(), cuda.pageable(), 9) == 21  # cudaErrorInvalidMemcpyDirection


@late
def memory_is_freed_once_and_by_its_own_function(cuda: Cuda) -> None:
    device, host = cuda.device(), cuda.page_locked()
    assert status_of(cuda.release, device, "cudaFreeHost") == calls.INVALID_VALUE
    assert status_of(cuda.release, host) == calls.INVALID_VALUE
    cuda.release(device)
    assert status_of(cuda.release, device) == calls.INVALID_VALUE


STORE = 'extern "C" __global__ void store(int n, int* out) { if (threadIdx.x < n) out[threadIdx.x] = threadIdx.x; }'


@late
def a_kernel_runs_when_somebody_waits(cuda: Cuda) -> None:
    stream, target = cuda.stream(), cuda.device(32 * 4)
    cuda.launch(cuda.kernel(STORE, "store"), target, 32, stream=stream)
    assert target.holds(0xFF)
    cuda.synchronize(stream)
    assert target.bytes() == b"".join(i.to_bytes(4, sys.byteorder) for i in range(32))


@late
def a_kernel_that_leaves_its_memory_stops_the_device(cuda: Cuda) -> None:
    kernel, target = cuda.kernel(STORE, "store"), cuda.device(512)
    cuda.launch(kernel, target, 1024, threads=1024)  # 4096 bytes into 512
    assert status_of(cuda.synchronize) == calls.ILLEGAL_ADDRESS
    assert "store: thread" in cuda.fault
    for later in (cuda.device, cuda.stream, cuda.synchronize):
        assert status_of(later) == calls.ILLEGAL_ADDRESS


@late
def a_kernel_that_reads_what_was_freed_stops_the_device(cuda: Cuda) -> None:
    kernel, target = cuda.kernel(STORE, "store"), cuda.device(4096)
    cuda.release(target)
    assert status_of(cuda.launch, kernel, target, 32) == calls.ILLEGAL_ADDRESS
    assert "lies in no memory of a device" in cuda.fault


@late
def a_kernel_cannot_use_memory_of_another_device(cuda: Cuda) -> None:
    kernel, target = cuda.kernel(STORE, "store"), cuda.device(4096)
    cuda.call("cudaSetDevice", 1)
    assert status_of(cuda.launch, kernel, target, 32) == calls.ILLEGAL_ADDRESS
    assert "lies on device 0, the kernel runs on device 1" in cuda.fault


@late
def a_stream_belongs_to_its_device(cuda: Cuda) -> None:
    stream, kernel = cuda.stream(), cuda.kernel(STORE, "store")
    cuda.call("cudaSetDevice", 1)
    assert status_of(cuda.launch, kernel, cuda.device(4096), 32, stream=stream) == calls.INVALID_HANDLE


@late
def nothing_is_loaded_while_a_graph_is_captured(cuda: Cuda) -> None:
    stream = cuda.stream()
    cuda.begin(stream)
    assert status_of(cuda.kernel, STORE, "store") == calls.UNSUPPORTED


@late
def a_trap_stops_the_device(cuda: Cuda) -> None:
    source = 'extern "C" __global__ void stop(int n, int* out) { if (n) __trap(); }'
    cuda.launch(cuda.kernel(source, "stop"), cuda.device(), 1)
    assert status_of(cuda.synchronize) == calls.LAUNCH_FAILURE


@late
def a_forked_child_has_no_device(cuda: Cuda) -> None:
    cuda.device()
    child = os.fork()
    if not child:
        os._exit(status_of(cuda.device))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == calls.NOT_INITIALIZED


# ---- devices that are not there ------------------------------------------------------------------------------------


@late
def there_is_no_third_device_of_two(cuda: Cuda) -> None:
    assert status_of(cuda.call, "cudaSetDevice", 2) == calls.INVALID_DEVICE


@case("devices=0")
def without_a_device_calls_say_so(cuda: Cuda) -> None:
    assert status_of(cuda.device) == calls.NO_DEVICE


@case("driver=0")
def without_a_driver_calls_say_so(cuda: Cuda) -> None:
    assert status_of(cuda.device) == calls.OLD_DRIVER


@case("driver=11080")
def with_an_old_driver_calls_say_so(cuda: Cuda) -> None:
    assert status_of(cuda.stream) == calls.OLD_DRIVER


def run(settings: str) -> dict[str, str]:
    """What went wrong in each case, "" for nothing."""
    faults = {}
    for name, function in CASES[settings].items():
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            text = io.StringIO()
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    function(Cuda())
            except BaseException:
                traceback.print_exc(file=text)
            os.write(writing, text.getvalue().encode()[-60_000:])
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            faults[name] = pipe.read().decode()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            faults[name] += f"ended with {status}"
    return faults


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1])))
