// Tensor side of bias_act and bias_act_backward.
#include "bias_act.h"

#include <algorithm>

#include "tensor.h"

namespace stylegan_ops {
namespace {

constexpr int64_t kItemElements = 16384;  // of a work item where inner == 1

// A dense tensor seen as [outer, C, inner] around the bias dimension.
struct View {
  int64_t outer = 1, channels = 1, inner = 1, rows = 1, items = 1;

  View(const Tensor& x, int64_t dim, bool has_channels, MemoryFormat format) {
    if (!has_channels) {
      outer = x.numel();
    } else if (format == MemoryFormat::ChannelsLast && dim == 1) {
      channels = x.size(1);
      outer = x.numel() / std::max<int64_t>(channels, 1);
    } else {
      for (int64_t d = 0; d < dim; ++d) outer *= x.size(d);
      channels = x.size(dim);
      for (int64_t d = dim + 1; d < x.dim(); ++d) inner *= x.size(d);
    }
    rows = std::max<int64_t>(1, kItemElements / std::max<int64_t>(channels, 1));
    items = inner == 1 ? (outer + rows - 1) / rows : outer * channels;
  }

  int64_t item_elements() const { return inner == 1 ? rows * channels : inner; }
};

// The format in which the bias dimension can be walked: channels_last only along dim 1.
MemoryFormat walk_format(const Tensor& x, int64_t dim, bool has_channels) {
  const MemoryFormat format = dense_format(x);
  return has_channels && dim != 1 ? MemoryFormat::Contiguous : format;
}

void check_dim(const Tensor& x, int64_t dim, bool has_channels) {
  STD_TORCH_CHECK(!has_channels || (dim >= 0 && dim < x.dim()),
                  "bias_act: dim must be within the dimensions of x (got ", dim, ")");
}

}  // namespace

Tensor bias_act(const Tensor& x, OptionalTensor b, int64_t dim, int64_t act, double alpha, double gain, double clamp) {
  check_dim(x, dim, b.has_value());
  const MemoryFormat out_format = dense_format(x), format = walk_format(x, dim, b.has_value());
  const Tensor input = dense(x, format);
  Tensor y = empty_dense(x, sizes_of(x), format);
  const View view(input, dim, b.has_value(), format);
  BiasActParams p{};
  p.x = input.const_data_ptr();
  p.b = operand(b, x, b.has_value() ? x.size(dim) : 0, "bias_act: b");
  p.y = y.mutable_data_ptr();
  p.outer = view.outer, p.channels = view.channels, p.inner = view.inner, p.rows = view.rows;
  p.dtype = dtype_of(x);
  p.activation = activation(act, alpha, gain, clamp);
  if (x.numel() > 0) {
    if constexpr (kOnCuda)
      cuda::launch_bias_act(p, Current(x).stream);
    else
      torch::stable::parallel_for(0, view.items, grain(view.item_elements()),
                                  [&](int64_t begin, int64_t end) { cpu::bias_act(p, begin, end); });
  }
  return dense(y, out_format);
}

std::tuple<Tensor, Tensor> bias_act_backward(const Tensor& dy, OptionalTensor ref, int64_t dim, int64_t act,
                                             double alpha, double gain, double clamp, int64_t order, bool reduce) {
  const Tensor& like = ref.has_value() ? *ref : dy;
  check_dim(dy, dim, reduce);
  const MemoryFormat out_format = dense_format(like), format = walk_format(like, dim, reduce);
  STD_TORCH_CHECK(order >= 0 && order <= 10, "bias_act: derivatives are available to order 11 (got order ", order + 1,
                  ")");
  const Tensor input = dense(dy, format);
  if (ref.has_value()) {
    check_same(dy, *ref, "bias_act_backward: dy and ref");
    ref = dense(*ref, format);
  }
  Tensor dx = empty_dense(dy, sizes_of(dy), format);
  const View view(input, dim, reduce, format);
  const int64_t channels = reduce ? view.channels : 0;
  // The CUDA kernels write all of db.
  Tensor db = kOnCuda && dy.numel() > 0 ? empty(dy, {channels}, accumulate_type(dy))
                                        : zeros(dy, {channels}, accumulate_type(dy));
  Tensor partial;
  if (!kOnCuda && reduce)
    partial = zeros(dy, {view.inner == 1 ? view.items * channels : view.items}, ScalarType::Double);

  BiasActBackwardParams p{};
  p.dy = input.const_data_ptr();
  p.ref = ref.has_value() ? ref->const_data_ptr() : nullptr;
  p.dx = dx.mutable_data_ptr();
  p.partial = !kOnCuda && reduce ? static_cast<double*>(partial.mutable_data_ptr()) : nullptr;
  p.db = reduce ? db.mutable_data_ptr() : nullptr;
  p.outer = view.outer, p.channels = view.channels, p.inner = view.inner, p.rows = view.rows;
  p.order = order;
  p.dtype = dtype_of(dy);
  p.activation = activation(act, alpha, gain, clamp);
  STD_TORCH_CHECK(ref.has_value() || (p.activation.act == Act::kLinear && std::isnan(p.activation.clamp)),
                  "bias_act_backward: ref is missing");
  if (dy.numel() > 0) {
    if constexpr (kOnCuda) {
      const Current current(dy);
      const Tensor workspace = empty(dy, {cuda::bias_act_backward_workspace(p)}, ScalarType::Byte);
      p.workspace = workspace.mutable_data_ptr();
      cuda::launch_bias_act_backward(p, current.stream);
    } else {
      torch::stable::parallel_for(0, view.items, grain(view.item_elements()),
                                  [&](int64_t begin, int64_t end) { cpu::bias_act_backward(p, begin, end); });
      // The second stage adds the work items' sums in one fixed order, whatever the number of threads. Item i belongs
      // to channel i % C.
      if (reduce) add_partial_sums(partial, db);
    }
  }
  return {dense(dx, out_format), db};
}

}  // namespace stylegan_ops

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, STYLEGAN_OPS_DEVICE, m) {
  m.impl("bias_act", TORCH_BOX(&stylegan_ops::bias_act));
  m.impl("bias_act_backward", TORCH_BOX(&stylegan_ops::bias_act_backward));
}
