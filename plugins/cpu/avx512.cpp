// AVX-512 BF16: one instruction adds 16 products of pairs to 16 sums.
#include "avx512_rows.hpp"
#include "tiles.hpp"

namespace {

struct Avx512 : Avx512Rows {
  // 12 rows by two vectors of sums: 24 of the 32 registers, and more than a product's latency
  static constexpr Size ROWS = 12;

  static void product(const Bf16* left, Size left_stride, const Bf16* first, const Bf16* second,
                      Size depth, float* out, Size out_stride, bool add) {
    __m512 sums[ROWS][2];
#pragma GCC unroll 12
    for (Size i = 0; i < ROWS; ++i) {
      sums[i][0] = add ? _mm512_loadu_ps(out + i * out_stride) : _mm512_setzero_ps();
      sums[i][1] = add ? _mm512_loadu_ps(out + i * out_stride + 16) : _mm512_setzero_ps();
    }
    for (Size k = 0; k < depth; k += 2) {
      const __m512i low = _mm512_load_si512(first + k * PANEL);
      const __m512i high = _mm512_load_si512(second + k * PANEL);
#pragma GCC unroll 12
      for (Size i = 0; i < ROWS; ++i) {
        int pair;
        __builtin_memcpy(&pair, left + i * left_stride + k, sizeof pair);
        const __m512i row = _mm512_set1_epi32(pair);
        sums[i][0] = _mm512_dpbf16_ps(sums[i][0], reinterpret_cast<__m512bh>(row),
                                      reinterpret_cast<__m512bh>(low));
        sums[i][1] = _mm512_dpbf16_ps(sums[i][1], reinterpret_cast<__m512bh>(row),
                                      reinterpret_cast<__m512bh>(high));
      }
    }
#pragma GCC unroll 12
    for (Size i = 0; i < ROWS; ++i) {
      _mm512_storeu_ps(out + i * out_stride, sums[i][0]);
      _mm512_storeu_ps(out + i * out_stride + 16, sums[i][1]);
    }
  }
};

}  // namespace

namespace sam2rt_cpu {

const Units& avx512_units() {
  static const Units units = Tiles<Avx512>::table("avx512_bf16");
  return units;
}

}  // namespace sam2rt_cpu
