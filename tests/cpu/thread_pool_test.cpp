// SPDX-License-Identifier: Apache-2.0
#if !defined(__wasi__)  // where there are no threads
#include "nibble/cpu/thread_pool.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "nibble/codec/quantize.hpp"
#include "nibble/cpu/products.hpp"
#include "support/catch.hpp"

using namespace nibble;

namespace {

using range = std::pair<std::uint64_t, std::uint64_t>;

/// The ranges of a call, in their order.
std::vector<range> ranges_of(cpu::thread_pool& pool, std::uint64_t n, std::uint64_t granule) {
    std::mutex mutex;
    std::vector<range> all;
    pool.for_ranges(n, granule, [&](std::uint64_t first, std::uint64_t last) {
        const std::lock_guard lock(mutex);
        all.emplace_back(first, last);
    });
    std::sort(all.begin(), all.end());
    return all;
}

/// A model's layers: each reads what all threads wrote into the one before.
bool layers_are_right(cpu::thread_pool& pool, std::uint64_t n, int n_layers) {
    std::vector<int> from(n, 0);
    std::vector<int> to(n);
    for (int layer = 0; layer < n_layers; ++layer) {
        pool.for_ranges(n, 4, [&](std::uint64_t first, std::uint64_t last) {
            for (std::uint64_t i = first; i < last; ++i) to[i] = from[n - 1 - i] + 1;
        });
        std::swap(from, to);
    }
    for (const int v : from) {
        if (v != n_layers) return false;
    }
    return true;
}

}  // namespace

TEST_CASE("a pool covers all rows once, by whole granules, with as many ranges as threads", "[cpu][thread_pool]") {
    for (const std::size_t n_threads : {1u, 2u, 3u, 8u}) {
        cpu::thread_pool pool(n_threads);
        CHECK(pool.size() == n_threads);
        for (const std::uint64_t n : {1u, 15u, 16u, 17u, 48u, 100u, 4096u, 14336u}) {
            for (const std::uint64_t granule : {1u, 16u}) {
                INFO(n_threads << " threads, " << n << " rows, granule " << granule);
                const auto all = ranges_of(pool, n, granule);
                CHECK(all.size() == std::min<std::uint64_t>(n_threads, (n + granule - 1) / granule));
                std::uint64_t next = 0;
                std::uint64_t least = n;
                std::uint64_t most = 0;
                for (const auto& [first, last] : all) {
                    CHECK(first == next);
                    CHECK(first < last);
                    CHECK(first % granule == 0);
                    least = std::min(least, last - first);
                    most = std::max(most, last - first);
                    next = last;
                }
                CHECK(next == n);
                CHECK(most - least < 2 * granule);
            }
        }
    }
}

TEST_CASE("no rows, no call; and a pool that has nothing to do ends", "[cpu][thread_pool]") {
    cpu::thread_pool pool(3);
    CHECK(ranges_of(pool, 0, 16).empty());
    CHECK(cpu::thread_pool().size() >= 1);
}

TEST_CASE("many tiny calls see each other's results, with pauses in which the pool falls asleep too", "[cpu][thread_pool]") {
    cpu::thread_pool pool(4);
    CHECK(layers_are_right(pool, 64, 20000));
    for (int i = 0; i < 20; ++i) {
        std::this_thread::sleep_for(std::chrono::microseconds(500));
        CHECK(layers_are_right(pool, 640, 3));
    }
}

TEST_CASE("several threads share a pool", "[cpu][thread_pool]") {
    cpu::thread_pool pool(3);
    std::atomic<int> right{0};
    std::vector<std::thread> callers;
    for (int c = 0; c < 3; ++c) callers.emplace_back([&] { right += layers_are_right(pool, 64, 3000) ? 1 : 0; });
    for (auto& c : callers) c.join();
    CHECK(right == 3);
}

TEST_CASE("work may call the pool again: all of that is done in its own thread", "[cpu][thread_pool]") {
    cpu::thread_pool pool(3);
    std::atomic<std::uint64_t> rows{0};
    std::atomic<int> elsewhere{0};
    pool.for_ranges(96, 16, [&](std::uint64_t first, std::uint64_t last) {
        const auto self = std::this_thread::get_id();
        pool.for_ranges((last - first) * 100, 16, [&](std::uint64_t a, std::uint64_t b) {
            rows += b - a;
            elsewhere += std::this_thread::get_id() == self ? 0 : 1;
        });
    });
    CHECK(rows == 9600);
    CHECK(elsewhere == 0);
    CHECK(ranges_of(pool, 96, 16).size() == 3);
}

TEST_CASE("threads work at the same time", "[cpu][thread_pool]") {
    cpu::thread_pool pool(2);
    std::atomic<int> arrived{0};
    pool.for_ranges(2, 1, [&](std::uint64_t, std::uint64_t) {
        ++arrived;
        while (arrived != 2) std::this_thread::yield();
    });
    CHECK(arrived == 2);
}

TEST_CASE("a product through the pool is the product without", "[cpu][thread_pool]") {
    constexpr std::uint64_t n = 200;
    constexpr std::uint64_t k = 512;
    constexpr std::uint64_t m = 5;
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    std::vector<float> values(n * k);
    for (auto& v : values) v = normal(random);
    std::vector<float> x(m * k);
    for (auto& v : x) v = normal(random);
    const auto q = quantize<q4f16_1>(values, {n, k});
    REQUIRE(q.has_value());
    const cpu::matrix w{{q->planes[0].data(), q->planes[1].data()}, n, k};

    struct free_aligned {
        void operator()(std::byte* p) const { std::free(p); }
    };
    const std::unique_ptr<std::byte, free_aligned> prepared(static_cast<std::byte*>(std::aligned_alloc(64, cpu::prepared_bytes<q4f16_1>(m, k))));
    const auto& table = cpu::products();
    const auto gemm = table.gemm<cpu::int8, q4f16_1>();
    table.prepare<cpu::int8, q4f16_1>()(x.data(), k, m, k, prepared.get());
    std::vector<float> expected(m * n);
    gemm(w, prepared.get(), m, 0, n, expected.data(), n);
    cpu::thread_pool pool(3);
    std::vector<float> y(m * n);
    pool.for_ranges(n, 16, [&](std::uint64_t first, std::uint64_t last) { gemm(w, prepared.get(), m, first, last, y.data(), n); });
    CHECK(y == expected);
    CHECK(y[0] != 0.0F);
}
#endif
