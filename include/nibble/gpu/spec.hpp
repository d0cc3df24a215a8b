// SPDX-License-Identifier: Apache-2.0
#pragma once
// What kernels are asked for: one struct for all of them, each reads what concerns it.

#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "nibble/core/number.hpp"
#include "nibble/gpu/ir.hpp"

namespace nibble::gpu {

/// What is applied to a sum before it is stored.
enum class activation : std::uint8_t {
    none,
    silu,  ///< x / (1 + exp(-x))
    gelu   ///< 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
};

/// How the work is cut: no value changes a result beyond rounding.
struct tuning {
    u32 lanes_k = 16;        ///< invocations that share a row along K
    u32 lanes_n = 4;         ///< groups of them in a workgroup, side by side along N
    u32 rows_per_lane = 4;   ///< rows that an invocation computes at once
    bool subgroups = false;  ///< sums across invocations by subgroup operations; lanes_n is then 1
    u32 threads_m = 8;       ///< GEMM: invocations along M and N, and what each computes
    u32 threads_n = 8;
    u32 m_per_thread = 4;
    u32 n_per_thread = 4;  ///< a multiple of 4
    u32 k_per_tile = 32;   ///< GEMM: values along K that workgroup memory holds at once, as near below this as codec and memory allow
    u32 workgroup = 64;    ///< invocations of a workgroup in all other kernels
    u32 slice = 2048;      ///< argmax, top_k: numbers of a row that a workgroup looks at
    u32 loads = 16;        ///< stream_read: vectors that an invocation reads
};

/// Which kernel exactly. What does not concern a kernel is ignored by it.
struct kernel_spec {
    scalar activations = scalar::f32;  ///< f32 or f16: inputs and outputs that are no weights; sums are f32
    u32 n = 0;                         ///< rows of the weights; 0: a parameter
    u32 k = 0;                         ///< columns of the weights; 0: a parameter
    bool whole_groups = true;          ///< where k is a parameter: every k is a multiple of the group (of 8 for plain weights, of 4 without)
    u32 columns = 1;                   ///< vectors that are multiplied at once, 1 to 8
    bool bias = false;                 ///< + bias[n], before the activation
    bool residual = false;             ///< + residual[n], after it
    activation act = activation::none;
    bool scaled = false;         ///< embeddings: times the host's `factor`, as Gemma multiplies them by the root of their width
    bool gain_plus_one = false;  ///< norms: gains are stored less 1, as Gemma's are
    bool per_head = false;       ///< norms: of heads within rows, in place
    u32 heads = 0;               ///< query heads
    u32 kv_heads = 0;            ///< heads of keys and values; each serves heads / kv_heads query heads
    u32 head_dim = 0;            ///< numbers of a head, a multiple of 4
    u32 rotary = 0;              ///< rope: numbers of a head that turn; 0: a parameter, as are the three above
    bool interleaved = false;    ///< rope: pairs are neighbours
    bool separate_qkv = false;   ///< rope: queries, keys and values come in a buffer each
    u32 window = 0;              ///< positions that a token attends to, its own included; 0: all up to its own
    float soft_cap = 0;          ///< attention scores become cap * tanh(score / cap); 0: they stay
    bool sinks = false;          ///< each query head has a learned score that takes part in the softmax and has no value
    bool split = false;          ///< attention_decode leaves parts of its sums, which attention_merge joins
    u32 best = 40;               ///< top_k: how many
    bool merge = false;          ///< argmax, top_k: of values and ids that an earlier pass has left
    tuning tune{};

    /// Whether rows of k numbers, where no weights are read, are whole vectors of 4.
    [[nodiscard]] bool whole_vectors() const { return k == 0 ? whole_groups : k % 4 == 0; }
};

/// A member of kernel_spec, for programs that take it from a user: by name, with what it means.
struct spec_field {
    std::string_view name;
    std::variant<u32 kernel_spec::*, bool kernel_spec::*, float kernel_spec::*, u32 tuning::*, bool tuning::*> member;
    std::string_view meaning;
};
inline constexpr std::array spec_fields{
    spec_field{"n", &kernel_spec::n, "Rows of the weights; 0: a parameter of the kernel"},
    spec_field{"k", &kernel_spec::k, "Columns of the weights; 0: a parameter of the kernel"},
    spec_field{"columns", &kernel_spec::columns, "Vectors that are multiplied at once, 1 to 8"},
    spec_field{"bias", &kernel_spec::bias, "Add a bias before the activation"},
    spec_field{"residual", &kernel_spec::residual, "Add a residual after the activation"},
    spec_field{"scaled", &kernel_spec::scaled, "Embeddings are multiplied by a factor of the host's"},
    spec_field{"gain_plus_one", &kernel_spec::gain_plus_one, "Gains of norms are stored less 1"},
    spec_field{"per_head", &kernel_spec::per_head, "Norms of heads within rows"},
    spec_field{"heads", &kernel_spec::heads, "Query heads"},
    spec_field{"kv_heads", &kernel_spec::kv_heads, "Heads of keys and values"},
    spec_field{"head_dim", &kernel_spec::head_dim, "Numbers of a head"},
    spec_field{"rotary", &kernel_spec::rotary, "Numbers of a head that rope turns; 0: a parameter of the kernel"},
    spec_field{"interleaved", &kernel_spec::interleaved, "Pairs that rope turns are neighbours"},
    spec_field{"separate_qkv", &kernel_spec::separate_qkv, "Queries, keys and values come in a buffer each"},
    spec_field{"window", &kernel_spec::window, "Positions that a token attends to; 0: all"},
    spec_field{"soft_cap", &kernel_spec::soft_cap, "Bound of attention scores; 0: none"},
    spec_field{"sinks", &kernel_spec::sinks, "Each query head has a learned score without a value"},
    spec_field{"split", &kernel_spec::split, "Attention leaves parts of its sums, to be merged"},
    spec_field{"best", &kernel_spec::best, "Numbers that top_k finds"},
    spec_field{"merge", &kernel_spec::merge, "argmax and top_k read what an earlier pass has left"},
    spec_field{"lanes_k", &tuning::lanes_k, "Invocations that share a row"},
    spec_field{"lanes_n", &tuning::lanes_n, "Groups of lanes in a workgroup"},
    spec_field{"rows_per_lane", &tuning::rows_per_lane, "Rows that an invocation computes at once"},
    spec_field{"subgroups", &tuning::subgroups, "Sum by subgroup operations"},
    spec_field{"threads_m", &tuning::threads_m, "Invocations of a tile along M"},
    spec_field{"threads_n", &tuning::threads_n, "Invocations of a tile along N"},
    spec_field{"m_per_thread", &tuning::m_per_thread, "Rows of a tile that an invocation computes"},
    spec_field{"n_per_thread", &tuning::n_per_thread, "Columns of a tile that an invocation computes"},
    spec_field{"k_per_tile", &tuning::k_per_tile, "Values along K of a tile"},
    spec_field{"slice", &tuning::slice, "Numbers that a workgroup of argmax or top_k looks at"},
    spec_field{"loads", &tuning::loads, "Loads of an invocation of stream_read"},
    spec_field{"workgroup", &tuning::workgroup, "Invocations of a workgroup in all other kernels"},
};

/// The activation as the law says it.
[[nodiscard]] inline double activated(activation a, double x) {
    if (a == activation::silu) return x / (1.0 + std::exp(-x));
    if (a == activation::gelu) return 0.5 * x * (1.0 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    return x;
}
/// The same in a shader. tanh is only asked for where every driver has it right: it is 1 beyond 10.
[[nodiscard]] inline expr<f32> activated(shader& s, activation a, const expr<f32>& x) {
    if (a == activation::none) return x;
    const auto v = s.let("v", x);
    if (a == activation::silu) return v / (1.0F + exp(-v));
    const auto t = clamp(0.7978845608F * (v + 0.044715F * v * v * v), -10.0F, 10.0F);
    return 0.5F * v * (1.0F + tanh(t));
}

/// A buffer of f32 or f16, as a spec says at run time, whose elements are read as vectors of Width f32.
template <unsigned Width = 1>
class real_input {
    template <class T>
    using own = vec_or_scalar<T, Width>;

public:
    real_input(shader& s, scalar type, std::string_view name, const formula& length, bool by_rows = false)
        : half_(type == scalar::f16),
          name_(half_ ? s.declare_input<own<f16>>(name, length, by_rows) : s.declare_input<own<f32>>(name, length, by_rows)),
          s_(&s) {}
    [[nodiscard]] expr<own<f32>> operator[](const expr<u32>& i) const {
        if (half_) return convert<own<f32>>(input_buffer<own<f16>>(s_, name_)[i]);
        return input_buffer<own<f32>>(s_, name_)[i];
    }

private:
    bool half_;
    std::string name_;
    shader* s_;
};
/// The same to store to.
template <unsigned Width = 1>
class real_output {
    template <class T>
    using own = vec_or_scalar<T, Width>;

public:
    real_output(shader& s, scalar type, std::string_view name, const formula& length, bool by_rows = false)
        : half_(type == scalar::f16),
          name_(half_ ? s.declare_output<own<f16>>(name, length, by_rows) : s.declare_output<own<f32>>(name, length, by_rows)),
          s_(&s) {}
    [[nodiscard]] expr<own<f32>> operator[](const expr<u32>& i) const {
        if (half_) return convert<own<f32>>(output_buffer<own<f16>>(s_, name_)[i]);
        return output_buffer<own<f32>>(s_, name_)[i];
    }
    void store(const expr<u32>& i, const expr<own<f32>>& value) const {
        if (half_)
            output_buffer<own<f16>>(s_, name_)[i] = convert<own<f16>>(expr<own<f32>>(s_, value.node_in(*s_)));
        else
            output_buffer<own<f32>>(s_, name_)[i] = value;
    }

private:
    bool half_;
    std::string name_;
    shader* s_;
};

}  // namespace nibble::gpu
