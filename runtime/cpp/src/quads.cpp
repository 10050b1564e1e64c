#include "quads.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "simd.hpp"

namespace sam2rt {

namespace {

constexpr std::int32_t half = 1 << (precision_bits - 1);

double bicubic(double x) noexcept {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

/// Four numbers of `bits` bits each in one, the first lowest.
template <class Packed>
Packed packed(const std::int32_t* four, int bits) noexcept {
  std::uint64_t all = 0;
  for (int i = 0; i < 4; ++i) {
    const std::uint64_t part = static_cast<std::uint64_t>(four[i]) & ((1ULL << bits) - 1);
    all |= part << (i * bits);
  }
  return static_cast<Packed>(all);
}

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
#  define SAM2RT_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

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

SAM2RT_VNNI SAM2RT_INLINE __m128i bytes_of(const Sums& sums) noexcept {
  const __m512i upper =
      _mm512_slli_epi32(_mm512_add_epi32(_mm512_slli_epi32(sums.high, 8), sums.middle), 8);
  const __m512i sum = _mm512_srai_epi32(_mm512_add_epi32(upper, sums.low), precision_bits);
  return _mm512_cvtusepi32_epi8(_mm512_max_epi32(sum, _mm512_setzero_si512()));
}

/// Sums of sixteen neighbours in three channels, which share the weights.
SAM2RT_VNNI void along_vnni(const QuadTaps& taps,
                            const std::array<const std::uint8_t*, 3>& quads, std::uint8_t* out,
                            std::size_t out_step, std::size_t channel_step) noexcept {
  alignas(16) std::uint8_t bytes[quad_lanes];
  for (std::size_t i = 0; i < taps.positions(); ++i, out += 4) {
    const auto at = taps.at(i);
    Sums sums[3];
    for (Sums& channel : sums) channel = no_sums();
    for (std::size_t g = 0; g < at.groups; ++g) {
      const Weights weights = weights_of(at.bytes + 3 * g);
      const std::size_t offset = (at.group + g) * quad_bytes;
      for (std::size_t c = 0; c < 3; ++c) add_rows(sums[c], quads[c] + offset, weights);
    }
    for (std::size_t c = 0; c < 3; ++c) {
      _mm_store_si128(reinterpret_cast<__m128i*>(bytes), bytes_of(sums[c]));
      store_quads(bytes, out + c * channel_step, out_step);
    }
  }
}

/// What sixteen bytes stand for in a table of 256 floats that lies in registers.
SAM2RT_VNNI SAM2RT_INLINE __m512 looked_up(const __m512* table, __m128i bytes) noexcept {
  const __m512i at = _mm512_cvtepu8_epi32(bytes);
  __m512 part[8];
  // each permutation looks at the five lowest bits
  for (int i = 0; i < 8; ++i) part[i] = _mm512_permutex2var_ps(table[2 * i], at, table[2 * i + 1]);
  for (int bit = 5, count = 4; bit < 8; ++bit, count /= 2) {
    const __mmask16 set = _mm512_test_epi32_mask(at, _mm512_set1_epi32(1 << bit));
    for (int i = 0; i < count; ++i) {
      part[i] = _mm512_mask_blend_ps(set, part[2 * i], part[2 * i + 1]);
    }
  }
  return part[0];
}

SAM2RT_VNNI void across_vnni(const QuadTaps::Position& at, const std::uint8_t* quads,
                             std::size_t width, const float* table, float* out) noexcept {
  // bytes first: the table takes half of all registers
  constexpr std::size_t stretch = 256;
  alignas(64) std::uint8_t line[stretch];
  for (std::size_t left = 0; left < width; left += stretch) {
    const std::size_t count = std::min(stretch, width - left);
    for (std::size_t x = 0; x < count; x += quad_lanes) {
      const std::uint8_t* in = quads + (at.group * width + left + x) * 4;
      Sums sums = no_sums();
      for (std::size_t g = 0; g < at.groups; ++g, in += width * 4) {
        add_rows(sums, in, weights_of(at.bytes + 3 * g));
      }
      _mm_store_si128(reinterpret_cast<__m128i*>(line + x), bytes_of(sums));
    }
    __m512 held[16];
    for (int i = 0; i < 16; ++i) held[i] = _mm512_loadu_ps(table + 16 * i);
    for (std::size_t x = 0; x < count; x += quad_lanes) {
      const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(line + x));
      _mm512_storeu_ps(out + left + x, looked_up(held, bytes));
    }
  }
}
#endif

}  // namespace

QuadLevel best_quad_level() noexcept {
#ifdef SAM2RT_HAS_AVX2
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) {
    return QuadLevel::vnni;
  }
  if (__builtin_cpu_supports("avx2")) return QuadLevel::avx2;
#endif
  return QuadLevel::any;
}

void Taps::prepare(int from, int to) {
  if (from == n_in && to == n_out) return;
  const double scale = static_cast<double>(from) / to;
  const double filter_scale = std::max(scale, 1.0);
  const double support = 2.0 * filter_scale;
  most = static_cast<int>(std::ceil(support)) * 2 + 1;
  const auto positions = static_cast<std::size_t>(to), width = static_cast<std::size_t>(most);
  first.resize(positions), count.resize(positions), weights.assign(positions * width, 0);
  std::vector<double> exact(width);
  for (std::size_t i = 0; i < positions; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const double inverse = 1.0 / filter_scale;
    first[i] = std::max(static_cast<int>(centre - support + 0.5), 0);
    count[i] = std::min(static_cast<int>(centre + support + 0.5), from) - first[i];
    double total = 0.0;
    for (int t = 0; t < count[i]; ++t) {
      exact[static_cast<std::size_t>(t)] = bicubic((t + first[i] - centre + 0.5) * inverse);
      total += exact[static_cast<std::size_t>(t)];
    }
    for (int t = 0; t < count[i]; ++t) {
      double weight = exact[static_cast<std::size_t>(t)];
      if (total != 0.0) weight /= total;
      const double fixed = weight * (1 << precision_bits);
      weights[i * width + static_cast<std::size_t>(t)] =
          static_cast<std::int32_t>(weight < 0 ? fixed - 0.5 : fixed + 0.5);
    }
  }
  n_in = from;
  n_out = to;
}

void QuadTaps::prepare(const Taps& taps, QuadLevel level) {
  const auto positions = static_cast<std::size_t>(taps.n_out);
  if (taps.n_in == n_in_ && positions == group_.size() && level == level_) return;
  most_ = static_cast<std::size_t>(taps.most + 3 + 3) / 4;
  group_.resize(positions), groups_.resize(positions);
  weights_.assign(positions * most_ * 4, 0);
  bytes_.assign(positions * most_ * 3, 0);
  halves_.assign(positions * most_ * 2, 0);
  for (std::size_t i = 0; i < positions; ++i) {
    const auto first = static_cast<std::size_t>(taps.first[i]);
    const auto count = static_cast<std::size_t>(taps.count[i]);
    group_[i] = first / 4;
    groups_[i] = (first % 4 + count + 3) / 4;
    std::int32_t* weights = weights_.data() + i * most_ * 4;
    std::copy_n(taps.weights.data() + i * static_cast<std::size_t>(taps.most), count,
                weights + first % 4);
    for (std::size_t g = 0; g < groups_[i]; ++g, weights += 4) {
      std::int32_t high[4], middle[4], low[4], upper[4], lower[4];
      for (int t = 0; t < 4; ++t) {
        // signed bytes: what a lower one lacks the higher one has
        low[t] = static_cast<std::int8_t>(weights[t] & 255);
        const std::int32_t rest = (weights[t] - low[t]) / 256;
        middle[t] = static_cast<std::int8_t>(rest & 255);
        high[t] = (rest - middle[t]) / 256;
        lower[t] = weights[t] & 4095;
        upper[t] = (weights[t] - lower[t]) / 4096;
      }
      std::int32_t* bytes = bytes_.data() + (i * most_ + g) * 3;
      bytes[0] = packed<std::int32_t>(high, 8);
      bytes[1] = packed<std::int32_t>(middle, 8);
      bytes[2] = packed<std::int32_t>(low, 8);
      halves_[(i * most_ + g) * 2] = packed<std::int64_t>(upper, 16);
      halves_[(i * most_ + g) * 2 + 1] = packed<std::int64_t>(lower, 16);
    }
  }
  n_in_ = taps.n_in;
  level_ = level;
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
    if (level_ == QuadLevel::any) along_any(*this, channel, out, out_step);
    out += channel_step;
  }
}

void QuadTaps::across(const std::uint8_t* quads, std::size_t width, std::size_t position,
                      const float* table, float* out) const {
#ifdef SAM2RT_HAS_AVX2
  if (level_ == QuadLevel::vnni) return across_vnni(at(position), quads, width, table, out);
  if (level_ == QuadLevel::avx2) return across_avx2(at(position), quads, width, table, out);
#endif
  across_any(at(position), quads, width, table, out);
}

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
SAM2RT_AVX2 std::size_t four_rows_of_quads(const std::uint8_t* const* rows,
                                           std::size_t pixel_bytes, std::size_t width,
                                           std::uint8_t* out, std::size_t step) noexcept {
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
#endif

}  // namespace

void make_quads(const std::array<const std::uint8_t*, quad_lanes>& rows, std::size_t pixel_bytes,
                std::size_t width, std::uint8_t* quads, std::size_t step) noexcept {
  for (std::size_t y = 0; y < quad_lanes; y += 4) {
    std::size_t done = 0;
#ifdef SAM2RT_HAS_AVX2
    if (__builtin_cpu_supports("avx2")) {
      done = four_rows_of_quads(rows.data() + y, pixel_bytes, width, quads + 4 * y, step);
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
