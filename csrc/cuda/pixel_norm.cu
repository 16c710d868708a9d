#include "pixel_norm.cuh"

namespace stylegan_ops::cuda {

void launch_pixel_norm(const PixelNormParams& params, Stream stream) { run_pixel_norm<false>(params, stream); }

void launch_pixel_norm_backward(const PixelNormParams& params, Stream stream) { run_pixel_norm<true>(params, stream); }

}  // namespace stylegan_ops::cuda
