#ifndef SAM2RT_TESTS_MIXING_HPP
#define SAM2RT_TESTS_MIXING_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>

/// Numbers that depend on every input of a graph, in place of a model. Each output is made apart
/// from the others, so that one that nobody wants changes nothing.
class Mixer {
 public:
  explicit Mixer(int graph) : state_(2166136261U + static_cast<std::uint32_t>(graph)) {}

  /// Elements of `bytes` bytes; of floats, of which there are many, each seventh counts.
  void take(const void* values, std::size_t bytes, std::int64_t count) {
    const auto* at = static_cast<const unsigned char*>(values);
    const std::int64_t step = bytes == 4 ? 7 : 1;
    for (std::int64_t i = 0; i < count; i += step) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, at + static_cast<std::size_t>(i) * bytes, bytes < 4 ? bytes : 4);
      state_ = (state_ ^ bits) * 16777619U;
    }
  }
  void give(std::size_t output, float* values, std::int64_t count) const {
    std::uint32_t state = state_ ^ (static_cast<std::uint32_t>(output) * 2654435761U);
    for (std::int64_t i = 0; i < count; ++i) {
      state = state * 1664525U + 1013904223U;
      values[i] = static_cast<float>(state >> 8) / 16777216.0F - 0.3F;
    }
  }

 private:
  std::uint32_t state_;
};

#endif
