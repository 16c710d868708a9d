// Weighted sums of a few shifted rows, the arithmetic of a FIR filter.
#pragma once

#include "lanes.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

// sum_k weight[k] * source[k][j], for a vector of j or for one.
template <typename V, int COUNT, typename A>
inline STYLEGAN_OPS_IN_LOOP V sum_at(const A* const* s, const A* w, int64_t j) {
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
