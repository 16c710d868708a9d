// The end of the convolution: sums go through shared memory, fragment by fragment, so that a lane has four adjacent
// channels of a pixel and a warp writes whole rows; the epilogue is then code for four values, not for all of a
// thread's sums. Where the gradient of styles is wanted, the sums are multiplied by another image on their way and
// added over the pixels. Bytes: y and that image once, or the float sums of a split once out and once back.
#pragma once

#include "conv_tile.cuh"
#include "epilogue.cuh"

namespace stylegan_ops::cuda {

template <typename Sum>
constexpr int kStoredChannels = kVectorBytes / sizeof(Sum);  // that a lane stores at once

// What the epilogue knows of the lane's adjacent channels: biases, and the scales of the last sample.
template <typename Sum, int V = kStoredChannels<Sum>>
class ChannelEpilogue {
 public:
  __device__ ChannelEpilogue(const Epilogue<Sum>& epilogue, int channel, int channels)
      : epilogue_(epilogue), channel_(channel), count_(min(V, channels - channel)), vectors_(channels % V == 0) {
#pragma unroll
    for (int i = 0; i < V; ++i) bias_[i] = i < count_ ? epilogue.bias(channel + i) : Sum(0);
  }

  // v = v * scale + (level + bias) for the channels of a pixel of sample n: all but the activation.
  __device__ void operator()(Sum* v, int n, Sum level) {
    if (n != known_) {
#pragma unroll
      for (int i = 0; i < V; ++i) scale_[i] = i < count_ ? epilogue_.scale(n, channel_ + i) : Sum(0);
      known_ = n;
    }
#pragma unroll
    for (int i = 0; i < V; ++i) v[i] = v[i] * scale_[i] + (level + bias_[i]);
  }

  // from, to: the first of the channels.
  template <typename T>
  __device__ Vector<T, V> read(const T* from) const {
    if (vectors_) return load<T, V>(from);
    Vector<T, V> in;
#pragma unroll
    for (int i = 0; i < V; ++i) in.at[i] = i < count_ ? from[i] : narrow<T>(0);
    return in;
  }

  template <typename T>
  __device__ void write(const Sum* v, T* to) const {
    Vector<T, V> out;
#pragma unroll
    for (int i = 0; i < V; ++i) out.at[i] = narrow<T>(v[i]);
    if (vectors_) {
      store(to, out);
    } else {
#pragma unroll
      for (int i = 0; i < V; ++i)
        if (i < count_) to[i] = out.at[i];
    }
  }

 private:
  const Epilogue<Sum>& epilogue_;
  const int channel_, count_;
  const bool vectors_;
  int known_ = -1;
  Sum scale_[V], bias_[V];
};

// Sums over the pixels of result * factor, for each sample and channel, of the result before the epilogue. Blocks leave
// parts of them, which sums.cuh adds.
template <typename T>
struct Products {
  const T* factor;       // like y, or null: no sums are wanted
  Accumulate<T>* parts;  // [N, parts, O]

  // Leaves what the block found for the c-th of its channels; its tile is part of one sample.
  __device__ void leave(const ConvPlan& p, const ConvBlock& block, int c, Accumulate<T> sum) const {
    if (block.o + c < p.out_channels)
      parts[static_cast<int64_t>(blockIdx.x / p.o_tiles) * p.out_channels + block.o + c] = sum;
  }
};

template <typename Shape, typename T, typename Sum, int PHASES, int M, int N>
__device__ __forceinline__ void store_sums(const ConvPlan& p, const ConvBlock& block, const Sum (&sum)[PHASES][M][N][4],
                                           const int* outputs,  // [phases, positions]: see modulated_conv2d_kernel
                                           void* shared, int first_row, int first_column, int m_used, T* y,
                                           Sum* partial, const Products<T>& products, const Epilogue<Sum>& epilogue) {
  // A lane takes V channels of some of the 16 rows, at most four at a time: the activation's choice is then made once
  // for 16 values.
  constexpr int V = kStoredChannels<Sum>, kGroups = N * 8 / V, kRow = Shape::template kSumRow<Sum>;
  constexpr int kRows = kWarp / kGroups, kTurn = 16 / kRows < 4 ? 16 / kRows : 4;
  const int lane = threadIdx.x % kWarp, group = lane % kGroups;
  Sum* rows = static_cast<Sum*>(shared) + threadIdx.x / kWarp * 16 * kRow;
  Sum* from_fragment = rows + lane / 4 * kRow + lane % 4 * 2;
  const Sum* to_lane = rows + lane / kGroups * kRow + group * V;
  const int channel = block.o + first_column + group * V;
  const int image = p.out_height * p.out_width;
  if (partial != nullptr) partial += static_cast<int64_t>(blockIdx.y) * p.samples * image * p.out_channels;
  ChannelEpilogue<Sum> finish(epilogue, channel, p.out_channels);
  Vector<Sum, V> product{};

#pragma unroll 1
  for (int fragment = 0; fragment < PHASES * M; ++fragment) {
    const int phase = fragment / M, f = fragment % M;
    if (f >= m_used) continue;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < PHASES * M; ++i)
      if (i == fragment) {
#pragma unroll
        for (int j = 0; j < N; ++j)
#pragma unroll
          for (int h = 0; h < 2; ++h)
            store<Sum, 2>(from_fragment + 8 * h * kRow + j * 8,
                          {{sum[i / M][i % M][j][2 * h], sum[i / M][i % M][j][2 * h + 1]}});
      }
    __syncwarp();
    if (channel >= p.out_channels) continue;
    const int* output = outputs + phase * Shape::kPositions + first_row + f * 16 + lane / kGroups;
#pragma unroll 1
    for (int r = 0; r < 16; r += kTurn * kRows) {
      Sum v[kTurn * V];
      int pixel[kTurn];
#pragma unroll
      for (int i = 0; i < kTurn; ++i) {
        pixel[i] = output[r + i * kRows];
        const Vector<Sum, V> row = load<Sum, V>(to_lane + (r + i * kRows) * kRow);
#pragma unroll
        for (int c = 0; c < V; ++c) v[i * V + c] = row.at[c];
      }
      if (products.factor != nullptr) {
        Vector<T, V> factor[kTurn];
#pragma unroll
        for (int i = 0; i < kTurn; ++i)
          factor[i] = finish.read(products.factor + static_cast<int64_t>(max(pixel[i], 0)) * p.out_channels + channel);
#pragma unroll
        for (int i = 0; i < kTurn; ++i)
#pragma unroll
          for (int c = 0; c < V; ++c)
            if (pixel[i] >= 0) product.at[c] += v[i * V + c] * widen(factor[i].at[c]);
      }
      if (y != nullptr) {
#pragma unroll
        for (int i = 0; i < kTurn; ++i) {
          const int n = p.tile_n == 1 ? block.n : pixel[i] / image;
          if (pixel[i] >= 0) finish(v + i * V, n, epilogue.level(n, pixel[i] - n * image));
        }
        epilogue.activate(v);
      }
#pragma unroll
      for (int i = 0; i < kTurn; ++i) {
        const int64_t place = static_cast<int64_t>(pixel[i]) * p.out_channels + channel;
        if (pixel[i] >= 0 && y != nullptr) finish.write(v + i * V, y + place);
        if (pixel[i] >= 0 && partial != nullptr) finish.write(v + i * V, partial + place);
      }
    }
  }
  if (products.factor == nullptr) return;

  // The lanes of the same channels, then the warps.
#pragma unroll
  for (int apart = kGroups; apart < kWarp; apart *= 2)
#pragma unroll
    for (int c = 0; c < V; ++c) product.at[c] += __shfl_xor_sync(0xffffffffu, product.at[c], apart);
  __syncwarp();
  if (lane < kGroups) store(rows + group * V, product);
  __syncthreads();
  if (const int c = threadIdx.x; c < Shape::kChannels) {
    const Sum* of_warp = static_cast<const Sum*>(shared) + c / (N * 8) * Shape::kWarpsM * 16 * kRow + c % (N * 8);
    Sum total = 0;
#pragma unroll
    for (int warp = 0; warp < Shape::kWarpsM; ++warp) total += of_warp[warp * 16 * kRow];
    products.leave(p, block, c, total);
  }
}

// The second stage, where blocks shared a tile's channels, or where products are wanted of samples that shared a tile:
// y = epilogue(sum of the splits), in their order. A thread makes V adjacent channels of some pixels, a block all or a
// part of a sample's.
constexpr int kSecondThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kSecondThreads, 1)
    add_splits_kernel(const Accumulate<T>* __restrict__ partial,  // [splits, N, pixels, O]
                      T* __restrict__ y,                          // [N, pixels, O], or null
                      int splits, int64_t apart,                  // apart: from one split to the next
                      int parts, int pixels, int channels, const Products<T> products,
                      const Epilogue<Accumulate<T>> epilogue) {
  using Sum = Accumulate<T>;
  constexpr int V = kStoredChannels<Sum>;
  const int n = blockIdx.x / parts, part = blockIdx.x - n * parts, row = blockDim.x * V;
  const int channel = blockIdx.y * row + threadIdx.x * V;
  ChannelEpilogue<Sum> finish(epilogue, channel, channels);
  Vector<Sum, V> product{};
  if (channel < channels)
    for (int pixel = part * blockDim.y + threadIdx.y; pixel < pixels; pixel += parts * blockDim.y) {
      const int64_t place = (static_cast<int64_t>(n) * pixels + pixel) * channels + channel;
      Sum v[V] = {};
      const Sum* from = partial + place;
#pragma unroll 4
      for (int split = 0; split < splits; ++split, from += apart) {
        const Vector<Sum, V> more = finish.read(from);
#pragma unroll
        for (int i = 0; i < V; ++i) v[i] += more.at[i];
      }
      if (products.factor != nullptr) {
        const Vector<T, V> factor = finish.read(products.factor + place);
#pragma unroll
        for (int i = 0; i < V; ++i) product.at[i] += v[i] * widen(factor.at[i]);
      }
      if (y != nullptr) {
        finish(v, n, epilogue.level(n, pixel));
        epilogue.activate(v);
        finish.write(v, y + place);
      }
    }
  if (products.factor == nullptr) return;

  __shared__ Vector<Sum, V> of_thread[kSecondThreads];
  const int thread = threadIdx.y * blockDim.x + threadIdx.x, column = blockIdx.y * row + thread;
  of_thread[thread] = product;
  __syncthreads();
  if (thread < row && column < channels) {
    Sum total = 0;
    for (int i = thread; i < static_cast<int>(blockDim.y) * row; i += row) total += of_thread[i / V].at[i % V];
    products.parts[static_cast<int64_t>(blockIdx.x) * channels + column] = total;
  }
}

}  // namespace stylegan_ops::cuda
