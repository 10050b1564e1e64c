#ifndef SAM2RT_SRC_CUDA_DRIVER_HPP
#define SAM2RT_SRC_CUDA_DRIVER_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace sam2rt::cuda {

/// Of memory on the GPU, or of any memory the GPU can reach.
using Address = unsigned long long;

struct Driver;

/// One GPU in its primary context, which TensorRT uses too. The CUDA driver is loaded when the
/// first one is opened; nothing of CUDA is needed to build. Every failure is a SessionError.
class Device {
 public:
  /// Throws SessionError without a driver or a GPU of that number.
  static std::shared_ptr<Device> open(int index);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device();

  const std::string& name() const noexcept { return name_; }
  /// Compute capability, as major * 10 + minor.
  int arch() const noexcept { return arch_; }
  /// CUDA version the driver supports: major, minor.
  std::pair<int, int> driver_version() const noexcept { return version_; }
  /// Throws SessionError with the bytes asked for and free when they do not fit.
  void require_memory(std::size_t needed, const std::string& what) const;

  const Driver& driver() const noexcept { return *driver_; }
  /// Throws SessionError saying what failed, unless `status` is success.
  void check(int status, const std::string& doing) const;

  /// Makes the GPU current on the calling thread for as long as it lives.
  class Current {
   public:
    explicit Current(const Device& device);
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;
    ~Current();

   private:
    const Device& device_;
  };

 private:
  Device(std::shared_ptr<const Driver> driver, int index);

  std::shared_ptr<const Driver> driver_;
  int handle_ = 0;
  void* context_ = nullptr;
  std::string name_;
  int arch_ = 0;
  std::pair<int, int> version_;
};

/// A stream of its own; never the legacy default stream, whose implicit synchronisation would
/// serialise trackers. This and what follows is made and released with the GPU current.
class Stream {
 public:
  explicit Stream(const Device& device);
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream();

  void* handle() const noexcept { return handle_; }
  const Device& device() const noexcept { return device_; }
  void synchronize() const;
  /// How often it was waited for: what was enqueued at another count has been done.
  std::uint64_t waits() const noexcept { return waits_; }
  /// Enqueue a copy between any two addresses, on the host or the GPU.
  void copy(Address to, Address from, std::size_t bytes) const;

 private:
  const Device& device_;
  void* handle_ = nullptr;
  mutable std::uint64_t waits_ = 0;
};

/// A place in the work of a stream that others can wait for, while the stream goes on.
class Event {
 public:
  explicit Event(const Device& device);
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event();

  void record(const Stream& stream) const;
  /// Wait for what its stream had been given when it was last recorded.
  void synchronize() const;

 private:
  const Device& device_;
  void* handle_ = nullptr;
};

/// Memory on the GPU.
class Buffer {
 public:
  Buffer(const Device& device, std::size_t bytes);
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  Address address() const noexcept { return address_; }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  const Device& device_;
  std::size_t bytes_;
  Address address_ = 0;
};

/// Host memory the GPU copies from and to without an intermediate copy.
class PinnedMemory {
 public:
  PinnedMemory(const Device& device, std::size_t bytes);
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  ~PinnedMemory();

  void* data() const noexcept { return data_; }
  Address address() const noexcept { return reinterpret_cast<Address>(data_); }

 private:
  const Device& device_;
  void* data_ = nullptr;
};

/// What a function enqueued on a stream, recorded once and replayed as one launch.
class RecordedWork {
 public:
  /// Record `enqueue`. An error inside ends the capture and is thrown: a graph of half the work
  /// would replay stale buffers.
  RecordedWork(const Stream& stream, const std::function<void()>& enqueue);
  RecordedWork(const RecordedWork&) = delete;
  RecordedWork& operator=(const RecordedWork&) = delete;
  ~RecordedWork();

  void replay(const Stream& stream) const;

 private:
  const Device& device_;
  void* handle_ = nullptr;
};

inline Address address_of(const void* pointer) noexcept {
  return reinterpret_cast<Address>(pointer);
}

}  // namespace sam2rt::cuda

#endif
