// Tensor side of conv_epilogue and conv_epilogue_backward.
#include "conv_epilogue.h"

#include "fused.h"
#include "tensor.h"

namespace stylegan_ops {
namespace {

constexpr int64_t kContiguousRun = 2048;  // pixels of a backward work item: a few pages of each plane
constexpr int64_t kItemElements = 32768;  // of a channels_last work item

int64_t run_length(int64_t channels, int64_t pixels, Layout layout) {
  const int64_t run = layout == Layout::kContiguous ? kContiguousRun : kItemElements / std::max<int64_t>(1, channels);
  return std::max<int64_t>(1, std::min(run, pixels));
}

void check_image(const Tensor& y) {
  STD_TORCH_CHECK(y.dim() == 4, "conv_epilogue: the image must have 4 dimensions (got ", y.dim(), ")");
}

int64_t noise_samples(const OptionalTensor& noise, int64_t n) {
  if (!noise.has_value()) return 0;
  STD_TORCH_CHECK(noise->dim() == 4 && (noise->size(0) == n || noise->size(0) == 1),
                  "conv_epilogue: noise must be [N or 1, 1, H, W]");
  return noise->size(0);
}

// The work items and the second stage, which adds their sums: for scale sample by sample. `small` are the gradients of
// scale, noise, strength and bias, null where they are not wanted.
void backward_on_cpu(ConvEpilogueBackwardParams& p, const Tensor& dout, std::array<Tensor*, 4> small) {
  const int64_t n = p.samples, c = p.channels, rows = n * p.runs;
  const std::array<int64_t, 4> terms{rows * c, n * p.pixels, rows, rows * c};
  std::array<Tensor, 4> partial;
  const std::array<double**, 4> pointers{&p.partial_scale, &p.partial_noise, &p.partial_strength, &p.partial_bias};
  for (int i = 0; i < 4; ++i) {
    if (small[i] == nullptr) continue;
    partial[i] = zeros(dout, {terms[i]}, ScalarType::Double);
    *pointers[i] = static_cast<double*>(partial[i].mutable_data_ptr());
  }
  torch::stable::parallel_for(0, rows, grain(p.run * c),
                              [&](int64_t begin, int64_t end) { cpu::conv_epilogue_backward(p, begin, end); });
  for (int64_t i = 0; small[0] != nullptr && i < n; ++i) {
    Tensor row = torch::stable::select(*small[0], 0, i);
    add_partial_sums(torch::stable::narrow(partial[0], 0, i * p.runs * c, p.runs * c), row);
  }
  for (int i = 1; i < 4; ++i)
    if (small[i] != nullptr) add_partial_sums(partial[i], *small[i]);
}

}  // namespace

EpilogueOperands epilogue_operands(const Tensor& like, int64_t n, int64_t c, int64_t pixels, Behind& behind) {
  const int64_t samples = noise_samples(behind.noise, n);
  EpilogueOperands e{};
  e.scale = operand(behind.scale, like, n * c, "conv_epilogue: scale");
  e.noise = operand(behind.noise, like, samples * pixels, "conv_epilogue: noise");
  e.noise_stride = samples == n && n > 1 ? pixels : 0;
  e.strength = operand(behind.strength, like, 1, "conv_epilogue: noise_strength");
  e.bias = operand(behind.bias, like, c, "conv_epilogue: bias");
  e.channels = c;
  e.activation = behind.activation;
  return e;
}

void conv_epilogue_into(const Tensor& y, Behind behind, Tensor& out) {
  const int64_t n = y.size(0), c = y.size(1), pixels = y.size(2) * y.size(3);
  ConvEpilogueParams p{};
  p.y = y.const_data_ptr();
  p.out = out.mutable_data_ptr();
  p.operands = epilogue_operands(y, n, c, pixels, behind);
  p.samples = n, p.pixels = pixels;
  p.layout = layout_of(dense_format(y));
  p.run = run_length(c, pixels, p.layout);
  p.runs = p.run == 0 ? 0 : (pixels + p.run - 1) / p.run;
  p.dtype = dtype_of(y);
  if (y.numel() == 0) return;
  if constexpr (kOnCuda) {
    cuda::launch_conv_epilogue(p, Current(y).stream);
  } else {
    const bool planes = p.layout == Layout::kContiguous;
    torch::stable::parallel_for(0, planes ? n * c : n * p.runs, grain(planes ? pixels : p.run * c),
                                [&](int64_t begin, int64_t end) { cpu::conv_epilogue(p, begin, end); });
  }
}

Tensor conv_epilogue(const Tensor& y, OptionalTensor scale, OptionalTensor noise, OptionalTensor strength,
                     OptionalTensor bias, int64_t act, double alpha, double gain, double clamp) {
  check_image(y);
  const MemoryFormat format = dense_format(y);
  Tensor out = empty_dense(y, sizes_of(y), format);
  conv_epilogue_into(dense(y, format), {scale, noise, strength, bias, activation(act, alpha, gain, clamp)}, out);
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> conv_epilogue_backward(
    const Tensor& dout, OptionalTensor ref, OptionalTensor y, OptionalTensor scale, OptionalTensor noise,
    OptionalTensor strength, OptionalTensor bias, int64_t act, double alpha, double gain, double clamp, int64_t wants) {
  check_image(dout);
  const bool wants_scale = wants & 1, wants_noise = wants & 2, wants_strength = wants & 4, wants_bias = wants & 8;
  const MemoryFormat format = dense_format(y.has_value() ? *y : ref.has_value() ? *ref : dout);
  const int64_t n = dout.size(0), c = dout.size(1), pixels = dout.size(2) * dout.size(3);
  const Tensor grad = dense(dout, format);
  for (OptionalTensor* t : {&ref, &y}) {
    if (!t->has_value()) continue;
    check_same(dout, **t, "conv_epilogue_backward: images");
    *t = dense(**t, format);
  }
  STD_TORCH_CHECK(noise.has_value() || !(wants_noise || wants_strength),
                  "conv_epilogue_backward: the gradient of noise needs noise");
  Tensor dy = empty_dense(dout, sizes_of(dout), format);

  ConvEpilogueBackwardParams p{};
  p.activation = activation(act, alpha, gain, clamp);
  STD_TORCH_CHECK(ref.has_value() || (p.activation.act == Act::kLinear && std::isnan(p.activation.clamp)),
                  "conv_epilogue_backward: ref is missing");
  p.recovers = wants_scale && !y.has_value();
  STD_TORCH_CHECK(!p.recovers || (ref.has_value() && scale.has_value() && recovers_input(p.activation)),
                  "conv_epilogue_backward: the gradient of scale needs y, or scale and an output that tells it");
  p.layout = layout_of(format);
  p.run = run_length(c, pixels, p.layout);
  p.runs = (pixels + p.run - 1) / p.run;
  p.samples = n, p.channels = c, p.pixels = pixels;
  const int64_t samples = noise_samples(noise, n);
  p.noise_stride = samples == n && n > 1 ? pixels : 0;
  p.dout = grad.const_data_ptr();
  p.ref = ref.has_value() ? ref->const_data_ptr() : nullptr;
  p.y = y.has_value() ? y->const_data_ptr() : nullptr;
  p.scale = operand(scale, dout, n * c, "conv_epilogue: scale");
  p.noise = operand(noise, dout, samples * pixels, "conv_epilogue: noise");
  p.strength = operand(strength, dout, 1, "conv_epilogue: noise_strength");
  p.bias = operand(bias, dout, c, "conv_epilogue: bias");
  p.dy = dy.mutable_data_ptr();
  p.dtype = dtype_of(dout);

  // The small gradients, empty where they are not wanted. The CUDA kernels write all of each.
  const auto small = [&](bool wanted, std::vector<int64_t> size) {
    if (!wanted) size = {0};
    return kOnCuda && dout.numel() > 0 ? empty(dout, std::move(size), accumulate_type(dout))
                                       : zeros(dout, std::move(size), accumulate_type(dout));
  };
  Tensor dscale = small(wants_scale, {n, c}), dnoise = small(wants_noise, {samples, 1, dout.size(2), dout.size(3)});
  Tensor dstrength = small(wants_strength, {}), dbias = small(wants_bias, {c});
  if (dout.numel() > 0) {
    if constexpr (kOnCuda) {
      const Current current(dout);
      const auto pointer = [](bool wanted, Tensor& t) { return wanted ? t.mutable_data_ptr() : nullptr; };
      p.dscale = pointer(wants_scale, dscale), p.dnoise = pointer(wants_noise, dnoise);
      p.dstrength = pointer(wants_strength, dstrength), p.dbias = pointer(wants_bias, dbias);
      const Tensor workspace = empty(dout, {cuda::conv_epilogue_backward_workspace(p)}, ScalarType::Byte);
      p.workspace = workspace.mutable_data_ptr();
      cuda::launch_conv_epilogue_backward(p, current.stream);
    } else {
      backward_on_cpu(p, dout,
                      {wants_scale ? &dscale : nullptr, wants_noise ? &dnoise : nullptr,
                       wants_strength ? &dstrength : nullptr, wants_bias ? &dbias : nullptr});
    }
  }
  return {dy, dscale, dnoise, dstrength, dbias};
}

}  // namespace stylegan_ops

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, STYLEGAN_OPS_DEVICE, m) {
  m.impl("conv_epilogue", TORCH_BOX(&stylegan_ops::conv_epilogue));
  m.impl("conv_epilogue_backward", TORCH_BOX(&stylegan_ops::conv_epilogue_backward));
}
