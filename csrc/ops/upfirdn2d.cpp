// Tensor side of upfirdn2d.
#include "upfirdn2d.h"

#include "fused.h"
#include "tensor.h"

namespace stylegan_ops {
namespace {

// The filter as the kernel wants it, in double: correlation order, gain included, separated where it is an outer
// product.
struct Taps {
  int64_t width, height;
  std::vector<double> x, y, full;

  Taps(const Tensor& f, bool flip_filter, double gain, bool exact) {
    STD_TORCH_CHECK(f.is_cpu() && (f.dim() == 1 || f.dim() == 2) && f.numel() > 0,
                    "upfirdn2d: f must be a CPU tensor of 1 or 2 dimensions");
    const Tensor dense_f = torch::stable::contiguous(f);
    std::vector<double> taps(f.numel());
    const bool is_double = f.scalar_type() == ScalarType::Double;
    STD_TORCH_CHECK(is_double || f.scalar_type() == ScalarType::Float, "upfirdn2d: f must be float32 or float64");
    for (int64_t i = 0; i < f.numel(); ++i)
      taps[i] = is_double ? static_cast<const double*>(dense_f.const_data_ptr())[i]
                          : static_cast<const float*>(dense_f.const_data_ptr())[i];
    if (!flip_filter) std::reverse(taps.begin(), taps.end());
    width = f.size(f.dim() - 1), height = f.size(0);
    if (f.dim() == 1)
      x = y = taps;
    else if (!separate(taps, exact ? 1e-15 : 1e-7))
      full = std::move(taps);
    for (double& tap : full.empty() ? x : full) tap *= gain;
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

void run(Upfirdn2dParams& p, const Taps& taps) {
  (taps.full.empty() ? p.tap_x : p.tap) = taps.full.empty() ? taps.x.data() : taps.full.data();
  p.tap_y = taps.full.empty() ? taps.y.data() : nullptr;
  torch::stable::parallel_for(0, p.images * p.y_axis.out, grain(p.x_axis.out * p.pixel * 2),
                              [&](int64_t begin, int64_t end) { cpu::upfirdn2d(p, begin, end); });
}

}  // namespace

Tensor upfirdn2d(const Tensor& x, const Tensor& f, std::vector<int64_t> up, std::vector<int64_t> down,
                 std::vector<int64_t> padding, bool flip_filter, double gain) {
  STD_TORCH_CHECK(x.dim() == 4 && up.size() == 2 && down.size() == 2 && padding.size() == 4,
                  "upfirdn2d: bad arguments");
  const MemoryFormat format = dense_format(x);
  const Tensor input = dense(x, format);
  const Taps taps(f, flip_filter, gain, x.scalar_type() == ScalarType::Double);
  Upfirdn2dParams p{};
  p.x_axis = axis(x.size(3), up[0], down[0], padding[0], padding[1], taps.width);
  p.y_axis = axis(x.size(2), up[1], down[1], padding[2], padding[3], taps.height);
  Tensor out = empty_dense(x, {x.size(0), x.size(1), p.y_axis.out, p.x_axis.out}, format);
  const bool channels_last = format == MemoryFormat::ChannelsLast;
  p.x = input.const_data_ptr();
  p.out = out.mutable_data_ptr();
  p.images = channels_last ? x.size(0) : x.size(0) * x.size(1);
  p.pixel = channels_last ? x.size(1) : 1;
  p.dtype = dtype_of(x);
  if (out.numel() > 0) run(p, taps);
  return out;
}

Tensor upfirdn2d_phases(const Tensor& like, const Phases& phases, std::array<int64_t, 4> size, const Tensor& f,
                        const std::vector<int64_t>& padding, double gain, OptionalTensor scale, OptionalTensor noise,
                        OptionalTensor bias, const Activation& activation) {
  const Taps taps(f, false, gain, like.scalar_type() == ScalarType::Double);
  const auto [n, c, height, width] = size;
  Upfirdn2dParams p{};
  p.x_axis = axis(width, 1, 1, padding[0], padding[1], taps.width);
  p.y_axis = axis(height, 1, 1, padding[2], padding[3], taps.height);
  Tensor out = empty_dense(like, {n, c, p.y_axis.out, p.x_axis.out}, MemoryFormat::ChannelsLast);
  OptionalTensor strength;
  const EpilogueOperands epilogue =
      epilogue_operands(like, n, c, p.y_axis.out * p.x_axis.out, scale, noise, strength, bias, activation);
  p.out = out.mutable_data_ptr();
  p.images = n, p.pixel = c;
  p.phases = &phases;
  p.epilogue = &epilogue;
  p.dtype = dtype_of(like);
  if (out.numel() > 0) run(p, taps);
  return out;
}

}  // namespace stylegan_ops

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, STYLEGAN_OPS_DEVICE, m) {
  m.impl("upfirdn2d", TORCH_BOX(&stylegan_ops::upfirdn2d));
}
