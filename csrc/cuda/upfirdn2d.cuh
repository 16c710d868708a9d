// upfirdn2d for the factors and filters that the models use: up and down of 1 or 2 and at most 8 taps per axis. All
// else is upfirdn2d_general.cuh's.
//
// out[o] = sum over the taps k of tap[k] * in[(o * down + k - pad) / up] along both axes, where the division is exact.
// Memory: an image is rows of pixels of `pixel` adjacent elements, so one kernel serves both layouts: a thread takes
// vectors of V channels, or single elements, and P pixels side by side.
//
// One thread = a strip of `rows` output rows, P pixels wide and V channels deep. It walks down the input rows: of each
// it loads the window that the P pixels need, filters it along x, and adds the result at once to the sums of all the
// output rows that it reaches. These TAPS / down rows of sums are all that is kept, and moving them up by a row is part
// of the addition. Every tap's place is known at compile time, and zero-inserted pixels do not exist. That is for a
// filter that is an outer product, 2 TAPS multiplications instead of TAPS^2; each block finds out for itself, from the
// taps. With any other the thread makes one output row after the other.
// One block = neighbouring strips, a tile about as wide as high: what they share they read through the first-level
// cache. Neither shared memory nor shuffles carry pixels: a window's columns come as loads of whole sectors that hit
// the cache, rows may begin at any address, and no thread waits for another.
// Bytes moved per element: each input once, plus the rim of a block's tile, and each output once.
#pragma once

#include "device.cuh"
#include "epilogue.cuh"
#include "fir_taps.cuh"
#include "ops/upfirdn2d.h"

namespace stylegan_ops::cuda {

constexpr int kFirThreads = 128;
constexpr int kFirGrid = 65535;  // of blocks along y and z

struct FirParams {
  const void* x;  // [images, y.in, x.in, pixel]
  void* out;      // [images, y.out, x.out, pixel]
  DeviceFilter filter;
  FirAxis x_axis, y_axis;
  int pixel;
  int64_t in_row, out_row, step;  // bytes from row to row and from pixel to pixel
  int chunk, chunks;              // vectors of a pixel that a block takes, and how many such chunks make a pixel
  int parts;                      // images * chunks
  int channels;                   // of the epilogue: those of a pixel, or of planes that follow each other
  int64_t first_image;
  int rows;  // output rows of a thread
};

// Strides are kept in bytes: then they are operands in constant memory and take no registers.
template <typename T>
__device__ __forceinline__ T* advance(T* p, int64_t bytes) {
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(p) + bytes);
}

// What a thread does to a row of its sums before it stores them: nothing, or an epilogue (see epilogue.cuh), of which
// it keeps the operands of its channels.
struct NoEpilogue {};

template <typename E, int P, int V>
struct Finish {
  __device__ __forceinline__ Finish(const E&, int64_t, int64_t) {}
  __device__ __forceinline__ void operator()(int64_t, unsigned, float (&)[P][V]) const {}
};

template <int P, int V>
struct Finish<Epilogue<float>, P, V> {
  const Epilogue<float>& epilogue;
  int64_t n;
  float scale[V], bias[V];

  __device__ __forceinline__ Finish(const Epilogue<float>& epilogue, int64_t n, int64_t c) : epilogue(epilogue), n(n) {
#pragma unroll
    for (int v = 0; v < V; ++v) scale[v] = epilogue.scale(n, c + v), bias[v] = epilogue.bias(c + v);
  }

  // The sums of the pixels from `pixel` on, of which those stand in the output whose bit is set in `stored`.
  __device__ __forceinline__ void operator()(int64_t pixel, unsigned stored, float (&sum)[P][V]) const {
    float z[P * V];
#pragma unroll
    for (int i = 0; i < P; ++i) {
      const float level = stored >> i & 1 ? epilogue.level(n, pixel + i) : 0.f;
#pragma unroll
      for (int v = 0; v < V; ++v) z[i * V + v] = sum[i][v] * scale[v] + (level + bias[v]);
    }
    epilogue.activate(z);
#pragma unroll
    for (int i = 0; i < P * V; ++i) sum[i / V][i % V] = z[i];
  }
};

// A thread's P pixels of V elements, in the rows of its strip.
template <typename T, int UP, int DOWN, int TAPS, int P, int V, typename E>
struct FirStrip {
  static constexpr int kWindow = ((P - 1) * DOWN + TAPS - 1) / UP + 1;  // inputs side by side that they need
  static constexpr bool kExact = TAPS == 4;                             // else fewer taps may be meant
  static constexpr bool kPlane = V == 1 && P > UP;                      // pixels that are stored as one vector

  const FirParams& p;
  const FirTaps<TAPS>& taps;
  const Finish<E, P, V>& finish;
  const T* x;        // the window in the row iy
  T* out;            // the first pixel in the strip's first output row
  int64_t pixel;     // in the image, of which `out` is the place
  int iy;            // the input row under the first tap of the strip's first output, perhaps outside the image
  int begin, count;  // the strip's first output row, counted from the shift, and how many
  unsigned inside;   // bit j: column j of the window lies in the image
  unsigned stored;   // bit i: pixel i lies in the output

  // The strip at pixel ox, row oy, both counted from the shifts, of the image at x and out.
  __device__ __forceinline__ FirStrip(const FirParams& p, const FirTaps<TAPS>& taps, const Finish<E, P, V>& finish,
                                      const T* x, T* out, int ox, int oy)
      : p(p), taps(taps), finish(finish), inside(0), stored(0) {
    begin = oy;
    count = p.y_axis.out + p.y_axis.shift - oy;
    if (count > p.rows) count = p.rows;
    const int ix = (ox * DOWN - p.x_axis.pad) / UP;
    iy = (oy * DOWN - p.y_axis.pad) / UP;
    ox -= p.x_axis.shift;
    oy -= p.y_axis.shift;
    pixel = static_cast<int64_t>(oy) * p.x_axis.out + ox;
    this->x = advance(x, iy * p.in_row + ix * p.step);
    this->out = advance(out, oy * p.out_row + ox * p.step);
#pragma unroll
    for (int j = 0; j < kWindow; ++j)
      inside |= static_cast<unsigned>(ix + j) < static_cast<unsigned>(p.x_axis.in) ? 1u << j : 0;
#pragma unroll
    for (int i = 0; i < P; ++i)
      stored |= static_cast<unsigned>(ox + i) < static_cast<unsigned>(p.x_axis.out) ? 1u << i : 0;
  }

  // The window in the input row at x, with zeros outside the image.
  __device__ __forceinline__ void load_window(const T* x, int iy, float (&window)[kWindow][V]) const {
    const unsigned live = static_cast<unsigned>(iy) < static_cast<unsigned>(p.y_axis.in) ? inside : 0;
    const int64_t step = kPlane ? sizeof(T) : p.step;
    Vector<T, V> columns[kWindow] = {};
    if (V > 1 && live == (1u << kWindow) - 1) {  // a branch that few warps of channels_last take both ways
#pragma unroll
      for (int j = 0; j < kWindow; ++j, x = advance(x, step)) columns[j] = load<T, V>(x);
    } else {
#pragma unroll
      for (int j = 0; j < kWindow; ++j, x = advance(x, step))
        if (live >> j & 1) columns[j] = load<T, V>(x);
    }
#pragma unroll
    for (int j = 0; j < kWindow; ++j)
#pragma unroll
      for (int v = 0; v < V; ++v) window[j][v] = widen(columns[j].at[v]);
  }

  // A tap. Where a thread has many sums the taps would take their registers: they stay in shared memory until used.
  __device__ __forceinline__ static float tap_at(const float* tap) {
    if constexpr (kPlane)
      return *tap;
    else
      return *static_cast<const volatile float*>(tap);
  }

  // sum += the row of taps over the window.
  __device__ __forceinline__ void filter_row(const float* tap, const float (&window)[kWindow][V],
                                             float (&sum)[P][V]) const {
#pragma unroll
    for (int k = 0; k < TAPS; ++k) {
      if (kExact || k < p.x_axis.taps) {
        const float t = tap_at(tap + k);
#pragma unroll
        for (int i = 0; i < P; ++i) {
          if ((k + i * DOWN) % UP != 0) continue;
#pragma unroll
          for (int v = 0; v < V; ++v) sum[i][v] += t * window[(k + i * DOWN) / UP][v];
        }
      }
    }
  }

  // Stores output row `done` of the strip.
  __device__ __forceinline__ void store_row(int done, T* to, float (&sum)[P][V]) const {
    finish(pixel + static_cast<int64_t>(done) * p.x_axis.out, stored, sum);
    if constexpr (kPlane) {
      Vector<T, P> row;
#pragma unroll
      for (int i = 0; i < P; ++i) row.at[i] = narrow<T>(sum[i][0]);
      store(to, row);
    } else {
#pragma unroll
      for (int i = 0; i < P; ++i) {
        Vector<T, V> row;
#pragma unroll
        for (int v = 0; v < V; ++v) row.at[v] = narrow<T>(sum[i][v]);
        if (stored >> i & 1) store(advance(to, i * p.step), row);
      }
    }
  }

  // Separable: every input row is filtered along x once, and added at once to all the output rows that it reaches, of
  // which sum[0] is the oldest. A turn takes DOWN rows and finishes UP; what is then left moves up by UP places, which
  // costs nothing where the addition itself writes to the new place. Only in one turn after the other, unrolled, can
  // the compiler arrange that for all places; where they need too many registers, it is left to it.
  __device__ __forceinline__ void by_axes() {
    constexpr int kReached = TAPS / DOWN;
    constexpr int kTurns = kExact && std::is_same_v<E, NoEpilogue> ? 4 / UP : 1;
    float sum[kReached][P][V] = {};
    T* to = advance(out, (1 - kReached) * p.out_row);
    for (int done = 1 - kReached;;) {  // of the strip's output rows, the oldest
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn) {
#pragma unroll
        for (int d = 0; d < DOWN; ++d, ++iy, x = advance(x, p.in_row)) {
          float window[kWindow][V], row[P][V] = {};
          load_window(x, iy, window);
          filter_row(taps.x, window, row);
#pragma unroll
          for (int place = 0; place < kReached; ++place) {
            const int k = TAPS - DOWN - place * DOWN + d;
            if (kExact || k < p.y_axis.taps) {
              const float tap = tap_at(taps.y + k);
#pragma unroll
              for (int i = 0; i < P; ++i)
#pragma unroll
                for (int v = 0; v < V; ++v) sum[place][i][v] += tap * row[i][v];
            }
          }
        }
#pragma unroll
        for (int place = 0; place < UP; ++place, ++done) {
          if (done >= 0 && (UP == 1 || begin + done >= p.y_axis.shift)) store_row(done, to, sum[place]);
          to = advance(to, p.out_row);
          if (done + 1 == count) return;
        }
#pragma unroll
        for (int place = 0; place < kReached; ++place)
#pragma unroll
          for (int i = 0; i < P; ++i)
#pragma unroll
            for (int v = 0; v < V; ++v) sum[place][i][v] = place + UP < kReached ? sum[place + UP][i][v] : 0.f;
      }
    }
  }

  // Any other filter: one output row after the other.
  __device__ __forceinline__ void by_rows() const {
    for (int done = begin < p.y_axis.shift ? 1 : 0; done < count; ++done) {
      float sum[P][V] = {};
      for (int k = done * DOWN % UP; k < p.y_axis.taps; k += UP) {
        const int row = (done * DOWN + k) / UP;
        float window[kWindow][V];
        load_window(advance(x, row * p.in_row), iy + row, window);
        filter_row(taps.full[k], window, sum);
      }
      store_row(done, advance(out, done * p.out_row), sum);
    }
  }
};

template <typename T, int UP, int DOWN, int TAPS, int P, int V, typename E>
__global__ void __launch_bounds__(kFirThreads, 1024 / kFirThreads) upfirdn2d_kernel(FirParams p, E epilogue) {
  __shared__ FirTaps<TAPS> taps;
  const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  if (thread < kWarp) read_taps(p.filter, p.x_axis, p.y_axis, thread, taps);
  __syncthreads();
  const int column = blockIdx.x * blockDim.x + threadIdx.x, part = blockIdx.z * blockDim.z + threadIdx.z;
  const int ox = column / p.chunk * P, oy = (blockIdx.y * blockDim.y + threadIdx.y) * p.rows;
  if (ox >= p.x_axis.out + p.x_axis.shift || oy >= p.y_axis.out + p.y_axis.shift || part >= p.parts) return;
  const int64_t image = part / p.chunks, plane = p.first_image + image;
  const int channel = (part % p.chunks * p.chunk + column % p.chunk) * V;
  const bool planes = p.channels != p.pixel;
  const Finish<E, P, V> finish(epilogue, planes ? plane / p.channels : plane, planes ? plane % p.channels : channel);
  FirStrip<T, UP, DOWN, TAPS, P, V, E> strip(
      p, taps, finish, static_cast<const T*>(p.x) + image * p.y_axis.in * p.x_axis.in * p.pixel + channel,
      static_cast<T*>(p.out) + image * p.y_axis.out * p.x_axis.out * p.pixel + channel, ox, oy);
  taps.separable ? strip.by_axes() : strip.by_rows();
}

inline int power_of_two_from(int64_t n, int limit) {
  int power = 1;
  while (power < n && power < limit) power *= 2;
  return power;
}

template <typename T, int UP, int DOWN, int TAPS, int P, int V, typename E>
void launch_fir(const Upfirdn2dParams& p, const E& epilogue, Stream stream) {
  FirParams s{};
  s.x = p.x, s.out = p.out, s.filter = p.filter;
  s.x_axis = fir_axis(p.x_axis, UP), s.y_axis = fir_axis(p.y_axis, UP);
  s.pixel = static_cast<int>(p.pixel);
  s.channels = static_cast<int>(p.epilogue == nullptr ? p.pixel : p.epilogue->channels);
  s.step = p.pixel * sizeof(T);
  s.in_row = p.x_axis.in * s.step, s.out_row = p.x_axis.out * s.step;
  // A block takes few channels of many pixels where it can, so that the rim of its tile is small beside it.
  constexpr int kChunk = 8;
  const int64_t vectors = p.pixel / V;
  s.chunk = static_cast<int>(vectors % kChunk == 0 ? kChunk : vectors);
  s.chunks = static_cast<int>(vectors / s.chunk);
  const int64_t columns = ceil_div(s.x_axis.out + s.x_axis.shift, P) * s.chunk, height = s.y_axis.out + s.y_axis.shift;
  // Long strips read their upper and lower rim seldom, short ones keep small images from leaving the device idle.
  s.rows = 32;
  while (s.rows > 2 * TAPS / DOWN &&
         columns * ceil_div(height, s.rows) * p.images * s.chunks < int64_t{512} * multiprocessors())
    s.rows /= 2;
  while (height > int64_t{s.rows} * kFirGrid) s.rows *= 2;
  const int64_t strips = ceil_div(height, s.rows);
  const int wide = power_of_two_from(columns, s.chunk > 1 ? 64 : 32);
  const int high = power_of_two_from(strips, kFirThreads / wide);
  const int deep = std::min(64, kFirThreads / wide / high);  // the limit of a block's third side
  // As many images at a time as a grid is deep.
  const int64_t slice = int64_t{kFirGrid} * deep / s.chunks;
  for (int64_t done = 0; done < p.images; done += slice) {
    s.parts = static_cast<int>(std::min(slice, p.images - done) * s.chunks);
    const dim3 grid(static_cast<unsigned>(ceil_div(columns, wide)), static_cast<unsigned>(ceil_div(strips, high)),
                    static_cast<unsigned>(ceil_div(s.parts, deep)));
    launch("upfirdn2d", upfirdn2d_kernel<T, UP, DOWN, TAPS, P, V, E>, grid, dim3(wide, high, deep), 0, stream, s,
           epilogue);
    s.x = static_cast<const T*>(s.x) + slice * p.y_axis.in * p.x_axis.in * p.pixel;
    s.first_image += slice;
    s.out = static_cast<T*>(s.out) + slice * p.y_axis.out * p.x_axis.out * p.pixel;
  }
}

}  // namespace stylegan_ops::cuda
