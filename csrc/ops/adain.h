// adain: u = act(x + noise * strength[c] + bias[c]) * gain, then over the pixels of each (n, c)
//   y = scale * (u - mean(u)) / sqrt(var(u) + eps) + shift,
// and its backward, which makes mean and variance anew from x in the pass that adds up dy.
#pragma once

#include "bias_act.h"
#include "kernel.h"

namespace stylegan_ops {

// The small operands are of the accumulation dtype.
struct AdainParams {
  const void* x;         // [N, C, pixels] or [N, pixels, C]
  const void* dy;        // like x, backward only
  void* y;               // like x: the result, or dx in the backward
  const void* scale;     // [N, C], or null for 1
  const void* shift;     // [N, C], or null for 0; forward only
  const void* noise;     // [N or 1, pixels], or null
  const void* strength;  // [C], or null for 1
  const void* bias;      // [C], or null
  // The backward's sums, null where they are not wanted: of dy u', dy, strength dz, noise dz and dz, where u' is the
  // normalised u and dz = dx. Of the accumulation dtype; CUDA writes all, the CPU the first two.
  void* dscale;     // [N, C]
  void* dshift;     // [N, C]
  void* dnoise;     // [N or 1, pixels]
  void* dstrength;  // [C]
  void* dbias;      // [C]
  void* workspace;  // CUDA: of adain_workspace(params) bytes
  // CPU: what the work items leave, for a second stage on the host. The rows are samples (contiguous) or runs.
  double* partial_noise;     // [N, groups, pixels], or null
  double* partial_strength;  // [rows, C], or null
  double* partial_bias;      // [rows, C], or null
  double* moments;           // [N, runs, 4, C], channels_last only
  void* factors;             // [N, 4, C] of the accumulation dtype, channels_last only
  int64_t group, groups;     // planes in a work item, work items in a sample: contiguous only (else groups is 1)
  int64_t run, runs;         // pixels in a work item, work items in a sample: channels_last only
  int64_t samples, channels, pixels;
  int64_t noise_stride;  // from one sample's noise to the next: pixels, or 0 where all share it
  double eps;
  Layout layout;
  DType dtype;
  Activation activation;  // without a clamp
};

// Contiguous: a work item is `group` planes, read from memory once and from the cache once more.
STYLEGAN_OPS_CPU_KERNEL(adain_planes, AdainParams)
// channels_last: all runs' statistics, then the samples' factors (items are samples), then the runs again.
STYLEGAN_OPS_CPU_KERNEL(adain_statistics, AdainParams)
STYLEGAN_OPS_CPU_KERNEL(adain_factors, AdainParams)
STYLEGAN_OPS_CPU_KERNEL(adain_apply, AdainParams)

namespace cuda {
void launch_adain(const AdainParams& params, Stream stream);
void launch_adain_backward(const AdainParams& params, Stream stream);
int64_t adain_workspace(const AdainParams& params);           // all but workspace is set
int64_t adain_backward_workspace(const AdainParams& params);  // likewise
}  // namespace cuda

}  // namespace stylegan_ops
