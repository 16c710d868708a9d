// What stands behind a convolution, for the kernels that have its result in registers:
//   out = clamp(act(v * scale[n, c] + noise[n, pixel] * strength + bias[c]) * gain)
//
// Scale, noise, strength, bias and clamp may be missing, and the activation is any of the nine: all of that is the same
// for every thread, so it is branches, not templates. How to use it, with V values at a time (4 to 16: the nine
// activations are unrolled over them, so more make much code):
//
//   const Epilogue<A> epilogue(operands);                             // host: a kernel argument, by value
//   const A scale = epilogue.scale(n, c), bias = epilogue.bias(c);    // kept while a thread stays with its channel
//   const A level = epilogue.level(n, pixel);                         // kept while it stays with its pixel
//   A v[V]; ...; v[i] = v[i] * scale + (level + bias);
//   epilogue.activate(v);
#pragma once

#include "activation.cuh"
#include "ops/conv_epilogue.h"

namespace stylegan_ops::cuda {

template <typename A>
class Epilogue {
 public:
  explicit Epilogue(const EpilogueOperands& o)
      : activate(o.activation),
        scales(static_cast<const A*>(o.scale)),
        noises(static_cast<const A*>(o.noise)),
        biases(static_cast<const A*>(o.bias)),
        channels(o.channels),
        noise_stride(o.noise_stride),
        strength_(static_cast<const A*>(o.strength)) {}

  __device__ __forceinline__ A scale(int64_t n, int64_t c) const {
    return scales == nullptr ? A(1) : scales[n * channels + c];
  }
  __device__ __forceinline__ A bias(int64_t c) const { return biases == nullptr ? A(0) : biases[c]; }
  __device__ __forceinline__ A strength() const { return strength_ == nullptr ? A(1) : *strength_; }
  __device__ __forceinline__ A level(int64_t n, int64_t pixel) const {
    return noises == nullptr ? A(0) : noises[n * noise_stride + pixel] * strength();
  }

  // One value, where nothing can be kept from one to the next.
  __device__ __forceinline__ A operator()(A v, int64_t n, int64_t c, int64_t pixel) const {
    A z[1] = {v * scale(n, c) + (level(n, pixel) + bias(c))};
    activate(z);
    return z[0];
  }

  Activate<A> activate;  // activate(z): z = clamp(act(z) * gain), in place
  const A* scales;       // [N, C] or null
  const A* noises;       // [N or 1, pixels] or null
  const A* biases;       // [C] or null
  int64_t channels;
  int64_t noise_stride;  // from one sample's noise to the next: pixels, or 0

 private:
  const A* strength_;  // [] or null
};

}  // namespace stylegan_ops::cuda
