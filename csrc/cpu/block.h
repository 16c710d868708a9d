// Blocks of elements in the accumulation dtype: float64 for float64, else float32. A kernel loads a block (16-bit data
// is converted into a buffer on the stack, float and double are used where they lie), computes on it in plain loops
// that the compiler vectorises, and stores it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "ops/kernel.h"

// The kernels of one variant live in the namespace of its name, so that equal names never meet at link time.
#define STYLEGAN_OPS_BEGIN_VARIANT namespace stylegan_ops::cpu::CPU_VARIANT {
#define STYLEGAN_OPS_END_VARIANT }

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

constexpr int kBlock = 512;  // elements: a few blocks of float fit into the first-level cache

struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

template <typename T>
struct accumulate {
  using type = float;
};
template <>
struct accumulate<double> {
  using type = double;
};
template <typename T>
using accumulate_t = typename accumulate<T>::type;

inline float bits_to_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline uint32_t float_to_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

inline float to_float(bfloat16 v) { return bits_to_float(static_cast<uint32_t>(v.bits) << 16); }

inline void from_float(float value, bfloat16& out) {
  const uint32_t bits = float_to_bits(value);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;  // to nearest, ties to even
  out.bits = static_cast<uint16_t>(value != value ? 0x7fc0u : rounded);
}

inline float to_float(float16 v) {
  // The exponent is moved by a multiplication, which also normalises subnormal numbers; infinity and NaN get the
  // largest exponent.
  const uint32_t sign = static_cast<uint32_t>(v.bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(v.bits & 0x7fffu) << 13;
  const uint32_t scaled = float_to_bits(bits_to_float(magnitude) * 0x1p112f);
  return bits_to_float(sign | (magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : scaled));
}

inline void from_float(float value, float16& out) {
  const uint32_t bits = float_to_bits(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // rounds to 65536 or more
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 makes the sum's last bit that of the result
    half = float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude - 0x38000000u + 0x0fffu + (magnitude >> 13 & 1u)) >> 13;
  }
  out.bits = static_cast<uint16_t>(sign | half);
}

// Returns n elements from src in the accumulation dtype: src itself or the buffer.
inline const float* load(const float* src, int, float*) { return src; }
inline const double* load(const double* src, int, double*) { return src; }
inline const float* load(const bfloat16* src, int n, float* buffer) {
  for (int i = 0; i < n; ++i) buffer[i] = to_float(src[i]);
  return buffer;
}
inline const float* load(const float16* src, int n, float* buffer) {
  int i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= n; i += 16)
    _mm512_storeu_ps(buffer + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + i))));
#elif defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(buffer + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i))));
#endif
  for (; i < n; ++i) buffer[i] = to_float(src[i]);
  return buffer;
}

// Where a block's results are computed: in place for float and double, else in the buffer, which store() converts.
inline float* target(float* dst, float*) { return dst; }
inline double* target(double* dst, double*) { return dst; }
inline float* target(bfloat16*, float* buffer) { return buffer; }
inline float* target(float16*, float* buffer) { return buffer; }

inline void store(const float*, int, float*) {}
inline void store(const double*, int, double*) {}
inline void store(const float* src, int n, bfloat16* dst) {
  for (int i = 0; i < n; ++i) from_float(src[i], dst[i]);
}
inline void store(const float* src, int n, float16* dst) {
  int i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= n; i += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + i), _mm512_cvtps_ph(_mm512_loadu_ps(src + i), 0));
#elif defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i), _mm256_cvtps_ph(_mm256_loadu_ps(src + i), 0));
#endif
  for (; i < n; ++i) from_float(src[i], dst[i]);
}

// The sum of a block in double. Sixteen lanes, added in a fixed order, leave the compiler free to vectorise.
template <typename A>
inline double sum(const A* v, int n) {
  A lane[16] = {};
  int i = 0;
  for (; i + 16 <= n; i += 16)
    for (int j = 0; j < 16; ++j) lane[j] += v[i + j];
  double total = 0;
  for (; i < n; ++i) total += v[i];
  for (int j = 0; j < 16; ++j) total += lane[j];
  return total;
}

template <typename A>
inline double dot(const A* v, const A* w, int n) {
  A lane[16] = {};
  int i = 0;
  for (; i + 16 <= n; i += 16)
    for (int j = 0; j < 16; ++j) lane[j] += v[i + j] * w[i + j];
  double total = 0;
  for (; i < n; ++i) total += static_cast<double>(v[i]) * w[i];
  for (int j = 0; j < 16; ++j) total += lane[j];
  return total;
}

// Uninitialised memory for a kernel's call.
template <typename A>
class Buffer {
 public:
  explicit Buffer(int64_t n) : data_(static_cast<A*>(std::aligned_alloc(64, ((n + 16) * sizeof(A) + 63) & ~63))) {
    if (data_ == nullptr) std::abort();  // no exception may leave a parallel region
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  A* get() const { return data_; }

 private:
  A* data_;
};

inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

// Calls f with a null pointer of the element type.
template <typename F>
inline void for_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat64:
      return f(static_cast<double*>(nullptr));
    case DType::kFloat32:
      return f(static_cast<float*>(nullptr));
    case DType::kBFloat16:
      return f(static_cast<bfloat16*>(nullptr));
    case DType::kFloat16:
      return f(static_cast<float16*>(nullptr));
  }
}

}  // namespace
STYLEGAN_OPS_END_VARIANT
