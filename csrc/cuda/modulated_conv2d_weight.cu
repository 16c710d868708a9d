// The launchers of the convolution's weights: their layout, and their gradient.
#include "conv_pack.cuh"
#include "modulated_conv2d_weight.cuh"

namespace stylegan_ops::cuda {

namespace {

struct WeightPlan {
  ConvPlan tile;
  int tiles = 0;
  bool by_sample = false;
};

// Splits until there are two blocks for every multiprocessor, as far as the workspace reaches. Where a tile is part of
// one image, whole splits are given to each sample, if so many fit.
template <typename Core>
WeightPlan plan_weight(const FusedConvWeightParams& params) {
  using Shape = WeightGradientShape<Core>;
  FusedConvParams conv{};
  conv.samples = params.samples, conv.height = params.height, conv.width = params.width;
  conv.in_channels = params.in_channels, conv.out_channels = params.out_channels;
  conv.out_height = params.out_height, conv.out_width = params.out_width;
  conv.kernel = params.kernel, conv.stride = params.stride, conv.pad_y = params.pad_y, conv.pad_x = params.pad_x;
  conv.dtype = params.dtype;
  WeightPlan w{conv_geometry(conv, sizeof(typename Core::Element))};
  ConvPlan& p = w.tile;
  const int limit = max_shared_bytes();
  bool found = false;
  for (const auto& [buffers, bytes] : {std::pair{2, limit / 2}, {2, limit}, {1, limit}}) {
    p.buffers = buffers;
    const int most = bytes;
    found = plan::choose_tile(p, Shape::kPixels, [&](const ConvPlan& t) { return Shape::shared_bytes(t) <= most; });
    if (found) break;
  }
  if (!found) throw std::runtime_error("modulated_conv2d_weight: too little shared memory");
  w.tiles = p.tiles_n * p.tiles_y * p.tiles_x;
  p.o_tiles = ceil_div(p.out_channels, Shape::kO);
  const int64_t blocks = p.o_tiles * ceil_div(p.in_channels, Shape::kI);
  const int64_t bytes =
      params.kernel * params.kernel * params.out_channels * params.in_channels * int64_t(sizeof(typename Core::Sum));
  const int64_t most = std::max<int64_t>(1, kWorkspaceBytes / bytes);
  const int64_t wanted = std::min(ceil_div(2 * multiprocessors(), blocks), most);
  p.splits = static_cast<int>(std::min<int64_t>(wanted, w.tiles));
  if (p.tile_n == 1 && p.samples <= most && p.tiles_y * p.tiles_x > 1) {
    w.by_sample = true;
    const int64_t each = std::clamp<int64_t>(wanted / p.samples, 1, p.tiles_y * p.tiles_x);
    p.splits = static_cast<int>(each * p.samples);
  }
  return w;
}

template <typename Core, int TAPS>
void launch_gradient(const FusedConvWeightParams& params, Stream stream) {
  using Shape = WeightGradientShape<Core>;
  using T = typename Core::Element;
  using Sum = typename Core::Sum;
  const WeightPlan w = plan_weight<Core>(params);
  Sum* partial = static_cast<Sum*>(params.workspace);
  const int i_tiles = static_cast<int>(ceil_div(params.in_channels, Shape::kI));
  const WeightGradientOperands<T> operands{static_cast<const T*>(params.x),
                                           static_cast<const T*>(params.dy),
                                           static_cast<const Sum*>(params.styles),
                                           static_cast<const Sum*>(params.scale),
                                           partial,
                                           i_tiles,
                                           w.tiles,
                                           w.by_sample};
  launch("modulated_conv2d_weight", modulated_conv2d_weight_kernel<Core, TAPS>,
         dim3(w.tile.o_tiles * i_tiles, w.tile.splits), dim3(Shape::kThreads), Shape::shared_bytes(w.tile), stream,
         w.tile, operands);
  launch("modulated_conv2d_weight", add_weight_splits_kernel<T, TAPS>,
         dim3(ceil_div(params.in_channels, 32), params.out_channels), dim3(32 * TAPS), 0, stream,
         static_cast<const Sum*>(partial), static_cast<T*>(params.dw), w.tile.splits, params);
}

// The arithmetic of a dtype on this device.
template <typename F>
auto by_core(const FusedConvWeightParams& params, F&& f) {
  const bool ampere = code_architecture(add_weight_splits_kernel<float, 1>) >= 80;
  switch (params.dtype) {
    case DType::kFloat16:
      return f(TensorCore<__half>());
    case DType::kBFloat16:
      if (ampere) return f(TensorCore<__nv_bfloat16>());
      return f(Plain<__nv_bfloat16>());
    case DType::kFloat32:
      if (ampere && params.tf32) return f(TensorCore<float, Tf32>());
      return f(Plain<float>());
    default:
      return f(Plain<double>());
  }
}

}  // namespace

int64_t fused_conv_weight_workspace(const FusedConvWeightParams& params) {
  return by_core(params, [&](auto core) -> int64_t {
    using Core = decltype(core);
    return plan_weight<Core>(params).tile.splits * params.kernel * params.kernel * params.out_channels *
           params.in_channels * int64_t(sizeof(typename Core::Sum));
  });
}

void launch_fused_conv_weight(const FusedConvWeightParams& params, Stream stream) {
  by_core(params, [&](auto core) {
    if (params.kernel == 3)
      launch_gradient<decltype(core), 9>(params, stream);
    else
      launch_gradient<decltype(core), 1>(params, stream);
  });
}

void launch_pack_weight(const PackWeightParams& params, Stream stream) {
  by_dtype(params.dtype, [&](auto element) {
    using T = decltype(element);
    if (params.from_float32)
      launch_pack<float, T>(params, stream);
    else
      launch_pack<T, T>(params, stream);
  });
}

}  // namespace stylegan_ops::cuda
