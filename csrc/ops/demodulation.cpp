// Tensor side of demodulation and modulation: what the styles of one layer, or of all layers of a network, make of the
// weights' energy.
#include "modulated_conv2d.h"
#include "tensor.h"

namespace stylegan_ops {

// [N, O] for the weights [O, I, K_h, K_w] and the styles [N, I].
Tensor demodulation(const Tensor& weight, const Tensor& styles, double eps) {
  STD_TORCH_CHECK(
      weight.dim() == 4 && styles.dim() == 2 && styles.size(1) == weight.size(1) && on_one_device(weight, styles),
      "demodulation: weight and styles must fit");
  const bool adjacent = weight.stride(3) == 1 && weight.stride(2) == weight.size(3);
  const Tensor w = adjacent ? weight : torch::stable::contiguous(weight);
  OptionalTensor s = styles;
  DemodulationParams p{};
  p.samples = styles.size(0), p.out_channels = w.size(0), p.in_channels = w.size(1);
  p.taps = w.size(2) * w.size(3);
  p.w = w.const_data_ptr();
  p.stride_o = w.stride(0), p.stride_i = w.stride(1);
  p.styles = operand(s, w, p.samples * p.in_channels, "demodulation: styles");
  p.eps = eps;
  p.dtype = dtype_of(w);
  Tensor scale = empty(w, {p.samples, p.out_channels}, accumulate_type(w));
  p.scale = scale.mutable_data_ptr();
  if (scale.numel() == 0) return scale;
  if constexpr (kOnCuda)
    cuda::launch_demodulation(p, Current(w).stream);
  else
    torch::stable::parallel_for(0, p.out_channels, grain(p.in_channels * p.taps),
                                [&](int64_t begin, int64_t end) { cpu::demodulation(p, begin, end); });
  return scale;
}

std::tuple<Tensor, Tensor> modulation(const Tensor& styles, const Tensor& roots, OptionalTensor factors,
                                      std::vector<int64_t> in_channels, std::vector<int64_t> out_channels,
                                      std::vector<int64_t> demodulates, double eps) {
  const int64_t layers = static_cast<int64_t>(in_channels.size());
  STD_TORCH_CHECK(styles.dim() == 3 && styles.size(0) == layers && styles.scalar_type() == accumulate_type(styles) &&
                      out_channels.size() == in_channels.size() && demodulates.size() == in_channels.size(),
                  "modulation: styles must be [layers, N, channels] in float32 or float64");
  STD_TORCH_CHECK(layers <= ModulationParams::kMostLayers, "modulation: a network must have at most ",
                  ModulationParams::kMostLayers, " layers (got ", layers, ")");
  const Tensor given = dense(styles, MemoryFormat::Contiguous);
  ModulationParams p{};
  p.samples = styles.size(1), p.layers = layers, p.most_channels = styles.size(2);
  int64_t energies = 0, ins = 0, outs = 0;
  for (int64_t l = 0; l < layers; ++l) {
    STD_TORCH_CHECK(in_channels[l] >= 0 && in_channels[l] <= p.most_channels && out_channels[l] >= 0,
                    "modulation: the channels of a layer must fit");
    p.layer[l] = {in_channels[l], out_channels[l], demodulates[l] != 0 ? energies : -1, ins, outs};
    if (demodulates[l] != 0) energies += in_channels[l] * out_channels[l];
    ins += p.samples * in_channels[l], outs += p.samples * out_channels[l];
  }
  OptionalTensor sums = roots;
  p.given = given.const_data_ptr();
  p.roots = operand(sums, styles, energies, "modulation: roots");
  p.factors = operand(factors, styles, 2 * layers, "modulation: factors");
  p.eps = eps;
  p.dtype = dtype_of(styles);
  Tensor compact = empty(styles, {ins}, styles.scalar_type()), scale = empty(styles, {outs}, styles.scalar_type());
  p.styles = compact.mutable_data_ptr(), p.scale = scale.mutable_data_ptr();
  if (ins + outs == 0) return {compact, scale};
  if constexpr (kOnCuda)
    cuda::launch_modulation(p, Current(styles).stream);
  else
    torch::stable::parallel_for(0, layers, 1, [&](int64_t begin, int64_t end) { cpu::modulation(p, begin, end); });
  return {compact, scale};
}

}  // namespace stylegan_ops

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, STYLEGAN_OPS_DEVICE, m) {
  m.impl("modulated_conv2d_demodulation", TORCH_BOX(&stylegan_ops::demodulation));
  m.impl("modulated_conv2d_styles", TORCH_BOX(&stylegan_ops::modulation));
}
