// SPDX-License-Identifier: Apache-2.0
#pragma once
// The greatest of many numbers, and where they are: what a sampler needs of the logits, so that a few bytes are read back and not a vocabulary.
//
// A workgroup takes tuning::slice numbers of a row and leaves the best of them, each with its id; the same kernel with spec.merge takes such
// lists and leaves the best of those, until one slice holds all. Numbers are compared by their bits as whole numbers: equal ones (0 and -0
// are) by their ids, the lowest first; infinities as what they are; NaN, on whose comparison WGSL has no word, are passed over. Where a slice has
// too few, what is left has the id 0xFFFFFFFF and the lowest finite value.

#include <algorithm>
#include <limits>
#include <optional>

#include "nibble/gpu/example.hpp"
#include "nibble/gpu/reduce.hpp"

namespace nibble::gpu {

namespace detail {

inline constexpr u32 no_id = 0xFFFFFFFF;

/// A u32 that grows as the number does, above 0; 0 for NaN.
inline expr<u32> order_key(shader& s, const expr<f32>& x) {
    const auto bits = s.let("bits", bitcast<u32>(x));
    const auto magnitude = s.let("magnitude", bits & 0x7FFFFFFFu);
    return select(magnitude > 0x7F800000u, expr<u32>(0u), select(bits < 0x80000000u, 0x80000000u + magnitude, 0x80000000u - magnitude));
}
/// The number of a key; of 0, the lowest finite one.
inline expr<f32> number_of_key(const expr<u32>& key) {
    const auto bits = select(key >= 0x80000000u, key - 0x80000000u, 0u - key);
    return bitcast<f32>(select(key == 0u, expr<u32>(0xFF7FFFFFu), bits));
}

/// The program of both kernels: the `count` best of each slice, in their order.
inline program build_best(std::string_view name, const kernel_spec& spec, u32 count) {
    shader s(name);
    const u32 slice = spec.tune.slice;
    const formula rows = formula::size("rows");
    const formula k_size = formula::size("k");
    const formula n_slices = rows * ceil_div(k_size, slice);
    const std::string best = count == 1 ? "The greatest" : "The " + std::to_string(count) + " greatest";
    s.about(best + " of every " + std::to_string(slice) + " numbers of a row, with their ids" + (spec.merge ? ", of lists that an earlier pass has left" : ""));
    s.sizes({"m", "k"});
    s.cut_rows("m");
    const auto k = s.size("k", spec.k);
    const auto n_rows = s.parameter<u32>("rows", rows);
    const real_input<> x(s, spec.merge ? scalar::f32 : spec.activations, "x", rows * k_size, true);
    std::optional<input_buffer<u32>> x_ids;
    if (spec.merge) x_ids.emplace(s.input<u32>("x_ids", rows * k_size, true));
    const auto values = s.output<f32>("values", n_slices * count, true);
    const auto ids = s.output<u32>("ids", n_slices * count, true);
    s.grid(spec.tune.workgroup, n_slices);
    const workgroup_reduction<u32> over_workgroup(s, spec.tune);

    const auto own = s.let("own", s.workgroup_index());
    const auto slices = spec.k == 0 ? s.let("slices", (k + (slice - 1)) / slice) : (k + (slice - 1)) / slice;
    const auto row = s.let("row", own / slices);
    s.if_(row >= n_rows, [&] { s.return_(); });
    const auto first = s.let("first", own % slices * slice);
    const auto end = s.let("end", min(first + slice, k));
    const auto last_key = s.var<u32>("last_key", no_id);
    const auto last_id = s.var<u32>("last_id", no_id);
    const auto find_next = [&](const expr<u32>& rank) {
        const auto best_key = s.var<u32>("best_key", 0u);
        const auto best_id = s.var<u32>("best_id", 0u);
        s.for_("i", first + s.local_index(), end, spec.tune.workgroup, [&](const expr<u32>& i) {
            const auto id = spec.merge ? s.let("id", (*x_ids)[row * k + i]) : i;
            const auto number = order_key(s, x[row * k + i]);
            const auto key = s.let("key", spec.merge ? select(id == no_id, expr<u32>(0u), number) : number);
            const auto after_last = key < last_key || (key == last_key && id > last_id);
            s.if_(after_last && (key > best_key || (key == best_key && id < best_id)), [&] {
                best_key = key;
                best_id = id;
            });
        });
        last_key = over_workgroup.greatest("greatest", best_key);
        last_id = over_workgroup.least("lowest_id", select(best_key == last_key, best_id, expr<u32>(no_id)));
        s.if_(s.local_index() == 0u, [&] {
            const auto at = s.let("at", own * count + rank);
            values[at] = number_of_key(last_key);
            ids[at] = select(last_key == 0u, expr<u32>(no_id), last_id);
        });
    };
    if (count == 1)
        find_next(expr<u32>(0u));
    else
        s.for_("rank", 0u, count, 1u, find_next);
    return s.finish();
}

[[nodiscard]] inline trial best_trial(std::string label, kernel_spec spec, std::uint64_t m, std::uint64_t k, bool baked = true) {
    if (baked) spec.k = static_cast<u32>(k);
    return {std::move(label), spec, {{"m", m}, {"k", k}}};
}

/// Rows with equal numbers, NaN and infinities, one of nothing but NaN; where lists are merged, their ids in no order and some of them none.
[[nodiscard]] inline example best_example(const trial& of, std::size_t count) {
    const auto& spec = of.spec;
    const auto type = spec.merge ? scalar::f32 : spec.activations;
    const std::size_t k = of.size("k"), slice = spec.tune.slice;
    const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
    auto x = random_numbers(of.size("m") * k, 1);
    std::vector<u32> x_ids(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t row = i / k, at = i % k;
        x_ids[i] = static_cast<u32>(spec.merge ? at % 7 == 3 ? no_id : (at * 7919 + 13) % 1000003 : at);
        if (row % 4 == 0) x[i] = std::round(x[i] * 2.0F) / 2.0F;  // many are equal, and 0 or -0
        if (row % 4 == 1) x[i] = -std::abs(x[i]) - 1.0F;
        if (at % 11 == 5) x[i] = at % 2 == 0 ? nan : -infinity;
        if (row % 4 == 2) x[i] = at % 11 == 5 ? -nan : x[i] * 1000.0F;
        if (row % 4 == 3) x[i] = nan;
        if (x_ids[i] == no_id) x[i] = 9999.0F;  // it is the id that says so
    }
    example e;
    e.sizes = of.sizes;
    e.tolerance = 0.0;  // what is found is copied
    e.buffers.push_back(buffer_of(x, type));
    if (spec.merge) e.buffers.push_back(buffer_of(x_ids));
    std::vector<double> values, ids;
    for (std::size_t row = 0; row < x.size(); row += k) {
        for (std::size_t first = 0; first < k; first += slice) {
            std::vector<std::size_t> found;
            for (std::size_t i = row + first; i < row + std::min(first + slice, k); ++i) {
                if (x_ids[i] != no_id && !std::isnan(x[i])) found.push_back(i);
            }
            std::sort(found.begin(), found.end(), [&](auto a, auto b) { return x[a] > x[b] || (!(x[a] < x[b]) && x_ids[a] < x_ids[b]); });
            for (std::size_t i = 0; i < count; ++i) {
                values.push_back(i < found.size() ? static_cast<double>(x[found[i]]) : static_cast<double>(std::numeric_limits<float>::lowest()));
                ids.push_back(i < found.size() ? x_ids[found[i]] : no_id);
            }
        }
    }
    const std::size_t bytes = values.size() * 4, at = e.buffers.size();
    e.expected = {{at, std::move(values)}, {at + 1, std::move(ids)}};
    e.buffers.insert(e.buffers.end(), 2, std::vector<std::byte>(bytes));
    return e;
}

}  // namespace detail

/// values[m, slices], ids[m, slices]: the greatest number of each slice of x[m, k], and its place in the row; slices = ceil(k / slice). With
/// spec.merge, of x[m, k] (f32) and x_ids[m, k], the values and ids of an earlier pass.
struct argmax {
    static constexpr std::string_view name = "argmax";
    static constexpr std::string_view purpose = "the greatest number of each slice of a row, and its id; with merge, of what such a pass has left";
    static constexpr bool reads_weights = false;

    [[nodiscard]] static std::vector<trial> trials() {
        kernel_spec s;
        std::vector<trial> all{detail::best_trial("f32, one slice", s, 4, 1000)};
        s.tune.slice = 1024;
        all.push_back(detail::best_trial("f32, slices, width as parameter", s, 5, 5003, false));
        s.merge = true;
        all.push_back(detail::best_trial("merge", s, 4, 150, false));
        s = {};
        s.tune.subgroups = true;
        s.tune.workgroup = 256;
        all.push_back(detail::best_trial("f32, subgroups", s, 4, 4096));
        s.activations = scalar::f16;
        all.push_back(detail::best_trial("f16, subgroups, fewer numbers than invocations", s, 4, 33));
        return all;
    }
    [[nodiscard]] static program build(const kernel_spec& spec) { return detail::build_best(name, spec, 1); }
    [[nodiscard]] static example make_example(const trial& of) { return detail::best_example(of, 1); }
};

/// values[m, slices, best], ids[m, slices, best]: the spec.best greatest of each slice of x[m, k], in their order; else as argmax. A workgroup
/// looks for one after the other: meant for up to a few dozen, and slices of one or two thousand.
struct top_k {
    static constexpr std::string_view name = "top_k";
    static constexpr std::string_view purpose = "the greatest numbers of each slice of a row, with ids; with merge, of what such a pass has left";
    static constexpr bool reads_weights = false;

    [[nodiscard]] static std::vector<trial> trials() {
        kernel_spec s;
        s.best = 5;
        std::vector<trial> all{detail::best_trial("f32, one slice", s, 4, 300)};
        s.best = 20;
        s.tune.slice = 128;
        all.push_back(detail::best_trial("f32, slices, too few in the last, width as parameter", s, 4, 390, false));
        s.merge = true;
        all.push_back(detail::best_trial("merge", s, 4, 128, false));
        s.merge = false;
        s.activations = scalar::f16;
        s.tune.subgroups = true;
        all.push_back(detail::best_trial("f16, subgroups", s, 3, 200));
        return all;
    }
    [[nodiscard]] static program build(const kernel_spec& spec) { return detail::build_best(name, spec, spec.best); }
    [[nodiscard]] static example make_example(const trial& of) { return detail::best_example(of, of.spec.best); }
};

}  // namespace nibble::gpu
