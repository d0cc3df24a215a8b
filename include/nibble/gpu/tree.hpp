// SPDX-License-Identifier: Apache-2.0
#pragma once
// A kernel as data: expressions, statements, buffers, workgroup memory. ir.hpp builds it with C++ types that refuse mistakes;
// wgsl.hpp and glsl.hpp print it.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "nibble/gpu/manifest.hpp"

namespace nibble::gpu {

/// A scalar (width 1) or a vector of 2 or 4.
struct shader_type {
    scalar of = scalar::f32;
    std::uint8_t width = 1;
    friend constexpr bool operator==(shader_type, shader_type) = default;
};

/// What an expression does with its arguments.
enum class op : std::uint8_t {
    literal,    ///< `bits`
    name,       ///< a variable, parameter or builtin
    index,      ///< name[argument]: of a buffer, an array or a vector
    component,  ///< argument.x, .y, .z or .w: `bits` says which
    negate,
    logical_not,
    add,
    subtract,
    multiply,
    divide,
    modulo,
    shift_left,
    shift_right,
    bit_and,
    bit_or,
    bit_xor,
    less,
    less_equal,
    greater,
    greater_equal,
    equal,
    not_equal,
    both,
    either,
    convert,  ///< by value
    bitcast,  ///< by bits
    make,     ///< a vector of its components, or of one for all
    select,   ///< arguments 0 ? 1 : 2
    call      ///< `function`
};

/// Functions that both shading languages have, some by other names.
enum class function : std::uint8_t {
    dot,
    fma,
    min,
    max,
    clamp,
    abs,
    exp,
    log,
    tanh,
    sqrt,
    inverse_sqrt,
    floor,
    round_even,
    pow,
    sin,
    cos,
    unpack_half2,   ///< u32 to two f32
    dot_packed_i8,  ///< 4 products of signed bytes, summed: i32
    subgroup_add,
    subgroup_max,
    subgroup_min
};

/// Values that the hardware hands in.
enum class builtin : std::uint8_t { workgroup_id, num_workgroups, local_index, subgroup_id, subgroup_lane, subgroup_size, num_subgroups };
inline constexpr std::size_t n_builtins = 7;

using node_id = std::uint32_t;

/// One expression of a shader.
struct node {
    op what = op::literal;
    shader_type type;
    std::uint32_t bits = 0;
    gpu::function function = gpu::function::dot;
    std::string name;
    std::array<node_id, 4> arguments{};
    std::uint8_t n_arguments = 0;
};

/// One statement of a shader.
struct statement {
    enum class kind : std::uint8_t {
        let,       ///< name = a, never changed
        variable,  ///< name = a
        array,     ///< name of `count` elements, each zero
        assign,    ///< a = b
        branch,    ///< if a: body, else: other
        loop,      ///< name from a, while below b, step c
        barrier,   ///< all of a workgroup arrive, and see each other's writes to workgroup memory
        leave,     ///< return
        comment
    };
    kind what = kind::comment;
    std::string name;  ///< or the comment
    shader_type type;
    std::uint32_t count = 0;
    node_id a = 0, b = 0, c = 0;
    std::vector<statement> body{};
    std::vector<statement> other{};
};

/// An array in workgroup memory.
struct shared_array {
    std::string name;
    shader_type type;
    std::uint32_t count = 0;
};

/// A whole kernel.
struct program {
    gpu::manifest manifest;
    std::vector<std::string> about;  ///< lines of comment at its top
    std::vector<node> nodes;
    std::vector<shared_array> shared;
    std::vector<statement> body;
    std::array<bool, n_builtins> uses{};  ///< by builtin
};

}  // namespace nibble::gpu
