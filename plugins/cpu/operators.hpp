// Whole operators: cut into tasks of a fixed size, which any number of threads may do.
#pragma once

#include "units.hpp"

namespace sam2rt_cpu {

// runs task(i) for all i below count, in any order, and returns when all are done
struct Parallel {
  void (*run)(void* pool, Size count, void (*task)(void* what, Size i), void* what);
  void* pool;
};

// `objects` attentions; with `one_query` all have the queries of the first.
// False when there is not the memory.
bool attend_all(const Units& units, const Attention& attention, Size objects, bool one_query,
                const Parallel& parallel);

// rows of input and output; false when there is not the memory
bool dense_all(const Units& units, const Dense& dense, Size rows, const Parallel& parallel);

// memory that begins on a cache line
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(Size bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept : at_(other.at_) { other.at_ = nullptr; }
  Buffer& operator=(Buffer&& other) noexcept;
  void* get() const { return at_; }
  Bf16* bf16() const { return static_cast<Bf16*>(at_); }

 private:
  void* at_ = nullptr;
};

}  // namespace sam2rt_cpu
