// upfirdn2d: zero-insert up, pad or crop, FIR filter, keep every n-th pixel.
#pragma once

#include "conv_epilogue.h"
#include "kernel.h"
#include "modulated_conv2d.h"

namespace stylegan_ops {

// One axis of the resampling: output o is the sum over the taps k of tap[k] * in[(o * down + k - pad) / up], where the
// division is exact and the index inside; so the taps of output o start at k0 = (pad - o * down) mod up and advance by
// up, the inputs by one.
struct ResampleAxis {
  int64_t in, out;
  int64_t up, down, pad;
  int64_t taps;
};

// The filter as the user gave it: what a kernel reads that cannot have the host look at device memory.
struct DeviceFilter {
  const void* f;     // [taps] (both axes) or [y_axis.taps, x_axis.taps], of the accumulation dtype
  bool one_axis;     // f is [taps]
  bool correlation;  // the taps lie in correlation order; else they are to be reversed
  double gain;
};

// An image is seen as `images` of in_y x in_x pixels of `pixel` adjacent elements: [N * C] planes with pixel == 1 in
// the contiguous layout, N images with pixel == C in channels_last. A work item is one output row of one image.
struct Upfirdn2dParams {
  const void* x;        // [images, y.in, x.in, pixel]
  void* out;            // [images, y.out, x.out, pixel]
  const double* tap_x;  // [x_axis.taps] for a separable filter, in correlation order, gain included; else null
  const double* tap_y;  // [y_axis.taps], or null
  const double* tap;    // [y_axis.taps, x_axis.taps] for any other filter, or null
  DeviceFilter filter;  // in place of the three, for CUDA
  int64_t images, pixel;
  ResampleAxis x_axis, y_axis;
  const Phases* phases;         // the input as a transposed convolution left it, in place of x; channels_last only
  const FusedConvParams* conv;  // the transposed convolution that makes it, in place of x; launch_conv_blur's alone
  const EpilogueOperands* epilogue;  // what stands behind the filter, or null
  const void* bias;  // [channels], added to x's pixels before the filter, or null; filtered_lrelu's alone
  int64_t channels;  // of the bias
  DType dtype;
};

STYLEGAN_OPS_CPU_KERNEL(upfirdn2d, Upfirdn2dParams)

namespace cuda {
void launch_upfirdn2d(const Upfirdn2dParams& params, Stream stream);

// A transposed convolution of 3 x 3 taps, then a filter of at most 4 x 4 taps without resampling, then the epilogue.
bool has_conv_blur(DType dtype);  // on the current device
void launch_conv_blur(const Upfirdn2dParams& params, Stream stream);
}  // namespace cuda

}  // namespace stylegan_ops
