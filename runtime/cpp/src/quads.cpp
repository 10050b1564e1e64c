#include "quads.hpp"

#include <algorithm>
#include <cstring>

#include "normalise.hpp"
#include "simd.hpp"

namespace sam2rt {

namespace {

constexpr std::int32_t half = 1 << (precision_bits - 1);

void sum_any(const std::uint8_t* in, std::size_t step, const QuadTaps::Position& at,
             std::int32_t* sums) noexcept {
  std::fill(sums, sums + quad_lanes, half);
  for (std::size_t g = 0; g < at.groups; ++g, in += step) {
    for (std::size_t i = 0; i < quad_lanes; ++i) {
      for (std::size_t t = 0; t < 4; ++t) sums[i] += at.weights[4 * g + t] * in[4 * i + t];
    }
  }
  for (std::size_t i = 0; i < quad_lanes; ++i) {
    sums[i] = std::clamp(sums[i] >> precision_bits, 0, 255);
  }
}

void store_quads(const std::uint8_t* sixteen, std::uint8_t* out, std::size_t step) noexcept {
  for (std::size_t i = 0; i < 4; ++i) std::memcpy(out + i * step, sixteen + 4 * i, 4);
}

void along_any(const QuadTaps& taps, const std::uint8_t* quads, std::uint8_t* out,
               std::size_t out_step) noexcept {
  std::int32_t sums[quad_lanes];
  std::uint8_t bytes[quad_lanes];
  for (std::size_t i = 0; i < taps.positions(); ++i, out += 4) {
    const auto at = taps.at(i);
    sum_any(quads + at.group * quad_bytes, quad_bytes, at, sums);
    for (std::size_t k = 0; k < quad_lanes; ++k) bytes[k] = static_cast<std::uint8_t>(sums[k]);
    store_quads(bytes, out, out_step);
  }
}

void across_any(const QuadTaps::Position& at, const std::uint8_t* quads, std::size_t width,
                const float* table, float* out) noexcept {
  std::int32_t sums[quad_lanes];
  for (std::size_t x = 0; x < width; x += quad_lanes) {
    sum_any(quads + (at.group * width + x) * 4, width * 4, at, sums);
    for (std::size_t i = 0; i < quad_lanes; ++i) out[x + i] = table[sums[i]];
  }
}

#ifdef SAM2RT_HAS_AVX2
SAM2RT_AVX2 SAM2RT_INLINE __m256i four_rows(__m256i high, __m256i low) noexcept {
  return _mm256_add_epi32(_mm256_slli_epi32(high, 12), low);
}

/// Sums of sixteen neighbours, not yet clamped: 0 to 3 and 8 to 11, then 4 to 7 and 12 to 15.
SAM2RT_AVX2 SAM2RT_INLINE void sum_avx2(const std::uint8_t* in, std::size_t step,
                                        const QuadTaps::Position& at, __m256i* sums) noexcept {
  __m256i high[4], low[4];
  for (int i = 0; i < 4; ++i) high[i] = low[i] = _mm256_setzero_si256();
  for (std::size_t g = 0; g < at.groups; ++g, in += step) {
    const __m256i weight_high = _mm256_set1_epi64x(at.halves[2 * g]);
    const __m256i weight_low = _mm256_set1_epi64x(at.halves[2 * g + 1]);
    for (int i = 0; i < 4; ++i) {
      const __m256i rows = _mm256_cvtepu8_epi16(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(in) + i));
      high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(rows, weight_high));
      low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(rows, weight_low));
    }
  }
  const __m256i first = _mm256_hadd_epi32(four_rows(high[0], low[0]), four_rows(high[2], low[2]));
  const __m256i second = _mm256_hadd_epi32(four_rows(high[1], low[1]), four_rows(high[3], low[3]));
  const __m256i rounding = _mm256_set1_epi32(half);
  // 0 1 8 9 2 3 10 11 and 4 5 12 13 6 7 14 15 become 0 1 2 3 8 9 10 11 and 4 5 6 7 12 13 14 15
  sums[0] = _mm256_permute4x64_epi64(_mm256_add_epi32(first, rounding), 0xD8);
  sums[1] = _mm256_permute4x64_epi64(_mm256_add_epi32(second, rounding), 0xD8);
  for (int i = 0; i < 2; ++i) sums[i] = _mm256_srai_epi32(sums[i], precision_bits);
}

/// As sixteen bytes in order.
SAM2RT_AVX2 SAM2RT_INLINE __m128i bytes_avx2(const __m256i* sums) noexcept {
  // packing saturates to 0..255, and works on each half of a register by itself
  const __m256i words = _mm256_packs_epi32(sums[0], sums[1]);
  const __m256i bytes = _mm256_packus_epi16(words, words);
  return _mm_unpacklo_epi64(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
}

SAM2RT_AVX2 void along_avx2(const QuadTaps& taps, const std::uint8_t* quads, std::uint8_t* out,
                            std::size_t out_step) noexcept {
  alignas(16) std::uint8_t bytes[quad_lanes];
  for (std::size_t i = 0; i < taps.positions(); ++i, out += 4) {
    const auto at = taps.at(i);
    __m256i sums[2];
    sum_avx2(quads + at.group * quad_bytes, quad_bytes, at, sums);
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes), bytes_avx2(sums));
    store_quads(bytes, out, out_step);
  }
}

SAM2RT_AVX2 void across_avx2(const QuadTaps::Position& at, const std::uint8_t* quads,
                             std::size_t width, const float* table, float* out) noexcept {
  alignas(16) std::uint8_t bytes[quad_lanes];
  for (std::size_t x = 0; x < width; x += quad_lanes) {
    __m256i sums[2];
    sum_avx2(quads + (at.group * width + x) * 4, width * 4, at, sums);
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes), bytes_avx2(sums));
    for (std::size_t i = 0; i < quad_lanes; ++i) out[x + i] = table[bytes[i]];
  }
}

/// Of sixteen neighbours, in three parts.
struct Sums {
  __m512i high, middle, low;
};
/// Four weights for each of them, in three parts.
struct Weights {
  __m512i high, middle, low;
};

SAM2RT_VNNI SAM2RT_INLINE Sums no_sums() noexcept {
  return {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_set1_epi32(half)};
}

SAM2RT_VNNI SAM2RT_INLINE Weights weights_of(const std::int32_t* bytes) noexcept {
  return {_mm512_set1_epi32(bytes[0]), _mm512_set1_epi32(bytes[1]), _mm512_set1_epi32(bytes[2])};
}

SAM2RT_VNNI SAM2RT_INLINE void add_rows(Sums& sums, const std::uint8_t* in,
                                        const Weights& weights) noexcept {
  const __m512i rows = _mm512_loadu_si512(in);
  sums.high = _mm512_dpbusd_epi32(sums.high, rows, weights.high);
  sums.middle = _mm512_dpbusd_epi32(sums.middle, rows, weights.middle);
  sums.low = _mm512_dpbusd_epi32(sums.low, rows, weights.low);
}

/// Not yet clamped to 0..255.
SAM2RT_VNNI SAM2RT_INLINE __m512i whole_of(const Sums& sums) noexcept {
  const __m512i upper =
      _mm512_slli_epi32(_mm512_add_epi32(_mm512_slli_epi32(sums.high, 8), sums.middle), 8);
  return _mm512_srai_epi32(_mm512_add_epi32(upper, sums.low), precision_bits);
}

/// Four positions of sixteen rows -> four rows of quads, `step` apart.
SAM2RT_VNNI SAM2RT_INLINE void store_four(const __m512i* position, std::uint8_t* out,
                                          std::size_t step) noexcept {
  // packing saturates to 0..255, and keeps in each quarter what four rows have there
  const __m512i quads = _mm512_packus_epi16(_mm512_packs_epi32(position[0], position[1]),
                                            _mm512_packs_epi32(position[2], position[3]));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_castsi512_si128(quads));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + step), _mm512_extracti32x4_epi32(quads, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * step), _mm512_extracti32x4_epi32(quads, 2));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 3 * step), _mm512_extracti32x4_epi32(quads, 3));
}

/// Of three channels, which share the weights.
SAM2RT_VNNI void along_vnni(const QuadTaps& taps,
                            const std::array<const std::uint8_t*, 3>& quads, std::uint8_t* out,
                            std::size_t out_step, std::size_t channel_step) noexcept {
  // the number of positions is a multiple of four
  for (std::size_t first = 0; first < taps.positions(); first += 4, out += 16) {
    __m512i made[3][4];
    for (std::size_t i = 0; i < 4; ++i) {
      const auto at = taps.at(first + i);
      Sums red = no_sums(), green = no_sums(), blue = no_sums();
      const std::int32_t* bytes = at.bytes;
      std::size_t offset = at.group * quad_bytes;
      const std::size_t end = offset + at.groups * quad_bytes;
      do {
        const Weights weights = weights_of(bytes);
        add_rows(red, quads[0] + offset, weights);
        add_rows(green, quads[1] + offset, weights);
        add_rows(blue, quads[2] + offset, weights);
        offset += quad_bytes;
        bytes += 3;
      } while (offset != end);
      made[0][i] = whole_of(red);
      made[1][i] = whole_of(green);
      made[2][i] = whole_of(blue);
    }
    for (std::size_t c = 0; c < 3; ++c) store_four(made[c], out + c * channel_step, out_step);
  }
}

/// Divided by the same number everywhere; of the quotient `value / by` and of what is left of it
/// after a first guess the nearest float is made (Markstein), where a division takes ten times as long.
struct Divisor {
  __m512 by, reciprocal;
};

SAM2RT_VNNI SAM2RT_INLINE Divisor divisor(float by) noexcept {
  return {_mm512_set1_ps(by), _mm512_set1_ps(1.0F / by)};
}

SAM2RT_VNNI SAM2RT_INLINE __m512 divided(__m512 value, const Divisor& divisor) noexcept {
  const __m512 guess = _mm512_mul_ps(value, divisor.reciprocal);
  const __m512 left = _mm512_fnmadd_ps(divisor.by, guess, value);
  return _mm512_fmadd_ps(left, divisor.reciprocal, guess);
}

SAM2RT_VNNI void across_vnni(const QuadTaps::Position& at, const std::uint8_t* quads,
                             std::size_t width, std::size_t channel, float* out) noexcept {
  // the tests hold all 256 results of each channel against the table's
  const Divisor most = divisor(255), deviation = divisor(pixel_deviation[channel]);
  const __m512 mean = _mm512_set1_ps(pixel_mean[channel]);
  // two at a time share the weights; a width is a multiple of both
  for (std::size_t x = 0; x < width; x += 2 * quad_lanes) {
    const std::uint8_t* in = quads + (at.group * width + x) * 4;
    Sums left = no_sums(), right = no_sums();
    for (std::size_t g = 0; g < at.groups; ++g, in += width * 4) {
      const Weights weights = weights_of(at.bytes + 3 * g);
      add_rows(left, in, weights);
      add_rows(right, in + quad_bytes, weights);
    }
    for (const Sums& sums : {left, right}) {
      const __m512i above = _mm512_max_epi32(whole_of(sums), _mm512_setzero_si512());
      const __m512i byte = _mm512_min_epi32(above, _mm512_set1_epi32(255));
      const __m512 share = divided(_mm512_cvtepi32_ps(byte), most);
      _mm512_storeu_ps(out, divided(_mm512_sub_ps(share, mean), deviation));
      out += quad_lanes;
    }
  }
}
#endif

#ifdef SAM2RT_HAS_NEON
/// Sums of four neighbours whose four products each are in one register, as words of 0 to 255.
SAM2RT_INLINE uint16x4_t words_neon(const int32x4_t* products) noexcept {
  const int32x4_t sums = vpaddq_s32(vpaddq_s32(products[0], products[1]),
                                    vpaddq_s32(products[2], products[3]));
  const int32x4_t shifted = vshrq_n_s32(vaddq_s32(sums, vdupq_n_s32(half)), precision_bits);
  return vmin_u16(vqmovun_s32(shifted), vdup_n_u16(255));
}

/// Sixteen neighbours, as bytes in order.
SAM2RT_INLINE uint8x16_t sum_neon(const std::uint8_t* in, std::size_t step,
                                  const QuadTaps::Position& at) noexcept {
  int32x4_t products[quad_lanes];
  for (auto& product : products) product = vdupq_n_s32(0);
  for (std::size_t g = 0; g < at.groups; ++g, in += step) {
    const int32x4_t weights = vld1q_s32(at.weights + 4 * g);
    for (std::size_t i = 0; i < quad_lanes; i += 4) {
      const uint8x16_t four = vld1q_u8(in + 4 * i);
      const uint16x8_t low = vmovl_u8(vget_low_u8(four)), high = vmovl_high_u8(four);
      const uint32x4_t taps[4] = {vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low),
                                  vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high)};
      for (std::size_t k = 0; k < 4; ++k) {
        products[i + k] = vmlaq_s32(products[i + k], vreinterpretq_s32_u32(taps[k]), weights);
      }
    }
  }
  const uint16x8_t first = vcombine_u16(words_neon(products), words_neon(products + 4));
  const uint16x8_t second = vcombine_u16(words_neon(products + 8), words_neon(products + 12));
  return vcombine_u8(vmovn_u16(first), vmovn_u16(second));
}

void along_neon(const QuadTaps& taps, const std::uint8_t* quads, std::uint8_t* out,
                std::size_t out_step) noexcept {
  std::uint8_t bytes[quad_lanes];
  for (std::size_t i = 0; i < taps.positions(); ++i, out += 4) {
    const auto at = taps.at(i);
    vst1q_u8(bytes, sum_neon(quads + at.group * quad_bytes, quad_bytes, at));
    store_quads(bytes, out, out_step);
  }
}

void across_neon(const QuadTaps::Position& at, const std::uint8_t* quads, std::size_t width,
                 const float* table, float* out) noexcept {
  std::uint8_t bytes[quad_lanes];
  for (std::size_t x = 0; x < width; x += quad_lanes) {
    vst1q_u8(bytes, sum_neon(quads + (at.group * width + x) * 4, width * 4, at));
    for (std::size_t i = 0; i < quad_lanes; ++i) out[x + i] = table[bytes[i]];
  }
}
#endif

}  // namespace

QuadLevel best_quad_level() noexcept {
#ifdef SAM2RT_HAS_NEON
  return QuadLevel::neon;
#endif
#ifdef SAM2RT_HAS_AVX2
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) {
    return QuadLevel::vnni;
  }
  if (__builtin_cpu_supports("avx2")) return QuadLevel::avx2;
#endif
  return QuadLevel::any;
}

void QuadTaps::along(const std::array<const std::uint8_t*, 3>& quads, std::uint8_t* out,
                     std::size_t out_step, std::size_t channel_step) const {
#ifdef SAM2RT_HAS_AVX2
  if (level_ == QuadLevel::vnni) return along_vnni(*this, quads, out, out_step, channel_step);
#endif
  for (const std::uint8_t* channel : quads) {
#ifdef SAM2RT_HAS_AVX2
    if (level_ == QuadLevel::avx2) along_avx2(*this, channel, out, out_step);
#endif
#ifdef SAM2RT_HAS_NEON
    if (level_ == QuadLevel::neon) along_neon(*this, channel, out, out_step);
#endif
    if (level_ == QuadLevel::any) along_any(*this, channel, out, out_step);
    out += channel_step;
  }
}

void QuadTaps::across(const std::uint8_t* quads, std::size_t width, std::size_t position,
                      std::size_t channel, float* out) const {
  const float* table = normalised_bytes(channel).data();
#ifdef SAM2RT_HAS_AVX2
  if (level_ == QuadLevel::vnni) return across_vnni(at(position), quads, width, channel, out);
  if (level_ == QuadLevel::avx2) return across_avx2(at(position), quads, width, table, out);
#endif
#ifdef SAM2RT_HAS_NEON
  if (level_ == QuadLevel::neon) return across_neon(at(position), quads, width, table, out);
#endif
  across_any(at(position), quads, width, table, out);
}

}  // namespace sam2rt
