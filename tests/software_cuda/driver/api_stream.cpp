// Streams, events, captures and graphs.
#include <cstdio>

#include "api.hpp"

using namespace software_cuda;

EXPORT cudaError_t cudaStreamCreateWithPriority(cudaStream_t* out, unsigned flags, int priority) {
    ENTER;
    return done(create_stream(out, flags, priority));
}
EXPORT cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned flags) {
    ENTER;
    return done(create_stream(out, flags, 0));
}
EXPORT cudaError_t cudaStreamCreate(cudaStream_t* out) {
    ENTER;
    return done(create_stream(out, cudaStreamDefault, 0));
}
EXPORT cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    ENTER;
    return done(destroy_stream(stream));
}
EXPORT cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned* flags) {
    ENTER;
    const CUstream_st* stream = resolve(handle);
    if (!stream) return done(cudaErrorInvalidResourceHandle);
    *flags = stream->flags;
    return cudaSuccess;
}
EXPORT cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* priority) {
    ENTER;
    const CUstream_st* stream = resolve(handle);
    if (!stream) return done(cudaErrorInvalidResourceHandle);
    *priority = stream->priority;
    return cudaSuccess;
}
EXPORT cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
    ENTER;
    CUstream_st* stream = resolve(handle);
    return done(stream ? wait_for_stream(stream) : cudaErrorInvalidResourceHandle);
}
EXPORT cudaError_t cudaStreamQuery(cudaStream_t handle) {
    ENTER;
    CUstream_st* stream = resolve(handle);
    return done(stream ? query_stream(stream) : cudaErrorInvalidResourceHandle);
}
EXPORT cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    ENTER;
    return done(stream_waits(stream, event));
}
EXPORT cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
    ENTER;
    return done(enqueue(stream, "host function", [=] { function(argument); }, true));
}
EXPORT cudaError_t cudaStreamAddCallback(cudaStream_t handle, cudaStreamCallback_t function, void* argument, unsigned) {
    ENTER;
    CUstream_st* stream = resolve(handle);
    if (!stream) return done(cudaErrorInvalidResourceHandle);
    if (stream->capture) {
        break_off(stream);
        return done(cudaErrorStreamCaptureUnsupported);
    }
    return done(enqueue(handle, "callback", [=] { function(handle, cudaSuccess, argument); }, true));
}

// ---- events -----------------------------------------------------------------------------------------------------------

EXPORT cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned flags) {
    ENTER;
    if (!out) return done(cudaErrorInvalidValue);
    *out = create_event(flags);
    return cudaSuccess;
}
EXPORT cudaError_t cudaEventCreate(cudaEvent_t* out) { return cudaEventCreateWithFlags(out, cudaEventDefault); }
EXPORT cudaError_t cudaEventDestroy(cudaEvent_t event) {
    ENTER;
    return done(destroy_event(event));
}
EXPORT cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    ENTER;
    return done(record_event(event, stream));
}
EXPORT cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    ENTER;
    return done(wait_for_event(event));
}
EXPORT cudaError_t cudaEventQuery(cudaEvent_t event) {
    ENTER;
    return done(query_event(event));
}
EXPORT cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    ENTER;
    if (!is_event(start) || !is_event(end)) return done(cudaErrorInvalidResourceHandle);
    if (!start->stream || !end->stream || ((start->flags | end->flags) & cudaEventDisableTiming))
        return done(cudaErrorInvalidResourceHandle);
    for (const cudaEvent_t event : {start, end})
        if (event->stream->done < event->count) return done(cudaErrorNotReady);
    *milliseconds = static_cast<float>((*end->time - *start->time) * 1e3);
    return cudaSuccess;
}

// ---- captures and graphs ------------------------------------------------------------------------------------------------

EXPORT cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
    ENTER;
    CUstream_st* stream = resolve(handle);
    if (!stream) return done(cudaErrorInvalidResourceHandle);
    if (mode < cudaStreamCaptureModeGlobal || mode > cudaStreamCaptureModeRelaxed) return done(cudaErrorInvalidValue);
    return done(begin_capture(stream, mode));
}
EXPORT cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
    ENTER;
    CUstream_st* stream = resolve(handle);
    return done(stream ? capture_status(stream, status) : cudaErrorInvalidResourceHandle);
}
EXPORT cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* out) {
    ENTER;
    CUstream_st* stream = resolve(handle);
    return done(stream ? end_capture(stream, out) : cudaErrorInvalidResourceHandle);
}
EXPORT cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long) {
    ENTER;
    if (!out || !graph) return done(cudaErrorInvalidValue);
    *out = new CUgraphExec_st{graph->graph, current_device()};
    return cudaSuccess;
}
EXPORT cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    ENTER;
    return done(graph ? launch_graph(graph, stream) : cudaErrorInvalidValue);
}
EXPORT cudaError_t cudaGraphUpload(cudaGraphExec_t graph, cudaStream_t) { return graph ? cudaSuccess : done(cudaErrorInvalidValue); }
EXPORT cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    ENTER;
    delete graph;
    return cudaSuccess;
}
EXPORT cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    ENTER;
    delete graph;  // what is queued of it keeps its nodes
    return cudaSuccess;
}
EXPORT cudaError_t cudaGraphDebugDotPrint(cudaGraph_t graph, const char* path, unsigned) {
    ENTER;
    FILE* file = fopen(path, "w");
    if (!file) return done(cudaErrorOperatingSystem);
    fprintf(file, "digraph {\n");
    const auto& nodes = graph->graph->nodes;
    for (size_t i = 0; i < nodes.size(); ++i) {
        fprintf(file, "n%zu [label=\"%s\"];\n", i, nodes[i].op.what.c_str());
        for (size_t before : nodes[i].after) fprintf(file, "n%zu -> n%zu;\n", before, i);
    }
    fprintf(file, "}\n");
    return done(fclose(file) ? cudaErrorOperatingSystem : cudaSuccess);
}
