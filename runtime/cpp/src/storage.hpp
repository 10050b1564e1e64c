#ifndef SAM2RT_SRC_STORAGE_HPP
#define SAM2RT_SRC_STORAGE_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sam2rt {

enum class MemoryDType { float32, float16, bfloat16 };

/// Throws InputError for another name than "float32", "float16" and "bfloat16".
MemoryDType memory_dtype(std::string_view name);

std::uint16_t to_half(float value) noexcept;
float from_half(std::uint16_t half) noexcept;

/// A memory in its storage form. Rounding is to nearest, ties to even; the original always stores
/// bfloat16, even in float32.
class StoredMemory {
 public:
  bool empty() const noexcept { return id_ == 0; }
  /// Number of this memory, unique in its tracker; 0 for none.
  std::uint64_t id() const noexcept { return id_; }
  void store(const float* values, std::size_t count, MemoryDType dtype, std::uint64_t id);
  void restore(float* values) const noexcept;
  /// Forget the memory, keeping its storage for the next one.
  void clear() noexcept { id_ = 0; }

 private:
  MemoryDType dtype_ = MemoryDType::float32;
  std::vector<float> wide_;
  std::vector<std::uint16_t> narrow_;
  std::uint64_t id_ = 0;
};

}  // namespace sam2rt

#endif
