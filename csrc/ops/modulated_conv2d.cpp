// Tensor side of modulated_conv2d and its weight gradient: scale the input channels, then one dense convolution of the library.
#include "modulated_conv2d.h"

#include "fused.h"
#include "tensor.h"

namespace stylegan_ops {

namespace {

template <size_t ARGUMENTS>
Tensor call(const char* name, const char* overload, std::array<StableIValue, ARGUMENTS> stack) {
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, overload, stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

Tensor flip_taps(const Tensor& w) {
  return call<2>("aten::flip", "", {torch::stable::detail::from(w), torch::stable::detail::from(std::vector<int64_t>{2, 3})});
}

struct Geometry {
  int64_t stride, pad_y, pad_x;
  bool transposed;
};

Tensor convolution(const Tensor& x, const Tensor& w, const Geometry& g, int64_t extra_y, int64_t extra_x) {
  using torch::stable::detail::from;
  using Ints = std::vector<int64_t>;
  return call<9>("aten::convolution", "",
                 {from(x), from(w), from(OptionalTensor()), from(Ints{g.stride, g.stride}), from(Ints{g.pad_y, g.pad_x}), from(Ints{1, 1}),
                  from(g.transposed), from(Ints{extra_y, extra_x}), from(int64_t{1})});
}

Tensor as_channels_last(const Tensor& t) { return torch::stable::contiguous(t, MemoryFormat::ChannelsLast); }

// The format of a convolution's output: channels_last wherever its input may be read so. Mirrors conv_format() in Python.
MemoryFormat conv_format(const Tensor& x) { return is_channels_last(x) ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous; }

// styles * x in x's dtype and layout.
Tensor modulate(const Tensor& x, const OptionalTensor& styles, MemoryFormat format) {
  const Tensor input = dense(x, format);
  if (!styles.has_value()) return input;
  Tensor scaled = empty_dense(x, sizes_of(x), format);
  conv_epilogue_into(input, styles, std::nullopt, std::nullopt, std::nullopt, activation(0, 0, 1, -1), scaled);
  return scaled;
}

// The weights of the four phases: phase (a, b) of a transposed convolution of stride 2 has the taps (2 q + a, 2 r + b), reversed since the
// library correlates. From w [I, O, K_h, K_w] to [(a, b, O), I, m_h, m_w] with m = ceil(K / 2); missing taps are zero.
Tensor phase_weights(const Tensor& w) {
  const int64_t in = w.size(0), out = w.size(1), kh = w.size(2), kw = w.size(3), mh = (kh + 1) / 2, mw = (kw + 1) / 2;
  const std::vector<int64_t> pad = {0, 2 * mw - kw, 0, 2 * mh - kh};
  const Tensor even = torch::stable::pad(w, pad);
  Tensor split = torch::stable::reshape(even, std::vector<int64_t>{in, out, mh, 2, mw, 2});
  split = call<2>("aten::permute", "", {torch::stable::detail::from(split), torch::stable::detail::from(std::vector<int64_t>{3, 5, 1, 0, 2, 4})});
  return flip_taps(torch::stable::reshape(split, std::vector<int64_t>{4 * out, in, mh, mw}));
}

// A transposed convolution of stride 2 through a dense one, since the library's own is several times slower: [N, 4 O, H + m - 1, W + m - 1].
Tensor phases_of_transposed(const Tensor& x, const Tensor& w) {
  const Geometry g{1, (w.size(2) + 1) / 2 - 1, (w.size(3) + 1) / 2 - 1, false};
  return torch::stable::contiguous(convolution(as_channels_last(x), phase_weights(w), g, 0, 0), MemoryFormat::ChannelsLast);
}

Tensor transposed_by_phases(const Tensor& x, const Tensor& w, const Geometry& g, int64_t extra_y, int64_t extra_x) {
  const Tensor phases = phases_of_transposed(x, w);
  InterleaveParams p{};
  p.channels = w.size(1);
  p.phase_height = phases.size(2), p.phase_width = phases.size(3);
  p.height = (x.size(2) - 1) * 2 + w.size(2), p.width = (x.size(3) - 1) * 2 + w.size(3);
  p.element_size = static_cast<int64_t>(x.element_size());
  Tensor out = empty_dense(x, {x.size(0), p.channels, p.height, p.width}, MemoryFormat::ChannelsLast);
  p.phases = phases.const_data_ptr();
  p.out = out.mutable_data_ptr();
  if (out.numel() > 0)
    torch::stable::parallel_for(0, x.size(0) * p.height, grain(p.width * p.channels),
                                [&](int64_t begin, int64_t end) { cpu::interleave(p, begin, end); });
  if (g.pad_y != 0 || g.pad_x != 0 || extra_y != 0 || extra_x != 0)
    out = torch::stable::pad(out, std::vector<int64_t>{-g.pad_x, extra_x - g.pad_x, -g.pad_y, extra_y - g.pad_y});
  return out;
}

// float16 convolutions of CPU libraries are many times slower than float32 ones.
ScalarType compute_type(const Tensor& x) { return x.is_cpu() && x.scalar_type() == ScalarType::Half ? ScalarType::Float : x.scalar_type(); }

Tensor as(const Tensor& t, ScalarType dtype) { return t.scalar_type() == dtype ? t : torch::stable::to(t, dtype); }

void check_weight(const Tensor& x, const Tensor& weight, bool transposed) {
  STD_TORCH_CHECK(x.dim() == 4 && weight.dim() == 4 && x.scalar_type() == weight.scalar_type(), "modulated_conv2d: x and weight must fit");
  STD_TORCH_CHECK(weight.size(transposed ? 0 : 1) == x.size(1), "modulated_conv2d: the channels of x and weight must agree");
}

}  // namespace

Tensor modulated_conv2d(const Tensor& x, const Tensor& weight, OptionalTensor styles, int64_t stride, int64_t pad_y, int64_t pad_x,
                        bool transposed, int64_t extra_y, int64_t extra_x) {
  check_weight(x, weight, transposed);
  const ScalarType dtype = compute_type(x);
  const Tensor input = as(modulate(x, styles, dense_format(x)), dtype), w = as(weight, dtype);
  const Geometry g{stride, pad_y, pad_x, transposed};
  const Tensor y = transposed && stride == 2 ? transposed_by_phases(input, w, g, extra_y, extra_x) : convolution(input, w, g, extra_y, extra_x);
  return as(torch::stable::contiguous(y, conv_format(x)), x.scalar_type());
}

// The whole layer without a tensor in between, for inference: convolution (up == 1) or transposed convolution and blur (up == 2, weight
// [I, O, K_h, K_w]), then the epilogue on the convolution's own output or behind the blur.
Tensor modulated_conv2d_inference(const Tensor& x, const Tensor& weight, OptionalTensor styles, OptionalTensor scale, OptionalTensor noise,
                                  OptionalTensor bias, OptionalTensor f, int64_t up, int64_t stride, std::vector<int64_t> padding, int64_t act,
                                  double alpha, double gain, double clamp) {
  STD_TORCH_CHECK(padding.size() == 4 && (up == 1 || (up == 2 && f.has_value())), "modulated_conv2d: bad arguments");
  check_weight(x, weight, up == 2);
  const Activation a = activation(act, alpha, gain, clamp);
  const Tensor input = as(modulate(x, styles, dense_format(x)), compute_type(x)), w = as(weight, compute_type(x));
  if (up == 2) {
    const Tensor phases = as(phases_of_transposed(input, w), x.scalar_type());
    return torch::stable::contiguous(upfirdn2d_phases(phases, *f, padding, 4, scale, noise, bias, a), conv_format(x));
  }
  const Geometry g{stride, padding[2], padding[0], false};
  Tensor y = as(torch::stable::contiguous(convolution(input, w, g, 0, 0), conv_format(x)), x.scalar_type());
  conv_epilogue_into(y, scale, noise, std::nullopt, bias, a, y);
  return y;
}

Tensor modulated_conv2d_weight(const Tensor& x, const Tensor& dy, OptionalTensor styles, int64_t kernel_y, int64_t kernel_x, int64_t stride,
                               int64_t pad_y, int64_t pad_x, bool transposed) {
  using torch::stable::detail::from;
  using Ints = std::vector<int64_t>;
  const MemoryFormat format = dense_format(x);
  const ScalarType dtype = compute_type(x);
  Tensor input = as(modulate(x, styles, format), dtype), grad = as(dense(dy, format), dtype);
  // The weight gradient of a transposed convolution is that of the strided one with input and output exchanged.
  if (transposed) std::swap(input, grad);
  const Ints size = {grad.size(1), input.size(1), kernel_y, kernel_x};
  if (input.numel() == 0 || grad.numel() == 0) return zeros(x, size, x.scalar_type());
  const bool only_weight[] = {false, true, false};
  const Tensor like = empty(x, size, dtype);  // only its shape is read
  std::array<StableIValue, 11> stack{from(grad), from(input), from(like), from(std::optional<Ints>()), from(Ints{stride, stride}),
                                     from(Ints{pad_y, pad_x}), from(Ints{1, 1}), from(false), from(Ints{0, 0}), from(int64_t{1}),
                                     from(torch::headeronly::HeaderOnlyArrayRef<bool>(only_weight, 3))};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::convolution_backward", "", stack.data(), TORCH_ABI_VERSION));
  for (int i : {0, 2}) (void)torch::stable::detail::to<Tensor>(stack[i]);  // frees the handles of the gradients not asked for
  return dense(as(torch::stable::detail::to<Tensor>(stack[1]), x.scalar_type()), MemoryFormat::Contiguous);
}

}  // namespace stylegan_ops

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, STYLEGAN_OPS_DEVICE, m) {
  m.impl("modulated_conv2d", TORCH_BOX(&stylegan_ops::modulated_conv2d));
  m.impl("modulated_conv2d_inference", TORCH_BOX(&stylegan_ops::modulated_conv2d_inference));
  m.impl("modulated_conv2d_weight", TORCH_BOX(&stylegan_ops::modulated_conv2d_weight));
}
