// How threads meet: the block's barrier and the warp's exchange, of which all collectives are made, and asynchronous
// copies.
#pragma once

#include "grid.h"

namespace host_executor {

inline void wait_for_others(const Meeting& meeting) {
  grid.current->meeting = meeting;
  grid.current->state = Thread::kWaiting;
}

inline bool same(const Meeting& a, const Meeting& b) {
  return a.mask == b.mask && a.where.line() == b.where.line() && std::strcmp(a.what, b.what) == 0 &&
         std::strcmp(a.where.file_name(), b.where.file_name()) == 0;
}

// Waits for all threads of the block; returns for how many the predicate holds.
inline int barrier(const char* what, bool predicate, const Where& where) {
  Thread* me = grid.current;
  wait_for_others({what, where});
  grid.yes += predicate;
  if (++grid.arrived < grid.size) {
    me->fiber.leave();
    return grid.yes_of_all;
  }
  for (int i = 0; i < grid.size; ++i) {
    if (!same(grid.threads[i]->meeting, me->meeting))
      fail("waits in " + text(me->meeting) + ", but thread " + text(grid.threads[i]->index) + " in " +
           text(grid.threads[i]->meeting));
    grid.threads[i]->state = Thread::kReady;
  }
  grid.yes_of_all = grid.yes;
  grid.arrived = grid.yes = 0;
  return grid.yes_of_all;
}

// What each lane of a warp brought to a collective.
template <typename T>
struct Lanes {
  T value[warpSize];
  unsigned present;  // a bit for each lane that came

  const T& at(int lane) const {
    if ((present >> lane & 1) == 0) fail("reads from lane " + std::to_string(lane) + ", which does not take part");
    return value[lane];
  }
};

inline int linear_index(const Thread& t) { return t.index.x + blockDim.x * (t.index.y + blockDim.y * t.index.z); }
inline int lane() { return linear_index(*grid.current) % warpSize; }

// Completes the meeting that a lane of the warp waits in if all its lanes are there. Lanes whose thread has ended, or
// that a short block lacks, are not waited for.
inline void complete_meeting(int warp, const Meeting& meeting) {
  const unsigned present = meeting.mask & grid.alive[warp];
  if ((present & ~grid.meeting[warp]) != 0) return;
  const auto for_lanes = [&](auto&& f) {
    for (unsigned rest = present; rest != 0; rest &= rest - 1)
      f(std::countr_zero(rest), *grid.threads[warp * warpSize + std::countr_zero(rest)]);
  };
  bool all_the_same = true;
  for_lanes([&](int, Thread& t) { all_the_same &= same(t.meeting, meeting); });
  if (!all_the_same) return;
  alignas(16) std::byte brought[warpSize * kMaxExchanged];
  for_lanes([&](int l, Thread& t) { std::memcpy(brought + l * meeting.bytes, t.meeting.mine, meeting.bytes); });
  for_lanes([&](int, Thread& t) {
    std::memcpy(t.meeting.all, brought, warpSize * meeting.bytes);
    t.present = present;
    t.state = Thread::kReady;
  });
  grid.meeting[warp] &= ~present;
}

// Gives every lane of the mask what all of them bring: the basis of each warp collective.
template <typename T>
Lanes<T> exchange(const char* what, unsigned mask, const T& mine, const Where& where = Where::current()) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kMaxExchanged);
  Thread* me = grid.current;
  const int warp = linear_index(*me) / warpSize;
  if ((mask >> lane() & 1) == 0) fail(text(Meeting{what, where, mask}) + ": the mask lacks the calling lane");
  Lanes<T> all;
  wait_for_others({what, where, mask, &mine, all.value, sizeof(T)});
  grid.meeting[warp] |= 1u << lane();
  complete_meeting(warp, me->meeting);
  if (me->state == Thread::kWaiting) me->fiber.leave();
  all.present = me->present;
  return all;
}

// Shared memory and asynchronous copies

inline void* dynamic_shared() { return grid.shared; }

inline void copy(const Thread::Copy& c) {
  std::memcpy(c.to, c.from, c.filled);
  std::memset(static_cast<std::byte*>(c.to) + c.filled, 0, c.bytes - c.filled);
}

// cp.async: the bytes arrive when they are waited for, which is as late as they may. Before sm_80 they are copied here.
inline void copy_async(void* to, const void* from, size_t bytes, size_t filled) {
  check_aligned(to, bytes);
  if (filled > 0) check_aligned(from, bytes);
  const Thread::Copy c{to, from, bytes, filled, grid.current->groups};
  if (settings.architecture >= 80)
    grid.current->copies.push_back(c);
  else
    copy(c);
}
inline void commit_copies() { ++grid.current->groups; }
inline void wait_for_copies(unsigned pending_groups) {  // all but the last `pending_groups` committed ones
  Thread& t = *grid.current;
  std::erase_if(t.copies, [&](const Thread::Copy& c) {
    if (c.group + pending_groups >= t.groups) return false;
    copy(c);
    return true;
  });
}

}  // namespace host_executor
