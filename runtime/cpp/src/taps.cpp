#include <algorithm>
#include <cmath>

#include "quads.hpp"

namespace sam2rt {

namespace {

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

}  // namespace

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

}  // namespace sam2rt
