// Tensor side of the CPU's own 3x3 convolution (winograd.h), and the one rule that says where it runs in place of the
// library's.
#ifndef STYLEGAN_OPS_BACKEND_CUDA

#include "winograd.h"

#include <atomic>

#include "fused.h"
#include "tensor.h"

namespace stylegan_ops {
namespace {

constexpr int64_t kSquare = kWinogradFilters * kWinogradFilters;
constexpr int64_t kPrivateCache = 1 << 20, kSharedCache = 8 << 20;  // bytes, of one core and of all, more or less

enum Choice : int64_t { kByRule, kLibrary, kWinograd };
std::atomic<int64_t> choice{kByRule};

int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }

template <typename Kernel>
void parallel(int64_t items, Kernel&& kernel) {
  torch::stable::parallel_for(0, items, 1, kernel);
}

// Of an image of outputs.
WinogradTiles tiles_of(int64_t samples, int64_t height, int64_t width) {
  return {samples, blocks(height, kWinogradOutputs), blocks(width, kWinogradOutputs), 0, 0};
}

// Calls f with one part of the tiles after the other, where a tile has so many bytes of points and a part should.
template <typename F>
void in_parts(WinogradTiles tiles, int64_t of_tile, int64_t bytes, F&& f) {
  constexpr int64_t block = kWinogradBlock * kWinogradTiles;
  const int64_t all = tiles.samples * tiles.tiles_y * tiles.tiles_x;
  const int64_t most = std::max<int64_t>(bytes / (of_tile * block), 1) * block;
  const int64_t part = blocks(blocks(all, blocks(all, most)), block) * block;
  for (; tiles.first < all; tiles.first += part) {
    tiles.count = std::min(part, all - tiles.first);
    f(tiles);
  }
}

// Room for the points of a part, and the step that fills it.
struct Points {
  Tensor image;  // channels_last
  OptionalTensor factors;
  WinogradImageParams params{};
  Tensor points;

  Points(const Tensor& x, OptionalTensor given, int64_t stride, int64_t pad_y, int64_t pad_x, bool is_gradient)
      : image(torch::stable::contiguous(x, MemoryFormat::ChannelsLast)), factors(given) {
    params.image = image.const_data_ptr();
    params.factors = operand(factors, x, x.size(0) * x.size(1), "winograd: factors");
    params.height = x.size(2), params.width = x.size(3), params.channels = x.size(1);
    params.chunks = blocks(x.size(1), is_gradient ? kWinogradPanel : kWinogradChunk) * (is_gradient ? 2 : 1);
    params.pad_y = pad_y, params.pad_x = pad_x;
    params.is_gradient = is_gradient;
    params.stride = stride;
    params.dtype = dtype_of(x);
  }

  int64_t numbers_of_tile() const {
    const int64_t points = winograd_points(params.stride);
    return points * points * params.chunks * kWinogradChunk;
  }

  void fill(const WinogradTiles& tiles) {
    params.tiles = tiles;
    const int64_t groups = blocks(tiles.count, kWinogradTiles);
    if (params.points == nullptr) {  // the first part is the largest
      points = empty(image, {groups * kWinogradTiles, numbers_of_tile()}, accumulate_type(image));
      params.points = points.mutable_data_ptr();
    }
    parallel(groups, [&](int64_t begin, int64_t end) { cpu::winograd_image(params, begin, end); });
  }
};

// The weights [O, I, 3, 3], or [I, O, 3, 3] of a transposed convolution, whose taps are reversed.
Tensor weight_points(const Tensor& x, const Tensor& weight, bool transposed) {
  WinogradWeightParams p{};
  p.w = weight.const_data_ptr();
  p.out_channels = weight.size(transposed ? 1 : 0), p.in_channels = weight.size(transposed ? 0 : 1);
  p.stride_o = weight.stride(transposed ? 1 : 0), p.stride_i = weight.stride(transposed ? 0 : 1);
  p.stride_y = weight.stride(2), p.stride_x = weight.stride(3);
  if (transposed) {
    const int64_t last = 2 * (p.stride_y + p.stride_x);
    p.w = static_cast<const char*>(p.w) + last * static_cast<int64_t>(weight.element_size());
    p.stride_y = -p.stride_y, p.stride_x = -p.stride_x;
  }
  p.chunks = blocks(p.in_channels, kWinogradChunk);
  p.dtype = dtype_of(weight);
  const int64_t panels = blocks(p.out_channels, kWinogradPanel);
  Tensor points = empty(x, {panels, kSquare, p.chunks * kWinogradChunk, kWinogradPanel}, accumulate_type(x));
  p.points = points.mutable_data_ptr();
  parallel(panels, [&](int64_t begin, int64_t end) { cpu::winograd_weight(p, begin, end); });
  return points;
}

// Whether an image of outputs pays for the transforms of the weights.
bool is_chosen(const Tensor& like, int64_t other_channels) {
  if (choice != kByRule) return choice == kWinograd;
  if (like.scalar_type() == ScalarType::BFloat16 && cpu::has_bfloat16()) return false;
  return like.size(1) >= 32 && other_channels >= 32 && like.size(0) * like.size(2) * like.size(3) >= 1024;
}

}  // namespace

bool uses_winograd(const Tensor& x, int64_t out_channels, int64_t kernel_y, int64_t kernel_x, const ConvGeometry& g) {
  const bool possible = kernel_y == 3 && kernel_x == 3 && g.stride == 1 && g.extra_y == 0 && g.extra_x == 0 &&
                        x.numel() > 0 && x.size(2) + 2 * g.pad_y > 2 && x.size(3) + 2 * g.pad_x > 2;
  return possible && is_chosen(x, out_channels);
}

bool uses_winograd_weight(const Tensor& x, const Tensor& dy, int64_t kernel_y, int64_t kernel_x,
                          const ConvGeometry& g) {
  const bool possible = kernel_y == 3 && kernel_x == 3 && g.stride <= 2 && x.numel() > 0 && dy.numel() > 0;
  return possible && is_chosen(g.transposed ? x : dy, (g.transposed ? dy : x).size(1));
}

Tensor winograd(const Tensor& x, const Tensor& weight, OptionalTensor styles, const ConvGeometry& g, Behind behind) {
  const int64_t n = x.size(0), out = weight.size(g.transposed ? 1 : 0);
  const int64_t pad_y = g.transposed ? 2 - g.pad_y : g.pad_y, pad_x = g.transposed ? 2 - g.pad_x : g.pad_x;
  const int64_t height = x.size(2) + 2 * pad_y - 2, width = x.size(3) + 2 * pad_x - 2;
  Tensor y = empty_dense(x, {n, out, height, width}, MemoryFormat::ChannelsLast);
  const Tensor filters = weight_points(x, weight, g.transposed);
  Points image(x, styles, 1, pad_y, pad_x, false);
  WinogradProductParams p{};
  p.weight = filters.const_data_ptr();
  p.y = y.mutable_data_ptr();
  p.height = height, p.width = width, p.chunks = image.params.chunks;
  p.epilogue = epilogue_operands(x, n, out, height * width, behind);
  p.dtype = dtype_of(x);
  // What a thread has transformed is still in its cache when it multiplies it; but filters that do not fit are read
  // again for every part, which should then be large.
  const auto element = static_cast<int64_t>(filters.element_size());
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t bytes = std::max(threads * kPrivateCache, std::min(filters.numel() * element, kSharedCache));
  in_parts(tiles_of(n, height, width), image.numbers_of_tile() * element, bytes, [&](const WinogradTiles& tiles) {
    image.fill(tiles);
    p.image = image.points.const_data_ptr(), p.tiles = tiles;
    parallel(blocks(tiles.count, kWinogradBlock * kWinogradTiles) * blocks(out, 2 * kWinogradPanel),
             [&](int64_t begin, int64_t end) { cpu::winograd_product(p, begin, end); });
  });
  return y;
}

Tensor winograd_weight(const Tensor& x, const Tensor& dy, OptionalTensor styles, const ConvGeometry& g) {
  // The gradient of a transposed convolution's weights is that of the dense one with the images exchanged.
  Points image(g.transposed ? dy : x, g.transposed ? std::nullopt : styles, g.stride, g.pad_y, g.pad_x, false);
  Points gradient(g.transposed ? x : dy, g.transposed ? styles : std::nullopt, g.stride, 0, 0, true);
  WinogradSumParams p{};
  p.in_chunks = image.params.chunks, p.out_chunks = gradient.params.chunks;
  p.stride = g.stride;
  p.dtype = dtype_of(x);
  const Tensor sums =
      empty(x, {kSquare, p.in_chunks * kWinogradChunk, p.out_chunks * kWinogradChunk}, accumulate_type(x));
  p.sums = sums.mutable_data_ptr();
  // The parts decide the order of the sums, so they are the same for any number of threads.
  const auto element = static_cast<int64_t>(sums.element_size());
  const int64_t bytes = std::max(4 * kPrivateCache, std::min(sums.numel() * element, 4 * kSharedCache));
  const WinogradTiles all = tiles_of(x.size(0), gradient.params.height, gradient.params.width);
  in_parts(all, (image.numbers_of_tile() + gradient.numbers_of_tile()) * element, bytes,
           [&](const WinogradTiles& tiles) {
             image.fill(tiles), gradient.fill(tiles);
             p.image = image.points.const_data_ptr(), p.gradient = gradient.points.const_data_ptr();
             p.groups = blocks(tiles.count, kWinogradTiles), p.first = tiles.first == 0;
             parallel(kSquare * p.in_chunks, [&](int64_t begin, int64_t end) { cpu::winograd_sum(p, begin, end); });
           });
  const int64_t in = image.params.channels, out = gradient.params.channels;
  Tensor dw = empty_dense(x, {out, in, 3, 3}, MemoryFormat::Contiguous);
  WinogradFilterParams f{sums.const_data_ptr(), dw.mutable_data_ptr(), in,       out,
                         p.in_chunks,           p.out_chunks,          g.stride, dtype_of(x)};
  parallel(p.in_chunks, [&](int64_t begin, int64_t end) { cpu::winograd_filter(f, begin, end); });
  return dw;
}

}  // namespace stylegan_ops

namespace {
void set_cpu_convolution(int64_t value) { stylegan_ops::choice = value; }
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, CompositeExplicitAutograd, m) {
  m.impl("set_cpu_convolution", TORCH_BOX(&set_cpu_convolution));
}
#endif
