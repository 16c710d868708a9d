// Asynchronous copies and tensor cores, the other part of device.cuh: each PTX instruction with its twin for a host
// compiler.
//
// A fragment is a warp's share of a matrix: in every 8 x 8 matrix of 16-bit
// elements (8 rows of 16 bytes) lane l holds row l / 4, elements 2 (l % 4) and one more; as 32-bit elements, row l / 4,
// element l % 4. An accumulator c[4] of 16 x 8 holds the rows l / 4 and l / 4 + 8, columns 2 (l % 4) and one more.
#pragma once

#include "device.cuh"

namespace stylegan_ops::cuda {

struct Tf32 {};  // float32 in memory, of which a tensor core reads 10 bits of fraction

#ifdef __CUDACC__

// A place in shared memory: 32 bits on the device, so that adding to it is one instruction.
using SharedAddress = uint32_t;
__device__ __forceinline__ SharedAddress shared_address(const void* p) {
  return static_cast<SharedAddress>(__cvta_generic_to_shared(p));
}
__device__ __forceinline__ void* shared_pointer(SharedAddress a) { return __cvta_shared_to_generic(a); }

// The value, which the compiler may not compute anew: what is the same in all rounds of a loop shall stay in a
// register.
__device__ __forceinline__ int keep(int v) {
  asm volatile("" : "+r"(v));
  return v;
}
__device__ __forceinline__ SharedAddress keep(SharedAddress v) {
  asm volatile("" : "+r"(v));
  return v;
}
template <typename T>
__device__ __forceinline__ T* keep(T* p) {
  asm volatile("" : "+l"(p));
  return p;
}

// Copies 16 bytes into shared memory, or writes zeros where the source is not `there`.
__device__ __forceinline__ void copy_async(SharedAddress to, const void* from, bool there) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
#else
  *static_cast<uint4*>(shared_pointer(to)) = there ? *static_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
#endif
}

__device__ __forceinline__ void copy_async(SharedAddress to, const void* from) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
#else
  *static_cast<uint4*>(shared_pointer(to)) = *static_cast<const uint4*>(from);
#endif
}

// Ends a group of copies.
__device__ __forceinline__ void copy_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until all of the thread's groups but the last PENDING have arrived.
template <int PENDING>
__device__ __forceinline__ void copy_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

// Loads 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void load_matrices(uint32_t (&r)[2], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void load_transposed(uint32_t (&r)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}

// c += a b for a [16, k], b [k, 8], where k elements are 32 bytes. The launchers ask for the types that a device has.
#define STYLEGAN_OPS_MMA(SHAPE_AND_TYPES)                                                                    \
  asm("mma.sync.aligned." SHAPE_AND_TYPES " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                       \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
template <typename T>
__device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<T, __half>)
    STYLEGAN_OPS_MMA("m16n8k16.row.col.f32.f16.f16.f32");
  else if constexpr (std::is_same_v<T, __nv_bfloat16>)
    STYLEGAN_OPS_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
  else
    STYLEGAN_OPS_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
#else
  if constexpr (std::is_same_v<T, __half>) {
#pragma unroll
    for (int k = 0; k < 2; ++k)
      asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
          : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
          : "r"(a[2 * k]), "r"(a[2 * k + 1]), "r"(b[k]));
  } else {
    __trap();
  }
#endif
}
#undef STYLEGAN_OPS_MMA

// The nearest number that a tensor core reads in full.
__device__ __forceinline__ uint32_t round_tf32(uint32_t bits) {
#if __CUDA_ARCH__ >= 800
  asm("cvt.rna.tf32.f32 %0, %0;" : "+r"(bits));
#endif
  return bits;
}

#else

using SharedAddress = uintptr_t;
inline SharedAddress shared_address(const void* p) { return reinterpret_cast<SharedAddress>(p); }
inline void* shared_pointer(SharedAddress a) { return reinterpret_cast<void*>(a); }
template <typename V>
V keep(V v) {
  return v;
}

inline void copy_async(SharedAddress to, const void* from, bool there) {
  host_executor::copy_async(shared_pointer(to), from, 16, there ? 16 : 0);
}
inline void copy_async(SharedAddress to, const void* from) { copy_async(to, from, true); }
inline void copy_commit() { host_executor::commit_copies(); }
template <int PENDING>
void copy_wait() {
  host_executor::wait_for_copies(PENDING);
}

// The 8 elements of a row of a matrix.
struct MatrixRow {
  uint16_t at[8];
};
// The rows that the lanes gave, the first 8 of them for each matrix.
template <int MATRICES>
host_executor::Lanes<MatrixRow> exchange_rows(SharedAddress row) {
  MatrixRow mine{};
  if (host_executor::lane() < 8 * MATRICES) {
    check_aligned<16>(shared_pointer(row));
    mine = *static_cast<const MatrixRow*>(shared_pointer(row));
  }
  return host_executor::exchange("ldmatrix", host_executor::kFullMask, mine);
}
template <int N>
void load_matrices(uint32_t (&r)[N], SharedAddress row) {
  const auto rows = exchange_rows<N>(row);
  const int lane = host_executor::lane(), column = lane % 4 * 2;
  for (int m = 0; m < N; ++m) {
    const MatrixRow& v = rows.at(m * 8 + lane / 4);
    r[m] = v.at[column] | uint32_t(v.at[column + 1]) << 16;
  }
}
template <int N>
void load_transposed(uint32_t (&r)[N], SharedAddress row) {
  const auto rows = exchange_rows<N>(row);
  const int lane = host_executor::lane(), first = lane % 4 * 2, column = lane / 4;
  for (int m = 0; m < N; ++m)
    r[m] = rows.at(m * 8 + first).at[column] | uint32_t(rows.at(m * 8 + first + 1).at[column]) << 16;
}

inline uint32_t round_tf32(uint32_t bits) { return (bits + 0x1000) & ~0x1fffu; }

// Element e of a register of a fragment.
template <typename T>
float fragment_element(uint32_t bits, int e) {
  const uint16_t half = bits >> 16 * e;
  if constexpr (std::is_same_v<T, __half>)
    return widen(__ushort_as_half(half));
  else if constexpr (std::is_same_v<T, __nv_bfloat16>)
    return widen(__ushort_as_bfloat16(half));
  else
    return __uint_as_float(bits & ~0x1fffu);
}

template <typename T>
void multiply_add(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  constexpr int kPacked = std::is_same_v<T, Tf32> ? 1 : 2;
  if (!std::is_same_v<T, __half> && host_executor::settings.architecture < 80)
    host_executor::fail("mma: before sm_80 there is float16 alone");
  struct Fragments {
    uint32_t a[4], b[2];
  };
  const auto all =
      host_executor::exchange("mma", host_executor::kFullMask, Fragments{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
  const int lane = host_executor::lane(), row = lane / 4, column = lane % 4 * 2;
  for (int i = 0; i < 4; ++i)
    for (int half = 0; half < 2; ++half)
      for (int from = 0; from < 4; ++from) {
        const uint32_t left = all.at(row * 4 + from).a[2 * half + i / 2];
        const uint32_t right = all.at((column + i % 2) * 4 + from).b[half];
        for (int e = 0; e < kPacked; ++e) c[i] += fragment_element<T>(left, e) * fragment_element<T>(right, e);
      }
}

#endif

}  // namespace stylegan_ops::cuda
