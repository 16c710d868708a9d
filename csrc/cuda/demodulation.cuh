// Demodulation coefficients: scale[n, o] = (sum_ik (styles[n, i] w[o, i, k])^2 + eps)^-1/2 (Karras et al. 2020,
// equation 3), of all samples at once.
//
// One block is one output channel, one thread every 256th input channel: it squares that channel's taps once and weighs
// them by the styles of kSamples samples. The taps of neighbouring threads are adjacent, so that a warp uses all of the
// sectors it loads. Bytes moved: the weights once (from L2 again for every further kSamples samples), styles and
// coefficients next to nothing.
//
// modulation_kernel does the same for all layers of a network at once, from the taps' sums that are kept between calls:
// row y of the grid is a layer, a warp makes the coefficients of one output channel. Bytes moved: the sums once for
// every sample (from L2 beyond the first), styles next to nothing.
#pragma once

#include "device.cuh"
#include "ops/modulated_conv2d.h"

namespace stylegan_ops::cuda {

constexpr int kDemodulationThreads = 256;
constexpr int kDemodulationSamples = 8;  // sums that a thread holds in registers

template <typename T>
__global__ void __launch_bounds__(kDemodulationThreads) demodulation_kernel(DemodulationParams p) {
  using A = Accumulate<T>;
  constexpr int kWarps = kDemodulationThreads / kWarp;
  __shared__ A partial[kDemodulationSamples][kWarps];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t o = blockIdx.x;
  const T* const w = static_cast<const T*>(p.w) + o * p.stride_o;  // [I, taps]
  for (int64_t first = 0; first < p.samples; first += kDemodulationSamples) {
    const int count =
        static_cast<int>(p.samples - first < kDemodulationSamples ? p.samples - first : kDemodulationSamples);
    const A* const styles = static_cast<const A*>(p.styles) + first * p.in_channels;  // [count, I]
    A sum[kDemodulationSamples] = {};
    for (int64_t i = threadIdx.x; i < p.in_channels; i += kDemodulationThreads) {
      A energy = 0;
      for (int64_t k = 0; k < p.taps; ++k) {
        const A tap = widen(w[i * p.stride_i + k]);
        energy += tap * tap;
      }
#pragma unroll
      for (int n = 0; n < kDemodulationSamples; ++n) {
        if (n < count) {
          const A s = styles[n * p.in_channels + i];
          sum[n] += s * s * energy;
        }
      }
    }
#pragma unroll
    for (int n = 0; n < kDemodulationSamples; ++n) {
      const A total = warp_sum(sum[n]);
      if (lane == 0) partial[n][warp] = total;
    }
    __syncthreads();
    if (threadIdx.x < count) {
      A total = static_cast<A>(p.eps);
      for (int i = 0; i < kWarps; ++i) total += partial[threadIdx.x][i];
      static_cast<A*>(p.scale)[(first + threadIdx.x) * p.out_channels + o] = 1 / sqrt(total);
    }
    __syncthreads();  // the sums are written again
  }
}

constexpr int kModulationWarps = 8;

// A power of two of the size of the largest of v, such that none is above 1 when divided by it; for a whole warp.
template <typename A>
__device__ __forceinline__ A size_of_largest(const A* v, int count) {
  A most = 0;
  for (int i = threadIdx.x % kWarp; i < count; i += kWarp) most = fmax(most, fabs(v[i]));
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    most = fmax(most, __shfl_xor_sync(0xffffffffu, most, distance));
  if (!(most > 0 && isfinite(most))) return 1;
  int exponent;
  frexp(most, &exponent);
  return ldexp(A(1), exponent);
}

template <typename A>
__global__ void __launch_bounds__(kModulationWarps* kWarp) modulation_kernel(ModulationParams p) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const ModulationParams::Layer layer = p.layer[blockIdx.y];
  const int in = static_cast<int>(layer.in_channels);
  const A* const given = static_cast<const A*>(p.given) + blockIdx.y * p.samples * p.most_channels;
  const A* const factors = static_cast<const A*>(p.factors) + 2 * blockIdx.y;

  if (blockIdx.x == 0) {  // the styles themselves
    for (int64_t n = warp; n < p.samples; n += kModulationWarps) {
      const A* const from = given + n * p.most_channels;
      const A size = p.factors == nullptr ? A(1) : size_of_largest(from, in) * factors[0];
      A* const to = static_cast<A*>(p.styles) + layer.styles + n * in;
      for (int i = lane; i < in; i += kWarp) to[i] = from[i] / size;
    }
  }

  const int64_t o = static_cast<int64_t>(blockIdx.x) * kModulationWarps + warp;
  if (o >= layer.out_channels) return;
  const A* const roots = layer.roots < 0 ? nullptr : static_cast<const A*>(p.roots) + layer.roots + o * in;
  for (int64_t n = 0; n < p.samples; ++n) {
    const A* const s = given + n * p.most_channels;
    A scale = p.factors == nullptr ? A(1) : size_of_largest(s, in) * factors[1];
    if (roots != nullptr) {
      A energy = 0;
      for (int i = lane; i < in; i += kWarp) {
        const A v = s[i] * roots[i];
        energy += v * v;
      }
      scale /= sqrt(warp_sum(energy) + static_cast<A>(p.eps));
    }
    if (lane == 0) static_cast<A*>(p.scale)[layer.scale + n * layer.out_channels + o] = scale;
  }
}

}  // namespace stylegan_ops::cuda
