// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rotary position embedding (Su et al., arXiv 2104.09864) of queries and keys, and the way of keys and values into their cache.
//
// How fast each pair turns is a small table of the host's: plain, stretched or taken from a file, it is the same kernel. The table counts in
// 2^-32 turns, since shaders have neither what a product of position and radians needs (in f32 it is off by up to 0.005 at position 100,000) nor a
// sine to rely on (2^-11 in WGSL and SPIR-V, and that within one turn only). A u32 wraps as an angle does, so that every position is exact.

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <optional>

#include "nibble/gpu/example.hpp"

namespace nibble::gpu {

/// How a model stretches its positions. Names, defaults and formulas are those of "rope_scaling" in a config.json of Hugging Face.
struct rope_scaling {
    enum class method : std::uint8_t { none, linear, llama3, yarn };
    method rope_type = method::none;
    double factor = 1.0;
    double original_max_position_embeddings = 8192;  ///< llama3, yarn
    double low_freq_factor = 1.0;                    ///< llama3
    double high_freq_factor = 4.0;
    double beta_fast = 32.0;  ///< yarn
    double beta_slow = 1.0;
    bool truncate = true;           ///< yarn: the ramp begins and ends at whole pairs
    double attention_factor = 0.0;  ///< yarn; 0: 0.1 ln(factor) + 1

    /// What queries and keys are multiplied by.
    [[nodiscard]] double magnitude() const {
        if (rope_type != method::yarn) return 1.0;
        return attention_factor != 0.0 ? attention_factor : factor <= 1.0 ? 1.0 : 0.1 * std::log(factor) + 1.0;
    }
};

/// Radians that each of rotary / 2 pairs turns from one position to the next.
[[nodiscard]] inline std::vector<double> rope_frequencies(double base, u32 rotary, const rope_scaling& scaling = {}) {
    std::vector<double> frequencies(rotary / 2);
    const double turns_of_context = scaling.original_max_position_embeddings / (2 * std::numbers::pi);
    // YaRN: the pair that makes this many turns in the original context.
    const auto pair_of = [&](double turns) { return rotary * std::log(turns_of_context / turns) / (2 * std::log(base)); };
    const double fast = pair_of(scaling.beta_fast), slow = pair_of(scaling.beta_slow);
    const double first = std::max(scaling.truncate ? std::floor(fast) : fast, 0.0);
    const double last = std::min(scaling.truncate ? std::ceil(slow) : slow, rotary - 1.0);
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
        const double plain = std::pow(base, -2.0 * static_cast<double>(i) / rotary);
        const double stretched = plain / scaling.factor;
        double kept = 0.0;  // how much of it is left as it was
        switch (scaling.rope_type) {
            case rope_scaling::method::none:
                kept = 1.0;
                break;
            case rope_scaling::method::linear:
                break;
            case rope_scaling::method::llama3:
                kept = (turns_of_context * plain - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
                break;
            case rope_scaling::method::yarn:
                kept = 1.0 - (static_cast<double>(i) - first) / (first == last ? 0.001 : last - first);
                break;
        }
        kept = std::clamp(kept, 0.0, 1.0);
        frequencies[i] = stretched * (1.0 - kept) + plain * kept;
    }
    return frequencies;
}

/// The table that the kernel reads, made of radians a position: for each pair the whole 2^-32 turns, and what is left of one as the bits of an f32.
[[nodiscard]] inline std::vector<u32> rope_table(const std::vector<double>& frequencies) {
    std::vector<u32> table;
    for (const double radians : frequencies) {
        const double turns = radians / (2 * std::numbers::pi);
        const double parts = (turns - std::floor(turns)) * 4294967296.0;
        table.push_back(static_cast<u32>(parts));
        table.push_back(std::bit_cast<u32>(static_cast<float>(parts - std::floor(parts))));
    }
    return table;
}

/// Token t of m is at position start + t. Its row of qkv[m, heads + 2 kv_heads, head_dim], or spec.separate_qkv its rows of q, k and v, goes
///   queries turned   to q_turned[m, heads, head_dim],
///   keys turned      to k_cache[kv_heads, capacity, head_dim] at its position,
///   values           to v_cache, of the same shape;
/// a position of `capacity` or more is not stored in the caches. Of a head, the first `rotary` numbers turn, both even: pair i is the numbers
/// i and i + rotary / 2, or spec.interleaved 2i and 2i + 1. The host gives start (u32), magnitude (f32, rope_scaling::magnitude()) and
/// rotation[rotary / 2] (rope_table()). A call may be cut along kv_heads; its first part turns the queries.
struct rope {
    static constexpr std::string_view name = "rope";
    static constexpr std::string_view purpose = "queries and keys turned by their positions; keys and values appended to their caches";
    static constexpr bool reads_weights = false;

    /// Both pairings, whole heads and parts of them, one buffer and three, positions far beyond f32 angles, and more tokens than the cache holds.
    [[nodiscard]] static std::vector<trial> trials() {
        std::vector<trial> all;
        struct shape {
            u32 heads, kv_heads, head_dim, rotary;
        };
        const auto add = [&](std::string label, kernel_spec s, shape of, std::uint64_t m, std::uint64_t start, std::uint64_t capacity, bool baked = true) {
            if (baked) s.heads = of.heads, s.kv_heads = of.kv_heads, s.head_dim = of.head_dim, s.rotary = of.rotary;
            all.push_back({std::move(label),
                           s,
                           {{"m", m},
                            {"heads", of.heads},
                            {"kv_heads", of.kv_heads},
                            {"head_dim", of.head_dim},
                            {"rotary", of.rotary},
                            {"capacity", capacity},
                            {"start", start}}});
        };
        kernel_spec s;
        add("f32", s, {4, 2, 64, 64}, 3, 5, 16);
        add("f32, position 1,000,000, beyond the cache", s, {3, 1, 32, 32}, 4, 1000000, 8);
        s.separate_qkv = true;
        add("f32, three buffers, part of a head, sizes as parameters, more tokens than the cache holds", s, {3, 3, 20, 12}, 5, 9005, 9008, false);
        s.interleaved = true;
        add("f32, interleaved, three buffers", s, {2, 2, 48, 48}, 2, 700, 702);
        s.separate_qkv = false;
        add("f32, interleaved, part of a head, sizes as parameters", s, {6, 2, 40, 24}, 5, 11, 17, false);
        s.activations = scalar::f16;
        add("f16, interleaved, part of a head", s, {7, 1, 80, 32}, 1, 300, 320);
        s.interleaved = false;
        s.separate_qkv = true;
        add("f16, three buffers", s, {4, 4, 96, 96}, 3, 37, 41);
        s.separate_qkv = false;
        s.tune.workgroup = 256;
        add("f16, sizes as parameters, 256 invocations", s, {5, 5, 6, 6}, 9, 1, 10, false);
        return all;
    }

    /// An invocation has one pair of one head of one token.
    [[nodiscard]] static program build(const kernel_spec& spec) {
        shader s(name);
        const auto size = [](const char* of) { return formula::size(of); };
        const formula token_heads = size("m") * size("head_dim");
        const formula cache_numbers = size("rows") * size("capacity") * size("head_dim");
        s.about("Queries and keys turned by their positions, keys and values appended to their caches; pairs are " +
                std::string(spec.interleaved ? "neighbours" : "half of the turned numbers apart"));
        s.sizes({"m", "heads", "kv_heads", "head_dim", "rotary", "capacity"});
        s.cut_rows("kv_heads");
        const auto n_tokens = s.size("m");
        const auto heads = s.size("heads", spec.heads);
        const auto kv_heads = s.size("kv_heads", spec.kv_heads);
        const auto head_dim = s.size("head_dim", spec.head_dim);
        const auto rotary = s.size("rotary", spec.rotary);
        const auto capacity = s.size("capacity");
        const auto first_kv_head = s.parameter<u32>("first_kv_head", size("first_row"));
        const auto own_kv_heads = s.parameter<u32>("own_kv_heads", size("rows"));
        const auto start = s.scalar<u32>("start");
        const auto magnitude = s.scalar<f32>("magnitude");
        std::optional<real_input<>> qkv, q, k, v;
        if (spec.separate_qkv) {
            q.emplace(s, spec.activations, "q", token_heads * size("heads"));
            k.emplace(s, spec.activations, "k", token_heads * size("kv_heads"));
            v.emplace(s, spec.activations, "v", token_heads * size("kv_heads"));
        } else {
            qkv.emplace(s, spec.activations, "qkv", token_heads * (size("heads") + 2 * size("kv_heads")));
        }
        const auto rotation = s.input<u32x2>("rotation", ceil_div(size("rotary"), 2));
        const real_output<> q_turned(s, spec.activations, "q_turned", token_heads * size("heads"));
        const real_output<> k_cache(s, spec.activations, "k_cache", cache_numbers, true);
        const real_output<> v_cache(s, spec.activations, "v_cache", cache_numbers, true);
        s.grid(spec.tune.workgroup, ceil_div(token_heads * (size("heads") + 2 * size("rows")), formula(2 * spec.tune.workgroup)));

        const auto i = s.let("i", s.workgroup_index() * spec.tune.workgroup + s.local_index());
        const auto pairs = head_dim / 2u;
        const auto rows = s.let("rows", heads + 2u * own_kv_heads);
        const auto pair = s.let("pair", i % pairs);
        const auto row = s.let("row", i / pairs % rows);
        const auto token = s.let("token", i / pairs / rows);
        s.if_(token >= n_tokens, [&] { s.return_(); });

        const auto is_query = s.let("is_query", row < heads);
        const auto is_key = s.let("is_key", !is_query && row < heads + own_kv_heads);
        const auto kv_head = s.let("kv_head", (row - heads) % own_kv_heads);
        const auto turns = s.let("turns", pair < rotary / 2u);
        const auto first = s.let("first", spec.interleaved ? 2u * pair : select(turns, pair, 2u * pair));
        const auto second = s.let("second", spec.interleaved ? first + 1u : select(turns, pair + rotary / 2u, first + 1u));
        const auto a = s.var<f32>("a", 0.0F);
        const auto b = s.var<f32>("b", 0.0F);
        const auto load = [&](const real_input<>& x, const expr<u32>& head) {
            const auto at = s.let("at", head * head_dim);
            a = x[at + first];
            b = x[at + second];
        };
        if (qkv) {
            const auto key = s.let("key", heads + first_kv_head + kv_head);
            load(*qkv, token * (heads + 2u * kv_heads) + select(is_query, row, select(is_key, key, key + kv_heads)));
        } else {
            const auto head = s.let("head", token * kv_heads + first_kv_head + kv_head);
            s.if_(
                is_query, [&] { load(*q, token * heads + row); },
                [&] {
                    s.if_(
                        is_key, [&] { load(*k, head); }, [&] { load(*v, head); });
                });
        }

        const auto position = s.let("position", start + token);
        s.if_(turns && (is_query || is_key), [&] {
            s.comment("The angle in 2^-32 turns, as a number of quarters and the rest, from -1/8 to 1/8 of a turn.");
            const auto speed = s.let("speed", rotation[pair]);
            const auto angle = s.let("angle", position * speed.x() + convert<u32>(convert<f32>(position) * bitcast<f32>(speed.y())));
            const auto quarter = s.let("quarter", (angle + 0x20000000u) >> 30u);
            const auto rest = s.let("rest", convert<f32>(bitcast<i32>(angle - (quarter << 30u))) * static_cast<float>(std::numbers::pi / 2147483648.0));
            const auto square = s.let("square", rest * rest);
            const auto series = [&](const std::array<float, 4>& c) { return square * (c[0] + square * (c[1] + square * (c[2] + square * c[3]))); };
            const auto sine = s.let("sine", rest + rest * series({-1.0F / 6, 1.0F / 120, -1.0F / 5040, 1.0F / 362880}));
            const auto cosine = s.let("cosine", 1.0F + series({-1.0F / 2, 1.0F / 24, -1.0F / 720, 1.0F / 40320}));
            const auto odd = s.let("odd", (quarter & 1u) == 1u);
            const auto up = s.let("up", select(odd, cosine, sine) * select((quarter & 2u) == 2u, -magnitude, magnitude));
            const auto along = s.let("along", select(odd, sine, cosine) * select(((quarter + 1u) & 2u) == 2u, -magnitude, magnitude));
            const auto turned = s.let("turned", a * along - b * up);
            b = a * up + b * along;
            a = turned;
        });

        const auto store = [&](const real_output<>& y, const expr<u32>& vector) {
            const auto at = s.let("at", vector * head_dim);
            y.store(at + first, a);
            y.store(at + second, b);
        };
        s.if_(
            is_query, [&] { s.if_(first_kv_head == 0u, [&] { store(q_turned, token * heads + row); }); },
            [&] {
                s.if_(position < capacity, [&] {
                    const auto entry = s.let("entry", kv_head * capacity + position);
                    s.if_(
                        is_key, [&] { store(k_cache, entry); }, [&] { store(v_cache, entry); });
                });
            });
        return s.finish();
    }

    /// Stretched as YaRN does; of other ways the kernel would see other numbers in the same table. The caches hold other tokens already.
    [[nodiscard]] static example make_example(const trial& of) {
        const auto type = of.spec.activations;
        const std::size_t m = of.size("m"), heads = of.size("heads"), kv_heads = of.size("kv_heads"), dim = of.size("head_dim");
        const std::size_t rotary = of.size("rotary"), capacity = of.size("capacity"), start = of.size("start");
        rope_scaling scaling;
        scaling.rope_type = rope_scaling::method::yarn;
        scaling.factor = 4.0;
        scaling.original_max_position_embeddings = 1024;
        const auto frequencies = rope_frequencies(10000.0, static_cast<u32>(rotary), scaling);
        const auto magnitude = static_cast<float>(scaling.magnitude());
        auto q = random_numbers(m * heads * dim, 1);
        auto k = random_numbers(m * kv_heads * dim, 2);
        auto v = random_numbers(m * kv_heads * dim, 3);
        auto k_cache = random_numbers(kv_heads * capacity * dim, 4);
        auto v_cache = random_numbers(kv_heads * capacity * dim, 5);

        example e;
        e.sizes = of.sizes;
        e.host = {{"start", static_cast<double>(start)}, {"magnitude", magnitude}};
        e.tolerance = tolerance_of(type);
        std::vector<std::vector<std::byte>> inputs{buffer_of(q, type), buffer_of(k, type), buffer_of(v, type)};
        if (of.spec.separate_qkv) {
            e.buffers = std::move(inputs);
        } else {
            std::vector<float> rows;
            const auto append = [&](const std::vector<float>& x, std::size_t t) {
                const std::size_t width = x.size() / m;
                for (std::size_t i = 0; i < width; ++i) rows.push_back(x[t * width + i]);
            };
            for (std::size_t t = 0; t < m; ++t) append(q, t), append(k, t), append(v, t);
            e.buffers.push_back(buffer_of(rows, type));
        }
        e.buffers.push_back(buffer_of(rope_table(frequencies)));
        const std::size_t outputs = e.buffers.size();
        e.buffers.emplace_back(q.size() * bytes_of(type));
        e.buffers.push_back(buffer_of(k_cache, type));
        e.buffers.push_back(buffer_of(v_cache, type));

        const auto turned = [&](const std::vector<float>& x, std::size_t head, std::size_t t) {
            std::vector<double> y(dim);
            for (std::size_t i = 0; i < dim; ++i) y[i] = static_cast<double>(x[head * dim + i]);
            for (std::size_t i = 0; i < rotary / 2; ++i) {
                const std::size_t first = of.spec.interleaved ? 2 * i : i;
                const std::size_t second = of.spec.interleaved ? 2 * i + 1 : i + rotary / 2;
                const double angle = static_cast<double>(start + t) * frequencies[i];
                const double a = y[first], b = y[second];
                y[first] = (a * std::cos(angle) - b * std::sin(angle)) * static_cast<double>(magnitude);
                y[second] = (a * std::sin(angle) + b * std::cos(angle)) * static_cast<double>(magnitude);
            }
            return y;
        };
        std::vector<double> queries, keys(k_cache.begin(), k_cache.end()), values(v_cache.begin(), v_cache.end());
        for (std::size_t t = 0; t < m; ++t) {
            for (std::size_t h = 0; h < heads; ++h) {
                const auto y = turned(q, t * heads + h, t);
                queries.insert(queries.end(), y.begin(), y.end());
            }
            for (std::size_t h = 0; h < kv_heads && start + t < capacity; ++h) {
                const auto y = turned(k, t * kv_heads + h, t);
                const std::size_t at = (h * capacity + start + t) * dim;
                for (std::size_t i = 0; i < dim; ++i) keys[at + i] = y[i], values[at + i] = static_cast<double>(v[(t * kv_heads + h) * dim + i]);
            }
        }
        e.expected = {{outputs, std::move(queries)}, {outputs + 1, std::move(keys)}, {outputs + 2, std::move(values)}};
        return e;
    }
};

}  // namespace nibble::gpu
