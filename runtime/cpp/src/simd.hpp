#ifndef SAM2RT_SRC_SIMD_HPP
#define SAM2RT_SRC_SIMD_HPP

// A loop written once and compiled twice: for every processor, and for AVX2 where it is there. No
// fused multiply-add in either: the results are the same bits. 64-bit ARM always has NEON: the
// compiler uses it in ordinary loops, and what it does not see is written out beside AVX2.
#if defined(__GNUC__) && defined(__x86_64__)
#  include <immintrin.h>
#  define SAM2RT_HAS_AVX2
#  define SAM2RT_AVX2 __attribute__((target("avx2")))
#  define SAM2RT_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#  define SAM2RT_INLINE inline __attribute__((always_inline))
#  define SAM2RT_DISPATCH(function, ...) \
    (__builtin_cpu_supports("avx2") ? function##_avx2(__VA_ARGS__) : function##_any(__VA_ARGS__))
#else
#  if defined(__GNUC__) && defined(__aarch64__)
#    include <arm_neon.h>
#    define SAM2RT_HAS_NEON
#  endif
#  define SAM2RT_AVX2
#  define SAM2RT_INLINE inline
#  define SAM2RT_DISPATCH(function, ...) function##_any(__VA_ARGS__)
#endif

#endif
