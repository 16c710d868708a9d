// CUDA's types for the host: dim3, vectors, __half and __nv_bfloat16 with their conversions, rounded to nearest even.
// Only what csrc/cuda uses.
#pragma once

#include <math.h>  // unlike cmath it has the overloads in the global namespace, where CUDA has them

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define HOST_EXECUTOR_VECTORS(T, NAME)                                               \
  struct alignas(2 * sizeof(T)) NAME##2 { T x, y; };                                 \
  struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) NAME##4 { T x, y, z, w; }; \
  constexpr NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                      \
  constexpr NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
HOST_EXECUTOR_VECTORS(float, float)
HOST_EXECUTOR_VECTORS(double, double)
HOST_EXECUTOR_VECTORS(int, int)
HOST_EXECUTOR_VECTORS(unsigned, uint)
#undef HOST_EXECUTOR_VECTORS

struct alignas(2) __half {
  uint16_t bits;
};
struct alignas(2) __nv_bfloat16 {
  uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline unsigned __float_as_uint(float v) { return std::bit_cast<unsigned>(v); }
inline float __uint_as_float(unsigned v) { return std::bit_cast<float>(v); }
inline int __float_as_int(float v) { return std::bit_cast<int>(v); }
inline float __int_as_float(int v) { return std::bit_cast<float>(v); }

inline float __half2float(__half h) {
  const unsigned sign = unsigned(h.bits & 0x8000) << 16, exponent = h.bits >> 10 & 31, fraction = h.bits & 1023;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000 | fraction << 13);
  if (exponent == 0) return std::copysign(std::ldexp(float(fraction), -24), __uint_as_float(sign));
  return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
}

inline __half __float2half_rn(float v) {
  const unsigned bits = __float_as_uint(v), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  unsigned half;
  if (magnitude > 0x7f800000) return {0x7fff};  // the NaN that CUDA makes of every one
  if (magnitude < 0x38800000)                   // 2^-14: below it half's steps are 2^-24, those of float at 0.5
    half = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - __float_as_uint(0.5f);
  else if (magnitude < 0x477ff000)  // 65520, which rounds to 2^16
    half = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
  else
    half = 0x7c00;
  return {uint16_t(sign | half)};
}

inline float __bfloat162float(__nv_bfloat16 b) { return __uint_as_float(unsigned(b.bits) << 16); }

inline __nv_bfloat16 __float2bfloat16_rn(float v) {
  const unsigned bits = __float_as_uint(v);
  if (v != v) return {0x7fff};
  return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

inline __half __float2half(float v) { return __float2half_rn(v); }
inline __nv_bfloat16 __float2bfloat16(float v) { return __float2bfloat16_rn(v); }
inline uint16_t __half_as_ushort(__half h) { return h.bits; }
inline __half __ushort_as_half(uint16_t bits) { return {bits}; }
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 b) { return b.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(uint16_t bits) { return {bits}; }

inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
inline __half2 __float22half2_rn(float2 v) { return __floats2half2_rn(v.x, v.y); }
inline float2 __half22float2(__half2 h) { return {__half2float(h.x), __half2float(h.y)}; }
inline float __low2float(__half2 h) { return __half2float(h.x); }
inline float __high2float(__half2 h) { return __half2float(h.y); }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return __floats2bfloat162_rn(v.x, v.y); }
inline float2 __bfloat1622float2(__nv_bfloat162 b) { return {__bfloat162float(b.x), __bfloat162float(b.y)}; }
inline float __low2float(__nv_bfloat162 b) { return __bfloat162float(b.x); }
inline float __high2float(__nv_bfloat162 b) { return __bfloat162float(b.y); }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }

// float has more than twice the digits of either, so that rounding to float first does not change the result.
#define HOST_EXECUTOR_ARITHMETIC(T, WIDEN, NARROW)                                     \
  inline T __hmul(T a, T b) { return NARROW(WIDEN(a) * WIDEN(b)); }                    \
  inline T __hadd(T a, T b) { return NARROW(WIDEN(a) + WIDEN(b)); }                    \
  inline T __hsub(T a, T b) { return NARROW(WIDEN(a) - WIDEN(b)); }                    \
  inline T##2 __hmul2(T##2 a, T##2 b) { return {__hmul(a.x, b.x), __hmul(a.y, b.y)}; } \
  inline T##2 __hadd2(T##2 a, T##2 b) { return {__hadd(a.x, b.x), __hadd(a.y, b.y)}; } \
  inline T##2 __hsub2(T##2 a, T##2 b) { return {__hsub(a.x, b.x), __hsub(a.y, b.y)}; }
HOST_EXECUTOR_ARITHMETIC(__half, __half2float, __float2half_rn)
HOST_EXECUTOR_ARITHMETIC(__nv_bfloat16, __bfloat162float, __float2bfloat16_rn)
#undef HOST_EXECUTOR_ARITHMETIC
