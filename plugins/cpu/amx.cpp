// AMX: one instruction multiplies 16 rows of 32 by 32 rows of 16.
//
// With SAM2RT_EMULATED_TILES the intrinsics are plain C++, for checks where there are no such units.
#include "avx512_rows.hpp"
#ifdef SAM2RT_EMULATED_TILES
#include SAM2RT_EMULATED_TILES
#endif
#include "tiles.hpp"

namespace {

struct alignas(64) TileConfiguration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

struct Amx : Avx512Rows {
  // two tiles of rows by two of columns: four of sums, and two for each side
  static constexpr Size ROWS = 32;

  static void product(const Bf16* left, Size left_stride, const Bf16* first, const Bf16* second,
                      Size depth, float* out, Size out_stride, bool add) {
    const Size step = out_stride * sizeof(float), row = left_stride * sizeof(Bf16);
    float* const below = out + 16 * out_stride;
    if (add) {
      _tile_loadd(0, out, step);
      _tile_loadd(1, out + 16, step);
      _tile_loadd(2, below, step);
      _tile_loadd(3, below + 16, step);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (Size k = 0; k < depth; k += DEPTH) {
      _tile_loadd(4, left + k, row);
      _tile_loadd(6, first + k * PANEL, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, second + k * PANEL, 64);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, left + 16 * left_stride + k, row);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, step);
    _tile_stored(1, out + 16, step);
    _tile_stored(2, below, step);
    _tile_stored(3, below + 16, step);
  }

  static void begin() {
    const TileConfiguration wanted;
    _tile_loadconfig(&wanted);
  }
  static void end() { _tile_release(); }
};

}  // namespace

namespace sam2rt_cpu {

const Units& amx_units() {
  static const Units units = Tiles<Amx>::table("amx_bf16");
  return units;
}

}  // namespace sam2rt_cpu
