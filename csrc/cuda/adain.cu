#include "adain.cuh"
#include "adain_backward.cuh"

namespace stylegan_ops::cuda {

void launch_adain(const AdainParams& params, Stream stream) { run_adain(params, stream); }

void launch_adain_backward(const AdainParams& params, Stream stream) { run_adain_backward(params, stream); }

int64_t adain_workspace(const AdainParams& params) {
  int64_t bytes = 0;
  by_dtype(params.dtype, [&](auto zero) { bytes = AdainPlan<decltype(zero), false>(params, true).bytes; });
  return bytes;
}

int64_t adain_backward_workspace(const AdainParams& params) {
  int64_t bytes = 0;
  by_dtype(params.dtype, [&](auto zero) { bytes = AdainBackwardPlan<decltype(zero)>(params).bytes(); });
  return bytes;
}

}  // namespace stylegan_ops::cuda
