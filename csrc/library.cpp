// Every operator's schema: the table of contents. The kernels register themselves in csrc/ops, fakes and derivatives in
// stylegan_ops/ops.
#include <torch/csrc/stable/library.h>

#include "ops/kernel.h"

STABLE_TORCH_LIBRARY(stylegan_ops, m) {
  m.def(
      "adain(Tensor x, Tensor? scale, Tensor? shift, Tensor? noise, Tensor? noise_strength, Tensor? bias, int act, "
      "float alpha, float gain, float eps) -> Tensor");
  m.def(
      "adain_backward(Tensor dy, Tensor x, Tensor? scale, Tensor? noise, Tensor? noise_strength, Tensor? bias, int "
      "act, "
      "float alpha, float gain, float eps, int wants) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("bias_act(Tensor x, Tensor? b, int dim, int act, float alpha, float gain, float clamp) -> Tensor");
  m.def(
      "bias_act_backward(Tensor dy, Tensor? ref, int dim, int act, float alpha, float gain, float clamp, int order, "
      "bool reduce)"
      " -> (Tensor, Tensor)");
  m.def(
      "conv_epilogue(Tensor y, Tensor? scale, Tensor? noise, Tensor? noise_strength, Tensor? bias, int act, float "
      "alpha, float gain,"
      " float clamp) -> Tensor");
  m.def(
      "conv_epilogue_backward(Tensor dout, Tensor? ref, Tensor? y, Tensor? scale, Tensor? noise, Tensor? "
      "noise_strength, Tensor? bias, int act, float alpha, float gain, float clamp, int wants)"
      " -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "filtered_lrelu(Tensor x, Tensor fu, Tensor fd, Tensor? b, int up, int down, int[4] padding, float gain, float "
      "slope, float clamp, bool flip_filter) -> Tensor");
  m.def(
      "filtered_lrelu_gradient(Tensor v, Tensor x, Tensor fu, Tensor fd, Tensor? b, int up, int down, int[4] padding, "
      "float gain, float slope, float clamp, bool flip_filter, bool adjoint) -> Tensor");
  m.def("modulated_conv2d_demodulation(Tensor weight, Tensor styles, float eps) -> Tensor");
  m.def(
      "modulated_conv2d_styles(Tensor styles, Tensor roots, Tensor? factors, int[] in_channels, int[] out_channels, "
      "int[] "
      "demodulates, float eps) -> (Tensor, Tensor)");
  m.def(
      "modulated_conv2d(Tensor x, Tensor weight, Tensor? styles, int stride, int pad_y, int pad_x, bool transposed, "
      "int extra_y, int extra_x, bool tf32) -> Tensor");
  m.def(
      "modulated_conv2d_layer(Tensor x, Tensor weight, Tensor? packed, Tensor? styles, Tensor? scale, Tensor? noise, "
      "Tensor? noise_strength, Tensor? bias, Tensor? f, int up, int stride, int[4] padding, int act, float alpha, "
      "float gain, float clamp, bool tf32) -> Tensor");
  m.def(
      "modulated_conv2d_input(Tensor dy, Tensor weight, Tensor x, Tensor? styles, int stride, int pad_y, int pad_x, "
      "bool transposed, bool needs_x, bool needs_styles, bool tf32) -> (Tensor, Tensor)");
  m.def(
      "modulated_conv2d_weight(Tensor x, Tensor dy, Tensor? styles, int kernel_y, int kernel_x, int stride, int pad_y, "
      "int pad_x, bool transposed, bool tf32) -> Tensor");
  m.def("pixel_norm(Tensor x, int dim, float eps) -> Tensor");
  m.def("pixel_norm_backward(Tensor dy, Tensor x, int dim, float eps) -> Tensor");
  m.def(
      "upfirdn2d(Tensor x, Tensor f, int[2] up, int[2] down, int[4] padding, bool flip_filter, float gain) -> Tensor");

  // Whether the CUDA library's own convolution takes a call, and the weights as it reads them, made once for many
  // calls.
  m.def("modulated_conv2d_is_fused(Tensor x, Tensor weight, int stride, bool transposed, bool styled) -> bool");
  m.def("modulated_conv2d_pack(Tensor weight, ScalarType dtype, bool transposed) -> Tensor");

  // Which convolution the CUDA library takes: 0 by the rule in csrc/ops/fused_conv.cpp, 1 cuDNN's, 2 its own, 3 its own
  // with the filter of an up-layer in the same kernel. What is set for the calling thread comes before what is set for
  // all.
  m.def("set_convolution(int choice, bool of_thread=False) -> ()");

  // Which convolution of 3x3 taps the CPU library takes: 0 by the rule in csrc/ops/winograd.cpp, 1 PyTorch's, 2 its
  // own.
  m.def("set_cpu_convolution(int choice) -> ()");

  // The number of kernels that the CUDA library has launched so far.
  m.def("cuda_launches() -> int");

  // The SIMD variant of the CPU kernels: 0 baseline, 1 AVX2, 2 AVX-512.
  m.def("cpu_variant() -> int");
  m.def("set_cpu_variant(int variant) -> bool");
}

namespace {
int64_t cpu_variant() { return stylegan_ops::cpu::variant(); }
bool set_cpu_variant(int64_t variant) { return stylegan_ops::cpu::select_variant(variant); }
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, CompositeExplicitAutograd, m) {
  m.impl("cpu_variant", TORCH_BOX(&cpu_variant));
  m.impl("set_cpu_variant", TORCH_BOX(&set_cpu_variant));
}
