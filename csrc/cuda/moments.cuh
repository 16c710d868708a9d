// Mean and variance of planes, without cancellation, and what becomes of them.
//
// Whoever adds up deviations does so about a reference near the values: the mean of some of them. The mean is then
// reference + offset with a small offset, and deviations from it are (u - reference) - offset: exact where the values
// lie far from 0, in the accumulation dtype alone. Where a plane is the work of many blocks, each leaves its moments as
// six numbers, and one warp per plane merges them in float64, in a fixed order (Chan, Golub and LeVeque 1983).
#pragma once

#include "device.cuh"

namespace stylegan_ops::cuda {

enum MomentPart { kReference, kOffset, kDeviations, kCount, kTotal, kProduct, kMomentParts };

// Where the terms of plane (n, c) lie: at n * step_n + c * step_c + i * step_i + j * step_j of each of the parts, which
// are `part` elements long.
struct MomentTerms {
  int64_t step_n, step_c, step_i, step_j, part;
  int channels, count_i, count_j;
};

// y = (u - centre) * slope + (offset + dy * grad): the forward without dy, the gradient of u with it.
template <typename A>
struct alignas(kVectorBytes) PlaneFactors {
  A centre, slope, offset, grad;

  // u' = (u - reference - offset) * inverse; the sums over n values of dy and of dy (u - mean).
  static __device__ __forceinline__ PlaneFactors forward(A reference, A offset, A inverse, A scale, A shift) {
    const A slope = scale * inverse;
    return {reference, slope, shift - offset * slope, 0};
  }
  static __device__ __forceinline__ PlaneFactors backward(A reference, A offset, A inverse, A scale, A total, A product,
                                                          A inverse_count) {
    const A grad = scale * inverse, slope = -grad * inverse * inverse * (product * inverse_count);
    return {reference, slope, -grad * (total * inverse_count) - offset * slope, grad};
  }
};

// v[s] = the sum of v[s] over a plane's `lanes` threads, a power of two of them: side by side in a warp, or all of the
// block, whose warps leave their sums in shared memory.
template <int SUMS, typename A>
__device__ __forceinline__ void team_sum(A (&v)[SUMS], int lanes, A* shared) {  // shared: [SUMS, kWarp]
#pragma unroll
  for (int s = 0; s < SUMS; ++s)
    for (int distance = (lanes < kWarp ? lanes : kWarp) / 2; distance > 0; distance /= 2)
      v[s] += __shfl_xor_sync(0xffffffffu, v[s], distance);
  if (lanes <= kWarp) return;
  __syncthreads();  // for those who still read the sums before
#pragma unroll
  for (int s = 0; s < SUMS; ++s) {
    if (threadIdx.x % kWarp == 0) shared[s * kWarp + threadIdx.x / kWarp] = v[s];
    v[s] = 0;
  }
  __syncthreads();
  for (int warp = 0; warp < lanes / kWarp; ++warp) {
#pragma unroll
    for (int s = 0; s < SUMS; ++s) v[s] += shared[s * kWarp + warp];
  }
}

constexpr int kMergeThreads = 256;

// One warp = one plane; adjacent planes share a block, since their terms may be adjacent.
template <typename A, bool BACKWARD>
__global__ void __launch_bounds__(kMergeThreads) adain_factors_kernel(const A* terms,  // [kMomentParts, part]
                                                                      MomentTerms s,
                                                                      const A* scale,            // [N, C] or null
                                                                      const A* shift,            // [N, C] or null
                                                                      PlaneFactors<A>* factors,  // [N, C]
                                                                      A* dscale,                 // [N, C] or null
                                                                      A* dshift,                 // [N, C] or null
                                                                      int64_t planes, double eps) {
  const int64_t plane = static_cast<int64_t>(blockIdx.x) * (kMergeThreads / kWarp) + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp, count = s.count_i * s.count_j;
  if (plane >= planes) return;
  const A* at = terms + plane / s.channels * s.step_n + plane % s.channels * s.step_c;
  const auto for_terms = [&](auto&& f) {
    for (int t = lane; t < count; t += kWarp) {
      const A* term = at + t / s.count_j * s.step_i + t % s.count_j * s.step_j;
      const double mean = static_cast<double>(term[0]) + static_cast<double>(term[s.part]);
      f(term, mean, static_cast<double>(term[kCount * s.part]));
    }
  };
  double pixels = 0, mean = 0;
  for_terms([&](const A*, double own, double n) {
    if (n > 0) pixels += n, mean += n * own;
  });
  pixels = warp_sum(pixels);
  mean = warp_sum(mean) / pixels;
  double deviations = 0, total = 0, product = 0;
  for_terms([&](const A* term, double own, double n) {
    if (n == 0) return;
    deviations += term[kDeviations * s.part] + n * (own - mean) * (own - mean);
    if constexpr (BACKWARD) {
      const double dy = term[kTotal * s.part];
      total += dy, product += term[kProduct * s.part] + dy * (own - mean);
    }
  });
  deviations = warp_sum(deviations), total = warp_sum(total), product = warp_sum(product);
  if (lane != 0) return;
  const A reference = static_cast<A>(mean);
  const double offset = mean - reference, inverse = rsqrt(deviations / pixels + eps);
  const double of_scale = scale == nullptr ? 1 : scale[plane], of_shift = shift == nullptr ? 0 : shift[plane];
  using Exact = PlaneFactors<double>;
  const Exact f = BACKWARD ? Exact::backward(reference, offset, inverse, of_scale, total, product, 1 / pixels)
                           : Exact::forward(reference, offset, inverse, of_scale, of_shift);
  factors[plane] = {reference, static_cast<A>(f.slope), static_cast<A>(f.offset), static_cast<A>(f.grad)};
  if constexpr (BACKWARD) {
    if (dscale != nullptr) dscale[plane] = static_cast<A>(product * inverse);
    if (dshift != nullptr) dshift[plane] = static_cast<A>(total);
  }
}

}  // namespace stylegan_ops::cuda
