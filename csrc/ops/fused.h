// The Tensor side's entries to kernels that another op fuses with its own.
#pragma once

#include "conv_epilogue.h"
#include "modulated_conv2d.h"
#include "tensor.h"

namespace stylegan_ops {

// The kernel's operands for an image of n samples, c channels and `pixels` pixels. The tensors are made contiguous in
// place and must outlive the operands.
EpilogueOperands epilogue_operands(const Tensor& like, int64_t n, int64_t c, int64_t pixels, OptionalTensor& scale,
                                   OptionalTensor& noise, OptionalTensor& strength, OptionalTensor& bias,
                                   const Activation& activation);

// Runs the epilogue from the dense tensor y into `out` of the same shape and layout, which may be y.
void conv_epilogue_into(const Tensor& y, OptionalTensor scale, OptionalTensor noise, OptionalTensor strength,
                        OptionalTensor bias, const Activation& activation, Tensor& out);

// Filters the image of n x c x height x width that a stride-2 transposed convolution left as phases, then the epilogue.
// `padding` is that of upfirdn2d; the result is channels_last and of `like`'s dtype.
Tensor upfirdn2d_phases(const Tensor& like, const Phases& phases, std::array<int64_t, 4> size, const Tensor& f,
                        const std::vector<int64_t>& padding, double gain, OptionalTensor scale, OptionalTensor noise,
                        OptionalTensor bias, const Activation& activation);

}  // namespace stylegan_ops
