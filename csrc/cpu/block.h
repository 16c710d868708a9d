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

// A function that only asks for memory has no effect in the compiler's eyes, which then drops the calls; so inline. The
// conversions are for the constant lengths that they get.
#define STYLEGAN_OPS_HERE inline __attribute__((always_inline))

// Asks for the lines of n elements that are read (WRITE 0) or written later.
template <int WRITE, typename T>
STYLEGAN_OPS_HERE void prefetch(const T* data, int64_t n) {
  for (int64_t byte = 0; byte < n * static_cast<int64_t>(sizeof(T)); byte += 64)
    __builtin_prefetch(reinterpret_cast<const char*>(data) + byte, WRITE);
}

STYLEGAN_OPS_HERE void widen(const bfloat16* src, int64_t n, float* dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] = to_float(src[i]);
}
STYLEGAN_OPS_HERE void narrow(const float* src, int64_t n, bfloat16* dst) {
  for (int64_t i = 0; i < n; ++i) from_float(src[i], dst[i]);
}
STYLEGAN_OPS_HERE void widen(const float16* src, int64_t n, float* dst) {
  int64_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= n; i += 16)
    _mm512_storeu_ps(dst + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + i))));
#elif defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i))));
#endif
  for (; i < n; ++i) dst[i] = to_float(src[i]);
}
STYLEGAN_OPS_HERE void narrow(const float* src, int64_t n, float16* dst) {
  int64_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= n; i += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + i), _mm512_cvtps_ph(_mm512_loadu_ps(src + i), 0));
#elif defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i), _mm256_cvtps_ph(_mm256_loadu_ps(src + i), 0));
#endif
  for (; i < n; ++i) from_float(src[i], dst[i]);
}

constexpr int kLine = 32;  // 16-bit elements: a line of the cache

// Returns n elements from src in the accumulation dtype: src itself or the buffer. Asks for as many that lie `ahead` of
// them, unless that is 0: line by line, since a burst of requests would fill the processor's buffers for them.
template <typename T>
STYLEGAN_OPS_HERE const accumulate_t<T>* load(const T* src, int64_t n, accumulate_t<T>* buffer, int64_t ahead = 0) {
  if constexpr (sizeof(T) == 2) {
    int64_t i = 0;
    for (; ahead != 0 && i + kLine <= n; i += kLine) {
      __builtin_prefetch(src + i + ahead);
      widen(src + i, kLine, buffer + i);
    }
    widen(src + i, n - i, buffer + i);
    return buffer;
  } else {
    if (ahead != 0) prefetch<0>(src + ahead, n);
    return src;
  }
}

// Where a block's results are computed: in place for float and double, else in the buffer, which store() converts. Both
// ask for as many elements `ahead` as are written now, as load() does.
template <typename T>
STYLEGAN_OPS_HERE accumulate_t<T>* target(T* dst, accumulate_t<T>* buffer, int64_t n = 0, int64_t ahead = 0) {
  if constexpr (sizeof(T) == 2) {
    return buffer;
  } else {
    if (ahead != 0) prefetch<1>(dst + ahead, n);
    return dst;
  }
}

template <typename T>
STYLEGAN_OPS_HERE void store(const accumulate_t<T>* src, int64_t n, T* dst, int64_t ahead = 0) {
  if constexpr (sizeof(T) == 2) {
    int64_t i = 0;
    for (; ahead != 0 && i + kLine <= n; i += kLine) {
      __builtin_prefetch(dst + i + ahead, 1);
      narrow(src + i, kLine, dst + i);
    }
    narrow(src + i, n - i, dst + i);
  }
}

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

// The sum in double of the terms 0 to n - 1 of a block: add(total, i) adds term i to a number, or as many terms from i
// on as it has lanes to a vector.
template <typename A, typename F>
inline double add_up(int n, F&& add) {
  typedef A Vector __attribute__((vector_size(kVectorBytes), aligned(alignof(A)), may_alias));
  constexpr int lanes = kVectorBytes / sizeof(A);
  Vector even = {}, odd = {};
  A lane[lanes], rest = 0;
  int i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) add(even, i), add(odd, i + lanes);
  for (; i + lanes <= n; i += lanes) add(even, i);
  for (; i < n; ++i) add(rest, i);
  even += odd;
  std::memcpy(lane, &even, sizeof(lane));
  for (int half = lanes / 2; half > 0; half /= 2)
    for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
  return static_cast<double>(lane[0]) + rest;
}

template <typename V, typename A>
inline V& at(A* v) {
  return *reinterpret_cast<V*>(v);
}

template <typename A>
inline double sum(const A* v, int n) {
  return add_up<A>(n, [v](auto& total, int i) { total += at<const std::remove_reference_t<decltype(total)>>(v + i); });
}

// The same, and adds v to `rows` element by element.
template <typename A>
inline double sum_and_add(const A* v, int n, A* rows) {
  return add_up<A>(n, [v, rows](auto& total, int i) {
    using V = std::remove_reference_t<decltype(total)>;
    const V& term = at<const V>(v + i);
    total += term;
    at<V>(rows + i) += term;
  });
}

template <typename A>
inline double dot(const A* v, const A* w, int n) {
  return add_up<A>(n, [v, w](auto& total, int i) {
    using V = const std::remove_reference_t<decltype(total)>;
    total += at<V>(v + i) * at<V>(w + i);
  });
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

// Adjacent rows in blocks: whole rows where they are short, parts of one row where they are long. Calls f(first row,
// rows, first element of each, elements of each).
template <typename F>
inline void for_row_blocks(int64_t first, int64_t last, int64_t length, F&& f) {
  const int64_t rows = length <= kBlock ? kBlock / length : 1;
  for (int64_t row = first; row < last; row += rows)
    for (int64_t i = 0; i < length; i += kBlock)
      f(row, static_cast<int>(min64(rows, last - row)), i, static_cast<int>(min64(kBlock, length - i)));
}

// pattern[i] = v[i % length] as far as a block reaches, or `missing` where there is no v.
template <typename A>
inline void repeat(const A* v, int64_t length, A missing, A* pattern) {
  for (int64_t i = 0; i < kBlock; i += length)
    for (int64_t j = 0; j < min64(length, kBlock - i); ++j) pattern[i + j] = v == nullptr ? missing : v[j];
}

// total[j] += the sum of v[j], v[j + length], ... over the whole rows that fit into a block.
template <typename A>
inline void add_rows(const A* v, int64_t length, double* total) {
  for (int64_t i = 0; i + length <= kBlock; i += length)
    for (int64_t j = 0; j < length; ++j) total[j] += v[i + j];
}

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
