// filtered_lrelu and its derivatives: the fine image between the two filters exists tile by tile, in shared memory.
//
// One block = one tile of the result, of one channel or (channels_last) of four:
// 1. The part of x that the tile hangs on is read into `source`, with the bias.
// 2. It is upsampled along x into `half`, then along y into `fine`, where each pixel becomes a(z), or a'(z).
// 3. For a derivative, 1 and 2 once more with the tangents, which multiply what `fine` holds.
// 4. `fine` is filtered along x into `half`, then along y into the result.
// A filter of two axes runs over both at once, without `half`.
// A thread makes a run of 4 results that have the same taps, along the axis of the filter: of the values under a tap it
// reads one and moves up the others, so that a multiplication costs 0.6 reads of shared memory. Neighbouring threads
// take neighbouring lines, which are an odd number of pixels apart: no two of a warp meet in a bank.
// Bytes moved per element: x (and tangents) once, plus the rim of the tiles, for the most part from the second-level
// cache; each result once. The fine image, up * up times as large as x, moves none.
#pragma once

#include "device.cuh"
#include "ops/filtered_lrelu.h"

namespace stylegan_ops::cuda {

constexpr int kFineThreads = 256;
constexpr int kRun = 4;                // results of a thread along an axis
constexpr int kDepth = 4;              // channels of a block, channels_last
constexpr int kFineShared = 48 << 10;  // bytes of a block, unless its smallest tile needs more

// The taps of a filter in shared memory: [taps] for both axes, or [y taps, x taps].
struct FineFilter {
  const void* f;
  int taps;  // in all
  bool one_axis, correlation;
  double gain;
};

// Upsampling to the fine image, along one axis.
struct RisingAxis {
  int in;  // pixels of the image
  int up, taps;
  int64_t pad;
  int groups;  // runs that cover a tile's fine pixels, of all phases
  int source;  // pixels under them
};

struct Rising {
  const void* x;  // [images, in, in, pixel]
  RisingAxis x_axis, y_axis;
  FineFilter filter;
};

// From the fine image to the result, along one axis.
struct FallingAxis {
  int fine, out;  // pixels of both images
  int down, taps;
  int64_t pad;
  int tile, tiles;  // results of a tile, tiles of the image
  int tile_fine;    // fine pixels of a tile
};

struct FinePlan {
  Rising values, tangents;  // tangents.x null: the op itself
  FallingAxis x_axis, y_axis;
  FineFilter filter;
  const void* bias;  // [channels] or null
  void* out;         // [images, y.out, x.out, pixel]
  int64_t items;     // tiles of all images and chunks
  int chunks;        // of a pixel's channels
  int pixel, channels;
  int source_pitch, fine_pitch;  // elements from row to row; `half` has that of `fine`
  int source_size, half_size, fine_size, tap_size;
};

// n / by without a division, for n and by below 2^16.
struct Divider {
  unsigned by, magic;

  __device__ __forceinline__ explicit Divider(int by) : by(by), magic(0xffffffffu / static_cast<unsigned>(by) + 1) {}
  __device__ __forceinline__ int operator()(int n) const {
    return by == 1 ? n : static_cast<int>((uint64_t{static_cast<unsigned>(n)} * magic) >> 32);
  }
  __device__ __forceinline__ int rest(int n) const { return n - (*this)(n) * static_cast<int>(by); }
};

// sum[r] += the taps over the values from in[r] on.
template <typename A>
__device__ __forceinline__ void add_run(const A* tap, int tap_step, const A* in, int in_step, int count,
                                        A (&sum)[kRun]) {
  A v[kRun];
#pragma unroll
  for (int r = 1; r < kRun; ++r, in += in_step) v[r] = *in;
#pragma unroll 4
  for (int k = 0; k < count; ++k, in += in_step, tap += tap_step) {
#pragma unroll
    for (int r = 0; r + 1 < kRun; ++r) v[r] = v[r + 1];
    v[kRun - 1] = *in;
#pragma unroll
    for (int r = 0; r < kRun; ++r) sum[r] += *tap * v[r];
  }
}

template <typename T, int D>
struct FineBlock {
  using A = Accumulate<T>;

  // Where a tile's fine pixels begin in an image that rises to them: pixel i has its taps from
  // `tap` on, over the inputs from `input` on, counted from `low`.
  struct Start {
    int64_t low;
    int phase;
    Divider by_up;

    __device__ __forceinline__ Start(const RisingAxis& axis, int64_t fine) : by_up(axis.up) {
      const int64_t at = fine - axis.pad;
      low = at >= 0 ? at / axis.up : -((axis.up - 1 - at) / axis.up);
      phase = static_cast<int>(at - low * axis.up);
    }
    __device__ __forceinline__ void find(const RisingAxis& axis, int i, int& input, int& tap, int& count) const {
      input = by_up(phase + i + axis.up - 1);
      tap = input * axis.up - (phase + i);
      count = tap < axis.taps ? by_up(axis.taps - tap + axis.up - 1) : 0;
    }
    // The first fine pixel of a run, whose others follow at steps of up: runs of one phase after the other.
    __device__ __forceinline__ int first(const RisingAxis& axis, int group) const {
      const int run = by_up(group);
      return group - run * axis.up + run * kRun * axis.up;
    }
  };

  const FinePlan& p;
  A *source, *half, *fine, *taps;
  int64_t image;           // a plane, or a sample
  int first;               // channel of it
  int64_t ox, oy;          // the tile's first result
  int64_t fine_x, fine_y;  // and the first fine pixel under it

  __device__ __forceinline__ FineBlock(const FinePlan& p, A* shared, int64_t item) : p(p) {
    source = shared, half = source + p.source_size, fine = half + p.half_size, taps = fine + p.fine_size;
    ox = item % p.x_axis.tiles * p.x_axis.tile, item /= p.x_axis.tiles;
    oy = item % p.y_axis.tiles * p.y_axis.tile, item /= p.y_axis.tiles;
    first = static_cast<int>(item % p.chunks) * D, image = item / p.chunks;
    fine_x = ox * p.x_axis.down - p.x_axis.pad, fine_y = oy * p.y_axis.down - p.y_axis.pad;
  }

  // Calls f(line, group) for all of both, neighbouring threads with neighbouring lines.
  template <typename F>
  __device__ __forceinline__ static void share(int lines, int groups, F&& f) {
    const Divider by_lines(lines);
    for (int i = threadIdx.x; i < lines * groups; i += kFineThreads) f(by_lines.rest(i), by_lines(i));
  }

  __device__ __forceinline__ void read_taps(const FineFilter& filter) {
    for (int i = threadIdx.x; i < filter.taps; i += kFineThreads)
      taps[i] = static_cast<const A*>(filter.f)[filter.correlation ? i : filter.taps - 1 - i];
  }

  // Step 1.
  __device__ __forceinline__ void read_source(const Rising& from, const A* bias) {
    const int64_t left = Start(from.x_axis, fine_x).low, top = Start(from.y_axis, fine_y).low;
    const T* x = static_cast<const T*>(from.x) + image * from.y_axis.in * from.x_axis.in * p.pixel + first;
    share(from.x_axis.source * D, from.y_axis.source, [&](int e, int row) {
      const int64_t column = left + e / D, y = top + row;
      A value = 0;
      if (column >= 0 && column < from.x_axis.in && y >= 0 && y < from.y_axis.in &&
          (D == 1 || first + e % D < p.pixel)) {
        value = widen(x[(y * from.x_axis.in + column) * p.pixel + e % D]);
        if (bias != nullptr) value += bias[p.pixel == p.channels ? first + e % D : image % p.channels];
      }
      source[row * p.source_pitch + e] = value;
    });
  }

  // Step 2: calls store(row, element of it, sum) for the tile's fine pixels.
  template <typename F>
  __device__ __forceinline__ void rise(const Rising& from, F&& store) {
    const Start start_x(from.x_axis, fine_x), start_y(from.y_axis, fine_y);
    const int up_x = from.x_axis.up, up_y = from.y_axis.up, width = p.x_axis.tile_fine * D;
    const auto along_x = [&](int y, int channel, int group, auto&& add, auto&& put) {
      int input, tap, count;
      const int x = start_x.first(from.x_axis, group);
      start_x.find(from.x_axis, x, input, tap, count);
      A sum[kRun] = {};
      add(source + input * D + channel, tap, count, sum);
#pragma unroll
      for (int r = 0; r < kRun; ++r)
        if (x + r * up_x < p.x_axis.tile_fine) put(y, (x + r * up_x) * D + channel, sum[r]);
    };
    if (!from.filter.one_axis) {
      share(p.y_axis.tile_fine * D, from.x_axis.groups, [&](int line, int group) {
        int row, tap_row, rows;
        start_y.find(from.y_axis, line / D, row, tap_row, rows);
        along_x(
            line / D, line % D, group,
            [&](const A* in, int tap, int count, A(&sum)[kRun]) {
              for (int k = 0; k < rows; ++k)
                add_run(taps + (tap_row + k * up_y) * from.x_axis.taps + tap, up_x, in + (row + k) * p.source_pitch, D,
                        count, sum);
            },
            store);
      });
      return;
    }
    share(from.y_axis.source * D, from.x_axis.groups, [&](int line, int group) {
      along_x(
          line / D, line % D, group,
          [&](const A* in, int tap, int count, A(&sum)[kRun]) {
            add_run(taps + tap, up_x, in + line / D * p.source_pitch, D, count, sum);
          },
          [&](int y, int e, A sum) { half[y * p.fine_pitch + e] = sum; });
    });
    __syncthreads();
    share(width, from.y_axis.groups, [&](int e, int group) {
      int input, tap, count;
      const int y = start_y.first(from.y_axis, group);
      start_y.find(from.y_axis, y, input, tap, count);
      A sum[kRun] = {};
      add_run(taps + tap, up_y, half + input * p.fine_pitch + e, p.fine_pitch, count, sum);
#pragma unroll
      for (int r = 0; r < kRun; ++r)
        if (y + r * up_y < p.y_axis.tile_fine) store(y + r * up_y, e, sum[r]);
    });
  }

  // A run of results along one axis, from the first fine pixel under it on.
  __device__ __forceinline__ static void fall(const A* tap, int n, const A* in, int step, const Divider& by_down,
                                              A (&sum)[kRun]) {
    const int down = static_cast<int>(by_down.by);
    for (int d = 0; d < down && d < n; ++d)
      add_run(tap + d, down, in + d * step, down * step, by_down(n - d + down - 1), sum);
  }

  __device__ __forceinline__ void put(int row, int e, A sum) const {
    const int64_t y = oy + row, x = ox + e / D;
    if (y >= p.y_axis.out || x >= p.x_axis.out || (D > 1 && first + e % D >= p.pixel)) return;
    T* out = static_cast<T*>(p.out) + image * p.y_axis.out * p.x_axis.out * p.pixel + first;
    out[(y * p.x_axis.out + x) * p.pixel + e % D] = narrow<T>(sum * static_cast<A>(p.filter.gain));
  }

  // Step 4.
  __device__ __forceinline__ void results() {
    const FallingAxis &x = p.x_axis, &y = p.y_axis;
    const Divider by_down_x(x.down), by_down_y(y.down);
    if (!p.filter.one_axis) {
      share(y.tile * D, x.tile / kRun, [&](int line, int group) {
        const A* in = fine + line / D * y.down * p.fine_pitch + group * kRun * x.down * D + line % D;
        A sum[kRun] = {};
        for (int k = 0; k < y.taps; ++k, in += p.fine_pitch) fall(taps + k * x.taps, x.taps, in, D, by_down_x, sum);
#pragma unroll
        for (int r = 0; r < kRun; ++r) put(line / D, (group * kRun + r) * D + line % D, sum[r]);
      });
      return;
    }
    share(y.tile_fine * D, x.tile / kRun, [&](int line, int group) {
      const int row = line / D * p.fine_pitch + line % D;
      A sum[kRun] = {};
      fall(taps, x.taps, fine + row + group * kRun * x.down * D, D, by_down_x, sum);
#pragma unroll
      for (int r = 0; r < kRun; ++r) half[row + (group * kRun + r) * D] = sum[r];
    });
    __syncthreads();
    share(x.tile * D, y.tile / kRun, [&](int e, int group) {
      A sum[kRun] = {};
      fall(taps, y.taps, half + group * kRun * y.down * p.fine_pitch + e, p.fine_pitch, by_down_y, sum);
#pragma unroll
      for (int r = 0; r < kRun; ++r) put(group * kRun + r, e, sum[r]);
    });
  }

  __device__ __forceinline__ void run(const LeakyRelu<A>& a) {
    read_source(p.values, static_cast<const A*>(p.bias));
    read_taps(p.values.filter);
    __syncthreads();
    const bool differentiates = p.tangents.x != nullptr;
    const A gain = static_cast<A>(p.values.filter.gain);
    rise(p.values, [&](int row, int e, A sum) {
      const int64_t x = fine_x + e / D, y = fine_y + row;
      const A z = sum * gain;
      A value = differentiates ? a.derivative(z) : a.value(z);
      if (x < 0 || x >= p.x_axis.fine || y < 0 || y >= p.y_axis.fine) value = 0;
      fine[row * p.fine_pitch + e] = value;
    });
    __syncthreads();
    if (differentiates) {
      read_source(p.tangents, nullptr);
      read_taps(p.tangents.filter);
      __syncthreads();
      const A tangent_gain = static_cast<A>(p.tangents.filter.gain);
      rise(p.tangents, [&](int row, int e, A sum) { fine[row * p.fine_pitch + e] *= sum * tangent_gain; });
      __syncthreads();
    }
    read_taps(p.filter);
    __syncthreads();
    results();
    __syncthreads();
  }
};

template <typename T, int D>
__global__ void __launch_bounds__(kFineThreads, 4) filtered_lrelu_kernel(FinePlan p, LeakyRelu<Accumulate<T>> a) {
  for (int64_t item = blockIdx.x; item < p.items; item += gridDim.x)
    FineBlock<T, D>(p, dynamic_shared<Accumulate<T>>(), item).run(a);
}

}  // namespace stylegan_ops::cuda
