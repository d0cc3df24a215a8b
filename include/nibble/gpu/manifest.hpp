// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a host must know to run a kernel without reading its text: bindings, parameters, workgroup, grid, features and limits, all of it
// data. Sizes that are known only at the call are formulas over named sizes ("n", "k"), and plan() makes dispatches of them that
// respect a device's limits.

#include <array>
#include <cstdint>
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
[[nodiscard]] constexpr std::uint64_t bytes_of(scalar type) { return type == scalar::f16 ? 2 : 4; }
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

    /// Nothing if a size that it names is missing, or a divisor is 0.
    [[nodiscard]] std::optional<std::uint64_t> value(const size_values& sizes) const;
    /// As a person reads it: "ceil_div(n, 4)".
    [[nodiscard]] std::string text() const;
    /// As JSON: 4, "n", or ["ceil_div", "n", 4].
    [[nodiscard]] std::string json() const;

private:
    struct node {  // in postfix order
        operation op;
        std::uint64_t number;
        std::string name;
    };
    std::vector<node> nodes_;

    static formula combine(operation op, const formula& a, const formula& b);
    template <class Leaf, class Branch>
    [[nodiscard]] std::string fold(Leaf&& leaf, Branch&& branch) const;
};

enum class access : std::uint8_t { read, read_write };

/// A storage buffer, bound at the place that it has in manifest::bindings.
struct binding {
    std::string name;
    scalar type = scalar::f32;
    unsigned width = 1;  ///< scalars an element has: 4 for vec4<u32>
    gpu::access access = gpu::access::read;
    formula length = 0;  ///< elements
    bool by_rows = false;  ///< split along the rows, see manifest::rows

    [[nodiscard]] std::uint64_t element_bytes() const { return bytes_of(type) * width; }
};

/// Four bytes that a kernel reads: a member of the uniform struct, which is bound after the last buffer (WGSL), or of the push
/// constants (SPIR-V), in the order of manifest::parameters.
struct parameter {
    std::string name;
    scalar type = scalar::u32;
    std::optional<formula> value;  ///< from the sizes; none: the host gives it
};

/// A constant that a host may set when it makes the pipeline: `override` in WGSL, specialization constant `id` in SPIR-V.
struct constant {
    std::string name;
    std::uint32_t id = 0;
    std::uint32_t value = 0;  ///< if it is not set
};

/// What a device may lack, by WebGPU's names.
struct feature_set {
    bool f16 = false;              ///< "shader-f16"
    bool subgroups = false;        ///< "subgroups"
    bool subgroup_id = false;      ///< WGSL language feature "subgroup_id"
    bool int8_dot = false;         ///< WGSL language feature "packed_4x8_integer_dot_product"
    bool matrix = false;           ///< cooperative matrices (SPIR-V only)
};

/// What a device allows. The defaults are those of WebGPU, which every device has.
struct device_limits {
    std::uint64_t max_binding_bytes = 128u << 20;
    std::uint64_t max_workgroups = 65535;  ///< in each dimension
    std::uint64_t max_workgroup_bytes = 16384;
    std::uint64_t max_invocations = 256;  ///< in a workgroup
    std::uint64_t max_storage_buffers = 8;
    std::uint64_t binding_alignment = 256;  ///< of the offset of a bound range
};

/// Everything about a kernel but its text. To run it: make pipelines from text and constants, then run what plan() says.
struct manifest {
    std::string kernel;  ///< "gemv"
    std::string codec;   ///< "q4f16_1"; empty where no weights are read
    std::string entry = "main";
    std::array<std::uint32_t, 3> workgroup{1, 1, 1};
    std::vector<std::string> sizes;  ///< names that a call must give
    std::vector<binding> bindings;
    std::vector<parameter> parameters;
    std::vector<constant> constants;
    formula workgroups = 1;  ///< in all; plan() folds them into a grid whose dimensions are at most max_workgroups
    feature_set features;
    std::uint64_t workgroup_bytes = 0;  ///< workgroup memory
    /// The size along which a call may be cut where a binding is above the limit of a device: its name ("n"), or empty. A call is then made for
    /// each range, with two more sizes, "first_row" and "rows" ("rows" is the whole where nothing is cut); bindings that are
    /// `by_rows` are bound from row first_row on, `rows` of them.
    std::string rows;
    std::uint64_t row_granule = 1;  ///< rows of a range are a multiple of this, but for the last range

    /// As JSON, for hosts in other languages.
    [[nodiscard]] std::string json() const;
};

/// One dispatch: what to bind, the parameters' bits (those that the host gives are 0), the grid.
struct dispatch {
    struct range {
        std::uint64_t offset = 0;  ///< bytes
        std::uint64_t bytes = 0;
    };
    size_values sizes;  ///< of the call, "first_row" and "rows" included
    std::vector<range> bindings;
    std::vector<std::uint32_t> parameters;
    std::array<std::uint32_t, 3> grid{1, 1, 1};
};

/// The dispatches of a call. Errors: missing (a size), refused (a limit that no cut can respect).
[[nodiscard]] result<std::vector<dispatch>> plan(const manifest& m, const size_values& sizes, const device_limits& limits = {});

}  // namespace nibble::gpu
