// Weights into the convolution's layout: [taps, O, packed channels]. Bytes: once in, once out.
#pragma once

#include "device.cuh"
#include "ops/modulated_conv2d.h"

namespace stylegan_ops::cuda {

// A thread packs all taps of one pair of channels, i the fastest: a warp writes rows of 32 channels.
template <typename From, typename T>
__global__ void __launch_bounds__(256, 1) pack_weight_kernel(const PackWeightParams p, int packed) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, o = blockIdx.y;
  if (i >= packed) return;
  const From* w = static_cast<const From*>(p.w) + o * p.stride_o + i * p.stride_i;
  T* out = static_cast<T*>(p.out) + static_cast<int64_t>(o) * packed + i;
  for (int y = 0; y < p.kernel_y; ++y)
    for (int x = 0; x < p.kernel_x; ++x, out += p.out_channels * packed)
      *out = i < p.in_channels ? narrow<T>(widen(w[y * p.stride_y + x * p.stride_x])) : narrow<T>(0);
}

template <typename From, typename T>
void launch_pack(const PackWeightParams& p, Stream stream) {
  const int packed = static_cast<int>(packed_channels(p.in_channels, p.dtype));
  launch("pack_weight", pack_weight_kernel<From, T>, dim3(ceil_div(packed, 256), p.out_channels), dim3(256), 0, stream,
         p, packed);
}

}  // namespace stylegan_ops::cuda
