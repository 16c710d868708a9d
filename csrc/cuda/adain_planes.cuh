// The planes of adain and of its backward in the registers of a team of threads, contiguous layout.
//
// One team = one plane (or a chunk of one), 1 to 1024 threads with up to 32 values each, in the backward 16 of u and of
// dy; one block = several teams of up to a warp, or one. x and dy are read once: their sums, then the sums of the
// deviations and products, then the result, all from registers. Where that is not the end of it, since the plane is
// longer than a block holds or a sum over the channels is wanted, a team leaves the moments of its chunk.
// Bytes moved per element: one read and one write, backward two reads and one write.
#pragma once

#include "activation.cuh"
#include "moments.cuh"
#include "ops/adain.h"
#include "strip.cuh"

namespace stylegan_ops::cuda {

// What makes u of x.
template <typename A>
struct AdainInner {
  Activate<A> activate;
  const A* noises;     // [N or 1, pixels] or null
  const A* strengths;  // [C] or null
  const A* biases;     // [C] or null
  int64_t noise_stride;
  int channels;

  explicit AdainInner(const AdainParams& p)
      : activate(p.activation),
        noises(static_cast<const A*>(p.noise)),
        strengths(static_cast<const A*>(p.strength)),
        biases(static_cast<const A*>(p.bias)),
        noise_stride(p.noise_stride),
        channels(static_cast<int>(p.channels)) {}
};

template <typename A>
__device__ __forceinline__ A value_or(const A* v, int64_t i, A missing) {
  return v == nullptr ? missing : v[i];
}

constexpr int kPlaneThreads = 1024, kChunkThreads = 256, kSmallTeams = 128;

// Values of u that a thread holds, in the backward as many of dy: what 64 registers leave room for.
template <typename T, int V, bool BACKWARD>
constexpr int kPlaneValues = sizeof(T) == 8               ? (BACKWARD ? 4 : 8) / (V == 1 ? 2 : 1)
                             : V == 1                     ? (BACKWARD ? 8 : 12)
                             : BACKWARD || sizeof(T) == 2 ? 16
                                                          : 32;

template <typename T>
struct AdainPlanes {
  using A = Accumulate<T>;
  const T* x;        // [planes, pixels]
  const T* dy;       // like x, backward only
  T* y;              // like x: the result, or dx
  const A* scale;    // [planes] or null
  const A* shift;    // [planes] or null
  A* dscale;         // [planes] or null
  A* dshift;         // [planes] or null
  A* bias_sums;      // [planes] or null: of dz
  A* strength_sums;  // [planes] or null: of dz * noise
  A* terms;          // [kMomentParts, planes, chunks] where the planes are read again
  A eps;
  int planes, pixels;
  int chunk, chunks;  // pixels of a team, teams of a plane
};

// WHOLE: a team has a plane and finishes it; else it leaves its moments.
template <typename T, int V, bool BACKWARD, bool WHOLE>
__global__ void __launch_bounds__(kPlaneThreads, 1)
    adain_planes_kernel(AdainPlanes<T> p, AdainInner<Accumulate<T>> inner, Differentiate<T> differentiate) {
  using A = Accumulate<T>;
  constexpr int kHold = kPlaneValues<T, V, BACKWARD> / V, kSums = BACKWARD ? 2 : 1,
                kPart = V < kVector<A> ? V : kVector<A>;
  __shared__ A shared[2 * kWarp];
  const int lane = threadIdx.x, lanes = blockDim.x;
  const int team = blockIdx.x * blockDim.y + threadIdx.y, plane = team / p.chunks;
  const bool exists = plane < p.planes;
  const int n = plane / inner.channels, c = plane - n * inner.channels;
  const int start = (team - plane * p.chunks) * p.chunk, first = start + lane * V;
  const int size = exists ? min(p.chunk, p.pixels - start) : 0;
  const int vectors = size > lane * V ? (size - lane * V + lanes * V - 1) / (lanes * V) : 0;  // the thread's
  const int64_t base = static_cast<int64_t>(plane) * p.pixels + first;

  A u[kHold * V];
  Vector<T, V> dy[BACKWARD ? kHold : 1];
  {
    Vector<T, V> in[kHold] = {};
#pragma unroll
    for (int j = 0; j < kHold; ++j) {
      if (j < vectors) in[j] = load<T, V>(p.x + base + j * lanes * V);
      if constexpr (BACKWARD) dy[j] = j < vectors ? load<T, V>(p.dy + base + j * lanes * V) : Vector<T, V>{};
    }
#pragma unroll
    for (int i = 0; i < kHold * V; ++i) u[i] = widen(in[i / V].at[i % V]);
  }
  // Calls f(i, the noise of value i).
  const auto for_noise = [&](auto&& f) {
    const A* noise = inner.noises + n * inner.noise_stride + first;
#pragma unroll
    for (int j = 0; j < kHold; ++j) {
      if (j >= vectors) break;
#pragma unroll
      for (int k = 0; k < V; k += kPart) {
        const Vector<A, kPart> e = load<A, kPart>(noise + j * lanes * V + k);
#pragma unroll
        for (int l = 0; l < kPart; ++l) f(j * V + k + l, e.at[l]);
      }
    }
  };
  if (exists) {
    const A bias = value_or(inner.biases, c, A(0)), strength = value_or(inner.strengths, c, A(1));
#pragma unroll
    for (int i = 0; i < kHold * V; ++i) u[i] += bias;
    if (inner.noises != nullptr) for_noise([&](int i, A e) { u[i] += e * strength; });
  }
  inner.activate(u);

  // The mean of the first thread's values is the reference of all.
  A reference = 0;
#pragma unroll
  for (int i = 0; i < kHold * V; ++i) reference += i / V < vectors ? u[i] : A(0);
  reference /= static_cast<A>(vectors * V);
  if (lanes <= kWarp) {
    reference = __shfl_sync(0xffffffffu, reference, (threadIdx.y * lanes) % kWarp);
  } else {
    if (lane == 0) shared[0] = reference;
    __syncthreads();
    reference = shared[0];
  }
  const A inverse_count = 1 / static_cast<A>(size);
  A sums[kSums] = {}, deviations[kSums] = {};  // of u - reference and dy; then of their squares and products
#pragma unroll
  for (int i = 0; i < kHold * V; ++i) {
    if (i / V >= vectors) break;
    sums[0] += u[i] - reference;
    if constexpr (BACKWARD) sums[1] += widen(dy[i / V].at[i % V]);
  }
  team_sum(sums, lanes, shared);
  const A offset = sums[0] * inverse_count;
#pragma unroll
  for (int i = 0; i < kHold * V; ++i) {
    if (i / V >= vectors) break;
    const A d = u[i] - reference - offset;
    deviations[0] += d * d;
    if constexpr (BACKWARD) deviations[1] += widen(dy[i / V].at[i % V]) * d;
  }
  team_sum(deviations, lanes, shared);

  if constexpr (!WHOLE) {
    if (lane != 0 || !exists) return;
    const int64_t part = static_cast<int64_t>(p.planes) * p.chunks;
    A* term = p.terms + team;
    term[kReference * part] = reference, term[kOffset * part] = offset;
    term[kDeviations * part] = deviations[0], term[kCount * part] = static_cast<A>(size);
    if constexpr (BACKWARD) term[kTotal * part] = sums[1], term[kProduct * part] = deviations[1];
  } else {
    const A inverse = rsqrt(deviations[0] * inverse_count + p.eps), scale = exists ? value_or(p.scale, plane, A(1)) : 0;
    const auto store_all = [&](const A(&v)[kHold* V]) {
#pragma unroll
      for (int j = 0; j < kHold; ++j) {
        if (j >= vectors) break;
        Vector<T, V> out;
#pragma unroll
        for (int k = 0; k < V; ++k) out.at[k] = narrow<T>(v[j * V + k]);
        store(p.y + base + j * lanes * V, out);
      }
    };
    if constexpr (!BACKWARD) {
      const A shift = exists ? value_or(p.shift, plane, A(0)) : 0;
      const auto f = PlaneFactors<A>::forward(reference, offset, inverse, scale, shift);
#pragma unroll
      for (int i = 0; i < kHold * V; ++i) u[i] = (u[i] - f.centre) * f.slope + f.offset;
      store_all(u);
    } else {
      const auto f =
          PlaneFactors<A>::backward(reference, offset, inverse, scale, sums[1], deviations[1], inverse_count);
      A dz[kHold * V];
#pragma unroll
      for (int i = 0; i < kHold * V; ++i)
        dz[i] = (u[i] - f.centre) * f.slope + (widen(dy[i / V].at[i % V]) * f.grad + f.offset);
      differentiate.template apply<true>(u, dz);
      store_all(dz);
      if (p.bias_sums != nullptr || p.strength_sums != nullptr) {
        A small[2] = {};
#pragma unroll
        for (int i = 0; i < kHold * V; ++i) small[0] += i / V < vectors ? dz[i] : A(0);
        if (p.strength_sums != nullptr) for_noise([&](int i, A e) { small[1] += dz[i] * e; });
        team_sum(small, lanes, shared);
        if (lane == 0 && exists && p.bias_sums != nullptr) p.bias_sums[plane] = small[0];
        if (lane == 0 && exists && p.strength_sums != nullptr) p.strength_sums[plane] = small[1];
      }
      if (lane != 0 || !exists) return;
      if (p.dscale != nullptr) p.dscale[plane] = deviations[1] * inverse;
      if (p.dshift != nullptr) p.dshift[plane] = sums[1];
    }
  }
}

// Teams of planes: with V values a vector, `whole` or in chunks.
template <typename T, int V, bool BACKWARD>
struct PlaneTeams {
  static constexpr int kValues = kPlaneValues<T, V, BACKWARD>;
  int lanes = 1;
  int64_t chunk, chunks, blocks;

  PlaneTeams(const AdainParams& p, bool whole) {
    while (lanes * static_cast<int64_t>(kValues) < p.pixels && lanes < (whole ? kPlaneThreads : kChunkThreads))
      lanes *= 2;
    chunk = static_cast<int64_t>(lanes) * kValues;
    chunks = ceil_div(p.pixels, chunk);
    blocks = ceil_div(p.samples * p.channels * chunks, block().y);
    if (p.pixels > INT32_MAX || blocks * block().y > INT32_MAX)
      throw std::runtime_error("stylegan_ops: the image is too large for one launch");
  }
  dim3 block() const { return dim3(lanes, lanes <= kWarp ? kSmallTeams / lanes : 1); }
  static bool fits(const AdainParams& p) { return p.pixels <= static_cast<int64_t>(kPlaneThreads) * kValues; }
};

// Calls f with V as a compile-time constant.
template <typename T, typename F>
void by_plane_vectors(const AdainParams& p, F&& f) {
  if (aligned({p.x, p.dy, p.y, p.noise}) && p.pixels % kVector<T> == 0)
    f(std::integral_constant<int, kVector<T>>());
  else
    f(std::integral_constant<int, 1>());
}

}  // namespace stylegan_ops::cuda
