// pixel_norm: y = x / sqrt(mean_c(x^2) + eps), and its backward.
#pragma once

#include "kernel.h"

namespace stylegan_ops {

// The tensor is seen as [outer, C, inner]. A work item is one vector of C elements where inner == 1, else a run of
// `run` inner positions.
struct PixelNormParams {
  const void* x;   // [outer, C, inner]
  const void* dy;  // [outer, C, inner], backward only
  void* y;         // [outer, C, inner]: the result, or dx in the backward
  int64_t outer, channels, inner;
  int64_t run, runs;  // inner positions in a work item, work items in an outer index
  double eps;
  DType dtype;
};

STYLEGAN_OPS_CPU_KERNEL(pixel_norm, PixelNormParams)
STYLEGAN_OPS_CPU_KERNEL(pixel_norm_backward, PixelNormParams)

namespace cuda {
void launch_pixel_norm(const PixelNormParams& params, Stream stream);
void launch_pixel_norm_backward(const PixelNormParams& params, Stream stream);
}  // namespace cuda

}  // namespace stylegan_ops
