#include "demodulation.cuh"

namespace stylegan_ops::cuda {

void launch_demodulation(const DemodulationParams& p, Stream stream) {
  by_dtype(p.dtype, [&](auto t) {
    launch("demodulation", demodulation_kernel<decltype(t)>, dim3(static_cast<unsigned>(p.out_channels)),
           dim3(kDemodulationThreads), 0, stream, p);
  });
}

void launch_modulation(const ModulationParams& p, Stream stream) {
  int64_t most = 1;
  for (int64_t l = 0; l < p.layers; ++l) most = std::max(most, p.layer[l].out_channels);
  const dim3 grid(static_cast<unsigned>(ceil_div(most, kModulationWarps)), static_cast<unsigned>(p.layers));
  const auto kernel = p.dtype == DType::kFloat64 ? modulation_kernel<double> : modulation_kernel<float>;
  launch("modulation", kernel, grid, dim3(kModulationWarps * kWarp), 0, stream, p);
}

}  // namespace stylegan_ops::cuda
