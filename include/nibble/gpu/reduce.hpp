// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a whole workgroup knows together: sums, greatest and least values over its invocations.

#include <bit>

#include "nibble/gpu/spec.hpp"

namespace nibble::gpu {

/// Takes one value of each invocation and gives all of them the result, as often as one likes, in uniform flow only. tuning::workgroup is a
/// power of two. No size of subgroup is assumed.
template <shader_value T>
class workgroup_reduction {
public:
    workgroup_reduction(shader& s, const tuning& t) : s_(&s), t_(t), partial_(s.shared<T>("partial", t.workgroup)) {}

    [[nodiscard]] expr<T> sum(std::string_view name, const expr<T>& own) const {
        return reduce(
            name, own, [](const auto& a, const auto& b) { return expr<T>(a + b); }, [](const auto& a) { return subgroup_add(a); });
    }
    [[nodiscard]] expr<T> greatest(std::string_view name, const expr<T>& own) const {
        return reduce(
            name, own, [](const auto& a, const auto& b) { return expr<T>(max(a, b)); }, [](const auto& a) { return subgroup_max(a); });
    }
    [[nodiscard]] expr<T> least(std::string_view name, const expr<T>& own) const {
        return reduce(
            name, own, [](const auto& a, const auto& b) { return expr<T>(min(a, b)); }, [](const auto& a) { return subgroup_min(a); });
    }

private:
    shader* s_;
    tuning t_;
    elements<T, place> partial_;

    template <class Combine, class OfSubgroup>
    expr<T> reduce(std::string_view name, const expr<T>& own, Combine&& combine, OfSubgroup&& of_subgroup) const {
        auto& s = *s_;
        const auto local = s.local_index();
        if (t_.subgroups) {
            const auto of_own = s.let("of_subgroup", of_subgroup(own));
            s.if_(s.subgroup_lane() == 0u, [&] { partial_[s.subgroup_id()] = of_own; });
            s.barrier();
            const auto total = s.var<T>(name, partial_[0u]);
            s.for_("i", 1u, s.num_subgroups(), 1u, [&](const expr<u32>& i) { total = combine(total, partial_[i]); });
            s.barrier();
            return total;
        }
        partial_[local] = own;
        s.barrier();
        s.for_("level", 0u, static_cast<u32>(std::bit_width(t_.workgroup) - 1), 1u, [&](const expr<u32>& level) {
            const auto stride = s.let("stride", (t_.workgroup / 2) >> level);
            s.if_(local < stride, [&] { partial_[local] = combine(partial_[local], partial_[local + stride]); });
            s.barrier();
        });
        const auto total = s.let(name, partial_[0u]);
        s.barrier();  // all have read it: the memory may be used again
        return total;
    }
};

}  // namespace nibble::gpu
