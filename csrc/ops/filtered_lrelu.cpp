// Tensor side of filtered_lrelu and filtered_lrelu_gradient.
#include "filtered_lrelu.h"

#include "filter.h"

namespace stylegan_ops {
namespace {

constexpr int64_t kBandBytes = 256 << 10;  // of the fine image: a part of the second-level cache
constexpr int64_t kLeastRows = 8;          // of a band, so that the fine rows that two bands need are not most of them

using Pair = std::array<ResampleAxis, 2>;  // along x and y

void set_axes(Upfirdn2dParams& p, const Pair& axes) { p.x_axis = axes[0], p.y_axis = axes[1]; }

// The adjoint's axis: back from `axis.out` pixels to `axis.in`.
ResampleAxis reversed(const ResampleAxis& axis) {
  return {axis.out, axis.in, axis.down, axis.up, axis.taps - axis.pad - 1, axis.taps};
}
Pair reversed(const Pair& axes) { return {reversed(axes[0]), reversed(axes[1])}; }

struct Arguments {
  int64_t up, down;
  std::vector<int64_t> padding;
  double gain, slope, clamp;
  bool flip_filter;
};

// The op (`v` missing), its derivative in the direction v, or the adjoint of that for the gradient v of its result.
Tensor run(const Tensor& x, const Tensor& fu, const Tensor& fd, OptionalTensor b, const Arguments& given,
           const OptionalTensor& v, bool adjoint) {
  STD_TORCH_CHECK(x.dim() == 4 && given.padding.size() == 4, "filtered_lrelu: bad arguments");
  const auto& pad = given.padding;
  const double up_gain = static_cast<double>(given.up) * given.up;
  const bool flips = given.flip_filter != adjoint;  // the adjoint's filters are the reversed ones, in reverse order
  const Filter up(fu, x, given.flip_filter, up_gain);
  const Filter last = adjoint ? Filter(fu, x, flips, up_gain) : Filter(fd, x, flips, 1);
  std::optional<Filter> first;
  if (v.has_value()) first = adjoint ? Filter(fd, x, flips, 1) : up;
  const Filter& down = adjoint ? *first : last;
  const Pair rising{axis(x.size(3), given.up, 1, pad[0], pad[1], up.width),
                    axis(x.size(2), given.up, 1, pad[2], pad[3], up.height)};
  const Pair falling{axis(rising[0].out, 1, given.down, 0, 0, down.width),
                     axis(rising[1].out, 1, given.down, 0, 0, down.height)};
  const std::vector<int64_t> in = sizes_of(x), out{in[0], in[1], falling[1].out, falling[0].out};
  if (v.has_value())
    STD_TORCH_CHECK(sizes_of(*v) == (adjoint ? out : in) && v->scalar_type() == x.scalar_type() && on_one_device(*v, x),
                    "filtered_lrelu_gradient: v must be like the ", adjoint ? "result" : "image");

  const MemoryFormat format = dense_format(x);
  const bool channels_last = format == MemoryFormat::ChannelsLast;
  const Tensor image = dense(x, format), tangent = v.has_value() ? dense(*v, format) : image;
  Tensor result = empty_dense(x, adjoint ? in : out, format);
  if (result.numel() == 0) return result;

  FilteredLreluParams p{};
  up.fill(p.values), last.fill(p.results);
  if (first) first->fill(p.tangents);
  set_axes(p.values, rising);
  set_axes(p.tangents, adjoint ? reversed(falling) : rising);
  set_axes(p.results, adjoint ? reversed(rising) : falling);
  for (Upfirdn2dParams* each : {&p.values, &p.tangents, &p.results}) {
    each->images = channels_last ? in[0] : in[0] * in[1];
    each->pixel = channels_last ? in[1] : 1;
    each->channels = in[1];
    each->dtype = dtype_of(x);
  }
  p.values.x = image.const_data_ptr();
  p.values.bias = operand(b, x, in[1], "filtered_lrelu: b");
  p.tangents.x = v.has_value() ? tangent.const_data_ptr() : nullptr;
  p.results.out = result.mutable_data_ptr();
  p.activation = activation(static_cast<int64_t>(Act::kLrelu), given.slope, given.gain, given.clamp);

  if constexpr (kOnCuda) {
    const Current current(x);
    cuda::launch_filtered_lrelu(p, current.stream);
  } else {
    const ResampleAxis& y = p.results.y_axis;
    const int64_t row = rising[0].out * p.values.pixel * (x.scalar_type() == ScalarType::Double ? 8 : 4);
    p.rows = std::min(std::max((kBandBytes / row - y.taps) / y.down + 1, kLeastRows), y.out);
    p.bands = (y.out + p.rows - 1) / p.rows;
    torch::stable::parallel_for(0, p.values.images * p.bands, 1,
                                [&](int64_t begin, int64_t end) { cpu::filtered_lrelu(p, begin, end); });
  }
  return result;
}

}  // namespace

Tensor filtered_lrelu(const Tensor& x, const Tensor& fu, const Tensor& fd, OptionalTensor b, int64_t up, int64_t down,
                      std::vector<int64_t> padding, double gain, double slope, double clamp, bool flip_filter) {
  return run(x, fu, fd, std::move(b), {up, down, std::move(padding), gain, slope, clamp, flip_filter}, {}, false);
}

Tensor filtered_lrelu_gradient(const Tensor& v, const Tensor& x, const Tensor& fu, const Tensor& fd, OptionalTensor b,
                               int64_t up, int64_t down, std::vector<int64_t> padding, double gain, double slope,
                               double clamp, bool flip_filter, bool adjoint) {
  return run(x, fu, fd, std::move(b), {up, down, std::move(padding), gain, slope, clamp, flip_filter}, v, adjoint);
}

}  // namespace stylegan_ops

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, STYLEGAN_OPS_DEVICE, m) {
  m.impl("filtered_lrelu", TORCH_BOX(&stylegan_ops::filtered_lrelu));
  m.impl("filtered_lrelu_gradient", TORCH_BOX(&stylegan_ops::filtered_lrelu_gradient));
}
