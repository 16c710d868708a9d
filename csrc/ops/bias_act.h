// bias_act: y = clamp(act(x + b) * gain), and the family of its derivatives.
#pragma once

#include "kernel.h"

namespace stylegan_ops {

enum class Act : int32_t { kLinear, kRelu, kLrelu, kTanh, kSigmoid, kElu, kSelu, kSoftplus, kSwish };

// An activation with what stands behind it: a(z) = clamp(act(z) * gain).
struct Activation {
  Act act;
  double alpha;
  double gain;
  double clamp;  // NaN: none, since every comparison with NaN is false
};

// Whether da/dz is a function of a(z), so that the derivatives need only the output; else they take z. Mirrors
// keeps_output() in Python.
inline bool keeps_output(const Activation& a) { return a.act != Act::kSwish && !(a.act == Act::kLrelu && a.alpha < 0); }

// Whether z is told by a(z) wherever da/dz is not 0, without loss. Mirrors recovers_input() in Python.
inline bool recovers_input(const Activation& a) { return a.act <= Act::kLrelu && keeps_output(a); }

// The tensor is seen as [outer, C, inner]: inner == 1 is channels_last. A work item is a run of `rows` (outer, C)
// vectors where inner == 1, else one (outer, c) row of `inner` elements.
struct BiasActParams {
  const void* x;  // [outer, C, inner]
  const void* b;  // [C] in the accumulation dtype, or null
  void* y;        // [outer, C, inner]
  int64_t outer, channels, inner;
  int64_t rows;  // vectors in a work item, inner == 1 only
  DType dtype;
  Activation activation;
};

// bias_act_backward: dx = dy * d^order/dref^order (da/dz), db[c] = sum dx over everything but c.
struct BiasActBackwardParams {
  const void* dy;   // [outer, C, inner]
  const void* ref;  // [outer, C, inner]: a(z) or z, see keeps_output; null for linear without a clamp
  void* dx;         // [outer, C, inner]
  double* partial;  // CPU: sums of dx, [work items, C] where inner == 1, else [work items]; null: not wanted
  void* db;         // CUDA: [C] in the accumulation dtype, or null
  void* workspace;  // CUDA: of bias_act_backward_workspace(params) bytes
  int64_t outer, channels, inner;
  int64_t rows;
  int64_t order;
  DType dtype;
  Activation activation;
};

STYLEGAN_OPS_CPU_KERNEL(bias_act, BiasActParams)
STYLEGAN_OPS_CPU_KERNEL(bias_act_backward, BiasActBackwardParams)

namespace cuda {
void launch_bias_act(const BiasActParams& params, Stream stream);
void launch_bias_act_backward(const BiasActBackwardParams& params, Stream stream);
int64_t bias_act_backward_workspace(const BiasActBackwardParams& params);  // all but workspace is set
}  // namespace cuda

}  // namespace stylegan_ops
