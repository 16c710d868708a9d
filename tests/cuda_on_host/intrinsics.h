// CUDA's functions for the host: barriers, shuffles, votes, atomics, and the arithmetic that C++ lacks. Each collective
// has as last argument the place it is called from, for the errors.
#pragma once

// 1. Barriers

inline void __syncthreads(host_executor::Where where = host_executor::Where::current()) {
  host_executor::barrier("__syncthreads", false, where);
}
inline int __syncthreads_count(int predicate, host_executor::Where where = host_executor::Where::current()) {
  return host_executor::barrier("__syncthreads_count", predicate != 0, where);
}
inline int __syncthreads_and(int predicate, host_executor::Where where = host_executor::Where::current()) {
  return host_executor::barrier("__syncthreads_and", predicate != 0, where) == host_executor::grid.size;
}
inline int __syncthreads_or(int predicate, host_executor::Where where = host_executor::Where::current()) {
  return host_executor::barrier("__syncthreads_or", predicate != 0, where) > 0;
}
inline void __syncwarp(unsigned mask = host_executor::kFullMask,
                       host_executor::Where where = host_executor::Where::current()) {
  host_executor::exchange("__syncwarp", mask, char(), where);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// 2. Warps

template <typename T>
T __shfl_sync(unsigned mask, T v, int source, int width = warpSize,
              host_executor::Where where = host_executor::Where::current()) {
  const int first = host_executor::lane() & -width;
  return host_executor::exchange("__shfl_sync", mask, v, where).at(first + (source & (width - 1)));
}

template <typename T>
T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = warpSize,
                 host_executor::Where where = host_executor::Where::current()) {
  const int lane = host_executor::lane(), first = lane & -width, source = lane - int(delta);
  return host_executor::exchange("__shfl_up_sync", mask, v, where).at(source < first ? lane : source);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = warpSize,
                   host_executor::Where where = host_executor::Where::current()) {
  const int lane = host_executor::lane(), end = (lane & -width) + width, source = lane + int(delta);
  return host_executor::exchange("__shfl_down_sync", mask, v, where).at(source < end ? source : lane);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T v, int bits, int width = warpSize,
                  host_executor::Where where = host_executor::Where::current()) {
  const int lane = host_executor::lane(), end = (lane & -width) + width, source = lane ^ bits;
  return host_executor::exchange("__shfl_xor_sync", mask, v, where).at(source < end ? source : lane);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              host_executor::Where where = host_executor::Where::current()) {
  const auto all = host_executor::exchange("__ballot_sync", mask, predicate != 0, where);
  unsigned ballot = 0;
  for (int l = 0; l < warpSize; ++l)
    if (all.present >> l & 1) ballot |= unsigned(all.value[l]) << l;
  return ballot;
}
inline int __any_sync(unsigned mask, int predicate, host_executor::Where where = host_executor::Where::current()) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, host_executor::Where where = host_executor::Where::current()) {
  return __ballot_sync(mask, predicate == 0, where) == 0;
}
inline unsigned __activemask() { return 1u << host_executor::lane(); }  // all that a program may rely on

// 3. Atomics: one thread runs at a time

template <typename T>
T atomicAdd(T* p, T v) {
  const T before = *p;
  *p = before + v;
  return before;
}
template <typename T>
T atomicMax(T* p, T v) {
  const T before = *p;
  if (v > before) *p = v;
  return before;
}
template <typename T>
T atomicMin(T* p, T v) {
  const T before = *p;
  if (v < before) *p = v;
  return before;
}
template <typename T>
T atomicExch(T* p, T v) {
  return std::exchange(*p, v);
}
template <typename T>
T atomicCAS(T* p, T expected, T v) {
  const T before = *p;
  if (before == expected) *p = v;
  return before;
}

// 4. Memory hints

template <typename T>
T __ldg(const T* p) {
  host_executor::check_aligned(p, alignof(T));
  return *p;
}
template <typename T>
T __ldcs(const T* p) {
  return __ldg(p);
}
template <typename T>
T __ldcg(const T* p) {
  return __ldg(p);
}
template <typename T>
void __stcs(T* p, T v) {
  host_executor::check_aligned(p, alignof(T));
  *p = v;
}
template <typename T>
void __stcg(T* p, T v) {
  __stcs(p, v);
}

// 5. Arithmetic

template <typename A, typename B>
  requires std::is_arithmetic_v<A> && std::is_arithmetic_v<B>
constexpr auto min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>)
    return T(std::fmin(T(a), T(b)));
  else
    return T(b) < T(a) ? T(b) : T(a);
}
template <typename A, typename B>
  requires std::is_arithmetic_v<A> && std::is_arithmetic_v<B>
constexpr auto max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>)
    return T(std::fmax(T(a), T(b)));
  else
    return T(a) < T(b) ? T(b) : T(a);
}

inline float rsqrtf(float v) { return float(1 / std::sqrt(double(v))); }
inline float rsqrt(float v) { return rsqrtf(v); }
inline double rsqrt(double v) { return 1 / std::sqrt(v); }
inline float __expf(float v) { return std::exp(v); }
inline float __logf(float v) { return std::log(v); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float v) { return 1 / v; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __saturatef(float v) { return v > 0 ? (v < 1 ? v : 1) : 0; }

inline int __popc(unsigned v) { return std::popcount(v); }
inline int __clz(int v) { return std::countl_zero(unsigned(v)); }
inline int __ffs(int v) { return v == 0 ? 0 : std::countr_zero(unsigned(v)) + 1; }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) { return uint64_t(static_cast<unsigned __int128>(a) * b >> 64); }
