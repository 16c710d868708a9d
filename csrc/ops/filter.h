// The tensor side of FIR filters: their taps as kernels read them, and the axes along which they run.
#pragma once

#include "tensor.h"
#include "upfirdn2d.h"

namespace stylegan_ops {

inline void check_filter(const Tensor& f, const Tensor& x) {
  STD_TORCH_CHECK((f.dim() == 1 || f.dim() == 2) && f.numel() > 0, "stylegan_ops: f must have 1 or 2 dimensions");
  STD_TORCH_CHECK(f.scalar_type() == ScalarType::Double || f.scalar_type() == ScalarType::Float,
                  "stylegan_ops: f must be float32 or float64");
  STD_TORCH_CHECK(f.is_cpu() == x.is_cpu() && f.is_cuda() == x.is_cuda(), "stylegan_ops: f must be on the device of x");
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

inline ResampleAxis axis(int64_t in, int64_t up, int64_t down, int64_t before, int64_t after, int64_t taps) {
  constexpr int64_t kLimit = int64_t{1} << 31;
  STD_TORCH_CHECK(up >= 1 && down >= 1 && up < kLimit && down < kLimit && std::abs(before) < kLimit &&
                      std::abs(after) < kLimit && in < kLimit / up,
                  "stylegan_ops: up, down, padding and the upsampled size must be below 2^31 (up and down at least 1)");
  const int64_t padded = in * up + before + after;
  STD_TORCH_CHECK(padded >= taps, "stylegan_ops: f must fit into the padded image (got ", padded, " pixels, ", taps,
                  " taps)");
  return {in, (padded - taps) / down + 1, up, down, before, taps};
}

}  // namespace stylegan_ops
