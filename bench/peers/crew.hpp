// SPDX-License-Identifier: Apache-2.0
#pragma once
// Threads for contestants that bring none of their own.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace peers {

/// A calling thread and n_threads - 1 others, which wait for work by spinning while awake, and in the kernel while asleep.
class crew {
public:
    explicit crew(int n_threads) : n_threads_(n_threads) {
        for (int i = 1; i < n_threads; ++i) threads_.emplace_back([this, i] { follow(i); });
    }
    crew(const crew&) = delete;
    crew& operator=(const crew&) = delete;
    ~crew() {
        ended_ = true;
        wake();
        for (auto& t : threads_) t.join();
    }
    void wake() {
        {
            const std::lock_guard lock(mutex_);
            awake_ = true;
        }
        woken_.notify_all();
    }
    void sleep() { awake_ = false; }

    /// Splits [0, n) into one part for each thread, calls f(first, last) on all, and waits for them.
    void split(std::size_t n, const std::function<void(std::size_t, std::size_t)>& f) {
        const auto threads = static_cast<std::size_t>(n_threads_);
        work_ = [&f, n, threads](std::size_t i) { f(n * i / threads, n * (i + 1) / threads); };
        left_.store(n_threads_ - 1, std::memory_order_relaxed);
        call_.fetch_add(1, std::memory_order_release);
        work_(0);
        while (left_.load(std::memory_order_acquire) != 0) {
        }
    }

private:
    void follow(int i) {
        for (unsigned done = 0;;) {
            while (call_.load(std::memory_order_acquire) == done) {
                if (ended_) return;
                if (!awake_) {
                    std::unique_lock lock(mutex_);
                    woken_.wait(lock, [this] { return awake_.load(); });
                }
            }
            ++done;
            work_(static_cast<std::size_t>(i));
            left_.fetch_sub(1, std::memory_order_release);
        }
    }
    const int n_threads_;
    std::vector<std::thread> threads_;
    std::function<void(std::size_t)> work_;
    std::atomic<unsigned> call_{0};
    std::atomic<int> left_{0};
    std::atomic<bool> awake_{false}, ended_{false};
    std::mutex mutex_;
    std::condition_variable woken_;
};

}  // namespace peers
