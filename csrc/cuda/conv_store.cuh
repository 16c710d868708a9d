// The end of the convolution: sums go through shared memory, fragment by fragment, so that a lane has four adjacent
// channels of a pixel and a warp writes whole rows; the epilogue is then code for four values, not for all of a
// thread's sums. Bytes: y once, or the float sums of a split once out and once back.
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

  // to: the first of the channels.
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

template <typename Shape, typename T, typename Sum, int PHASES, int M, int N>
__device__ __forceinline__ void store_sums(const ConvPlan& p, const ConvBlock& block, const Sum (&sum)[PHASES][M][N][4],
                                           const int* outputs,  // [phases, positions]: see modulated_conv2d_kernel
                                           void* shared, int first_row, int first_column, int m_used, T* y,
                                           Sum* partial, const Epilogue<Sum>& epilogue) {
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
      if (partial == nullptr) {
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
        if (pixel[i] >= 0 && partial == nullptr) finish.write(v + i * V, y + place);
        if (pixel[i] >= 0 && partial != nullptr) finish.write(v + i * V, partial + place);
      }
    }
  }
}

// The second stage of split-K: y = epilogue(sum of the splits), in their order. A thread makes V adjacent channels of
// a pixel, a row of threads all channels of one.
template <typename T>
__global__ void __launch_bounds__(256, 1)
    add_splits_kernel(const Accumulate<T>* __restrict__ partial,  // [splits, pixels, O]
                      T* __restrict__ y,                          // [pixels, O], pixels of all samples
                      int splits, int64_t pixels, int image, int channels, const Epilogue<Accumulate<T>> epilogue) {
  using Sum = Accumulate<T>;
  constexpr int V = kStoredChannels<Sum>;
  const int64_t pixel = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (pixel >= pixels) return;
  const int n = static_cast<int>(pixel / image);
  for (int channel = threadIdx.x * V; channel < channels; channel += blockDim.x * V) {
    const int64_t place = pixel * channels + channel;
    Sum v[V] = {};
    const Sum* from = partial + place;
    if (channels % V == 0) {
#pragma unroll 4
      for (int split = 0; split < splits; ++split, from += pixels * channels) {
        const Vector<Sum, V> more = load<Sum, V>(from);
#pragma unroll
        for (int i = 0; i < V; ++i) v[i] += more.at[i];
      }
    } else {
      for (int split = 0; split < splits; ++split, from += pixels * channels)
#pragma unroll
        for (int i = 0; i < V; ++i)
          if (channel + i < channels) v[i] += from[i];
    }
    ChannelEpilogue<Sum> finish(epilogue, channel, channels);
    finish(v, n, epilogue.level(n, pixel - static_cast<int64_t>(n) * image));
    epilogue.activate(v);
    finish.write(v, y + place);
  }
}

}  // namespace stylegan_ops::cuda
