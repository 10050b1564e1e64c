#include "units.hpp"

#include <cstring>

#ifdef SAM2RT_X86
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace sam2rt_cpu {

#ifdef SAM2RT_X86
namespace {

struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
  Leaf(unsigned leaf, unsigned sub) { __get_cpuid_count(leaf, sub, &a, &b, &c, &d); }
};

bool bit(unsigned word, int at) { return (word >> at & 1u) != 0; }

// what the system saves of a thread's registers (XCR0)
unsigned saved_registers() {
  if (!bit(Leaf(1, 0).c, 27)) return 0;
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

bool has_avx512_bf16() {
  const Leaf seven(7, 0);
  // AVX512F, DQ, BW, VL; the bfloat16 instructions; registers saved
  return bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 30) && bit(seven.b, 31) &&
         bit(Leaf(7, 1).a, 5) && (saved_registers() & 0xe6u) == 0xe6u;
}

bool has_amx() {
  const Leaf seven(7, 0);
  if (!bit(seven.d, 22) || !bit(seven.d, 24) || (saved_registers() & 0x60000u) != 0x60000u) {
    return false;
  }
  // Linux gives the tiles' registers to programs that ask: ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

const Units* chosen() {
  if (!has_avx512_bf16()) return nullptr;
  return has_amx() ? &amx_units() : &avx512_units();
}

}  // namespace

const Units* best_units() {
  static const Units* const best = chosen();
  return best;
}
#else
const Units* best_units() { return nullptr; }
#endif

const Units* units_named(const char* name) {
  const Units* const known[] = {
      &portable_units(),
#ifdef SAM2RT_X86
      &avx512_units(),
      &amx_units(),
#endif
  };
  for (const Units* units : known) {
    if (std::strcmp(units->name, name) == 0) return units;
  }
  return nullptr;
}

}  // namespace sam2rt_cpu
