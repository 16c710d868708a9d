// Which shape of block a convolution takes, how its output is cut into tiles, and how many blocks share a tile's
// channels. Host arithmetic only.
#pragma once

#include <algorithm>

#include "conv_tile.cuh"

namespace stylegan_ops::cuda {

// What the plan must know of a block's shape (see ConvShape).
struct ConvShapeSize {
  int positions, channels, phases, ring_bytes;
  int warps, m, n;  // a warp's fragments
};

struct ConvDevice {
  int multiprocessors, shared_bytes;
};

constexpr int64_t kWorkspaceBytes = int64_t{64} << 20;

namespace plan {

inline int aligned_to(int least, int multiple_of, int remainder) {
  for (int v = least; v < least + multiple_of; ++v)
    if ((v - remainder) % multiple_of == 0) return v;
  return least;
}

// Cuts the positions into tiles of tile_y x tile_x, or of whole images where they are small, and places a tile's input
// in shared memory so that eight positions in a row lie in eight different groups of banks, across lines as well.
inline void set_tile(ConvPlan& p, int positions, int tile_y, int tile_x) {
  p.tile_y = tile_y, p.tile_x = tile_x;
  const bool whole = tile_y == p.positions_y && tile_x == p.positions_x;
  p.tile_n = whole ? std::clamp(positions / (tile_y * tile_x), 1, p.samples) : 1;
  p.tiles_n = ceil_div(p.samples, p.tile_n);
  p.tiles_y = ceil_div(p.positions_y, tile_y), p.tiles_x = ceil_div(p.positions_x, tile_x);
  p.tile_rows = (tile_y - 1) * p.stride + p.extent;
  p.row_slots = (tile_x - 1) * p.stride + p.extent;
  if (tile_x % 8 != 0 && tile_y > 1) {
    const int columns = p.row_slots;
    while (p.row_slots < columns + 8 && (p.stride * p.row_slots - tile_x) % 8 != 0) ++p.row_slots;
  }
  p.sample_slots = p.tile_rows * p.row_slots;
  if (p.tile_n > 1) p.sample_slots = aligned_to(p.sample_slots, 8, tile_y * tile_x % 8);
}

// Fragments of 16 positions that the tiles of a row or column of tiles need, summed over full and last tiles.
inline int64_t count_fragments(const ConvPlan& p) {
  const auto of = [&](int samples, int rows, int columns) { return (samples * rows * columns + 15) / 16; };
  const int last_n = p.samples - (p.tiles_n - 1) * p.tile_n;
  const int last_y = p.positions_y - (p.tiles_y - 1) * p.tile_y, last_x = p.positions_x - (p.tiles_x - 1) * p.tile_x;
  int64_t sum = 0;
  for (int n = 0; n < 2; ++n)
    for (int y = 0; y < 2; ++y)
      for (int x = 0; x < 2; ++x)
        sum += int64_t(n ? 1 : p.tiles_n - 1) * (y ? 1 : p.tiles_y - 1) * (x ? 1 : p.tiles_x - 1) *
               of(n ? last_n : p.tile_n, y ? last_y : p.tile_y, x ? last_x : p.tile_x);
  return sum;
}

// The tile of at most `positions` positions with the least work: fragments to multiply, and input to bring in. `fits`
// tells whether it fits into shared memory.
template <typename F>
bool choose_tile(ConvPlan& p, int positions, F&& fits) {
  int64_t best = -1;
  int best_y = 0, best_x = 0;
  for (int tile_x = 1; tile_x <= std::min({p.positions_x, positions, 32}); ++tile_x) {
    const int tile_y = std::min(p.positions_y, positions / tile_x);
    set_tile(p, positions, tile_y, tile_x);
    if (!fits(p)) continue;
    const int64_t loaded = int64_t(p.tiles_n) * p.tiles_y * p.tiles_x * p.slots();
    const int64_t cost = 16 * count_fragments(p) + loaded / 4;
    if (best < 0 || cost < best) best = cost, best_y = tile_y, best_x = tile_x;
  }
  if (best >= 0) set_tile(p, positions, best_y, best_x);
  return best >= 0;
}

}  // namespace plan

// The geometry alone: how positions, input and output pixels correspond.
inline ConvPlan conv_geometry(const FusedConvParams& params, int element_size) {
  ConvPlan p{};
  p.samples = params.samples, p.height = params.height, p.width = params.width, p.in_channels = params.in_channels;
  p.packed_channels = packed_channels(params.in_channels, params.dtype);
  p.out_height = params.out_height, p.out_width = params.out_width, p.out_channels = params.out_channels;
  p.kernel = params.kernel;
  if (params.transposed) {
    const int first_y = params.pad_y / 2, first_x = params.pad_x / 2;
    p.shift_y = params.pad_y % 2, p.shift_x = params.pad_x % 2;
    p.step = 2, p.stride = 1, p.extent = (p.kernel + 1) / 2;
    p.origin_y = first_y - (p.extent - 1), p.origin_x = first_x - (p.extent - 1);
    p.positions_y = (p.out_height - 1 + p.shift_y) / 2 + 1, p.positions_x = (p.out_width - 1 + p.shift_x) / 2 + 1;
  } else {
    p.step = 1, p.stride = params.stride, p.extent = p.kernel;
    p.origin_y = -params.pad_y, p.origin_x = -params.pad_x;
    p.positions_y = p.out_height, p.positions_x = p.out_width;
  }
  p.chunks = ceil_div(params.in_channels * element_size, kChunkBytes);
  p.vectors = params.in_channels * element_size % kVectorBytes == 0 && aligned({params.x});
  return p;
}

// Fills in what depends on the shape of the blocks, for as many bytes of shared memory. Returns the number of blocks
// without splits, 0 where no tile fits.
inline int64_t plan_tiles(ConvPlan& p, const ConvShapeSize& shape, int shared_bytes) {
  p.phases = p.step == 2 && shape.phases == 1 ? 4 : 1;
  p.o_tiles = ceil_div(p.out_channels, shape.channels);
  const auto fits = [&](const ConvPlan& tile) {
    return tile.shared_bytes(shape.positions * shape.phases, shape.ring_bytes) <= shared_bytes;
  };
  p.buffers = p.chunks > 1 ? 2 : 1;
  if (!plan::choose_tile(p, shape.positions, fits)) {
    p.buffers = 1;
    if (!plan::choose_tile(p, shape.positions, fits)) return 0;
  }
  return int64_t(p.tiles_n) * p.tiles_y * p.tiles_x * p.o_tiles * p.phases;
}

// Clocks of a multiprocessor for a chunk of a block, as far as they tell shapes apart: two for each mma, one for each
// 128 bytes of shared memory. A phase that is a block of its own has a fourth of the taps on average.
inline int64_t chunk_clocks(const ConvPlan& p, const ConvShapeSize& shape) {
  const int64_t taps = p.kernel * p.kernel, steps = 2;
  const int64_t multiply = taps * steps * shape.warps * shape.m * shape.n * 2 / p.phases;
  const int64_t fragments_of_a = (shape.phases == 4 ? 4 : taps) * shape.m, pairs_of_b = taps * (shape.n + 1) / 2;
  const int64_t read = steps * shape.warps * 4 * (fragments_of_a + pairs_of_b) / p.phases;
  return std::max(multiply, read + p.slots() * 5 / 2 + taps * shape.channels / p.phases);
}

// The fewest clocks over the number of blocks that share a tile's chunks, which is set. Fewer blocks than 0.8 for each
// multiprocessor leave the others idle; a second stage is a launch, and the sums go out and back.
inline int64_t split_channels(ConvPlan& p, const ConvShapeSize& shape, int64_t blocks, int processors, int sum_size) {
  constexpr int64_t kBlockClocks = 1500, kLaunchClocks = 3000, kBytesPerClock = 12;
  const int64_t sums = int64_t(p.samples) * p.out_height * p.out_width * p.out_channels * sum_size;
  const int64_t chunk = chunk_clocks(p, shape);
  const int64_t end = int64_t(shape.positions) * shape.phases * shape.channels / 16;
  int64_t best = -1;
  for (int splits = 1; splits <= p.chunks && (splits == 1 || splits * sums <= kWorkspaceBytes); ++splits) {
    const int64_t rounds = ceil_div(blocks * splits, processors);
    int64_t clocks = rounds * (ceil_div(p.chunks, splits) * chunk + end + kBlockClocks);
    if (splits > 1) clocks += kLaunchClocks + 2 * splits * sums / (kBytesPerClock * processors);
    if (blocks * splits * 5 < processors * 4) clocks = clocks * processors * 4 / (blocks * splits * 5);
    if (best < 0 || clocks < best) best = clocks, p.splits = splits;
  }
  return best;
}

}  // namespace stylegan_ops::cuda
