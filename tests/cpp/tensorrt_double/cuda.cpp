// libcuda.so.1 in host memory: the driver's functions that sam2rt uses. The environment says what
// GPU it is: SAM2RT_DOUBLE_ARCH, _DRIVER, _MEMORY (bytes), _FAIL (a function and its error).
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "doubles.hpp"

#define DOUBLE extern "C" __attribute__((visibility("default")))

namespace {

using Address = unsigned long long;
/// Set in every address on the "GPU": the host cannot follow it.
constexpr Address on_gpu = 1ULL << 62;

using Work = std::vector<std::function<void()>>;

struct Stream {
  /// Others may wait for its events.
  std::mutex mutex;
  Work waiting;
  bool capturing = false;
  Work captured;

  void run_all() {
    const std::lock_guard<std::mutex> lock(mutex);
    for (const auto& one : waiting) one();
    waiting.clear();
  }
};

/// Where a stream was when it was recorded.
struct Event {
  using Reached = std::shared_ptr<std::atomic<bool>>;
  /// Another thread may wait while it is recorded again.
  std::mutex mutex;
  Stream* stream = nullptr;
  Reached reached;

  void record(Stream* on) {
    const std::lock_guard<std::mutex> lock(mutex);
    stream = on;
    reached = std::make_shared<std::atomic<bool>>(false);
    const std::lock_guard<std::mutex> adding(on->mutex);
    on->waiting.push_back([reached = reached] { *reached = true; });
  }
  void wait() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (reached != nullptr && !*reached) stream->run_all();
  }
};

struct State {
  std::mutex mutex;
  std::map<std::string, long> counts;
  std::map<void*, std::size_t> memory;
  std::size_t used = 0;
};

State& state() {
  static State made;
  return made;
}

thread_local int current_depth = 0;

long setting(const char* name, long fallback) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::stol(value) : fallback;
}

void count(const char* what, long by = 1) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().counts[what] += by;
}

/// Counts the call; the error that the environment asks for.
int enter(const char* name) {
  count(name);
  const char* fail = std::getenv("SAM2RT_DOUBLE_FAIL");
  if (fail == nullptr) return 0;
  const std::string wanted(fail);
  const auto colon = wanted.find(':');
  return wanted.substr(0, colon) == name ? std::stoi(wanted.substr(colon + 1)) : 0;
}

/// As enter, for calls that need a context.
int enter_current(const char* name) {
  const int error = enter(name);
  return error == 0 && current_depth == 0 ? 201 : error;  // CUDA_ERROR_INVALID_CONTEXT
}

void* taken(std::size_t bytes) {
  // as far apart as on a GPU
  void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(memory, 0xEE, bytes);
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().memory[memory] = bytes;
  state().used += bytes;
  ++state().counts["live"];
  return memory;
}

void released(void* memory) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  const auto found = state().memory.find(memory);
  if (found == state().memory.end()) std::abort();
  state().used -= found->second;
  state().memory.erase(found);
  --state().counts["live"];
  std::free(memory);
}

}  // namespace

DOUBLE void* double_host_address(const void* address) {
  return reinterpret_cast<void*>(reinterpret_cast<Address>(address) & ~on_gpu);
}

DOUBLE void double_enqueue(void* handle, std::function<void()> work) {
  auto* stream = static_cast<Stream*>(handle);
  const std::lock_guard<std::mutex> lock(stream->mutex);
  (stream->capturing ? stream->captured : stream->waiting).push_back(std::move(work));
}

DOUBLE long double_count(const char* what) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  return state().counts[what];
}

DOUBLE void double_add(const char* what, long by) { count(what, by); }

DOUBLE int cuInit(unsigned int) { return enter("cuInit"); }

DOUBLE int cuDriverGetVersion(int* version) {
  *version = static_cast<int>(setting("SAM2RT_DOUBLE_DRIVER", 13000));
  return enter("cuDriverGetVersion");
}

DOUBLE int cuGetErrorName(int error, const char** name) {
  static const std::map<int, const char*> names{{2, "CUDA_ERROR_OUT_OF_MEMORY"},
                                                {100, "CUDA_ERROR_NO_DEVICE"},
                                                {201, "CUDA_ERROR_INVALID_CONTEXT"}};
  const auto found = names.find(error);
  if (found == names.end()) return 1;
  *name = found->second;
  return 0;
}

DOUBLE int cuDeviceGetCount(int* number) {
  *number = 1;
  return enter("cuDeviceGetCount");
}

DOUBLE int cuDeviceGet(int* device, int index) {
  *device = index;
  return enter("cuDeviceGet");
}

DOUBLE int cuDeviceGetName(char* name, int length, int) {
  std::strncpy(name, "Fake GPU", static_cast<std::size_t>(length));
  return enter("cuDeviceGetName");
}

DOUBLE int cuDeviceGetAttribute(int* value, int attribute, int) {
  const long arch = setting("SAM2RT_DOUBLE_ARCH", 90);
  *value = static_cast<int>(attribute == 75 ? arch / 10 : arch % 10);
  return enter("cuDeviceGetAttribute");
}

DOUBLE int cuDevicePrimaryCtxRetain(void** context, int) {
  *context = &state();
  count("live");
  return enter("cuDevicePrimaryCtxRetain");
}

DOUBLE int cuDevicePrimaryCtxRelease_v2(int) {
  count("live", -1);
  return enter("cuDevicePrimaryCtxRelease_v2");
}

DOUBLE int cuCtxPushCurrent_v2(void*) {
  ++current_depth;
  return enter("cuCtxPushCurrent_v2");
}

DOUBLE int cuCtxPopCurrent_v2(void** context) {
  *context = &state();
  if (--current_depth < 0) std::abort();
  return enter("cuCtxPopCurrent_v2");
}

DOUBLE int cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  *total = static_cast<std::size_t>(setting("SAM2RT_DOUBLE_MEMORY", 1L << 34));
  {
    const std::lock_guard<std::mutex> lock(state().mutex);
    *free = *total - std::min(*total, state().used);
  }
  return enter_current("cuMemGetInfo_v2");
}

DOUBLE int cuMemAlloc_v2(Address* address, std::size_t bytes) {
  if (const int error = enter_current("cuMemAlloc_v2")) return error;
  *address = reinterpret_cast<Address>(taken(bytes)) | on_gpu;
  return 0;
}

DOUBLE int cuMemFree_v2(Address address) {
  if (const int error = enter_current("cuMemFree_v2")) return error;
  released(reinterpret_cast<void*>(address & ~on_gpu));
  return 0;
}

DOUBLE int cuMemHostAlloc(void** memory, std::size_t bytes, unsigned int) {
  if (const int error = enter_current("cuMemHostAlloc")) return error;
  *memory = taken(bytes);
  return 0;
}

DOUBLE int cuMemFreeHost(void* memory) {
  if (const int error = enter_current("cuMemFreeHost")) return error;
  released(memory);
  return 0;
}

DOUBLE int cuMemcpyAsync(Address to, Address from, std::size_t bytes, void* stream) {
  if (const int error = enter_current("cuMemcpyAsync")) return error;
  const bool up = (from & on_gpu) == 0, down = (to & on_gpu) == 0;
  double_enqueue(stream, [=] {
    count(up ? "bytes to GPU" : down ? "bytes to host" : "bytes on GPU", static_cast<long>(bytes));
    std::memcpy(reinterpret_cast<void*>(to & ~on_gpu), reinterpret_cast<void*>(from & ~on_gpu),
                bytes);
  });
  return 0;
}

DOUBLE int cuStreamCreate(void** stream, unsigned int flags) {
  if (const int error = enter_current("cuStreamCreate")) return error;
  if (flags != 1) return 1;
  *stream = new Stream;
  count("live");
  return 0;
}

DOUBLE int cuStreamDestroy_v2(void* stream) {
  delete static_cast<Stream*>(stream);
  count("live", -1);
  return enter_current("cuStreamDestroy_v2");
}

DOUBLE int cuStreamSynchronize(void* handle) {
  auto* stream = static_cast<Stream*>(handle);
  if (stream->capturing) return 900;  // CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
  stream->run_all();
  return enter_current("cuStreamSynchronize");
}

DOUBLE int cuEventCreate(void** event, unsigned int flags) {
  if (const int error = enter_current("cuEventCreate")) return error;
  if (flags != 2) return 1;
  *event = new Event;
  count("live");
  return 0;
}

DOUBLE int cuEventDestroy_v2(void* event) {
  delete static_cast<Event*>(event);
  count("live", -1);
  return enter_current("cuEventDestroy_v2");
}

DOUBLE int cuEventRecord(void* handle, void* on) {
  if (const int error = enter_current("cuEventRecord")) return error;
  auto* stream = static_cast<Stream*>(on);
  if (stream->capturing) return 900;
  static_cast<Event*>(handle)->record(stream);
  return 0;
}

DOUBLE int cuEventSynchronize(void* event) {
  static_cast<Event*>(event)->wait();
  return enter_current("cuEventSynchronize");
}

DOUBLE int cuStreamBeginCapture_v2(void* handle, int mode) {
  if (mode != 1) return 1;
  if (const int error = enter_current("cuStreamBeginCapture_v2")) return error;
  static_cast<Stream*>(handle)->capturing = true;
  return 0;
}

DOUBLE int cuStreamEndCapture(void* handle, void** graph) {
  auto* stream = static_cast<Stream*>(handle);
  if (!stream->capturing) return 1;
  stream->capturing = false;
  Work captured = std::move(stream->captured);
  stream->captured.clear();
  // what a library did that a capture forbids shows when the capture ends
  *graph = nullptr;
  if (const int error = enter_current("cuStreamEndCapture")) return error;
  *graph = new Work(std::move(captured));
  count("live");
  return 0;
}

DOUBLE int cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
  if (const int error = enter_current("cuGraphInstantiateWithFlags")) return error;
  *executable = new Work(*static_cast<Work*>(graph));
  count("live");
  return 0;
}

DOUBLE bool double_capturing(void* handle) { return static_cast<Stream*>(handle)->capturing; }

DOUBLE int cuGraphDestroy(void* graph) {
  delete static_cast<Work*>(graph);
  count("live", -1);
  return enter_current("cuGraphDestroy");
}

DOUBLE int cuGraphLaunch(void* executable, void* stream) {
  for (const auto& work : *static_cast<Work*>(executable)) double_enqueue(stream, work);
  return enter_current("cuGraphLaunch");
}

DOUBLE int cuGraphExecDestroy(void* executable) {
  delete static_cast<Work*>(executable);
  count("live", -1);
  return enter_current("cuGraphExecDestroy");
}
