// The Tensor side's entries to kernels that another op fuses with its own.
#pragma once

#include "conv_epilogue.h"
#include "modulated_conv2d.h"
#include "tensor.h"

namespace stylegan_ops {

// What stands behind a convolution: clamp(act(y * scale + noise * strength + bias) * gain).
struct Behind {
  OptionalTensor scale = {}, noise = {}, strength = {}, bias = {};
  Activation activation{Act::kLinear, 0, 1, std::numeric_limits<double>::quiet_NaN()};
};

// The kernel's operands for an image of n samples, c channels and `pixels` pixels. The tensors are made contiguous in
// place and must outlive the operands.
EpilogueOperands epilogue_operands(const Tensor& like, int64_t n, int64_t c, int64_t pixels, Behind& behind);

// Runs the epilogue from the dense tensor y into `out` of the same shape and layout, which may be y.
void conv_epilogue_into(const Tensor& y, Behind behind, Tensor& out);

// upfirdn2d without resampling, then the epilogue: what stands behind a transposed convolution.
Tensor upfirdn2d_epilogue(const Tensor& x, const Tensor& f, const std::vector<int64_t>& padding, double gain,
                          Behind behind);

// Filters the image of n x c x height x width that a stride-2 transposed convolution left as phases, then the epilogue.
// `padding` is that of upfirdn2d; the result is channels_last and of `like`'s dtype.
Tensor upfirdn2d_phases(const Tensor& like, const Phases& phases, std::array<int64_t, 4> size, const Tensor& f,
                        const std::vector<int64_t>& padding, double gain, Behind behind);

// Filters the image that a transposed convolution makes, in the convolution's kernel (see uses_conv_blur).
Tensor upfirdn2d_conv(const Tensor& like, const FusedConvParams& conv, const Tensor& f,
                      const std::vector<int64_t>& padding, double gain, Behind behind);

// The ops of these names: see csrc/library.cpp.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> conv_epilogue_backward(
    const Tensor& dout, OptionalTensor ref, OptionalTensor y, OptionalTensor scale, OptionalTensor noise,
    OptionalTensor strength, OptionalTensor bias, int64_t act, double alpha, double gain, double clamp, int64_t wants);
Tensor modulated_conv2d(const Tensor& x, const Tensor& weight, OptionalTensor styles, int64_t stride, int64_t pad_y,
                        int64_t pad_x, bool transposed, int64_t extra_y, int64_t extra_x, bool tf32);

// A strided convolution, or a transposed one of weights [I, O, K_h, K_w].
struct ConvGeometry {
  int64_t stride, pad_y, pad_x;
  bool transposed;
  int64_t extra_y = 0, extra_x = 0;  // what a transposed one's output has beyond its smallest size
  bool tf32 = false;                 // whether PyTorch's settings let tensor cores multiply float32
};

// Whether the CPU's own 3x3 convolution serves these weights better than the library's; never in the CUDA library.
bool uses_winograd(const Tensor& x, int64_t out_channels, int64_t kernel_y, int64_t kernel_x, const ConvGeometry& g);

// The same for the weights' gradient.
bool uses_winograd_weight(const Tensor& x, const Tensor& dy, int64_t kernel_y, int64_t kernel_x, const ConvGeometry& g);

// conv(styles * x, weight) and what stands behind it in channels_last, by that one.
Tensor winograd(const Tensor& x, const Tensor& weight, OptionalTensor styles, const ConvGeometry& g, Behind behind);

// The gradient of conv(styles * x, weight) in the weights, contiguous.
Tensor winograd_weight(const Tensor& x, const Tensor& dy, OptionalTensor styles, const ConvGeometry& g);

// Whether the CUDA library's own convolution serves these weights better than cuDNN's; never in the CPU library.
bool uses_fused_conv(const Tensor& x, int64_t out_channels, int64_t kernel_y, int64_t kernel_x, const ConvGeometry& g,
                     bool styled);

// The weights, of x's dtype or float32, as that one reads them.
Tensor pack_weight(const Tensor& weight, ScalarType dtype, bool transposed);

// conv(styles * x, weight) and what stands behind it in channels_last, by that one. `packed` are the weights as
// pack_weight() made them before, if it did.
Tensor fused_conv(const Tensor& x, const Tensor& weight, OptionalTensor packed, OptionalTensor styles,
                  const ConvGeometry& g, Behind behind);

// Whether one kernel makes an up-layer whose convolution is the library's own: convolution, filter and epilogue.
bool uses_conv_blur(const Tensor& x, int64_t out_channels, const Tensor& f);

// upfirdn2d_epilogue(fused_conv(x, weight, styles), f, padding, gain, ...) of a transposed convolution, in that kernel.
Tensor fused_conv_blur(const Tensor& x, const Tensor& weight, OptionalTensor packed, OptionalTensor styles,
                       const ConvGeometry& g, const Tensor& f, const std::vector<int64_t>& padding, double gain,
                       Behind behind);

// The gradients of a modulated convolution in its image x and its styles; g is the convolution of dy, u, that makes the
// first of them: styles * u in x's layout, and [N, I] sums over the pixels of u * x. Empty where not needed.
std::tuple<Tensor, Tensor> fused_conv_input(const Tensor& dy, const Tensor& weight, const Tensor& x,
                                            OptionalTensor styles, const ConvGeometry& g, bool needs_x,
                                            bool needs_styles);

// The gradient of conv(styles * x, weight) in the square weights, contiguous.
Tensor fused_conv_weight(const Tensor& x, const Tensor& dy, OptionalTensor styles, int64_t taps, const ConvGeometry& g);

}  // namespace stylegan_ops
