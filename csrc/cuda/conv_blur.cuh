// An up-layer in one pass: transposed 3 x 3 convolution of stride 2, its filter of at most 4 x 4 taps, and the
// epilogue.
//
//   z = the transposed convolution of styles * x (see modulated_conv2d.cuh), y = epilogue(filter(z))
//
// A block makes 60 columns of y, 32 channels deep, and walks down a segment of its rows. A step computes z for 4 x 32
// positions (8 x 64 pixels) in registers, leaves them in shared memory as a picture, and adds the picture's rows to
// those rows of y that they reach. Sums of the last three rows wait in shared memory for the next step, so nothing is
// computed twice from step to step; neighbouring strips share 4 of their 64 columns (7 % more mma), segments 4 rows.
// z never leaves the multiprocessor. Outside of the image it is zero by itself, since x is: no pixel of it is masked.
//
//   kept     float [3 rows x 16][threads]    sums that wait
//   then what convolve() has; when it is done, in the place of its ring and its input:
//   picture  T [8 rows][2][32][32 channels]  even columns, then odd ones
//
// One thread filters 2 pixels x 8 channels: of each row of the picture five vectors of 16 bytes. A picture's pixel is
// four such vectors; in every second pair of pixels they are permuted, so that neither the fragments' stores nor the
// windows' loads conflict. In 16 bits two blocks fit into a multiprocessor of sm_80 and later: one multiplies while
// another filters.
//
// Bytes: x once and y once, and the rim of the strips from L2. Instructions: 8 FMA an output for a filter that is an
// outer product, 16 for any other.
#pragma once

#include "fir_taps.cuh"
#include "modulated_conv2d.cuh"

namespace stylegan_ops::cuda {

struct BlurShape : ConvShape<4, 1, 2, 4, 4> {  // 128 positions x 4 phases x 32 channels
  static constexpr int kRows = 4, kColumns = 32;
  static constexpr int kStripColumns = kColumns - 2;  // positions from one strip to the next
  static constexpr int kTaps = 4, kKept = kTaps - 1;
  static constexpr int kVectors = kChannels * 2 / kVectorBytes;        // of a pixel of 16 bits
  static constexpr int kHalfRow = kColumns * kVectors * kVectorBytes;  // bytes of a row's even columns
  static constexpr int kPictureBytes = 2 * kRows * 2 * kHalfRow;
  static constexpr int kP = 2, kV = 8;  // pixels and channels of a thread
  static constexpr int kKeptBytes = kKept * kP * kV * 4 * kThreads;

  static int shared_bytes(const ConvPlan& p) {
    const int before = p.shared_bytes(0, 0) - p.buffers * p.slots() * kPitch;
    return kKeptBytes + before + std::max(kRingBytes<float> + p.buffers * p.slots() * kPitch, kPictureBytes);
  }
};

// How y is cut. Its rows and columns are counted from `shift` before the first (see FirAxis), position 0 being that
// under their first tap.
struct BlurPlan {
  DeviceFilter filter;
  FirAxis x_axis, y_axis;
  int strips, segments;
  int segment;  // positions from one segment's first row to the next one's

  static __host__ __device__ int positions(const FirAxis& axis) { return (axis.out + axis.shift + 3) / 2 + 1; }
};

// Where vector `vector` of a pixel lies in its half of a row of the picture; `column` is the pixel's in that half.
__device__ __forceinline__ int picture_place(int column, int vector) {
  return (column * BlurShape::kVectors + (vector ^ column / 2 % BlurShape::kVectors)) * kVectorBytes;
}

// The sums of convolve() as a picture.
template <typename T, int PHASES, int M, int N>
__device__ __forceinline__ void store_picture(const ConvBlock& block, const float (&sum)[PHASES][M][N][4],
                                              unsigned char* picture, int first_row) {
  static_assert(PHASES == 4 && N == BlurShape::kVectors);
  const int lane = threadIdx.x % kWarp, positions = block.positions();
#pragma unroll
  for (int f = 0; f < M; ++f)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int q = first_row + f * 16 + h * 8 + lane / 4;
      if (q >= positions) continue;
      const int i = q / block.columns, j = q - i * block.columns;
      unsigned char* rows = picture + i * 4 * BlurShape::kHalfRow + lane % 4 * 2 * sizeof(T);
#pragma unroll
      for (int n = 0; n < N; ++n) {
        unsigned char* to = rows + picture_place(j, n);
#pragma unroll
        for (int phase = 0; phase < PHASES; ++phase)
          store<T, 2>(reinterpret_cast<T*>(to + phase * BlurShape::kHalfRow),
                      {{narrow<T>(sum[phase][f][n][2 * h]), narrow<T>(sum[phase][f][n][2 * h + 1])}});
      }
    }
}

// The thread's part of a strip: kP pixels of kV channels in every row.
template <typename T>
class BlurThread {
  static constexpr int P = BlurShape::kP, V = BlurShape::kV, kTaps = BlurShape::kTaps, kKept = BlurShape::kKept;
  static constexpr int kWindow = P - 1 + kTaps;

 public:
  // The strip begins at position `first`.
  __device__ BlurThread(const ConvPlan& p, const BlurPlan& plan, const ConvBlock& block, int first, T* y, float* kept)
      : p_(p), plan_(plan), n_(block.n), kept_(kept + threadIdx.x * 4) {
    const int vector = threadIdx.x % BlurShape::kVectors, pair = threadIdx.x / BlurShape::kVectors;
    channel_ = block.o + vector * V;
    column_ = 2 * (first + pair) - plan.x_axis.shift;
    if (pair < BlurShape::kStripColumns && channel_ < p.out_channels)
      for (int i = 0; i < P; ++i) stored_ |= column_ + i >= 0 && column_ + i < plan.x_axis.out ? 1u << i : 0;
#pragma unroll
    for (int i = 0; i < 3; ++i) place_[i] = picture_place(pair + i, vector);
    y_ = y + (static_cast<int64_t>(n_) * plan.y_axis.out * plan.x_axis.out + column_) * p.out_channels + channel_;
#pragma unroll
    for (int i = 0; i < kKept * P * V / 4; ++i) store<float, 4>(kept_ + i * BlurShape::kThreads * 4, {});
  }

  // Adds `rows` rows of the picture to those of y that they reach, the first of which is `row`, and finishes as many:
  // stores those from `begin` to `end`.
  template <bool SEPARABLE>
  __device__ void filter(const unsigned char* picture, const FirTaps<kTaps>& taps, int rows, int row, int begin,
                         int end, const Epilogue<float>& epilogue) const {
    if (stored_ == 0) return;
    ChannelEpilogue<float, V> finish(epilogue, channel_, p_.out_channels);
    float sum[kKept][P][V];
    float* const waiting = &sum[0][0][0];
#pragma unroll
    for (int i = 0; i < kKept * P * V; i += 4) {
      const Vector<float, 4> v = load<float, 4>(kept_ + i * BlurShape::kThreads);
#pragma unroll
      for (int j = 0; j < 4; ++j) waiting[i + j] = v.at[j];
    }
#pragma unroll 1
    for (int end_row = row + rows; row < end_row; ++row, picture += 2 * BlurShape::kHalfRow) {
      const unsigned stored = row >= begin && row < end ? stored_ : 0;
      const int pixel = (row - plan_.y_axis.shift) * plan_.x_axis.out + column_;
      float level[P];
#pragma unroll
      for (int i = 0; i < P; ++i) level[i] = stored >> i & 1 ? epilogue.level(n_, pixel + i) : 0;

      float window[kWindow][V];
#pragma unroll
      for (int j = 0; j < kWindow; ++j) {
        const auto* at = reinterpret_cast<const T*>(picture + j % 2 * BlurShape::kHalfRow + place_[j / 2]);
        const Vector<T, V> v = load<T, V>(at);
#pragma unroll
        for (int c = 0; c < V; ++c) window[j][c] = widen(v.at[c]);
      }
      float across[P][V];  // filtered along x
      if constexpr (SEPARABLE) {
        clear(across);
        add_row(across, taps.x, window);
      }
      // to = from + what the picture's row gives with the filter's row k.
      const auto add = [&](float (&to)[P][V], const float (&from)[P][V], int k) {
#pragma unroll
        for (int i = 0; i < P * V; ++i)
          to[i / V][i % V] = SEPARABLE ? from[i / V][i % V] + taps.y[k] * across[i / V][i % V] : from[i / V][i % V];
        if constexpr (!SEPARABLE) add_row(to, taps.full[k], window);
      };
      float done[P][V], zero[P][V];
      clear(zero);
      add(done, sum[0], kTaps - 1);
#pragma unroll
      for (int k = 1; k < kKept; ++k) add(sum[k - 1], sum[k], kTaps - 1 - k);
      add(sum[kKept - 1], zero, 0);
      if (stored == 0) continue;
#pragma unroll
      for (int i = 0; i < P; ++i) finish(done[i], n_, level[i]);
      epilogue.activate(reinterpret_cast<float (&)[P * V]>(done));
#pragma unroll
      for (int i = 0; i < P; ++i)
        if (stored >> i & 1) finish.write(done[i], y_ + (static_cast<int64_t>(pixel - column_) + i) * p_.out_channels);
    }
#pragma unroll
    for (int i = 0; i < kKept * P * V; i += 4)
      store<float, 4>(kept_ + i * BlurShape::kThreads, {{waiting[i], waiting[i + 1], waiting[i + 2], waiting[i + 3]}});
  }

 private:
  static __device__ __forceinline__ void clear(float (&v)[P][V]) {
#pragma unroll
    for (int i = 0; i < P * V; ++i) v[i / V][i % V] = 0;
  }

  static __device__ __forceinline__ void add_row(float (&to)[P][V], const float (&tap)[kTaps],
                                                 const float (&window)[kWindow][V]) {
#pragma unroll
    for (int k = 0; k < kTaps; ++k)
#pragma unroll
      for (int i = 0; i < P * V; ++i) to[i / V][i % V] += tap[k] * window[i / V + k][i % V];
  }

  const ConvPlan& p_;
  const BlurPlan& plan_;
  const int n_;
  float* const kept_;     // the thread's, four of them at a time
  int channel_, column_;  // the first of its channels; of its pixels in the image, perhaps outside
  unsigned stored_ = 0;   // bit i: pixel i is stored
  int place_[3];          // of its window's even columns in a row of the picture; an odd one lies behind its left one
  T* y_;                  // its first pixel in the image's first row
};

template <typename Core>
__global__ void __launch_bounds__(BlurShape::kThreads, 2)
    conv_blur_kernel(const ConvPlan p, const BlurPlan plan, const ConvOperands<typename Core::Element> operands,
                     const Epilogue<float> epilogue) {
  using T = typename Core::Element;
  __shared__ FirTaps<BlurShape::kTaps> taps;
  if (threadIdx.x < kWarp) read_taps(plan.filter, plan.x_axis, plan.y_axis, threadIdx.x, taps);

  int b = blockIdx.x;  // the channels of one place are neighbours: they share its input in the L2 cache
  ConvBlock block{};
  block.o = b % p.o_tiles * BlurShape::kChannels, b /= p.o_tiles;
  const int first = b % plan.strips * BlurShape::kStripColumns;
  b /= plan.strips;
  const int begin = b % plan.segments * plan.segment;
  block.n = b / plan.segments, block.samples = 1, block.last_chunk = p.chunks;
  block.x = first - plan.x_axis.pad / 2;
  block.columns = min(BlurShape::kColumns, BlurPlan::positions(plan.x_axis) - first);
  const int end_row = min(2 * (begin + plan.segment), plan.y_axis.out + plan.y_axis.shift);
  const int begin_row = max(2 * begin, plan.y_axis.shift);

  float* kept = dynamic_shared<float>();
  unsigned char* shared = reinterpret_cast<unsigned char*>(kept) + BlurShape::kKeptBytes;
  const BlurThread<T> thread(p, plan, block, first, operands.y, kept);
  for (int position = begin; 2 * position - BlurShape::kKept < end_row; position += BlurShape::kRows) {
    block.y = position - plan.y_axis.pad / 2;
    block.rows = min(BlurShape::kRows, BlurPlan::positions(plan.y_axis) - position);
    unsigned char* picture = nullptr;
    convolve<Core, BlurShape>(p, block, operands, shared,
                              [&](const auto& sum, unsigned char* ring, int first_row, int, int) {
                                picture = ring;
                                store_picture<T>(block, sum, picture, first_row);
                              });
    __syncthreads();
    const int row = 2 * position - BlurShape::kKept, rows = 2 * block.rows;
    if (taps.separable)
      thread.template filter<true>(picture, taps, rows, row, begin_row, end_row, epilogue);
    else
      thread.template filter<false>(picture, taps, rows, row, begin_row, end_row, epilogue);
    __syncthreads();
  }
}

}  // namespace stylegan_ops::cuda
