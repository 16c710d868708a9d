// Tensor side of upfirdn2d.
#include "upfirdn2d.h"

#include "fused.h"
#include "tensor.h"

namespace stylegan_ops {
namespace {

void check_filter(const Tensor& f, const Tensor& x) {
  STD_TORCH_CHECK((f.dim() == 1 || f.dim() == 2) && f.numel() > 0, "upfirdn2d: f must have 1 or 2 dimensions");
  STD_TORCH_CHECK(f.scalar_type() == ScalarType::Double || f.scalar_type() == ScalarType::Float,
                  "upfirdn2d: f must be float32 or float64");
  STD_TORCH_CHECK(f.is_cpu() == x.is_cpu() && f.is_cuda() == x.is_cuda(), "upfirdn2d: f must be on the device of x");
}

// The filter as the CPU's kernel wants it, in double: correlation order, gain included, separated where it is an outer
// product.
struct Taps {
  int64_t width, height;
  std::vector<double> x, y, full;

  Taps(const Tensor& f, const Tensor& x, bool flip_filter, double gain) {
    check_filter(f, x);
    const Tensor dense_f = torch::stable::contiguous(f);
    std::vector<double> taps(f.numel());
    const bool is_double = f.scalar_type() == ScalarType::Double;
    for (int64_t i = 0; i < f.numel(); ++i)
      taps[i] = is_double ? static_cast<const double*>(dense_f.const_data_ptr())[i]
                          : static_cast<const float*>(dense_f.const_data_ptr())[i];
    if (!flip_filter) std::reverse(taps.begin(), taps.end());
    width = f.size(f.dim() - 1), height = f.size(0);
    if (f.dim() == 1)
      this->x = y = taps;
    else if (!separate(taps, x.scalar_type() == ScalarType::Double ? 1e-15 : 1e-7))
      full = std::move(taps);
    for (double& tap : full.empty() ? this->x : full) tap *= gain;
  }

  void fill(Upfirdn2dParams& p) const {
    (full.empty() ? p.tap_x : p.tap) = full.empty() ? x.data() : full.data();
    p.tap_y = full.empty() ? y.data() : nullptr;
  }

  // full = y x^T, found from the row and the column of the largest tap.
  bool separate(const std::vector<double>& taps, double tolerance) {
    int64_t pivot = 0;
    for (int64_t i = 1; i < width * height; ++i)
      if (std::fabs(taps[i]) > std::fabs(taps[pivot])) pivot = i;
    if (taps[pivot] == 0) return false;
    const int64_t row = pivot / width, column = pivot % width;
    x.assign(taps.begin() + row * width, taps.begin() + (row + 1) * width);
    y.resize(height);
    for (int64_t i = 0; i < height; ++i) y[i] = taps[i * width + column] / taps[pivot];
    for (int64_t i = 0; i < width * height; ++i) {
      if (!(std::fabs(taps[i] - y[i / width] * x[i % width]) <= tolerance * std::fabs(taps[pivot]))) {
        x.clear(), y.clear();
        return false;
      }
    }
    return true;
  }
};

// The filter as it lies on the device, where only a kernel may read it: the host would have to wait.
struct DeviceTaps {
  Tensor f;
  int64_t width, height;
  bool flip_filter;
  double gain;

  DeviceTaps(const Tensor& f, const Tensor& x, bool flip_filter, double gain)
      : f(f), width(f.size(f.dim() - 1)), height(f.size(0)), flip_filter(flip_filter), gain(gain) {
    check_filter(f, x);
    if (f.scalar_type() != accumulate_type(x)) this->f = torch::stable::to(f, accumulate_type(x));
    this->f = torch::stable::contiguous(this->f);
  }

  void fill(Upfirdn2dParams& p) const { p.filter = {f.const_data_ptr(), f.dim() == 1, flip_filter, gain}; }
};

using Filter = std::conditional_t<kOnCuda, DeviceTaps, Taps>;

ResampleAxis axis(int64_t in, int64_t up, int64_t down, int64_t before, int64_t after, int64_t taps) {
  constexpr int64_t kLimit = int64_t{1} << 31;
  STD_TORCH_CHECK(up >= 1 && down >= 1 && up < kLimit && down < kLimit && std::abs(before) < kLimit &&
                      std::abs(after) < kLimit && in < kLimit / up,
                  "upfirdn2d: up, down, padding and the upsampled size must be below 2^31 (up and down at least 1)");
  const int64_t padded = in * up + before + after;
  STD_TORCH_CHECK(padded >= taps, "upfirdn2d: f must fit into the padded image (got ", padded, " pixels, ", taps,
                  " taps)");
  return {in, (padded - taps) / down + 1, up, down, before, taps};
}

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
