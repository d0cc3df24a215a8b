// SPDX-License-Identifier: Apache-2.0
#pragma once
// All tables of kernels that a test can reach: those in nibble::kernels that this machine runs,
// or else the one of the test's own flags.

#include <vector>

#include "nibble/cpu/kernels.hpp"

using kernel_table_ref = const nibble::cpu::kernel_table*;

inline std::vector<kernel_table_ref> kernel_tables() {
#if defined(NIBBLE_KERNELS_LINKED)
    const auto tables = nibble::cpu::linked_kernel_tables();
    return {tables.begin(), tables.end()};
#else
    return {&nibble::cpu::header_kernels<>};
#endif
}
