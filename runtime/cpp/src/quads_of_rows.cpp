#include <algorithm>
#include <cstring>

#include "quads.hpp"
#include "simd.hpp"

namespace sam2rt {

namespace {

/// Four pixels of one row, wherever they end.
void one_quad(const std::uint8_t* pixels, std::size_t pixel_bytes, std::size_t count,
              std::uint8_t* out, std::size_t step) noexcept {
  for (std::size_t x = 0; x < count; ++x) {
    for (std::size_t c = 0; c < 3; ++c) out[c * step + x] = pixels[x * pixel_bytes + c];
  }
}

#ifdef SAM2RT_HAS_AVX2
/// Four rows, as long as sixteen bytes can be read; the number of groups made.
SAM2RT_AVX2 std::size_t quads_avx2(const std::uint8_t* const* rows, std::size_t pixel_bytes,
                                   std::size_t width, std::uint8_t* out,
                                   std::size_t step) noexcept {
  const __m128i of_three = _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1);
  const __m128i of_four = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, -1, -1, -1, -1);
  const __m128i order = pixel_bytes == 3 ? of_three : of_four;
  std::size_t g = 0;
  for (; 4 * g * pixel_bytes + 16 <= width * pixel_bytes; ++g, out += quad_bytes) {
    __m128i row[4];
    for (std::size_t i = 0; i < 4; ++i) {
      const auto* in = reinterpret_cast<const __m128i*>(rows[i] + 4 * g * pixel_bytes);
      row[i] = _mm_shuffle_epi8(_mm_loadu_si128(in), order);
    }
    const __m128i a = _mm_unpacklo_epi32(row[0], row[1]), b = _mm_unpacklo_epi32(row[2], row[3]);
    const __m128i c = _mm_unpackhi_epi32(row[0], row[1]), d = _mm_unpackhi_epi32(row[2], row[3]);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_unpacklo_epi64(a, b));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + step), _mm_unpackhi_epi64(a, b));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * step), _mm_unpacklo_epi64(c, d));
  }
  return g;
}

/// Four rows of four groups in each register -> the groups, of all sixteen rows.
SAM2RT_VNNI SAM2RT_INLINE void store_groups(const __m512i* rows, std::uint8_t* out) noexcept {
  const __m512i a = _mm512_shuffle_i32x4(rows[0], rows[1], 0x44);
  const __m512i b = _mm512_shuffle_i32x4(rows[2], rows[3], 0x44);
  const __m512i c = _mm512_shuffle_i32x4(rows[0], rows[1], 0xEE);
  const __m512i d = _mm512_shuffle_i32x4(rows[2], rows[3], 0xEE);
  _mm512_storeu_si512(out, _mm512_shuffle_i32x4(a, b, 0x88));
  _mm512_storeu_si512(out + quad_bytes, _mm512_shuffle_i32x4(a, b, 0xDD));
  _mm512_storeu_si512(out + 2 * quad_bytes, _mm512_shuffle_i32x4(c, d, 0x88));
  _mm512_storeu_si512(out + 3 * quad_bytes, _mm512_shuffle_i32x4(c, d, 0xDD));
}

/// All sixteen rows, sixteen pixels at a time, as long as 64 bytes can be read; the number of
/// groups made.
SAM2RT_VNNI std::size_t quads_vnni(const std::uint8_t* const* rows, std::size_t pixel_bytes,
                                   std::size_t width, std::uint8_t* out,
                                   std::size_t step) noexcept {
  // twelve bytes of three, or sixteen, go into each quarter, and there each channel together
  const __m512i spread_three =
      _mm512_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
  const __m512i spread_four =
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i spread = pixel_bytes == 3 ? spread_three : spread_four;
  const __m512i order = _mm512_broadcast_i32x4(
      pixel_bytes == 3 ? _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 0, 0, 0, 0)
                       : _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 0, 0, 0, 0));
  std::size_t x = 0;
  for (; x * pixel_bytes + 64 <= width * pixel_bytes; x += 16, out += 4 * quad_bytes) {
    __m512i made[3][4];  // four rows of each channel
    for (std::size_t y = 0; y < 4; ++y) {
      __m512i row[4];
      for (std::size_t i = 0; i < 4; ++i) {
        const __m512i pixels = _mm512_loadu_si512(rows[4 * y + i] + x * pixel_bytes);
        row[i] = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(spread, pixels), order);
      }
      const __m512i a = _mm512_unpacklo_epi32(row[0], row[1]);
      const __m512i b = _mm512_unpacklo_epi32(row[2], row[3]);
      const __m512i c = _mm512_unpackhi_epi32(row[0], row[1]);
      const __m512i d = _mm512_unpackhi_epi32(row[2], row[3]);
      made[0][y] = _mm512_unpacklo_epi64(a, b);
      made[1][y] = _mm512_unpackhi_epi64(a, b);
      made[2][y] = _mm512_unpacklo_epi64(c, d);
    }
    for (std::size_t c = 0; c < 3; ++c) store_groups(made[c], out + c * step);
  }
  return x / 4;
}
#endif

#ifdef SAM2RT_HAS_NEON
/// Four rows, as long as sixteen bytes can be read; the number of groups made.
std::size_t quads_neon(const std::uint8_t* const* rows, std::size_t pixel_bytes,
                       std::size_t width, std::uint8_t* out, std::size_t step) noexcept {
  constexpr std::uint8_t none = 255;  // outside of the table: a zero
  const std::uint8_t of_three[] = {0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, none, none, none, none};
  const std::uint8_t of_four[] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, none, none, none, none};
  const uint8x16_t order = vld1q_u8(pixel_bytes == 3 ? of_three : of_four);
  std::size_t g = 0;
  for (; 4 * g * pixel_bytes + 16 <= width * pixel_bytes; ++g, out += quad_bytes) {
    uint32x4_t row[4];
    for (std::size_t i = 0; i < 4; ++i) {
      const uint8x16_t pixels = vld1q_u8(rows[i] + 4 * g * pixel_bytes);
      row[i] = vreinterpretq_u32_u8(vqtbl1q_u8(pixels, order));
    }
    const auto pair = [](uint32x4_t words) { return vreinterpretq_u64_u32(words); };
    const uint64x2_t a = pair(vzip1q_u32(row[0], row[1])), b = pair(vzip1q_u32(row[2], row[3]));
    const uint64x2_t c = pair(vzip2q_u32(row[0], row[1])), d = pair(vzip2q_u32(row[2], row[3]));
    vst1q_u8(out, vreinterpretq_u8_u64(vzip1q_u64(a, b)));
    vst1q_u8(out + step, vreinterpretq_u8_u64(vzip2q_u64(a, b)));
    vst1q_u8(out + 2 * step, vreinterpretq_u8_u64(vzip1q_u64(c, d)));
  }
  return g;
}
#endif

}  // namespace

void make_quads(const std::array<const std::uint8_t*, quad_lanes>& rows, std::size_t pixel_bytes,
                std::size_t width, QuadLevel level, std::uint8_t* quads,
                std::size_t step) noexcept {
  std::size_t whole = 0;
#ifdef SAM2RT_HAS_AVX2
  if (level == QuadLevel::vnni) whole = quads_vnni(rows.data(), pixel_bytes, width, quads, step);
#endif
  for (std::size_t y = 0; y < quad_lanes; y += 4) {
    std::size_t done = whole;
#ifdef SAM2RT_HAS_AVX2
    if (level == QuadLevel::avx2) {
      done = quads_avx2(rows.data() + y, pixel_bytes, width, quads + 4 * y, step);
    }
#endif
#ifdef SAM2RT_HAS_NEON
    if (level == QuadLevel::neon) {
      done = quads_neon(rows.data() + y, pixel_bytes, width, quads + 4 * y, step);
    }
#endif
    for (std::size_t i = y; i < y + 4; ++i) {
      for (std::size_t x = 4 * done; x < width; x += 4) {
        one_quad(rows[i] + x * pixel_bytes, pixel_bytes, std::min<std::size_t>(4, width - x),
                 quads + x / 4 * quad_bytes + 4 * i, step);
      }
    }
  }
}

}  // namespace sam2rt
