// bias_act and bias_act_backward: the epilogue of a convolution without scale and noise, and run by its kernels
// (conv_epilogue.cuh, conv_epilogue_backward.cuh), which hold a missing operand at the cost of a uniform branch.
//
// Memory: [outer, C, inner]. Where inner == 1 the channels are adjacent: one sample of `outer` pixels, channels_last.
// Else each (outer, c) row is a plane. Bytes moved per element: forward one read and one write, backward two reads and
// one write.
#pragma once

#include "ops/bias_act.h"
#include "ops/conv_epilogue.h"

namespace stylegan_ops::cuda {

struct BiasActView {
  Layout layout;
  int64_t samples, pixels;
  BiasActView(int64_t outer, int64_t inner)
      : layout(inner == 1 ? Layout::kChannelsLast : Layout::kContiguous),
        samples(inner == 1 ? 1 : outer),
        pixels(inner == 1 ? outer : inner) {}
};

inline ConvEpilogueParams as_epilogue(const BiasActParams& p) {
  const BiasActView view(p.outer, p.inner);
  ConvEpilogueParams e{};
  e.y = p.x;
  e.out = p.y;
  e.operands.bias = p.b;
  e.operands.channels = p.channels;
  e.operands.activation = p.activation;
  e.samples = view.samples, e.pixels = view.pixels;
  e.layout = view.layout;
  e.dtype = p.dtype;
  return e;
}

inline ConvEpilogueBackwardParams as_epilogue(const BiasActBackwardParams& p) {
  const BiasActView view(p.outer, p.inner);
  ConvEpilogueBackwardParams e{};
  e.dout = p.dy;
  e.ref = p.ref;
  e.dy = p.dx;
  e.dbias = p.db;
  e.workspace = p.workspace;
  e.order = p.order;
  e.samples = view.samples, e.channels = p.channels, e.pixels = view.pixels;
  e.layout = view.layout;
  e.dtype = p.dtype;
  e.activation = p.activation;
  return e;
}

}  // namespace stylegan_ops::cuda
