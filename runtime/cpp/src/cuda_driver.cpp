#include "cuda_driver.hpp"

#include <algorithm>
#include <array>

#include "platform.hpp"
#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt::cuda {

namespace {

constexpr const char* no_driver =
    "install the NVIDIA driver (nvidia-smi must list a GPU), or use device='cpu'";
constexpr const char* out_of_memory =
    "free GPU memory, track fewer objects, or build smaller profiles";

// of the driver's interface
constexpr int compute_capability_major = 75, compute_capability_minor = 76;
constexpr unsigned int non_blocking_stream = 1;
constexpr unsigned int event_without_time = 2;
constexpr int capture_thread_local = 1;

const char* remedy(const std::string& error) {
  const std::array<const char*, 5> without_gpu{
      "CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_NOT_INITIALIZED", "CUDA_ERROR_STUB_LIBRARY",
      "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"};
  if (std::find(without_gpu.begin(), without_gpu.end(), error) != without_gpu.end()) {
    return no_driver;
  }
  if (error == "CUDA_ERROR_OUT_OF_MEMORY") return out_of_memory;
  return "see 'sam2rt doctor'";
}

}  // namespace

/// The functions of the driver that are used, as the process has them. The library stays loaded:
/// others in the process may have taken it too.
struct Driver {
  Driver();

  std::string error_name(int status) const {
    const char* name = nullptr;
    return get_error_name(status, &name) == 0 && name != nullptr ? name : "unknown error";
  }

  void* library;
  int (*init)(unsigned int) = nullptr;
  int (*driver_get_version)(int*) = nullptr;
  int (*get_error_name)(int, const char**) = nullptr;
  int (*device_get_count)(int*) = nullptr;
  int (*device_get)(int*, int) = nullptr;
  int (*device_get_name)(char*, int, int) = nullptr;
  int (*device_get_attribute)(int*, int, int) = nullptr;
  int (*primary_retain)(void**, int) = nullptr;
  int (*primary_release)(int) = nullptr;
  int (*context_push)(void*) = nullptr;
  int (*context_pop)(void**) = nullptr;
  int (*memory_info)(std::size_t*, std::size_t*) = nullptr;
  int (*memory_alloc)(Address*, std::size_t) = nullptr;
  int (*memory_free)(Address) = nullptr;
  int (*host_alloc)(void**, std::size_t, unsigned int) = nullptr;
  int (*host_free)(void*) = nullptr;
  int (*copy_async)(Address, Address, std::size_t, void*) = nullptr;
  int (*stream_create)(void**, unsigned int) = nullptr;
  int (*stream_destroy)(void*) = nullptr;
  int (*stream_synchronize)(void*) = nullptr;
  int (*event_create)(void**, unsigned int) = nullptr;
  int (*event_destroy)(void*) = nullptr;
  int (*event_record)(void*, void*) = nullptr;
  int (*event_synchronize)(void*) = nullptr;
  int (*begin_capture)(void*, int) = nullptr;
  int (*end_capture)(void*, void**) = nullptr;
  int (*graph_instantiate)(void**, void*, unsigned long long) = nullptr;
  int (*graph_destroy)(void*) = nullptr;
  int (*graph_launch)(void*, void*) = nullptr;
  int (*graph_exec_destroy)(void*) = nullptr;

 private:
  template <class Function>
  void take(Function& function, const char* name) {
    function = reinterpret_cast<Function>(library_function(library, name));
    if (function == nullptr) {
      throw SessionError(text("the CUDA driver has no ", name, ": update the NVIDIA driver"));
    }
  }
  void take_all();
};

Driver::Driver() : library(open_library(cuda_driver_file)) {
  if (library == nullptr) {
    throw SessionError(text("CUDA failed while looking for a GPU: ", cuda_driver_file,
                            " cannot be loaded: ", no_driver));
  }
  take_all();
}

void Driver::take_all() {
  take(init, "cuInit");
  take(driver_get_version, "cuDriverGetVersion");
  take(get_error_name, "cuGetErrorName");
  take(device_get_count, "cuDeviceGetCount");
  take(device_get, "cuDeviceGet");
  take(device_get_name, "cuDeviceGetName");
  take(device_get_attribute, "cuDeviceGetAttribute");
  take(primary_retain, "cuDevicePrimaryCtxRetain");
  take(primary_release, "cuDevicePrimaryCtxRelease_v2");
  take(context_push, "cuCtxPushCurrent_v2");
  take(context_pop, "cuCtxPopCurrent_v2");
  take(memory_info, "cuMemGetInfo_v2");
  take(memory_alloc, "cuMemAlloc_v2");
  take(memory_free, "cuMemFree_v2");
  take(host_alloc, "cuMemHostAlloc");
  take(host_free, "cuMemFreeHost");
  take(copy_async, "cuMemcpyAsync");
  take(stream_create, "cuStreamCreate");
  take(stream_destroy, "cuStreamDestroy_v2");
  take(stream_synchronize, "cuStreamSynchronize");
  take(event_create, "cuEventCreate");
  take(event_destroy, "cuEventDestroy_v2");
  take(event_record, "cuEventRecord");
  take(event_synchronize, "cuEventSynchronize");
  take(begin_capture, "cuStreamBeginCapture_v2");
  take(end_capture, "cuStreamEndCapture");
  take(graph_instantiate, "cuGraphInstantiateWithFlags");
  take(graph_destroy, "cuGraphDestroy");
  take(graph_launch, "cuGraphLaunch");
  take(graph_exec_destroy, "cuGraphExecDestroy");
}

std::shared_ptr<Device> Device::open(int index) {
  return std::shared_ptr<Device>(new Device(std::make_shared<Driver>(), index));
}

Device::Device(std::shared_ptr<const Driver> driver, int index) : driver_(std::move(driver)) {
  check(driver_->init(0), "looking for a GPU");
  int count = 0;
  check(driver_->device_get_count(&count), "looking for a GPU");
  if (index >= count) {
    throw SessionError(text("expected GPU ", index, ", found ", count, " GPUs: ", no_driver));
  }
  check(driver_->device_get(&handle_, index), text("selecting GPU ", index));
  std::array<char, 256> name{};
  check(driver_->device_get_name(name.data(), static_cast<int>(name.size()) - 1, handle_),
        "reading the GPU's properties");
  name_ = name.data();
  int major = 0, minor = 0, version = 0;
  check(driver_->device_get_attribute(&major, compute_capability_major, handle_),
        "reading the GPU's properties");
  check(driver_->device_get_attribute(&minor, compute_capability_minor, handle_),
        "reading the GPU's properties");
  arch_ = major * 10 + minor;
  check(driver_->driver_get_version(&version), "reading the driver's version");
  version_ = {version / 1000, version % 1000 / 10};
  check(driver_->primary_retain(&context_, handle_), text("selecting GPU ", index));
}

Device::~Device() {
  if (context_ != nullptr) driver_->primary_release(handle_);
}

void Device::check(int status, const std::string& doing) const {
  if (status == 0) return;
  const std::string name = driver_->error_name(status);
  throw SessionError(text("CUDA failed while ", doing, ": ", name, " (", status, "): ",
                          remedy(name)));
}

void Device::require_memory(std::size_t needed, const std::string& what) const {
  std::size_t free = 0, total = 0;
  check(driver_->memory_info(&free, &total), "asking for free GPU memory");
  if (needed > free) {
    throw SessionError(text(what, " needs ", needed, " bytes of GPU memory, ", free,
                            " are free: ", out_of_memory));
  }
}

Device::Current::Current(const Device& device) : device_(device) {
  const int status = device.driver_->context_push(device.context_);
  if (status != 0) device.check(status, "selecting a GPU");
}

Device::Current::~Current() {
  void* popped = nullptr;
  device_.driver_->context_pop(&popped);
}

Stream::Stream(const Device& device) : device_(device) {
  device.check(device.driver().stream_create(&handle_, non_blocking_stream), "making a stream");
}

Stream::~Stream() { device_.driver().stream_destroy(handle_); }

void Stream::synchronize() const {
  const int status = device_.driver().stream_synchronize(handle_);
  if (status != 0) device_.check(status, "waiting for the GPU");
  ++waits_;
}

void Stream::copy(Address to, Address from, std::size_t bytes) const {
  if (bytes == 0) return;
  const int status = device_.driver().copy_async(to, from, bytes, handle_);
  if (status != 0) device_.check(status, text("copying ", bytes, " bytes"));
}

Event::Event(const Device& device) : device_(device) {
  device.check(device.driver().event_create(&handle_, event_without_time), "making an event");
}

Event::~Event() { device_.driver().event_destroy(handle_); }

void Event::record(const Stream& stream) const {
  const int status = device_.driver().event_record(handle_, stream.handle());
  if (status != 0) device_.check(status, "recording an event");
}

void Event::synchronize() const {
  const int status = device_.driver().event_synchronize(handle_);
  if (status != 0) device_.check(status, "waiting for the GPU");
}

Buffer::Buffer(const Device& device, std::size_t bytes) : device_(device), bytes_(bytes) {
  // zero bytes have no address, and an empty tensor still needs one
  device.check(device.driver().memory_alloc(&address_, std::max<std::size_t>(bytes, 1)),
               text("taking ", bytes, " bytes of memory"));
}

Buffer::~Buffer() { device_.driver().memory_free(address_); }

PinnedMemory::PinnedMemory(const Device& device, std::size_t bytes) : device_(device) {
  device.check(device.driver().host_alloc(&data_, std::max<std::size_t>(bytes, 1), 0),
               "taking pinned memory");
}

PinnedMemory::~PinnedMemory() { device_.driver().host_free(data_); }

RecordedWork::RecordedWork(const Stream& stream, const std::function<void()>& enqueue)
    : device_(stream.device()) {
  const Driver& driver = device_.driver();
  device_.check(driver.begin_capture(stream.handle(), capture_thread_local),
                "starting a graph capture");
  void* graph = nullptr;
  try {
    enqueue();
  } catch (...) {
    if (driver.end_capture(stream.handle(), &graph) == 0) driver.graph_destroy(graph);
    throw;
  }
  device_.check(driver.end_capture(stream.handle(), &graph), "ending a graph capture");
  const int made = driver.graph_instantiate(&handle_, graph, 0);
  driver.graph_destroy(graph);
  device_.check(made, "making a graph");
}

RecordedWork::~RecordedWork() { device_.driver().graph_exec_destroy(handle_); }

void RecordedWork::replay(const Stream& stream) const {
  const int status = device_.driver().graph_launch(handle_, stream.handle());
  if (status != 0) device_.check(status, "replaying a graph");
}

}  // namespace sam2rt::cuda
