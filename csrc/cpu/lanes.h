// A vector's worth of elements at a time, written out: rows are short, and the compiler's own vectorisation spends more
// on alignment and remainders than on the work.
#pragma once

#include <utility>

#include "block.h"

// For functions and lambdas that are a loop's body: a call per vector would cost as much as its arithmetic.
#define STYLEGAN_OPS_IN_LOOP __attribute__((always_inline))

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

template <typename A>
struct Simd {
  static constexpr int kLanes = kVectorBytes / sizeof(A);
  typedef A Vector __attribute__((vector_size(kVectorBytes)));
  typedef A Unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(A)), may_alias));
  typedef typename std::conditional<sizeof(A) == 8, int64_t, int32_t>::type Index;
  typedef Index Indices __attribute__((vector_size(kVectorBytes)));

  // even[0] odd[0] even[1] odd[1] ..., the first half of the lanes if FIRST, else the second.
  template <bool FIRST, size_t... LANE>
  static Vector zip(Vector even, Vector odd, std::index_sequence<LANE...>) {
    constexpr Index from = FIRST ? 0 : kLanes / 2;
    const Indices order = {(from + static_cast<Index>(LANE / 2) + static_cast<Index>(LANE % 2) * kLanes)...};
    return __builtin_shuffle(even, odd, order);
  }

  // Every second element of `low` and then `high`, from the first if !ODD, else from the second.
  template <bool ODD, size_t... LANE>
  static Vector unzip(Vector low, Vector high, std::index_sequence<LANE...>) {
    const Indices order = {(static_cast<Index>(2 * LANE) + (ODD ? 1 : 0))...};
    return __builtin_shuffle(low, high, order);
  }
};

typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));
typedef uint16_t HalfWords __attribute__((vector_size(kVectorBytes)));
typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2), aligned(2), may_alias));

// Written out, since the compiler widens half a vector at a time.
inline STYLEGAN_OPS_IN_LOOP Words widened(const void* p) {
#if defined(__AVX512F__)
  return reinterpret_cast<Words>(
      _mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256(static_cast<const __m256i*>(p))));
#elif defined(__AVX2__)
  return reinterpret_cast<Words>(_mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))));
#else
  return __builtin_convertvector(*static_cast<const Narrow*>(p), Words);
#endif
}

// The upper half of each word, in the lower half of the vector.
template <size_t... LANE>
inline STYLEGAN_OPS_IN_LOOP HalfWords upper_halves(Words words, std::index_sequence<LANE...>) {
  const HalfWords halves = reinterpret_cast<HalfWords>(words);
  return __builtin_shuffle(halves, HalfWords{(2 * LANE + 1) % (2 * sizeof...(LANE))...});
}

// Elements from and to memory, in the accumulation dtype: V is a vector of it or that dtype itself.
template <typename V, typename T>
inline STYLEGAN_OPS_IN_LOOP V get(const T* p) {
  using A = accumulate_t<T>;
  if constexpr (std::is_same_v<T, A>) {
    if constexpr (sizeof(V) == sizeof(A))
      return *p;
    else
      return *reinterpret_cast<const typename Simd<A>::Unaligned*>(p);
  } else if constexpr (sizeof(V) == sizeof(A)) {
    return to_float(*p);
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    return reinterpret_cast<V>(widened(p) << 16);
  } else {
#if defined(__AVX512F__)
    return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
    A buffer[Simd<A>::kLanes];
    return *reinterpret_cast<const typename Simd<A>::Unaligned*>(load(p, Simd<A>::kLanes, buffer));
#endif
  }
}

template <typename V, typename T>
inline STYLEGAN_OPS_IN_LOOP void put(V v, T* p) {
  using A = accumulate_t<T>;
  if constexpr (std::is_same_v<T, A>) {
    if constexpr (sizeof(V) == sizeof(A))
      *p = v;
    else
      *reinterpret_cast<typename Simd<A>::Unaligned*>(p) = v;
  } else if constexpr (sizeof(V) == sizeof(A)) {
    from_float(v, *p);
  } else if constexpr (std::is_same_v<T, bfloat16>) {  // to nearest, ties to even, as from_float
    const Words bits = reinterpret_cast<Words>(v), rounded = bits + 0x7fffu + (bits >> 16 & 1u);
    const Words result = v == v ? rounded : Words{} + 0x7fc00000u;
    const HalfWords halves = upper_halves(result, std::make_index_sequence<kVectorBytes / 2>());
    *reinterpret_cast<Narrow*>(p) = *reinterpret_cast<const Narrow*>(&halves);
  } else {
#if defined(__AVX512F__)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtps_ph(0xffff, v, 0));
#elif defined(__F16C__)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, 0));
#else
    A buffer[Simd<A>::kLanes];
    *reinterpret_cast<typename Simd<A>::Unaligned*>(buffer) = v;
    store(buffer, Simd<A>::kLanes, p);
#endif
  }
}

// Calls f(j, V()) for all j < n: by vectors, the last of which may do some elements again; one by one where n is short.
template <typename A, typename F>
inline STYLEGAN_OPS_IN_LOOP void for_lanes(int64_t n, F&& f) {
  using V = typename Simd<A>::Vector;
  constexpr int lanes = Simd<A>::kLanes;
  int64_t j = 0;
  if (n < lanes) {
    for (; j < n; ++j) f(j, A());
    return;
  }
  for (; j + lanes <= n; j += lanes) f(j, V{});
  if (j < n) f(n - lanes, V{});
}

// Asks for what is read or written next behind p. A core waits for memory without that, where it has little else to do:
// the hardware's prefetcher begins anew in every page and does not run far ahead of stores.
template <typename T>
inline STYLEGAN_OPS_IN_LOOP void prefetch_behind(const T* p) {
  __builtin_prefetch(reinterpret_cast<const char*>(p) + 2048);
}

}  // namespace
STYLEGAN_OPS_END_VARIANT
