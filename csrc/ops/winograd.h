// winograd: a convolution of 3x3 taps through fewer products than its taps have (Lavin and Gray 2015, arXiv:1509.09308,
// sections 4.1 and 5). An image is cut into overlapping tiles; each tile, each filter and each tile of the result is a
// small linear transform away from a space where the convolution of a channel is one product per point:
//   output tile = A^T [sum over the channels of (G filter G^T) . (B^T input tile B)] A
// so that a layer is as many products of matrices as there are points, each [tiles, I] by [I, O]. The gradient in the
// weights is the transposed form, G^T [sum over the tiles of (B^T input tile B) . (A output gradient A^T)] G.
#pragma once

#include "conv_epilogue.h"
#include "kernel.h"

namespace stylegan_ops {

// One dimension of a tile: its outputs, the products of a convolution of stride 1 or of one of stride 2, which is there
// for the weight gradient only, and the transformed taps that they take.
constexpr int64_t kWinogradOutputs = 4, kWinogradFilters = 6;
constexpr int64_t winograd_points(int64_t stride) { return stride == 1 ? 6 : 9; }

// How values lie between the steps, the same for every instruction set.
constexpr int64_t kWinogradTiles = 12;  // in a group
constexpr int64_t kWinogradBlock = 4;   // groups whose products are made together
constexpr int64_t kWinogradChunk = 16;  // channels that lie together
constexpr int64_t kWinogradPanel = 32;  // output channels of the transformed weights that lie together

// The tiles of a batch's output, and those of them that one pass takes.
struct WinogradTiles {
  int64_t samples, tiles_y, tiles_x;
  int64_t first, count;
};

// Images to points: B^T image B, or A image A^T of a gradient. A work item is a group of tiles.
struct WinogradImageParams {
  const void* image;    // [N, height, width, C]
  const void* factors;  // [N, C] in the accumulation dtype, or null for 1
  void* points;  // [groups, chunks, points^2, kWinogradTiles, kWinogradChunk], zeros behind the tiles and channels
  int64_t height, width, channels, chunks;
  int64_t pad_y, pad_x;  // from the first tile's first input to the image
  int64_t stride;
  bool is_gradient;
  WinogradTiles tiles;
  DType dtype;
};

// Filters to points: G w G^T. A work item is a panel.
struct WinogradWeightParams {
  const void* w;  // with the strides below, in elements; they may be negative
  void* points;   // [panels, chunks, filters^2, kWinogradChunk, kWinogradPanel] in the accumulation dtype, zeros behind
  int64_t stride_o, stride_i, stride_y, stride_x;
  int64_t in_channels, out_channels, chunks;
  DType dtype;
};

// The products, their way back to pixels, and what stands behind the convolution. A work item is a block of tiles and
// one of output channels.
struct WinogradProductParams {
  const void* image;   // as WinogradImageParams leaves it
  const void* weight;  // as WinogradWeightParams leaves it
  void* y;             // [N, height, width, O]
  int64_t height, width, chunks;
  WinogradTiles tiles;
  EpilogueOperands epilogue;
  DType dtype;
};

// The products of a weight gradient, added to what is there unless `first`. A work item is one of the transformed taps
// and a chunk of input channels.
struct WinogradSumParams {
  const void* image;     // [groups, in_chunks, ...]
  const void* gradient;  // [groups, out_chunks, ...], an even number of chunks
  void* sums;            // [in_chunks, out_chunks, filters^2, kWinogradChunk, kWinogradChunk]
  int64_t in_chunks, out_chunks, groups;
  int64_t stride;
  bool first;
  DType dtype;
};

// Their way back to filters: G^T sums G. A work item is a chunk of input channels.
struct WinogradFilterParams {
  const void* sums;
  void* dw;  // [O, I, 3, 3]
  int64_t in_channels, out_channels, in_chunks, out_chunks;
  int64_t stride;
  DType dtype;
};

STYLEGAN_OPS_CPU_KERNEL(winograd_image, WinogradImageParams)
STYLEGAN_OPS_CPU_KERNEL(winograd_weight, WinogradWeightParams)
STYLEGAN_OPS_CPU_KERNEL(winograd_product, WinogradProductParams)
STYLEGAN_OPS_CPU_KERNEL(winograd_sum, WinogradSumParams)
STYLEGAN_OPS_CPU_KERNEL(winograd_filter, WinogradFilterParams)

}  // namespace stylegan_ops
