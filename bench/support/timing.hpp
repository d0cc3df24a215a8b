// SPDX-License-Identifier: Apache-2.0
#pragma once
// Two clocks.

#include <chrono>
#include <ctime>

namespace bench {

/// By the clock on the wall: what several threads are timed by.
template <class F>
double wall_seconds(F&& f) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}
/// Processor time of all threads of the process: what one thread is timed by, as other programs that take the processor away do not count.
template <class F>
double cpu_seconds(F&& f) {
    const auto now = [] {
        timespec t{};
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
    };
    const double begin = now();
    f();
    return now() - begin;
}

}  // namespace bench
