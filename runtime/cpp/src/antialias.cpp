#include "antialias.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace sam2rt {

AntialiasTaps::AntialiasTaps(int n_in, int n_out) {
  const float scale = static_cast<float>(n_in) / static_cast<float>(n_out);
  const float support = std::max(scale, 1.0F);
  const float inverse = 1.0F / support;
  const auto columns = static_cast<std::size_t>(n_out);
  std::vector<std::int64_t> first(columns), count(columns);
  std::vector<float> centre(columns);
  for (std::size_t i = 0; i < columns; ++i) {
    centre[i] = scale * (static_cast<float>(i) + 0.5F);
    first[i] = std::max<std::int64_t>(static_cast<std::int64_t>(centre[i] - support + 0.5F), 0);
    const auto end = static_cast<std::int64_t>(centre[i] + support + 0.5F);
    count[i] = std::min<std::int64_t>(end, n_in) - first[i];
    taps = std::max(taps, static_cast<std::size_t>(count[i]));
  }
  indices.resize(taps * columns);
  weights.resize(taps * columns);
  std::vector<float> total(columns, 0.0F);
  for (std::size_t t = 0; t < taps; ++t) {
    const auto tap = static_cast<std::int64_t>(t);
    for (std::size_t i = 0; i < columns; ++i) {
      const float distance = static_cast<float>(tap + first[i]) - centre[i] + 0.5F;
      float weight = std::max(1.0F - std::fabs(distance * inverse), 0.0F);
      if (tap >= count[i]) weight = 0.0F;
      weights[t * columns + i] = weight;
      total[i] += weight;
      indices[t * columns + i] =
          static_cast<int>(std::min<std::int64_t>(tap + first[i], n_in - 1));
    }
  }
  for (std::size_t t = 0; t < taps; ++t) {
    for (std::size_t i = 0; i < columns; ++i) weights[t * columns + i] /= total[i];
  }
}

namespace {

void resize_row(const float* in, const AntialiasTaps& taps, float* out, std::size_t n_out) {
  for (std::size_t i = 0; i < n_out; ++i) {
    float sum = in[taps.indices[i]] * taps.weights[i];
    for (std::size_t t = 1; t < taps.taps; ++t) {
      const std::size_t at = t * n_out + i;
      sum += in[taps.indices[at]] * taps.weights[at];
    }
    out[i] = sum;
  }
}

}  // namespace

void resize_antialias(const float* plane, FrameSize from, float* out, FrameSize to) {
  const auto width = static_cast<std::size_t>(to.width);
  const auto height = static_cast<std::size_t>(to.height);
  const auto in_width = static_cast<std::size_t>(from.width);
  const auto in_height = static_cast<std::size_t>(from.height);
  std::vector<float> narrow(in_height * width);
  if (from.width == to.width) {
    std::copy(plane, plane + narrow.size(), narrow.begin());
  } else {
    const AntialiasTaps taps(from.width, to.width);
    for (std::size_t y = 0; y < in_height; ++y) {
      resize_row(plane + y * in_width, taps, narrow.data() + y * width, width);
    }
  }
  if (from.height == to.height) {
    std::copy(narrow.begin(), narrow.end(), out);
    return;
  }
  const AntialiasTaps taps(from.height, to.height);
  for (std::size_t y = 0; y < height; ++y) {
    float* row = out + y * width;
    for (std::size_t t = 0; t < taps.taps; ++t) {
      const std::size_t at = t * height + y;
      const float* in = narrow.data() + static_cast<std::size_t>(taps.indices[at]) * width;
      const float weight = taps.weights[at];
      for (std::size_t x = 0; x < width; ++x) {
        row[x] = t == 0 ? in[x] * weight : row[x] + in[x] * weight;
      }
    }
  }
}

}  // namespace sam2rt
