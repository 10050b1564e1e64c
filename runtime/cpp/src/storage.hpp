#ifndef SAM2RT_SRC_STORAGE_HPP
#define SAM2RT_SRC_STORAGE_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace sam2rt {

enum class MemoryDType { float32, float16, bfloat16 };

/// Throws InputError for another name than "float32", "float16" and "bfloat16".
MemoryDType memory_dtype(std::string_view name);

std::uint16_t to_half(float value) noexcept;
float from_half(std::uint16_t half) noexcept;

struct MemoryRing;

/// A memory in its storage form, or where it was written: a slot of a ring, until another memory is
/// written there. Rounding is to nearest, ties to even; the original always stores
/// bfloat16, even in float32.
class StoredMemory {
 public:
  bool empty() const noexcept;
  /// Number of this memory, unique in its tracker; 0 for none.
  std::uint64_t id() const noexcept { return id_; }
  void store(const float* values, std::size_t count, MemoryDType dtype, std::uint64_t id);
  /// It was written to a slot, which holds the memory of that number.
  void place(std::shared_ptr<const MemoryRing> ring, std::size_t slot, std::uint64_t id);
  /// The ring it was written to, or null, and its slot there.
  const MemoryRing* ring() const noexcept { return ring_.get(); }
  std::size_t slot() const noexcept { return slot_; }
  /// For memories outside a ring.
  void restore(float* values) const noexcept;
  /// Forget the memory, keeping its storage for the next one.
  void clear() noexcept {
    id_ = 0;
    ring_.reset();
  }

 private:
  MemoryDType dtype_ = MemoryDType::float32;
  std::vector<float> wide_;
  std::vector<std::uint16_t> narrow_;
  std::shared_ptr<const MemoryRing> ring_;
  std::size_t slot_ = 0;
  std::uint64_t id_ = 0;
};

}  // namespace sam2rt

#endif
