// The launcher of an up-layer in one pass.
#include "conv_blur.cuh"
#include "conv_plan.cuh"

namespace stylegan_ops::cuda {

namespace {

// The segments that take the fewest steps. Two blocks share a multiprocessor; a block's beginning is half a step.
BlurPlan plan_blur(const Upfirdn2dParams& params, const ConvPlan& p) {
  BlurPlan b{};
  b.filter = params.filter;
  b.x_axis = fir_axis(params.x_axis, 2), b.y_axis = fir_axis(params.y_axis, 2);
  b.strips = static_cast<int>(ceil_div(b.x_axis.out + b.x_axis.shift, 2 * BlurShape::kStripColumns));
  const int64_t height = b.y_axis.out + b.y_axis.shift, columns = int64_t{p.samples} * b.strips * p.o_tiles;
  int64_t fewest = -1;
  for (int steps = 1;; ++steps) {
    const int segment = steps * BlurShape::kRows - 2;
    const int64_t segments = ceil_div(height, 2 * segment);
    const int64_t halves = ceil_div(columns * segments, 2 * multiprocessors()) * (2 * steps + 1);
    if (fewest < 0 || halves < fewest) fewest = halves, b.segment = segment, b.segments = static_cast<int>(segments);
    if (segments == 1) return b;
  }
}

template <typename Core>
void launch_core(const Upfirdn2dParams& params, Stream stream) {
  using T = typename Core::Element;
  const FusedConvParams& conv = *params.conv;
  ConvPlan p = conv_geometry(conv, sizeof(T));
  plan::set_tile(p, BlurShape::kPositions, BlurShape::kRows, BlurShape::kColumns);
  p.tile_n = p.phases = p.splits = 1;
  p.o_tiles = static_cast<int>(ceil_div(p.out_channels, BlurShape::kChannels));
  p.buffers = p.chunks > 1 ? 2 : 1;
  const BlurPlan b = plan_blur(params, p);
  const ConvOperands<T> operands{static_cast<const T*>(conv.x),
                                 static_cast<const T*>(conv.w),
                                 static_cast<const float*>(conv.styles),
                                 static_cast<T*>(params.out),
                                 nullptr,
                                 {}};
  launch("modulated_conv2d", conv_blur_kernel<Core>, dim3(p.samples * b.segments * b.strips * p.o_tiles),
         dim3(BlurShape::kThreads), BlurShape::shared_bytes(p), stream, p, b, operands,
         Epilogue<float>(*params.epilogue));
}

}  // namespace

bool has_conv_blur(DType dtype) {
  return dtype == DType::kFloat16 ||
         (dtype == DType::kBFloat16 && code_architecture(conv_blur_kernel<TensorCore<__half>>) >= 80);
}

void launch_conv_blur(const Upfirdn2dParams& params, Stream stream) {
  if (params.dtype == DType::kFloat16)
    launch_core<TensorCore<__half>>(params, stream);
  else
    launch_core<TensorCore<__nv_bfloat16>>(params, stream);
}

}  // namespace stylegan_ops::cuda
