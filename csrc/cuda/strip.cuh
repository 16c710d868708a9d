// How the elementwise kernels of an image are laid over its memory, so that what a thread needs besides the image is
// either fixed for the thread or fixed for a row.
//
// A sample is seen as rows of adjacent elements. Contiguous: a row is a plane, its columns are the pixels.
// channels_last: a row is a pixel, its columns are the channels; where C is not a multiple of a vector, or would leave
// most of a warp idle, a row is a group of pixels.
//
// One block = `lanes` x (threads / lanes) threads: a tile of lanes * V columns, walked down a chunk of rows. One thread
// = V columns, the same in all its rows: what belongs to the columns (channels_last: scale and bias, and their sums;
// contiguous: noise) lies in registers for the whole walk, and no element needs a division. Per step a thread moves W
// rows by 16-byte accesses, all loads before the first use: 32 to 64 bytes in flight.
//
// Where rows are not whole aligned vectors the kernels' twins with V = 1 run: then no access of the others is masked
// inside a vector.
#pragma once

#include "device.cuh"

namespace stylegan_ops::cuda {

constexpr int kStripThreads = 128;
constexpr int kRowSums = 256;     // that a block keeps in shared memory: one per row and warp
constexpr int kThreadRows = 256;  // that a thread adds one to the other: float32 sums stay as good as their terms

template <typename T>
constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(T));  // V

struct Strips {
  int64_t samples, sample;  // and elements of each
  int64_t row;              // elements of a row
  int64_t chunk_elements;
  int64_t chunks;
  int tiles;     // of columns
  int rows;      // of a sample
  int chunk;     // rows that a block walks
  int group;     // pixels in a row, channels_last
  int lanes;     // a power of two
  bool vectors;  // V elements at a time, not 1
  Layout layout;

  dim3 grid() const { return dim3(static_cast<unsigned>(tiles * samples), static_cast<unsigned>(chunks)); }
  dim3 block() const { return dim3(lanes, kStripThreads / lanes); }
};

inline int64_t greatest_common_divisor(int64_t a, int64_t b) { return b == 0 ? a : greatest_common_divisor(b, a % b); }

// `VECTOR`: the elements of a vector, fewer than 16 bytes of them where a kernel keeps much for each of its columns.
// `aligned`: all tensors begin at 16-byte boundaries. `noise`: there is a value for each pixel, so that a row of
// channels_last must be one pixel. `sums`: the walk makes sums, so that a block's rows are bounded.
template <typename T, int VECTOR = kVector<T>>
Strips make_strips(Layout layout, int64_t samples, int64_t channels, int64_t pixels, bool aligned, bool noise,
                   bool sums) {
  constexpr int64_t V = VECTOR;
  Strips s{};
  s.layout = channels == 1 || pixels == 1 ? Layout::kChannelsLast : layout;  // where both are the same memory
  s.samples = samples;
  s.sample = channels * pixels;
  s.group = 1;
  s.lanes = 1;
  int64_t vectors;  // in a row
  if (s.layout == Layout::kContiguous) {
    s.vectors = aligned && pixels % V == 0;
    s.row = pixels;
    vectors = ceil_div(s.row, s.vectors ? V : 1);
    // Few lanes where there is noise to read but no sum to make: a block reads its columns' noise once for all its
    // rows.
    const int most = noise && !sums ? kStripThreads / 8 : kStripThreads;
    while (s.lanes < vectors && s.lanes < most) s.lanes *= 2;
  } else {
    const int64_t whole = V / greatest_common_divisor(channels, V);  // pixels that make whole vectors
    s.vectors = aligned && s.sample % V == 0 && !(noise && whole > 1);
    const int64_t unit = s.vectors ? whole * channels / V : channels;
    if (!noise && unit < kWarp && (whole > 1 || (unit & (unit - 1)) != 0))
      s.group = static_cast<int>((s.vectors ? whole : 1) * (kWarp / unit));
    else if (s.vectors)
      s.group = static_cast<int>(whole);
    s.row = s.group * channels;
    vectors = ceil_div(s.row, s.vectors ? V : 1);
    // The width that leaves the fewest lanes without a column, and 128 bytes where a row has them.
    s.lanes = kWarp;
    for (int lanes = kWarp / 2; lanes >= 1 && (lanes >= 8 || lanes >= vectors); lanes /= 2)
      if (ceil_div(vectors, lanes) * lanes < ceil_div(vectors, s.lanes) * s.lanes) s.lanes = lanes;
  }
  // Chunks as long as the machine stays full, since the columns' part is paid once per chunk: 4 rows for a thread, and
  // 8 where there are blocks enough.
  const int64_t rows = ceil_div(s.sample, s.row), tiles = ceil_div(vectors, s.lanes), width = tiles * samples;
  const int64_t processors = multiprocessors(), thread_rows = kStripThreads / s.lanes;
  const int64_t step = thread_rows * (width * ceil_div(rows, 8 * thread_rows) >= 2 * processors ? 8 : 4);
  int64_t chunk = ceil_div(ceil_div(rows, ceil_div(12 * processors, width)), step) * step;
  if (sums) {
    const int64_t most = s.layout == Layout::kContiguous ? kRowSums * kWarp / (s.lanes > kWarp ? s.lanes : kWarp)
                                                         : kThreadRows * thread_rows;
    chunk = chunk < most ? chunk : most;
  }
  if (rows > INT32_MAX / 2 || width > INT32_MAX || ceil_div(rows, chunk) > 65535)
    throw std::runtime_error("stylegan_ops: the image is too large for one launch");
  s.rows = static_cast<int>(rows);
  s.tiles = static_cast<int>(tiles);
  s.chunk = static_cast<int>(chunk);
  s.chunks = ceil_div(rows, chunk);
  s.chunk_elements = chunk * s.row;
  return s;
}

// Calls f with V and the layout as compile-time constants.
template <typename T, int VECTOR = kVector<T>, typename F>
void by_strips(const Strips& s, F&& f) {
  const auto by_layout = [&](auto v) {
    if (s.layout == Layout::kContiguous)
      f(v, std::integral_constant<Layout, Layout::kContiguous>());
    else
      f(v, std::integral_constant<Layout, Layout::kChannelsLast>());
  };
  if (s.vectors)
    by_layout(std::integral_constant<int, VECTOR>());
  else
    by_layout(std::integral_constant<int, 1>());
}

// A thread's way down its block's chunk, W rows a step.
template <typename T, int V, int W>
class Strip {
  using A = Accumulate<T>;

 public:
  static constexpr int kCount = V * W;

  __device__ __forceinline__ explicit Strip(const Strips& s)
      : n(blockIdx.x / s.tiles),
        tile(blockIdx.x - n * s.tiles),
        column(static_cast<int64_t>(tile) * (blockDim.x * V) + threadIdx.x * V),
        row(static_cast<int>(blockIdx.y) * s.chunk + static_cast<int>(threadIdx.y)),
        inside(column < s.row),
        group_(s.group),
        last_row_(s.rows - 1),
        steps_end_(min(static_cast<int>(blockIdx.y + 1) * s.chunk, s.rows) + static_cast<int>(threadIdx.y)),
        stride_(blockDim.y * s.row),
        reach_((W - 1) * stride_) {
    const int64_t first = row * s.row + column, end = (blockIdx.y + 1) * s.chunk_elements;
    index_ = n * s.sample + first;
    left_ = inside ? (end < s.sample ? end : s.sample) - first : 0;
  }

  // Whether there is another step: the same for all threads of the block, so that they may shuffle.
  __device__ __forceinline__ bool more() const { return row < steps_end_; }
  __device__ __forceinline__ void next() {
    index_ += W * stride_;
    left_ -= W * stride_;
    row += W * blockDim.y;
  }

  // Whether row w of this step is there in the thread's columns.
  __device__ __forceinline__ bool has(int w) const { return left_ > w * stride_; }

  // v[w * V + k] = column k of row w of this step, or 0 where there is none.
  __device__ __forceinline__ void load(const T* image, A (&v)[kCount]) const {
    const T* p = image + index_;
    Vector<T, V> in[W];
    if (whole()) {
#pragma unroll
      for (int w = 0; w < W; ++w) in[w] = cuda::load<T, V>(p + w * stride_);
    } else {
#pragma unroll
      for (int w = 0; w < W; ++w) in[w] = has(w) ? cuda::load<T, V>(p + w * stride_) : Vector<T, V>{};
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) v[i] = widen(in[i / V].at[i % V]);
  }

  __device__ __forceinline__ void store(T* image, const A (&v)[kCount]) const {
    T* p = image + index_;
    Vector<T, V> out[W];
#pragma unroll
    for (int i = 0; i < kCount; ++i) out[i / V].at[i % V] = narrow<T>(v[i]);
    if (whole()) {
#pragma unroll
      for (int w = 0; w < W; ++w) cuda::store<T, V>(p + w * stride_, out[w]);
    } else {
#pragma unroll
      for (int w = 0; w < W; ++w)
        if (has(w)) cuda::store<T, V>(p + w * stride_, out[w]);
    }
  }

  // of[w] = v[first + row w], or `missing` where v is null: what belongs to the rows of this step. Rows beyond the last
  // get its value.
  __device__ __forceinline__ void of_rows(const A* v, int64_t first, A missing, A (&of)[W]) const {
#pragma unroll
    for (int w = 0; w < W; ++w) of[w] = missing;
    if (v == nullptr) return;
    if (whole()) {
      const A* p = v + first + row;
#pragma unroll
      for (int w = 0; w < W; ++w) of[w] = p[w * blockDim.y];
    } else {
#pragma unroll
      for (int w = 0; w < W; ++w) of[w] = v[first + row_at(w)];
    }
  }

  // The row w of this step, or the last one where there is none.
  __device__ __forceinline__ int row_at(int w) const { return min(row + w * static_cast<int>(blockDim.y), last_row_); }

  // of[k] = v[first + column k], likewise; v and first are multiples of 16 bytes where V > 1.
  __device__ __forceinline__ void of_columns(const A* v, int64_t first, A missing, A (&of)[V]) const {
    constexpr int kPart = V < kVector<A> ? V : kVector<A>;
#pragma unroll
    for (int k = 0; k < V; k += kPart) {
      Vector<A, kPart> part;
#pragma unroll
      for (int j = 0; j < kPart; ++j) part.at[j] = missing;
      if (v != nullptr && inside) part = cuda::load<A, kPart>(v + first + column + k);
#pragma unroll
      for (int j = 0; j < kPart; ++j) of[k + j] = part.at[j];
    }
  }

  // of[k] = v[first + channel of column k], likewise, in channels_last.
  __device__ __forceinline__ void of_channels(const A* v, int64_t first, A missing, int channels, A (&of)[V]) const {
    if (group_ == 1) return of_columns(v, first, missing, of);
    int c = static_cast<int>(column) % channels;
#pragma unroll
    for (int k = 0; k < V; ++k) {
      of[k] = v != nullptr && inside ? v[first + c] : missing;
      if (++c == channels) c = 0;
    }
  }

  const int n, tile;     // the block's sample and tile
  const int64_t column;  // the first of the thread's V columns
  int row;               // the first of this step's W, which are blockDim.y apart
  const bool inside;     // whether its columns are in the row

 private:
  // All of this step's rows are inside.
  __device__ __forceinline__ bool whole() const { return left_ > reach_; }

  const int group_, last_row_, steps_end_;
  const int64_t stride_, reach_;  // elements from one of the thread's rows to the next, from a step's first to its last
  int64_t index_, left_;          // of this step's first element: where in the image, and how far from the chunk's end
};

}  // namespace stylegan_ops::cuda
