// The small kernels that test the executor itself, by name.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "host_executor.h"

using TestKernel = void (*)(unsigned* x, int n);
const std::map<std::string, TestKernel>& test_kernels();
