// Tensor side of modulated_conv2d's gradients in its image and its styles: with u = conv^T(dy, weight),
//   dx = styles * u,  dstyles[n, i] = sum over the pixels of x * u.
#include "fused.h"
#include "tensor.h"

namespace stylegan_ops {

std::tuple<Tensor, Tensor> modulated_conv2d_input(const Tensor& dy, const Tensor& weight, const Tensor& x,
                                                  OptionalTensor styles, int64_t stride, int64_t pad_y, int64_t pad_x,
                                                  bool transposed, bool needs_x, bool needs_styles, bool tf32) {
  STD_TORCH_CHECK(x.dim() == 4 && dy.dim() == 4 && weight.dim() == 4 && x.scalar_type() == dy.scalar_type() &&
                      x.scalar_type() == weight.scalar_type() && on_one_device(x, dy) && on_one_device(x, weight),
                  "modulated_conv2d_input: x, dy and weight must fit");
  STD_TORCH_CHECK(x.size(0) == dy.size(0) && weight.size(transposed ? 0 : 1) == x.size(1) &&
                      weight.size(transposed ? 1 : 0) == dy.size(1) && weight.numel() > 0,
                  "modulated_conv2d_input: the channels of x, dy and weight must agree");
  const auto extra = [&](int d, int64_t pad) {
    const int64_t small = (transposed ? x : dy).size(d), large = (transposed ? dy : x).size(d);
    const int64_t beyond = large - ((small - 1) * stride - 2 * pad + weight.size(d));
    STD_TORCH_CHECK(beyond >= 0 && beyond < stride, "modulated_conv2d_input: the sizes of x and dy must fit");
    return transposed ? 0 : beyond;
  };
  const int64_t extra_y = extra(2, pad_y), extra_x = extra(3, pad_x);
  const ConvGeometry g{stride, pad_y, pad_x, !transposed, extra_y, extra_x, tf32};
  if (uses_fused_conv(dy, x.size(1), weight.size(2), weight.size(3), g, styles.has_value()))
    return fused_conv_input(dy, weight, x, styles, g, needs_x, needs_styles);

  Tensor dx = modulated_conv2d(dy, weight, std::nullopt, stride, pad_y, pad_x, !transposed, extra_y, extra_x, tf32);
  Tensor ds = empty(x, {0}, accumulate_type(x));
  if (styles.has_value() || needs_styles) {
    auto both = conv_epilogue_backward(dx, std::nullopt, x, styles, std::nullopt, std::nullopt, std::nullopt, 0, 0, 1,
                                       -1, needs_styles);
    dx = std::get<0>(both), ds = std::get<1>(both);
  } else {
    dx = torch::stable::contiguous(dx, dense_format(x));
  }
  return {needs_x ? dx : empty(x, {0}, x.scalar_type()), ds};
}

}  // namespace stylegan_ops

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, STYLEGAN_OPS_DEVICE, m) {
  m.impl("modulated_conv2d_input", TORCH_BOX(&stylegan_ops::modulated_conv2d_input));
}
