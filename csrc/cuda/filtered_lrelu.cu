// The launcher of filtered_lrelu: chooses the tile.
#include <algorithm>

#include "filtered_lrelu.cuh"

namespace stylegan_ops::cuda {

namespace {

constexpr int kWidest = 32, kHighest = 16;  // results of a tile

FineFilter filter_of(const Upfirdn2dParams& p) {
  const int64_t taps = p.x_axis.taps * (p.filter.one_axis ? 1 : p.y_axis.taps);
  return {p.filter.f, static_cast<int>(taps), p.filter.one_axis, p.filter.correlation, p.filter.gain};
}

RisingAxis rising(const ResampleAxis& axis, int tile_fine) {
  const int up = static_cast<int>(axis.up), taps = static_cast<int>(axis.taps);
  const int runs = static_cast<int>(ceil_div(ceil_div(tile_fine, up), kRun));
  return {
      static_cast<int>(axis.in), up, taps, axis.pad, up * runs, runs * kRun + static_cast<int>(ceil_div(taps, up)) + 1};
}

Rising rising(const Upfirdn2dParams& p, int fine_x, int fine_y) {
  return {p.x, rising(p.x_axis, fine_x), rising(p.y_axis, fine_y), filter_of(p)};
}

FallingAxis falling(const ResampleAxis& axis, int tile) {
  const int down = static_cast<int>(axis.down), taps = static_cast<int>(axis.taps);
  return {static_cast<int>(axis.in),
          static_cast<int>(axis.out),
          down,
          taps,
          axis.pad,
          tile,
          static_cast<int>(ceil_div(axis.out, tile)),
          (tile - 1) * down + taps};
}

// The plan for tiles of x by y results and `depth` channels.
FinePlan plan_tile(const FilteredLreluParams& params, int x, int y, int depth) {
  const Upfirdn2dParams& results = params.results;
  FinePlan p{};
  p.x_axis = falling(results.x_axis, x), p.y_axis = falling(results.y_axis, y);
  p.values = rising(params.values, p.x_axis.tile_fine, p.y_axis.tile_fine);
  p.tangents = rising(params.tangents, p.x_axis.tile_fine, p.y_axis.tile_fine);
  p.filter = filter_of(results);
  p.bias = params.values.bias, p.out = results.out;
  p.pixel = static_cast<int>(results.pixel), p.channels = static_cast<int>(params.values.channels);
  p.chunks = static_cast<int>(ceil_div(p.pixel, depth));
  p.items = results.images * p.chunks * p.x_axis.tiles * p.y_axis.tiles;
  int source_x = p.values.x_axis.source, source_y = p.values.y_axis.source;
  p.tap_size = std::max(p.values.filter.taps, p.filter.taps);
  if (params.tangents.x != nullptr) {
    source_x = std::max(source_x, p.tangents.x_axis.source), source_y = std::max(source_y, p.tangents.y_axis.source);
    p.tap_size = std::max(p.tap_size, p.tangents.filter.taps);
  }
  p.source_pitch = (source_x | 1) * depth, p.fine_pitch = (p.x_axis.tile_fine | 1) * depth;
  p.source_size = source_y * p.source_pitch, p.fine_size = p.y_axis.tile_fine * p.fine_pitch;
  p.half_size = std::max(source_y, p.y_axis.tile_fine) * p.fine_pitch;
  return p;
}

template <typename T>
int64_t shared_bytes(const FinePlan& p) {
  return sizeof(Accumulate<T>) * (int64_t{p.source_size} + p.half_size + p.fine_size + p.tap_size);
}

// The largest tile that leaves a multiprocessor room for several blocks.
template <typename T>
bool choose_tile(const FilteredLreluParams& params, int depth, int smallest, int64_t most_bytes, FinePlan& p) {
  int x = kWidest, y = kHighest;
  while (x > smallest && x / 2 >= params.results.x_axis.out) x /= 2;
  while (y > smallest && y / 2 >= params.results.y_axis.out) y /= 2;
  for (;; x > y ? x /= 2 : y /= 2) {
    p = plan_tile(params, x, y, depth);
    if (shared_bytes<T>(p) <= most_bytes) return true;
    if (x == smallest && y == smallest) return false;
  }
}

template <typename T, int D>
void launch_tiles(const FilteredLreluParams& params, const FinePlan& p, Stream stream) {
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>(p.items, 1 << 30)));
  launch("filtered_lrelu", filtered_lrelu_kernel<T, D>, grid, dim3(kFineThreads), shared_bytes<T>(p), stream, p,
         LeakyRelu<Accumulate<T>>(params.activation));
}

}  // namespace

void launch_filtered_lrelu(const FilteredLreluParams& params, Stream stream) {
  by_dtype(params.values.dtype, [&](auto zero) {
    using T = decltype(zero);
    FinePlan p;
    if (params.results.pixel > 1 && choose_tile<T>(params, kDepth, 8, kFineShared, p))
      return launch_tiles<T, kDepth>(params, p, stream);
    if (!choose_tile<T>(params, 1, kRun, kFineShared, p) && shared_bytes<T>(p) > max_shared_bytes())
      throw std::runtime_error("filtered_lrelu: the filters are too long for the device's shared memory");
    launch_tiles<T, 1>(params, p, stream);
  });
}

}  // namespace stylegan_ops::cuda
