#include "demodulation.cuh"

namespace stylegan_ops::cuda {

void launch_demodulation(const DemodulationParams& p, Stream stream) {
  by_dtype(p.dtype, [&](auto t) {
    launch("demodulation", demodulation_kernel<decltype(t)>, dim3(static_cast<unsigned>(p.out_channels)),
           dim3(kDemodulationThreads), 0, stream, p);
  });
}

}  // namespace stylegan_ops::cuda
