#ifndef SAM2RT_TENSORRT_DOUBLES_HPP
#define SAM2RT_TENSORRT_DOUBLES_HPP

#include <functional>

/// What the two doubles and the tests know of each other.

/// Run `work` when the stream is waited for, or keep it for the graph that is captured.
using Enqueue = void(void* stream, std::function<void()> work);
/// The host's address of memory on the "GPU"; of other memory, itself.
using HostAddress = void*(const void* address);
/// How often something was called or is alive: "cuMemAlloc_v2", "live", "bytes to host", ...
using Count = long(const char* what);
/// Adds to what Count gives.
using Add = void(const char* what, long by);
/// Whether what a stream is given is recorded at present.
using Capturing = bool(void* stream);
/// Whether engines refuse to be enqueued: always, or while their stream is captured.
using Refuse = void(bool refuse);
/// The graph whose engine refuses to be enqueued; -1: none.
using RefuseGraph = void(int graph);

#endif
