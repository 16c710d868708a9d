// What a block of the convolution keeps in shared memory: the input pixels under its outputs, halo included, and a ring
// of weights. Both go through it in chunks of 64 bytes of channels.
//
//   outputs  int [phases][positions]    which output pixel a row of the product is, -1: none
//   taps     ConvTap [9]                where the weights and the pixels of a tap are
//   table    int [slots]                which pixel of x lies in a slot of the tile, -1: outside of the image
//   weights  [4][channels][80 bytes]    the taps to come, one tap of one chunk a stage; at the end, sums
//   input    [1 or 2][slots][80 bytes]  chunk c (and c + 1): copied once, scaled once, read by every tap
//
// A row of 64 bytes takes 80: eight consecutive rows then begin in eight different groups of four banks, so that
// ldmatrix and 16-byte loads never conflict. A tap is one more addend in the address of a row. Columns of a strided
// convolution lie in order of (column % 2, column / 2), which makes the pixels that a tap reads consecutive again.
#pragma once

#include <algorithm>

#include "ops/modulated_conv2d.h"
#include "tensor_core.cuh"

namespace stylegan_ops::cuda {

constexpr int kChunkBytes = 64;
constexpr int kPitch = 80;  // bytes from one row in shared memory to the next
constexpr int kUnits = kChunkBytes / kVectorBytes;
constexpr int kStages = 4;  // of weights, three of them on their way

struct ConvTap {
  int weights;  // where its weights begin in a chunk's, in elements
  int input;    // where in the tile a position's pixel is, from that of the first tap, in bytes
};
constexpr int kTapBytes = 80;  // nine, and aligned

// The plan of a launch, made by conv_plan.cuh. The output is seen as a grid of positions: its pixels, or in a
// transposed convolution groups of 2 x 2 pixels (the phases), each phase a dense convolution with the taps of its
// parity.
struct ConvPlan {
  int samples, height, width, in_channels, packed_channels;
  int out_height, out_width, out_channels;
  int kernel;
  int positions_y, positions_x;
  int stride;                  // input pixels from one position to the next
  int origin_y, origin_x;      // the input pixel of position 0 that the first of its taps reads
  int extent;                  // input pixels that a position reads, in each direction
  int step, shift_y, shift_x;  // output pixel = position * step + phase - shift
  int phases;                  // that are blocks of their own: 1 or 4
  int tile_n, tile_y, tile_x;  // samples and positions of a block
  int tiles_n, tiles_y, tiles_x, o_tiles;
  int tile_rows, row_slots, sample_slots;  // the tile in shared memory
  int chunks, splits;                      // chunks of input channels, and the blocks that share them
  int buffers;                             // of the input
  bool vectors;                            // whether x's pixels are 16-byte aligned
  bool one_sample;                         // whether a tile may not be of several samples

  __host__ __device__ int slots() const { return tile_n * sample_slots; }
  __host__ __device__ int table_bytes() const { return (slots() * 4 + 15) / 16 * 16; }
  __host__ __device__ int shared_bytes(int outputs, int ring_bytes) const {
    return kTapBytes + outputs * 4 + table_bytes() + ring_bytes + buffers * slots() * kPitch;
  }
};

// A block's warps, and the fragments of each: of 16 positions and phase, and of 8 channels.
template <int WARPS_M, int WARPS_N, int M_FRAGMENTS, int N_FRAGMENTS, int PHASES_OF_TILE = 1>
struct ConvShape {
  static constexpr int kWarpsM = WARPS_M, kThreads = WARPS_M * WARPS_N * kWarp;
  static constexpr int kM = M_FRAGMENTS, kN = N_FRAGMENTS, kPhases = PHASES_OF_TILE;
  static constexpr int kPositions = WARPS_M * kM * 16, kChannels = WARPS_N * kN * 8;
  static_assert(kChannels <= kThreads);

  // A row of a warp's sums on their way to y: an odd number of 32 bytes, so that neither the fragments' stores nor the
  // rows' loads conflict. They take the ring's place when the last tap is done.
  template <typename Sum>
  static constexpr int kSumRow = kN * 8 + (kN * 8 * sizeof(Sum) / 32 % 2 == 0 ? 32 / sizeof(Sum) : 0);
  template <typename Sum>
  static constexpr int kRingBytes =
      std::max<int>(kStages * kChannels * kPitch, kThreads / kWarp * 16 * kSumRow<Sum> * sizeof(Sum));
};

// Which part of the output a block makes.
struct ConvBlock {
  int o, phase_y, phase_x;  // the first output channel; the phase where phases are blocks
  int n, y, x;              // the first sample and position
  int samples, rows, columns;
  int first_chunk, last_chunk;

  ConvBlock() = default;
  __device__ ConvBlock(const ConvPlan& p, int channels) {
    int b = blockIdx.x;  // the channel tiles of one place are neighbours: they share its input in the L2 cache
    o = b % p.o_tiles * channels, b /= p.o_tiles;
    phase_y = p.phases == 4 ? b / 2 % 2 : 0, phase_x = p.phases == 4 ? b % 2 : 0, b /= p.phases;
    x = b % p.tiles_x * p.tile_x, b /= p.tiles_x;
    y = b % p.tiles_y * p.tile_y, n = b / p.tiles_y * p.tile_n;
    samples = min(p.tile_n, p.samples - n);
    rows = min(p.tile_y, p.positions_y - y), columns = min(p.tile_x, p.positions_x - x);
    if (p.phases == 4) {
      rows = min(rows, (p.out_height - 1 + p.shift_y - phase_y) / 2 + 1 - y);
      columns = min(columns, (p.out_width - 1 + p.shift_x - phase_x) / 2 + 1 - x);
    }
    first_chunk = blockIdx.y * p.chunks / p.splits, last_chunk = (blockIdx.y + 1) * p.chunks / p.splits;
  }

  __device__ int positions() const { return samples * rows * columns; }

  // The q-th position of the block, counted from its first sample and position.
  __device__ void position(int q, int& s, int& i, int& j) const {
    s = q / (rows * columns);
    const int rest = q - s * rows * columns;
    i = rest / columns, j = rest - i * columns;
  }
};

// Where column c of the tile lies in its row.
__device__ __forceinline__ int tile_column(int c, int stride, int columns) {
  return stride == 2 ? c % 2 * ((columns + 1) / 2) + c / 2 : c;
}

// A row is copied by four threads. The first of the rows that a thread has a part of: eight neighbouring lanes take the
// rows r and r + 4, which lie in different banks.
__device__ __forceinline__ int copied_slot() {
  return threadIdx.x / 32 * 8 + threadIdx.x / 4 % 2 * 4 + threadIdx.x / 8 % 4;
}

template <typename T, int THREADS>
class InputTile {
 public:
  __device__ InputTile(const ConvPlan& p, const ConvBlock& block, const T* x, const Accumulate<T>* styles, int* table,
                       void* shared)
      : p_(p),
        x_(x),
        styles_(styles),
        table_(table),
        rows_(shared_address(shared)),
        mine_(keep(static_cast<int>(threadIdx.x) % kUnits * kVectorBytes)),
        first_slot_(keep(copied_slot())),
        slots_(keep(p.slots())),
        n_(block.n) {
    const int columns = (p.tile_x - 1) * p.stride + p.extent;
    for (int slot = threadIdx.x; slot < slots_; slot += THREADS) {
      const int s = slot / p.sample_slots, rest = slot - s * p.sample_slots;
      const int r = rest / p.row_slots, place = rest - r * p.row_slots, odd = (columns + 1) / 2;
      const int c = p.stride == 1 ? place : place < odd ? 2 * place : 2 * (place - odd) + 1;
      const int y = p.origin_y + block.y * p.stride + r, x = p.origin_x + block.x * p.stride + c;
      const bool read = s < block.samples && r < (block.rows - 1) * p.stride + p.extent &&
                        c < (block.columns - 1) * p.stride + p.extent;
      const bool inside = y >= 0 && y < p.height && x >= 0 && x < p.width;
      table_[slot] = read && inside ? ((block.n + s) * p.height + y) * p.width + x : -1;
      if (!(read && inside))
        for (int i = 0; i < p.buffers * kUnits; ++i)
          store<uint32_t, 4>(
              static_cast<uint32_t*>(shared_pointer(buffer(i / kUnits) + slot * kPitch + i % kUnits * kVectorBytes)),
              {{0, 0, 0, 0}});
    }
  }

  __device__ SharedAddress buffer(int b) const { return rows_ + b * slots_ * kPitch; }

  // Starts the copies of a chunk.
  __device__ void copy(int chunk, int b) const {
    const int c = first_channel(chunk), channels = p_.in_channels;
    const T* x = x_ + c;
    const SharedAddress rows = keep(buffer(b) + mine_);
    if (p_.vectors) {
      for_each_slot([&](int slot, int pixel) {
        copy_async(rows + slot * kPitch, x + static_cast<int64_t>(pixel) * channels, c < channels);
      });
    } else {
      for_each_slot([&](int slot, int pixel) {
        const T* from = x + static_cast<int64_t>(pixel) * channels;
        Vector<T, kVector> v;
#pragma unroll
        for (int i = 0; i < kVector; ++i) v.at[i] = c + i < channels ? from[i] : narrow<T>(0);
        store(static_cast<T*>(shared_pointer(rows + slot * kPitch)), v);
      });
    }
  }

  // Multiplies a chunk by the styles, in place, rounding once. Each thread takes what it copied itself, which it may do
  // as soon as its own copies have arrived.
  __device__ void scale(int chunk, int b) const {
    if (styles_ == nullptr) return;
    const int c = first_channel(chunk);
    const SharedAddress rows = keep(buffer(b) + mine_);
    Accumulate<T> s[kVector];
    int known = -1;
    for_each_slot([&](int slot, int pixel) {
      const int n = p_.tile_n == 1 ? n_ : pixel / (p_.height * p_.width);
      if (n != known) {
        const Accumulate<T>* from = styles_ + static_cast<int64_t>(n) * p_.in_channels + c;
#pragma unroll
        for (int i = 0; i < kVector; ++i) s[i] = c + i < p_.in_channels ? from[i] : 0;
        known = n;
      }
      T* at = static_cast<T*>(shared_pointer(rows + slot * kPitch));
      Vector<T, kVector> v = load<T, kVector>(at);
#pragma unroll
      for (int i = 0; i < kVector; ++i) v.at[i] = narrow<T>(widen(v.at[i]) * s[i]);
      store(at, v);
    });
  }

 private:
  static constexpr int kVector = kVectorBytes / sizeof(T);

  __device__ int first_channel(int chunk) const { return (chunk * kChunkBytes + mine_) / static_cast<int>(sizeof(T)); }

  template <typename F>
  __device__ void for_each_slot(F&& f) const {
    for (int slot = first_slot_; slot < slots_; slot += THREADS / kUnits)
      if (const int pixel = table_[slot]; pixel >= 0) f(slot, pixel);
  }

  const ConvPlan& p_;
  const T* x_;                   // [N, height, width, I]
  const Accumulate<T>* styles_;  // [N, I], or null
  int* table_;
  const SharedAddress rows_;
  const int mine_, first_slot_;  // the thread's place in a row, in bytes; its first row
  const int slots_, n_;
};

// Rows beyond the last channel repeat it: nobody stores what they make.
template <typename T, int CHANNELS, int THREADS>
class WeightRing {
 public:
  __device__ WeightRing(const ConvPlan& p, int first_channel, const T* w, void* shared)
      : first_(shared_address(shared)),
        to_(keep(first_ + copied_slot() * kPitch + threadIdx.x % kUnits * kVectorBytes)) {
#pragma unroll
    for (int k = 0; k < kPieces; ++k) {
      const int channel = min(first_channel + k * kRows + copied_slot(), p.out_channels - 1);
      from_[k] = keep(w + channel * p.packed_channels + threadIdx.x % kUnits * (kVectorBytes / sizeof(T)));
    }
  }

  __device__ SharedAddress stage(unsigned step) const { return first_ + step % kStages * kBytes; }

  // Starts the copy of a tap of a chunk, which begins at `offset` in w.
  __device__ void copy(int offset, unsigned step) const {
    const SharedAddress to = to_ + step % kStages * kBytes;
#pragma unroll
    for (int k = 0; k < kPieces; ++k)
      if (CHANNELS % kRows == 0 || k * kRows + copied_slot() < CHANNELS)
        copy_async(to + k * kRows * kPitch, from_[k] + offset);
  }

 private:
  static constexpr int kBytes = CHANNELS * kPitch, kRows = THREADS / kUnits;  // kRows: copied at once
  static constexpr int kPieces = (CHANNELS + kRows - 1) / kRows;

  const SharedAddress first_, to_;
  const T* from_[kPieces];  // the thread's part of rows of w [taps, O, packed channels]
};

}  // namespace stylegan_ops::cuda
