// Weighted sums of a few shifted rows, the arithmetic of a FIR filter.
//
// Rows are short, so their vectors are written out: the compiler's own vectorisation spends more on alignment and
// remainders than on the work.
#pragma once

#include <utility>

#include "block.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
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
};

// sum_k weight[k] * source[k][j], for a vector of j or for one.
template <typename V, int COUNT, typename A>
inline __attribute__((always_inline)) V sum_at(const A* const* s, const A* w, int64_t j) {
  V sum = w[0] * *reinterpret_cast<const V*>(s[0] + j);
  for (int k = 1; k < COUNT; ++k) sum += w[k] * *reinterpret_cast<const V*>(s[k] + j);
  return sum;
}

// dst = sum_k weight[k] * source[k], or that added to dst.
template <int COUNT, bool ADD, typename A>
inline void weighted_sum_block(const A* const* s, const A* w, int n, A* d) {
  using V = typename Simd<A>::Unaligned;
  int j = 0;
  for (; j + Simd<A>::kLanes <= n; j += Simd<A>::kLanes) {
    V* to = reinterpret_cast<V*>(d + j);
    *to = ADD ? *to + sum_at<V, COUNT>(s, w, j) : sum_at<V, COUNT>(s, w, j);
  }
  for (; j < n; ++j) d[j] = ADD ? d[j] + sum_at<A, COUNT>(s, w, j) : sum_at<A, COUNT>(s, w, j);
}

// Two phases of two taps each at once, put together in registers: dst[2 j] and dst[2 j + 1] from sources 0, 1 and 2, 3.
template <typename A>
inline void weighted_sum_pairs(const A* const* s, const A* w, int64_t outputs, A* d) {
  using V = typename Simd<A>::Unaligned;
  constexpr int lanes = Simd<A>::kLanes;
  constexpr auto all = std::make_index_sequence<lanes>();
  int64_t j = 0;
  for (; 2 * (j + lanes) <= outputs; j += lanes) {
    const V even = sum_at<V, 2>(s, w, j), odd = sum_at<V, 2>(s + 2, w + 2, j);
    *reinterpret_cast<V*>(d + 2 * j) = Simd<A>::template zip<true>(even, odd, all);
    *reinterpret_cast<V*>(d + 2 * j + lanes) = Simd<A>::template zip<false>(even, odd, all);
  }
  for (; 2 * j < outputs; ++j) {
    d[2 * j] = sum_at<A, 2>(s, w, j);
    if (2 * j + 1 < outputs) d[2 * j + 1] = sum_at<A, 2>(s + 2, w + 2, j);
  }
}

template <bool ADD, typename T, typename A>
inline void weighted_sum4(const T* const* source, const A* weight, int count, int64_t n, A* dst) {
  A buffer[4][kBlock];
  for (int64_t i = 0; i < n; i += kBlock) {
    const int m = static_cast<int>(min64(kBlock, n - i));
    const A* s[4] = {};
    for (int k = 0; k < count; ++k) s[k] = load(source[k] + i, m, buffer[k]);
    if (count == 1) weighted_sum_block<1, ADD>(s, weight, m, dst + i);
    if (count == 2) weighted_sum_block<2, ADD>(s, weight, m, dst + i);
    if (count == 3) weighted_sum_block<3, ADD>(s, weight, m, dst + i);
    if (count == 4) weighted_sum_block<4, ADD>(s, weight, m, dst + i);
  }
}

template <typename T, typename A>
inline void weighted_sum(const T* const* source, const A* weight, int count, int64_t n, A* dst) {
  if (count == 0) {
    for (int64_t j = 0; j < n; ++j) dst[j] = 0;
    return;
  }
  weighted_sum4<false>(source, weight, count < 4 ? count : 4, n, dst);
  for (int k = 4; k < count; k += 4) weighted_sum4<true>(source + k, weight + k, count - k < 4 ? count - k : 4, n, dst);
}

}  // namespace
STYLEGAN_OPS_END_VARIANT
