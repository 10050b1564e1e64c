// What a processor's units do for the operators: one table of functions per kind of unit.
//
// A product is rows of bfloat16 times a matrix of bfloat16, summed in float32. Its right side is
// packed once, as both AMX and AVX-512 BF16 read it: panels of 16 columns, in each panel one line
// of 16 pairs for every two rows of the matrix. Sizes are padded with zeros: rows of the right
// side to DEPTH, its columns to PANEL, rows of the left side to what a unit takes at once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sam2rt_cpu {

using Size = std::size_t;
using Bf16 = std::uint16_t;

// a product's depth comes in multiples of it: the row of an AMX tile
constexpr Size DEPTH = 32;
// columns of a packed panel, and of two of them, which are multiplied together
constexpr Size PANEL = 16, COLUMNS = 2 * PANEL;

constexpr Size padded(Size size, Size to) { return (size + to - 1) / to * to; }

// scaled dot product attention, queries scaled; all arrays float32, rows contiguous
struct Attention {
  const float *query, *key, *value;
  // [objects, rows, value_width]; denominator [objects, rows]: its natural log, may be null
  float *output, *log_denominator;
  Size rows, keys, width, value_width;
};

// rows [.., depth] times matrix [depth, columns], plus bias; then what the activation does
enum class Activation { none, relu, gelu };

struct Dense {
  const float* input;
  // packed, see pack_dense; bias [columns] may be null
  const Bf16* matrix;
  const float* bias;
  float* output;
  Size depth, columns;
  Activation activation;
  // rotary tables [turn_rows, columns], repeated over the rows; null where nothing is turned:
  // each pair of columns (a, b) becomes (a, b) cos + (-b, a) sin
  const float *cos = nullptr, *sin = nullptr;
  Size turn_rows = 1;
};

struct Units {
  const char* name;
  // queries that one call of attend does at most
  Size query_rows;
  // keys that one call of pack_keys does at most
  Size packed_keys;
  // rows that one call of dense does at most
  Size dense_rows;
  // bytes that a thread needs beside, 64-byte aligned
  Size (*attention_scratch)(Size width, Size value_width);
  Size (*dense_scratch)(Size depth);
  // keys and values from `first` on, into packed keys and values of a whole object
  void (*pack_keys)(const Attention&, Size first, Bf16* keys, Bf16* values);
  // query rows from `first` on over all keys; pointers of Attention are those of one object
  void (*attend)(const Attention&, Size first, const Bf16* keys, const Bf16* values, void* scratch);
  void (*dense)(const Dense&, Size first, Size rows, void* scratch);
  // what a thread does before and after its work, such as loading a tile configuration
  void (*begin)();
  void (*end)();
};

// sizes in elements of what pack_keys fills
inline Size packed_keys_size(const Attention& a, Size block) {
  return padded(a.keys, block) * padded(a.width, DEPTH);
}
inline Size packed_values_size(const Attention& a, Size block) {
  return padded(a.keys, block) * padded(a.value_width, COLUMNS);
}
inline Size packed_dense_size(Size depth, Size columns) {
  return padded(depth, DEPTH) * padded(columns, COLUMNS);
}

// a matrix [depth, columns] of bfloat16 as a product reads it
void pack_dense(const Bf16* matrix, Size depth, Size columns, Bf16* packed);

const Units& portable_units();
#ifdef SAM2RT_X86
const Units& avx512_units();
const Units& amx_units();
#endif

// the fastest units with bfloat16 products that run here, or null; AMX is asked for, once
const Units* best_units();

// by name, whether this processor has them or not; null for an unknown name
const Units* units_named(const char* name);

}  // namespace sam2rt_cpu
