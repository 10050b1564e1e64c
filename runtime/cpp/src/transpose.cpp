#include "transpose.hpp"

#include <cstring>

#ifdef __SSE2__
#  include <emmintrin.h>
#endif

namespace sam2rt {

namespace {

constexpr std::size_t side = transpose_side;

/// 16 x 16 bytes.
void transpose_square(const std::uint8_t* const* rows, std::uint8_t* const* out) noexcept {
#ifdef __SSE2__
  __m128i a[side], b[side];
  for (std::size_t i = 0; i < side; ++i) {
    a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i]));
  }
  // four perfect shuffles of the rows bring every byte to its place
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < side / 2; ++i) {
      b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + side / 2]);
      b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + side / 2]);
    }
    for (std::size_t i = 0; i < side / 2; ++i) {
      a[2 * i] = _mm_unpacklo_epi8(b[i], b[i + side / 2]);
      a[2 * i + 1] = _mm_unpackhi_epi8(b[i], b[i + side / 2]);
    }
  }
  for (std::size_t i = 0; i < side; ++i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out[i]), a[i]);
  }
#else
  for (std::size_t y = 0; y < side; ++y) {
    for (std::size_t x = 0; x < side; ++x) out[x][y] = rows[y][x];
  }
#endif
}

}  // namespace

void transpose_rows(const std::uint8_t* const* rows, std::size_t bytes,
                    std::uint8_t* out) noexcept {
  std::size_t x = 0;
  for (; x + side <= bytes; x += side) {
    const std::uint8_t* from[side];
    std::uint8_t* to[side];
    for (std::size_t i = 0; i < side; ++i) {
      from[i] = rows[i] + x;
      to[i] = out + (x + i) * side;
    }
    transpose_square(from, to);
  }
  for (; x < bytes; ++x) {
    for (std::size_t i = 0; i < side; ++i) out[x * side + i] = rows[i][x];
  }
}

void transpose_columns(const std::uint8_t* columns, std::size_t bytes, std::size_t count,
                       std::uint8_t* rows) noexcept {
  std::uint8_t unwanted[side];
  for (std::size_t x = 0; x < bytes; x += side) {
    const std::uint8_t* from[side];
    std::uint8_t* to[side];
    for (std::size_t i = 0; i < side; ++i) {
      from[i] = columns + (x + i) * side;
      to[i] = i < count ? rows + i * bytes + x : unwanted;
    }
    transpose_square(from, to);
  }
}

}  // namespace sam2rt
