// Everything but the product, for processors with AVX-512 BF16: AMX ones have it too.
#pragma once

#include <immintrin.h>

#include "units.hpp"

namespace {

using namespace sam2rt_cpu;

struct Avx512Rows {
  static __mmask16 first(Size count) {
    return count >= 16 ? static_cast<__mmask16>(0xffff)
                       : static_cast<__mmask16>((1u << count) - 1u);
  }

  // 32 values of a row as bfloat16, those from `count` on are zero
  static __m512i rounded(const float* row, Size count) {
    const __m512 low = _mm512_maskz_loadu_ps(first(count), row);
    const __m512 high =
        _mm512_maskz_loadu_ps(first(count > 16 ? count - 16 : 0), count > 16 ? row + 16 : row);
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
  }

  static void round_rows(const float* rows, Size width, Size count, Size all, Size stride,
                         Bf16* out) {
    for (Size i = 0; i < all; ++i) {
      for (Size j = 0; j < stride; j += 32) {
        const __m512i made = i < count && j < width ? rounded(rows + i * width + j, width - j)
                                                    : _mm512_setzero_si512();
        _mm512_store_si512(out + i * stride + j, made);
      }
    }
  }

  // up to 16 rows [count, width] -> pairs of columns [padded(width) / 2][16 rows][2]
  static void pack_transposed(const float* rows, Size width, Size count, Bf16* out) {
    for (Size j = 0; j < padded(width, DEPTH); j += 32) {
      alignas(64) std::uint32_t pairs[16][16];
      for (Size i = 0; i < 16; ++i) {
        const __m512i row = i < count && j < width ? rounded(rows + i * width + j, width - j)
                                                   : _mm512_setzero_si512();
        _mm512_store_si512(pairs[i], row);
      }
      const __m512i lines = _mm512_mullo_epi32(
          _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
          _mm512_set1_epi32(16));
      for (Size i = 0; i < 16; ++i) {
        _mm512_store_si512(out + (j / 2 + i) * 32, _mm512_i32gather_epi32(lines, &pairs[0][i], 4));
      }
    }
  }

  // rows [count, 16 of stride] -> pairs of rows [all / 2][16 columns][2]
  static void pack_pairs(const float* rows, Size stride, Size count, Size all, Size columns,
                         Bf16* out) {
    const __mmask16 live = first(columns);
    for (Size i = 0; i < all; i += 2) {
      const __m512 even = i < count && columns ? _mm512_maskz_loadu_ps(live, rows + i * stride)
                                               : _mm512_setzero_ps();
      const __m512 odd = i + 1 < count && columns
                             ? _mm512_maskz_loadu_ps(live, rows + (i + 1) * stride)
                             : _mm512_setzero_ps();
      const __m512i low = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(even)));
      const __m512i high = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(odd)));
      _mm512_store_si512(out + i * 16, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
  }

  // e^x to 4e-6 of its value; 0 where it is below the smallest float
  static __m512 exponential(__m512 x) {
    // the second operand is what comes of a NaN
    const __m512 scaled = _mm512_max_ps(_mm512_set1_ps(-200.0f),
                                        _mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)));
    const __m512 whole = _mm512_roundscale_ps(scaled, _MM_FROUND_TO_NEAREST_INT);
    const __m512 part = _mm512_sub_ps(scaled, whole);
    // 2^part on [-1/2, 1/2], least largest relative error
    __m512 power = _mm512_set1_ps(0.009582853f);
    power = _mm512_fmadd_ps(power, part, _mm512_set1_ps(0.055906425f));
    power = _mm512_fmadd_ps(power, part, _mm512_set1_ps(0.24024099f));
    power = _mm512_fmadd_ps(power, part, _mm512_set1_ps(0.69312419f));
    power = _mm512_fmadd_ps(power, part, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(power, whole);
  }

  // scores of a row and its largest so far -> weights; how much the row's sums shrink by
  static float softmax(float* scores, Size count, Size columns, float& peak, float& total,
                       Bf16* weights) {
    for (Size j = count / 16 * 16; j < columns; j += 16) {
      const __mmask16 live = first(j < count ? count - j : 0);
      _mm512_storeu_ps(scores + j, _mm512_mask_loadu_ps(_mm512_set1_ps(-__builtin_inff()), live,
                                                       scores + j));
    }
    __m512 most = _mm512_loadu_ps(scores), other = most;
    for (Size j = 0; j < columns; j += 32) {
      most = _mm512_max_ps(most, _mm512_loadu_ps(scores + j));
      other = _mm512_max_ps(other, _mm512_loadu_ps(scores + j + 16));
    }
    const float found = _mm512_reduce_max_ps(_mm512_max_ps(most, other));
    const float now = found > peak ? found : peak;
    const float shrink = now == peak ? 1.0f : __builtin_expf(peak - now);
    const __m512 at = _mm512_set1_ps(now);
    __m512 low_sum = _mm512_setzero_ps(), high_sum = _mm512_setzero_ps();
    for (Size j = 0; j < columns; j += 32) {
      const __m512 low = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + j), at));
      const __m512 high = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + j + 16), at));
      low_sum = _mm512_add_ps(low_sum, low);
      high_sum = _mm512_add_ps(high_sum, high);
      _mm512_storeu_si512(weights + j, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
    }
    total = total * shrink + _mm512_reduce_add_ps(_mm512_add_ps(low_sum, high_sum));
    peak = now;
    return shrink;
  }

  static void scale(float* row, Size width, float factor) {
    const __m512 by = _mm512_set1_ps(factor);
    for (Size j = 0; j < width; j += 16) {
      _mm512_storeu_ps(row + j, _mm512_mul_ps(_mm512_loadu_ps(row + j), by));
    }
  }

  // x Phi(x), the error function to 2e-7 (Abramowitz and Stegun, 7.1.26)
  static __m512 gelu(__m512 x) {
    const __m512 size = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678f));
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 t =
        _mm512_div_ps(one, _mm512_fmadd_ps(size, _mm512_set1_ps(0.3275911f), one));
    __m512 sum = _mm512_set1_ps(1.061405429f);
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(-1.453152027f));
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(1.421413741f));
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(-0.284496736f));
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(0.254829592f));
    const __m512 tail = exponential(_mm512_mul_ps(_mm512_sub_ps(_mm512_setzero_ps(), size), size));
    // half of what erf lacks to 1, on the side of x
    const __m512 lacking =
        _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(sum, t), tail), _mm512_set1_ps(0.5f));
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mul_ps(x, _mm512_mask_blend_ps(negative, _mm512_sub_ps(one, lacking), lacking));
  }

  // (a, b) cos + (-b, a) sin of each pair
  static __m512 turned(__m512 value, __m512 cos, __m512 sin) {
    const __m512 swapped = _mm512_permute_ps(value, 0xb1);
    const __m512 partner =
        _mm512_mask_sub_ps(swapped, 0x5555, _mm512_setzero_ps(), swapped);
    return _mm512_fmadd_ps(partner, sin, _mm512_mul_ps(value, cos));
  }

  // products [rows, COLUMNS] -> output, from that row and column on
  static void finish(const float* made, const Dense& d, Size row, Size rows, Size column) {
    for (Size j = 0; j < COLUMNS && column + j < d.columns; j += 16) {
      const __mmask16 live = first(d.columns - column - j);
      const __m512 add =
          d.bias ? _mm512_maskz_loadu_ps(live, d.bias + column + j) : _mm512_setzero_ps();
      for (Size i = 0; i < rows; ++i) {
        __m512 value = _mm512_add_ps(_mm512_loadu_ps(made + i * COLUMNS + j), add);
        if (d.activation == Activation::relu) value = _mm512_max_ps(_mm512_setzero_ps(), value);
        if (d.activation == Activation::gelu) value = gelu(value);
        if (d.cos) {
          const Size at = (row + i) % d.turn_rows * d.columns + column + j;
          value = turned(value, _mm512_maskz_loadu_ps(live, d.cos + at),
                         _mm512_maskz_loadu_ps(live, d.sin + at));
        }
        _mm512_mask_storeu_ps(d.output + (row + i) * d.columns + column + j, live, value);
      }
    }
  }

  static void begin() {}
  static void end() {}
};

}  // namespace
