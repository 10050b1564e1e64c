#ifndef SAM2RT_SRC_GRAPH_VALUES_HPP
#define SAM2RT_SRC_GRAPH_VALUES_HPP

#include <memory>

#include "sam2rt/session.hpp"

namespace sam2rt {

/// Floats in memory of a session, taken when they are first needed and when there are more.
class GraphValues {
 public:
  /// Room for `count` floats; true when the memory is new and its content lost.
  bool reserve(Session& session, std::size_t count) {
    if (memory_ != nullptr && memory_->size() >= count) return false;
    memory_.reset();
    memory_ = session.allocate(count);
    return true;
  }
  /// Where the host may write, or null.
  float* host() const noexcept {
    return memory_->kind() == MemoryKind::host ? memory_->data() : nullptr;
  }
  void write(std::size_t first, const float* values, std::size_t count) const {
    memory_->write(first, values, count);
  }
  void copy(std::size_t first, const GraphValues& from, std::size_t from_first,
            std::size_t count) const {
    memory_->copy(first, *from.memory_, from_first, count);
  }
  float* address(std::size_t first) const noexcept { return memory_->data() + first; }

  InputTensor input(const Shape& shape) const noexcept {
    return {memory_->data(), DType::float32, shape, memory_->kind(), memory_.get()};
  }
  OutputTensor output(Session& session, const Shape& shape) {
    reserve(session, static_cast<std::size_t>(shape.elements()));
    return {memory_->data(), DType::float32, shape, memory_->kind(), memory_.get()};
  }
  /// An output whose entries of the first dimension go to those addresses of it.
  OutputTensor output_apart(const Shape& shape, void* const* apart) const noexcept {
    return {apart[0], DType::float32, shape, memory_->kind(), memory_.get(), apart};
  }

 private:
  std::unique_ptr<GraphMemory> memory_;
};

}  // namespace sam2rt

#endif
