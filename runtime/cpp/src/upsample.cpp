#include "upsample.hpp"

#include <algorithm>

#include "simd.hpp"

namespace sam2rt {

namespace {

SAM2RT_INLINE void lerp_rows(const float* low, const float* high, float weight_low,
                             float weight_high, float* out, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) out[i] = low[i] * weight_low + high[i] * weight_high;
}

void lerp_rows_any(const float* low, const float* high, float wl, float wh, float* out,
                   std::size_t count) {
  lerp_rows(low, high, wl, wh, out, count);
}

#ifdef SAM2RT_HAS_AVX2
SAM2RT_AVX2 void lerp_rows_avx2(const float* low, const float* high, float wl, float wh, float* out,
                                std::size_t count) {
  lerp_rows(low, high, wl, wh, out, count);
}

/// Logits that will not stay in a core's own cache until somebody reads them.
constexpr std::size_t large_plane = std::size_t{1} << 20;

/// As lerp_rows, past the caches: a store into them would first read the line from memory.
SAM2RT_AVX2 void stream_rows_avx2(const float* low, const float* high, float wl, float wh,
                                  float* out, std::size_t count) {
  constexpr std::size_t lanes = 8, alignment = lanes * sizeof(float);
  const std::size_t past = reinterpret_cast<std::uintptr_t>(out) % alignment / sizeof(float);
  const std::size_t first = std::min(count, past == 0 ? 0 : lanes - past);
  lerp_rows(low, high, wl, wh, out, first);
  const __m256 weight_low = _mm256_set1_ps(wl), weight_high = _mm256_set1_ps(wh);
  std::size_t x = first;
  for (; x + lanes <= count; x += lanes) {
    const __m256 part = _mm256_mul_ps(_mm256_loadu_ps(low + x), weight_low);
    const __m256 rest = _mm256_mul_ps(_mm256_loadu_ps(high + x), weight_high);
    _mm256_stream_ps(out + x, _mm256_add_ps(part, rest));
  }
  lerp_rows(low + x, high + x, wl, wh, out + x, count - x);
}
#endif

using LerpRows = void (*)(const float*, const float*, float, float, float*, std::size_t);

/// For the rows of a plane of `count` logits on this processor; the bits are the same in each.
LerpRows lerp_rows_of_plane([[maybe_unused]] std::size_t count) noexcept {
#ifdef SAM2RT_HAS_AVX2
  if (__builtin_cpu_supports("avx2") != 0) {
    return count * sizeof(float) > large_plane ? stream_rows_avx2 : lerp_rows_avx2;
  }
#endif
  return lerp_rows_any;
}

/// Between neighbours of one row; the tables say which, and how much of each.
void spread_any(const float* in, std::size_t, const int* low, const int* high, const float* wl,
                const float* wh, float* out, std::size_t count) {
  for (std::size_t x = 0; x < count; ++x) out[x] = in[low[x]] * wl[x] + in[high[x]] * wh[x];
}

#ifdef SAM2RT_HAS_AVX2
SAM2RT_AVX2 inline __m256i ints(const int* from) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

SAM2RT_AVX2 void spread_avx2(const float* in, std::size_t side, const int* low, const int* high,
                             const float* wl, const float* wh, float* out, std::size_t count) {
  constexpr std::size_t lanes = 8;
  std::size_t x = 0;
  for (; side >= lanes && x + lanes <= count; x += lanes) {
    const int base = std::min(low[x], static_cast<int>(side - lanes));
    if (high[x + lanes - 1] - base >= static_cast<int>(lanes)) {
      // a row that is hardly made longer
      spread_any(in, side, low + x, high + x, wl + x, wh + x, out + x, lanes);
      continue;
    }
    const __m256 near = _mm256_loadu_ps(in + base);
    const __m256i from = _mm256_set1_epi32(base);
    const __m256 a = _mm256_permutevar8x32_ps(near, _mm256_sub_epi32(ints(low + x), from));
    const __m256 b = _mm256_permutevar8x32_ps(near, _mm256_sub_epi32(ints(high + x), from));
    const __m256 part = _mm256_mul_ps(a, _mm256_loadu_ps(wl + x));
    _mm256_storeu_ps(out + x,
                     _mm256_add_ps(part, _mm256_mul_ps(b, _mm256_loadu_ps(wh + x))));
  }
  spread_any(in, side, low + x, high + x, wl + x, wh + x, out + x, count - x);
}
#endif

#ifdef SAM2RT_HAS_NEON
/// Of eight neighbours those that `indices` names.
SAM2RT_INLINE float32x4_t chosen_neon(uint8x16x2_t eight, int32x4_t indices) noexcept {
  // the four bytes of each
  const int32x4_t bytes = vmlaq_n_s32(vdupq_n_s32(0x03020100), indices, 0x04040404);
  return vreinterpretq_f32_u8(vqtbl2q_u8(eight, vreinterpretq_u8_s32(bytes)));
}

void spread_neon(const float* in, std::size_t side, const int* low, const int* high,
                 const float* wl, const float* wh, float* out, std::size_t count) {
  constexpr std::size_t near = 8, lanes = 4;
  std::size_t x = 0;
  for (; side >= near && x + lanes <= count; x += lanes) {
    const int base = std::min(low[x], static_cast<int>(side - near));
    if (high[x + lanes - 1] - base >= static_cast<int>(near)) {
      // a row that is hardly made longer
      spread_any(in, side, low + x, high + x, wl + x, wh + x, out + x, lanes);
      continue;
    }
    const uint8x16x2_t eight = {{vreinterpretq_u8_f32(vld1q_f32(in + base)),
                                 vreinterpretq_u8_f32(vld1q_f32(in + base + lanes))}};
    const int32x4_t from = vdupq_n_s32(base);
    const float32x4_t a = chosen_neon(eight, vsubq_s32(vld1q_s32(low + x), from));
    const float32x4_t b = chosen_neon(eight, vsubq_s32(vld1q_s32(high + x), from));
    // two roundings, as everywhere
    const float32x4_t part = vmulq_f32(a, vld1q_f32(wl + x));
    vst1q_f32(out + x, vaddq_f32(part, vmulq_f32(b, vld1q_f32(wh + x))));
  }
  spread_any(in, side, low + x, high + x, wl + x, wh + x, out + x, count - x);
}
#endif

/// On this processor; the bits are the same on each.
void spread(const float* in, std::size_t side, const int* low, const int* high, const float* wl,
            const float* wh, float* out, std::size_t count) {
#ifdef SAM2RT_HAS_NEON
  spread_neon(in, side, low, high, wl, wh, out, count);
#else
  SAM2RT_DISPATCH(spread, in, side, low, high, wl, wh, out, count);
#endif
}

}  // namespace

void Upsampler::Lerp::prepare(int from, int to) {
  if (from == n_in && to == n_out) return;
  const auto count = static_cast<std::size_t>(to);
  low.resize(count), high.resize(count), weight_low.resize(count), weight_high.resize(count);
  // rounded once, as torch's fused multiply-add does
  const double scale = static_cast<double>(static_cast<float>(from) / static_cast<float>(to));
  for (std::size_t i = 0; i < count; ++i) {
    const double exact = scale * (static_cast<double>(i) + 0.5) - 0.5;
    const float source = std::max(static_cast<float>(exact), 0.0F);
    low[i] = std::min(static_cast<int>(source), from - 1);
    high[i] = std::min(low[i] + 1, from - 1);
    weight_high[i] = std::clamp(source - static_cast<float>(low[i]), 0.0F, 1.0F);
    weight_low[i] = 1.0F - weight_high[i];
  }
  n_in = from;
  n_out = to;
}

void Upsampler::prepare(const float* logits, int side, FrameSize to) {
  x_.prepare(side, to.width);
  y_.prepare(side, to.height);
  const auto rows = static_cast<std::size_t>(side), width = static_cast<std::size_t>(to.width);
  wide_.resize(rows * width);
  for (std::size_t y = 0; y < rows; ++y) {
    spread(logits + y * rows, rows, x_.low.data(), x_.high.data(), x_.weight_low.data(),
           x_.weight_high.data(), wide_.data() + y * width, width);
  }
}

void Upsampler::run(const float* logits, int side, FrameSize to, float* out) {
  prepare(logits, side, to);
  const auto width = static_cast<std::size_t>(to.width);
  const auto height = static_cast<std::size_t>(to.height);
  const LerpRows lerp = lerp_rows_of_plane(width * height);
  for (std::size_t y = 0; y < height; ++y) {
    const float* low = wide_.data() + static_cast<std::size_t>(y_.low[y]) * width;
    const float* high = wide_.data() + static_cast<std::size_t>(y_.high[y]) * width;
    lerp(low, high, y_.weight_low[y], y_.weight_high[y], out + y * width, width);
  }
#ifdef SAM2RT_HAS_AVX2
  if (lerp == stream_rows_avx2) _mm_sfence();  // before another thread may read them
#endif
}

void Upsampler::run_mask(const float* logits, int side, FrameSize to, float threshold,
                         std::uint8_t* out) {
  prepare(logits, side, to);
  const auto width = static_cast<std::size_t>(to.width);
  row_.resize(width);
  for (std::size_t y = 0; y < static_cast<std::size_t>(to.height); ++y) {
    const float* low = wide_.data() + static_cast<std::size_t>(y_.low[y]) * width;
    const float* high = wide_.data() + static_cast<std::size_t>(y_.high[y]) * width;
    SAM2RT_DISPATCH(lerp_rows, low, high, y_.weight_low[y], y_.weight_high[y], row_.data(), width);
    for (std::size_t x = 0; x < width; ++x) out[y * width + x] = row_[x] > threshold ? 1 : 0;
  }
}

void without_overlap(float* logits, std::size_t objects, std::size_t plane) noexcept {
  if (objects < 2) return;
  for (std::size_t i = 0; i < plane; ++i) {
    std::size_t winner = 0;
    for (std::size_t n = 1; n < objects; ++n) {
      if (logits[n * plane + i] > logits[winner * plane + i]) winner = n;
    }
    for (std::size_t n = 0; n < objects; ++n) {
      if (n != winner) logits[n * plane + i] = std::min(logits[n * plane + i], -10.0F);
    }
  }
}

}  // namespace sam2rt
