// SPDX-License-Identifier: Apache-2.0
#pragma once
// What kernels are asked for: one struct for all of them, each reads what concerns it.

#include <cmath>
#include <cstdint>

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
};

/// Which kernel exactly. What does not concern a kernel is ignored by it.
struct kernel_spec {
    scalar activations = scalar::f32;  ///< f32 or f16: inputs and outputs that are no weights; sums are f32
    u32 n = 0;                         ///< rows of the weights; 0: a parameter
    u32 k = 0;                         ///< columns of the weights; 0: a parameter
    bool whole_groups = true;          ///< where k is a parameter: every k is a multiple of the group (of 8 for plain weights)
    u32 columns = 1;                   ///< vectors that are multiplied at once, 1 to 8
    bool bias = false;                 ///< + bias[n], before the activation
    bool residual = false;             ///< + residual[n], after it
    activation act = activation::none;
    tuning tune{};
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
    real_output(shader& s, scalar type, std::string_view name, const formula& length)
        : half_(type == scalar::f16), name_(half_ ? s.declare_output<own<f16>>(name, length) : s.declare_output<own<f32>>(name, length)), s_(&s) {}
    [[nodiscard]] expr<own<f32>> operator[](const expr<u32>& i) const {
        if (half_) return convert<own<f32>>(output_buffer<own<f16>>(s_, name_)[i]);
        return output_buffer<own<f32>>(s_, name_)[i];
    }
    void store(const expr<u32>& i, const expr<own<f32>>& value) const {
        if (half_)
            output_buffer<own<f16>>(s_, name_)[i] = convert<own<f16>>(value);
        else
            output_buffer<own<f32>>(s_, name_)[i] = value;
    }

private:
    bool half_;
    std::string name_;
    shader* s_;
};

}  // namespace nibble::gpu
