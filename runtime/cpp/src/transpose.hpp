#ifndef SAM2RT_SRC_TRANSPOSE_HPP
#define SAM2RT_SRC_TRANSPOSE_HPP

#include <cstddef>
#include <cstdint>

namespace sam2rt {

inline constexpr std::size_t transpose_side = 16;

/// Sixteen rows of `bytes` bytes -> [bytes, 16].
void transpose_rows(const std::uint8_t* const* rows, std::size_t bytes, std::uint8_t* out) noexcept;

/// [bytes, 16] -> the first `count` of sixteen rows of `bytes` bytes; bytes is a multiple of 16.
void transpose_columns(const std::uint8_t* columns, std::size_t bytes, std::size_t count,
                       std::uint8_t* rows) noexcept;

}  // namespace sam2rt

#endif
