// SPDX-License-Identifier: Apache-2.0
#pragma once
// What differs between two MLC folders: records, bytes, codes, and by how much the values.

#include <cmath>
#include <limits>

#include "nibble/convert/stored.hpp"

namespace nibble::convert {

/// One parameter (a record, or a pair of q_weight and q_scale) that both folders have in the same shape and type.
struct parameter_difference {
    std::string name;
    std::size_t codec = scheme::none;
    std::uint64_t n_values = 0;          ///< those that pad groups included
    std::uint64_t bytes_differing = 0;   ///< 0: equal
    std::uint64_t codes_differing = 0;   ///< quantized parameters only
    std::uint64_t scales_differing = 0;  ///< quantized parameters only
    std::uint64_t values_differing = 0;  ///< as decoded; NaN equals NaN
    double max_difference = 0;           ///< of decoded values; infinity where only one is finite
    double rms_difference = 0;
    double relative_rms = 0;  ///< to the RMS of the first folder's values
};

/// A record that is of another shape or type in the second folder.
struct record_change {
    std::string name;
    std::string first;  ///< "uint32 [96, 8]"
    std::string second;
};

/// What differs between two folders of weights.
struct diff_report {
    std::vector<std::string> only_first;
    std::vector<std::string> only_second;
    std::vector<record_change> changed;  ///< records of another shape or type
    std::size_t n_equal = 0;             ///< parameters whose bytes are equal
    std::vector<parameter_difference> differing;
    bool same_packing = false;  ///< the same shards with the same records at the same offsets
    error_list problems;        ///< of either folder

    [[nodiscard]] bool same_values() const { return only_first.empty() && only_second.empty() && changed.empty() && differing.empty() && problems.empty(); }
};

namespace detail {

inline std::string record_text(const shard::record& r) { return std::string(shard::dtype_text(r.type)) + (r.raw ? " (raw) " : " ") + r.dims.text(); }

/// Adds the difference of two values to sums.
struct difference_sums {
    parameter_difference& of;
    double squares = 0;
    double first_squares = 0;
    std::uint64_t finite = 0;

    void add(float a, float b) {
        ++of.n_values;
        if (a == b || (std::isnan(a) && std::isnan(b))) {
            if (std::isfinite(a)) {
                ++finite;
                first_squares += static_cast<double>(a) * static_cast<double>(a);
            }
            return;
        }
        ++of.values_differing;
        const double d = std::fabs(static_cast<double>(a) - static_cast<double>(b));
        if (!std::isfinite(d)) {
            of.max_difference = std::numeric_limits<double>::infinity();
            return;
        }
        ++finite;
        of.max_difference = std::max(of.max_difference, d);
        squares += d * d;
        first_squares += static_cast<double>(a) * static_cast<double>(a);
    }
    void finish() {
        if (finite != 0) of.rms_difference = std::sqrt(squares / static_cast<double>(finite));
        if (squares != 0) of.relative_rms = first_squares == 0 ? std::numeric_limits<double>::infinity() : std::sqrt(squares / first_squares);
    }
};

template <any_codec C>
result<void> diff_values(const shard::folder& a, const shard::folder& b, const stored_parameter& p, const std::vector<shard::place>& other,
                         parameter_difference& out) {
    auto x = stored_view<C>::open(a, p.planes);
    if (!x) return pass(x);
    auto y = stored_view<C>::open(b, other);
    if (!y) return pass(y);
    difference_sums sums{out};
    const std::uint64_t n_groups = p.columns / C::group;
    for (std::uint64_t n = 0; n < p.rows; ++n) {
        for (std::uint64_t g = 0; g < n_groups; ++g) {
            const auto r = x->block(n, g, p.rows, n_groups);
            const auto s = y->block(n, g, p.rows, n_groups);
            float u[C::group];
            float v[C::group];
            if constexpr (tensor_scaled<C>) {
                C::decode(r, x->tensor_scale(), u);
                C::decode(s, y->tensor_scale(), v);
            } else {
                C::decode(r, u);
                C::decode(s, v);
            }
            for (std::size_t i = 0; i < C::group; ++i) sums.add(u[i], v[i]);
            if constexpr (formulaic<C>) {
                for (std::size_t i = 0; i < C::group; ++i) out.codes_differing += C::code(r, i) != C::code(s, i);
                out.scales_differing += !(C::scale_of(r) == C::scale_of(s) || (std::isnan(C::scale_of(r)) && std::isnan(C::scale_of(s))));
            }
        }
    }
    sums.finish();
    return {};
}

}  // namespace detail

/// Compares two folders. Errors: those of shard::open_folder, and bytes that cannot be read.
[[nodiscard]] inline result<diff_report> diff(const std::string& first, const std::string& second, const shard::reader_options& options = {}) {
    auto a = shard::open_folder(first, options);
    if (!a) return pass(a);
    auto b = shard::open_folder(second, options);
    if (!b) return pass(b);
    diff_report report;
    report.problems = a->problems;
    report.problems.insert(report.problems.end(), b->problems.begin(), b->problems.end());
    auto packing = b->manifest;
    for (std::size_t i = 0; i < packing.shards.size() && i < a->manifest.shards.size(); ++i) packing.shards[i].md5 = a->manifest.shards[i].md5;
    report.same_packing = shard::detail::difference(a->manifest, packing, false).empty();
    const auto walk = [](const shard::folder& f, auto&& each) {
        for (const auto& s : f.manifest.shards) {
            for (const auto& r : s.records) each(r);
        }
    };
    walk(*a, [&](const shard::record& r) {
        const auto* q = b->find(r.name);
        if (q == nullptr)
            report.only_first.push_back(r.name);
        else if (q->type != r.type || q->dims != r.dims || shard::stored_bytes(*q) != shard::stored_bytes(r))
            report.changed.push_back({r.name, detail::record_text(r), detail::record_text(*q)});
    });
    walk(*b, [&](const shard::record& r) {
        if (a->find(r.name) == nullptr) report.only_second.push_back(r.name);
    });

    std::vector<std::byte> left;
    std::vector<std::byte> right;
    for (const auto& p : stored_parameters(*a)) {
        std::vector<shard::place> other;
        for (const auto& at : p.planes) {
            const auto& r = a->at(at);
            const auto* q = b->find(r.name);
            if (q != nullptr && q->type == r.type && q->dims == r.dims && q->n_bytes == r.n_bytes) other.push_back(b->by_name.at(r.name));
        }
        if (other.size() != p.planes.size()) continue;  // told above
        parameter_difference d{.name = p.name, .codec = p.codec};
        bool readable = true;
        for (std::size_t i = 0; i < other.size() && readable; ++i) {
            auto x = a->bytes(p.planes[i], left);
            auto y = b->bytes(other[i], right);
            readable = x && y;
            if (!x) report.problems.push_back(std::move(x.error()));
            if (!y) report.problems.push_back(std::move(y.error()));
            if (!readable || x->empty() || std::memcmp(x->data(), y->data(), x->size()) == 0) continue;
            for (std::size_t j = 0; j < x->size(); ++j) d.bytes_differing += (*x)[j] != (*y)[j];
        }
        if (!readable) continue;
        if (d.bytes_differing == 0) {
            ++report.n_equal;
            continue;
        }
        if (p.codec != scheme::none) {
            auto done = visit_codec(p.codec, [&]<class C>() { return detail::diff_values<C>(*a, *b, p, other, d); });
            if (!done) return pass(done);
        }
        report.differing.push_back(std::move(d));
    }
    return report;
}

}  // namespace nibble::convert
