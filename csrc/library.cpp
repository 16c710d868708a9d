// Every operator's schema: the table of contents. The kernels register themselves in csrc/ops, fakes and derivatives in
// stylegan_ops/ops.
#include <torch/csrc/stable/library.h>

#include "ops/kernel.h"

STABLE_TORCH_LIBRARY(stylegan_ops, m) {
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
      "noise_strength, int act,"
      " float alpha, float gain, float clamp, int wants) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "modulated_conv2d(Tensor x, Tensor weight, Tensor? styles, int stride, int pad_y, int pad_x, bool transposed, "
      "int extra_y,"
      " int extra_x) -> Tensor");
  m.def(
      "modulated_conv2d_inference(Tensor x, Tensor weight, Tensor? styles, bool demodulate, float eps, Tensor? noise, "
      "Tensor? bias, Tensor? f, int up, int stride, int[4] padding, int act, float alpha, float gain, float clamp)"
      " -> Tensor");
  m.def(
      "modulated_conv2d_input(Tensor dy, Tensor weight, Tensor x, Tensor? styles, int stride, int pad_y, int pad_x, "
      "bool transposed, bool needs_x, bool needs_styles) -> (Tensor, Tensor)");
  m.def(
      "modulated_conv2d_weight(Tensor x, Tensor dy, Tensor? styles, int kernel_y, int kernel_x, int stride, int pad_y, "
      "int pad_x,"
      " bool transposed) -> Tensor");
  m.def("pixel_norm(Tensor x, int dim, float eps) -> Tensor");
  m.def("pixel_norm_backward(Tensor dy, Tensor x, int dim, float eps) -> Tensor");
  m.def(
      "upfirdn2d(Tensor x, Tensor f, int[2] up, int[2] down, int[4] padding, bool flip_filter, float gain) -> Tensor");

  // Which convolution the CUDA library takes: 0 by the rule in csrc/ops/fused_conv.cpp, 1 cuDNN's, 2 its own.
  m.def("set_convolution(int choice) -> ()");

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
