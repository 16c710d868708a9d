// Tensor side of the CUDA library's fused convolution (csrc/cuda/modulated_conv2d.cuh), and the one rule that says
// where it runs in place of cuDNN's.
#include <atomic>

#include "fused.h"
#include "tensor.h"

namespace stylegan_ops {
namespace {

enum Choice : int64_t { kByRule, kLibrary, kFused };
std::atomic<int64_t> choice{kByRule};
constexpr int64_t kMostPixels = 2040, kMostElements = int64_t{1} << 31;  // a side's and an image's, of the kernels

Tensor bytes(const Tensor& like, int64_t size) { return empty(like, {size}, ScalarType::Byte); }

// As the kernels read an image: they load 16 bytes at once.
Tensor channels_last(const Tensor& t) {
  const Tensor image = torch::stable::contiguous(t, MemoryFormat::ChannelsLast);
  return reinterpret_cast<uintptr_t>(image.const_data_ptr()) % 16 == 0 ? image : torch::stable::clone(image);
}

// Runs the convolution g of x: p tells of the output and of all that is behind the sums.
void run(FusedConvParams& p, const Tensor& x, const Tensor& weight, const ConvGeometry& g) {
  if constexpr (kOnCuda) {
    const Current current(x);
    const Tensor input = channels_last(x);
    const int64_t taps = weight.size(2);
    const DType dtype = dtype_of(x);
    PackWeightParams pack{};
    pack.w = weight.const_data_ptr();
    pack.stride_o = weight.stride(g.transposed ? 1 : 0), pack.stride_i = weight.stride(g.transposed ? 0 : 1);
    pack.stride_y = weight.stride(2), pack.stride_x = weight.stride(3);
    pack.in_channels = x.size(1), pack.out_channels = p.out_channels, pack.kernel_y = taps, pack.kernel_x = taps;
    pack.from_float32 = weight.scalar_type() == ScalarType::Float;
    pack.dtype = dtype;
    p.samples = x.size(0), p.height = x.size(2), p.width = x.size(3), p.in_channels = x.size(1);
    p.kernel = taps, p.stride = g.stride, p.pad_y = g.pad_y, p.pad_x = g.pad_x, p.transposed = g.transposed;
    p.dtype = dtype;
    if (g.transposed && g.stride == 1) {  // a dense one of the taps in reverse order
      const int64_t last = (taps - 1) * (pack.stride_y + pack.stride_x);
      pack.w = static_cast<const char*>(pack.w) + last * static_cast<int64_t>(weight.element_size());
      pack.stride_y = -pack.stride_y, pack.stride_x = -pack.stride_x;
      p.transposed = false, p.pad_y = taps - 1 - g.pad_y, p.pad_x = taps - 1 - g.pad_x;
    }
    const Tensor packed = empty_dense(x, {taps * taps, p.out_channels, cuda::packed_channels(x.size(1), dtype)},
                                      MemoryFormat::Contiguous);
    pack.out = packed.mutable_data_ptr();
    cuda::launch_pack_weight(pack, current.stream);

    p.x = input.const_data_ptr(), p.w = packed.const_data_ptr();
    const Tensor workspace = bytes(x, cuda::fused_conv_workspace(p));
    p.workspace = workspace.mutable_data_ptr();
    cuda::launch_fused_conv(p, current.stream);
  }
}

}  // namespace

bool uses_fused_conv(const Tensor& x, int64_t out_channels, int64_t kernel_y, int64_t kernel_x, const ConvGeometry& g) {
  if constexpr (kOnCuda) {
    const int64_t side = std::max(x.size(2), x.size(3)) * (g.transposed ? g.stride : 1);
    const bool possible = kernel_y == kernel_x && (kernel_y == 1 || kernel_y == 3) &&
                          (g.stride == 1 || (g.stride == 2 && (!g.transposed || kernel_y == 3))) &&
                          side < kMostPixels &&
                          x.size(0) * side * side * std::max(x.size(1), out_channels) < kMostElements;
    if (!possible || choice == kLibrary) return false;
    if (choice == kFused) return true;
    // Few channels at a high resolution wait for memory, where the fusion saves passes; the others for arithmetic,
    // where cuDNN is at home. float32 stays with cuDNN, which knows PyTorch's settings for TF32.
    return x.element_size() == 2 && side >= 256 && std::max(x.size(1), out_channels) <= 128;
  }
  return false;
}

Tensor fused_conv(const Tensor& x, const Tensor& weight, OptionalTensor styles, const ConvGeometry& g,
                  const std::array<int64_t, 2>& extra, OptionalTensor scale, OptionalTensor noise, OptionalTensor bias,
                  const Activation& activation) {
  const int64_t n = x.size(0), out = weight.size(g.transposed ? 1 : 0), taps = weight.size(2);
  const auto side = [&](int d, int64_t pad) {
    return g.transposed ? (x.size(d) - 1) * g.stride - 2 * pad + taps + extra[d - 2]
                        : (x.size(d) + 2 * pad - taps) / g.stride + 1;
  };
  const int64_t height = side(2, g.pad_y), width = side(3, g.pad_x);
  Tensor y = empty_dense(x, {n, out, height, width}, MemoryFormat::ChannelsLast);
  OptionalTensor strength;
  FusedConvParams p{};
  p.y = y.mutable_data_ptr();
  p.styles = operand(styles, x, n * x.size(1), "modulated_conv2d: styles");
  p.out_height = height, p.out_width = width, p.out_channels = out;
  p.epilogue = epilogue_operands(x, n, out, height * width, scale, noise, strength, bias, activation);
  run(p, x, weight, g);
  return y;
}

std::tuple<Tensor, Tensor> fused_conv_input(const Tensor& dy, const Tensor& weight, const Tensor& x,
                                            OptionalTensor styles, const ConvGeometry& g, bool needs_x,
                                            bool needs_styles) {
  const int64_t n = x.size(0), channels = x.size(1);
  Tensor dx = needs_x ? empty_dense(x, sizes_of(x), MemoryFormat::ChannelsLast) : empty(x, {0}, x.scalar_type());
  Tensor ds = empty(x, needs_styles ? std::vector{n, channels} : std::vector<int64_t>{0}, accumulate_type(x));
  const Tensor factor = needs_styles ? channels_last(x) : x;
  OptionalTensor none;
  FusedConvParams p{};
  if (needs_x) p.y = dx.mutable_data_ptr();
  if (needs_styles) p.factor = factor.const_data_ptr(), p.products = ds.mutable_data_ptr();
  p.out_height = x.size(2), p.out_width = x.size(3), p.out_channels = channels;
  p.epilogue =
      epilogue_operands(x, n, channels, x.size(2) * x.size(3), styles, none, none, none, activation(0, 0, 1, -1));
  run(p, dy, weight, g);
  return {needs_x ? torch::stable::contiguous(dx, dense_format(x)) : dx, ds};
}

Tensor fused_conv_weight(const Tensor& x, const Tensor& dy, OptionalTensor styles, int64_t taps,
                         const ConvGeometry& g) {
  // The gradient of a transposed convolution's weights is that of the strided one with the images exchanged; the styles
  // then belong to the one that is taken for dy.
  const Tensor &image = g.transposed ? dy : x, &grad = g.transposed ? x : dy;
  Tensor dw = empty_dense(x, {grad.size(1), image.size(1), taps, taps}, MemoryFormat::Contiguous);
  if constexpr (kOnCuda) {
    const Current current(x);
    const Tensor from = torch::stable::contiguous(image, MemoryFormat::ChannelsLast);
    const Tensor to = torch::stable::contiguous(grad, MemoryFormat::ChannelsLast);
    FusedConvWeightParams p{};
    p.x = from.const_data_ptr(), p.dy = to.const_data_ptr(), p.dw = dw.mutable_data_ptr();
    (g.transposed ? p.scale : p.styles) = operand(styles, x, x.size(0) * x.size(1), "modulated_conv2d: styles");
    p.stride_o = dw.stride(0), p.stride_i = dw.stride(1), p.stride_y = dw.stride(2), p.stride_x = dw.stride(3);
    p.samples = x.size(0), p.height = image.size(2), p.width = image.size(3), p.in_channels = image.size(1);
    p.out_height = grad.size(2), p.out_width = grad.size(3), p.out_channels = grad.size(1);
    p.kernel = taps, p.stride = g.stride, p.pad_y = g.pad_y, p.pad_x = g.pad_x;
    p.dtype = dtype_of(x);
    const Tensor workspace = bytes(x, cuda::fused_conv_weight_workspace(p));
    p.workspace = workspace.mutable_data_ptr();
    cuda::launch_fused_conv_weight(p, current.stream);
  }
  return dw;
}

}  // namespace stylegan_ops

#ifdef STYLEGAN_OPS_BACKEND_CUDA
namespace {
void set_convolution(int64_t value) { stylegan_ops::choice = value; }
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, CompositeExplicitAutograd, m) {
  m.impl("set_convolution", TORCH_BOX(&set_convolution));
}
#endif
