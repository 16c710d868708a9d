// The Tensor side's few tools: checks that keep kernels inside memory, layouts, dtypes, allocation. Python has checked
// the arguments before.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/MemoryFormat.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "bias_act.h"
#include "kernel.h"

// This folder is compiled once for each library. In the one of the other device a branch of `if constexpr (kOnCuda)` is
// left out, so that neither needs the other's kernels.
#ifdef STYLEGAN_OPS_BACKEND_CUDA
#define STYLEGAN_OPS_DEVICE CUDA
#else
#define STYLEGAN_OPS_DEVICE CPU
#endif

namespace stylegan_ops {

#ifdef STYLEGAN_OPS_BACKEND_CUDA
constexpr bool kOnCuda = true;
#else
constexpr bool kOnCuda = false;
#endif

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

inline DType dtype_of(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Double:
      return DType::kFloat64;
    case ScalarType::Float:
      return DType::kFloat32;
    case ScalarType::BFloat16:
      return DType::kBFloat16;
    case ScalarType::Half:
      return DType::kFloat16;
    default:
      STD_TORCH_CHECK(false, "stylegan_ops: the dtype must be float64, float32, bfloat16 or float16");
  }
}

inline DType dtype_of(const Tensor& t) { return dtype_of(t.scalar_type()); }

// The dtype in which an op computes, and of its small operands and reductions.
inline ScalarType accumulate_type(const Tensor& t) {
  return t.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Whether the 4-D tensor may be read as [N, H, W, C] without gaps.
inline bool is_channels_last(const Tensor& t) {
  int64_t expected = 1;
  for (int64_t d : {1, 3, 2, 0}) {
    if (t.size(d) != 1 && t.stride(d) != expected) return false;
    expected *= t.size(d);
  }
  return true;
}

// channels_last if that is the only format the 4-D tensor lies in, else contiguous. Mirrors dense_format() in Python.
inline MemoryFormat dense_format(const Tensor& t) {
  return t.dim() == 4 && !t.is_contiguous() && is_channels_last(t) ? MemoryFormat::ChannelsLast
                                                                   : MemoryFormat::Contiguous;
}

inline Layout layout_of(MemoryFormat format) {
  return format == MemoryFormat::ChannelsLast ? Layout::kChannelsLast : Layout::kContiguous;
}

// Not torch::stable::empty: the way through the dispatcher takes a microsecond or two, as long as an op on a small
// image.
inline Tensor empty(const Tensor& like, const std::vector<int64_t>& size, ScalarType dtype,
                    MemoryFormat format = MemoryFormat::Contiguous) {
  const int64_t dim = static_cast<int64_t>(size.size());
  std::vector<int64_t> stride(dim);
  int64_t step = 1;
  const auto next = [&](int64_t d) { stride[d] = step, step *= std::max<int64_t>(size[d], 1); };
  if (format == MemoryFormat::ChannelsLast)
    for (int64_t d : {1, 3, 2, 0}) next(d);
  else
    for (int64_t d = dim - 1; d >= 0; --d) next(d);
  int32_t device_type;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  AtenTensorHandle made;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      dim, size.data(), stride.data(), torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype)),
      device_type, like.get_device_index(), &made));
  return Tensor(made);
}

inline Tensor empty_dense(const Tensor& like, const std::vector<int64_t>& size, MemoryFormat format) {
  return empty(like, size, like.scalar_type(), format);
}

inline Tensor zeros(const Tensor& like, std::vector<int64_t> size, ScalarType dtype) {
  Tensor t = empty(like, std::move(size), dtype);
  return torch::stable::zero_(t);
}

inline std::vector<int64_t> sizes_of(const Tensor& t) { return {t.sizes().begin(), t.sizes().end()}; }

// The tensor itself if it lies densely in the format already, else a copy that does.
inline Tensor dense(const Tensor& t, MemoryFormat format) {
  if (dense_format(t) == format && (format == MemoryFormat::ChannelsLast || t.is_contiguous())) return t;
  return torch::stable::contiguous(t, format);
}

// A small operand as the kernels read it: contiguous, of the given dtype and number of elements, or a null pointer.
inline const void* operand(OptionalTensor& t, const Tensor& x, int64_t numel, const char* what) {
  if (!t.has_value()) return nullptr;
  STD_TORCH_CHECK(t->numel() == numel, "stylegan_ops: ", what, " must have ", numel, " elements (got ", t->numel(),
                  ")");
  STD_TORCH_CHECK(t->scalar_type() == accumulate_type(x), "stylegan_ops: ", what, " must be of the accumulation dtype");
  STD_TORCH_CHECK(t->is_cpu() == x.is_cpu() && t->is_cuda() == x.is_cuda(), "stylegan_ops: ", what,
                  " must be on the device of the image");
  t = dense(*t, MemoryFormat::Contiguous);
  return t->const_data_ptr();
}

inline bool on_one_device(const Tensor& a, const Tensor& b) {
  return a.is_cpu() == b.is_cpu() && a.is_cuda() == b.is_cuda() && a.get_device_index() == b.get_device_index();
}

inline void check_same(const Tensor& a, const Tensor& b, const char* what) {
  bool same = a.dim() == b.dim() && a.scalar_type() == b.scalar_type() && on_one_device(a, b);
  for (int64_t d = 0; same && d < a.dim(); ++d) same = a.size(d) == b.size(d);
  STD_TORCH_CHECK(same, "stylegan_ops: ", what, " must have the same shape, dtype and device");
}

inline Activation activation(int64_t act, double alpha, double gain, double clamp) {
  STD_TORCH_CHECK(act >= 0 && act <= static_cast<int64_t>(Act::kSwish), "stylegan_ops: unknown activation ", act);
  return {static_cast<Act>(act), alpha, gain, clamp < 0 ? std::numeric_limits<double>::quiet_NaN() : clamp};
}

// total[j] = sum over i of partial[i, j], in a fixed order whatever the number of threads that made the rows. Partial
// is double.
inline void add_partial_sums(const Tensor& partial, Tensor& total) {
  const int64_t columns = total.numel(), rows = columns == 0 ? 0 : partial.numel() / columns;
  const double* in = static_cast<const double*>(partial.const_data_ptr());
  std::vector<double> sums(columns, 0.0);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) sums[j] += in[i * columns + j];
  if (total.scalar_type() == ScalarType::Double)
    std::copy(sums.begin(), sums.end(), static_cast<double*>(total.mutable_data_ptr()));
  else
    std::copy(sums.begin(), sums.end(), static_cast<float*>(total.mutable_data_ptr()));
}

// Makes the tensor's device the current one, and gives its current stream: what a launch needs.
class Current {
 public:
  explicit Current(const torch::stable::Tensor& t) : guard_(t.get_device_index()) {
#ifdef STYLEGAN_OPS_BACKEND_CUDA
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
#endif
  }
  cuda::Stream stream = nullptr;

 private:
  torch::stable::accelerator::DeviceGuard guard_;
};

// Work items per thread, at least, so that a thread is worth its start.
inline int64_t grain(int64_t elements_per_item) {
  return std::max<int64_t>(1, 32768 / std::max<int64_t>(1, elements_per_item));
}

}  // namespace stylegan_ops
