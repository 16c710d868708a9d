// Tensor side of the CUDA library's fused convolution (csrc/cuda/modulated_conv2d.cuh), and the one rule that says
// where it runs in place of cuDNN's.
#include <atomic>

#include "fused.h"
#include "tensor.h"
#include "upfirdn2d.h"

namespace stylegan_ops {
namespace {

enum Choice : int64_t { kByRule, kLibrary, kFused, kOnePass };  // kOnePass: with an up-layer's filter in the kernel
// What is chosen for a thread comes before what is chosen for all.
std::atomic<int64_t> choice{kByRule};
thread_local int64_t choice_of_thread = kByRule;
int64_t wanted() { return choice_of_thread == kByRule ? choice.load() : choice_of_thread; }
constexpr int64_t kMostPixels = 2040, kMostElements = int64_t{1} << 31;  // a side's and an image's, of the kernels

Tensor bytes(const Tensor& like, int64_t size) { return empty(like, {size}, ScalarType::Byte); }

// As the kernels read an image 16 bytes at a time.
Tensor channels_last(const Tensor& t) {
  const Tensor image = torch::stable::contiguous(t, MemoryFormat::ChannelsLast);
  return reinterpret_cast<uintptr_t>(image.const_data_ptr()) % 16 == 0 ? image : torch::stable::clone(image);
}

// The weights of a dense convolution, or of a transposed one, whose taps a stride of 1 reverses.
Tensor pack(const Tensor& weight, ScalarType dtype, bool transposed, bool reversed) {
  const int64_t out = weight.size(transposed ? 1 : 0), in = weight.size(transposed ? 0 : 1);
  PackWeightParams p{};
  p.w = weight.const_data_ptr();
  p.stride_o = weight.stride(transposed ? 1 : 0), p.stride_i = weight.stride(transposed ? 0 : 1);
  p.stride_y = weight.stride(2), p.stride_x = weight.stride(3);
  p.in_channels = in, p.out_channels = out, p.kernel_y = weight.size(2), p.kernel_x = weight.size(3);
  p.from_float32 = weight.scalar_type() == ScalarType::Float;
  p.dtype = dtype_of(dtype);
  if (reversed) {
    const int64_t last = (p.kernel_y - 1) * p.stride_y + (p.kernel_x - 1) * p.stride_x;
    p.w = static_cast<const char*>(p.w) + last * static_cast<int64_t>(weight.element_size());
    p.stride_y = -p.stride_y, p.stride_x = -p.stride_x;
  }
  Tensor packed = empty(weight, {p.kernel_y * p.kernel_x, out, cuda::packed_channels(in, p.dtype)}, dtype);
  p.out = packed.mutable_data_ptr();
  if constexpr (kOnCuda) cuda::launch_pack_weight(p, Current(weight).stream);
  return packed;
}

// What the kernel reads, in its layout, and where that is. The convolution's output has height x width pixels.
struct FusedConvInput {
  Tensor input, packed;
  OptionalTensor styles;
  FusedConvParams params{};

  FusedConvInput(const Tensor& x, const Tensor& weight, OptionalTensor given, OptionalTensor factors,
                 const ConvGeometry& g, int64_t height, int64_t width)
      : input(torch::stable::contiguous(x, MemoryFormat::ChannelsLast)),
        packed(given.has_value() ? *given : pack(weight, x.scalar_type(), g.transposed, g.transposed && g.stride == 1)),
        styles(factors) {
    const int64_t n = x.size(0), in = x.size(1), out = weight.size(g.transposed ? 1 : 0), taps = weight.size(2);
    STD_TORCH_CHECK(packed.scalar_type() == x.scalar_type() && on_one_device(x, packed) &&
                        packed.numel() == taps * taps * out * cuda::packed_channels(in, dtype_of(x)),
                    "modulated_conv2d: the packed weights must fit");
    FusedConvParams& p = params;
    p.x = input.const_data_ptr(), p.w = packed.const_data_ptr();
    p.styles = operand(styles, x, n * in, "modulated_conv2d: styles");
    p.samples = n, p.height = x.size(2), p.width = x.size(3), p.in_channels = in;
    p.out_height = height, p.out_width = width, p.out_channels = out;
    p.kernel = taps, p.stride = g.stride, p.pad_y = g.pad_y, p.pad_x = g.pad_x, p.transposed = g.transposed;
    if (g.transposed && g.stride == 1) p.transposed = false, p.pad_y = taps - 1 - g.pad_y, p.pad_x = taps - 1 - g.pad_x;
    p.tf32 = g.tf32;
    p.dtype = dtype_of(x);
  }

  void run() {
    if constexpr (kOnCuda) {
      const Current current(input);
      const Tensor workspace = bytes(input, cuda::fused_conv_workspace(params));
      params.workspace = workspace.mutable_data_ptr();
      cuda::launch_fused_conv(params, current.stream);
    }
  }
};

}  // namespace

bool uses_fused_conv(const Tensor& x, int64_t out_channels, int64_t kernel_y, int64_t kernel_x, const ConvGeometry& g,
                     bool styled) {
  if constexpr (kOnCuda) {
    const int64_t side = std::max(x.size(2), x.size(3)) * (g.transposed ? g.stride : 1);
    const bool possible = kernel_y == kernel_x && (kernel_y == 1 || kernel_y == 3) &&
                          (g.stride == 1 || (g.stride == 2 && (!g.transposed || kernel_y == 3))) &&
                          side < kMostPixels &&
                          x.size(0) * side * side * std::max(x.size(1), out_channels) < kMostElements;
    if (!possible || wanted() == kLibrary) return false;
    if (wanted() != kByRule) return true;
    // Few channels at a high resolution wait for memory, where the fusion saves passes; the others for arithmetic,
    // where cuDNN is at home, as it is in float32. Without styles, in a discriminator, there are fewer passes to save.
    const int64_t most = std::max(x.size(1), out_channels), fewest = std::min(x.size(1), out_channels);
    if (x.element_size() != 2) return false;
    if (!styled) return side >= 512 && most <= 64 && fewest <= 32;
    return (side >= 256 && most <= 128) || (side >= 64 && kernel_y == 1 && fewest <= 8);
  }
  return false;
}

bool uses_conv_blur(const Tensor& x, int64_t out_channels, const Tensor& f) {
  if constexpr (kOnCuda) {
    const Current current(x);
    const bool possible = std::max(f.size(0), f.size(f.dim() - 1)) <= 4 && cuda::has_conv_blur(dtype_of(x));
    if (!possible || wanted() == kOnePass) return possible;
    // Counted against two kernels: 1.3 to 1.7 times as fast as soon as the batch has the pixels of one image of 512 px;
    // on fewer the blocks' edges cost what the pass saves, and at 16 channels half of the filter's lanes idle.
    return x.size(0) * x.size(2) * x.size(3) * 4 >= 512 * 512 && out_channels > 16 && out_channels <= 64;
  }
  return false;
}

Tensor pack_weight(const Tensor& weight, ScalarType dtype, bool transposed) {
  return pack(weight, dtype, transposed, false);
}

Tensor fused_conv(const Tensor& x, const Tensor& weight, OptionalTensor packed, OptionalTensor styles,
                  const ConvGeometry& g, Behind behind) {
  const int64_t n = x.size(0), out = weight.size(g.transposed ? 1 : 0), taps = weight.size(2);
  const auto side = [&](int d, int64_t pad) {
    return g.transposed ? (x.size(d) - 1) * g.stride - 2 * pad + taps + (d == 2 ? g.extra_y : g.extra_x)
                        : (x.size(d) + 2 * pad - taps) / g.stride + 1;
  };
  const int64_t height = side(2, g.pad_y), width = side(3, g.pad_x);
  Tensor y = empty_dense(x, {n, out, height, width}, MemoryFormat::ChannelsLast);
  FusedConvInput from(x, weight, packed, styles, g, height, width);
  from.params.y = y.mutable_data_ptr();
  from.params.epilogue = epilogue_operands(x, n, out, height * width, behind);
  from.run();
  return y;
}

Tensor fused_conv_blur(const Tensor& x, const Tensor& weight, OptionalTensor packed, OptionalTensor styles,
                       const ConvGeometry& g, const Tensor& f, const std::vector<int64_t>& padding, double gain,
                       Behind behind) {
  const int64_t height = (x.size(2) - 1) * 2 + weight.size(2), width = (x.size(3) - 1) * 2 + weight.size(3);
  const FusedConvInput from(x, weight, packed, styles, g, height, width);
  return upfirdn2d_conv(x, from.params, f, padding, gain, behind);
}

std::tuple<Tensor, Tensor> fused_conv_input(const Tensor& dy, const Tensor& weight, const Tensor& x,
                                            OptionalTensor styles, const ConvGeometry& g, bool needs_x,
                                            bool needs_styles) {
  const int64_t n = x.size(0), channels = x.size(1);
  Tensor dx = needs_x ? empty_dense(x, sizes_of(x), MemoryFormat::ChannelsLast) : empty(x, {0}, x.scalar_type());
  Tensor ds = empty(x, needs_styles ? std::vector{n, channels} : std::vector<int64_t>{0}, accumulate_type(x));
  const Tensor factor = needs_styles ? channels_last(x) : x;
  Behind behind;
  behind.scale = styles;
  FusedConvInput from(dy, weight, std::nullopt, std::nullopt, g, x.size(2), x.size(3));
  FusedConvParams& p = from.params;
  if (needs_x) p.y = dx.mutable_data_ptr();
  if (needs_styles) p.factor = factor.const_data_ptr(), p.products = ds.mutable_data_ptr();
  p.epilogue = epilogue_operands(x, n, channels, x.size(2) * x.size(3), behind);
  from.run();
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
    p.tf32 = g.tf32;
    p.dtype = dtype_of(x);
    const Tensor workspace = bytes(x, cuda::fused_conv_weight_workspace(p));
    p.workspace = workspace.mutable_data_ptr();
    cuda::launch_fused_conv_weight(p, current.stream);
  }
  return dw;
}

}  // namespace stylegan_ops

namespace {
bool uses_fused_conv_of(const stylegan_ops::Tensor& x, const stylegan_ops::Tensor& weight, int64_t stride,
                        bool transposed, bool styled) {
  return stylegan_ops::uses_fused_conv(x, weight.size(transposed ? 1 : 0), weight.size(2), weight.size(3),
                                       {stride, 0, 0, transposed}, styled);
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, STYLEGAN_OPS_DEVICE, m) {
  m.impl("modulated_conv2d_is_fused", TORCH_BOX(&uses_fused_conv_of));
  m.impl("modulated_conv2d_pack", TORCH_BOX(&stylegan_ops::pack_weight));
}

#ifdef STYLEGAN_OPS_BACKEND_CUDA
namespace {
int64_t cuda_launches() { return stylegan_ops::cuda::launches; }
void set_convolution(int64_t value, bool of_thread) {
  if (of_thread)
    stylegan_ops::choice_of_thread = value;
  else
    stylegan_ops::choice = value;
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, CompositeExplicitAutograd, m) {
  m.impl("set_convolution", TORCH_BOX(&set_convolution));
  m.impl("cuda_launches", TORCH_BOX(&cuda_launches));
}
#endif
