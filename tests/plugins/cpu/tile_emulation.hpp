// The tile intrinsics in plain C++, after the processor manual's pseudocode: products of pairs of
// bfloat16 added to float32, in the order of the depth.
#pragma once

#include <cstdint>
#include <cstring>

namespace sam2rt_emulated {

// eight tiles of 16 rows of 64 bytes, and whether a configuration was loaded
struct State {
  alignas(64) unsigned char tiles[8][16][64];
  bool configured = false;
};

inline State& state() {
  static thread_local State kept;
  return kept;
}

// work without a configuration is a fault on a real processor
inline unsigned char (*tile(int index))[64] {
  if (!state().configured) __builtin_trap();
  return state().tiles[index];
}

inline void load(int index, const void* from, std::size_t stride) {
  unsigned char(*const to)[64] = tile(index);
  for (std::size_t i = 0; i < 16; ++i) {
    std::memcpy(to[i], static_cast<const char*>(from) + i * stride, 64);
  }
}

inline void store(int index, void* to, std::size_t stride) {
  unsigned char(*const from)[64] = tile(index);
  for (std::size_t i = 0; i < 16; ++i) {
    std::memcpy(static_cast<char*>(to) + i * stride, from[i], 64);
  }
}

inline float wide(std::uint16_t bits) {
  const std::uint32_t made = static_cast<std::uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &made, sizeof value);
  return value;
}

inline void multiply(int sums, int left, int right) {
  float out[16][16];
  std::uint16_t a[16][32], b[16][32];
  std::memcpy(out, tile(sums), sizeof out);
  std::memcpy(a, tile(left), sizeof a);
  std::memcpy(b, tile(right), sizeof b);
  for (int m = 0; m < 16; ++m) {
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 16; ++n) {
        out[m][n] += wide(a[m][2 * k]) * wide(b[k][2 * n]);
        out[m][n] += wide(a[m][2 * k + 1]) * wide(b[k][2 * n + 1]);
      }
    }
  }
  std::memcpy(tile(sums), out, sizeof out);
}

// the configuration must be eight tiles of 16 rows of 64 bytes
inline void configure(const void* from) {
  const unsigned char* const bytes = static_cast<const unsigned char*>(from);
  bool right = bytes[0] == 1 && bytes[1] == 0;
  for (int i = 0; i < 8; ++i) {
    right = right && bytes[16 + 2 * i] == 64 && bytes[17 + 2 * i] == 0 && bytes[48 + i] == 16;
  }
  if (!right) __builtin_trap();
  state().configured = true;
}

}  // namespace sam2rt_emulated

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(from) sam2rt_emulated::configure(from)
#define _tile_release() (sam2rt_emulated::state().configured = false)
#define _tile_zero(index) std::memset(sam2rt_emulated::tile(index), 0, 1024)
#define _tile_loadd(index, from, stride) sam2rt_emulated::load(index, from, stride)
#define _tile_stored(index, to, stride) sam2rt_emulated::store(index, to, stride)
#define _tile_dpbf16ps(sums, left, right) sam2rt_emulated::multiply(sums, left, right)
