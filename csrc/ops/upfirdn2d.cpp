// Tensor side of upfirdn2d.
#include "upfirdn2d.h"

#include "filter.h"
#include "fused.h"

namespace stylegan_ops {
namespace {

// An image and its output as the kernel sees them.
void set_images(Upfirdn2dParams& p, const Tensor& image, Tensor& out, MemoryFormat format) {
  const bool channels_last = format == MemoryFormat::ChannelsLast;
  p.x = image.const_data_ptr();
  p.out = out.mutable_data_ptr();
  p.images = channels_last ? out.size(0) : out.size(0) * out.size(1);
  p.pixel = channels_last ? out.size(1) : 1;
  p.dtype = dtype_of(out);
}

void run(Upfirdn2dParams& p, const Filter& filter, const Tensor& out) {
  if (out.numel() == 0) return;
  filter.fill(p);
  if constexpr (kOnCuda) {
    const Current current(out);
    p.conv == nullptr ? cuda::launch_upfirdn2d(p, current.stream) : cuda::launch_conv_blur(p, current.stream);
  } else {
    torch::stable::parallel_for(0, p.images * p.y_axis.out, grain(p.x_axis.out * p.pixel * 2),
                                [&](int64_t begin, int64_t end) { cpu::upfirdn2d(p, begin, end); });
  }
}

// Filters an image of this size that is nowhere as a whole: p says what it is made of.
Tensor filter_unmade(Upfirdn2dParams& p, const Tensor& like, std::array<int64_t, 4> size, const Tensor& f,
                     const std::vector<int64_t>& padding, double gain, Behind& behind) {
  const Filter filter(f, like, false, gain);
  const auto [n, c, height, width] = size;
  p.x_axis = axis(width, 1, 1, padding[0], padding[1], filter.width);
  p.y_axis = axis(height, 1, 1, padding[2], padding[3], filter.height);
  Tensor out = empty_dense(like, {n, c, p.y_axis.out, p.x_axis.out}, MemoryFormat::ChannelsLast);
  const EpilogueOperands epilogue = epilogue_operands(like, n, c, p.y_axis.out * p.x_axis.out, behind);
  set_images(p, out, out, MemoryFormat::ChannelsLast);
  p.epilogue = &epilogue;
  run(p, filter, out);
  return out;
}

}  // namespace

Tensor upfirdn2d(const Tensor& x, const Tensor& f, std::vector<int64_t> up, std::vector<int64_t> down,
                 std::vector<int64_t> padding, bool flip_filter, double gain) {
  STD_TORCH_CHECK(x.dim() == 4 && up.size() == 2 && down.size() == 2 && padding.size() == 4,
                  "upfirdn2d: bad arguments");
  const MemoryFormat format = dense_format(x);
  const Tensor input = dense(x, format);
  const Filter filter(f, x, flip_filter, gain);
  Upfirdn2dParams p{};
  p.x_axis = axis(x.size(3), up[0], down[0], padding[0], padding[1], filter.width);
  p.y_axis = axis(x.size(2), up[1], down[1], padding[2], padding[3], filter.height);
  Tensor out = empty_dense(x, {x.size(0), x.size(1), p.y_axis.out, p.x_axis.out}, format);
  set_images(p, input, out, format);
  run(p, filter, out);
  return out;
}

Tensor upfirdn2d_epilogue(const Tensor& x, const Tensor& f, const std::vector<int64_t>& padding, double gain,
                          Behind behind) {
  const MemoryFormat format = dense_format(x);
  const Tensor input = dense(x, format);
  const Filter filter(f, x, false, gain);
  Upfirdn2dParams p{};
  p.x_axis = axis(x.size(3), 1, 1, padding[0], padding[1], filter.width);
  p.y_axis = axis(x.size(2), 1, 1, padding[2], padding[3], filter.height);
  Tensor out = empty_dense(x, {x.size(0), x.size(1), p.y_axis.out, p.x_axis.out}, format);
  const EpilogueOperands epilogue = epilogue_operands(x, x.size(0), x.size(1), p.y_axis.out * p.x_axis.out, behind);
  set_images(p, input, out, format);
  p.epilogue = &epilogue;
  run(p, filter, out);
  return out;
}

Tensor upfirdn2d_phases(const Tensor& like, const Phases& phases, std::array<int64_t, 4> size, const Tensor& f,
                        const std::vector<int64_t>& padding, double gain, Behind behind) {
  Upfirdn2dParams p{};
  p.phases = &phases;
  return filter_unmade(p, like, size, f, padding, gain, behind);
}

Tensor upfirdn2d_conv(const Tensor& like, const FusedConvParams& conv, const Tensor& f,
                      const std::vector<int64_t>& padding, double gain, Behind behind) {
  Upfirdn2dParams p{};
  p.conv = &conv;
  return filter_unmade(p, like, {conv.samples, conv.out_channels, conv.out_height, conv.out_width}, f, padding, gain,
                       behind);
}

}  // namespace stylegan_ops

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, STYLEGAN_OPS_DEVICE, m) {
  m.impl("upfirdn2d", TORCH_BOX(&stylegan_ops::upfirdn2d));
}
