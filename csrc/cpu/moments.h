// Mean and variance of a stream of blocks, without cancellation, and the sums that the derivative of a normalisation
// needs of dy beside them.
//
// A block's sums are taken about a centre near its values, the mean so far (Chan, Golub and LeVeque 1983, "Algorithms
// for computing the sample variance"): with r = sum(u - centre) and s = sum((u - centre)^2), its own mean is
// centre + r/n and its squared deviations are s - r^2/n. The subtraction loses at most n (mean - centre)^2 roundings,
// of which the merged total holds a part of its own as large as n_before / (n_before + n).
#pragma once

#include <array>

#include "block.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

constexpr int kMoments = 4;

// The sums in double of the terms 0 to n - 1 of a block: add(totals, i) adds the i-th terms to numbers, or as many
// terms from i on as they have lanes to vectors.
template <int SUMS, typename A, typename F>
inline std::array<double, SUMS> add_up_all(int n, F&& add) {
  typedef A Vector __attribute__((vector_size(kVectorBytes), aligned(alignof(A)), may_alias));
  constexpr int lanes = kVectorBytes / sizeof(A);
  Vector even[SUMS] = {}, odd[SUMS] = {};
  A rest[SUMS] = {};
  int i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) add(even, i), add(odd, i + lanes);
  for (; i + lanes <= n; i += lanes) add(even, i);
  for (; i < n; ++i) add(rest, i);
  std::array<double, SUMS> sums;
  for (int s = 0; s < SUMS; ++s) {
    A lane[lanes];
    even[s] += odd[s];
    std::memcpy(lane, &even[s], sizeof(lane));
    for (int half = lanes / 2; half > 0; half /= 2)
      for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
    sums[s] = static_cast<double>(lane[0]) + rest[s];
  }
  return sums;
}

// What is known of one channel: of n values u the mean and m2 = sum((u - mean)^2), and where there is dy its sum
// `total` and product = sum(dy (u - mean)).
struct Moments {
  double mean = 0, m2 = 0, total = 0, product = 0;

  // Adds n values to the `before` ones, given as their sums about a centre.
  inline void add(double before, double n, double centre, double first, double second, double dy, double dy_first) {
    const double offset = first / n, own = second - first * offset, step = centre + offset - mean;
    const double share = n / (before + n), moved = step * share;
    m2 += (own < 0 ? 0 : own) + step * moved * before;
    product += dy_first - offset * dy + (step - moved) * dy - moved * total;
    mean += moved;
    total += dy;
  }
};

// y = (u - centre) * slope + offset, to which the backward adds dy * grad: there, y is the gradient of u. The centre is
// the mean as A has it; what it lacks is in the offset.
template <typename A>
struct Factors {
  A centre, slope, offset, grad;

  // inverse = 1 / sqrt(var + eps); the forward has no dy.
  static Factors forward(const Moments& m, double inverse, double scale, double shift) {
    const A centre = static_cast<A>(m.mean);
    const double slope = scale * inverse;
    return {centre, static_cast<A>(slope), static_cast<A>(shift - (m.mean - centre) * slope), 0};
  }
  static Factors backward(const Moments& m, double inverse, double scale, double n) {
    const A centre = static_cast<A>(m.mean);
    const double grad = scale * inverse, slope = -grad * inverse * inverse * m.product / n;
    return {centre, static_cast<A>(slope), static_cast<A>(-grad * m.total / n - (m.mean - centre) * slope),
            static_cast<A>(grad)};
  }
};

}  // namespace
STYLEGAN_OPS_END_VARIANT
