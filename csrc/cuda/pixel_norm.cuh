// pixel_norm: y = r x with r = (mean_c(x^2) + eps)^-1/2; backward: dx = r dy - r^3 mean_c(x dy) x.
//
// Memory: [outer, C, inner]. Each element is read once: the channels of a pixel lie in the registers of a team of
// threads, which adds its squares and products and then scales what it holds. Channels beyond what the team can hold
// are read a second time, from the caches.
// inner == 1, the channels are adjacent: a team is up to a warp side by side, one thread = every lanes-th vector of a
// pixel, and the sums are shuffles. A block is several pixels.
// inner > 1, the positions are adjacent: one thread = V positions of every blockDim.y-th channel. A block is a tile of
// positions, at least 128 bytes wide where there are as many, with the threads of all channels: as few rows of threads
// as hold them, since the sums of the rows meet in shared memory.
// Bytes moved per element: forward one read and one write, backward two reads and one write.
#pragma once

#include <algorithm>
#include <cmath>

#include "device.cuh"
#include "ops/pixel_norm.h"

namespace stylegan_ops::cuda {

// Vectors that a thread holds, of x and of dy: what 64 registers leave room for.
template <int V, bool BACKWARD>
constexpr int kHeld = V == 1     ? 4
                      : BACKWARD ? 3
                                 : 8;

// The factors of dy and x (backward; forward: of x alone) from the sums over the channels of x^2 and x dy.
template <typename A>
struct PixelFactors {
  A r, b;
  __device__ __forceinline__ PixelFactors(A r, A b) : r(r), b(b) {}
  __device__ __forceinline__ PixelFactors(A squares, A products, A eps, A inverse_channels)
      : r(rsqrt(squares * inverse_channels + eps)), b(-r * r * r * (products * inverse_channels)) {}
};

// A vector of x, and of dy in the backward.
template <typename T, int V, bool BACKWARD>
struct PixelVectors {
  using A = Accumulate<T>;
  Vector<T, V> x, dy;

  __device__ __forceinline__ void load(const T* x_at, const T* dy_at) {
    x = cuda::load<T, V>(x_at);
    if constexpr (BACKWARD) dy = cuda::load<T, V>(dy_at);
  }
  __device__ __forceinline__ void add(int k, A& squares, A& products) const {
    squares += widen(x.at[k]) * widen(x.at[k]);
    if constexpr (BACKWARD) products += widen(x.at[k]) * widen(dy.at[k]);
  }
  __device__ __forceinline__ void keep_narrow() {
    cuda::keep_narrow(x);
    if constexpr (BACKWARD) cuda::keep_narrow(dy);
  }
  __device__ __forceinline__ A scaled(int k, const PixelFactors<A>& f) const {
    if constexpr (BACKWARD)
      return f.r * widen(dy.at[k]) + f.b * widen(x.at[k]);
    else
      return f.r * widen(x.at[k]);
  }
};

// 1. The channels are adjacent.

constexpr int kPixelThreads = 128;
constexpr int kPixelVectors = 4;  // that a thread holds: what it does besides is shared by as many

template <typename T, int V, bool BACKWARD>
__global__ void __launch_bounds__(kPixelThreads, 8)
    pixel_norm_vectors_kernel(const T* x,   // [pixels, vectors * V]
                              const T* dy,  // like x, backward only
                              T* y,         // like x
                              int64_t pixels, int vectors, Accumulate<T> eps, Accumulate<T> inverse_channels) {
  using A = Accumulate<T>;
  constexpr int kHold = kPixelVectors;
  const int64_t pixel = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const int lane = threadIdx.x, lanes = blockDim.x, count = pixel < pixels ? vectors : 0;
  const int64_t first = pixel * vectors * V;
  PixelVectors<T, V, BACKWARD> held[kHold], more;
  A squares = 0, products = 0;
#pragma unroll 1  // registers are scarce
  for (int i = lane + kHold * lanes; i < count; i += lanes) {
    more.load(x + first + i * V, dy + first + i * V);
#pragma unroll
    for (int k = 0; k < V; ++k) more.add(k, squares, products);
  }
#pragma unroll
  for (int j = 0; j < kHold; ++j) {
    const int i = lane + j * lanes;
    if (i < count) held[j].load(x + first + i * V, dy + first + i * V);
  }
#pragma unroll
  for (int j = 0; j < kHold; ++j) {
    if (lane + j * lanes >= count) break;
#pragma unroll
    for (int k = 0; k < V; ++k) held[j].add(k, squares, products);
  }
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    squares += __shfl_xor_sync(0xffffffffu, squares, distance);
    if constexpr (BACKWARD) products += __shfl_xor_sync(0xffffffffu, products, distance);
  }

  const PixelFactors<A> factors(squares, products, eps, inverse_channels);
  const auto finish = [&](const PixelVectors<T, V, BACKWARD>& v, int i) {
    Vector<T, V> out;
#pragma unroll
    for (int k = 0; k < V; ++k) out.at[k] = narrow<T>(v.scaled(k, factors));
    store(y + first + i * V, out);
  };
#pragma unroll
  for (int j = 0; j < kHold; ++j) {
    if (lane + j * lanes >= count) break;
    held[j].keep_narrow();
    finish(held[j], lane + j * lanes);
  }
#pragma unroll 1
  for (int i = lane + kHold * lanes; i < count; i += lanes) {
    more.load(x + first + i * V, dy + first + i * V);
    finish(more, i);
  }
}

// 2. The positions are adjacent.

// N numbers of each of a row's `lanes` threads in shared memory, which they write and read 16 bytes side by side.
template <int N, typename A>
struct SharedRow {
  static constexpr int kPart = N < kVectorBytes / static_cast<int>(sizeof(A)) ? N : kVectorBytes / sizeof(A);
  A* row;
  int lane, lanes;

  __device__ __forceinline__ Vector<A, kPart>& part(int i) const {
    return reinterpret_cast<Vector<A, kPart>*>(row)[i / kPart * lanes + lane];
  }
  __device__ __forceinline__ void store(const A (&v)[N]) const {
#pragma unroll
    for (int i = 0; i < N; i += kPart) {
      Vector<A, kPart> p;
#pragma unroll
      for (int k = 0; k < kPart; ++k) p.at[k] = v[i + k];
      part(i) = p;
    }
  }
  __device__ __forceinline__ void load(A (&v)[N]) const {
#pragma unroll
    for (int i = 0; i < N; i += kPart) {
      const Vector<A, kPart> p = part(i);
#pragma unroll
      for (int k = 0; k < kPart; ++k) v[i + k] = p.at[k];
    }
  }
};

constexpr int kPositionThreads = 512;

template <typename T, int V, bool BACKWARD>
__global__ void __launch_bounds__(kPositionThreads, 2)
    pixel_norm_positions_kernel(const T* x,   // [outer, channels, inner]
                                const T* dy,  // like x, backward only
                                T* y,         // like x
                                int channels, int64_t inner, int tiles, Accumulate<T> eps,
                                Accumulate<T> inverse_channels) {
  using A = Accumulate<T>;
  constexpr int kHold = kHeld<V, BACKWARD>, kSums = BACKWARD ? 2 : 1;
  alignas(kVectorBytes) __shared__ A shared[kSums][kPositionThreads * V];  // [sum][row of threads or warp][position]
  const int lanes = blockDim.x, rows = blockDim.y, outer = blockIdx.x / tiles, tile = blockIdx.x - outer * tiles;
  const int64_t column = static_cast<int64_t>(tile) * (lanes * V) + threadIdx.x * V;
  const int64_t first = (static_cast<int64_t>(outer) * channels + threadIdx.y) * inner + column;
  const int64_t step = rows * inner;  // from one of the thread's channels to its next
  const int end =
      column < inner ? channels - static_cast<int>(threadIdx.y) : 0;  // of the channels from the thread's on

  PixelVectors<T, V, BACKWARD> held[kHold], more;
  A sums[kSums][V] = {};
  int64_t at = first + kHold * step;
#pragma unroll 1  // registers are scarce
  for (int c = kHold * rows; c < end; c += rows, at += step) {
    more.load(x + at, dy + at);
#pragma unroll
    for (int k = 0; k < V; ++k) more.add(k, sums[0][k], sums[kSums - 1][k]);
  }
  at = first;
#pragma unroll
  for (int j = 0; j < kHold; ++j, at += step)
    if (j * rows < end) held[j].load(x + at, dy + at);
#pragma unroll
  for (int j = 0; j < kHold; ++j) {
    if (j * rows >= end) break;
#pragma unroll
    for (int k = 0; k < V; ++k) held[j].add(k, sums[0][k], sums[kSums - 1][k]);
  }

  // The rows of a warp are added by shuffles, the warps' through shared memory, in a fixed order, by one thread for
  // each position, which leaves the factors in place of the first part's sums.
  const int thread = threadIdx.y * lanes + threadIdx.x;
  const int parts = lanes < kWarp ? (rows * lanes + kWarp - 1) / kWarp : rows;
  const int part = lanes < kWarp ? thread / kWarp : threadIdx.y;
#pragma unroll
  for (int s = 0; s < kSums; ++s) {
#pragma unroll
    for (int k = 0; k < V; ++k)
      for (int distance = lanes; distance < kWarp; distance *= 2)
        sums[s][k] += __shfl_xor_sync(0xffffffffu, sums[s][k], distance);
    if (lanes >= kWarp || thread % kWarp < lanes)
      SharedRow<V, A>{shared[s] + part * lanes * V, static_cast<int>(threadIdx.x), lanes}.store(sums[s]);
  }
  __syncthreads();
  for (int i = thread; i < V * lanes; i += rows * lanes) {
    A totals[kSums] = {};
#pragma unroll 2
    for (int p = 0; p < parts; ++p)
#pragma unroll
      for (int s = 0; s < kSums; ++s) totals[s] += shared[s][p * lanes * V + i];
    const PixelFactors<A> factors(totals[0], totals[kSums - 1], eps, inverse_channels);
    shared[0][i] = factors.r;
    if constexpr (BACKWARD) shared[1][i] = factors.b;
  }
  __syncthreads();
#pragma unroll
  for (int s = 0; s < kSums; ++s) SharedRow<V, A>{shared[s], static_cast<int>(threadIdx.x), lanes}.load(sums[s]);

  const auto finish = [&](const PixelVectors<T, V, BACKWARD>& v, int64_t at) {
    Vector<T, V> out;
#pragma unroll
    for (int k = 0; k < V; ++k) out.at[k] = narrow<T>(v.scaled(k, {sums[0][k], sums[kSums - 1][k]}));
    store(y + at, out);
  };
#pragma unroll
  for (int j = 0; j < kHold; ++j) {
    if (j * rows >= end) break;
    held[j].keep_narrow();
    finish(held[j], first + j * step);
  }
  at = first + kHold * step;
#pragma unroll 1
  for (int c = kHold * rows; c < end; c += rows, at += step) {
    more.load(x + at, dy + at);
    finish(more, at);
  }
}

// 3. Launchers

inline int power_of_two(int64_t at_least, int most) {
  int power = 1;
  while (power < at_least && power < most) power *= 2;
  return power;
}

template <typename T, int V, bool BACKWARD>
void run_pixel_norm(const PixelNormParams& p, Stream stream) {
  using A = Accumulate<T>;
  const T *x = static_cast<const T*>(p.x), *dy = static_cast<const T*>(p.dy);
  T* y = static_cast<T*>(p.y);
  const A eps = static_cast<A>(p.eps), inverse_channels = static_cast<A>(1.0 / p.channels);
  const auto checked = [](int64_t blocks) {
    if (blocks > INT32_MAX) throw std::runtime_error("stylegan_ops: the image is too large for one launch");
    return dim3(static_cast<unsigned>(blocks));
  };
  if (p.inner == 1) {
    const int64_t vectors = p.channels / V;
    const int64_t coalesced = std::min<int64_t>(vectors, 64 / (V * sizeof(T)));  // 64 bytes side by side
    const int lanes = power_of_two(std::max(ceil_div(vectors, kPixelVectors), coalesced), kWarp);
    const int pixels = kPixelThreads / lanes;  // of a block
    launch("pixel_norm", pixel_norm_vectors_kernel<T, V, BACKWARD>, checked(ceil_div(p.outer, pixels)),
           dim3(lanes, pixels), 0, stream, x, dy, y, p.outer, static_cast<int>(vectors), eps, inverse_channels);
  } else {
    const int64_t vectors = p.inner / V;
    const int needed = power_of_two(ceil_div(p.channels, kHeld<V, BACKWARD>), kPositionThreads / 8);
    const int lanes = power_of_two(vectors, kPositionThreads / needed);
    const int rows = power_of_two(p.channels > kWarp / lanes ? p.channels : kWarp / lanes, kPositionThreads / lanes);
    const int64_t tiles = ceil_div(vectors, lanes);
    launch("pixel_norm", pixel_norm_positions_kernel<T, V, BACKWARD>, checked(p.outer * tiles), dim3(lanes, rows), 0,
           stream, x, dy, y, static_cast<int>(p.channels), p.inner, static_cast<int>(tiles), eps, inverse_channels);
  }
}

template <bool BACKWARD>
void run_pixel_norm(const PixelNormParams& p, Stream stream) {
  by_dtype(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int V = kVectorBytes / sizeof(T);
    const auto bits = reinterpret_cast<uintptr_t>(p.x) | reinterpret_cast<uintptr_t>(p.y) |
                      (BACKWARD ? reinterpret_cast<uintptr_t>(p.dy) : 0);
    if (bits % kVectorBytes == 0 && (p.inner == 1 ? p.channels : p.inner) % V == 0)
      run_pixel_norm<T, V, BACKWARD>(p, stream);
    else
      run_pixel_norm<T, 1, BACKWARD>(p, stream);
  });
}

}  // namespace stylegan_ops::cuda
