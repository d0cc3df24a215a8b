// SPDX-License-Identifier: Apache-2.0
#pragma once
// A manifest from its JSON, as a host reads it. What is not as manifest::json() writes it throws: a mistake in a test.

#include "nibble/core/json.hpp"
#include "nibble/gpu/manifest.hpp"

namespace nibble::test {

inline gpu::formula formula_of(const json& j) {
    if (j.is_number()) return gpu::formula(j.get<std::uint64_t>());
    if (j.is_string()) return gpu::formula::size(j.get<std::string>());
    const auto op = j.at(0).get<std::string>();
    const gpu::formula a = formula_of(j.at(1));
    const gpu::formula b = formula_of(j.at(2));
    if (op == "+") return a + b;
    if (op == "-") return a - b;
    if (op == "*") return a * b;
    if (op == "ceil_div") return ceil_div(a, b);
    if (op == "least") return least(a, b);
    if (op == "greatest") return greatest(a, b);
    throw std::invalid_argument("no operation of formulas: " + op);
}

inline gpu::scalar scalar_of(const json& j) {
    for (const auto type : {gpu::scalar::u32, gpu::scalar::i32, gpu::scalar::f32, gpu::scalar::f16, gpu::scalar::boolean}) {
        if (j.get<std::string>() == gpu::name_of(type)) return type;
    }
    throw std::invalid_argument("no scalar type: " + j.dump());
}

inline gpu::size_values sizes_of(const json& j) {
    gpu::size_values sizes;
    for (const auto& [name, value] : j.items()) sizes.emplace_back(name, value.get<std::uint64_t>());
    return sizes;
}

inline gpu::manifest manifest_of(const json& j) {
    gpu::manifest m;
    m.kernel = j.at("kernel").get<std::string>();
    m.codec = j.at("codec").get<std::string>();
    m.entry = j.at("entry").get<std::string>();
    m.workgroup = j.at("workgroup").get<std::array<std::uint32_t, 3>>();
    m.sizes = j.at("sizes").get<std::vector<std::string>>();
    for (const json& b : j.at("bindings")) {
        m.bindings.push_back({b.at("name").get<std::string>(), scalar_of(b.at("type")), b.at("width").get<unsigned>(),
                              b.at("access") == "read" ? gpu::access::read : gpu::access::read_write, formula_of(b.at("length")), b.at("by_rows").get<bool>()});
    }
    for (const json& p : j.at("parameters")) {
        m.parameters.push_back({p.at("name").get<std::string>(), scalar_of(p.at("type")), std::nullopt});
        if (p.contains("value")) m.parameters.back().value = formula_of(p.at("value"));
    }
    for (const json& c : j.at("constants")) {
        m.constants.push_back({c.at("name").get<std::string>(), c.at("id").get<std::uint32_t>(), c.at("value").get<std::uint32_t>()});
    }
    m.workgroups = formula_of(j.at("workgroups"));
    for (const char* list : {"features", "language_features"}) {
        for (const json& name : j.at(list)) {
            bool& feature = name == "shader-f16"                       ? m.features.f16
                            : name == "subgroups"                      ? m.features.subgroups
                            : name == "subgroup_id"                    ? m.features.subgroup_id
                            : name == "packed_4x8_integer_dot_product" ? m.features.int8_dot
                                                                       : m.features.matrix;
            feature = true;
        }
    }
    for (const auto& [list, rules] : {std::pair("fixed", &m.fixed), std::pair("multiples", &m.multiples)}) {
        if (!j.contains(list)) continue;
        for (const auto& [name, number] : j.at(list).items()) rules->push_back({name, number.get<std::uint64_t>()});
    }
    m.workgroup_bytes = j.at("workgroup_bytes").get<std::uint64_t>();
    m.rows = j.at("rows").get<std::string>();
    m.row_granule = j.at("row_granule").get<std::uint64_t>();
    return m;
}

}  // namespace nibble::test
