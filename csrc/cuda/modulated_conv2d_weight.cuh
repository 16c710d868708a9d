// The gradient of the fused convolution's weights, for strided convolutions, in channels_last:
//
//   dw[tap, o, i] = sum over n, q of (scale[n, o] * dy[n, q, o]) * (styles[n, i] * x[n, stride * q + tap - pad, i])
//
//   dy -- cp.async --> tile of pixels --------- ldmatrix.trans ---------------> A [o, pixel] --+
//   x  -- cp.async --> the same with a halo --- ldmatrix.trans, once a tap ---> B [pixel, i] --> mma.sync --> sums
//
// A GEMM of O rows and I columns for each tap, whose k are pixels. A block makes all taps of 64 x 32 channels; four
// warps have 2 x 2 fragments of 16 x 8 for each tap. A tile of x goes through shared memory once and is read by every
// tap at another offset; a fragment of A serves all of them: 11 loads for 36 mma.
//
// Blocks share the pixels of a layer and leave float sums in a workspace; a second kernel adds them in a fixed order.
// Where a block stays inside one sample, both scales apply to its sums, and nothing is rounded before the product.
// Small images are many to a tile: there both tiles are scaled in shared memory.
#pragma once

#include "conv_math.cuh"
#include "conv_plan.cuh"

namespace stylegan_ops::cuda {

template <typename T>
struct WeightGradientOperands {
  const T* x;                   // [N, height, width, I]
  const T* dy;                  // [N, out_height, out_width, O]
  const Accumulate<T>* styles;  // [N, I], or null
  const Accumulate<T>* scale;   // [N, O], or null
  Accumulate<T>* partial;       // [splits, taps, O, I]
  int i_tiles;
  int tiles;       // of pixels, in all
  bool by_sample;  // a split stays in one sample
};

template <typename Core>
struct WeightGradientShape {
  using T = typename Core::Element;
  static constexpr int kThreads = 128;
  static constexpr int kM = sizeof(T) == 8 ? 1 : 2;          // fragments of 16 output channels of a warp
  static constexpr int kO = 2 * kM * 16, kI = 2 * 2 * 8;     // channels of a block
  static constexpr int kPixels = sizeof(T) == 2 ? 128 : 64;  // of a tile
  static constexpr int kPitchX = kI * sizeof(T) + Core::kPad, kPitchDy = kO * sizeof(T) + Core::kPad;

  static int shared_bytes(const ConvPlan& p) {
    return (p.table_bytes() + 2 * kPixels * 4) + p.buffers * (p.slots() * kPitchX + kPixels * kPitchDy);
  }
};

// Copies one tile after another of an image's rows of CHANNELS channels, and scales them.
template <typename T, int CHANNELS, int PITCH, int THREADS>
class PixelTile {
 public:
  // table [slots]: which sample, row and column of the tile a slot is, from the tile's first, see pack(); -1: none
  __device__ PixelTile(const T* image, int samples, int height, int width, int channels, int first_channel,
                       const Accumulate<T>* factors, const int* table, int slots, SharedAddress rows)
      : image_(image),
        samples_(samples),
        height_(height),
        width_(width),
        channels_(channels),
        channel_(first_channel + unit() * kVector),
        factors_(factors),
        table_(table),
        slots_(slots),
        rows_(keep(rows + unit() * kVectorBytes)),
        vectors_(channels % kVector == 0 && reinterpret_cast<uintptr_t>(image) % kVectorBytes == 0) {}

  static __device__ int pack(int sample, int row, int column) { return sample << 22 | row << 11 | column; }

  __device__ void copy(int n, int y, int x, int buffer_bytes) const {
    for (int slot = first_slot(); slot < slots_; slot += kRows) {
      const int at = table_[slot];
      const int row = y + (at >> 11 & 2047), column = x + (at & 2047), sample = n + (at >> 22);
      const bool there = at >= 0 && static_cast<unsigned>(row) < static_cast<unsigned>(height_) &&
                         static_cast<unsigned>(column) < static_cast<unsigned>(width_) && sample < samples_;
      const T* from = image_ +
                      (there ? (static_cast<int64_t>(sample * height_ + row) * width_ + column) * channels_ : 0) +
                      channel_;
      const SharedAddress to = rows_ + buffer_bytes + slot * PITCH;
      if (vectors_) {
        copy_async(to, from, there && channel_ < channels_);
      } else {
        Vector<T, kVector> v;
#pragma unroll
        for (int i = 0; i < kVector; ++i) v.at[i] = there && channel_ + i < channels_ ? from[i] : narrow<T>(0);
        store(static_cast<T*>(shared_pointer(to)), v);
      }
    }
  }

  // What the thread itself has copied, as soon as that has arrived.
  __device__ void scale(int n, int buffer_bytes) const {
    if (factors_ == nullptr) return;
    for (int slot = first_slot(); slot < slots_; slot += kRows) {
      const int at = table_[slot], sample = min(n + (at >> 22), samples_ - 1);
      if (at < 0) continue;
      const Accumulate<T>* factors = factors_ + static_cast<int64_t>(sample) * channels_ + channel_;
      T* to = static_cast<T*>(shared_pointer(rows_ + buffer_bytes + slot * PITCH));
      Vector<T, kVector> v = load<T, kVector>(to);
#pragma unroll
      for (int i = 0; i < kVector; ++i)
        v.at[i] = channel_ + i < channels_ ? narrow<T>(widen(v.at[i]) * factors[i]) : narrow<T>(0);
      store(to, v);
    }
  }

 private:
  static constexpr int kVector = kVectorBytes / sizeof(T), kUnitsOfRow = CHANNELS / kVector;
  static constexpr int kRows = THREADS / kUnitsOfRow;

  static __device__ int unit() { return threadIdx.x % kUnitsOfRow; }
  static __device__ int first_slot() { return kUnitsOfRow == 4 ? copied_slot() : threadIdx.x / kUnitsOfRow; }

  const T* image_;  // [samples, height, width, channels]
  const int samples_, height_, width_, channels_, channel_;
  const Accumulate<T>* factors_;  // [samples, channels], or null
  const int* table_;
  const int slots_;
  const SharedAddress rows_;
  const bool vectors_;
};

template <typename Core, int TAPS>
__global__ void __launch_bounds__(WeightGradientShape<Core>::kThreads, 1)
    modulated_conv2d_weight_kernel(const ConvPlan p, const WeightGradientOperands<typename Core::Element> operands) {
  using T = typename Core::Element;
  using Sum = typename Core::Sum;
  using Shape = WeightGradientShape<Core>;
  constexpr int M = Shape::kM, kKernel = TAPS == 9 ? 3 : 1;
  constexpr int kPitchX = Shape::kPitchX, kPitchDy = Shape::kPitchDy;

  const int first_i = blockIdx.x % operands.i_tiles * Shape::kI, first_o = blockIdx.x / operands.i_tiles * Shape::kO;
  int* x_table = dynamic_shared<int>();
  int* dy_table = x_table + p.table_bytes() / 4;
  int* places = dy_table + Shape::kPixels;  // where the pixel of x under a pixel of dy lies, for the first tap
  const SharedAddress x_rows = shared_address(places + Shape::kPixels);
  const SharedAddress dy_rows = x_rows + p.buffers * p.slots() * kPitchX;
  const int x_bytes = keep(p.slots() * kPitchX), dy_bytes = Shape::kPixels * kPitchDy;
  const bool scaled = !operands.by_sample;
  using XTile = PixelTile<T, Shape::kI, kPitchX, Shape::kThreads>;
  using DyTile = PixelTile<T, Shape::kO, kPitchDy, Shape::kThreads>;
  const XTile x(operands.x, p.samples, p.height, p.width, p.in_channels, first_i, scaled ? operands.styles : nullptr,
                x_table, p.slots(), x_rows);
  const DyTile dy(operands.dy, p.samples, p.out_height, p.out_width, p.out_channels, first_o,
                  scaled ? operands.scale : nullptr, dy_table, Shape::kPixels, dy_rows);

  const int columns = (p.tile_x - 1) * p.stride + p.extent;
  for (int slot = threadIdx.x; slot < p.slots(); slot += Shape::kThreads) {
    const int s = slot / p.sample_slots, rest = slot - s * p.sample_slots;
    const int r = rest / p.row_slots, place = rest - r * p.row_slots, odd = (columns + 1) / 2;
    const int c = p.stride == 1 ? place : place < odd ? 2 * place : 2 * (place - odd) + 1;
    x_table[slot] = r < p.tile_rows && c < columns ? XTile::pack(s, r, c) : -1;
  }
  const int pixels = p.tile_n * p.tile_y * p.tile_x;
  for (int q = threadIdx.x; q < Shape::kPixels; q += Shape::kThreads) {
    const int s = q / (p.tile_y * p.tile_x), rest = q - s * p.tile_y * p.tile_x;
    const int i = rest / p.tile_x, j = rest - i * p.tile_x;
    dy_table[q] = q < pixels ? DyTile::pack(s, i, j) : -1;
    places[q] = q < pixels ? (s * p.sample_slots + i * p.stride * p.row_slots + j) * kPitchX : 0;
  }
  __syncthreads();

  // The block's tiles. Inside one sample: the splits of a sample share its tiles.
  const int split = blockIdx.y, per_sample = p.tiles_y * p.tiles_x;
  const int splits = operands.by_sample ? p.splits / p.samples : p.splits, part = split % splits;
  const int shared_tiles = operands.by_sample ? per_sample : operands.tiles;
  const int sample = split / splits, each = shared_tiles / splits, more = shared_tiles % splits;
  const int first = sample * per_sample + part * each + min(part, more), last = first + each + (part < more);
  const auto copy = [&](int tile, int buffer) {
    const int n = tile / per_sample * p.tile_n, rest = tile % per_sample;
    const int y = rest / p.tiles_x * p.tile_y, column = rest % p.tiles_x * p.tile_x;
    x.copy(n, y * p.stride + p.origin_y, column * p.stride + p.origin_x, buffer * x_bytes);
    dy.copy(n, y, column, buffer * dy_bytes);
    copy_commit();
  };

  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int warp_o = warp % 2 * M * 16, warp_i = warp / 2 * 16;
  const int m_used = max(0, min(M, (p.out_channels - first_o - warp_o + 15) / 16));
  const int n_used = max(0, min(2, (p.in_channels - first_i - warp_i + 7) / 8));
  const int a_place = keep(static_cast<int>(warp_o * sizeof(T)) + Core::template a_place<kPitchDy>(lane));
  const int b_place = keep(static_cast<int>(warp_i * sizeof(T)) + Core::b_place(lane));
  const int* own_places = places + Core::own_pixel(lane, 0);
  int tap_place[TAPS];
#pragma unroll
  for (int t = 0; t < TAPS; ++t)
    tap_place[t] = keep((t / kKernel * p.row_slots + tile_column(t % kKernel, p.stride, columns)) * kPitchX);

  Sum sum[TAPS][M][2][4];
#pragma unroll
  for (int i = 0; i < TAPS * M * 2 * 4; ++i) (&sum[0][0][0][0])[i] = 0;

  if (first < last) copy(first, 0);
  int buffer = 0;
  for (int tile = first; tile < last; ++tile) {
    copy_wait<0>();
    const int n = tile / per_sample * p.tile_n;
    x.scale(n, buffer * x_bytes);
    dy.scale(n, buffer * dy_bytes);
    __syncthreads();
    if (p.buffers == 2 && tile + 1 < last) copy(tile + 1, buffer ^ 1);
    if (m_used > 0 && n_used > 0) {
      SharedAddress a_mine = dy_rows + buffer * dy_bytes + a_place;
      const SharedAddress b_mine = x_rows + buffer * x_bytes + b_place;
#pragma unroll 1
      for (int q = 0; q < pixels; q += Core::kPixels, a_mine += Core::kPixels * kPitchDy) {
        typename Core::A a[M];
#pragma unroll
        for (int f = 0; f < M; ++f)
          if (f < m_used) Core::template load_a_of_pixels<kPitchDy>(a[f], a_mine + f * 16 * sizeof(T));
        SharedAddress own[Core::kOwn];
#pragma unroll
        for (int i = 0; i < Core::kOwn; ++i) own[i] = b_mine + own_places[q + Core::own_pixel(0, i)];
#pragma unroll
        for (int t = 0; t < TAPS; ++t) {
          typename Core::B b[2];
          SharedAddress of_tap[Core::kOwn];
#pragma unroll
          for (int i = 0; i < Core::kOwn; ++i) of_tap[i] = own[i] + tap_place[t];
          Core::load_b_of_pixels(b, of_tap);
#pragma unroll
          for (int f = 0; f < M; ++f)
#pragma unroll
            for (int j = 0; j < 2; ++j)
              if (f < m_used && j < n_used) Core::multiply(sum[t][f][j], a[f], b[j]);
        }
      }
    }
    if (p.buffers == 1) {
      __syncthreads();
      if (tile + 1 < last) copy(tile + 1, 0);
    } else {
      buffer ^= 1;
    }
  }

  const int64_t plane = static_cast<int64_t>(p.out_channels) * p.in_channels;
  Sum* partial = operands.partial + split * TAPS * plane;
#pragma unroll
  for (int f = 0; f < M; ++f)
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int o = first_o + warp_o + f * 16 + lane / 4 + e / 2 * 8;
        const int i = first_i + warp_i + j * 8 + lane % 4 * 2 + e % 2;
        if (o >= p.out_channels || i >= p.in_channels) continue;
        Sum factor = 1;
        if (operands.by_sample && operands.scale != nullptr) factor *= operands.scale[sample * p.out_channels + o];
        if (operands.by_sample && operands.styles != nullptr) factor *= operands.styles[sample * p.in_channels + i];
#pragma unroll
        for (int t = 0; t < TAPS; ++t) partial[t * plane + o * p.in_channels + i] = sum[t][f][j][e] * factor;
      }
}

// The second stage: adds the splits in their order. A block makes all taps of 32 input channels of one output channel:
// it reads along the channels and writes along the taps.
template <typename T, int TAPS>
__global__ void __launch_bounds__(32 * TAPS, 1)
    add_weight_splits_kernel(const Accumulate<T>* __restrict__ partial,  // [splits, taps, O, I]
                             T* __restrict__ dw,                         // with the strides in p
                             int splits, const FusedConvWeightParams p) {
  constexpr int kKernel = TAPS == 9 ? 3 : 1;
  __shared__ Accumulate<T> sums[32 * TAPS];
  const int o = blockIdx.y, first = blockIdx.x * 32, channels = static_cast<int>(p.in_channels);
  const int tap = threadIdx.x / 32, i = first + threadIdx.x % 32;
  if (i < channels) {
    const int64_t plane = p.out_channels * p.in_channels;
    const Accumulate<T>* from = partial + tap * plane + static_cast<int64_t>(o) * channels + i;
    Accumulate<T> sum = 0;
#pragma unroll 8
    for (int split = 0; split < splits; ++split) sum += from[split * TAPS * plane];
    sums[threadIdx.x % 32 * TAPS + tap] = sum;
  }
  __syncthreads();
  const int t = threadIdx.x % TAPS, out = first + threadIdx.x / TAPS;
  if (out < channels)
    dw[o * p.stride_o + out * p.stride_i + t / kKernel * p.stride_y + t % kKernel * p.stride_x] =
        narrow<T>(sums[threadIdx.x]);
}

}  // namespace stylegan_ops::cuda
