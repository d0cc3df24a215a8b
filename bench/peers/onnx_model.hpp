// SPDX-License-Identifier: Apache-2.0
#pragma once
// ONNX models of one node, written as protobuf by hand (field numbers: onnx/onnx.proto).

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace peers::onnx {

enum data_type : std::uint64_t { type_f32 = 1, type_u8 = 2, type_i4 = 22 };

/// A protobuf message being written.
class message {
public:
    message& number(std::uint32_t field, std::uint64_t value) {
        varint(field << 3);
        varint(value);
        return *this;
    }
    message& bytes(std::uint32_t field, std::string_view value) {
        varint(field << 3 | 2);
        varint(value.size());
        data_ += value;
        return *this;
    }
    message& add(std::uint32_t field, const message& value) { return bytes(field, value.data_); }
    [[nodiscard]] const std::string& str() const { return data_; }

private:
    void varint(std::uint64_t v) {
        for (; v >= 128; v >>= 7) data_ += static_cast<char>(v | 128);
        data_ += static_cast<char>(v);
    }
    std::string data_;
};

struct tensor {
    std::string name;
    data_type type;
    std::vector<std::int64_t> dims;
    std::string_view raw;  ///< the values of a constant; unused for an input or output
};

/// A model with one node; its inputs are those given, then the constants, in this order.
struct one_node {
    std::string op;
    std::string domain;  ///< "" for ONNX's own operators
    std::uint64_t domain_version;
    std::vector<tensor> inputs, constants;
    tensor output;
    std::vector<std::pair<std::string, std::int64_t>> attributes;

    [[nodiscard]] std::string model() const {
        const auto value_info = [](const tensor& t) {
            message shape;
            for (const auto d : t.dims) shape.add(1, message{}.number(1, static_cast<std::uint64_t>(d)));
            return message{}.bytes(1, t.name).add(2, message{}.add(1, message{}.number(1, t.type).add(2, shape)));
        };
        message node;
        message graph;
        for (const auto& t : inputs) node.bytes(1, t.name);
        for (const auto& t : constants) node.bytes(1, t.name);
        node.bytes(2, output.name).bytes(3, op).bytes(4, op);
        for (const auto& [name, value] : attributes) node.add(5, message{}.bytes(1, name).number(3, static_cast<std::uint64_t>(value)).number(20, 2));
        node.bytes(7, domain);
        graph.add(1, node).bytes(2, "g");
        for (const auto& t : constants) {
            message initializer;
            for (const auto d : t.dims) initializer.number(1, static_cast<std::uint64_t>(d));
            graph.add(5, initializer.number(2, t.type).bytes(8, t.name).bytes(9, t.raw));
        }
        for (const auto& t : inputs) graph.add(11, value_info(t));
        graph.add(12, value_info(output));
        message model;
        model.number(1, 10).add(7, graph).add(8, message{}.bytes(1, "").number(2, 21));
        if (!domain.empty()) model.add(8, message{}.bytes(1, domain).number(2, domain_version));
        return model.str();
    }
};

}  // namespace peers::onnx
