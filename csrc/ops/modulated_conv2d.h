// modulated_conv2d: y = conv(styles * x, weight), strided or transposed. The convolution is the library's; the kernels
// here put the phases of a transposed convolution together, rearrange weights, and compute the demodulation. The
// scaling in front and everything behind are conv_epilogue's.
#pragma once

#include "kernel.h"

namespace stylegan_ops {

// A transposed convolution of stride 2 as four dense ones: image [a][b] holds the output pixels (2 i + a, 2 j + b),
// channels_last.
struct Phases {
  const void* image[2][2];  // [N, height[a], width[b], C]
  int64_t height[2], width[2];
};

// A work item is one output row of one image.
struct InterleaveParams {
  Phases phases;
  void* out;  // [N, height, width, C]
  int64_t height, width, channels;
  int64_t element_size;
};

// Weights of another convolution made of w: out[p, q, r, s] = w[s, p, last_y - q * step, last_x - r * step], in
// channels_last order, which the library reads fastest. A work item is one p.
struct GatherTapsParams {
  const void* w;  // any layout, with the strides below, in elements
  void* out;      // [P, height, width, S]
  int64_t stride_p, stride_s, stride_y, stride_x;
  int64_t height, width, channels;  // channels: S
  int64_t last_y, last_x, step;
  int64_t element_size;
};

// Demodulation coefficients: scale[n, o] = (sum_ik (styles[n, i] w[o, i, k])^2 + eps)^-1/2. A work item is one o.
struct DemodulationParams {
  const void* w;       // `taps` adjacent elements at o * stride_o + i * stride_i
  const void* styles;  // [N, I] in the accumulation dtype
  void* scale;         // [N, O] in the accumulation dtype
  int64_t samples, out_channels, in_channels, taps;
  int64_t stride_o, stride_i;
  double eps;
  DType dtype;
};

STYLEGAN_OPS_CPU_KERNEL(demodulation, DemodulationParams)
STYLEGAN_OPS_CPU_KERNEL(interleave, InterleaveParams)
STYLEGAN_OPS_CPU_KERNEL(gather_taps, GatherTapsParams)

}  // namespace stylegan_ops
