// Tensor side of adain and adain_backward.
#include "adain.h"

#include "tensor.h"

namespace stylegan_ops {
namespace {

constexpr int64_t kItemElements = 65536;   // of a channels_last work item
constexpr int64_t kNoisePlanes = 16;       // of a contiguous work item that makes sums over channels
constexpr int64_t kCacheBytes = 12 << 20;  // of samples that are read a second time from a cache that all threads share

// What forward and backward have in common.
AdainParams params(const Tensor& x, OptionalTensor& scale, OptionalTensor& noise, OptionalTensor& strength,
                   OptionalTensor& bias, Activation activation, double eps) {
  AdainParams p{};
  p.samples = x.size(0), p.channels = x.size(1), p.pixels = x.size(2) * x.size(3);
  p.x = x.const_data_ptr();
  p.scale = operand(scale, x, p.samples * p.channels, "adain: scale");
  if (noise.has_value()) {
    const int64_t noises = noise->dim() == 4 ? noise->size(0) : 0;
    STD_TORCH_CHECK(noises == p.samples || noises == 1, "adain: noise must be [N or 1, 1, H, W]");
    p.noise = operand(noise, x, noises * p.pixels, "adain: noise");
    p.noise_stride = noises > 1 ? p.pixels : 0;
  }
  p.strength = operand(strength, x, p.channels, "adain: noise_strength");
  p.bias = operand(bias, x, p.channels, "adain: bias");
  p.activation = activation;
  p.eps = eps;
  p.layout = layout_of(dense_format(x));
  p.dtype = dtype_of(x);
  p.group = p.groups = p.run = p.runs = 1;
  return p;
}

// channels_last: as many samples at once as the cache holds until they are read again, at least one.
void runs_on_cpu(AdainParams& p, const Tensor& x, int64_t tensors) {
  const Tensor moments = empty(x, {p.samples * p.runs * 4 * p.channels}, ScalarType::Double);
  const Tensor factors = empty(x, {p.samples * 4 * p.channels}, accumulate_type(x));
  p.moments = static_cast<double*>(moments.mutable_data_ptr());
  p.factors = factors.mutable_data_ptr();
  const int64_t sample_bytes = p.channels * p.pixels * static_cast<int64_t>(x.element_size()) * tensors;
  const int64_t step = std::max<int64_t>(1, kCacheBytes / sample_bytes);
  for (int64_t n = 0; n < p.samples; n += step) {
    const int64_t end = std::min(n + step, p.samples), items = grain(p.run * p.channels);
    torch::stable::parallel_for(n * p.runs, end * p.runs, items,
                                [&](int64_t first, int64_t last) { cpu::adain_statistics(p, first, last); });
    torch::stable::parallel_for(n, end, grain(p.runs * p.channels * 8),
                                [&](int64_t first, int64_t last) { cpu::adain_factors(p, first, last); });
    torch::stable::parallel_for(n * p.runs, end * p.runs, items,
                                [&](int64_t first, int64_t last) { cpu::adain_apply(p, first, last); });
  }
}

void planes_on_cpu(const AdainParams& p) {
  torch::stable::parallel_for(0, p.samples * p.groups, grain(p.group * p.pixels),
                              [&](int64_t first, int64_t last) { cpu::adain_planes(p, first, last); });
}

int64_t run_length(const AdainParams& p) { return std::clamp<int64_t>(kItemElements / p.channels, 1, p.pixels); }

// The work items and the second stage, which adds their sums. `small` are the gradients of noise, strength and bias,
// null where they are not wanted.
void backward_on_cpu(AdainParams& p, const Tensor& x, std::array<Tensor*, 3> small) {
  const bool planes = p.layout == Layout::kContiguous;
  if (planes) {
    p.group = small[0] == nullptr ? 1 : std::min(kNoisePlanes, p.channels);
    p.groups = (p.channels + p.group - 1) / p.group;
  } else {
    p.run = run_length(p);
    p.runs = (p.pixels + p.run - 1) / p.run;
  }
  const int64_t rows = p.samples * p.runs;
  const std::array<int64_t, 3> terms{p.samples * p.groups * p.pixels, rows * p.channels, rows * p.channels};
  const std::array<double**, 3> pointers{&p.partial_noise, &p.partial_strength, &p.partial_bias};
  std::array<Tensor, 3> partial;
  for (int i = 0; i < 3; ++i) {
    if (small[i] == nullptr) continue;
    partial[i] = zeros(x, {terms[i]}, ScalarType::Double);
    *pointers[i] = static_cast<double*>(partial[i].mutable_data_ptr());
  }
  planes ? planes_on_cpu(p) : runs_on_cpu(p, x, 2);
  if (small[0] != nullptr) {  // sample by sample, or over all that share the noise
    const int64_t noises = p.noise_stride == 0 ? 1 : p.samples, count = terms[0] / noises;
    for (int64_t i = 0; i < noises; ++i) {
      Tensor row = torch::stable::select(*small[0], 0, i);
      add_partial_sums(torch::stable::narrow(partial[0], 0, i * count, count), row);
    }
  }
  for (int i = 1; i < 3; ++i)
    if (small[i] != nullptr) add_partial_sums(partial[i], *small[i]);
}

void check_image(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() == 4, "adain: the image must have 4 dimensions (got ", x.dim(), ")");
}

}  // namespace

Tensor adain(const Tensor& x, OptionalTensor scale, OptionalTensor shift, OptionalTensor noise, OptionalTensor strength,
             OptionalTensor bias, int64_t act, double alpha, double gain, double eps) {
  check_image(x);
  const MemoryFormat format = dense_format(x);
  const Tensor input = dense(x, format);
  Tensor y = empty_dense(x, sizes_of(x), format);
  if (x.numel() == 0) return y;
  AdainParams p = params(input, scale, noise, strength, bias, activation(act, alpha, gain, -1), eps);
  p.shift = operand(shift, x, p.samples * p.channels, "adain: shift");
  p.y = y.mutable_data_ptr();
  if constexpr (kOnCuda) {
    const Current current(x);
    const Tensor workspace = empty(x, {cuda::adain_workspace(p)}, ScalarType::Byte);
    p.workspace = workspace.mutable_data_ptr();
    cuda::launch_adain(p, current.stream);
  } else if (p.layout == Layout::kContiguous) {
    p.groups = p.channels;
    planes_on_cpu(p);
  } else {
    p.run = run_length(p);
    p.runs = (p.pixels + p.run - 1) / p.run;
    runs_on_cpu(p, x, 1);
  }
  return y;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> adain_backward(const Tensor& dy, const Tensor& x,
                                                                          OptionalTensor scale, OptionalTensor noise,
                                                                          OptionalTensor strength, OptionalTensor bias,
                                                                          int64_t act, double alpha, double gain,
                                                                          double eps, int64_t wants) {
  check_image(x);
  check_same(x, dy, "adain_backward: dy and x");
  STD_TORCH_CHECK(noise.has_value() || !(wants & (4 | 8)), "adain_backward: the gradient of noise needs noise");
  const MemoryFormat format = dense_format(x);
  const Tensor input = dense(x, format), grad = dense(dy, format);
  const int64_t n = x.size(0), c = x.size(1);
  // The small gradients, empty where they are not wanted. The CUDA kernels write all of each.
  const auto small = [&](int64_t which, std::vector<int64_t> size) {
    if (!(wants & which)) size = {0};
    return kOnCuda && x.numel() > 0 ? empty(x, std::move(size), accumulate_type(x))
                                    : zeros(x, std::move(size), accumulate_type(x));
  };
  Tensor dx = empty_dense(x, sizes_of(x), format), dscale = small(1, {n, c}), dshift = small(2, {n, c});
  Tensor dnoise = small(4, noise.has_value() ? sizes_of(*noise) : std::vector<int64_t>{0});
  Tensor dstrength = small(8, {c}), dbias = small(16, {c});
  if (x.numel() > 0) {
    AdainParams p = params(input, scale, noise, strength, bias, activation(act, alpha, gain, -1), eps);
    const auto pointer = [&](int64_t which, Tensor& t) { return wants & which ? t.mutable_data_ptr() : nullptr; };
    p.dy = grad.const_data_ptr();
    p.y = dx.mutable_data_ptr();
    p.dscale = pointer(1, dscale), p.dshift = pointer(2, dshift);
    if constexpr (kOnCuda) {
      p.dnoise = pointer(4, dnoise), p.dstrength = pointer(8, dstrength), p.dbias = pointer(16, dbias);
      const Current current(x);
      const Tensor workspace = empty(x, {cuda::adain_backward_workspace(p)}, ScalarType::Byte);
      p.workspace = workspace.mutable_data_ptr();
      cuda::launch_adain_backward(p, current.stream);
    } else {
      const auto wanted = [&](int64_t which, Tensor& t) { return wants & which ? &t : nullptr; };
      backward_on_cpu(p, x, {wanted(4, dnoise), wanted(8, dstrength), wanted(16, dbias)});
    }
  }
  return {dx, dscale, dshift, dnoise, dstrength, dbias};
}

}  // namespace stylegan_ops

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, STYLEGAN_OPS_DEVICE, m) {
  m.impl("adain", TORCH_BOX(&stylegan_ops::adain));
  m.impl("adain_backward", TORCH_BOX(&stylegan_ops::adain_backward));
}
