// conv_epilogue: out = clamp(act(y * scale + noise * strength + bias) * gain) behind a convolution, and its backward in
// one pass.
#pragma once

#include "bias_act.h"
#include "kernel.h"

namespace stylegan_ops {

// What stands behind a convolution. The small operands are of the accumulation dtype.
struct EpilogueOperands {
  const void* scale;     // [N, C], or null for 1
  const void* noise;     // [N or 1, pixels], or null
  const void* strength;  // [], or null for 1
  const void* bias;      // [C], or null
  int64_t channels;
  int64_t noise_stride;  // from one sample's noise to the next: pixels, or 0 where all share it
  Activation activation;
};

// A work item is a run of `run` pixels of one sample where the layout is channels_last, else one (n, c) plane.
struct ConvEpilogueParams {
  const void* y;  // [N, C, pixels] or [N, pixels, C]
  void* out;      // like y; may be y itself
  EpilogueOperands operands;
  int64_t samples, pixels;
  int64_t run, runs;  // pixels in a run, runs in a sample
  Layout layout;
  DType dtype;
};

// dz = dout * da/dz, then dy = dz * scale and the sums. Where y is not kept, it is recovered from the output:
//   y = (act^-1(ref / gain) - noise * strength - bias) / scale
// wherever dz is not 0, so that a layer keeps its output only. A work item is a run of pixels of one sample in both
// layouts; each leaves its sums in a row of its own, and a second stage adds the rows in a fixed order.
struct ConvEpilogueBackwardParams {
  const void* dout;   // [N, C, pixels] or [N, pixels, C]
  const void* ref;    // like dout: what da/dz is a function of (see bias_act.h), or null for linear
  const void* y;      // like dout: the epilogue's input, or null where no gradient of scale is wanted or y is recovered
  const void* scale;  // [N, C], or null
  const void* noise;  // [N or 1, pixels], or null
  const void* strength;  // [], or null
  const void* bias;      // [C], or null; read only where y is recovered
  bool recovers;         // y from ref, which needs scale
  void* dy;              // like dout
  // CPU: what the work items leave, for a second stage on the host.
  double* partial_scale;     // [N, runs, C]: sums of dz * y, or null
  double* partial_bias;      // [N, runs, C]: sums of dz, or null
  double* partial_strength;  // [N, runs]: sums of dz * noise, or null
  double* partial_noise;     // [N, pixels]: sums of dz * strength over the channels, or null
  // CUDA: the sums themselves, of the accumulation dtype or null, and what blocks leave for the second stage.
  void* dscale;     // [N, C]
  void* dbias;      // [C]
  void* dstrength;  // []
  void* dnoise;     // [N or 1, pixels]
  void* workspace;  // of conv_epilogue_backward_workspace(params) bytes
  int64_t order;    // 0; bias_act_backward, which runs on the same kernel, has others
  int64_t samples, channels, pixels;
  int64_t noise_stride;
  int64_t run, runs;
  Layout layout;
  DType dtype;
  Activation activation;
};

STYLEGAN_OPS_CPU_KERNEL(conv_epilogue, ConvEpilogueParams)
STYLEGAN_OPS_CPU_KERNEL(conv_epilogue_backward, ConvEpilogueBackwardParams)

namespace cuda {
void launch_conv_epilogue(const ConvEpilogueParams& params, Stream stream);
void launch_conv_epilogue_backward(const ConvEpilogueBackwardParams& params, Stream stream);
int64_t conv_epilogue_backward_workspace(const ConvEpilogueBackwardParams& params);  // all but workspace is set
}  // namespace cuda

}  // namespace stylegan_ops
