// C functions of the library: what it is, and its operators by name of the units, for checks.
#include <cstring>

#include "operators.hpp"

#define SAM2RT_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using namespace sam2rt_cpu;

void one_after_another(void*, Size count, void (*task)(void*, Size), void* what) {
  for (Size i = 0; i < count; ++i) task(what, i);
}

constexpr Parallel ALONE{one_after_another, nullptr};

}  // namespace

// sha256 of the sources it was compiled from
SAM2RT_EXPORT const char* sam2rt_cpu_identity() { return SAM2RT_IDENTITY; }

// the units its operators run on here, "" where there are none with bfloat16
SAM2RT_EXPORT const char* sam2rt_cpu_units() {
  const Units* const units = best_units();
  return units ? units->name : "";
}

// sizes: objects, one_query, rows, keys, width, value_width; 0 when it was done
SAM2RT_EXPORT int sam2rt_cpu_attention(const char* name, const std::size_t* sizes,
                                       const float* query, const float* key, const float* value,
                                       float* output, float* log_denominator) {
  const Units* const units = units_named(name);
  if (!units) return 1;
  const Attention attention{query,    key,      value,    output,  log_denominator,
                            sizes[2], sizes[3], sizes[4], sizes[5]};
  return attend_all(*units, attention, sizes[0], sizes[1] != 0, ALONE) ? 0 : 2;
}

// sizes: rows, depth, columns, activation (0, 1 relu, 2 gelu), rows of the rotary tables (0: none);
// 0 when it was done
SAM2RT_EXPORT int sam2rt_cpu_dense(const char* name, const std::size_t* sizes, const float* input,
                                   const std::uint16_t* matrix, const float* bias, const float* cos,
                                   const float* sin, float* output) {
  const Units* const units = units_named(name);
  if (!units) return 1;
  const Buffer packed(packed_dense_size(sizes[1], sizes[2]) * sizeof(Bf16));
  if (!packed.get()) return 2;
  pack_dense(matrix, sizes[1], sizes[2], packed.bf16());
  Dense dense{input,    packed.bf16(), bias, output, sizes[1],
              sizes[2], static_cast<Activation>(sizes[3])};
  if (sizes[4]) {
    dense.cos = cos;
    dense.sin = sin;
    dense.turn_rows = sizes[4];
  }
  return dense_all(*units, dense, sizes[0], ALONE) ? 0 : 2;
}
