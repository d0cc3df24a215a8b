// SPDX-License-Identifier: Apache-2.0
#pragma once
// An ONNX graph while it is described, and the file that it becomes. Weights are promises (a size and who makes the bytes), so that a
// model of any size is written as a stream.

#include <cstdint>
#include <limits>
#include <string>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "nibble/core/tensor.hpp"
#include "nibble/onnx/assembly.hpp"

namespace nibble::onnx {

/// TensorProto.DataType, as far as it is written here.
enum class element : std::uint32_t { f32 = 1, u8 = 2, i8 = 3, i32 = 6, i64 = 7, boolean = 9, f16 = 10, f64 = 11, bf16 = 16, u4 = 21, i4 = 22 };

/// The domain of ONNX Runtime's own operators.
inline constexpr const char* microsoft = "com.microsoft";

/// A constant of a graph.
struct initializer {
    std::string name;
    element type = element::f32;
    std::vector<std::uint64_t> dims;
    std::uint64_t n_bytes = 0;
    producer make;  ///< little-endian, as raw_data has it
};

/// A dimension is a number, or a name for one that is known later.
using dimension = std::variant<std::int64_t, std::string>;
/// What an attribute may hold.
using attribute_value = std::variant<std::int64_t, float, std::string, std::vector<std::int64_t>>;

/// An attribute of a node.
struct attribute {
    std::string name;
    attribute_value value;
};

/// A node of a graph.
struct node {
    std::string op_type;
    std::vector<std::string> inputs;   ///< an empty name: an optional input that is not given
    std::vector<std::string> outputs;  ///< likewise
    std::vector<attribute> attributes{};
    std::string domain{};
    std::string name{};  ///< empty: "/" and the first output, its dots as slashes
};

/// An input or output of a graph.
struct graph_value {
    std::string name;
    element type = element::f32;
    std::vector<dimension> dims;  ///< none: a scalar
};

/// Serializes one attribute or node.
inline void write_attribute(pbf_writer& out, const attribute& a) {
    namespace f = field::attribute;
    pbf_writer w(out, field::node::attribute);
    w.add_string(f::name, a.name);
    const auto type = [&](attribute_type t) { w.add_uint32(f::type, static_cast<std::uint32_t>(t)); };
    if (const auto* i = std::get_if<std::int64_t>(&a.value)) {
        w.add_int64(f::i, *i);
        type(attribute_type::i);
    } else if (const auto* x = std::get_if<float>(&a.value)) {
        w.add_float(f::f, *x);
        type(attribute_type::f);
    } else if (const auto* s = std::get_if<std::string>(&a.value)) {
        w.add_string(f::s, *s);
        type(attribute_type::s);
    } else {
        for (const auto v : std::get<std::vector<std::int64_t>>(a.value)) w.add_int64(f::ints, v);
        type(attribute_type::ints);
    }
}
inline void write_node(pbf_writer& w, const node& n) {
    namespace f = field::node;
    for (const auto& in : n.inputs) w.add_string(f::input, in);
    for (const auto& out : n.outputs) w.add_string(f::output, out);
    if (!n.name.empty()) w.add_string(f::name, n.name);
    w.add_string(f::op_type, n.op_type);
    for (const auto& a : n.attributes) write_attribute(w, a);
    if (!n.domain.empty()) w.add_string(f::domain, n.domain);
}
inline void write_value_info(pbf_writer& w, const graph_value& v) {
    w.add_string(field::value_info::name, v.name);
    pbf_writer type(w, field::value_info::type);
    pbf_writer tensor(type, field::type::tensor);
    tensor.add_uint32(field::tensor_type::element, static_cast<std::uint32_t>(v.type));
    std::string shape;
    pbf_writer dims(shape);
    for (const auto& d : v.dims) {
        pbf_writer dim(dims, field::shape::dim);
        if (const auto* n = std::get_if<std::int64_t>(&d))
            dim.add_int64(field::shape::dim_value, *n);
        else
            dim.add_string(field::shape::dim_param, std::get<std::string>(d));
    }
    tensor.add_message(field::tensor_type::shape, shape);  // a scalar's is there, and empty; as a nested writer it would be left out
}

/// Where a constant's bytes are, if not in the model's own file.
struct external_place {
    std::string file;
    std::uint64_t offset = 0;
};

[[nodiscard]] inline assembly tensor_message(const initializer& t, const external_place* outside = nullptr) {
    namespace f = field::tensor;
    assembly a;
    a.fields([&](pbf_writer& w) {
        for (const auto d : t.dims) w.add_int64(f::dims, static_cast<std::int64_t>(d));
        w.add_uint32(f::data_type, static_cast<std::uint32_t>(t.type));
        w.add_string(f::name, t.name);
        if (outside == nullptr) return;
        const auto entry = [&](const char* key, const std::string& value) {
            pbf_writer e(w, f::external_data);
            e.add_string(field::entry::key, key);
            e.add_string(field::entry::value, value);
        };
        entry("location", outside->file);
        entry("offset", std::to_string(outside->offset));
        entry("length", std::to_string(t.n_bytes));
        w.add_uint32(f::data_location, 1);
    });
    if (outside != nullptr) return a;
    a.open(f::raw_data, t.n_bytes);
    a.make(t.n_bytes, t.make);
    return a;
}

/// A graph in the making. Names of values are strings; the verbs return them, so that one call's result is the next one's argument.
class graph {
public:
    std::string input(std::string name, element type, std::vector<dimension> dims) {
        inputs_.push_back({name, type, std::move(dims)});
        return name;
    }
    void output(std::string name, element type, std::vector<dimension> dims) { outputs_.push_back({std::move(name), type, std::move(dims)}); }

    /// Appends a node, whose inputs must have been made before it; returns its first output.
    std::string add(node n) {
        if (n.name.empty()) {
            n.name = "/" + n.outputs[0];
            std::replace(n.name.begin(), n.name.end(), '.', '/');
        }
        nodes_.push_back(std::move(n));
        return nodes_.back().outputs[0];
    }
    /// A node with one output.
    std::string add(std::string op_type, std::vector<std::string> inputs, std::string out, std::vector<attribute> attributes = {}, std::string domain = {}) {
        return add(node{std::move(op_type), std::move(inputs), {std::move(out)}, std::move(attributes), std::move(domain), {}});
    }

    /// A constant; one of the same name that is there already is taken instead.
    std::string constant(initializer t) {
        auto name = t.name;
        if (names_.insert(name).second) constants_.push_back(std::move(t));
        return name;
    }
    [[nodiscard]] bool has_constant(const std::string& name) const { return names_.contains(name); }

    /// Small constants of numbers that are known now; no dims: a scalar.
    template <class T>
    std::string numbers(std::string name, element type, std::vector<std::uint64_t> dims, const std::vector<T>& values) {
        std::string bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
        const auto n = bytes.size();
        return constant(
            {std::move(name), type, std::move(dims), n, [bytes = std::move(bytes)](const sink& to) { return to(std::as_bytes(std::span(bytes))); }});
    }
    std::string int64s(std::string name, const std::vector<std::int64_t>& values) { return numbers(std::move(name), element::i64, {values.size()}, values); }
    std::string int64(std::string name, std::int64_t value) { return numbers(std::move(name), element::i64, {}, std::vector{value}); }

    [[nodiscard]] const std::vector<node>& nodes() const { return nodes_; }
    [[nodiscard]] const std::vector<initializer>& constants() const { return constants_; }

private:
    friend class model_writer;
    std::vector<graph_value> inputs_;
    std::vector<graph_value> outputs_;
    std::vector<node> nodes_;
    std::vector<initializer> constants_;
    std::unordered_set<std::string> names_;
};

/// No protobuf message, and so no model file, may be longer; browsers and ONNX Runtime read no longer files of weights either.
inline constexpr std::uint64_t largest_file = (std::uint64_t{1} << 31) - 1;

/// What stands around a graph.
struct model_options {
    std::string producer = "nibble";
    std::string producer_version{};
    std::vector<std::pair<std::string, std::int64_t>> opsets{{"", 21}, {microsoft, 1}};
    std::int64_t ir_version = 10;
    std::string graph_name = "main_graph";
    /// Constants of at least 1 kB go to files of this name, "_1", "_2" and so on behind it as they fill; empty: all in the model's file.
    std::string external_name{};
    std::uint64_t external_limit = largest_file;  ///< bytes of one such file
};

/// A file of an ONNX model, ready to be written.
struct model_part {
    std::string name;  ///< of a file of weights; the model's own has none
    assembly content;
};

/// A graph as files: those of weights first, the model's own last. Errors: refused, where a file would be too long.
class model_writer {
public:
    [[nodiscard]] static result<std::vector<model_part>> write(const graph& g, const model_options& options = {}) {
        std::vector<model_part> parts;
        assembly body;
        for (const auto& n : g.nodes_) {
            body.fields([&](pbf_writer& w) {
                pbf_writer inner(w, field::graph::node);
                write_node(inner, n);
            });
        }
        body.fields([&](pbf_writer& w) { w.add_string(field::graph::name, options.graph_name); });
        for (const auto& t : g.constants_) {
            constexpr std::uint64_t small = 1024;
            constexpr std::uint64_t mappable = 1 << 16;  // the coarsest page that a system maps files by
            if (options.external_name.empty() || t.n_bytes < small) {
                body.message(field::graph::initializer, tensor_message(t));
                continue;
            }
            if (t.n_bytes > options.external_limit) return fail(too_long(t.n_bytes, "of " + t.name));
            if (parts.empty() || ceil_div(parts.back().content.n_bytes(), mappable) * mappable + t.n_bytes > options.external_limit)
                parts.push_back({options.external_name + (parts.empty() ? "" : "_" + std::to_string(parts.size())), {}});
            auto& file = parts.back();
            file.content.align(mappable);
            const external_place place{file.name, file.content.n_bytes()};
            file.content.make(t.n_bytes, t.make);
            body.message(field::graph::initializer, tensor_message(t, &place));
        }
        const auto values = [&](std::uint32_t number, const std::vector<graph_value>& list) {
            for (const auto& v : list) {
                body.fields([&](pbf_writer& w) {
                    pbf_writer inner(w, number);
                    write_value_info(inner, v);
                });
            }
        };
        values(field::graph::input, g.inputs_);
        values(field::graph::output, g.outputs_);

        assembly model;
        model.fields([&](pbf_writer& w) {
            w.add_int64(field::model::ir_version, options.ir_version);
            w.add_string(field::model::producer_name, options.producer);
            if (!options.producer_version.empty()) w.add_string(field::model::producer_version, options.producer_version);
        });
        model.message(field::model::graph, std::move(body));
        model.fields([&](pbf_writer& w) {
            for (const auto& [domain, version] : options.opsets) {
                pbf_writer inner(w, field::model::opset_import);
                if (!domain.empty()) inner.add_string(field::opset::domain, domain);
                inner.add_int64(field::opset::version, version);
            }
        });
        if (model.n_bytes() > largest_file) return fail(too_long(model.n_bytes(), "of the model"));
        parts.push_back({{}, std::move(model)});
        return parts;
    }

    [[nodiscard]] static error too_long(std::uint64_t n, const std::string& what) {
        return {errc::refused,
                "the file " + what + " would have " + std::to_string(n) + " bytes, and a protobuf file ends at " + std::to_string(largest_file),
                {},
                {},
                {},
                "take fewer bits, or allow files of weights beside it with --external-data"};
    }
};

}  // namespace nibble::onnx
