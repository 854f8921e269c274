#include "queue.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>

#include "settings.hpp"

namespace software_cuda {
namespace {

constexpr size_t longest_queue = 4096;  // then it is worked off: queues take memory

std::mutex mutex;
std::condition_variable some_work_done;
thread_local std::unique_lock<std::mutex> held(mutex, std::defer_lock);
thread_local bool in_host_function = false;
thread_local int device_of_thread = 0;
thread_local int last_error = 0;

const pid_t owner = getpid();
std::atomic<int> sticky{0};  // the fault that the devices do not survive
std::string fault_text;

std::vector<CUstream_st*> default_streams;
std::set<CUstream_st*> streams;    // that users have made
std::set<CUstream_st*> destroyed;  // whose work goes on
std::set<CUevent_st*> events;
std::vector<std::weak_ptr<Capture>> captures;

uint64_t this_thread() {
    static std::atomic<uint64_t> last{0};
    thread_local const uint64_t own = ++last;
    return own;
}

double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

CUstream_st* default_stream(int device) {
    while (default_streams.size() <= static_cast<size_t>(device)) {
        default_streams.push_back(new CUstream_st);
        default_streams.back()->device = static_cast<int>(default_streams.size()) - 1;
    }
    return default_streams[static_cast<size_t>(device)];
}

// ---- doing what is queued -------------------------------------------------------------------------------------------

void run_until(CUstream_st* stream, uint64_t count);

void call_unlocked(const Work& work) {
    held.unlock();
    in_host_function = true;
    work();
    in_host_function = false;
    held.lock();
}

void run_one(CUstream_st* stream) {
    const Op op = std::move(stream->queue.front());
    stream->queue.pop_front();
    stream->running = true;
    if (op.after) run_until(op.after, op.count);
    else if (sticky) {}  // a device that has failed does nothing more
    else if (op.of_host) call_unlocked(op.work);
    else op.work();
    log("stream %p has done: %s", static_cast<void*>(stream), op.what.c_str());
    stream->running = false;
    ++stream->done;
    some_work_done.notify_all();
}

void run_until(CUstream_st* stream, uint64_t count) {
    while (stream->done < count && (stream->running || !stream->queue.empty())) {
        if (stream->running) some_work_done.wait(held);
        else run_one(stream);
    }
}

void drain(CUstream_st* stream) { run_until(stream, stream->submitted); }

std::vector<CUstream_st*> all_streams() {
    std::vector<CUstream_st*> all = default_streams;
    all.insert(all.end(), streams.begin(), streams.end());
    all.insert(all.end(), destroyed.begin(), destroyed.end());
    return all;
}

// What a call leaves to be done later may be done at any moment: `random` does some of it now.
void some_progress() {
    if (settings().execution != Execution::random) return;
    std::vector<CUstream_st*> busy;
    for (CUstream_st* stream : all_streams())
        if (!stream->running && !stream->queue.empty()) busy.push_back(stream);
    if (busy.empty()) return;
    CUstream_st* stream = busy[random_number() % busy.size()];
    for (uint64_t n = random_number() % 4; n && !stream->running && !stream->queue.empty(); --n) run_one(stream);
}

void push(CUstream_st* stream, Op op) {
    log("stream %p is given: %s", static_cast<void*>(stream), op.what.c_str());
    stream->queue.push_back(std::move(op));
    ++stream->submitted;
}

void push_wait(CUstream_st* stream, CUstream_st* other, uint64_t count) {
    if (other == stream || other->done >= count) return;
    Op op;
    op.what = "wait for a stream";
    op.after = other;
    op.count = count;
    push(stream, std::move(op));
}

// The default stream waits for all blocking streams of its device, and they for it.
int order_by_default(CUstream_st* stream) {
    if (is_default(stream)) {
        for (CUstream_st* other : all_streams()) {
            if (is_default(other) || !other->blocking || other->device != stream->device) continue;
            if (other->capture) {
                other->capture->invalid = true;
                return cudaErrorStreamCaptureImplicit;
            }
            push_wait(stream, other, other->submitted);
        }
    } else if (stream->blocking) {
        CUstream_st* first = default_stream(stream->device);
        push_wait(stream, first, first->submitted);
    }
    return cudaSuccess;
}

void after_pushing(CUstream_st* stream) {
    if (settings().execution == Execution::eager || stream->queue.size() > longest_queue) drain(stream);
    some_progress();
}

void add_node(CUstream_st* stream, Op op) {
    Graph& graph = *stream->capture->graph;
    graph.nodes.push_back({std::move(op), stream->frontier});
    stream->frontier = {graph.nodes.size() - 1};
    // Until another stream waits for what it has captured, a branch is not joined.
    if (stream != stream->capture->origin) stream->capture->unjoined.insert(stream);
}

// Any order that the nodes' dependencies allow is right: `late` takes the last node that may come next, `random` any of
// them, so that branches that nothing orders show it.
void run_graph(const Graph& graph) {
    std::vector<size_t> missing(graph.nodes.size());
    std::vector<std::vector<size_t>> followers(graph.nodes.size());
    std::vector<size_t> ready;
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
        missing[i] = graph.nodes[i].after.size();
        for (size_t before : graph.nodes[i].after) followers[before].push_back(i);
        if (!missing[i]) ready.push_back(i);
    }
    while (!ready.empty() && !sticky) {
        size_t next = 0;
        if (settings().execution == Execution::late) next = ready.size() - 1;
        if (settings().execution == Execution::random) next = random_number() % ready.size();
        const size_t i = ready[next];
        ready.erase(ready.begin() + static_cast<std::ptrdiff_t>(next));
        const Op& op = graph.nodes[i].op;
        if (op.of_host) call_unlocked(op.work);
        else if (op.work) op.work();
        for (size_t follower : followers[i])
            if (!--missing[follower]) ready.push_back(follower);
    }
}

std::vector<std::shared_ptr<Capture>> captures_going_on() {
    std::vector<std::shared_ptr<Capture>> alive;
    for (const auto& weak : captures)
        if (auto capture = weak.lock()) alive.push_back(capture);
    captures.assign(alive.begin(), alive.end());
    return alive;
}

void merge(Frontier& into, const Frontier& from) {
    for (size_t node : from)
        if (std::find(into.begin(), into.end(), node) == into.end()) into.push_back(node);
}

}  // namespace

// ---- calls in general -----------------------------------------------------------------------------------------------

Locked::Locked() { held.lock(); }
Locked::~Locked() { held.unlock(); }

int refusal() {
    if (settings().driver_version / 1000 < CUDART_VERSION / 1000) return cudaErrorInsufficientDriver;
    if (getpid() != owner) return cudaErrorInitializationError;  // a forked child has no context, and no threads
    if (in_host_function) return cudaErrorNotPermitted;
    if (!settings().devices) return cudaErrorNoDevice;
    return sticky;
}

int current_device() { return device_of_thread; }
int set_current_device(int device) {
    if (device < 0 || device >= settings().devices) return cudaErrorInvalidDevice;
    device_of_thread = device;
    return cudaSuccess;
}

void fault(int code, const std::string& what) {
    if (sticky) return;
    sticky = code;
    fault_text = what;
    fprintf(stderr, "[software CUDA] %s\n", what.c_str());
}
std::string last_fault() { return fault_text; }
void forget_fault() {
    sticky = 0;
    fault_text.clear();
}

int result(int code) {
    if (code && code != cudaErrorNotReady) {
        last_error = code;
        log("error %d", code);
    }
    return code;
}
int take_last_error() {
    const int code = last_error;
    last_error = 0;
    return code;
}
int peek_last_error() { return last_error; }

// ---- streams --------------------------------------------------------------------------------------------------------

CUstream_st* resolve(cudaStream_t handle) {
    if (!handle || handle == cudaStreamLegacy) return default_stream(device_of_thread);
    return streams.count(handle) ? handle : nullptr;
}

bool is_default(const CUstream_st* stream) {
    return static_cast<size_t>(stream->device) < default_streams.size() &&
           default_streams[static_cast<size_t>(stream->device)] == stream;
}

int create_stream(CUstream_st** out, unsigned flags, int priority) {
    if (!out || flags > cudaStreamNonBlocking) return cudaErrorInvalidValue;
    *out = new CUstream_st;
    (*out)->device = device_of_thread;
    (*out)->flags = flags;
    (*out)->blocking = !(flags & cudaStreamNonBlocking);
    (*out)->priority = priority;
    streams.insert(*out);
    return cudaSuccess;
}

// The handle is gone at once; what is queued is still done, some time. Its memory stays: events and waits name it.
int destroy_stream(CUstream_st* stream) {
    if (!streams.erase(stream)) return cudaErrorInvalidResourceHandle;
    break_off(stream);
    destroyed.insert(stream);
    return cudaSuccess;
}

void break_off(CUstream_st* stream) {
    if (stream->capture) stream->capture->invalid = true;
}

int enqueue(cudaStream_t handle, const char* what, Work work, bool of_host) {
    CUstream_st* stream = resolve(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    Op op;
    op.what = what;
    op.work = std::move(work);
    op.of_host = of_host;
    if (stream->capture) {
        if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
        add_node(stream, std::move(op));
        return cudaSuccess;
    }
    if (const int error = order_by_default(stream)) return error;
    push(stream, std::move(op));
    after_pushing(stream);
    return sticky;
}

int wait_for_stream(CUstream_st* stream) {
    if (stream->capture) {
        break_off(stream);
        return cudaErrorStreamCaptureUnsupported;
    }
    if (is_default(stream))
        if (const int error = order_by_default(stream)) return error;
    drain(stream);
    return sticky;
}

int wait_for_device(int device) {
    for (CUstream_st* stream : streams)
        if (stream->device == device && stream->capture) {
            break_off(stream);
            return cudaErrorStreamCaptureUnsupported;
        }
    drain_device(device);
    return sticky;
}

int query_stream(CUstream_st* stream) {
    if (stream->capture) {
        break_off(stream);
        return cudaErrorStreamCaptureUnsupported;
    }
    if (stream->done == stream->submitted) return sticky;
    if (!stream->running) run_one(stream);  // who asks again and again gets there
    return cudaErrorNotReady;
}

void drain_device(int device) {
    for (CUstream_st* stream : all_streams())
        if (stream->device == device) drain(stream);
}

int unsafe_call() {
    for (const auto& capture : captures_going_on()) {
        const bool own = capture->thread == this_thread();
        const bool forbids = own ? capture->mode != cudaStreamCaptureModeRelaxed
                                 : capture->mode == cudaStreamCaptureModeGlobal;
        if (!forbids) continue;
        capture->invalid = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    return cudaSuccess;
}

// ---- events ---------------------------------------------------------------------------------------------------------

CUevent_st* create_event(unsigned flags) {
    CUevent_st* event = new CUevent_st;
    event->flags = flags;
    event->device = device_of_thread;
    events.insert(event);
    return event;
}

int destroy_event(CUevent_st* event) {
    if (!events.erase(event)) return cudaErrorInvalidResourceHandle;
    delete event;
    return cudaSuccess;
}

bool is_event(CUevent_st* event) { return events.count(event); }

int record_event(CUevent_st* event, cudaStream_t handle) {
    CUstream_st* stream = resolve(handle);
    if (!stream || !is_event(event) || event->device != stream->device) return cudaErrorInvalidResourceHandle;
    if (stream->capture) {
        if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
        event->capture = stream->capture;
        event->of_ended_capture = false;
        event->captured_on = stream;
        event->frontier = stream->frontier;
        return cudaSuccess;
    }
    auto time = std::make_shared<double>(0);
    if (const int error = enqueue(handle, "event", [time] { *time = seconds(); })) return error;
    event->capture = nullptr;
    event->of_ended_capture = false;
    event->stream = stream;
    event->count = stream->submitted;
    event->time = time;
    return cudaSuccess;
}

int wait_for_event(CUevent_st* event) {
    if (!is_event(event)) return cudaErrorInvalidResourceHandle;
    if (event->capture) {
        event->capture->invalid = true;
        return cudaErrorCapturedEvent;
    }
    if (event->of_ended_capture) return cudaErrorCapturedEvent;
    if (event->stream) run_until(event->stream, event->count);
    return sticky;
}

int query_event(CUevent_st* event) {
    if (!is_event(event)) return cudaErrorInvalidResourceHandle;
    if (event->capture) {
        event->capture->invalid = true;
        return cudaErrorCapturedEvent;
    }
    if (event->of_ended_capture) return cudaErrorCapturedEvent;
    if (!event->stream || event->stream->done >= event->count) return sticky;
    if (!event->stream->running) run_one(event->stream);
    return cudaErrorNotReady;
}

int stream_waits(cudaStream_t handle, CUevent_st* event) {
    CUstream_st* stream = resolve(handle);
    if (!stream || !is_event(event)) return cudaErrorInvalidResourceHandle;
    if (event->capture) {
        if (is_default(stream)) return cudaErrorStreamCaptureImplicit;
        if (stream->capture && stream->capture != event->capture) {
            stream->capture->invalid = event->capture->invalid = true;
            return cudaErrorStreamCaptureMerge;
        }
        if (!stream->capture) {  // it joins the capture
            stream->capture = event->capture;
            stream->frontier.clear();
        }
        merge(stream->frontier, event->frontier);
        if (event->captured_on != stream && event->frontier == event->captured_on->frontier)
            event->capture->unjoined.erase(event->captured_on);
        return cudaSuccess;
    }
    if (event->of_ended_capture) return cudaErrorCapturedEvent;
    if (!event->stream) return cudaSuccess;  // never recorded: nothing to wait for
    if (stream->capture) {
        break_off(stream);
        return cudaErrorStreamCaptureIsolation;
    }
    if (const int error = order_by_default(stream)) return error;
    push_wait(stream, event->stream, event->count);
    after_pushing(stream);
    return sticky;
}

// ---- captures and graphs ----------------------------------------------------------------------------------------------

int begin_capture(CUstream_st* stream, cudaStreamCaptureMode mode) {
    if (is_default(stream)) return cudaErrorStreamCaptureUnsupported;
    if (stream->capture) return cudaErrorIllegalState;
    auto capture = std::make_shared<Capture>();
    capture->origin = stream;
    capture->mode = mode;
    capture->thread = this_thread();
    stream->capture = capture;
    stream->frontier.clear();
    captures.push_back(capture);
    return cudaSuccess;
}

int end_capture(CUstream_st* stream, CUgraph_st** out) {
    if (!out) return cudaErrorInvalidValue;
    *out = nullptr;
    const std::shared_ptr<Capture> capture = stream->capture;
    if (!capture) return cudaErrorIllegalState;
    if (capture->origin != stream) {
        capture->invalid = true;
        return cudaErrorStreamCaptureUnmatched;
    }
    const bool wrong_thread = capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != this_thread();
    if (wrong_thread) return cudaErrorStreamCaptureWrongThread;
    const bool unjoined = !capture->unjoined.empty();
    for (CUstream_st* other : streams)
        if (other->capture == capture) other->capture = nullptr;
    for (CUevent_st* event : events)
        if (event->capture == capture) {
            event->capture = nullptr;
            event->stream = nullptr;
            event->of_ended_capture = true;  // and of nothing else, until it is recorded again
        }
    if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
    if (unjoined) return cudaErrorStreamCaptureUnjoined;
    *out = new CUgraph_st{capture->graph};
    return cudaSuccess;
}

int capture_status(CUstream_st* stream, cudaStreamCaptureStatus* status) {
    if (is_default(stream))
        for (CUstream_st* other : streams)
            if (other->blocking && other->capture && other->device == stream->device) {
                other->capture->invalid = true;
                return cudaErrorStreamCaptureImplicit;
            }
    *status = !stream->capture            ? cudaStreamCaptureStatusNone
              : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

bool captures_now() {
    for (const auto& capture : captures_going_on())
        if (capture->thread == this_thread()) return true;
    return false;
}

int launch_graph(CUgraphExec_st* executable, cudaStream_t handle) {
    CUstream_st* stream = resolve(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (stream->device != executable->device) return cudaErrorInvalidResourceHandle;
    const std::shared_ptr<const Graph> graph = executable->graph;
    if (stream->capture) {
        Op op;
        op.what = "graph";
        op.work = [graph] { run_graph(*graph); };
        if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
        add_node(stream, std::move(op));
        return cudaSuccess;
    }
    if (const int error = order_by_default(stream)) return error;
    if (executable->launched_on) push_wait(stream, executable->launched_on, executable->count);  // never twice at a time
    Op op;
    op.what = "graph";
    op.work = [graph] { run_graph(*graph); };
    push(stream, std::move(op));
    executable->launched_on = stream;
    executable->count = stream->submitted;
    after_pushing(stream);
    return sticky;
}

}  // namespace software_cuda
