// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the benches of products share: weights of every codec in cache and in memory, and the counters of a product.

#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "nibble/codec/codec.hpp"
#include "nibble/cpu/products.hpp"
#include "support/limits.hpp"
#include "support/timing.hpp"

namespace bench {

/// Of nibble::cpu::product_codecs, in their order.
inline constexpr const char* product_names[] = {"q4f16_1", "packed_q4f16_1", "q4f16_0", "q4f32_1", "packed_q4f32_1", "q4bf16_1", "q4bf16_0",
                                                "q3f16_1", "packed_q3f16_1", "q3f16_0", "q8f16_1", "q0f16",          "q0bf16",   "q0f32"};
static_assert(std::size(product_names) == std::tuple_size_v<nibble::cpu::product_codecs>, "nibble: a codec was added to product_codecs: name it here");
template <class C>
const char* name_of() {
    return product_names[nibble::cpu::detail::index_in<C, nibble::cpu::product_codecs>];
}

/// The tables of each architecture that can be measured here, best first.
inline std::vector<const nibble::cpu::product_table*> product_tables() {
#if defined(NIBBLE_KERNELS_LINKED)
    const auto linked = nibble::cpu::linked_product_tables();
    return {linked.begin(), linked.end()};
#else
    return {&nibble::cpu::header_products<>};
#endif
}

struct dims {
    std::uint64_t n, k;
    [[nodiscard]] std::string text() const { return std::to_string(n) + "x" + std::to_string(k); }
};

/// Memory in huge pages where the system gives them.
class pages {
public:
    explicit pages(std::size_t n_bytes) : n_bytes_(n_bytes) {
        data_ = mmap(nullptr, n_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (data_ == MAP_FAILED) std::abort();
        madvise(data_, n_bytes_, MADV_HUGEPAGE);
    }
    pages(const pages&) = delete;
    pages& operator=(const pages&) = delete;
    ~pages() { munmap(data_, n_bytes_); }
    [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(data_); }

private:
    std::size_t n_bytes_;
    void* data_;
};

/// Copies of one tensor of weights at random, each plane aligned to 64 bytes: enough copies for 200 MiB, or one.
template <class C>
class weight_copies {
public:
    static constexpr std::size_t n_planes = C::planes.size();

    weight_copies(dims d, bool from_memory) : dims_(d) {
        for (std::size_t p = 0; p < n_planes; ++p) {
            const std::size_t size = nibble::groups_of<C>(d.k) * d.n * C::planes[p].per_group * nibble::info(C::planes[p].type).block_bytes;
            at_[p] = stride_;
            n_bytes_ += size;
            stride_ += (size + 63) / 64 * 64;
        }
        n_copies_ = from_memory ? (std::size_t{200} << 20) / stride_ + 1 : 1;
        memory_ = std::make_unique<pages>(n_copies_ * stride_);
        std::mt19937 random(3);
        for (std::size_t p = 0; p < n_planes; ++p) fill(p, random);
        for (std::size_t i = 1; i < n_copies_; ++i) std::memcpy(memory_->data() + i * stride_, memory_->data(), stride_);
    }
    /// Of one copy.
    [[nodiscard]] std::size_t n_bytes() const { return n_bytes_; }
    /// Copies in turn.
    nibble::cpu::matrix next() { return view(last_ = (last_ + 1) % n_copies_); }
    /// The bytes of the next copy.
    const std::byte* next_bytes() { return next().planes[0]; }

    /// Of a sample of rows: W x in f64, by the codec's own decoder.
    [[nodiscard]] std::vector<double> expected(const std::vector<std::uint64_t>& rows, const float* x) const {
        const nibble::cpu::matrix w = view(0);
        std::array<const std::byte*, n_planes> planes;
        for (std::size_t p = 0; p < n_planes; ++p) planes[p] = w.planes[p];
        const std::uint64_t n_groups = nibble::groups_of<C>(w.k);
        std::vector<double> y;
        for (const std::uint64_t n : rows) {
            double sum = 0;
            for (std::uint64_t g = 0; g < n_groups; ++g) {
                float values[C::group];
                C::decode(nibble::load_block<C>(planes, n, g, w.n, n_groups), values);
                for (std::uint64_t i = 0; i < C::group && g * C::group + i < w.k; ++i)
                    sum += static_cast<double>(values[i]) * static_cast<double>(x[g * C::group + i]);
            }
            y.push_back(sum);
        }
        return y;
    }

private:
    [[nodiscard]] nibble::cpu::matrix view(std::size_t copy) const {
        nibble::cpu::matrix w{{}, dims_.n, dims_.k};
        for (std::size_t p = 0; p < n_planes; ++p) w.planes[p] = memory_->data() + copy * stride_ + at_[p];
        return w;
    }
    /// Codes are any bits; scales and plain weights are small numbers.
    void fill(std::size_t p, std::mt19937& random) {
        using nibble::encoding;
        const std::size_t size = nibble::info(C::planes[p].type).block_bytes;
        const std::size_t count = nibble::groups_of<C>(dims_.k) * dims_.n * C::planes[p].per_group;
        std::byte* to = memory_->data() + at_[p];
        for (std::size_t i = 0; i < count; ++i, to += size) {
            const auto bits = static_cast<std::uint32_t>(random());
            const float value = 0.01F + static_cast<float>(bits >> 16) * 0x1p-22F;
            const float number = nibble::is_plain<C> && bits % 2 == 0 ? -value : value;
            if (C::planes[p].type == encoding::f32)
                nibble::store(to, number);
            else if (C::planes[p].type == encoding::f16)
                nibble::store(to, nibble::to_f16(number));
            else if (C::planes[p].type == encoding::bf16)
                nibble::store(to, nibble::number_cast<nibble::bf16>(number));
            else
                std::memcpy(to, &bits, std::min<std::size_t>(size, 4));
        }
    }

    dims dims_;
    std::size_t at_[n_planes] = {};
    std::size_t n_bytes_ = 0;
    std::size_t stride_ = 0;
    std::size_t n_copies_ = 1;
    std::size_t last_ = 0;
    std::unique_ptr<pages> memory_;
};

/// The weights of the latest benchmark, kept for the next one if it wants the same.
template <class C>
std::shared_ptr<weight_copies<C>> weights_for(dims d, bool from_memory) {
    static std::string held;
    static std::shared_ptr<void> weights;
    const std::string wanted = std::string(name_of<C>()) + d.text() + (from_memory ? " memory" : " cache");
    if (held != wanted) {
        weights.reset();
        weights = std::make_shared<weight_copies<C>>(d, from_memory);
        held = wanted;
    }
    return std::static_pointer_cast<weight_copies<C>>(weights);
}

/// Relative, in the 2-norm.
inline double error_of(const std::vector<double>& got, const std::vector<double>& expected) {
    double wrong = 0;
    double all = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        wrong += (got[i] - expected[i]) * (got[i] - expected[i]);
        all += expected[i] * expected[i];
    }
    return std::sqrt(wrong / all);
}
/// 64 rows, or all.
inline std::vector<std::uint64_t> sample_of_rows(std::uint64_t n) {
    std::vector<std::uint64_t> rows;
    for (std::uint64_t i = 0; i < 64; ++i)
        if (const std::uint64_t row = i * n / 64; rows.empty() || rows.back() != row) rows.push_back(row);
    return rows;
}

/// Runs each of these in turns, for some 50 ms of the first and at least thrice; the best seconds a run of each, by processor time.
inline std::vector<double> best_seconds(const std::vector<std::function<void()>>& all) {
    std::vector<double> best(all.size(), 1e9);
    std::vector<std::size_t> at_once;
    for (const auto& f : all) {
        f();
        at_once.push_back(static_cast<std::size_t>(2e-4 / wall_seconds(f)) + 1);
    }
    double spent = 0;
    for (int turn = 0; turn < 3 || spent < 0.05; ++turn)
        for (std::size_t i = 0; i < all.size(); ++i) {
            const double t = cpu_seconds([&] {
                for (std::size_t j = 0; j < at_once[i]; ++j) all[i]();
            });
            best[i] = std::min(best[i], t / static_cast<double>(at_once[i]));
            if (i == 0) spent += t;
        }
    return best;
}

/// One product, y = x W^T for m rows of f32, activations prepared in each run; m = 0 is y = W x by gemv. The label names the types and the
/// limit: reading the weights (from where they are), multiply-adds, products of bytes, or, for f32 by bytes, a third of the latter.
template <class Mode, class C>
void product(benchmark::State& state, const nibble::cpu::product_table* table, dims d, std::uint64_t m, bool from_memory) {
    const auto weights = weights_for<C>(d, from_memory);
    const bool one = m == 0;
    if (one) m = 1;
    std::vector<float> x(m * d.k);
    std::mt19937 random(4);
    std::normal_distribution<float> normal;
    for (auto& v : x) v = normal(random);
    std::vector<float> y(m * d.n);
    const pages prepared(nibble::cpu::prepared_bytes<C>(m, d.k));
    const auto prepare = table->prepare<Mode, C>();
    const auto gemv = table->gemv<Mode, C>();
    const auto gemm = table->gemm<Mode, C>();
    const auto run = [&] {
        prepare(x.data(), d.k, m, d.k, prepared.data());
        if (one)
            gemv(weights->next(), prepared.data(), 0, d.n, y.data());
        else
            gemm(weights->next(), prepared.data(), m, 0, d.n, y.data(), d.n);
    };
    float sink = 0.5F;
    double fma_operations = 0;
    double dot_operations = 0;
    constexpr std::size_t short_while = 20'000;
    const operations fma = multiply_adds(table->arch);
    const operations dot = nibble::is_plain<C> ? nullptr : dot_products(table->arch);
    std::vector<std::function<void()>> all{run, [&] { benchmark::DoNotOptimize(stream_read(weights->next_bytes(), weights->n_bytes())); },
                                           [&] { fma_operations = fma == nullptr ? 0 : fma(short_while, sink); },
                                           [&] { dot_operations = dot == nullptr ? 0 : dot(short_while, sink); }};
    for (auto _ : state) {
        const auto best = best_seconds(all);
        benchmark::DoNotOptimize(sink);
        state.SetIterationTime(best[0]);
        const double n_bytes = static_cast<double>(weights->n_bytes());
        const double n_operations = 2 * static_cast<double>(m * d.n * d.k);
        constexpr bool exact = std::is_same_v<Mode, nibble::cpu::exact>;
        const double by_fma = fma_operations / best[2];
        const double by_bytes = dot_operations / best[3] / (exact ? 3 : 1);
        const double compute = n_operations / std::max(by_fma, by_bytes);
        const char* limit = best[1] > compute ? "read" : by_fma > by_bytes ? "fma" : exact ? "dot/3" : "dot";
        state.counters["GB/s"] = n_bytes / best[0] * 1e-9;
        state.counters["GFLOP/s"] = n_operations / best[0] * 1e-9;
        state.counters["of_limit_%"] = 100 * std::max(best[1], compute) / best[0];
        state.SetLabel(std::string("f32 * ") + name_of<C>() + " -> f32, limit " + limit);
    }
    const auto rows = sample_of_rows(d.n);
    std::vector<double> expected;
    std::vector<double> got;
    for (const std::uint64_t r : {std::uint64_t{0}, m - 1}) {
        for (const double v : weights->expected(rows, x.data() + r * d.k)) expected.push_back(v);
        for (const std::uint64_t n : rows) got.push_back(static_cast<double>(y[r * d.n + n]));
    }
    state.counters["error"] = error_of(got, expected);
}

/// Whether the caller chose by --benchmark_filter, or asks for the list: then all are there to choose from, else some that take a minute.
inline bool everything(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        const std::string_view a = argv[i];
        if (a.starts_with("--benchmark_filter") || a.starts_with("--benchmark_list")) return true;
    }
    return false;
}

/// VERB/codec/shape/place/arch/mode for one codec, shape and place: m is that of `product`.
template <class C>
void add_products(const std::string& verb, dims d, std::uint64_t m, bool from_memory, bool all_archs) {
    for (const auto* t : product_tables()) {
        const std::string name = verb + "/" + name_of<C>() + "/" + d.text() + (from_memory ? "/memory/" : "/cache/") + t->arch + "/";
        const auto add = [&](const char* mode, auto* f) {
            benchmark::RegisterBenchmark((name + mode).c_str(), f, t, d, m, from_memory)->UseManualTime()->Iterations(1)->Unit(benchmark::kMicrosecond);
        };
        add("exact", &product<nibble::cpu::exact, C>);
        if constexpr (!nibble::is_plain<C>) add("int8", &product<nibble::cpu::int8, C>);
        if (!all_archs) return;
    }
}

/// f.operator()<C>() for each codec with compiled products.
template <class F>
void for_each_codec(F&& f) {
    [&]<std::size_t... i>(std::index_sequence<i...>) { (f.template operator()<std::tuple_element_t<i, nibble::cpu::product_codecs>>(), ...); }
    (std::make_index_sequence<std::tuple_size_v<nibble::cpu::product_codecs>>{});
}
/// The codec of the benches' defaults, and its repacked layout.
template <class C>
inline constexpr bool is_main = std::is_same_v<C, nibble::q4f16_1> || std::is_same_v<C, nibble::cpu::packed<nibble::q4f16_1>>;

}  // namespace bench
