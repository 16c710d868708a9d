// Tensor side of modulated_conv2d and its weight gradient: scale the input channels, then one dense convolution of the
// library.
#include "modulated_conv2d.h"

#include "fused.h"
#include "tensor.h"

namespace stylegan_ops {

namespace {

template <size_t ARGUMENTS>
Tensor call(const char* name, const char* overload, std::array<StableIValue, ARGUMENTS> stack) {
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, overload, stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// The weights [P, S, height, width] with the taps last - q * step of w [S, P, K_h, K_w].
Tensor gather_taps(const Tensor& w, int64_t last_y, int64_t last_x, int64_t step) {
  GatherTapsParams p{};
  p.w = w.const_data_ptr();
  p.stride_p = w.stride(1), p.stride_s = w.stride(0), p.stride_y = w.stride(2), p.stride_x = w.stride(3);
  p.height = last_y / step + 1, p.width = last_x / step + 1, p.channels = w.size(0);
  p.last_y = last_y, p.last_x = last_x, p.step = step;
  p.element_size = static_cast<int64_t>(w.element_size());
  const int64_t count = w.size(1);
  Tensor out = empty_dense(w, {count, p.channels, p.height, p.width}, MemoryFormat::ChannelsLast);
  p.out = out.mutable_data_ptr();
  torch::stable::parallel_for(0, count, grain(p.channels * p.height * p.width),
                              [&](int64_t begin, int64_t end) { cpu::gather_taps(p, begin, end); });
  return out;
}

Tensor convolution(const Tensor& x, const Tensor& w, const ConvGeometry& g) {
  using torch::stable::detail::from;
  using Ints = std::vector<int64_t>;
  return call<9>(
      "aten::convolution", "",
      {from(x), from(w), from(OptionalTensor()), from(Ints{g.stride, g.stride}), from(Ints{g.pad_y, g.pad_x}),
       from(Ints{1, 1}), from(g.transposed), from(Ints{g.extra_y, g.extra_x}), from(int64_t{1})});
}

Tensor as(const Tensor& t, ScalarType dtype) { return t.scalar_type() == dtype ? t : torch::stable::to(t, dtype); }

// The dtype of the convolution itself: 16-bit ones are many times slower than float32 on a CPU without arithmetic for
// them.
ScalarType compute_type(const Tensor& x) {
  const ScalarType dtype = x.scalar_type();
  const bool slow =
      x.is_cpu() && (dtype == ScalarType::Half || (dtype == ScalarType::BFloat16 && !cpu::has_bfloat16()));
  return slow ? ScalarType::Float : dtype;
}

// The format of a convolution's output: channels_last wherever its input may be read so. Mirrors _empty_output() in
// Python.
MemoryFormat conv_format(const Tensor& x) {
  return is_channels_last(x) ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
}

// styles * x in x's dtype and layout.
Tensor modulate(const Tensor& x, const OptionalTensor& styles, MemoryFormat format) {
  const Tensor input = dense(x, format);
  if (!styles.has_value()) return input;
  Tensor scaled = empty_dense(x, sizes_of(x), format);
  conv_epilogue_into(input, {.scale = styles}, scaled);
  return scaled;
}

// A modulated 1x1 convolution to a few channels, as an image has: so few weights are modulated instead of the
// activations, which are then read once, by a product of matrices.
bool is_narrow(const Tensor& x, const Tensor& weight, const OptionalTensor& styles, int64_t stride,
               const std::vector<int64_t>& padding) {
  return styles.has_value() && weight.size(2) == 1 && weight.size(3) == 1 && weight.size(0) <= 16 && stride == 1 &&
         padding == std::vector<int64_t>(4, 0) && compute_type(x) == accumulate_type(x);
}

Tensor narrow_convolution(const Tensor& x, const Tensor& weight, const Tensor& styles) {
  using torch::stable::flatten, torch::stable::transpose, torch::stable::unsqueeze;
  using torch::stable::detail::from;
  const MemoryFormat format = conv_format(x);
  const ScalarType dtype = accumulate_type(x);
  const Tensor pixels = flatten(as(dense(x, format), dtype), 2, 3);                             // [N, I, H * W]
  const Tensor shared = unsqueeze(flatten(as(weight, dtype), 1, 3), 0);                         // [1, O, I]
  const Tensor w = call<2>("aten::mul", "Tensor", {from(shared), from(unsqueeze(styles, 1))});  // [N, O, I]
  const Tensor y = empty(x, {x.size(0), weight.size(0), x.size(2), x.size(3)}, dtype, format);
  const Tensor out = flatten(y, 2, 3);
  // The form with `out`: autocast reaches the others from within an op, and would round the modulated weights.
  if (format == MemoryFormat::Contiguous)
    call<3>("aten::bmm", "out", {from(w), from(pixels), from(out)});
  else
    call<3>("aten::bmm", "out", {from(transpose(pixels, 1, 2)), from(transpose(w, 1, 2)), from(transpose(out, 1, 2))});
  return y;
}

// A transposed convolution of stride 2 as four dense ones without a wasted multiplication: phase (a, b) has the taps (2
// q + a, 2 r + b) of w [I, O, K_h, K_w], reversed since the library correlates. They run at the dense rate, which the
// library's own transposed convolution does not reach. K_h, K_w >= 2.
struct TransposedPhases {
  std::array<Tensor, 4> images;
  Phases phases{};
  int64_t height, width;

  TransposedPhases(const Tensor& x, const Tensor& w, ScalarType dtype) {
    height = (x.size(2) - 1) * 2 + w.size(2), width = (x.size(3) - 1) * 2 + w.size(3);
    const Tensor input = torch::stable::contiguous(x, MemoryFormat::ChannelsLast);
    for (int a = 0; a < 2; ++a) {
      for (int b = 0; b < 2; ++b) {
        const int64_t last_y = a + (w.size(2) - 1 - a) / 2 * 2, last_x = b + (w.size(3) - 1 - b) / 2 * 2;
        const Tensor taps = gather_taps(w, last_y, last_x, 2);
        const Tensor y = convolution(input, taps, {1, taps.size(2) - 1, taps.size(3) - 1, false});
        Tensor& image = images[2 * a + b];
        image = as(torch::stable::contiguous(y, MemoryFormat::ChannelsLast), dtype);
        phases.image[a][b] = image.const_data_ptr();
        phases.height[a] = image.size(2), phases.width[b] = image.size(3);
      }
    }
  }
};

Tensor transposed_by_phases(const Tensor& x, const Tensor& w, const ConvGeometry& g) {
  const TransposedPhases four(x, w, x.scalar_type());
  InterleaveParams p{};
  p.phases = four.phases;
  p.channels = w.size(1);
  p.height = four.height, p.width = four.width;
  p.element_size = static_cast<int64_t>(x.element_size());
  Tensor out = empty_dense(x, {x.size(0), p.channels, p.height, p.width}, MemoryFormat::ChannelsLast);
  p.out = out.mutable_data_ptr();
  if (out.numel() > 0)
    torch::stable::parallel_for(0, x.size(0) * p.height, grain(p.width * p.channels),
                                [&](int64_t begin, int64_t end) { cpu::interleave(p, begin, end); });
  if (g.pad_y != 0 || g.pad_x != 0 || g.extra_y != 0 || g.extra_x != 0)
    out = torch::stable::pad(out, std::vector<int64_t>{-g.pad_x, g.extra_x - g.pad_x, -g.pad_y, g.extra_y - g.pad_y});
  return out;
}

void check_weight(const Tensor& x, const Tensor& weight, bool transposed) {
  const bool fits = x.scalar_type() == weight.scalar_type() || weight.scalar_type() == accumulate_type(x);
  STD_TORCH_CHECK(x.dim() == 4 && weight.dim() == 4 && fits && on_one_device(x, weight),
                  "modulated_conv2d: x and weight must fit");
  STD_TORCH_CHECK(weight.size(transposed ? 0 : 1) == x.size(1),
                  "modulated_conv2d: the channels of x and weight must agree");
  STD_TORCH_CHECK(weight.numel() > 0, "modulated_conv2d: weight must have elements");
}

// The library's transposed convolutions are up to twice as slow on the CPU as its dense ones: each is made of dense
// ones where that is exact.
Tensor any_convolution(const Tensor& x, const Tensor& w, const ConvGeometry& g) {
  if constexpr (!kOnCuda) {
    const int64_t kh = w.size(2), kw = w.size(3);
    if (g.transposed && g.stride == 2 && kh > 1 && kw > 1) return transposed_by_phases(x, w, g);
    if (g.transposed && g.stride == 1 && g.pad_y < kh && g.pad_x < kw && g.extra_y == 0 && g.extra_x == 0)
      return convolution(x, gather_taps(w, kh - 1, kw - 1, 1), {1, kh - 1 - g.pad_y, kw - 1 - g.pad_x, false});
  }
  return convolution(x, w, g);
}

}  // namespace

Tensor modulated_conv2d(const Tensor& x, const Tensor& weight, OptionalTensor styles, int64_t stride, int64_t pad_y,
                        int64_t pad_x, bool transposed, int64_t extra_y, int64_t extra_x, bool tf32) {
  check_weight(x, weight, transposed);
  const ConvGeometry g{stride, pad_y, pad_x, transposed, extra_y, extra_x, tf32};
  if (uses_fused_conv(x, weight.size(transposed ? 1 : 0), weight.size(2), weight.size(3), g, styles.has_value()))
    return torch::stable::contiguous(fused_conv(x, weight, std::nullopt, styles, g, {}), conv_format(x));
  if constexpr (!kOnCuda)
    if (uses_winograd(x, weight.size(transposed ? 1 : 0), weight.size(2), weight.size(3), g))
      return torch::stable::contiguous(winograd(x, weight, styles, g, {}), conv_format(x));
  const ScalarType dtype = compute_type(x);
  const Tensor input = as(modulate(x, styles, dense_format(x)), dtype), w = as(weight, dtype);
  const Tensor y = any_convolution(input, w, g);
  return as(torch::stable::contiguous(y, conv_format(x)), x.scalar_type());
}

// The whole layer without a tensor in between: convolution (up == 1) or transposed convolution and blur (up == 2,
// weight [I, O, K_h, K_w]), then the epilogue on the convolution's own output or behind the blur.
Tensor modulated_conv2d_layer(const Tensor& x, const Tensor& weight, OptionalTensor packed, OptionalTensor styles,
                              OptionalTensor scale, OptionalTensor noise, OptionalTensor strength, OptionalTensor bias,
                              OptionalTensor f, int64_t up, int64_t stride, std::vector<int64_t> padding, int64_t act,
                              double alpha, double gain, double clamp, bool tf32) {
  STD_TORCH_CHECK(
      padding.size() == 4 && (up == 1 || (up == 2 && f.has_value() && weight.size(2) > 1 && weight.size(3) > 1)),
      "modulated_conv2d: bad arguments");
  check_weight(x, weight, up == 2);
  Behind behind{scale, noise, strength, bias, activation(act, alpha, gain, clamp)};
  const MemoryFormat format = conv_format(x);
  const ConvGeometry g = up == 2 ? ConvGeometry{2, 0, 0, true, 0, 0, tf32}
                                 : ConvGeometry{stride, padding[2], padding[0], false, 0, 0, tf32};
  if (packed.has_value() ||
      uses_fused_conv(x, weight.size(up == 2 ? 1 : 0), weight.size(2), weight.size(3), g, styles.has_value())) {
    const Tensor y = up == 1 ? fused_conv(x, weight, packed, styles, g, behind)
                     : uses_conv_blur(x, weight.size(1), *f)
                         ? fused_conv_blur(x, weight, packed, styles, g, *f, padding, 4, behind)
                         : upfirdn2d_epilogue(fused_conv(x, weight, packed, styles, g, {}), *f, padding, 4, behind);
    return torch::stable::contiguous(y, format);
  }
  if constexpr (!kOnCuda)
    if (uses_winograd(x, weight.size(up == 2 ? 1 : 0), weight.size(2), weight.size(3), g)) {
      const Tensor y = up == 1 ? winograd(x, weight, styles, g, behind)
                               : upfirdn2d_epilogue(winograd(x, weight, styles, g, {}), *f, padding, 4, behind);
      return torch::stable::contiguous(y, format);
    }
  if (up == 1 && is_narrow(x, weight, styles, stride, padding)) {
    Tensor y = as(narrow_convolution(x, weight, *styles), x.scalar_type());
    conv_epilogue_into(y, behind, y);
    return y;
  }
  const Tensor input = as(modulate(x, styles, dense_format(x)), compute_type(x)), w = as(weight, compute_type(x));
  if (up == 2) {
    Tensor y;
    if constexpr (kOnCuda) {
      y = upfirdn2d_epilogue(dense(convolution(input, w, g), format), *f, padding, 4, behind);
    } else {
      const TransposedPhases four(input, w, x.scalar_type());
      const std::array<int64_t, 4> size{x.size(0), weight.size(1), four.height, four.width};
      y = upfirdn2d_phases(x, four.phases, size, *f, padding, 4, behind);
    }
    return torch::stable::contiguous(y, format);
  }
  Tensor y = as(torch::stable::contiguous(convolution(input, w, g), format), x.scalar_type());
  conv_epilogue_into(y, behind, y);
  return y;
}

Tensor modulated_conv2d_weight(const Tensor& x, const Tensor& dy, OptionalTensor styles, int64_t kernel_y,
                               int64_t kernel_x, int64_t stride, int64_t pad_y, int64_t pad_x, bool transposed,
                               bool tf32) {
  using torch::stable::detail::from;
  using Ints = std::vector<int64_t>;
  STD_TORCH_CHECK(x.dim() == 4 && dy.dim() == 4 && x.size(0) == dy.size(0) && x.scalar_type() == dy.scalar_type() &&
                      on_one_device(x, dy),
                  "modulated_conv2d_weight: x and dy must fit");
  const ConvGeometry g{stride, pad_y, pad_x, transposed, 0, 0, tf32};
  if (x.numel() > 0 && dy.numel() > 0 && uses_fused_conv(x, dy.size(1), kernel_y, kernel_x, g, styles.has_value()))
    return fused_conv_weight(x, dy, styles, kernel_y, g);
  if constexpr (!kOnCuda)
    if (uses_winograd_weight(x, dy, kernel_y, kernel_x, g)) return winograd_weight(x, dy, styles, g);
  const MemoryFormat format = dense_format(x);
  const ScalarType dtype = compute_type(x);
  Tensor input = as(modulate(x, styles, format), dtype), grad = as(dense(dy, format), dtype);
  // The weight gradient of a transposed convolution is that of the strided one with input and output exchanged.
  if (transposed) std::swap(input, grad);
  const Ints size = {grad.size(1), input.size(1), kernel_y, kernel_x};
  if (input.numel() == 0 || grad.numel() == 0) return zeros(x, size, x.scalar_type());
  const bool only_weight[] = {false, true, false};
  const Tensor like = empty(x, size, dtype);  // only its shape is read
  std::array<StableIValue, 11> stack{from(grad),
                                     from(input),
                                     from(like),
                                     from(std::optional<Ints>()),
                                     from(Ints{stride, stride}),
                                     from(Ints{pad_y, pad_x}),
                                     from(Ints{1, 1}),
                                     from(false),
                                     from(Ints{0, 0}),
                                     from(int64_t{1}),
                                     from(torch::headeronly::HeaderOnlyArrayRef<bool>(only_weight, 3))};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::convolution_backward", "", stack.data(), TORCH_ABI_VERSION));
  for (int i : {0, 2})
    (void)torch::stable::detail::to<Tensor>(stack[i]);  // frees the handles of the gradients not asked for
  return dense(as(torch::stable::detail::to<Tensor>(stack[1]), x.scalar_type()), MemoryFormat::Contiguous);
}

}  // namespace stylegan_ops

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, STYLEGAN_OPS_DEVICE, m) {
  m.impl("modulated_conv2d", TORCH_BOX(&stylegan_ops::modulated_conv2d));
  m.impl("modulated_conv2d_layer", TORCH_BOX(&stylegan_ops::modulated_conv2d_layer));
  m.impl("modulated_conv2d_weight", TORCH_BOX(&stylegan_ops::modulated_conv2d_weight));
}
