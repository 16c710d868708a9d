// Tensor side of pixel_norm and pixel_norm_backward.
#include "pixel_norm.h"

#include "tensor.h"

namespace stylegan_ops {
namespace {

constexpr int64_t kItemElements = 131072;  // what a work item's second read finds in the cache
constexpr int64_t kRunBytes = 4096;        // of each plane, a page: each page costs a look-up of its address

Tensor run(const Tensor& x, const Tensor* dy, int64_t dim, double eps) {
  STD_TORCH_CHECK(dim >= 0 && dim < x.dim(), "pixel_norm: dim must be within the dimensions of x (got ", dim, ")");
  const MemoryFormat out_format = dense_format(x), format = dim == 1 ? out_format : MemoryFormat::Contiguous;
  const Tensor input = dense(x, format);
  Tensor y = empty_dense(x, sizes_of(x), format), grad;
  PixelNormParams p{};
  p.x = input.const_data_ptr();
  if (dy != nullptr) {
    check_same(x, *dy, "pixel_norm_backward: dy and x");
    grad = dense(*dy, format);
    p.dy = grad.const_data_ptr();
  }
  p.y = y.mutable_data_ptr();
  p.channels = x.size(dim), p.outer = 1, p.inner = 1;
  for (int64_t d = 0; d < x.dim(); ++d) {
    if (d != dim) (d < dim || format == MemoryFormat::ChannelsLast ? p.outer : p.inner) *= x.size(d);
  }
  p.run = std::max<int64_t>(16, std::min(kRunBytes / static_cast<int64_t>(x.element_size()),
                                         kItemElements / std::max<int64_t>(1, p.channels)));
  p.run = std::min(p.run, p.inner);
  p.runs = p.run == 0 ? 0 : (p.inner + p.run - 1) / p.run;
  p.eps = eps;
  p.dtype = dtype_of(x);
  if (x.numel() > 0) {
    if constexpr (kOnCuda) {
      const Current current(x);
      dy == nullptr ? cuda::launch_pixel_norm(p, current.stream) : cuda::launch_pixel_norm_backward(p, current.stream);
    } else {
      torch::stable::parallel_for(0, p.outer * p.runs, grain(p.channels * p.run), [&](int64_t begin, int64_t end) {
        dy == nullptr ? cpu::pixel_norm(p, begin, end) : cpu::pixel_norm_backward(p, begin, end);
      });
    }
  }
  return dense(y, out_format);
}

}  // namespace

Tensor pixel_norm(const Tensor& x, int64_t dim, double eps) { return run(x, nullptr, dim, eps); }

Tensor pixel_norm_backward(const Tensor& dy, const Tensor& x, int64_t dim, double eps) { return run(x, &dy, dim, eps); }

}  // namespace stylegan_ops

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, STYLEGAN_OPS_DEVICE, m) {
  m.impl("pixel_norm", TORCH_BOX(&stylegan_ops::pixel_norm));
  m.impl("pixel_norm_backward", TORCH_BOX(&stylegan_ops::pixel_norm_backward));
}
