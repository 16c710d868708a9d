// adain where a plane is read twice: the moments of channels_last, and the elementwise pass of both layouts.
//
// Memory and the work of a thread and a block: strip.cuh. Moments: what a thread adds up of its columns is about the
// mean of its first rows there: however far that is from the mean of all, those rows' own part of the deviations is as
// large as what a sum of so few terms may lose. Bytes moved per element: one read for the moments, one read and one
// write for the result.
#pragma once

#include "adain_planes.cuh"

namespace stylegan_ops::cuda {

// Elements of a vector: each column has up to six numbers of its own in registers, a float64 takes two.
template <typename T>
constexpr int kAdainVector = sizeof(T) == 8 ? 1 : 4;

// 1. The moments of channels_last

// v[k] = the sum of v[k] over the block's rows of threads.
template <int V, typename A>
__device__ __forceinline__ void sum_over_rows(A (&v)[V], A* buffer) {
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
  __syncthreads();
#pragma unroll
  for (int k = 0; k < V; ++k) buffer[k * kStripThreads + thread] = v[k];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < V; ++k) {
    v[k] = 0;
    for (int i = threadIdx.x; i < kStripThreads; i += blockDim.x) v[k] += buffer[k * kStripThreads + i];
  }
}

template <typename T, int V, bool BACKWARD>
__global__ void __launch_bounds__(kStripThreads, 8)
    adain_moments_kernel(const T* x,   // [N, pixels, C]
                         const T* dy,  // like x, backward only
                         AdainInner<Accumulate<T>> inner,
                         Accumulate<T>* terms,  // [kMomentParts, N, chunks, row]
                         Strips s) {
  using A = Accumulate<T>;
  constexpr int W = BACKWARD ? 1 : 2;
  __shared__ A buffer[V * kStripThreads];
  Strip<T, V, W> strip(s);
  A strengths[V], biases[V], centres[V] = {}, first[V] = {}, second[V] = {}, totals[V] = {}, products[V] = {};
  A count[1] = {};
  strip.of_channels(inner.strengths, 0, 1, inner.channels, strengths);
  strip.of_channels(inner.biases, 0, 0, inner.channels, biases);
  for (; strip.more(); strip.next()) {
    A u[W * V], grad[W * V], levels[W];
    strip.load(x, u);
    if constexpr (BACKWARD) strip.load(dy, grad);
#pragma unroll
    for (int i = 0; i < W * V; ++i) u[i] += biases[i % V];
    if (inner.noises != nullptr) {
      strip.of_rows(inner.noises, strip.n * inner.noise_stride, 0, levels);
#pragma unroll
      for (int i = 0; i < W * V; ++i) u[i] += levels[i / V] * strengths[i % V];
    }
    inner.activate(u);
    if (count[0] == 0) {
      A rows = 0;
#pragma unroll
      for (int i = 0; i < W * V; ++i) centres[i % V] += strip.has(i / V) ? u[i] : A(0);
#pragma unroll
      for (int w = 0; w < W; ++w) rows += strip.has(w) ? 1 : 0;
#pragma unroll
      for (int k = 0; k < V; ++k) centres[k] /= rows > 0 ? rows : A(1);
    }
#pragma unroll
    for (int w = 0; w < W; ++w) {
      if (!strip.has(w)) break;
      count[0] += 1;
#pragma unroll
      for (int k = 0; k < V; ++k) {
        const A d = u[w * V + k] - centres[k];
        first[k] += d, second[k] += d * d;
        if constexpr (BACKWARD) totals[k] += grad[w * V + k], products[k] += grad[w * V + k] * d;
      }
    }
  }

  // The first row's centres are the references of all.
  A references[V], offsets[V], own[V];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < V; ++k)
    if (threadIdx.y == 0) buffer[k * kStripThreads + threadIdx.x] = centres[k];
  __syncthreads();
  const A mine = count[0], inverse = mine > 0 ? 1 / mine : A(0);
#pragma unroll
  for (int k = 0; k < V; ++k) {
    references[k] = buffer[k * kStripThreads + threadIdx.x];
    const A lost = first[k] * first[k] * inverse;
    second[k] = second[k] < lost ? A(0) : second[k] - lost;
    centres[k] -= references[k];
    own[k] = centres[k] + first[k] * inverse;
    offsets[k] = mine > 0 ? mine * own[k] : A(0);
  }
  sum_over_rows(count, buffer);
  sum_over_rows(offsets, buffer);
#pragma unroll
  for (int k = 0; k < V; ++k) {
    offsets[k] /= count[0];
    if (mine > 0) second[k] += mine * (own[k] - offsets[k]) * (own[k] - offsets[k]);
    if constexpr (BACKWARD)
      if (mine > 0) products[k] += (centres[k] - offsets[k]) * totals[k];
  }
  sum_over_rows(second, buffer);
  if constexpr (BACKWARD) {
    sum_over_rows(totals, buffer);
    sum_over_rows(products, buffer);
  }
  if (threadIdx.y != 0 || !strip.inside) return;
  const int64_t part = s.samples * s.chunks * s.row;
  A* term = terms + (strip.n * s.chunks + blockIdx.y) * s.row + strip.column;
#pragma unroll
  for (int k = 0; k < V; ++k) {
    term[kReference * part + k] = references[k], term[kOffset * part + k] = offsets[k];
    term[kDeviations * part + k] = second[k], term[kCount * part + k] = count[0];
    if constexpr (BACKWARD) term[kTotal * part + k] = totals[k], term[kProduct * part + k] = products[k];
  }
}

// 2. The result

// What belongs to the channels of a step's rows (contiguous) or of the thread's columns: OF of them.
template <typename A, int OF>
struct AdainChannels {
  A strengths[OF], biases[OF];
  PlaneFactors<A> factors[OF];

  template <Layout LAYOUT, typename S>
  __device__ __forceinline__ void load(const S& strip, const AdainInner<A>& inner, const PlaneFactors<A>* of) {
    int c = LAYOUT == Layout::kContiguous ? 0 : static_cast<int>(strip.column % inner.channels);
    of += static_cast<int64_t>(strip.n) * inner.channels;
#pragma unroll
    for (int k = 0; k < OF; ++k) {
      if (LAYOUT == Layout::kContiguous) c = strip.row_at(k);
      strengths[k] = value_or(inner.strengths, c, A(1));
      biases[k] = value_or(inner.biases, c, A(0));
      factors[k] = of[c];
      if (++c == inner.channels) c = 0;
    }
  }
};

template <typename T, int V, Layout LAYOUT>
__global__ void __launch_bounds__(kStripThreads, 8)
    adain_apply_kernel(const T* x,  // [N, C, pixels] or [N, pixels, C]
                       T* y,        // like x
                       AdainInner<Accumulate<T>> inner,
                       const PlaneFactors<Accumulate<T>>* factors,  // [N, C]
                       Strips s) {
  using A = Accumulate<T>;
  constexpr bool kPlanes = LAYOUT == Layout::kContiguous;
  constexpr int W = 2;
  Strip<T, V, W> strip(s);
  const int64_t noise_row = strip.n * inner.noise_stride;
  AdainChannels<A, kPlanes ? W : V> of;
  A levels[kPlanes ? V : W];  // of pixels
  if constexpr (kPlanes)
    strip.of_columns(inner.noises, noise_row, 0, levels);
  else
    of.template load<LAYOUT>(strip, inner, factors);
  for (; strip.more(); strip.next()) {
    A z[W * V];
    strip.load(x, z);
    if constexpr (kPlanes)
      of.template load<LAYOUT>(strip, inner, factors);
    else
      strip.of_rows(inner.noises, noise_row, 0, levels);
#pragma unroll
    for (int i = 0; i < W * V; ++i) {
      const int k = kPlanes ? i / V : i % V;
      z[i] += levels[kPlanes ? i % V : i / V] * of.strengths[k] + of.biases[k];
    }
    inner.activate(z);
#pragma unroll
    for (int i = 0; i < W * V; ++i) {
      const PlaneFactors<A>& f = of.factors[kPlanes ? i / V : i % V];
      z[i] = (z[i] - f.centre) * f.slope + f.offset;
    }
    strip.store(y, z);
  }
}

}  // namespace stylegan_ops::cuda
