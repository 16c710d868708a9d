// modulated_conv2d: y = conv(styles * x, weight), strided or transposed. The convolution is the library's; the kernels
// here put the phases of a transposed convolution together, rearrange weights, and compute the demodulation. The
// scaling in front and everything behind are conv_epilogue's.
#pragma once

#include "conv_epilogue.h"
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

// The styles of all layers of a network, and their demodulation coefficients with sum_k w^2 at hand. A work item is one
// layer.
struct ModulationParams {
  static constexpr int kMostLayers = 64;
  struct Layer {
    int64_t in_channels, out_channels;  // out_channels: coefficients for each sample, perhaps none
    int64_t roots;                      // where in `roots` the layer's [O, I] begin; -1: no demodulation
    int64_t styles, scale;              // where in the results its [N, I] and [N, O] begin
  };
  Layer layer[kMostLayers];
  const void* given;    // [layers, N, most_channels]: the styles
  const void* roots;    // (sum_k w[o, i, k]^2)^1/2 of one layer behind the other
  const void* factors;  // [layers, 2]: (a, b), or null for (1, 1) and c = 1
  void* styles;         // divided by a * c, where c is a power of two of the size of a sample's largest
  void* scale;          // the coefficients multiplied by b * c
  int64_t samples, layers, most_channels;
  double eps;
  DType dtype;  // float32 or float64, of all
};

STYLEGAN_OPS_CPU_KERNEL(demodulation, DemodulationParams)
STYLEGAN_OPS_CPU_KERNEL(modulation, ModulationParams)
STYLEGAN_OPS_CPU_KERNEL(interleave, InterleaveParams)
STYLEGAN_OPS_CPU_KERNEL(gather_taps, GatherTapsParams)

// The CUDA kernels, all in channels_last. A "transposed" convolution has stride 2 and the output size that is asked
// for.

// Weights in the kernel's layout: out[tap, o, i] = w(o, i, tap), in rows of packed_channels(i), zeros behind them.
struct PackWeightParams {
  const void* w;  // float32 or of `dtype`, with the strides below, in elements; they may be negative
  void* out;      // [kernel_y * kernel_x, O, packed channels]
  int64_t stride_o, stride_i, stride_y, stride_x;
  int64_t in_channels, out_channels, kernel_y, kernel_x;
  bool from_float32;
  DType dtype;
};

// y = clamp(act(conv(styles * x, w) * scale + noise * strength + bias) * gain).
struct FusedConvParams {
  const void* x;       // [N, height, width, I]
  const void* w;       // [kernel * kernel, O, packed channels]: see PackWeightParams
  const void* styles;  // [N, I] in the accumulation dtype, or null for 1
  void* y;             // [N, out_height, out_width, O], or null where only products are wanted
  const void* factor;  // like y, or null: then products are wanted as well
  void* products;      // [N, O] in the accumulation dtype: sums over the pixels of conv(styles * x, w) * factor
  void* workspace;     // cuda::fused_conv_workspace(params) bytes
  int64_t samples, height, width, in_channels;
  int64_t out_height, out_width, out_channels;
  int64_t kernel, stride, pad_y, pad_x;  // kernel: 1 or 3
  bool transposed;
  bool tf32;  // whether float32 may be multiplied on tensor cores
  EpilogueOperands epilogue;
  DType dtype;
};

// dw(o, i, tap) = sum over pixels of (scale * dy) * (styles * x): the gradient of a strided convolution's weights; that
// of a transposed one's is the same with the two images exchanged.
struct FusedConvWeightParams {
  const void* x;       // [N, height, width, I]
  const void* dy;      // [N, out_height, out_width, O]
  const void* styles;  // [N, I] in the accumulation dtype, or null for 1
  const void* scale;   // [N, O] in the accumulation dtype, or null for 1
  void* dw;            // in the dtype, with the strides below, in elements
  void* workspace;     // cuda::fused_conv_weight_workspace(params) bytes, at most 64 MiB
  int64_t stride_o, stride_i, stride_y, stride_x;
  int64_t samples, height, width, in_channels;
  int64_t out_height, out_width, out_channels;
  int64_t kernel, stride, pad_y, pad_x;  // kernel: 1 or 3
  bool tf32;
  DType dtype;
};

namespace cuda {

void launch_demodulation(const DemodulationParams& params, Stream stream);
void launch_modulation(const ModulationParams& params, Stream stream);

// The length of the packed weights' rows: whole chunks of 64 bytes.
inline int64_t packed_channels(int64_t channels, DType dtype) {
  const int64_t chunk = dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 16 : 32;
  return (channels + chunk - 1) / chunk * chunk;
}

void launch_pack_weight(const PackWeightParams& params, Stream stream);

int64_t fused_conv_workspace(const FusedConvParams& params);  // of the current device
void launch_fused_conv(const FusedConvParams& params, Stream stream);

int64_t fused_conv_weight_workspace(const FusedConvWeightParams& params);
void launch_fused_conv_weight(const FusedConvWeightParams& params, Stream stream);

}  // namespace cuda

}  // namespace stylegan_ops
