// SPDX-License-Identifier: Apache-2.0
// nibble beside ggml and ONNX Runtime, in one process on the same data. Contestants take turns: in each round each of them works for some
// milliseconds. Printed are the fastest run of all rounds, and the median of the rounds' medians. One thread is timed by the processor time
// of the process, more threads by the clock on the wall.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "peers/ours.hpp"
#include "peers/problem.hpp"
#include "support/limits.hpp"
#include "support/timing.hpp"
#if defined(NIBBLE_PEER_GGML)
#include "peers/ggml.hpp"
#endif
#if defined(NIBBLE_PEER_ONNXRUNTIME)
#include "peers/onnxruntime.hpp"
#endif

using namespace peers;

namespace {

struct options {
    std::vector<std::string> only;
    int rounds = 5;
    int threads = 1;
    const char* json = nullptr;
    [[nodiscard]] bool wants(const std::string& work) const {
        return only.empty() || std::any_of(only.begin(), only.end(), [&](const auto& o) { return work.find(o) != std::string::npos; });
    }
};

/// What the system calls the processor; nothing where it does not say.
std::string processor() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);)
        if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
    return "";
}
double median(std::vector<double> v) {
    const auto middle = v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2);
    std::nth_element(v.begin(), middle, v.end());
    return *middle;
}

/// What a work is called and how its speed is given: amount / seconds * 1e-9.
struct work {
    std::string name;
    double amount;
    const char* unit;
    std::size_t n_copies;
    bool has_modes;  ///< exact or int8
    std::vector<double> expected;
};

class arena {
public:
    explicit arena(const options& o) : options_(o) {
#if defined(NIBBLE_PEER_GGML)
        ggml_ = ggml_peer::open();
#else
        std::printf("ggml skipped: the build found no sources (bench/peers/fetch.py)\n");
#endif
#if defined(NIBBLE_PEER_ONNXRUNTIME)
        std::string why;
        onnxruntime_ = onnxruntime_peer::open(NIBBLE_PEER_ONNXRUNTIME, o.threads, why);
        if (!onnxruntime_) std::printf("ONNX Runtime skipped: %s\n", why.c_str());
#else
        std::printf("ONNX Runtime skipped: the build found no library (bench/peers/fetch.py)\n");
#endif
        if (o.json != nullptr) {
            json_ = std::fopen(o.json, "w");
            if (json_ == nullptr) {
                std::fprintf(stderr, "cannot write %s\n", o.json);
                std::exit(1);
            }
        }
        std::string about = nibble_peer::version();
#if defined(NIBBLE_PEER_GGML)
        if (ggml_) about += "; " + ggml_->version();
#endif
#if defined(NIBBLE_PEER_ONNXRUNTIME)
        if (onnxruntime_) about += "; " + onnxruntime_->version();
#endif
        about += "; " + std::to_string(o.threads) + (o.threads == 1 ? " thread; " : " threads; ") + std::to_string(o.rounds) +
                 (o.rounds == 1 ? " round" : " rounds");
        std::printf("%s\n", about.c_str());
        if (json_ == nullptr) return;
        next_record();
        std::fprintf(json_, "{\"work\":\"about\",\"contestant\":\"%s\",\"threads\":%d,\"processor\":\"%s\"}", about.c_str(), o.threads, processor().c_str());
    }
    ~arena() {
        if (json_ != nullptr) std::fprintf(json_, "%s]\n", n_records_ == 0 ? "[" : ""), std::fclose(json_);
    }
    arena(const arena&) = delete;
    arena& operator=(const arena&) = delete;

    void roofs() {
        if (!options_.wants("roofs")) return;
        nibble::cpu::thread_pool threads(static_cast<std::size_t>(options_.threads));
        const auto l = bench::measure_limits(nibble::cpu::products().arch, threads, options_.rounds, [this](auto f) { return timed(f); });
        std::printf("roofs: reading memory %.1f GB/s, f32 multiply-add %.0f GFLOP/s, products of bytes %.0f GOP/s\n", l.read * 1e-9, l.fma * 1e-9,
                    l.dot * 1e-9);
        const auto record = [this](const char* what, double speed, const char* unit) {
            if (json_ == nullptr) return;
            next_record();
            std::fprintf(json_, "{\"work\":\"roofs\",\"contestant\":\"%s\",\"threads\":%d,\"speed\":%.2f,\"unit\":\"%s\"}", what, options_.threads,
                         speed * 1e-9, unit);
        };
        record("read", l.read, "GB/s");
        record("fma", l.fma, "GFLOP/s");
        record("dot", l.dot, "GFLOP/s");
    }

    void matmul(std::size_t n, std::size_t k, std::size_t m, bool from_memory) {
        const std::string shape = std::to_string(n) + "x" + std::to_string(k);
        const std::string name = m == 1 ? "gemv " + shape + (from_memory ? " memory" : " cache") : "gemm " + shape + " M=" + std::to_string(m);
        if (!options_.wants(name)) return;
        const weights w = make_weights(n, k);
        const auto x = make_values(m * k, 1);
        work job{name, m == 1 ? static_cast<double>(w.n_bytes()) : 2. * static_cast<double>(m * n * k), m == 1 ? "GB/s" : "GFLOP/s", 1, true, {}};
        if (from_memory) job.n_copies = (std::size_t{200} << 20) / w.n_bytes() + 1;
        expect(job, w, x, m);
        const matmul_problem p{w, x, m, job.n_copies, options_.threads};
        std::vector<contestant> all = nibble_peer::matmuls(p);
        const auto take = [&](std::vector<contestant> more) { std::move(more.begin(), more.end(), std::back_inserter(all)); };
#if defined(NIBBLE_PEER_GGML)
        if (ggml_) take(ggml_->matmuls(p));
#endif
#if defined(NIBBLE_PEER_ONNXRUNTIME)
        if (onnxruntime_) {
            take(onnxruntime_->matmuls(p));
            if (m > 1) take({onnxruntime_->f32_matmul(p)});
        }
#endif
        compare(job, all);
    }

    /// The price of the layout that products read fastest: weights from memory, rearranged once.
    void repack(std::size_t n, std::size_t k) {
        const std::string name = "repack " + std::to_string(n) + "x" + std::to_string(k);
        if (!options_.wants(name)) return;
        const weights w = make_weights(n, k);
        const auto x = make_values(k, 1);
        work job{name, static_cast<double>(w.n_bytes()), "GB/s", (std::size_t{200} << 20) / w.n_bytes() + 1, false, {}};
        expect(job, w, x, 1);
        const matmul_problem p{w, x, 1, job.n_copies, options_.threads};
        std::vector<contestant> all{nibble_peer::repack(p)};
#if defined(NIBBLE_PEER_GGML)
        if (ggml_)
            if (auto c = ggml_->repack(p)) all.push_back(*c);
#endif
        compare(job, all);
    }

    template <class T>
    void quantize(const char* type) {
        static constexpr std::size_t n = 4096;
        static constexpr std::size_t k = 4096;
        const std::string name = std::string("quantize 4096x4096 from ") + type;
        if (!options_.wants(name)) return;
        std::vector<T> source;
        work job{name, static_cast<double>(n * k * sizeof(T)), "GB/s", 1, false, {}};
        for (const float v : make_values(n * k, 0.02F)) {
            source.push_back(nibble::number_cast<T>(v));
            job.expected.push_back(nibble::to_f32(source.back()));
        }
        std::vector<float> decoded(n * k);
        nibble::cpu::thread_pool threads(static_cast<std::size_t>(options_.threads));
        const auto add = [&](std::vector<contestant>& all, const char* who, auto run, auto decode) {
            contestant c;
            c.name = who;
            c.exact = true;
            c.run = [&threads, run](std::size_t) { threads.for_ranges(n, 16, run); };
            c.output = [&decoded, decode] { return decode(), decoded.data(); };
            all.push_back(c);
        };
        std::vector<contestant> all;
        nibble_peer::planes ours{std::vector<std::byte>(n * k / 2), std::vector<std::byte>(n * k / group * 2)};
        add(
            all, "nibble q4f16_1", [&](std::size_t first, std::size_t last) { nibble_peer::quantize(source.data(), first, last, k, ours); },
            [&] { nibble_peer::dequantize(ours, 0, n, k, decoded.data()); });
#if defined(NIBBLE_PEER_GGML)
        std::vector<std::byte> blocks(n * k / group * 18);
        if (ggml_)
            add(
                all, "ggml Q4_0",
                [&](std::size_t first, std::size_t last) {
                    ggml_peer::quantize(source.data() + first * k, last - first, k, blocks.data() + first * k / group * 18);
                },
                [&] { ggml_peer::dequantize(blocks.data(), n * k, decoded.data()); });
#endif
        compare(job, all);
    }

    void dequantize() {
        static constexpr std::size_t n = 4096;
        static constexpr std::size_t k = 4096;
        const std::string name = "dequantize 4096x4096 to f32";
        if (!options_.wants(name)) return;
        const weights w = make_weights(n, k);
        work job{name, static_cast<double>(n * k * 4), "GB/s", 1, false, {}};
        for (std::size_t i = 0; i < n * k; ++i) job.expected.push_back(static_cast<double>(w.at(i)));
        nibble::cpu::thread_pool threads(static_cast<std::size_t>(options_.threads));
        std::vector<contestant> all;
        const auto add = [&](const char* who, std::vector<float>& out, auto run) {
            out.resize(n * k);
            contestant c;
            c.name = who;
            c.exact = true;
            c.run = [&threads, run](std::size_t) { threads.for_ranges(n, 16, run); };
            c.output = [&out] { return out.data(); };
            all.push_back(c);
        };
        std::vector<float> our_out;
        const auto ours = nibble_peer::pack(w);
        add("nibble q4f16_1", our_out, [&](std::size_t first, std::size_t last) { nibble_peer::dequantize(ours, first, last, k, our_out.data()); });
#if defined(NIBBLE_PEER_GGML)
        const auto blocks = ggml_peer::pack(w);
        std::vector<float> ggml_out;
        if (ggml_)
            add("ggml Q4_0", ggml_out, [&](std::size_t first, std::size_t last) {
                ggml_peer::dequantize(blocks.data() + first * k / group * 18, (last - first) * k, ggml_out.data() + first * k);
            });
#endif
#if defined(NIBBLE_PEER_ONNXRUNTIME)
        if (onnxruntime_) {
            all.push_back(onnxruntime_->dequantize(w));
            all.back().exact = true;
        }
#endif
        compare(job, all);
    }

private:
    [[nodiscard]] double timed(const std::function<void()>& f) const { return options_.threads == 1 ? bench::cpu_seconds(f) : bench::wall_seconds(f); }

    void next_record() { std::fprintf(json_, "%s\n", n_records_++ == 0 ? "[" : ","); }

    /// The first rows of the product, in f64.
    static void expect(work& job, const weights& w, const std::vector<float>& x, std::size_t m) {
        for (std::size_t j = 0; j < std::min<std::size_t>(m, 2); ++j)
            for (std::size_t r = 0; r < w.n; ++r) {
                double sum = 0;
                for (std::size_t i = 0; i < w.k; ++i) sum += static_cast<double>(w.at(r * w.k + i)) * static_cast<double>(x[j * w.k + i]);
                job.expected.push_back(sum);
            }
    }

    /// Runs all in turns, and prints a line for each.
    void compare(const work& job, const std::vector<contestant>& all) {
        std::vector<std::vector<double>> medians(all.size());
        std::vector<double> fastest(all.size(), 1e9);
        std::vector<std::size_t> next(all.size());
        for (int round = 0; round < options_.rounds; ++round)
            for (std::size_t c = 0; c < all.size(); ++c) {
                const auto times = turn(all[c], job.n_copies, next[c]);
                medians[c].push_back(median(times));
                fastest[c] = std::min(fastest[c], *std::min_element(times.begin(), times.end()));
            }

        for (std::size_t c = 0; c < all.size(); ++c) {
            const auto is_ours = [&](std::size_t d) { return all[d].name.rfind("nibble", 0) == 0; };
            double best_peer = 1e9;
            for (std::size_t d = 0; d < all.size(); ++d)
                if (!is_ours(d) && all[d].exact == all[c].exact && !all[d].reference) best_peer = std::min(best_peer, fastest[d]);
            const double error = relative_error(all[c].output(), job.expected);
            const double speed = job.amount / fastest[c] * 1e-9;
            std::printf("%-30s %-34s %-5s %9.1f us (median %9.1f) %7.1f %-7s error %.1e", job.name.c_str(), all[c].name.c_str(),
                        !job.has_modes ? ""
                        : all[c].exact ? "exact"
                                       : "int8",
                        fastest[c] * 1e6, median(medians[c]) * 1e6, speed, job.unit, error);
            if (is_ours(c) && best_peer < 1e9) std::printf("  %.2f x the best peer", best_peer / fastest[c]);
            std::printf("\n");
            std::fflush(stdout);
            if (json_ == nullptr) continue;
            next_record();
            std::fprintf(json_, "{\"work\":\"%s\",\"contestant\":\"%s\",\"exact\":%s,\"threads\":%d,\"best_us\":%.2f,\"median_us\":%.2f,\"speed\":%.2f,",
                         job.name.c_str(), all[c].name.c_str(), all[c].exact ? "true" : "false", options_.threads, fastest[c] * 1e6, median(medians[c]) * 1e6,
                         speed);
            std::fprintf(json_, "\"unit\":\"%s\",\"error\":%.3e}", job.unit, error);
        }
    }

    /// Two runs to warm up, then some milliseconds of runs: seconds a run, of some or of each.
    std::vector<double> turn(const contestant& c, std::size_t n_copies, std::size_t& next) const {
        const auto run = [&] {
            next = (next + 1) % n_copies;
            c.run(next);
        };
        c.wake();
        run();
        const double warm = bench::wall_seconds(run);
        const auto n = static_cast<std::size_t>(std::clamp(0.02 / warm, 3., 200.));
        const std::size_t at_once = options_.threads == 1 ? static_cast<std::size_t>(2e-4 / warm) + 1 : 1;
        std::vector<double> times;
        for (std::size_t i = 0; i < n; ++i) {
            const auto some = [&] {
                for (std::size_t j = 0; j < at_once; ++j) run();
            };
            times.push_back(timed(some) / static_cast<double>(at_once));
        }
        c.sleep();
        // Other libraries' threads spin for a while before they sleep.
        if (options_.threads > 1) std::this_thread::sleep_for(std::chrono::milliseconds(5));
        return times;
    }

    options options_;
#if defined(NIBBLE_PEER_GGML)
    std::optional<ggml_peer> ggml_;
#endif
#if defined(NIBBLE_PEER_ONNXRUNTIME)
    std::optional<onnxruntime_peer> onnxruntime_;
#endif
    std::FILE* json_ = nullptr;
    int n_records_ = 0;
};

options parse(int argc, char** argv) {
    options o;
    for (int i = 1; i < argc; i += 2) {
        const std::string a = argv[i];
        const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
        if (a == "--only" && value != nullptr)
            o.only.push_back(value);
        else if (a == "--rounds" && value != nullptr)
            o.rounds = std::max(1, std::atoi(value));
        else if (a == "--threads" && value != nullptr)
            o.threads = std::max(1, std::atoi(value));
        else if (a == "--json" && value != nullptr)
            o.json = value;
        else {
            std::fprintf(stderr,
                         "nibble_peers_bench [--only PART_OF_A_WORK'S_NAME].. [--rounds 5] [--threads 1] [--json FILE]\n"
                         "works: roofs, gemv NxK memory|cache, gemm NxK M=.., repack NxK, quantize .. from f32|bf16|f16, dequantize .. to f32\n");
            std::exit(2);
        }
    }
    return o;
}

/// Starts the program anew with an allocator that asks for huge pages for everything (glibc 2.35 and later; elsewhere nothing changes):
/// all contestants' weights then lie as those of a mapped and advised file would. A caller who sets GLIBC_TUNABLES has the last word.
void huge_pages(char** argv) {
    if (std::getenv("GLIBC_TUNABLES") != nullptr) return;
    setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432", 1);
    execv("/proc/self/exe", argv);
}

}  // namespace

int main(int argc, char** argv) {
    huge_pages(argv);
    arena b(parse(argc, argv));
    b.roofs();
    for (const bool from_memory : {true, false}) {
        b.matmul(4096, 4096, 1, from_memory);
        b.matmul(14336, 4096, 1, from_memory);
        b.matmul(2048, 640, 1, from_memory);
    }
    for (const std::size_t m : {8U, 32U, 128U, 512U}) b.matmul(4096, 4096, m, false);
    b.repack(4096, 4096);
    b.quantize<float>("f32");
    b.quantize<nibble::bf16>("bf16");
    b.quantize<nibble::f16>("f16");
    b.dequantize();
}
