#include "pixel_rows.hpp"

#include "platform.hpp"
#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

/// The CUDA driver as the process has it; nothing of it is needed to build or to run on hosts.
class Driver {
 public:
  Driver() : library_(open_library(cuda_driver_file)) {
    if (library_ == nullptr) {
      throw FrameError("a frame lies in CUDA memory, but this machine has no CUDA driver: give "
                       "the frame in host memory");
    }
    copy_ = reinterpret_cast<Copy>(library_function(library_, "cuMemcpyDtoH_v2"));
  }
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;
  ~Driver() { close_library(library_); }

  void to_host(void* host, const std::uint8_t* device, std::size_t bytes) const {
    const int failed = copy_ == nullptr
                           ? -1
                           : copy_(host, reinterpret_cast<unsigned long long>(device), bytes);
    if (failed != 0) {
      throw FrameError(text("cannot copy a frame from CUDA memory (driver error ", failed,
                            "): its context must be current on the calling thread"));
    }
  }

 private:
  using Copy = int (*)(void*, unsigned long long, std::size_t);
  void* library_;
  Copy copy_ = nullptr;
};

}  // namespace

FrameView copied_from_device(const FrameView& frame, std::vector<std::uint8_t>& copy) {
  const Driver driver;
  FrameView host = frame;
  host.memory = MemoryKind::host;
  const bool nv12 = frame.format == PixelFormat::nv12;
  const auto width = static_cast<std::size_t>(frame.width);
  const std::size_t row = width * (nv12 ? 1 : frame.format == PixelFormat::rgba ? 4 : 3);
  host.stride = frame.stride != 0 ? frame.stride : row;
  const auto height = static_cast<std::size_t>(frame.height);
  // the last row may end at its last pixel
  const std::size_t plane = host.stride * (height - 1) + row;
  const std::size_t luma = host.stride * height;
  const std::size_t chroma = nv12 ? host.stride * (height / 2 - 1) + row : 0;
  copy.resize(nv12 ? luma + chroma : plane);
  driver.to_host(copy.data(), frame.data, plane);
  if (nv12) {
    const std::uint8_t* from = frame.chroma != nullptr ? frame.chroma : frame.data + luma;
    driver.to_host(copy.data() + luma, from, chroma);
    host.chroma = copy.data() + luma;
  }
  host.data = copy.data();
  return host;
}

}  // namespace sam2rt
