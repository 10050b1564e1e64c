#include "frame_tensor.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "normalise.hpp"
#include "simd.hpp"
#include "transpose.hpp"

namespace sam2rt {

namespace {

/// Pillow's fixed point for 8 bits: 32 - 8 - 2.
constexpr int precision_bits = 22;
/// Rows (or columns) worked on at a time: the width of a transposed block.
constexpr std::size_t block = transpose_side;

double bicubic(double x) noexcept {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

/// One pass over one channel: `positions` times `block` neighbouring results, each the weighted sum
/// of rows of `block` bytes, `tap_step` apart.
struct Pass {
  const std::uint8_t* in;
  std::size_t tap_step;
  const int* first;
  const int* count;
  const std::int32_t* weights;
  std::size_t most;
  std::size_t positions;
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

/// Each position has its own first tap and weights.
void along(const Pass& pass) {
  for (std::size_t i = 0; i < pass.positions; ++i) {
    const std::uint8_t* in = pass.in + static_cast<std::size_t>(pass.first[i]) * pass.tap_step;
    SAM2RT_DISPATCH(convolve, in, pass.tap_step, pass.weights + i * pass.most, pass.count[i],
                    pass.out + i * block);
  }
}

/// All positions share first tap and weights, each lies a block further.
void across(const Pass& pass) {
  const std::uint8_t* in = pass.in + static_cast<std::size_t>(*pass.first) * pass.tap_step;
  for (std::size_t i = 0; i < pass.positions; ++i) {
    SAM2RT_DISPATCH(convolve, in + i * block, pass.tap_step, pass.weights, *pass.count,
                    pass.out + i * block);
  }
}

}  // namespace

void FrameTensor::Taps::prepare(int from, int to) {
  if (from == n_in) return;
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
}

FrameTensor::FrameTensor(int image_size) : size_(image_size) {
  for (std::size_t c = 0; c < 3; ++c) {
    for (std::size_t v = 0; v < 256; ++v) {
      table_[c][v] = normalised(static_cast<float>(static_cast<double>(v) / 255.0), c);
    }
  }
}

void FrameTensor::run(const FrameView& frame, float* out) {
  rows_.open(frame);
  x_.prepare(frame.width, size_);
  y_.prepare(frame.height, size_);
  // Pillow 13 begins with the columns where that leaves less to do; the rounding between the two
  // passes makes the order visible
  if (frame.height > size_ && 2 * std::int64_t{frame.width} < std::int64_t{frame.height} + size_) {
    const Rows rows = shortened(frame);
    narrow(frame.width, size_, &rows);
    finish(size_, out);
  } else {
    narrow(frame.width, frame.height, nullptr);
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
    std::uint8_t* out = short_.data() + y * used;
    across({rows.data, rows.stride, &y_.first[y], &y_.count[y], weights, most, whole, out});
    // the rest of a row: its last block again, from where it ends
    const std::size_t last = used - block;
    across({rows.data + last, rows.stride, &y_.first[y], &y_.count[y], weights, most, 1,
            out + last});
  }
  rows.data = short_.data();
  rows.stride = used;
  return rows;
}

void FrameTensor::narrow(int frame_width, int frame_height, const Rows* whole) {
  const auto width = static_cast<std::size_t>(frame_width), size = static_cast<std::size_t>(size_);
  const auto height = static_cast<std::size_t>(frame_height);
  narrow_.resize(3 * height * size);
  tile_.resize(size * block);
  for (std::size_t top = 0; top < height; top += block) {
    const std::size_t count = std::min(block, height - top);
    Rows rows;
    if (whole == nullptr) {
      rows = rows_.take(static_cast<int>(top), static_cast<int>(count));
    } else {
      rows = *whole;
      rows.data += top * rows.stride;
    }
    const std::size_t bytes = width * rows.pixel_bytes;
    columns_.resize(bytes * block);
    const std::uint8_t* sources[block];
    for (std::size_t i = 0; i < block; ++i) {
      sources[i] = rows.data + std::min(i, count - 1) * rows.stride;
    }
    transpose_rows(sources, bytes, columns_.data());
    for (std::size_t c = 0; c < 3; ++c) {
      const std::uint8_t* channel = columns_.data() + rows.offset[c] * block;
      const std::size_t step = rows.pixel_bytes * block;
      if (frame_width == size_) {
        for (std::size_t x = 0; x < size; ++x) {
          std::memcpy(tile_.data() + x * block, channel + x * step, block);
        }
      } else {
        const Pass pass{channel, step, x_.first.data(), x_.count.data(), x_.weights.data(),
                        static_cast<std::size_t>(x_.most), size, tile_.data()};
        along(pass);
      }
      transpose_columns(tile_.data(), size, count, narrow_.data() + (c * height + top) * size);
    }
  }
}

void FrameTensor::finish(int frame_height, float* out) {
  const auto height = static_cast<std::size_t>(frame_height);
  const auto size = static_cast<std::size_t>(size_);
  line_.resize(size);
  for (std::size_t c = 0; c < 3; ++c) {
    const std::uint8_t* plane = narrow_.data() + c * height * size;
    for (std::size_t y = 0; y < size; ++y) {
      const std::uint8_t* line = plane + y * size;
      if (frame_height != size_) {
        const auto most = static_cast<std::size_t>(y_.most);
        const Pass pass{plane, size, &y_.first[y], &y_.count[y], y_.weights.data() + y * most,
                        most, size / block, line_.data()};
        across(pass);
        line = line_.data();
      }
      float* row = out + (c * size + y) * size;
      for (std::size_t x = 0; x < size; ++x) row[x] = table_[c][line[x]];
    }
  }
}

}  // namespace sam2rt
