// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a host must know to run a kernel without reading its text: bindings, parameters, workgroup, grid, features and limits, all of it
// data. Sizes that are known only at the call are formulas over named sizes ("n", "k"), and plan() makes dispatches of them that
// respect a device's limits.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nibble/core/result.hpp"

namespace nibble::gpu {

/// The scalar types that shaders compute with.
enum class scalar : std::uint8_t { u32, i32, f32, f16, boolean };

/// Bytes of a scalar in a buffer.
[[nodiscard]] constexpr std::size_t bytes_of(scalar type) { return type == scalar::f16 ? 2 : 4; }
/// Its name in WGSL and in the JSON of a manifest.
[[nodiscard]] constexpr std::string_view name_of(scalar type) {
    constexpr std::array<std::string_view, 5> names{"u32", "i32", "f32", "f16", "bool"};
    return names[static_cast<std::size_t>(type)];
}

/// The sizes of one call by name: {{"n", 4096}, {"k", 4096}}.
using size_values = std::vector<std::pair<std::string, std::uint64_t>>;

[[nodiscard]] inline std::optional<std::uint64_t> find_size(const size_values& sizes, std::string_view name) {
    for (const auto& [n, value] : sizes) {
        if (n == name) return value;
    }
    return std::nullopt;
}

/// A whole number computed from the sizes of a call: `ceil_div(formula::size("n"), 4)`.
class formula {
public:
    enum class operation : std::uint8_t { number, size, add, subtract, multiply, ceil_div, least, greatest };

    formula(std::uint64_t number) : nodes_{{operation::number, number, {}}} {}  // NOLINT: a number is a formula
    [[nodiscard]] static formula size(std::string name) {
        formula f(0);
        f.nodes_ = {{operation::size, 0, std::move(name)}};
        return f;
    }

    friend formula operator+(const formula& a, const formula& b) { return combine(operation::add, a, b); }
    friend formula operator-(const formula& a, const formula& b) { return combine(operation::subtract, a, b); }
    friend formula operator*(const formula& a, const formula& b) { return combine(operation::multiply, a, b); }
    friend formula ceil_div(const formula& a, const formula& b) { return combine(operation::ceil_div, a, b); }
    friend formula least(const formula& a, const formula& b) { return combine(operation::least, a, b); }
    friend formula greatest(const formula& a, const formula& b) { return combine(operation::greatest, a, b); }

    /// Nothing if a size that it names is missing, a divisor is 0, or a step is below 0 or above 2^64 - 1.
    [[nodiscard]] std::optional<std::uint64_t> value(const size_values& sizes) const;
    /// The first size that it names and `sizes` lacks; empty if it lacks none.
    [[nodiscard]] std::string missing(const size_values& sizes) const;
    /// As a person reads it: "ceil_div(n, 4)", "(n + 3) * k".
    [[nodiscard]] std::string text() const;
    /// As JSON: 4, "n", or ["ceil_div", "n", 4], with "+", "-", "*", "ceil_div", "least" and "greatest" in the first place.
    [[nodiscard]] std::string json() const;

private:
    struct node {  // in postfix order
        operation op;
        std::uint64_t number;
        std::string name;
    };
    std::vector<node> nodes_;

    static formula combine(operation op, const formula& a, const formula& b);
    template <class T, class Leaf, class Branch>
    [[nodiscard]] T fold(const Leaf& leaf, const Branch& branch) const;
};

/// What a kernel does with a buffer.
enum class access : std::uint8_t { read, read_write };

/// A storage buffer, bound at the place that it has in manifest::bindings.
struct binding {
    std::string name;
    scalar type = scalar::f32;  ///< all but boolean
    unsigned width = 1;         ///< scalars an element has, 1, 2 or 4: 4 for vec4<u32>
    gpu::access access = gpu::access::read;
    formula length = 0;    ///< elements; in terms of "rows" if by_rows, and then proportional to it
    bool by_rows = false;  ///< cut along the rows, see manifest::rows

    [[nodiscard]] std::uint64_t element_bytes() const { return bytes_of(type) * width; }
};

/// Four bytes that a kernel reads: a member of the uniform struct, which is bound after the last buffer (WGSL), or of the push
/// constants (SPIR-V), in the order of manifest::parameters.
struct parameter {
    std::string name;
    scalar type = scalar::u32;
    std::optional<formula> value;  ///< from the sizes; none: the host gives it
};

/// What a size must be for a text: exactly this number, or a multiple of it.
struct size_rule {
    std::string size;
    std::uint64_t number = 0;
};

/// A constant that a host may set when it makes the pipeline: `override` in WGSL, specialization constant `id` in SPIR-V.
struct constant {
    std::string name;
    std::uint32_t id = 0;
    std::uint32_t value = 0;  ///< if it is not set
};

/// What a device may lack, by WebGPU's names.
struct feature_set {
    bool f16 = false;          ///< "shader-f16"; in Vulkan also storage buffers of 16 bits
    bool subgroups = false;    ///< "subgroups"
    bool subgroup_id = false;  ///< WGSL language feature "subgroup_id"
    bool int8_dot = false;     ///< WGSL language feature "packed_4x8_integer_dot_product"
    bool matrix = false;       ///< "cooperative-matrix", which is no name of WebGPU's: SPIR-V only
};

/// Names of what is needed and not offered: "shader-f16, subgroups"; empty if nothing lacks.
[[nodiscard]] std::string lacking(const feature_set& needed, const feature_set& offered);

/// What a device allows. The defaults are those of WebGPU, which every device has.
struct device_limits {
    std::uint64_t max_binding_bytes = 128u << 20;
    std::uint64_t max_workgroups = 65535;  ///< in each dimension
    std::uint64_t max_workgroup_bytes = 16384;
    std::uint64_t max_invocations = 256;  ///< in a workgroup
    std::uint64_t max_storage_buffers = 8;
    std::uint64_t binding_alignment = 256;                          ///< of the offset of a bound range
    std::array<std::uint64_t, 3> max_workgroup_size{256, 256, 64};  ///< in each dimension
};

/// Everything about a kernel but its text. To run it: make pipelines from text and constants, then run what plan() says.
struct manifest {
    std::string kernel;  ///< "gemv"
    std::string codec;   ///< "q4f16_1"; empty where no weights are read
    std::string entry = "main";
    std::array<std::uint32_t, 3> workgroup{1, 1, 1};
    std::vector<std::string> sizes;    ///< names that a call must give
    std::vector<size_rule> fixed;      ///< sizes that are numbers in the text
    std::vector<size_rule> multiples;  ///< sizes whose multiples the text takes for granted
    std::vector<binding> bindings;
    std::vector<parameter> parameters;
    std::vector<constant> constants;
    /// In all. plan() folds them into a grid whose dimensions are at most max_workgroups, and which may have a few workgroups more:
    /// a kernel counts them as (id.z * grid.y + id.y) * grid.x + id.x and does nothing from this number on.
    formula workgroups = 1;
    feature_set features;
    std::uint64_t workgroup_bytes = 0;  ///< workgroup memory
    /// The size along which a call may be cut where a binding is above the limit of a device: its name ("n"), or empty. A call is
    /// then made for each range, with two more sizes, "first_row" and "rows" (0 and the whole where nothing is cut); bindings that
    /// are `by_rows` are bound from row first_row on, `rows` of them.
    std::string rows;
    std::uint64_t row_granule = 1;  ///< rows of a range are a multiple of this, but for the last range

    /// As JSON, for hosts in other languages: the members in this order by these names, enumerations by their names, features as the
    /// lists "features" and "language_features" of WebGPU's names. A parameter that the host gives has no "value".
    [[nodiscard]] std::string json() const;
};

/// One dispatch: what to bind, the parameters' bits (those that the host gives are 0), the grid.
struct dispatch {
    /// Bytes of a buffer.
    struct range {
        std::uint64_t offset = 0;  ///< bytes
        std::uint64_t bytes = 0;   ///< a multiple of 4, so that a buffer of 3 f16 has 8 bytes

        friend bool operator==(const range&, const range&) = default;
    };
    size_values sizes;  ///< of the call, "first_row" and "rows" included
    std::vector<range> bindings;
    std::vector<std::uint32_t> parameters;
    std::array<std::uint32_t, 3> grid{1, 1, 1};
};

/// The dispatches of a call, in the order of their rows; none if there is nothing to compute. Errors: missing (a size), refused (a
/// limit that no cut can respect, or sizes for which a formula has no value). Which features a device has is not asked here.
[[nodiscard]] result<std::vector<dispatch>> plan(const manifest& m, const size_values& sizes, const device_limits& limits = {});

/// Parameters that the host gives, by name: {{"eps", 1e-6}}.
using parameter_values = std::vector<std::pair<std::string, double>>;

/// Writes the host's parameters into the dispatches of a plan. Errors: missing (one is not given), mismatch (a name that the kernel does
/// not take from the host, or a number that is not one of its type's).
[[nodiscard]] result<void> give_parameters(const manifest& m, const parameter_values& values, std::vector<dispatch>& dispatches);

/// The bytes of whole buffers that a plan binds ranges of, in the manifest's order.
[[nodiscard]] std::vector<std::uint64_t> buffer_bytes(const manifest& m, const std::vector<dispatch>& dispatches);

}  // namespace nibble::gpu

namespace nibble::gpu::detail {

[[nodiscard]] constexpr std::string_view name_of(formula::operation op) {
    constexpr std::array<std::string_view, 8> names{"number", "size", "+", "-", "*", "ceil_div", "least", "greatest"};
    return names[static_cast<std::size_t>(op)];
}

[[nodiscard]] inline std::optional<std::uint64_t> apply(formula::operation op, std::uint64_t a, std::uint64_t b) {
    constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    switch (op) {
        case formula::operation::add:
            return b > most - a ? std::nullopt : std::optional(a + b);
        case formula::operation::subtract:
            return b > a ? std::nullopt : std::optional(a - b);
        case formula::operation::multiply:
            return a != 0 && b > most / a ? std::nullopt : std::optional(a * b);
        case formula::operation::ceil_div:
            return b == 0 ? std::nullopt : std::optional(a / b + (a % b != 0 ? 1 : 0));
        case formula::operation::least:
            return std::min(a, b);
        default:
            return std::max(a, b);
    }
}

[[nodiscard]] inline std::string json_string(std::string_view text) {
    constexpr std::string_view hex = "0123456789abcdef";
    std::string out = "\"";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20) {
            out += "\\u00";
            out += hex[byte >> 4];
            out += hex[byte & 15];
        } else {
            if (c == '"' || c == '\\') out += '\\';
            out += c;
        }
    }
    return out + '"';
}

/// Writes one JSON object or array, member by member; values come as JSON.
class json_list {
public:
    explicit json_list(char open) : text_(1, open) {}
    json_list& add(std::string_view value) {
        if (text_.size() > 1) text_ += ", ";
        text_ += value;
        return *this;
    }
    json_list& add(std::string_view name, std::string_view value) { return add(json_string(name).append(": ").append(value)); }
    json_list& add(std::string_view name, std::uint64_t value) { return add(name, std::string_view(std::to_string(value))); }
    [[nodiscard]] std::string close() const { return text_ + (text_.front() == '{' ? '}' : ']'); }

private:
    std::string text_;
};

/// The JSON list of what `json_of` makes of each element.
template <class List, class Json>
[[nodiscard]] std::string json_of_each(const List& list, const Json& json_of) {
    json_list out('[');
    for (const auto& element : list) out.add(json_of(element));
    return out.close();
}

struct feature {
    bool feature_set::*member;
    std::string_view name;
    bool of_language;  ///< of WGSL; the others are a device's
};
inline constexpr std::array<feature, 5> all_features{{{&feature_set::f16, "shader-f16", false},
                                                      {&feature_set::subgroups, "subgroups", false},
                                                      {&feature_set::subgroup_id, "subgroup_id", true},
                                                      {&feature_set::int8_dot, "packed_4x8_integer_dot_product", true},
                                                      {&feature_set::matrix, "cooperative-matrix", false}}};

[[nodiscard]] inline std::string features_json(const feature_set& set, bool of_language) {
    json_list out('[');
    for (const feature& f : all_features) {
        if (set.*f.member && f.of_language == of_language) out.add(json_string(f.name));
    }
    return out.close();
}

/// The bits of a parameter; nothing if the number is not one of its type's.
[[nodiscard]] inline std::optional<std::uint32_t> bits_of(scalar type, double value) {
    if (type == scalar::f32) {
        if (value - value == 0 && (value < -3.4028234663852886e38 || value > 3.4028234663852886e38)) return std::nullopt;
        return std::bit_cast<std::uint32_t>(static_cast<float>(value));
    }
    const double least = type == scalar::i32 ? -2147483648.0 : 0.0;
    const double most = type == scalar::i32 ? 2147483647.0 : type == scalar::boolean ? 1.0 : 4294967295.0;
    if (!(value >= least && value <= most) || value != static_cast<double>(static_cast<std::int64_t>(value))) return std::nullopt;
    return static_cast<std::uint32_t>(static_cast<std::int64_t>(value));
}

/// Makes the dispatches of one call; each step returns the error that ends it.
class planner {
public:
    planner(const manifest& m, const size_values& sizes, const device_limits& limits) : m_(m), limits_(limits), sizes_(sizes) {
        // The offset of a range must also be one of u32, which everything is copied in.
        alignment_ = std::lcm(std::max<std::uint64_t>(limits.binding_alignment, 1), std::uint64_t{4});
    }

    [[nodiscard]] result<std::vector<dispatch>> dispatches() {
        if (auto checked = check_sizes(); !checked) return pass(checked);
        if (auto checked = check_workgroup(); !checked) return pass(checked);
        if (m_.rows.empty()) {
            dispatch whole;
            whole.sizes = sizes_;
            return list_of({std::move(whole)});
        }
        const std::uint64_t all = *find_size(sizes_, m_.rows);
        if (all == 0) return std::vector<dispatch>{};
        auto step = rows_of_a_range(all);
        if (!step) return pass(step);
        if (const std::uint64_t n = (all - 1) / *step + 1; n > most_ranges) {
            return refuse("is cut into " + std::to_string(n) + " dispatches, " + std::to_string(most_ranges) + " are the most");
        }
        std::vector<dispatch> ranges;
        for (std::uint64_t first = 0; first < all;) {
            const std::uint64_t rows = std::min(*step, all - first);
            dispatch d;
            d.sizes = with_rows(first, rows);
            ranges.push_back(std::move(d));
            first += rows;
        }
        return list_of(std::move(ranges));
    }

private:
    static constexpr std::uint64_t most_ranges = 65536;  // a call of more is a mistake in its sizes
    static constexpr std::uint64_t most_u32 = std::numeric_limits<std::uint32_t>::max();
    struct nothing {};

    const manifest& m_;
    const device_limits& limits_;
    const size_values& sizes_;
    std::uint64_t alignment_ = 0;

    [[nodiscard]] std::string kernel() const { return "kernel '" + m_.kernel + "'" + (m_.codec.empty() ? "" : " of " + m_.codec) + " "; }
    [[nodiscard]] tl::unexpected<error> refuse(const std::string& rule) const { return fail(errc::refused, kernel() + rule); }
    [[nodiscard]] tl::unexpected<error> too_large(const binding& b, std::uint64_t bytes, const std::string& why) const {
        return refuse("would bind " + std::to_string(bytes) + " bytes as buffer '" + b.name + "', the device allows " +
                      std::to_string(limits_.max_binding_bytes) + ": " + why);
    }

    [[nodiscard]] size_values with_rows(std::uint64_t first, std::uint64_t rows) const {
        size_values all = sizes_;
        all.emplace_back("first_row", first);
        all.emplace_back("rows", rows);
        return all;
    }

    [[nodiscard]] result<std::uint64_t> value(const formula& f, const size_values& sizes, const std::string& what) const {
        if (const auto v = f.value(sizes)) return *v;
        if (const std::string name = f.missing(sizes); !name.empty()) {
            return fail(errc::missing, kernel() + "computes " + what + " from the size '" + name + "', which is not given");
        }
        std::string given;
        for (const auto& [name, v] : sizes) given.append(given.empty() ? "" : ", ").append(name).append(" = ").append(std::to_string(v));
        return refuse("computes " + what + " as " + f.text() + ", which has no value for " + given);
    }

    /// The bytes of a buffer's elements.
    [[nodiscard]] result<std::uint64_t> bytes(const binding& b, const size_values& sizes) const {
        auto length = value(b.length * b.element_bytes(), sizes, "the bytes of buffer '" + b.name + "'");
        if (length && *length > std::numeric_limits<std::uint64_t>::max() - 3) return refuse("overflows at buffer '" + b.name + "'");
        return length;
    }
    [[nodiscard]] static std::uint64_t whole_words(std::uint64_t n_bytes) { return (n_bytes + 3) / 4 * 4; }
    /// What a kernel can index with u32 is a limit too.
    [[nodiscard]] bool fits(const binding& b, std::uint64_t n_bytes) const {
        return whole_words(n_bytes) <= limits_.max_binding_bytes && n_bytes / b.element_bytes() <= most_u32;
    }

    [[nodiscard]] result<nothing> check_sizes() const {
        for (const std::string& name : m_.sizes) {
            if (!find_size(sizes_, name)) return fail(errc::missing, kernel() + "needs the size '" + name + "', which is not given");
        }
        const auto shown = [&](const size_rule& rule) { return "'" + rule.size + "', and " + std::to_string(*find_size(sizes_, rule.size)) + " is given"; };
        for (const size_rule& rule : m_.fixed) {
            if (find_size(sizes_, rule.size).value_or(rule.number) != rule.number)
                return refuse("was made for " + std::to_string(rule.number) + " as size " + shown(rule));
        }
        for (const size_rule& rule : m_.multiples) {
            if (find_size(sizes_, rule.size).value_or(0) % rule.number != 0) {
                return refuse("was made for multiples of " + std::to_string(rule.number) + " as size " + shown(rule));
            }
        }
        if (m_.rows.empty()) return nothing{};
        if (!find_size(sizes_, m_.rows)) return fail(errc::missing, kernel() + "needs the size '" + m_.rows + "', which is not given");
        for (const char* name : {"first_row", "rows"}) {
            if (find_size(sizes_, name)) return refuse(std::string("is given the size '") + name + "', which is computed");
        }
        return nothing{};
    }

    [[nodiscard]] result<nothing> check_workgroup() const {
        const auto& w = m_.workgroup;
        const std::uint64_t row = std::uint64_t{w[0]} * w[1];  // below 2^64
        if (row > limits_.max_invocations || row * w[2] > limits_.max_invocations) {
            return refuse("has workgroups of " + sides() + " invocations, the device allows " + std::to_string(limits_.max_invocations));
        }
        for (std::size_t i = 0; i < 3; ++i) {
            if (w[i] > limits_.max_workgroup_size[i]) {
                return refuse("has workgroups of " + sides() + " invocations, the device allows " + std::to_string(limits_.max_workgroup_size[i]) + " in " +
                              "xyz"[i]);
            }
        }
        if (m_.workgroup_bytes > limits_.max_workgroup_bytes) {
            return refuse("needs " + std::to_string(m_.workgroup_bytes) + " bytes of workgroup memory, the device has " +
                          std::to_string(limits_.max_workgroup_bytes));
        }
        if (m_.bindings.size() > limits_.max_storage_buffers) {
            return refuse("binds " + std::to_string(m_.bindings.size()) + " buffers, the device allows " + std::to_string(limits_.max_storage_buffers));
        }
        return nothing{};
    }
    [[nodiscard]] std::string sides() const {
        return std::to_string(m_.workgroup[0]) + " x " + std::to_string(m_.workgroup[1]) + " x " + std::to_string(m_.workgroup[2]);
    }

    /// Rows of every range but the last: all of them, or as many as the buffers that are cut allow, in ranges of about one length.
    [[nodiscard]] result<std::uint64_t> rows_of_a_range(std::uint64_t all) const {
        bool whole = true;
        for (const binding& b : m_.bindings) {
            if (!b.by_rows) continue;
            auto n = bytes(b, with_rows(0, all));
            if (!n) return pass(n);
            whole = whole && fits(b, *n);
        }
        if (whole) return all;

        // A range begins where the offset of every buffer is aligned: after a multiple of `step` rows.
        const std::uint64_t granule = std::max<std::uint64_t>(m_.row_granule, 1);
        std::uint64_t granules = 1;
        for (const binding& b : m_.bindings) {
            if (!b.by_rows) continue;
            auto n = bytes(b, with_rows(0, granule));
            if (!n) return pass(n);
            granules = std::lcm(granules, alignment_ / std::gcd(alignment_, *n));  // divides the alignment
        }
        const auto step = apply(formula::operation::multiply, granule, granules);
        if (!step) return refuse("has granules of " + std::to_string(granule) + " rows");
        std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
        for (const binding& b : m_.bindings) {
            if (!b.by_rows) continue;
            auto n = bytes(b, with_rows(0, *step));
            if (!n) return pass(n);
            if (!fits(b, *n)) return too_large(b, *n, std::to_string(*step) + " rows are the least that can be bound with aligned offsets");
            if (*n != 0) most = std::min({most, limits_.max_binding_bytes / *n, most_u32 / (*n / b.element_bytes())});
        }
        const std::uint64_t steps = (all - 1) / *step + 1;
        const std::uint64_t ranges = (steps - 1) / most + 1;
        return ((steps - 1) / ranges + 1) * *step;
    }

    /// Completes dispatches that know their sizes; leaves out those without a workgroup.
    [[nodiscard]] result<std::vector<dispatch>> list_of(std::vector<dispatch> ranges) const {
        std::vector<dispatch> complete;
        for (dispatch& d : ranges) {
            auto workgroups = value(m_.workgroups, d.sizes, "its workgroups");
            if (!workgroups) return pass(workgroups);
            if (*workgroups == 0) continue;
            auto grid = fold(*workgroups);
            if (!grid) return pass(grid);
            d.grid = *grid;
            if (auto bound = bind(d); !bound) return pass(bound);
            if (auto given = give(d); !given) return pass(given);
            complete.push_back(std::move(d));
        }
        return complete;
    }

    [[nodiscard]] result<nothing> bind(dispatch& d) const {
        for (const binding& b : m_.bindings) {
            auto n = bytes(b, d.sizes);
            if (!n) return pass(n);
            if (*n == 0) return refuse("would bind buffer '" + b.name + "' without an element, which no device allows");
            if (!fits(b, *n)) return too_large(b, *n, "this buffer cannot be cut");
            dispatch::range range{0, whole_words(*n)};
            if (const auto first = find_size(d.sizes, "first_row"); first && b.by_rows && *first != 0) {
                auto offset = bytes(b, with_rows(0, *first));
                if (!offset) return pass(offset);
                auto both = bytes(b, with_rows(0, *first + *find_size(d.sizes, "rows")));
                if (!both) return pass(both);
                if (*offset % alignment_ != 0 || *offset > *both || *both - *offset != *n) {
                    return refuse("has buffer '" + b.name + "', which cannot be cut: its length " + b.length.text() + " is not proportional to rows");
                }
                range.offset = *offset;
            }
            d.bindings.push_back(range);
        }
        return nothing{};
    }

    [[nodiscard]] result<nothing> give(dispatch& d) const {
        for (const parameter& p : m_.parameters) {
            d.parameters.push_back(0);
            if (!p.value) continue;
            auto v = value(*p.value, d.sizes, "parameter '" + p.name + "'");
            if (!v) return pass(v);
            if (p.type == scalar::f32) {
                d.parameters.back() = std::bit_cast<std::uint32_t>(static_cast<float>(*v));
            } else if (*v > (p.type == scalar::i32 ? most_u32 / 2 : most_u32)) {
                return refuse("has parameter '" + p.name + "' of 32 bits, which cannot be " + std::to_string(*v));
            } else {
                d.parameters.back() = static_cast<std::uint32_t>(*v);
            }
        }
        return nothing{};
    }

    [[nodiscard]] result<std::array<std::uint32_t, 3>> fold(std::uint64_t workgroups) const {
        const std::uint64_t most = std::min(limits_.max_workgroups, most_u32);
        const auto too_many = [&] {
            return refuse("has " + std::to_string(workgroups) + " workgroups, more than a grid of 32 bit with sides up to " + std::to_string(most) + " holds");
        };
        if (workgroups > most_u32 || most == 0) return too_many();
        const auto parts = [](std::uint64_t n, std::uint64_t limit) { return (n - 1) / limit + 1; };
        // Sides are as equal as their number of layers allows, so that few workgroups are padding.
        const std::uint64_t z = parts(parts(workgroups, most), most);
        if (z > most) return too_many();
        const std::uint64_t layer = parts(workgroups, z);
        const std::uint64_t y = parts(layer, most);
        const std::uint64_t x = parts(layer, y);
        if (x * y * z > most_u32) return too_many();
        return std::array{static_cast<std::uint32_t>(x), static_cast<std::uint32_t>(y), static_cast<std::uint32_t>(z)};
    }
};

}  // namespace nibble::gpu::detail

namespace nibble::gpu {

inline formula formula::combine(operation op, const formula& a, const formula& b) {
    formula f = a;
    f.nodes_.insert(f.nodes_.end(), b.nodes_.begin(), b.nodes_.end());
    f.nodes_.push_back({op, 0, {}});
    return f;
}

template <class T, class Leaf, class Branch>
T formula::fold(const Leaf& leaf, const Branch& branch) const {
    std::vector<T> stack;
    for (const node& n : nodes_) {
        if (n.op == operation::number || n.op == operation::size) {
            stack.push_back(leaf(n));
        } else {
            T right = std::move(stack.back());
            stack.pop_back();
            stack.back() = branch(n.op, std::move(stack.back()), std::move(right));
        }
    }
    return std::move(stack.back());
}

inline std::optional<std::uint64_t> formula::value(const size_values& sizes) const {
    using number = std::optional<std::uint64_t>;
    return fold<number>([&](const node& n) -> number { return n.op == operation::number ? n.number : find_size(sizes, n.name); },
                        [](operation op, number a, number b) -> number { return a && b ? detail::apply(op, *a, *b) : std::nullopt; });
}

inline std::string formula::missing(const size_values& sizes) const {
    for (const node& n : nodes_) {
        if (n.op == operation::size && !find_size(sizes, n.name)) return n.name;
    }
    return {};
}

inline std::string formula::text() const {
    struct term {
        std::string text;
        int binds = 3;  // 1: a sum, 2: a product, 3: anything else
    };
    const auto within = [](const term& t, int least) { return t.binds < least ? "(" + t.text + ")" : t.text; };
    return fold<term>([](const node& n) { return term{n.op == operation::number ? std::to_string(n.number) : n.name}; },
                      [&](operation op, term a, term b) {
                          const std::string name(detail::name_of(op));
                          if (op > operation::multiply) return term{name + "(" + a.text + ", " + b.text + ")"};
                          const int binds = op == operation::multiply ? 2 : 1;
                          return term{within(a, binds) + " " + name + " " + within(b, op == operation::subtract ? 2 : binds), binds};
                      })
        .text;
}

inline std::string formula::json() const {
    return fold<std::string>([](const node& n) { return n.op == operation::number ? std::to_string(n.number) : detail::json_string(n.name); },
                             [](operation op, const std::string& a, const std::string& b) {
                                 return detail::json_list('[').add(detail::json_string(detail::name_of(op))).add(a).add(b).close();
                             });
}

inline std::string lacking(const feature_set& needed, const feature_set& offered) {
    std::string names;
    for (const detail::feature& f : detail::all_features) {
        if (needed.*f.member && !(offered.*f.member)) names.append(names.empty() ? "" : ", ").append(f.name);
    }
    return names;
}

inline std::string manifest::json() const {
    using detail::json_list, detail::json_string, detail::json_of_each;
    const auto binding_json = [](const binding& b) {
        return json_list('{')
            .add("name", json_string(b.name))
            .add("type", json_string(name_of(b.type)))
            .add("width", b.width)
            .add("access", b.access == access::read ? "\"read\"" : "\"read_write\"")
            .add("length", b.length.json())
            .add("by_rows", b.by_rows ? "true" : "false")
            .close();
    };
    const auto parameter_json = [](const parameter& p) {
        json_list out('{');
        out.add("name", json_string(p.name)).add("type", json_string(name_of(p.type)));
        if (p.value) out.add("value", p.value->json());
        return out.close();
    };
    const auto constant_json = [](const constant& c) { return json_list('{').add("name", json_string(c.name)).add("id", c.id).add("value", c.value).close(); };
    const auto rules_json = [](const std::vector<size_rule>& rules) {
        json_list out('{');
        for (const auto& rule : rules) out.add(rule.size, rule.number);
        return out.close();
    };
    json_list out('{');
    out.add("kernel", json_string(kernel))
        .add("codec", json_string(codec))
        .add("entry", json_string(entry))
        .add("workgroup", json_of_each(workgroup, [](std::uint32_t n) { return std::to_string(n); }))
        .add("sizes", json_of_each(sizes, json_string));
    if (!fixed.empty()) out.add("fixed", rules_json(fixed));
    if (!multiples.empty()) out.add("multiples", rules_json(multiples));
    return out.add("bindings", json_of_each(bindings, binding_json))
        .add("parameters", json_of_each(parameters, parameter_json))
        .add("constants", json_of_each(constants, constant_json))
        .add("workgroups", workgroups.json())
        .add("features", detail::features_json(features, false))
        .add("language_features", detail::features_json(features, true))
        .add("workgroup_bytes", workgroup_bytes)
        .add("rows", json_string(rows))
        .add("row_granule", row_granule)
        .close();
}

inline result<std::vector<dispatch>> plan(const manifest& m, const size_values& sizes, const device_limits& limits) {
    return detail::planner(m, sizes, limits).dispatches();
}

inline result<void> give_parameters(const manifest& m, const parameter_values& values, std::vector<dispatch>& dispatches) {
    std::vector<bool> used(values.size());
    for (std::size_t i = 0; i < m.parameters.size(); ++i) {
        const parameter& p = m.parameters[i];
        if (p.value) continue;
        const auto given = std::find_if(values.begin(), values.end(), [&](const auto& v) { return v.first == p.name; });
        if (given == values.end()) {
            return fail(errc::missing, "kernel '" + m.kernel + "' takes the parameter '" + p.name + "' from its host, which does not give it");
        }
        used[static_cast<std::size_t>(given - values.begin())] = true;
        const auto bits = detail::bits_of(p.type, given->second);
        if (!bits) {
            return fail(errc::mismatch, "kernel '" + m.kernel + "' takes the parameter '" + p.name + "' as " + std::string(name_of(p.type)) +
                                            ", which cannot be " + std::to_string(given->second));
        }
        for (dispatch& d : dispatches) d.parameters[i] = *bits;
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (!used[i]) return fail(errc::mismatch, "kernel '" + m.kernel + "' takes no parameter '" + values[i].first + "' from its host");
    }
    return {};
}

inline std::vector<std::uint64_t> buffer_bytes(const manifest& m, const std::vector<dispatch>& dispatches) {
    std::vector<std::uint64_t> ends(m.bindings.size());
    for (const dispatch& d : dispatches) {
        for (std::size_t i = 0; i < ends.size(); ++i) ends[i] = std::max(ends[i], d.bindings[i].offset + d.bindings[i].bytes);
    }
    return ends;
}

}  // namespace nibble::gpu
