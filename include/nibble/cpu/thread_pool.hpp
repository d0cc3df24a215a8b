// SPDX-License-Identifier: Apache-2.0
#pragma once
// Threads for those who have none of their own: kernels take ranges of rows and know nothing of this pool, and a program with threads
// needs none of it. (With a libc older than glibc 2.34, link Threads::Threads.)
//
//     cpu::thread_pool pool(8);                                                        // hold it: threads are made once
//     pool.for_ranges(w.n, 16, [&](std::uint64_t first, std::uint64_t last) { gemv(w, x, first, last, y); });

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace nibble::cpu {

/// Threads that share ranges of work, for those who have none of their own.
class thread_pool {
public:
    /// The calling thread and n_threads - 1 others; 0 means as many as the machine has. The system must be able to give so many.
    explicit thread_pool(std::size_t n_threads = 0) : slots_(n_threads != 0 ? n_threads : hardware_threads()) {
        threads_.reserve(slots_.size() - 1);
        for (std::size_t i = 1; i < slots_.size(); ++i) threads_.emplace_back([this, i] { follow(i); });
    }
    thread_pool(const thread_pool&) = delete;
    thread_pool& operator=(const thread_pool&) = delete;
    /// No call may be under way.
    ~thread_pool() {
        ended_ = true;
        call_.fetch_add(1, std::memory_order_release);
        call_.notify_all();
        for (auto& t : threads_) t.join();
    }

    /// Threads that share a call, the caller's among them.
    [[nodiscard]] std::size_t size() const { return slots_.size(); }

    /// Calls f(first, last) on contiguous ranges that make up [0, n), at most one for each thread, and returns when all are done. Ranges
    /// begin at multiples of `granule` (at least 1), so that tiles of that many rows stay whole; 16 suits every product. A thread gets the
    /// same range in each call of the same n, unless another was sooner there. f must not throw. It may be called on several threads at once.
    /// Calls from several threads are served one after another; a call from within f does all of its work in the thread that makes it.
    template <class F>
    void for_ranges(std::uint64_t n, std::uint64_t granule, F&& f) {
        if (n == 0) return;
        if (n <= granule || slots_.size() == 1 || !enter()) {
            f(std::uint64_t{0}, n);
            return;
        }
        auto run = [&f](std::uint64_t first, std::uint64_t last) { f(first, last); };
        job_ = {[](void* to, std::uint64_t first, std::uint64_t last) noexcept { (*static_cast<decltype(run)*>(to))(first, last); }, &run, n, granule};
        left_.store(static_cast<std::uint32_t>(slots_.size()), std::memory_order_relaxed);
        const std::uint32_t call = call_.load(std::memory_order_relaxed) + 1;
        call_.store(call, std::memory_order_release);
        call_.notify_all();
        work(0, call);
        for (std::uint32_t left = left_.load(std::memory_order_acquire); left != 0; left = left_.load(std::memory_order_acquire)) wait_for_change(left_, left);
        leave();
    }

private:
    using counter = std::atomic<std::uint32_t>;
    /// Which call last took this part. A part is taken by its own thread, or by one that has nothing left to do.
    struct alignas(64) slot {
        counter taken{0};
    };
    struct job {
        void (*run)(void*, std::uint64_t, std::uint64_t) noexcept = nullptr;
        void* to = nullptr;
        std::uint64_t n = 0;
        std::uint64_t granule = 1;
    };

    static std::size_t hardware_threads() {
        const unsigned n = std::thread::hardware_concurrency();
        return n == 0 ? 1 : n;
    }
    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }
    /// Spins for some time, as the next layer of a model comes soon, then sleeps.
    static void wait_for_change(const counter& c, std::uint32_t old) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
        do {
            for (int i = 0; i < 32; ++i) {
                if (c.load(std::memory_order_acquire) != old) return;
                pause();
            }
        } while (std::chrono::steady_clock::now() < end);
        c.wait(old, std::memory_order_acquire);
    }

    /// Waits until the pool is free, and takes it; false within f.
    bool enter() {
        const auto self = std::this_thread::get_id();
        while (busy_.exchange(1, std::memory_order_acquire) != 0) {
            if (caller_.load(std::memory_order_relaxed) == self) return false;
            for (const auto& t : threads_) {
                if (t.get_id() == self) return false;
            }
            busy_.wait(1, std::memory_order_relaxed);
        }
        caller_.store(self, std::memory_order_relaxed);
        return true;
    }
    void leave() {
        caller_.store({}, std::memory_order_relaxed);
        busy_.store(0, std::memory_order_release);
        busy_.notify_one();
    }

    /// All parts of a call that nobody has taken yet. One who comes late finds them taken, and so never reads the job of another call:
    /// a job stays as it is until all of its parts are done.
    void work(std::size_t self, std::uint32_t call) {
        for (std::size_t i = 0; i < slots_.size(); ++i) {
            const std::size_t part = (self + i) % slots_.size();
            std::uint32_t before = call - 1;
            if (!slots_[part].taken.compare_exchange_strong(before, call, std::memory_order_relaxed)) continue;
            const std::uint64_t n_granules = job_.n / job_.granule + (job_.n % job_.granule != 0 ? 1 : 0);
            const std::uint64_t first = begin_of(part, n_granules);
            const std::uint64_t last = begin_of(part + 1, n_granules);
            if (first != last) job_.run(job_.to, first * job_.granule, last == n_granules ? job_.n : last * job_.granule);
            if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) left_.notify_one();
        }
    }
    [[nodiscard]] std::uint64_t begin_of(std::uint64_t part, std::uint64_t n_granules) const {
        const std::uint64_t each = n_granules / slots_.size();
        const std::uint64_t more = n_granules % slots_.size();
        return part * each + (part < more ? part : more);
    }
    void follow(std::size_t self) {
        for (std::uint32_t done = 0;;) {
            wait_for_change(call_, done);
            const std::uint32_t call = call_.load(std::memory_order_acquire);
            if (ended_) return;
            if (call != done) work(self, call);
            done = call;
        }
    }

    alignas(64) counter call_{0};
    alignas(64) counter left_{0};
    alignas(64) counter busy_{0};
    std::atomic<std::thread::id> caller_{};
    std::atomic<bool> ended_{false};
    job job_;
    std::vector<slot> slots_;
    std::vector<std::thread> threads_;
};

}  // namespace nibble::cpu
