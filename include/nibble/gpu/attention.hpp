// SPDX-License-Identifier: Apache-2.0
#pragma once
// Attention of new tokens to a cache of keys and values: of one token or a few (decode), of many (prefill).
//
// q and y are [m, heads, head_dim], k_cache and v_cache [kv_heads, capacity, head_dim], all in the type of activations. Token t of a call has the
// position start + t, whose key and value are in the cache already, and attends to the positions up to its own, or to the last `window` of them.
// What the cache holds elsewhere is not read. y = softmax(scores) v with score = scale * (q . k); the host gives start (u32) and scale (f32).
//
// The queries that one head of the cache serves are counted as rows: token * group + query head within the group.

#include <algorithm>
#include <limits>

#include "nibble/gpu/example.hpp"

namespace nibble::gpu {

namespace detail {

// Where a running maximum starts, and the score of a position that is not seen: so far below that its weight is 0 before any other came.
inline constexpr float lowest_score = -1e20F;
inline constexpr float unseen_score = -1e30F;

/// What attention reads, and how rows and positions are found in it.
class attention_reader {
public:
    const u32 group;    ///< query heads that share keys and values
    const u32 vectors;  ///< vectors of four in a head
    real_input<4> q, k_cache, v_cache;
    /// Heads of the cache; where a call is cut along them, those of its part.
    expr<u32> kv_heads;
    expr<u32> rows;

    attention_reader(shader& s, const kernel_spec& spec)
        : group(spec.heads / spec.kv_heads),
          vectors(spec.head_dim / 4),
          q(s, spec.activations, "q", formula::size("m") * (spec.heads * vectors)),
          k_cache(s, spec.activations, "k_cache", formula::size("rows") * formula::size("capacity") * vectors, true),
          v_cache(s, spec.activations, "v_cache", formula::size("rows") * formula::size("capacity") * vectors, true),
          kv_heads(s.parameter<u32>("kv_heads", formula::size("rows"))),
          rows(s.parameter<u32>("n_rows", formula::size("m") * group)),
          spec_(spec),
          start_(s.scalar<u32>("start")),
          scale_(s.scalar<f32>("scale")),
          capacity_(s.size("capacity")),
          first_kv_head_(s.parameter<u32>("first_kv_head", formula::size("first_row"))),
          first_head_(0U),
          first_entry_(0U) {
        s.cut_rows("kv_heads");
        if (spec.sinks) sinks_.emplace(s, spec.activations, "sinks", formula(spec.heads));
    }

    /// Position of a row's token.
    [[nodiscard]] expr<u32> position(const expr<u32>& row) const { return start_ + row / group; }
    /// Turns to a head of the cache, for all that follows.
    void use_head(shader& s, const expr<u32>& kv_head) {
        first_head_ = s.let("first_head", (first_kv_head_ + kv_head) * group);
        first_entry_ = s.let("first_entry", kv_head * capacity_);
    }
    /// The query head of a row, and the number of its query among [m, heads].
    [[nodiscard]] expr<u32> head(const expr<u32>& row) const { return group == 1 ? first_head_ : first_head_ + row % group; }
    [[nodiscard]] expr<u32> query(const expr<u32>& row) const { return row / group * spec_.heads + head(row); }
    /// The first vector of a position in the cache.
    [[nodiscard]] expr<u32> entry(const expr<u32>& at) const { return (first_entry_ + at) * vectors; }

    /// The first position that a token at this one attends to.
    [[nodiscard]] expr<u32> first_seen(const expr<u32>& from) const { return spec_.window == 0 ? expr<u32>(0u) : max(from + 1u, spec_.window) - spec_.window; }
    /// Whether a token at position `from` attends to `key`.
    [[nodiscard]] expr<bool> sees(const expr<u32>& from, const expr<u32>& key) const {
        const auto not_later = key <= from;
        return spec_.window == 0 ? not_later : not_later && key + spec_.window > from;
    }
    /// Scores of products q . k. As in activated(), tanh is only asked for where every driver has it right.
    template <shader_value T>
    [[nodiscard]] expr<T> scores(const expr<T>& products) const {
        if (spec_.soft_cap == 0) return products * scale_;
        return spec_.soft_cap * tanh(clamp(products * (scale_ / spec_.soft_cap), expr<T>(-10.0F), expr<T>(10.0F)));
    }
    /// What a running maximum and a running sum start with: a sink is a score that has come already.
    [[nodiscard]] expr<f32> first_maximum(const expr<u32>& row) const { return sinks_ ? (*sinks_)[head(row)] : expr<f32>(lowest_score); }
    [[nodiscard]] float first_sum() const { return spec_.sinks ? 1.0F : 0.0F; }

private:
    kernel_spec spec_;
    expr<u32> start_;
    expr<f32> scale_;
    expr<u32> capacity_, first_kv_head_;
    expr<u32> first_head_, first_entry_;  // of the cache's head in use
    std::optional<real_input<>> sinks_;
};

/// A call of attention, and what it must give in double.
struct attention_case {
    kernel_spec spec;
    std::size_t m, capacity, start;
    float scale;
    std::vector<float> q, k, v, sinks;
    std::vector<std::vector<std::byte>> buffers;  ///< of q, k_cache, v_cache and sinks

    /// The caches hold NaN at every position that no token of the call attends to. Keys grow along the cache, so that the largest score
    /// changes again and again.
    explicit attention_case(const trial& of)
        : spec(of.spec),
          m(of.size("m")),
          capacity(of.size("capacity")),
          start(of.size("start")),
          scale(static_cast<float>(1.5 / std::sqrt(static_cast<double>(spec.head_dim)))) {
        const std::size_t dim = spec.head_dim;
        q = random_numbers(m * spec.heads * dim, 1);
        k = random_numbers(spec.kv_heads * capacity * dim, 2);
        v = random_numbers(spec.kv_heads * capacity * dim, 3);
        sinks = random_numbers(spec.heads, 4, 3.0);
        for (std::size_t i = 0; i < k.size(); ++i) {
            const std::size_t at = i / dim % capacity;
            k[i] *= 0.5F + static_cast<float>(at) / static_cast<float>(start + m);
            if (at < first_seen(0) || at >= start + m) k[i] = v[i] = std::numeric_limits<float>::quiet_NaN();
        }
        for (auto* numbers : {&q, &k, &v}) buffers.push_back(buffer_of(*numbers, spec.activations));
        if (spec.sinks) buffers.push_back(buffer_of(sinks, spec.activations));
    }
    /// What a kernel is given that reads the cache.
    [[nodiscard]] example with_inputs(const trial& of) const {
        example e;
        e.sizes = of.sizes;
        e.host = {{"start", static_cast<double>(start)}, {"scale", scale}};
        e.buffers = buffers;
        e.tolerance = tolerance_of(spec.activations);
        return e;
    }
    [[nodiscard]] std::size_t first_seen(std::size_t token) const {
        const std::size_t seen = start + token + 1;
        return spec.window == 0 || seen < spec.window ? 0 : seen - spec.window;
    }

    /// exp(score - most) over the positions [first, end) that a token attends to: their sum, and that of the values so weighted.
    struct weighted_sum {
        double most = 0, sum = 0;
        std::vector<double> values;
    };
    [[nodiscard]] weighted_sum attend(std::size_t token, std::size_t head, std::size_t first, std::size_t end, bool with_sink) const {
        const std::size_t dim = spec.head_dim;
        const std::size_t cache = head / (spec.heads / spec.kv_heads) * capacity;
        first = std::max(first, first_seen(token));
        end = std::min(end, start + token + 1);
        std::vector<double> scores;
        for (std::size_t at = first; at < end; ++at) {
            double product = 0;
            for (std::size_t i = 0; i < dim; ++i) {
                product += static_cast<double>(q[(token * spec.heads + head) * dim + i]) * static_cast<double>(k[(cache + at) * dim + i]);
            }
            const double cap = static_cast<double>(spec.soft_cap);
            const double score = product * static_cast<double>(scale);
            scores.push_back(cap == 0 ? score : cap * std::tanh(score / cap));
        }
        weighted_sum of;
        of.values.resize(dim);
        if (with_sink) scores.push_back(static_cast<double>(sinks[head]));
        if (scores.empty()) return of;
        of.most = *std::max_element(scores.begin(), scores.end());
        for (std::size_t j = 0; j < scores.size(); ++j) {
            const double weight = std::exp(scores[j] - of.most);
            of.sum += weight;
            if (first + j >= end) continue;
            for (std::size_t i = 0; i < dim; ++i) of.values[i] += weight * static_cast<double>(v[(cache + first + j) * dim + i]);
        }
        return of;
    }
    /// All of y.
    void add_expected(example& e) const {
        std::vector<double> y;
        for (std::size_t t = 0; t < m; ++t) {
            for (std::size_t h = 0; h < spec.heads; ++h) {
                const auto of = attend(t, h, 0, start + m, spec.sinks);
                for (const double value : of.values) y.push_back(value / of.sum);
            }
        }
        add_output(e, std::move(y), spec.activations);
    }
    static void add_output(example& e, std::vector<double> numbers, scalar type) {
        const std::size_t bytes = numbers.size() * bytes_of(type);
        e.expected.emplace_back(e.buffers.size(), std::move(numbers));
        e.buffers.emplace_back(bytes);
    }
};

/// A trial of attention: the numbers of heads are in the spec, the rest in the sizes.
[[nodiscard]] inline trial attention_trial(std::string label, const kernel_spec& spec, std::uint64_t m, std::uint64_t start, std::uint64_t capacity,
                                           std::uint64_t parts = 1) {
    return {std::move(label), spec, {{"kv_heads", spec.kv_heads}, {"m", m}, {"capacity", capacity}, {"start", start}, {"parts", parts}}};
}
[[nodiscard]] inline kernel_spec attention_spec(u32 heads, u32 kv_heads, u32 head_dim) {
    kernel_spec s;
    s.heads = heads, s.kv_heads = kv_heads, s.head_dim = head_dim;
    return s;
}

}  // namespace detail

/// A token, or a few: every key and value is read once for all query heads of its group, straight from the cache. With spec.split a call has one
/// more size, "parts": each workgroup takes one part of the positions, so that a long cache occupies a whole device, and what comes out is for
/// attention_merge. spec.columns is the number of tokens that a call is expected to have, and may be any. Head dimensions up to 1024.
struct attention_decode {
    static constexpr std::string_view name = "attention_decode";
    static constexpr std::string_view purpose = "y = softmax(scale q K) V for one token or a few";
    static constexpr bool reads_weights = false;

    /// Groups of one head to sixteen, head dimensions that fill a workgroup and that do not, every option, whole calls and parts, some of them empty.
    [[nodiscard]] static std::vector<trial> trials() {
        using detail::attention_spec, detail::attention_trial;
        std::vector<trial> all;
        auto s = attention_spec(8, 2, 128);
        all.push_back(attention_trial("f32, 4 heads a group", s, 1, 77, 96));
        all.push_back(attention_trial("f32, the first token", s, 1, 0, 5));
        s.window = 40;
        s.tune.workgroup = 128;
        all.push_back(attention_trial("f32, window, 128 invocations", s, 1, 150, 151));
        s = attention_spec(3, 3, 96);
        s.columns = 3, s.window = 30, s.soft_cap = 2.0F;
        all.push_back(attention_trial("f32, 3 tokens, window, soft cap", s, 3, 60, 70));
        s = attention_spec(14, 2, 64);
        s.activations = scalar::f16;
        all.push_back(attention_trial("f16, 7 heads a group", s, 1, 100, 128));
        s.soft_cap = 3.0F, s.sinks = true;
        all.push_back(attention_trial("f16, 5 tokens, soft cap, sinks", s, 5, 33, 64));
        s = attention_spec(16, 1, 80);
        s.sinks = true;
        all.push_back(attention_trial("f32, 16 heads a group, sinks", s, 1, 50, 64));
        s = attention_spec(8, 1, 256);
        all.push_back(attention_trial("f32, 8 heads of 256", s, 2, 40, 64));
        s = attention_spec(8, 2, 128);
        s.split = true;
        all.push_back(attention_trial("f32, 3 parts", s, 1, 200, 256, 3));
        s = attention_spec(6, 2, 20);
        s.split = s.sinks = true, s.window = 50, s.columns = 2;
        all.push_back(attention_trial("f32, 6 parts of which some are empty, 2 tokens, window, sinks", s, 2, 90, 100, 6));
        s = attention_spec(4, 2, 64);
        s.split = true, s.activations = scalar::f16, s.tune.workgroup = 256;
        all.push_back(attention_trial("f16, 2 parts, 256 invocations", s, 1, 130, 160, 2));
        return all;
    }

    /// Four lanes share the product of a query and a key; a workgroup computes a tile of them, the weights of that tile, and adds the values
    /// with all its lanes along the head: as many positions at once as there are lanes for.
    [[nodiscard]] static program build(const kernel_spec& spec) {
        shader s(name);
        const shape cut = shape_of(spec);
        const u32 threads = cut.threads, tile = cut.tile, block = cut.block, positions = cut.positions, copies = cut.copies;
        s.about("y = softmax(scale q K) V: " + std::to_string(block) + " queries share each reading of K and V, " + std::to_string(tile) +
                " positions at once");
        s.sizes({"m", "capacity", "kv_heads"});
        if (spec.split) s.sizes({"parts"});
        detail::attention_reader a(s, spec);
        const u32 vectors = a.vectors;
        std::optional<real_output<4>> y;
        std::optional<output_buffer<f32x4>> part_sums;
        std::optional<output_buffer<f32x2>> part_stats;
        const formula n_queries = formula::size("m") * spec.heads;
        if (spec.split) {
            part_sums = s.output<f32x4>("part_sums", n_queries * formula::size("parts") * vectors);
            part_stats = s.output<f32x2>("part_stats", n_queries * formula::size("parts"));
        } else {
            y.emplace(s, spec.activations, "y", n_queries * vectors);
        }
        const formula n_blocks = ceil_div(formula::size("m") * a.group, formula(block));
        const auto blocks = s.parameter<u32>("blocks", n_blocks);
        const auto parts = spec.split ? s.size("parts") : expr<u32>(1u);
        s.grid(threads, formula::size("rows") * n_blocks * (spec.split ? formula::size("parts") : formula(1)));

        auto queries = s.shared<f32x4>("queries", block * vectors * copies);  // [row, vector]
        auto products = s.shared<f32>("products", block * threads);           // [row, position, lane of 4]
        auto scores = s.shared<f32>("scores", block * tile);                  // [row, position]
        auto weights = s.shared<f32>("weights", block * tile);
        auto most = s.shared<f32>("most", block);  // by row: the largest score so far,
        auto next_most = s.shared<f32>("next_most", block);
        auto shrink = s.shared<f32>("shrink", block);  // what it makes of earlier sums,
        auto sums = s.shared<f32>("sums", block);      // and the sum of all weights

        const auto local = s.local_index();
        const auto index = s.let("index", s.workgroup_index());
        s.if_(index >= a.kv_heads * blocks * parts, [&] { s.return_(); });
        a.use_head(s, s.let("kv_head", index % a.kv_heads));
        const auto first_row = s.let("first_row", index / a.kv_heads % blocks * block);
        const auto last_row = s.let("last_row", min(first_row + block, a.rows) - 1u);
        auto first = s.let("first", a.first_seen(a.position(first_row)));
        auto end = s.let("end", a.position(last_row) + 1u);
        const auto last = s.let("last", end - 1u);
        const auto part = spec.split ? s.let("part", index / (a.kv_heads * blocks)) : expr<u32>(0u);
        if (spec.split) {
            // Parts are whole tiles.
            const auto length = s.let("length", (end - first + (parts * tile - 1u)) / (parts * tile) * tile);
            first = s.let("part_first", min(first + part * length, end));
            end = s.let("part_end", min(first + length, end));
        }
        const auto row_of = [&](const expr<u32>& i) { return s.let("row", min(first_row + i, last_row)); };

        s.for_("i", local, block * vectors, threads, [&](const expr<u32>& i) { queries[i] = a.q[a.query(row_of(i / vectors)) * vectors + i % vectors]; });
        auto sum = s.var<f32>("sum", 0.0F);
        s.if_(local < block, [&] {
            auto start = a.first_maximum(row_of(local));
            auto start_sum = expr<f32>(a.first_sum());
            if (spec.sinks && spec.split) {  // a sink comes once: in the first part
                start = select(part == 0u, start, detail::lowest_score);
                start_sum = select(part == 0u, start_sum, 0.0F);
            }
            most[local] = start;
            if (spec.sinks) sum = start_sum;
        });
        const auto lane = s.let("lane", local % vectors);
        const auto slot = s.let("slot", local / vectors);
        std::vector<place<f32x4>> values;
        for (u32 r = 0; r < block; ++r) values.push_back(s.var<f32x4>("values", expr<f32x4>(0.0F)));
        s.barrier();

        s.for_("base", first, end, tile, [&](const expr<u32>& base) {
            const auto own_key = s.let("own_key", a.entry(min(base + local / 4u, last)));
            std::vector<place<f32>> dots;
            for (u32 r = 0; r < block; ++r) dots.push_back(s.var<f32>("qk", 0.0F));
            s.for_("i", local % 4u, vectors, 4u, [&](const expr<u32>& i) {
                const auto k = s.let("k", a.k_cache[own_key + i]);
                for (u32 r = 0; r < block; ++r) dots[r] += dot(queries[i + r * vectors], k);
            });
            for (u32 r = 0; r < block; ++r) products[local + r * threads] = dots[r];
            s.barrier();
            s.for_("i", local, block * tile, threads, [&](const expr<u32>& i) {
                const auto at = s.let("at", a.position(row_of(i / tile)));
                const auto key = s.let("key", base + i % tile);
                const auto qk = s.let("qk", products[i * 4u] + products[i * 4u + 1u] + products[i * 4u + 2u] + products[i * 4u + 3u]);
                scores[i] = select(a.sees(at, key), a.scores(qk), detail::unseen_score);
            });
            s.barrier();
            s.for_("i", local, block * tile, threads, [&](const expr<u32>& i) {
                const auto row = s.let("r", i / tile);
                auto largest = s.var<f32>("largest", most[row]);
                s.for_("j", row * tile, row * tile + tile, 1u, [&](const expr<u32>& j) { largest = max(largest, scores[j]); });
                weights[i] = exp(scores[i] - largest);
                s.if_(i % tile == 0u, [&] {
                    shrink[row] = exp(most[row] - largest);
                    next_most[row] = largest;
                });
            });
            s.barrier();
            for (u32 r = 0; r < block; ++r) values[r] *= shrink[r];
            const auto add_values = [&] {
                s.for_("j", slot, min(end - base, tile), positions, [&](const expr<u32>& j) {
                    const auto v = s.let("v", a.v_cache[a.entry(base + j) + lane]);
                    for (u32 r = 0; r < block; ++r) values[r] += weights[j + r * tile] * v;
                });
            };
            if (positions * vectors == threads)
                add_values();
            else
                s.if_(slot < positions, add_values);
            s.if_(local < block, [&] {
                sum *= shrink[local];
                s.for_("j", local * tile, local * tile + tile, 1u, [&](const expr<u32>& j) { sum += weights[j]; });
                most[local] = next_most[local];
            });
        });

        s.comment("The queries are no longer needed: their place takes the sums.");
        s.if_(local < block, [&] { sums[local] = sum; });
        const u32 n_sums = copies * vectors;  // of a row
        if (copies == positions) {
            s.if_(slot < copies, [&] {
                for (u32 r = 0; r < block; ++r) queries[local + r * n_sums] = values[r];
            });
            s.barrier();
        } else {
            s.for_("i", local, block * n_sums, threads, [&](const expr<u32>& i) { queries[i] = expr<f32x4>(0.0F); });
            s.barrier();
            s.for_("i", 0u, positions, copies, [&](const expr<u32>& i) {
                s.if_(slot >= i && slot < i + copies, [&] {
                    const auto to = s.let("to", local - i * vectors);
                    for (u32 r = 0; r < block; ++r) queries[to + r * n_sums] += values[r];
                });
                s.barrier();
            });
        }
        s.for_("i", local, (last_row - first_row + 1u) * vectors, threads, [&](const expr<u32>& i) {
            const auto query = s.let("query", a.query(s.let("row", first_row + i / vectors)));
            const auto at = s.let("at", i / vectors * n_sums + i % vectors);
            auto total = s.var<f32x4>("total", queries[at]);
            if (copies > 1) {
                s.for_("j", at + vectors, at + n_sums, vectors, [&](const expr<u32>& j) { total += queries[j]; });
            }
            if (spec.split)
                (*part_sums)[(query * parts + part) * vectors + i % vectors] = total;
            else
                y->store(query * vectors + i % vectors, total / sums[i / vectors]);
        });
        if (spec.split) {
            s.if_(first_row + local <= last_row, [&] {
                const auto query = s.let("query", a.query(s.let("row", first_row + local)));
                (*part_stats)[query * parts + part] = vec2(select(sum > 0.0F, expr<f32>(most[local]), expr<f32>(0.0F)), expr<f32>(sum));
            });
        }
        return s.finish();
    }

    [[nodiscard]] static example make_example(const trial& of) {
        const detail::attention_case c(of);
        example e = c.with_inputs(of);
        if (!of.spec.split) {
            c.add_expected(e);
            return e;
        }
        const std::size_t parts = of.size("parts");
        const auto shape = shape_of(of.spec);
        const std::size_t group = of.spec.heads / of.spec.kv_heads;
        std::vector<double> sums, stats;
        for (std::size_t t = 0; t < c.m; ++t) {
            for (std::size_t h = 0; h < of.spec.heads; ++h) {
                // The parts are those of the rows of a workgroup, which may be of several tokens.
                const std::size_t first_row = (t * group + h % group) / shape.block * shape.block;
                const std::size_t first = c.first_seen(first_row / group);
                const std::size_t end = c.start + (std::min(first_row + shape.block, c.m * group) - 1) / group + 1;
                const std::size_t length = (end - first + parts * shape.tile - 1) / (parts * shape.tile) * shape.tile;
                for (std::size_t p = 0; p < parts; ++p) {
                    const auto part = c.attend(t, h, first + p * length, std::min(first + (p + 1) * length, end), of.spec.sinks && p == 0);
                    sums.insert(sums.end(), part.values.begin(), part.values.end());
                    stats.insert(stats.end(), {part.most, part.sum});
                }
            }
        }
        c.add_output(e, std::move(sums), scalar::f32);
        c.add_output(e, std::move(stats), scalar::f32);
        e.tolerance = tolerance_of(scalar::f32);
        return e;
    }

private:
    struct shape {
        u32 threads;
        u32 tile;       ///< positions of a workgroup at once: four lanes each
        u32 positions;  ///< positions whose values are added at once: all lanes of a head each
        u32 block;      ///< rows of a workgroup
        u32 copies;     ///< sums of values that are joined at once
    };
    /// At most eight rows, whose sums an invocation can hold, and what workgroup memory can; of which sums get what is left, up to 4 KiB, so
    /// that others run beside.
    [[nodiscard]] static shape shape_of(const kernel_spec& spec) {
        constexpr u32 memory = static_cast<u32>(device_limits{}.max_workgroup_bytes);
        const u32 vectors = spec.head_dim / 4;
        const u32 threads = (std::max(spec.tune.workgroup, vectors) + 3) / 4 * 4;
        const u32 tile = threads / 4;
        const u32 row_bytes = threads * 4 + tile * 8 + 16;
        const u32 rows = spec.columns * (spec.heads / spec.kv_heads);
        const u32 most = std::clamp(memory / (vectors * 16 + row_bytes), 1u, 8u);
        const u32 blocks = (rows + most - 1) / most;
        const u32 block = (rows + blocks - 1) / blocks;
        const u32 copies = std::min(4096u, memory - block * row_bytes) / (block * vectors * 16);
        return {threads, tile, threads / vectors, block, std::clamp(copies, 1u, threads / vectors)};
    }
};

/// y of the parts that attention_decode leaves: part_sums [m, heads, parts, head_dim] and part_stats [m, heads, parts] of (largest score, sum of
/// weights), both f32; a part without a position has the sum 0.
struct attention_merge {
    static constexpr std::string_view name = "attention_merge";
    static constexpr std::string_view purpose = "y of the parts of attention_decode";
    static constexpr bool reads_weights = false;

    [[nodiscard]] static std::vector<trial> trials() {
        using detail::attention_spec, detail::attention_trial;
        auto s = attention_spec(8, 2, 128);
        std::vector<trial> all{attention_trial("f32", s, 1, 500, 512, 8)};
        s = attention_spec(5, 5, 20);
        s.sinks = true;
        all.push_back(attention_trial("f32, 3 tokens, sinks, parts without a position", s, 3, 30, 40, 12));
        s.activations = scalar::f16;
        s.tune.workgroup = 128;
        all.push_back(attention_trial("f16, one part", s, 2, 30, 40, 1));
        return all;
    }

    /// An invocation joins one vector of a head.
    [[nodiscard]] static program build(const kernel_spec& spec) {
        shader s(name);
        s.about("y of parts of a softmax, each relative to its own largest score");
        s.sizes({"m", "parts"});
        const u32 vectors = spec.head_dim / 4;
        const formula n_queries = formula::size("m") * spec.heads;
        auto part_sums = s.input<f32x4>("part_sums", n_queries * formula::size("parts") * vectors);
        auto part_stats = s.input<f32x2>("part_stats", n_queries * formula::size("parts"));
        real_output<4> y(s, spec.activations, "y", n_queries * vectors);
        const auto parts = s.size("parts");
        s.grid(spec.tune.workgroup, ceil_div(n_queries * vectors, formula(spec.tune.workgroup)));

        const auto i = s.let("i", s.workgroup_index() * spec.tune.workgroup + s.local_index());
        const auto query = s.let("query", i / vectors);
        s.if_(query < s.size("m") * spec.heads, [&] {
            const auto first = s.let("first", query * parts);
            auto most = s.var<f32>("most", detail::lowest_score);
            s.for_("part", first, first + parts, 1u, [&](const expr<u32>& part) {
                const auto stats = s.let("stats", part_stats[part]);
                s.if_(stats.y() > 0.0F, [&] { most = max(most, stats.x()); });
            });
            auto sum = s.var<f32>("sum", 0.0F);
            auto values = s.var<f32x4>("values", expr<f32x4>(0.0F));
            s.for_("part", first, first + parts, 1u, [&](const expr<u32>& part) {
                const auto stats = s.let("stats", part_stats[part]);
                s.if_(stats.y() > 0.0F, [&] {
                    const auto weight = s.let("weight", exp(stats.x() - most));
                    sum += weight * stats.y();
                    values += weight * part_sums[part * vectors + i % vectors];
                });
            });
            y.store(i, values / sum);
        });
        return s.finish();
    }

    /// Parts of equal length. The sums of a part without a position are not read.
    [[nodiscard]] static example make_example(const trial& of) {
        const detail::attention_case c(of);
        const std::size_t parts = of.size("parts");
        const std::size_t length = (c.start + c.m + parts - 1) / parts;
        std::vector<float> sums, stats;
        for (std::size_t i = 0; i < c.m * of.spec.heads * parts; ++i) {
            const std::size_t query = i / parts;
            const std::size_t first = i % parts * length;
            const auto part = c.attend(query / of.spec.heads, query % of.spec.heads, first, first + length, of.spec.sinks && i % parts == 0);
            for (const double value : part.values) sums.push_back(part.sum > 0 ? static_cast<float>(value) : std::numeric_limits<float>::quiet_NaN());
            stats.insert(stats.end(), {static_cast<float>(part.most), static_cast<float>(part.sum)});
        }
        example e;
        e.sizes = of.sizes;
        e.buffers = {buffer_of(sums, scalar::f32), buffer_of(stats, scalar::f32)};
        c.add_expected(e);
        e.tolerance = tolerance_of(of.spec.activations);
        return e;
    }
};

/// Many tokens: a tile of rows (queries of one head of the cache) goes through the cache in tiles of keys, none of which is later than its last
/// token or before its first window. Head dimensions up to 256.
struct attention_prefill {
    static constexpr std::string_view name = "attention_prefill";
    static constexpr std::string_view purpose = "y = softmax(scale Q K) V for many tokens, each seeing those before it";
    static constexpr bool reads_weights = false;

    /// Full tiles and cut ones, a cache that is empty before and one that is not, head dimensions that fill the lanes and that do not, every option.
    [[nodiscard]] static std::vector<trial> trials() {
        using detail::attention_spec, detail::attention_trial;
        std::vector<trial> all;
        auto s = attention_spec(4, 1, 64);
        all.push_back(attention_trial("f32, full tiles", s, 64, 0, 64));
        all.push_back(attention_trial("f32, 37 tokens after 45", s, 37, 45, 90));
        s.window = 24;
        s.tune.workgroup = 128;
        all.push_back(attention_trial("f32, window, 128 invocations", s, 50, 20, 80));
        s = attention_spec(3, 3, 80);
        s.soft_cap = 2.0F, s.sinks = true;
        all.push_back(attention_trial("f32, heads of 80, soft cap, sinks", s, 35, 3, 40));
        s = attention_spec(6, 2, 128);
        s.activations = scalar::f16;
        all.push_back(attention_trial("f16, 3 heads a group", s, 21, 50, 71));
        s.window = 10, s.soft_cap = 3.0F, s.sinks = true;
        all.push_back(attention_trial("f16, window, soft cap, sinks", s, 33, 70, 110));
        s = attention_spec(4, 2, 256);
        all.push_back(attention_trial("f32, heads of 256", s, 10, 40, 64));
        s = attention_spec(2, 1, 20);
        all.push_back(attention_trial("f32, one token, heads of 20", s, 1, 40, 48));
        s = attention_spec(4, 2, 96);
        s.tune.workgroup = 256, s.activations = scalar::f16;
        all.push_back(attention_trial("f16, heads of 96, 256 invocations", s, 40, 9, 64));
        return all;
    }

    /// An invocation has some rows, and of each four scores of a tile, then every eighth vector of its values. Queries and keys go through
    /// workgroup memory in slices along the head, values in rows; the pads keep lanes that read side by side in different banks.
    [[nodiscard]] static program build(const kernel_spec& spec) {
        shader s(name);
        detail::attention_reader a(s, spec);
        const u32 vectors = a.vectors;
        const u32 threads = spec.tune.workgroup / lanes * lanes;
        const u32 threads_m = threads / lanes;
        const u32 chunks = (vectors + lanes - 1) / lanes;  // vectors of a row that an invocation sums
        const u32 n_rows = std::clamp(std::min(most_rows / threads_m, most_sums / chunks), 1u, 8u);
        const u32 tile_rows = threads_m * n_rows;
        const u32 pitch = lanes + 1;
        u32 value_rows = tile_keys;  // that are in workgroup memory at once
        while (value_rows > 4 && value_rows * vectors > tile_keys * pitch) value_rows /= 2;
        s.about("y = softmax(scale Q K) V in tiles of " + std::to_string(tile_rows) + " queries and " + std::to_string(tile_keys) +
                " keys, with a running maximum");
        s.sizes({"m", "capacity", "kv_heads"});
        real_output<4> y(s, spec.activations, "y", formula::size("m") * (spec.heads * vectors));
        const formula n_tiles = ceil_div(formula::size("m") * a.group, formula(tile_rows));
        const auto tiles = s.parameter<u32>("tiles", n_tiles);
        s.grid(threads, formula::size("rows") * n_tiles);

        auto queries = s.shared<f32x4>("queries", tile_rows * pitch);                              // [row, vector of the slice]
        auto stage = s.shared<f32x4>("stage", std::max(tile_keys * pitch, value_rows * vectors));  // keys, then values
        auto weights = s.shared<f32x4>("weights", tile_rows * pitch);                              // [row, four keys]
        auto largest = s.shared<f32>("largest", tile_rows * lanes);                                // [row, lane]

        const auto local = s.local_index();
        const auto index = s.let("index", s.workgroup_index());
        s.if_(index >= a.kv_heads * tiles, [&] { s.return_(); });
        a.use_head(s, s.let("kv_head", index % a.kv_heads));
        const auto first_row = s.let("first_row", index / a.kv_heads * tile_rows);
        const auto last_row = s.let("last_row", min(first_row + tile_rows, a.rows) - 1u);
        const auto first = s.let("first", a.first_seen(a.position(first_row)));
        const auto last = s.let("last", a.position(last_row));
        const auto lane = s.let("lane", local % lanes);
        const auto row_lane = s.let("row_lane", local / lanes);
        // The rows of an invocation are threads_m apart.
        const auto each_row = [&](const auto& body) { s.for_("r", 0u, n_rows, 1u, body); };
        const auto own_row = [&](const expr<u32>& r) { return row_lane + r * threads_m; };
        const auto own_place = [&](const expr<u32>& r) { return local + r * threads; };  // in `largest`
        const auto all_lanes = [&](const expr<u32>& r, const auto& body) {               // of a row, there
            const auto begin = s.let("begin", own_row(r) * lanes);
            s.for_("i", begin, begin + lanes, 1u, [&](const expr<u32>& i) { body(largest[i]); });
        };

        auto at = s.array<u32>("at", n_rows);
        auto most = s.array<f32>("most", n_rows);
        auto sum = s.array<f32>("sum", n_rows);
        auto values = s.array<f32x4>("values", n_rows * chunks);
        each_row([&](const expr<u32>& r) {
            const auto row = s.let("row", min(first_row + own_row(r), last_row));
            at[r] = a.position(row);
            most[r] = a.first_maximum(row);
            if (spec.sinks) sum[r] = select(lane == 0u, a.first_sum(), 0.0F);
        });

        s.for_("base", first, last + 1u, tile_keys, [&](const expr<u32>& base) {
            auto scores = s.array<f32x4>("scores", n_rows);
            s.for_("slice", 0u, vectors, lanes, [&](const expr<u32>& slice) {
                const auto vector_of = [&](const expr<u32>& i) { return vectors % lanes == 0 ? slice + i % lanes : min(slice + i % lanes, vectors - 1u); };
                s.for_("i", local, tile_rows * lanes, threads, [&](const expr<u32>& i) {
                    const auto query = s.let("query", a.query(s.let("row", min(first_row + i / lanes, last_row))));
                    queries[i / lanes * pitch + i % lanes] = a.q[query * vectors + vector_of(i)];
                });
                s.comment("Keys that lanes side by side read, each its fourth, lie side by side.");
                s.for_("i", local, tile_keys * lanes, threads, [&](const expr<u32>& i) {
                    const auto key = s.let("key", i / lanes);
                    stage[(key % 4u * lanes + key / 4u) * pitch + i % lanes] = a.k_cache[a.entry(min(base + key, last)) + vector_of(i)];
                });
                s.barrier();
                s.for_("i", 0u, vectors % lanes == 0 ? expr<u32>(lanes) : min(vectors - slice, lanes), 1u, [&](const expr<u32>& i) {
                    std::vector<expr<f32x4>> k;
                    for (u32 c = 0; c < 4; ++c) k.push_back(s.let("k", stage[lane * pitch + i + c * lanes * pitch]));
                    each_row([&](const expr<u32>& r) {
                        const auto x = s.let("x", queries[own_row(r) * pitch + i]);
                        scores[r] += vec4(dot(x, k[0]), dot(x, k[1]), dot(x, k[2]), dot(x, k[3]));
                    });
                });
                s.barrier();
            });
            const auto key = s.let("key", base + lane * 4u);
            each_row([&](const expr<u32>& r) {
                const auto score = s.let("score", a.scores<f32x4>(scores[r]));
                const auto seen = [&](u32 c) { return select(a.sees(at[r], key + c), score.at(c), detail::unseen_score); };
                const auto masked = s.let("masked", vec4(seen(0), seen(1), seen(2), seen(3)));
                scores[r] = masked;
                largest[own_place(r)] = max(max(masked.x(), masked.y()), max(masked.z(), masked.w()));
            });
            s.barrier();
            each_row([&](const expr<u32>& r) {
                auto now = s.var<f32>("now", most[r]);
                all_lanes(r, [&](const expr<f32>& of_lane) { now = max(now, of_lane); });
                const auto weight = s.let("weight", exp(scores[r] - now));
                weights[own_row(r) * pitch + lane] = weight;
                const auto shrink = s.let("shrink", exp(most[r] - now));
                most[r] = now;
                sum[r] = sum[r] * shrink + dot(weight, expr<f32x4>(1.0F));
                s.for_("c", r * chunks, r * chunks + chunks, 1u, [&](const expr<u32>& c) { values[c] *= shrink; });
            });
            s.for_("begin_key", 0u, min(last - base + 1u, tile_keys), value_rows, [&](const expr<u32>& begin) {
                s.for_("i", local, value_rows * vectors, threads,
                       [&](const expr<u32>& i) { stage[i] = a.v_cache[a.entry(min(base + begin + i / vectors, last)) + i % vectors]; });
                s.barrier();
                s.for_("j", 0u, value_rows, 4u, [&](const expr<u32>& j) {
                    s.for_("c", 0u, chunks, 1u, [&](const expr<u32>& c) {
                        const auto vector = vectors % lanes == 0 ? lane + c * lanes : min(lane + c * lanes, vectors - 1u);
                        const auto place = s.let("place", j * vectors + vector);
                        std::vector<expr<f32x4>> v;
                        for (u32 i = 0; i < 4; ++i) v.push_back(s.let("v", stage[place + i * vectors]));
                        each_row([&](const expr<u32>& r) {
                            const auto w = s.let("w", weights[own_row(r) * pitch + (begin + j) / 4u]);
                            values[r * chunks + c] += w.x() * v[0] + w.y() * v[1] + w.z() * v[2] + w.w() * v[3];
                        });
                    });
                });
                s.barrier();
            });
        });

        s.comment("Each lane has summed its own weights.");
        each_row([&](const expr<u32>& r) { largest[own_place(r)] = sum[r]; });
        s.barrier();
        each_row([&](const expr<u32>& r) {
            const auto row = s.let("row", first_row + own_row(r));
            s.if_(row <= last_row, [&] {
                auto total = s.var<f32>("total", 0.0F);
                all_lanes(r, [&](const expr<f32>& of_lane) { total += of_lane; });
                const auto query = s.let("query", a.query(row) * vectors);
                s.for_("c", 0u, chunks, 1u, [&](const expr<u32>& c) {
                    const auto vector = s.let("vector", lane + c * lanes);
                    const auto store = [&] { y.store(query + vector, values[r * chunks + c] / total); };
                    if (vectors % lanes == 0)
                        store();
                    else
                        s.if_(vector < vectors, store);
                });
            });
        });
        return s.finish();
    }

    [[nodiscard]] static example make_example(const trial& of) {
        const detail::attention_case c(of);
        example e = c.with_inputs(of);
        c.add_expected(e);
        return e;
    }

private:
    static constexpr u32 lanes = 8;       // along a row: of scores, and of values
    static constexpr u32 tile_keys = 32;  // four of each lane
    static constexpr u32 most_rows = 32;  // of a tile, by what workgroup memory holds
    static constexpr u32 most_sums = 16;  // vectors of values that an invocation holds
};

}  // namespace nibble::gpu
