#include "frame_tensor.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "simd.hpp"

namespace sam2rt {

namespace {

/// Bytes of rows worked on at a time.
constexpr std::size_t block = quad_lanes;

/// One output row: `blocks` times `block` neighbouring results, each the weighted sum of bytes
/// `tap_step` apart.
struct Pass {
  const std::uint8_t* in;
  std::size_t tap_step;
  const std::int32_t* weights;
  int count;
  std::size_t blocks;
  std::uint8_t* out;
};

void convolve_any(const std::uint8_t* in, std::size_t step, const std::int32_t* weights, int count,
                  std::uint8_t* out) {
  std::int32_t sums[block];
  for (std::size_t i = 0; i < block; ++i) sums[i] = 1 << (precision_bits - 1);
  for (int t = 0; t < count; ++t, in += step) {
    for (std::size_t i = 0; i < block; ++i) sums[i] += weights[t] * in[i];
  }
  for (std::size_t i = 0; i < block; ++i) {
    out[i] = static_cast<std::uint8_t>(std::clamp(sums[i] >> precision_bits, 0, 255));
  }
}

#ifdef SAM2RT_HAS_AVX2
SAM2RT_AVX2 inline __m256i eight(const std::uint8_t* bytes) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
}

SAM2RT_AVX2 void convolve_avx2(const std::uint8_t* in, std::size_t step,
                               const std::int32_t* weights, int count, std::uint8_t* out) {
  __m256i low = _mm256_set1_epi32(1 << (precision_bits - 1)), high = low;
  for (int t = 0; t < count; ++t, in += step) {
    const __m256i weight = _mm256_set1_epi32(weights[t]);
    low = _mm256_add_epi32(low, _mm256_mullo_epi32(eight(in), weight));
    high = _mm256_add_epi32(high, _mm256_mullo_epi32(eight(in + 8), weight));
  }
  low = _mm256_srai_epi32(low, precision_bits);
  high = _mm256_srai_epi32(high, precision_bits);
  // packing saturates to 0..255
  const __m128i first = _mm_packs_epi32(_mm256_castsi256_si128(low),
                                        _mm256_extracti128_si256(low, 1));
  const __m128i second = _mm_packs_epi32(_mm256_castsi256_si128(high),
                                         _mm256_extracti128_si256(high, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_packus_epi16(first, second));
}
#endif

/// All results share the weights, each block lies a block further.
void across(const Pass& pass) {
  for (std::size_t i = 0; i < pass.blocks; ++i) {
    SAM2RT_DISPATCH(convolve, pass.in + i * block, pass.tap_step, pass.weights, pass.count,
                    pass.out + i * block);
  }
}

}  // namespace

FrameTensor::FrameTensor(int image_size, QuadLevel level) : size_(image_size), level_(level) {}

void FrameTensor::run(const FrameView& frame, float* out) {
  rows_.open(frame);
  x_.prepare(frame.width, size_);
  y_.prepare(frame.height, size_);
  narrowing_.prepare(x_, level_);
  // Pillow 13 begins with the columns where that leaves less to do; the rounding between the two
  // passes makes the order visible
  if (frame.height > size_ && 2 * std::int64_t{frame.width} < std::int64_t{frame.height} + size_) {
    const Rows rows = shortened(frame);
    narrow(frame.width, size_, &rows);
    // weights of one change nothing
    same_.prepare(size_, size_);
    finishing_.prepare(same_, level_);
    finish(size_, out);
  } else {
    narrow(frame.width, frame.height, nullptr);
    finishing_.prepare(y_, level_);
    finish(frame.height, out);
  }
}

Rows FrameTensor::shortened(const FrameView& frame) {
  Rows rows = rows_.take(0, frame.height);
  const std::size_t bytes = static_cast<std::size_t>(frame.width) * rows.pixel_bytes;
  const auto height = static_cast<std::size_t>(frame.height);
  if (bytes < block) {
    padded_.assign(height * block, 0);
    for (std::size_t y = 0; y < height; ++y) {
      std::memcpy(padded_.data() + y * block, rows.data + y * rows.stride, bytes);
    }
    rows.data = padded_.data();
    rows.stride = block;
  }
  const std::size_t used = std::max(bytes, block), whole = used / block;
  short_.resize(static_cast<std::size_t>(size_) * used);
  for (std::size_t y = 0; y < static_cast<std::size_t>(size_); ++y) {
    const auto most = static_cast<std::size_t>(y_.most);
    const std::int32_t* weights = y_.weights.data() + y * most;
    const std::uint8_t* in = rows.data + static_cast<std::size_t>(y_.first[y]) * rows.stride;
    std::uint8_t* out = short_.data() + y * used;
    across({in, rows.stride, weights, y_.count[y], whole, out});
    // the rest of a row: its last block again, from where it ends
    const std::size_t last = used - block;
    across({in + last, rows.stride, weights, y_.count[y], 1, out + last});
  }
  rows.data = short_.data();
  rows.stride = used;
  return rows;
}

void FrameTensor::narrow(int frame_width, int frame_height, const Rows* whole) {
  const auto width = static_cast<std::size_t>(frame_width), size = static_cast<std::size_t>(size_);
  const auto height = static_cast<std::size_t>(frame_height);
  const std::size_t step = (width + 3) / 4 * quad_bytes;
  const std::size_t groups = (height + block - 1) / block * block / 4;
  quads_.resize(3 * step);
  narrow_.resize(3 * groups * size * 4);
  for (std::size_t top = 0; top < height; top += block) {
    const std::size_t count = std::min(block, height - top);
    Rows rows;
    if (whole == nullptr) {
      rows = rows_.take(static_cast<int>(top), static_cast<int>(count));
    } else {
      rows = *whole;
      rows.data += top * rows.stride;
    }
    std::array<const std::uint8_t*, block> sources{};
    for (std::size_t i = 0; i < block; ++i) {
      sources[i] = rows.data + std::min(i, count - 1) * rows.stride;
    }
    make_quads(sources, rows.pixel_bytes, width, level_, quads_.data(), step);
    std::array<const std::uint8_t*, 3> channels{};
    for (std::size_t c = 0; c < 3; ++c) channels[c] = quads_.data() + rows.offset[c] * step;
    narrowing_.along(channels, narrow_.data() + top / 4 * size * 4, size * 4, groups * size * 4);
  }
}

void FrameTensor::finish(int frame_height, float* out) {
  const auto height = static_cast<std::size_t>(frame_height);
  const auto size = static_cast<std::size_t>(size_);
  const std::size_t groups = (height + block - 1) / block * block / 4;
  for (std::size_t c = 0; c < 3; ++c) {
    const std::uint8_t* plane = narrow_.data() + c * groups * size * 4;
    for (std::size_t y = 0; y < size; ++y) {
      finishing_.across(plane, size, y, c, out + (c * size + y) * size);
    }
  }
}

}  // namespace sam2rt
