#include "bias_act.cuh"

namespace stylegan_ops::cuda {

void launch_bias_act(const BiasActParams& params, Stream stream) { launch_conv_epilogue(as_epilogue(params), stream); }

void launch_bias_act_backward(const BiasActBackwardParams& params, Stream stream) {
  launch_conv_epilogue_backward(as_epilogue(params), stream);
}

int64_t bias_act_backward_workspace(const BiasActBackwardParams& params) {
  return conv_epilogue_backward_workspace(as_epilogue(params));
}

}  // namespace stylegan_ops::cuda
