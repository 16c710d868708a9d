// What the CUDA runtime has to be asked or told only once, remembered without a lock: a launch that repeats an earlier
// one makes no call but the launch. Host only.
#pragma once

#include <atomic>
#include <cstdint>
#include <stdexcept>

namespace stylegan_ops::cuda {

constexpr int kMostDevices = 64;

// A number of each device, never 0, found at its first use. Threads that come at the same time may all look for it.
class PerDevice {
 public:
  template <typename F>
  int operator()(int device, F&& find) {
    std::atomic<int>& slot = known_[device];
    int value = slot.load(std::memory_order_relaxed);
    if (value == 0) slot.store(value = find(), std::memory_order_relaxed);
    return value;
  }

 private:
  std::atomic<int> known_[kMostDevices] = {};
};

// Something that is done for a kernel on a device before its first launch there, and that may be done twice when two
// threads come first. The kernels lie in a table by their addresses; a slot belongs to the first that claims it.
class OncePerKernel {
 public:
  template <typename F>
  void operator()(const void* kernel, int device, F&& act) {
    const uint64_t bit = uint64_t{1} << device;
    std::atomic<uint64_t>& done = slot(kernel).done;
    if (done.load(std::memory_order_acquire) & bit) return;
    act();
    done.fetch_or(bit, std::memory_order_release);
  }

  static constexpr int kSlots = 256;

 private:
  struct Slot {
    std::atomic<const void*> kernel;
    std::atomic<uint64_t> done;  // a bit for each device
  };

  Slot& slot(const void* kernel) {
    const uintptr_t first = reinterpret_cast<uintptr_t>(kernel) / 16;
    for (int i = 0; i < kSlots; ++i) {
      Slot& s = slots_[(first + i) % kSlots];
      const void* owner = s.kernel.load(std::memory_order_relaxed);
      if (owner == nullptr && s.kernel.compare_exchange_strong(owner, kernel)) return s;
      if (owner == kernel) return s;
    }
    throw std::logic_error("stylegan_ops: more kernels than OncePerKernel holds");
  }

  Slot slots_[kSlots] = {};
};

}  // namespace stylegan_ops::cuda
