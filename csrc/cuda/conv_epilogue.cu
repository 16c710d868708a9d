#include "conv_epilogue.cuh"
#include "conv_epilogue_backward.cuh"

namespace stylegan_ops::cuda {

void launch_conv_epilogue(const ConvEpilogueParams& params, Stream stream) { run_conv_epilogue(params, stream); }

void launch_conv_epilogue_backward(const ConvEpilogueBackwardParams& params, Stream stream) {
  run_conv_epilogue_backward(params, stream);
}

int64_t conv_epilogue_backward_workspace(const ConvEpilogueBackwardParams& params) {
  int64_t bytes = 0;
  by_dtype(params.dtype, [&](auto zero) { bytes = EpilogueBackwardPlan<decltype(zero)>(params).sums.bytes(); });
  return bytes;
}

}  // namespace stylegan_ops::cuda
