// Runs CUDA kernels on the host: a C++ compiler takes the same csrc/cuda/*.cuh as nvcc, with this in place of CUDA's
// headers. One fiber is one CUDA thread; the blocks of a grid run one after another.
//
// A thread runs until it meets a collective (barrier, shuffle, vote), and waits there for the others, so that threads
// are as far apart as the program allows. The order of blocks and threads is a setting: a kernel whose result depends
// on it has a race. Shared memory is NaN when a block starts; what never completes, wrong addresses (guarded.h) and
// arguments that hardware refuses are errors that name kernel, block and thread.
//
// Shared variables are thread_local (there is one thread), so that those of all kernels lie together in their library's
// block of thread-local storage, which is filled before each block. That library must have no other ones.
#pragma once

#include "collectives.h"
#include "grid.h"

namespace host_executor {

// The thread-local storage of the library that holds the kernel: its shared variables.
struct Storage {
  void* data = nullptr;
  size_t bytes = 0;
};
inline Storage shared_variables(const void* kernel) {
  struct Search {
    uintptr_t kernel;
    size_t module, bytes;
  } search{reinterpret_cast<uintptr_t>(kernel), 0, 0};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        Search& s = *static_cast<Search*>(data);
        bool here = false;
        size_t bytes = 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& segment = info->dlpi_phdr[i];
          if (segment.p_type == PT_LOAD) here |= s.kernel - info->dlpi_addr - segment.p_vaddr < segment.p_memsz;
          if (segment.p_type == PT_TLS) bytes = segment.p_memsz;
        }
        if (here) s.module = info->dlpi_tls_modid, s.bytes = bytes;
        return int(here);
      },
      &search);
  if (search.bytes == 0) return {};
  extern void* thread_local_address(size_t*) asm("__tls_get_addr");  // allocates the storage where need be
  size_t index[2] = {search.module, 0};
  return {thread_local_address(index), search.bytes};
}

// Where a fiber starts.
inline void run_thread() {
  Thread& t = *grid.current;
  t.fiber.entered();
  grid.body();
  t.state = Thread::kDone;
  const int warp = linear_index(t) / warpSize;
  grid.alive[warp] &= ~(1u << lane());
  for (int l = 0; l < warpSize; ++l)  // the others no longer wait for this one
    if (grid.meeting[warp] >> l & 1) complete_meeting(warp, grid.threads[warp * warpSize + l]->meeting);
  t.fiber.leave(true);
}

// Nobody can go on: says who waits for whom.
[[noreturn]] inline void fail_for_waiting() {
  for (int i = 0; i < grid.size; ++i) {
    Thread* t = grid.threads[i].get();
    if (t->state != Thread::kWaiting) continue;
    std::string message = text(*t) + "waits for ever in " + text(t->meeting);
    for (int j = 0; j < grid.size; ++j) {
      Thread* other = grid.threads[j].get();
      const bool meant =
          t->meeting.mask == 0 || (i / warpSize == j / warpSize && (t->meeting.mask >> j % warpSize & 1));
      const bool ended = other->state == Thread::kDone;
      if (!meant || (ended && t->meeting.mask != 0) || (!ended && same(t->meeting, other->meeting))) continue;
      message += "; thread " + text(other->index) + (ended ? " has ended" : " waits in " + text(other->meeting));
      break;
    }
    throw std::runtime_error(message);
  }
  std::abort();
}

// A permutation of [0, n) as the settings want it.
inline void arrange(std::vector<uint32_t>& order, size_t n, std::mt19937_64& random) {
  order.resize(n);
  for (size_t i = 0; i < n; ++i) order[i] = settings.order == Order::kReverse ? n - 1 - i : i;
  if (settings.order == Order::kRandom) std::shuffle(order.begin(), order.end(), random);
}

inline void run_block(std::vector<uint32_t>& order, std::mt19937_64& random) {
  for (int i = 0; i < grid.size; ++i) {
    Thread& t = *grid.threads[i];
    t.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    t.state = Thread::kReady;
    t.copies.clear();
    t.groups = 0;
    t.fiber.start(run_thread);
  }
  grid.arrived = grid.yes = 0;
  grid.meeting.fill(0);
  for (int warp = 0; warp < 32; ++warp) {
    const int lanes = std::clamp(grid.size - warp * warpSize, 0, warpSize);
    grid.alive[warp] = lanes == 0 ? 0 : kFullMask >> (warpSize - lanes);
  }
  arrange(order, grid.size, random);
  for (bool all_done = false; !all_done;) {
    bool progress = false;
    all_done = true;
    for (uint32_t i : order) {
      Thread& t = *grid.threads[i];
      if (t.state == Thread::kReady) {
        progress = true;
        threadIdx = t.index;
        grid.current = &t;
        t.fiber.resume();
        grid.current = nullptr;
        if (!grid.error.empty()) throw std::runtime_error(grid.error);
      }
      all_done &= t.state == Thread::kDone;
    }
    if (!progress && !all_done) fail_for_waiting();
    if (settings.order == Order::kRandom) std::shuffle(order.begin(), order.end(), random);
  }
}

inline void check_limits(dim3 blocks, dim3 block, size_t shared_bytes) {
  const auto check = [](bool good, const std::string& what, uint64_t got) {
    if (!good) fail(what + " (got " + std::to_string(got) + ")");
  };
  check(blocks.x >= 1 && blocks.x <= 0x7fffffffu, "gridDim.x must be 1 to 2147483647", blocks.x);
  check(blocks.y >= 1 && blocks.y <= 65535, "gridDim.y must be 1 to 65535", blocks.y);
  check(blocks.z >= 1 && blocks.z <= 65535, "gridDim.z must be 1 to 65535", blocks.z);
  check(block.x >= 1 && block.x <= 1024, "blockDim.x must be 1 to 1024", block.x);
  check(block.y >= 1 && block.y <= 1024, "blockDim.y must be 1 to 1024", block.y);
  check(block.z >= 1 && block.z <= 64, "blockDim.z must be 1 to 64", block.z);
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  check(threads <= 1024, "a block must have at most 1024 threads", threads);
  const size_t most = settings.shared_bytes;
  check(shared_bytes <= most, "a block must have at most " + std::to_string(most) + " bytes of shared memory",
        shared_bytes);
}

inline void run_grid(const char* name, const void* kernel, dim3 blocks, dim3 block, size_t shared_bytes,
                     std::function<void()> body) {
  grid.name = name;
  grid.current = nullptr;
  check_limits(blocks, block, shared_bytes);
  launched.push_back({kernel, blocks});
  if (settings.order == Order::kNone) return;
  gridDim = blocks;
  blockDim = block;
  grid.size = block.x * block.y * block.z;
  grid.body = std::move(body);
  grid.error.clear();
  while (grid.threads.size() < size_t(grid.size)) grid.threads.push_back(std::make_unique<Thread>());

  const Storage variables = shared_variables(kernel);
  const Buffer shared("dynamic shared memory", shared_bytes, Placement::kEnd);
  grid.shared = shared.data();
  std::mt19937_64 random(settings.seed);
  std::vector<uint32_t> block_order, thread_order;
  arrange(block_order, size_t(blocks.x) * blocks.y * blocks.z, random);
  const FaultHandler handler;
  if (sigsetjmp(grid.fault, 1) != 0) {
    grid.current = nullptr;
    for (auto& t : grid.threads) t->fiber.forget();
    throw std::runtime_error(grid.error);
  }
  for (const uint32_t b : block_order) {
    blockIdx = {b % blocks.x, b / blocks.x % blocks.y, b / blocks.x / blocks.y};
    if (variables.bytes > 0) std::memset(variables.data, 0xFF, variables.bytes);
    if (shared_bytes > 0) std::memset(shared.data(), 0xFF, shared_bytes);
    try {
      run_block(thread_order, random);
    } catch (...) {
      for (auto& t : grid.threads) t->fiber.forget();
      throw;
    }
  }
  for (Buffer* b : Buffer::all())
    if (const std::string damage = b->damage(); !damage.empty()) fail(damage);
}

// Runs kernel(args...) for every thread of the grid, as <<<grid, block, shared_bytes>>> does.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 blocks, dim3 block, size_t shared_bytes,
            const Arguments&... args) {
  run_grid(name, reinterpret_cast<const void*>(kernel), blocks, block, shared_bytes,
           [&] { kernel(static_cast<Parameters>(args)...); });
}

}  // namespace host_executor

#include "intrinsics.h"
