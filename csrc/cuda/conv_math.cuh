// How a warp multiplies: fragments of A [16 rows, k], B [k, 8 columns] and their product c[4], of which lane l holds
// the rows l / 4 and l / 4 + 8, columns 2 (l % 4) and one more. Both operands lie in shared memory with k contiguous,
// and a step along k is a number of bytes, so that one kernel serves every dtype:
//
//   TensorCore<T, M>  mma.sync of T read as M: 32 bytes (16 elements of 16 bits, 8 TF32) a step
//   Plain<T>          the ordinary pipes, exactly: 16 bytes a step, 4 FMA for each 4 elements loaded
#pragma once

#include "tensor_core.cuh"

namespace stylegan_ops::cuda {

template <typename T, typename M = T>
struct TensorCore {
  using Element = T;
  using Sum = float;
  static constexpr int kStepBytes = 32;
  static constexpr int kRows = 1;  // rows of A whose place a lane must know

  struct A {
    uint32_t r[4];
  };
  struct B {
    uint32_t r[2];
  };

  // The i-th row whose place the lane must know, and where in a step the lane begins.
  static __device__ __forceinline__ int a_row(int lane, int) { return lane % 16; }
  static __device__ __forceinline__ int a_byte(int lane) { return lane / 16 * 16; }

  static __device__ __forceinline__ void load_a(A& a, const int (&row)[1], SharedAddress tap) {
    load_matrices(a.r, row[0] + tap);
    round(a.r);
  }

  // Fragments of 8 columns, which lie PITCH bytes apart from `column` on; the lane's own begin b_byte further.
  template <int PITCH, int N>
  static __device__ __forceinline__ int b_byte(int lane) {
    return (lane % 8 + (N == 1 ? 0 : lane / 16 * 8)) * PITCH + lane / 8 % 2 * 16;
  }
  template <int PITCH, int N>
  static __device__ __forceinline__ void load_b(B (&b)[N], SharedAddress mine) {
    if constexpr (N == 1) {
      load_matrices(b[0].r, mine);
      round(b[0].r);
    } else {
#pragma unroll
      for (int j = 0; j < N; j += 2) {
        uint32_t r[4];
        load_matrices(r, mine + j * 8 * PITCH);
        round(r);
        b[j] = {{r[0], r[1]}}, b[j + 1] = {{r[2], r[3]}};
      }
    }
  }

  static __device__ __forceinline__ void multiply(Sum (&c)[4], const A& a, const B& b) { multiply_add<M>(c, a.r, b.r); }

  // The same with k along the rows of shared memory (pixels), as the gradient of the weights has it: a step is kPixels
  // rows, and a lane reads B from kOwn of them.
  static constexpr int kPixels = kStepBytes / sizeof(T), kOwn = sizeof(T) == 2 ? 1 : 2;
  static constexpr int kPad = sizeof(T) == 2 ? 16 : 32;  // behind a row, so that the lanes' rows lie in different banks

  static __device__ __forceinline__ int own_pixel(int lane, int i) {
    return sizeof(T) == 2 ? lane % 16 : lane % 4 + 4 * i;
  }
  template <int PITCH>
  static __device__ __forceinline__ int a_place(int lane) {
    if constexpr (sizeof(T) == 2) return (lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * 16;
    return lane % 4 * PITCH + lane / 4 * static_cast<int>(sizeof(T));
  }
  static __device__ __forceinline__ int b_place(int lane) {
    return sizeof(T) == 2 ? lane / 16 * 16 : lane / 4 * static_cast<int>(sizeof(T));
  }
  template <int PITCH>
  static __device__ __forceinline__ void load_a_of_pixels(A& a, SharedAddress mine) {
    if constexpr (sizeof(T) == 2) {
      load_transposed(a.r, mine);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        a.r[i] = *static_cast<const uint32_t*>(shared_pointer(mine + i / 2 * 4 * PITCH + i % 2 * 8 * sizeof(T)));
      round(a.r);
    }
  }
  // Two fragments of 8 columns.
  static __device__ __forceinline__ void load_b_of_pixels(B (&b)[2], const SharedAddress (&mine)[kOwn]) {
    uint32_t r[4];
    if constexpr (sizeof(T) == 2) {
      load_transposed(r, mine[0]);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        r[i] = *static_cast<const uint32_t*>(shared_pointer(mine[i % 2] + i / 2 * 8 * sizeof(T)));
      round(r);
    }
    b[0] = {{r[0], r[1]}}, b[1] = {{r[2], r[3]}};
  }

 private:
  // A tensor core drops the bits that it does not read: round to nearest before.
  template <int N>
  static __device__ __forceinline__ void round(uint32_t (&r)[N]) {
    if constexpr (std::is_same_v<M, Tf32>) {
#pragma unroll
      for (int i = 0; i < N; ++i) r[i] = round_tf32(r[i]);
    }
  }
};

template <typename T>
struct Plain {
  using Element = T;
  using Sum = Accumulate<T>;
  static constexpr int kStepBytes = 16;
  static constexpr int kRows = 2;
  static constexpr int kStep = kStepBytes / sizeof(T);

  struct A {
    Vector<T, kStep> row[2];
  };
  struct B {
    Vector<T, kStep> column[2];
  };

  static __device__ __forceinline__ int a_row(int lane, int i) { return lane / 4 + 8 * i; }
  static __device__ __forceinline__ int a_byte(int) { return 0; }

  static __device__ __forceinline__ void load_a(A& a, const int (&row)[2], SharedAddress tap) {
#pragma unroll
    for (int i = 0; i < 2; ++i) a.row[i] = load<T, kStep>(static_cast<const T*>(shared_pointer(row[i] + tap)));
  }

  template <int PITCH, int N>
  static __device__ __forceinline__ int b_byte(int lane) {
    return lane % 4 * 2 * PITCH;
  }
  template <int PITCH, int N>
  static __device__ __forceinline__ void load_b(B (&b)[N], SharedAddress mine) {
#pragma unroll
    for (int j = 0; j < N; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        b[j].column[i] = load<T, kStep>(static_cast<const T*>(shared_pointer(mine + (j * 8 + i) * PITCH)));
  }

  static __device__ __forceinline__ void multiply(Sum (&c)[4], const A& a, const B& b) {
#pragma unroll
    for (int k = 0; k < kStep; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i) c[i] += Sum(widen(a.row[i / 2].at[k])) * Sum(widen(b.column[i % 2].at[k]));
  }

  // With k along the rows: see TensorCore.
  static constexpr int kPixels = kStep, kOwn = kStep, kPad = 16;

  static __device__ __forceinline__ int own_pixel(int, int i) { return i; }
  template <int PITCH>
  static __device__ __forceinline__ int a_place(int lane) {
    return lane / 4 * static_cast<int>(sizeof(T));
  }
  static __device__ __forceinline__ int b_place(int lane) { return lane % 4 * 2 * static_cast<int>(sizeof(T)); }
  template <int PITCH>
  static __device__ __forceinline__ void load_a_of_pixels(A& a, SharedAddress mine) {
#pragma unroll
    for (int k = 0; k < kStep; ++k)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        a.row[i].at[k] = *static_cast<const T*>(shared_pointer(mine + k * PITCH + i * 8 * sizeof(T)));
  }
  static __device__ __forceinline__ void load_b_of_pixels(B (&b)[2], const SharedAddress (&mine)[kOwn]) {
#pragma unroll
    for (int k = 0; k < kStep; ++k)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const Vector<T, 2> v = load<T, 2>(static_cast<const T*>(shared_pointer(mine[k] + j * 8 * sizeof(T))));
        b[j].column[0].at[k] = v.at[0], b[j].column[1].at[k] = v.at[1];
      }
  }
};

}  // namespace stylegan_ops::cuda
