// winograd: a convolution of 3x3 taps through fewer products than its taps have (Lavin and Gray 2015, arXiv:1509.09308,
// sections 4.1 and 5). An image is cut into overlapping tiles; each tile, each filter and each tile of the result is a
// small linear transform away from a space where the convolution of a channel is one product per point:
//   output tile = A^T [sum over the channels of (G filter G^T) . (B^T input tile B)] A
// so that a layer is as many products of matrices as there are points, each [tiles, I] by [I, O]. The gradient in the
// weights is the transposed form, G^T [sum over the tiles of (B^T input tile B) . (A output gradient A^T)] G.
//
// Stride 1 has tiles of 4x4 outputs: 36 products in place of 144. A convolution of stride 2 is one of 2x2 taps on the
// four images of even and odd rows and columns, whose channels come one after the other; a transposed one gives such
// four images. Tiles of 5x5 outputs: 121 products in place of 225, since odd pixels have a single tap.
#pragma once

#include "conv_epilogue.h"
#include "kernel.h"

namespace stylegan_ops {

enum class WinogradForm : int32_t { kSame, kDown, kUp };  // stride 1; stride 2; transposed of stride 2

constexpr int64_t kWinogradPoints = 6;
constexpr int64_t winograd_outputs(WinogradForm form) { return form == WinogradForm::kSame ? 4 : 5; }
constexpr int64_t winograd_parities(WinogradForm form) { return form == WinogradForm::kSame ? 1 : 4; }

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
  void* points;  // [groups, parities of the image, chunks, points^2, kWinogradTiles, kWinogradChunk], zeros behind
  int64_t height, width, channels, chunks;
  int64_t pad_y, pad_x;  // from the first tile's first input to the image
  bool is_gradient;
  WinogradTiles tiles;
  WinogradForm form;
  DType dtype;
};

// Filters to points: G w G^T. A work item is a panel. Not for kDown, which this is not faster for.
struct WinogradWeightParams {
  const void* w;  // with the strides below, in elements; they may be negative
  void* points;   // [parities of the result, panels, chunks, points^2, kWinogradChunk, kWinogradPanel] in the
                  // accumulation dtype, zeros behind
  int64_t stride_o, stride_i, stride_y, stride_x;
  int64_t in_channels, out_channels, chunks, panels;
  WinogradForm form;
  DType dtype;
};

// The products, their way back to pixels, and what stands behind the convolution. A work item is a block of tiles and
// one of output channels of one parity: all channels of a block of tiles one after the other, or with `filters` all
// tiles of a block of channels, whose weights are then transformed once, into a private cache.
struct WinogradProductParams {
  const void* image;   // as WinogradImageParams leaves it
  const void* weight;  // as WinogradWeightParams leaves it, or null
  const WinogradWeightParams* filters;
  void* y;  // [N, height, width, O]
  int64_t height, width, chunks;
  int64_t crop_y, crop_x;  // from the first tile's first output to y
  WinogradTiles tiles;
  WinogradForm form;
  EpilogueOperands epilogue;
  DType dtype;
};

// The weights' gradient: products added to those of the tiles before and, with the last ones, their way back to
// filters, G^T sums G. A work item is a chunk of input channels and a panel of output channels. Not for transposed
// convolutions.
struct WinogradWeightGradientParams {
  const void* image;     // as WinogradImageParams leaves it
  const void* gradient;  // the same, with two chunks for each panel
  void* sums;  // [work items, parities, points^2, kWinogradChunk, kWinogradPanel] between the first and the last tiles
  void* dw;    // [O, I, 3, 3]
  int64_t in_channels, out_channels, chunks, panels, groups;
  bool is_first, is_last;
  WinogradForm form;
  DType dtype;
};

STYLEGAN_OPS_CPU_KERNEL(winograd_image, WinogradImageParams)
STYLEGAN_OPS_CPU_KERNEL(winograd_weight, WinogradWeightParams)
STYLEGAN_OPS_CPU_KERNEL(winograd_product, WinogradProductParams)
STYLEGAN_OPS_CPU_KERNEL(winograd_weight_gradient, WinogradWeightGradientParams)

}  // namespace stylegan_ops
