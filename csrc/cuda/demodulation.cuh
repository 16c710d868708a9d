// Demodulation coefficients: scale[n, o] = (sum_ik (styles[n, i] w[o, i, k])^2 + eps)^-1/2 (Karras et al. 2020,
// equation 3), of all samples at once.
//
// One block is one output channel, one thread every 256th input channel: it squares that channel's taps once and weighs
// them by the styles of kSamples samples. The taps of neighbouring threads are adjacent, so that a warp uses all of the
// sectors it loads. Bytes moved: the weights once (from L2 again for every further kSamples samples), styles and
// coefficients next to nothing.
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

}  // namespace stylegan_ops::cuda
