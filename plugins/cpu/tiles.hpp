// The operators over tiles that fit caches, for any units; included once by each kind of unit.
//
// Attention is computed as FlashAttention does (arXiv 2205.14135): keys pass in blocks, and each
// row keeps its largest score, the sum of its weights and the weighted values, in float32. Weights
// are rounded to bfloat16 for the product with the values. Which tiles there are depends on the
// sizes alone, so that the number of threads changes no bit.
//
// `Unit` gives: ROWS (rows of a product at once), product, softmax, scale, round_rows, pack_pairs,
// pack_transposed, finish. Everything lies in an unnamed namespace: code compiled for one unit must
// not be found by the linker for another.
#pragma once

#include "units.hpp"

namespace {

using namespace sam2rt_cpu;

constexpr Size KEY_BLOCK = 256;

// a thread's memory, cut into arrays that begin on a cache line
class Scratch {
 public:
  explicit Scratch(void* begin) : at_(static_cast<unsigned char*>(begin)) {}
  template <class T>
  T* take(Size count) {
    T* const taken = reinterpret_cast<T*>(at_);
    at_ += padded(count * sizeof(T), 64);
    return taken;
  }

 private:
  unsigned char* at_;
};

constexpr Size bytes(Size count, Size each) { return padded(count * each, 64); }

template <class Unit>
struct Tiles {
  static constexpr Size QUERIES = 96, DENSE_ROWS = 96;
  static_assert(QUERIES % Unit::ROWS == 0 && DENSE_ROWS % Unit::ROWS == 0, "whole row groups");

  static Size attention_scratch(Size width, Size value_width) {
    const Size c = padded(width, DEPTH), v = padded(value_width, COLUMNS);
    return bytes(QUERIES * c, 2) + bytes(QUERIES * v, 4) + 2 * bytes(QUERIES, 4) +
           bytes(Unit::ROWS * KEY_BLOCK, 4) + bytes(Unit::ROWS * KEY_BLOCK, 2);
  }

  static Size dense_scratch(Size depth) {
    return bytes(DENSE_ROWS * padded(depth, DEPTH), 2) + bytes(DENSE_ROWS * COLUMNS, 4);
  }

  static void pack_keys(const Attention& a, Size first, Bf16* keys, Bf16* values) {
    const Size count = first + KEY_BLOCK < a.keys ? KEY_BLOCK : a.keys - first;
    const Size c = padded(a.width, DEPTH), v = padded(a.value_width, COLUMNS);
    const Size all = padded(count, COLUMNS);
    for (Size k = 0; k < all; k += PANEL) {
      const Size left = k < count ? count - k : 0;
      Unit::pack_transposed(a.key + (first + k) * a.width, a.width, left < PANEL ? left : PANEL,
                            keys + (first + k) * c);
    }
    Bf16* const block = values + first * v;
    for (Size column = 0; column < v; column += PANEL) {
      const Size left = column < a.value_width ? a.value_width - column : 0;
      Unit::pack_pairs(a.value + first * a.value_width + column, a.value_width, count, all,
                       left < PANEL ? left : PANEL, block + column * KEY_BLOCK);
    }
  }

  static void attend(const Attention& a, Size first, const Bf16* keys, const Bf16* values,
                     void* memory) {
    const Size rows = first + QUERIES < a.rows ? QUERIES : a.rows - first;
    const Size c = padded(a.width, DEPTH), v = padded(a.value_width, COLUMNS);
    Scratch scratch(memory);
    Bf16* const query = scratch.take<Bf16>(QUERIES * c);
    float* const sums = scratch.take<float>(QUERIES * v);
    float* const peaks = scratch.take<float>(QUERIES);
    float* const totals = scratch.take<float>(QUERIES);
    float* const scores = scratch.take<float>(Unit::ROWS * KEY_BLOCK);
    Bf16* const weights = scratch.take<Bf16>(Unit::ROWS * KEY_BLOCK);
    Unit::round_rows(a.query + first * a.width, a.width, rows, padded(rows, Unit::ROWS), c, query);
    for (Size i = 0; i < QUERIES; ++i) {
      peaks[i] = -__builtin_inff();
      totals[i] = 0.0f;
    }
    for (Size i = 0; i < QUERIES * v; ++i) sums[i] = 0.0f;
    for (Size k = 0; k < a.keys; k += KEY_BLOCK) {
      const Size count = k + KEY_BLOCK < a.keys ? KEY_BLOCK : a.keys - k;
      const Size columns = padded(count, COLUMNS);
      for (Size r = 0; r < rows; r += Unit::ROWS) {
        for (Size j = 0; j < columns; j += COLUMNS) {
          const Bf16* const panel = keys + (k + j) * c;
          Unit::product(query + r * c, c, panel, panel + PANEL * c, c, scores + j, KEY_BLOCK,
                        false);
        }
        const Size live = rows - r < Unit::ROWS ? rows - r : Unit::ROWS;
        for (Size i = 0; i < live; ++i) {
          const float shrink = Unit::softmax(scores + i * KEY_BLOCK, count, columns, peaks[r + i],
                                             totals[r + i], weights + i * KEY_BLOCK);
          if (!(shrink == 1.0f)) Unit::scale(sums + (r + i) * v, v, shrink);
        }
        const Bf16* const block = values + k * v;
        for (Size column = 0; column < v; column += COLUMNS) {
          const Bf16* const panel = block + column * KEY_BLOCK;
          Unit::product(weights, KEY_BLOCK, panel, panel + PANEL * KEY_BLOCK, columns,
                        sums + r * v + column, v, true);
        }
      }
    }
    for (Size i = 0; i < rows; ++i) {
      Unit::scale(sums + i * v, v, 1.0f / totals[i]);
      float* const out = a.output + (first + i) * a.value_width;
      for (Size j = 0; j < a.value_width; ++j) out[j] = sums[i * v + j];
      if (a.log_denominator) {
        a.log_denominator[first + i] = peaks[i] + __builtin_logf(totals[i]);
      }
    }
  }

  static void dense(const Dense& d, Size first, Size rows, void* memory) {
    const Size depth = padded(d.depth, DEPTH);
    Scratch scratch(memory);
    Bf16* const input = scratch.take<Bf16>(DENSE_ROWS * depth);
    float* const made = scratch.take<float>(DENSE_ROWS * COLUMNS);
    Unit::round_rows(d.input + first * d.depth, d.depth, rows, padded(rows, Unit::ROWS), depth,
                     input);
    for (Size column = 0; column < d.columns; column += COLUMNS) {
      const Bf16* const panel = d.matrix + column * depth;
      for (Size r = 0; r < rows; r += Unit::ROWS) {
        Unit::product(input + r * depth, depth, panel, panel + PANEL * depth, depth,
                      made + r * COLUMNS, COLUMNS, false);
      }
      Unit::finish(made, d, first, rows, column);
    }
  }

  static Units table(const char* name) {
    return {name,   QUERIES, KEY_BLOCK,   DENSE_ROWS, attention_scratch, dense_scratch, pack_keys,
            attend, dense,   Unit::begin, Unit::end};
  }
};

}  // namespace
