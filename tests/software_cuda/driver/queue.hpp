// Streams, events and graphs as queues of work, and the rules of who waits for whom.
//
// One lock guards everything. Work is done by whichever thread waits for it, with the lock held; a host function alone is
// called without it, because it may need Python's own lock.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

struct CUstream_st;

namespace software_cuda {

using Work = std::function<void()>;

struct Graph;

// A piece of work in a stream's queue.
struct Op {
    std::string what;
    Work work;
    bool of_host = false;           // a host function
    CUstream_st* after = nullptr;   // a wait: until `after` has done its first `count` pieces of work
    uint64_t count = 0;
};

// A node of a graph: its work, and the nodes that it comes after.
struct Node {
    Op op;
    std::vector<size_t> after;
};

// Graphs as captured: shared by the CUgraph_st, its executable copies and their launches.
struct Graph {
    std::vector<Node> nodes;
};

// One capture: the streams that take part, and what each of them has come to.
struct Capture {
    CUstream_st* origin = nullptr;
    cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
    uint64_t thread = 0;            // that began it
    bool invalid = false;
    std::shared_ptr<Graph> graph = std::make_shared<Graph>();
    std::set<CUstream_st*> unjoined;
};

// The nodes that whatever a stream captures next comes after.
using Frontier = std::vector<size_t>;

}  // namespace software_cuda

struct CUstream_st {
    int device = 0;
    bool blocking = true;           // waits for the default stream, and that for it
    unsigned flags = 0;
    int priority = 0;
    std::deque<software_cuda::Op> queue;
    uint64_t submitted = 0, done = 0;
    bool running = false;           // some thread does a piece of its work at this moment
    std::shared_ptr<software_cuda::Capture> capture;
    bool of_ended_capture = false;  // it was last recorded in one
    software_cuda::Frontier frontier;
};

struct CUevent_st {
    unsigned flags = 0;
    int device = 0;
    CUstream_st* stream = nullptr;  // null: never recorded
    uint64_t count = 0;
    std::shared_ptr<double> time;   // in seconds, once it has passed
    std::shared_ptr<software_cuda::Capture> capture;
    bool of_ended_capture = false;  // it was last recorded in one
    CUstream_st* captured_on = nullptr;
    software_cuda::Frontier frontier;
};

struct CUgraph_st {
    std::shared_ptr<const software_cuda::Graph> graph;
};

struct CUgraphExec_st {
    std::shared_ptr<const software_cuda::Graph> graph;
    int device = 0;
    CUstream_st* launched_on = nullptr;  // its last launch, which the next one comes after
    uint64_t count = 0;
};

namespace software_cuda {

// Held by a function of the interface from its first line to its last.
class Locked {
public:
    Locked();
    ~Locked();
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;
};

// Why the calling process or thread may not use the devices now, or success: no driver, one that is too old, a fork, a
// call from within a host function, or a fault of a kernel before, which a device never forgets.
int refusal();

int current_device();
int set_current_device(int device);

// A kernel did what a device does not survive: from now on every call returns `code`.
void fault(int code, const std::string& what);
std::string last_fault();
void forget_fault();

// The code itself, kept as the calling thread's last error.
int result(int code);
int take_last_error();
int peek_last_error();

// The stream that a handle names, or null.
CUstream_st* resolve(cudaStream_t handle);
bool is_default(const CUstream_st* stream);
int create_stream(CUstream_st** out, unsigned flags, int priority);
int destroy_stream(CUstream_st* stream);

// Queue work on a stream, or add it to the graph that the stream captures.
int enqueue(cudaStream_t handle, const char* what, Work work, bool of_host = false);

int wait_for_stream(CUstream_st* stream);   // the calling thread waits; that breaks off a capture
int wait_for_device(int device);
int query_stream(CUstream_st* stream);
void drain_device(int device);              // for calls that wait without being asked to
void break_off(CUstream_st* stream);
int unsafe_call();                          // one that a capture of this thread, or a global one, forbids

CUevent_st* create_event(unsigned flags);
int destroy_event(CUevent_st* event);
bool is_event(CUevent_st* event);
int record_event(CUevent_st* event, cudaStream_t handle);
int wait_for_event(CUevent_st* event);
int query_event(CUevent_st* event);
int stream_waits(cudaStream_t handle, CUevent_st* event);

int begin_capture(CUstream_st* stream, cudaStreamCaptureMode mode);
int end_capture(CUstream_st* stream, CUgraph_st** out);
int capture_status(CUstream_st* stream, cudaStreamCaptureStatus* status);
bool captures_now();                        // whether the calling thread has begun a capture
int launch_graph(CUgraphExec_st* graph, cudaStream_t handle);

}  // namespace software_cuda
