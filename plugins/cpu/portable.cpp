// Plain C++ with the same roundings: what the other units are compared with.
#include <cmath>

#include "tiles.hpp"

namespace {

float value_of(Bf16 bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value;
  __builtin_memcpy(&value, &wide, sizeof value);
  return value;
}

// to the nearest, ties to even
Bf16 rounded(float value) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  if (value != value) return static_cast<Bf16>(bits >> 16 | 0x40);
  return static_cast<Bf16>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

struct Portable {
  static constexpr Size ROWS = 8;

  static void round_rows(const float* rows, Size width, Size count, Size all, Size stride,
                         Bf16* out) {
    for (Size i = 0; i < all; ++i) {
      for (Size j = 0; j < stride; ++j) {
        out[i * stride + j] = i < count && j < width ? rounded(rows[i * width + j]) : Bf16{0};
      }
    }
  }

  static void pack_transposed(const float* rows, Size width, Size count, Bf16* out) {
    for (Size j = 0; j < padded(width, DEPTH); ++j) {
      for (Size i = 0; i < PANEL; ++i) {
        out[j / 2 * 32 + 2 * i + j % 2] =
            i < count && j < width ? rounded(rows[i * width + j]) : Bf16{0};
      }
    }
  }

  static void pack_pairs(const float* rows, Size stride, Size count, Size all, Size columns,
                         Bf16* out) {
    for (Size i = 0; i < all; ++i) {
      for (Size j = 0; j < PANEL; ++j) {
        out[i / 2 * 32 + 2 * j + i % 2] =
            i < count && j < columns ? rounded(rows[i * stride + j]) : Bf16{0};
      }
    }
  }

  static void product(const Bf16* left, Size left_stride, const Bf16* first, const Bf16* second,
                      Size depth, float* out, Size out_stride, bool add) {
    for (Size i = 0; i < ROWS; ++i) {
      float sums[COLUMNS] = {};
      for (Size j = 0; add && j < COLUMNS; ++j) sums[j] = out[i * out_stride + j];
      for (Size k = 0; k < depth; ++k) {
        const float value = value_of(left[i * left_stride + k]);
        for (Size j = 0; j < PANEL; ++j) {
          const Size at = k / 2 * 32 + 2 * j + k % 2;
          sums[j] += value * value_of(first[at]);
          sums[PANEL + j] += value * value_of(second[at]);
        }
      }
      for (Size j = 0; j < COLUMNS; ++j) out[i * out_stride + j] = sums[j];
    }
  }

  static float softmax(float* scores, Size count, Size columns, float& peak, float& total,
                       Bf16* weights) {
    float now = peak;
    for (Size j = 0; j < count; ++j) now = scores[j] > now ? scores[j] : now;
    const float shrink = now == peak ? 1.0f : std::exp(peak - now);
    total *= shrink;
    for (Size j = 0; j < columns; ++j) {
      const float weight = j < count ? std::exp(scores[j] - now) : 0.0f;
      total += weight;
      weights[j] = rounded(weight);
    }
    peak = now;
    return shrink;
  }

  static void scale(float* row, Size width, float factor) {
    for (Size j = 0; j < width; ++j) row[j] *= factor;
  }

  static float activated(float value, Activation activation) {
    if (activation == Activation::relu) return value < 0.0f ? 0.0f : value;
    if (activation == Activation::gelu) return value * 0.5f * (1.0f + std::erf(value * 0.70710678f));
    return value;
  }

  static void finish(const float* made, const Dense& d, Size row, Size rows, Size column) {
    const Size left = d.columns - column, columns = left < COLUMNS ? left : COLUMNS;
    for (Size i = 0; i < rows; ++i) {
      float values[COLUMNS];
      for (Size j = 0; j < columns; ++j) {
        const float bias = d.bias ? d.bias[column + j] : 0.0f;
        values[j] = activated(made[i * COLUMNS + j] + bias, d.activation);
      }
      float* const out = d.output + (row + i) * d.columns + column;
      const Size at = (row + i) % d.turn_rows * d.columns + column;
      for (Size j = 0; j < columns; ++j) {
        const float partner = j % 2 ? values[j - 1] : j + 1 < columns ? -values[j + 1] : 0.0f;
        out[j] = d.cos ? values[j] * d.cos[at + j] + partner * d.sin[at + j] : values[j];
      }
    }
  }

  static void begin() {}
  static void end() {}
};

}  // namespace

namespace sam2rt_cpu {

const Units& portable_units() {
  static const Units units = Tiles<Portable>::table("portable");
  return units;
}

void pack_dense(const Bf16* matrix, Size depth, Size columns, Bf16* packed) {
  const Size all = padded(depth, DEPTH);
  for (Size j = 0; j < padded(columns, COLUMNS); ++j) {
    Bf16* const panel = packed + j / PANEL * PANEL * all + 2 * (j % PANEL);
    for (Size i = 0; i < all; ++i) {
      panel[i / 2 * 32 + i % 2] = i < depth && j < columns ? matrix[i * columns + j] : Bf16{0};
    }
  }
}

}  // namespace sam2rt_cpu
