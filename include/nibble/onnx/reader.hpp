// SPDX-License-Identifier: Apache-2.0
#pragma once
// ONNX models as a strict, bounded reader sees them: nodes, attributes, values and where each constant's bytes are. Weights are not
// read. What stands here is known by its bytes in the file, so that a model can be changed and the rest of it copied.

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "nibble/core/file.hpp"
#include "nibble/core/tensor.hpp"
#include "nibble/onnx/graph.hpp"

namespace nibble::onnx {

/// Bytes [begin, end) of the model's file.
struct byte_range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
};

/// A row of the table of element types.
struct element_info {
    std::uint32_t id;
    std::string_view name;
    std::uint32_t bits;  ///< 0: no fixed size
};
/// TensorProto.DataType.
inline constexpr std::array element_infos{
    element_info{1, "f32", 32},     element_info{2, "u8", 8},           element_info{3, "i8", 8},
    element_info{4, "u16", 16},     element_info{5, "i16", 16},         element_info{6, "i32", 32},
    element_info{7, "i64", 64},     element_info{8, "string", 0},       element_info{9, "bool", 8},
    element_info{10, "f16", 16},    element_info{11, "f64", 64},        element_info{12, "u32", 32},
    element_info{13, "u64", 64},    element_info{14, "complex64", 64},  element_info{15, "complex128", 128},
    element_info{16, "bf16", 16},   element_info{17, "f8_e4m3", 8},     element_info{18, "f8_e4m3fnuz", 8},
    element_info{19, "f8_e5m2", 8}, element_info{20, "f8_e5m2fnuz", 8}, element_info{21, "u4", 4},
    element_info{22, "i4", 4},      element_info{23, "f4_e2m1", 4},     element_info{24, "f8_e8m0", 8},
    element_info{25, "u2", 2},      element_info{26, "i2", 2},
};
[[nodiscard]] constexpr const element_info* find_element(std::uint32_t id) {
    for (const auto& e : element_infos)
        if (e.id == id) return &e;
    return nullptr;
}

/// A constant as it was read: where its bytes are.
struct read_tensor {
    std::string name;
    std::uint32_t type = 0;
    shape dims;
    std::uint64_t n_bytes = 0;  ///< by shape and type
    byte_range message;         ///< without tag and length
    enum class place : std::uint8_t { raw, typed, external, none } data = place::none;
    byte_range raw;          ///< place::raw: where the bytes are
    byte_range typed;        ///< place::typed: from the first to the last of the fields
    std::string location{};  ///< place::external
    std::uint64_t offset = 0;

    [[nodiscard]] std::string type_text() const {
        const auto* e = find_element(type);
        return e != nullptr ? std::string(e->name) : "type " + std::to_string(type);
    }
};

struct read_graph;

/// An attribute as it was read.
struct read_attribute {
    std::string name;
    attribute_type type = attribute_type::undefined;
    byte_range message;
    std::int64_t i = 0;
    float f = 0;
    std::string s{};
    std::vector<std::int64_t> ints{};
    std::vector<read_tensor> tensors{};
    std::vector<read_graph> graphs;
};

/// A node as it was read.
struct read_node {
    std::string op_type, domain, name;
    std::vector<std::string> inputs, outputs;
    std::vector<read_attribute> attributes;
    byte_range message;

    [[nodiscard]] const read_attribute* find(std::string_view attribute) const {
        for (const auto& a : attributes)
            if (a.name == attribute) return &a;
        return nullptr;
    }
};

/// An input or output as it was read.
struct read_value {
    std::string name;
    byte_range message;
    std::optional<std::size_t> rank;  ///< where the type is a tensor of a known rank
};

/// A graph as it was read.
struct read_graph {
    std::string name;
    std::vector<read_node> nodes;
    std::vector<read_tensor> initializers;
    std::vector<read_value> inputs, outputs, values;
    byte_range message;
};

/// A model as it was read; its weights stay in the file.
struct model {
    std::shared_ptr<const file> from;
    std::int64_t ir_version = 0;
    std::string producer, producer_version;
    std::vector<std::pair<std::string, std::int64_t>> opsets;
    read_graph graph;
    std::size_t n_functions = 0;

    [[nodiscard]] std::int64_t opset(std::string_view domain) const {
        for (const auto& [name, version] : opsets)
            if (name == domain || (domain.empty() && name == "ai.onnx")) return version;
        return 0;
    }
};

namespace detail {

/// Deeper subgraphs than any model has; and more nodes, names, attributes, constants and numbers of attributes together than any model has.
inline constexpr unsigned depth_limit = 64;
inline constexpr std::uint64_t count_limit = std::uint64_t{1} << 24;

class model_parser {
public:
    model_parser(bytes_view bytes, model& out) : bytes_(bytes), out_(out) {}

    void parse() {
        message m(bytes_, 0);
        bool has_graph = false;
        while (m.next()) {
            namespace f = field::model;
            switch (m.number()) {
                case f::ir_version:
                    out_.ir_version = m.integer();
                    break;
                case f::producer_name:
                    out_.producer = m.text();
                    break;
                case f::producer_version:
                    out_.producer_version = m.text();
                    break;
                case f::graph:
                    if (has_graph) m.fault("the model has two graphs");
                    has_graph = true;
                    out_.graph = graph(m, 1);
                    break;
                case f::opset_import: {
                    count();
                    auto inner = m.inner();
                    auto& [domain, version] = out_.opsets.emplace_back();
                    while (inner.next()) {
                        if (inner.number() == field::opset::domain)
                            domain = inner.text();
                        else if (inner.number() == field::opset::version)
                            version = inner.integer();
                        else
                            inner.skip();
                    }
                    break;
                }
                case f::functions:
                    ++out_.n_functions;
                    m.skip();
                    break;
                default:
                    m.skip();
            }
        }
        if (!has_graph) throw wire_fault{"there is no graph in it: this is no ONNX model", 0};
        if (out_.opsets.empty()) throw wire_fault{"there is no opset_import in it: this is no ONNX model", 0};
    }

private:
    /// The range of the message that m's current field holds; m is read past it.
    template <class F>
    static byte_range spanned(message& m, F&& f) {
        auto inner = m.inner();
        const auto begin = inner.end();
        f(inner);
        return {begin, m.end()};
    }
    void count(std::uint64_t n = 1) {
        counted_ += n;
        if (counted_ > count_limit)
            throw wire_fault{"the model has more than " + std::to_string(count_limit) + " nodes, names, constants and numbers together", 0};
    }

    read_graph graph(message& m, unsigned depth) {
        if (depth > depth_limit) m.fault("graphs are nested deeper than " + std::to_string(depth_limit) + " levels");
        read_graph g;
        g.message = spanned(m, [&](message& inner) {
            namespace f = field::graph;
            while (inner.next()) {
                switch (inner.number()) {
                    case f::node:
                        g.nodes.push_back(node(inner, depth));
                        break;
                    case f::name:
                        g.name = inner.text();
                        break;
                    case f::initializer:
                        g.initializers.push_back(tensor(inner));
                        break;
                    case f::input:
                        g.inputs.push_back(value(inner));
                        break;
                    case f::output:
                        g.outputs.push_back(value(inner));
                        break;
                    case f::value_info:
                        g.values.push_back(value(inner));
                        break;
                    default:
                        inner.skip();
                }
            }
        });
        return g;
    }

    read_node node(message& m, unsigned depth) {
        count();
        read_node n;
        n.message = spanned(m, [&](message& inner) {
            namespace f = field::node;
            while (inner.next()) {
                switch (inner.number()) {
                    case f::input:
                        count();
                        n.inputs.push_back(inner.text());
                        break;
                    case f::output:
                        count();
                        n.outputs.push_back(inner.text());
                        break;
                    case f::name:
                        n.name = inner.text();
                        break;
                    case f::op_type:
                        n.op_type = inner.text();
                        break;
                    case f::domain:
                        n.domain = inner.text();
                        break;
                    case f::attribute:
                        n.attributes.push_back(attribute(inner, depth));
                        break;
                    default:
                        inner.skip();
                }
            }
        });
        return n;
    }

    read_attribute attribute(message& m, unsigned depth) {
        count();
        read_attribute a;
        a.message = spanned(m, [&](message& inner) {
            namespace f = field::attribute;
            while (inner.next()) {
                switch (inner.number()) {
                    case f::name:
                        a.name = inner.text();
                        break;
                    case f::type:
                        a.type = static_cast<attribute_type>(inner.varint());
                        break;
                    case f::i:
                        a.i = inner.integer();
                        break;
                    case f::f:
                        a.f = inner.f32();
                        break;
                    case f::s:
                        a.s = inner.text();
                        break;
                    case f::ints:
                        inner.varints([&](std::uint64_t v) {
                            count();
                            a.ints.push_back(static_cast<std::int64_t>(v));
                        });
                        break;
                    case f::t:
                    case f::tensors:
                        a.tensors.push_back(tensor(inner));
                        break;
                    case f::g:
                    case f::graphs:
                        count();
                        a.graphs.push_back(graph(inner, depth + 1));
                        break;
                    default:
                        inner.skip();
                }
            }
        });
        return a;
    }

    read_value value(message& m) {
        count();
        read_value v;
        v.message = spanned(m, [&](message& inner) {
            while (inner.next()) {
                if (inner.number() == field::value_info::name) {
                    v.name = inner.text();
                } else if (inner.number() == field::value_info::type) {
                    auto type = inner.inner();
                    while (type.next()) {
                        if (type.number() == field::type::tensor)
                            v.rank = rank_of(type.inner());
                        else
                            type.skip();
                    }
                } else {
                    inner.skip();
                }
            }
        });
        return v;
    }
    static std::optional<std::size_t> rank_of(message tensor_type) {
        std::optional<std::size_t> rank;
        while (tensor_type.next()) {
            if (tensor_type.number() != field::tensor_type::shape) {
                tensor_type.skip();
                continue;
            }
            auto dims = tensor_type.inner();
            std::size_t n = 0;
            while (dims.next()) {
                n += dims.number() == field::shape::dim ? 1 : 0;
                dims.skip();
            }
            rank = n;
        }
        return rank;
    }

    read_tensor tensor(message& m) {
        count();
        read_tensor t;
        std::uint64_t begin = m.begin();
        std::uint64_t n_typed = 0;
        std::uint32_t typed_field = 0;
        bool external = false;
        bool raw = false;
        std::optional<std::uint64_t> length;
        const auto refuse = [&](std::string rule) { throw wire_fault{"constant '" + t.name.substr(0, 200) + "': " + std::move(rule), begin}; };
        const auto typed = [&](message& inner, std::size_t width) {
            if (typed_field != 0 && typed_field != inner.number()) refuse("its values stand in two kinds of fields");
            if (typed_field == 0) t.typed.begin = inner.begin();
            typed_field = inner.number();
            n_typed += inner.count(width);
            t.typed.end = inner.end();
        };
        t.message = spanned(m, [&](message& inner) {
            namespace f = field::tensor;
            while (inner.next()) {
                switch (inner.number()) {
                    case f::dims:
                        inner.varints([&](std::uint64_t d) {
                            if (static_cast<std::int64_t>(d) < 0) refuse("a dimension is negative");
                            if (!t.dims.push_back(d)) refuse("it has more than 8 dimensions");
                        });
                        break;
                    case f::data_type:
                        t.type = static_cast<std::uint32_t>(std::min<std::uint64_t>(inner.varint(), 0xFFFF));
                        break;
                    case f::name:
                        t.name = inner.text();
                        break;
                    case f::segment:
                        refuse("it is a segment of a larger one, which no reader supports");
                        break;
                    case f::float_data:
                        typed(inner, 4);
                        break;
                    case f::double_data:
                        typed(inner, 8);
                        break;
                    case f::int32_data:
                    case f::int64_data:
                    case f::uint64_data:
                        typed(inner, 0);
                        break;
                    case f::string_data:
                        typed_field = f::string_data;
                        ++n_typed;
                        inner.skip();
                        break;
                    case f::raw_data: {
                        if (raw) refuse("it has raw_data twice");
                        raw = true;
                        auto bytes = inner.inner();
                        t.raw = {bytes.end(), inner.end()};
                        break;
                    }
                    case f::data_location:
                        external = inner.varint() == 1;
                        break;
                    case f::external_data: {
                        auto e = inner.inner();
                        std::string key;
                        std::string text;
                        while (e.next()) {
                            if (e.number() == field::entry::key)
                                key = e.text();
                            else if (e.number() == field::entry::value)
                                text = e.text();
                            else
                                e.skip();
                        }
                        const auto number = [&]() -> std::uint64_t {
                            std::uint64_t v = 0;
                            const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), v);
                            if (ec != std::errc{} || end != text.data() + text.size())
                                refuse("the " + key + " of its external data, \"" + text.substr(0, 40) + "\", is no number");
                            return v;
                        };
                        if (key == "location") t.location = text;
                        if (key == "offset") t.offset = number();  // absent: 0
                        if (key == "length") length = number();
                        break;
                    }
                    default:
                        inner.skip();
                }
            }
        });
        const auto n = t.dims.checked_elements();
        const auto* e = find_element(t.type);
        if (!n) refuse("shape " + t.dims.text() + " has more than 2^64 elements");
        if (e == nullptr) refuse("its data_type " + std::to_string(t.type) + " is unknown");
        const auto bits = checked_mul(*n, e->bits);
        if (!bits) refuse("shape " + t.dims.text() + " has more than 2^64 bits");
        t.n_bytes = ceil_div(*bits, 8);
        if ((raw ? 1 : 0) + (typed_field != 0 ? 1 : 0) + (external ? 1 : 0) > 1) {
            // An empty raw_data beside external data is what some writers leave.
            if (!(external && raw && typed_field == 0 && t.raw.begin == t.raw.end)) refuse("it has more than one of raw_data, typed data and external data");
        }
        if (external) {
            t.data = read_tensor::place::external;
            if (t.location.empty()) refuse("its external data have no location");
            if (length && *length != t.n_bytes)
                refuse("the length " + std::to_string(*length) + " of its external data is not that of shape " + t.dims.text() + " of " + std::string(e->name));
        } else if (raw) {
            t.data = read_tensor::place::raw;
            if (e->bits == 0) refuse("strings stand in raw_data");
            if (t.raw.end - t.raw.begin != t.n_bytes)
                refuse("raw_data has " + std::to_string(t.raw.end - t.raw.begin) + " bytes, shape " + t.dims.text() + " of " + std::string(e->name) +
                       " needs " + std::to_string(t.n_bytes));
        } else if (typed_field != 0) {
            t.data = read_tensor::place::typed;
            // Numbers of 4 bits stand two to an int32_data, complex ones take two of their field.
            const std::uint64_t wanted = e->bits != 0 && e->bits < 8 ? t.n_bytes : e->id == 14 || e->id == 15 ? 2 * *n : *n;
            if (n_typed != wanted) refuse("it has " + std::to_string(n_typed) + " values, shape " + t.dims.text() + " needs " + std::to_string(wanted));
        } else if (*n != 0) {
            refuse("it has no data");
        }
        return t;
    }

    bytes_view bytes_;
    model& out_;
    std::uint64_t counted_ = 0;
};

}  // namespace detail

/// Reads a model's structure; the file stays mapped. Errors: malformed, unsupported, with the byte where the rule was broken.
[[nodiscard]] inline result<model> read_model(const std::shared_ptr<const file>& f, std::vector<std::byte>& scratch) {
    const auto bad = [&](errc code, std::string rule, std::optional<std::uint64_t> at, std::string remedy) {
        return fail(error{code, std::move(rule), f->path(), {}, at, std::move(remedy)});
    };
    if (f->size() > largest_file)
        return bad(errc::malformed, "the file has " + std::to_string(f->size()) + " bytes, and a protobuf file ends at " + std::to_string(largest_file), {},
                   "a larger model keeps its weights in files beside it");
    auto bytes = f->bytes(0, f->size(), scratch);
    if (!bytes) return pass(bytes);
    model m;
    m.from = f;
    try {
        detail::model_parser(*bytes, m).parse();
    } catch (const wire_fault& fault) {
        return bad(errc::malformed, fault.rule, fault.at, "this is no ONNX model, or it is damaged: download it again");
    }
    return m;
}

/// Where the bytes of a constant are: the model's own file, or one beside it.
struct constant_bytes {
    std::shared_ptr<const file> from;
    byte_range at;
};

/// Opens the files of a model's external data, each once. A location must be a relative path that stays in the model's folder.
class external_files {
public:
    /// `follow_links`: links may lead out of the folder.
    explicit external_files(const model& m, bool follow_links = false)
        : model_(&m), folder_(std::filesystem::path(m.from->path()).parent_path()), follow_links_(follow_links) {
        if (folder_.empty()) folder_ = ".";
    }

    /// Errors: refused, missing, truncated; unsupported for values in typed fields.
    [[nodiscard]] result<constant_bytes> find(const read_tensor& t) {
        const auto bad = [&](errc code, std::string rule, std::string remedy) {
            return fail(error{code, std::move(rule), model_->from->path(), t.name, t.message.begin, std::move(remedy)});
        };
        if (t.data == read_tensor::place::raw) return constant_bytes{model_->from, t.raw};
        if (t.data != read_tensor::place::external)
            return bad(errc::unsupported, "its values are not in raw_data", "save the model with onnx.save, which keeps large weights there");
        namespace fs = std::filesystem;
        const fs::path relative = t.location;
        const bool leads_out = relative.is_absolute() || t.location.find('\\') != t.location.npos || t.location.find(':') != t.location.npos ||
                               t.location.find('\0') != t.location.npos || std::find(relative.begin(), relative.end(), fs::path("..")) != relative.end();
        if (leads_out)
            return bad(errc::refused, "its external data are in \"" + t.location.substr(0, 200) + "\", which is no path inside the model's folder",
                       "external data lie beside the model");
        auto& opened = opened_[t.location];
        if (!opened) {
            const fs::path path = folder_ / relative;
            std::error_code ec;
            if (!fs::exists(path, ec))
                return bad(errc::missing, "the file " + t.location + " of its external data is not there", "download it into the model's folder");
            if (!follow_links_ && !stays_inside(path, folder_))
                return bad(errc::refused, "the file " + t.location + " is a link that leads out of the model's folder",
                           "copy the file, or allow it with --follow-links");
            // A second name of a file outside is no link that could be seen.
            if (!follow_links_ && !fs::is_symlink(fs::symlink_status(path, ec)) && fs::hard_link_count(path, ec) > 1)
                return bad(errc::refused, "the file " + t.location + " has another name elsewhere (a hard link)",
                           "copy the file, or allow it with --follow-links");
            auto f = file::open(path.string());
            if (!f) return pass(f);
            opened = std::move(*f);
        }
        if (!in_range(t.offset, t.n_bytes, opened->size()))
            return bad(errc::truncated,
                       "its external data end at byte " + std::to_string(t.offset) + " + " + std::to_string(t.n_bytes) + " of " + t.location + ", which has " +
                           std::to_string(opened->size()),
                       "download that file again");
        return constant_bytes{opened, {t.offset, t.offset + t.n_bytes}};
    }

private:
    const model* model_;
    std::filesystem::path folder_;
    bool follow_links_;
    std::unordered_map<std::string, std::shared_ptr<const file>> opened_;
};

}  // namespace nibble::onnx
