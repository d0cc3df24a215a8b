// SPDX-License-Identifier: Apache-2.0
#pragma once
// An ONNX model with the constant weights of its MatMul nodes quantized for MatMulNBits, as onnxruntime's MatMulNBitsQuantizer does it
// (quantization/matmul_nbits_quantizer.py of 1.31, format QOperator), subgraphs included. What is not changed is copied byte for byte.

#include <filesystem>
#include <unordered_map>
#include <unordered_set>

#include "nibble/convert/onnx_weights.hpp"
#include "nibble/onnx/check.hpp"
#include "nibble/shard/output.hpp"

namespace nibble::convert {

/// How the MatMuls of a model are quantized.
struct onnx_quantize_options {
    nbits_options weights{4, 128, false};
    std::int64_t accuracy_level = 0;      ///< 0: not stated
    std::vector<std::string> excluded{};  ///< names of nodes that stay as they are
    std::size_t threads = 0;              ///< 0: all
    bool follow_links = false;
    bool overwrite = false;
};

/// What a quantization has written.
struct onnx_quantize_report {
    std::string output;
    std::uint64_t n_bytes = 0;
    std::size_t n_quantized = 0;     ///< nodes
    std::uint64_t bytes_before = 0;  ///< of the weights that were quantized
    std::uint64_t bytes_after = 0;
    std::vector<std::string> notes{};
};

namespace detail {

/// Columns of a constant [K, N] of f32, f16 or bf16, as rows.
class column_reader : public matrix_reader {
public:
    column_reader(onnx::constant_bytes where, encoding type, std::uint64_t k, std::uint64_t n) : where_(std::move(where)), type_(type), k_(k), n_(n) {}

    result<void> rows(std::uint64_t begin, std::uint64_t n, float* out) override {
        const auto size = info(type_).block_bytes;
        for (std::uint64_t i = 0; i < k_; ++i) {
            auto bytes = where_.from->bytes(where_.at.begin + (i * n_ + begin) * size, n * size, scratch_);
            if (!bytes) return pass(bytes);
            const auto spread = [&]<class T>() {
                for (std::uint64_t j = 0; j < n; ++j) out[j * k_ + i] = to_f32(load<T>(bytes->data() + j * sizeof(T)));
            };
            if (type_ == encoding::f32) spread.template operator()<float>();
            if (type_ == encoding::f16) spread.template operator()<f16>();
            if (type_ == encoding::bf16) spread.template operator()<bf16>();
        }
        return {};
    }

private:
    onnx::constant_bytes where_;
    encoding type_;
    std::uint64_t k_, n_;
    std::vector<std::byte> scratch_;
};

/// Rewrites a model's messages; what it does not touch is a copy of the file.
class onnx_quantizer {
public:
    onnx_quantizer(const onnx::model& m, const onnx_quantize_options& o)
        : model_(m), options_(o), files_(m, o.follow_links), excluded_(o.excluded.begin(), o.excluded.end()), threads_(std::make_shared<parallel>(o.threads)) {}

    [[nodiscard]] result<onnx::assembly> run(onnx_quantize_report& report) {
        report_ = &report;
        std::vector<const onnx::read_graph*> scopes;
        if (auto chosen = choose(model_.graph, scopes); !chosen) return pass(chosen);
        for (const auto& name : excluded_)
            if (!met_.contains(name)) report.notes.push_back("there is no node named \"" + name + "\" to exclude");
        onnx::assembly out;
        onnx::message m = message_of({0, model_.from->size()});
        bool has_domain = false;
        for (const auto& [domain, version] : model_.opsets) has_domain = has_domain || domain == onnx::microsoft;
        while (m.next()) {
            if (m.number() == onnx::field::model::graph) {
                m.skip();
                auto inner = rebuilt(model_.graph);
                if (!inner) return pass(inner);
                out.message(onnx::field::model::graph, std::move(*inner));
            } else {
                const auto begin = m.begin();
                m.skip();
                out.copy(model_.from, begin, m.end());
            }
        }
        if (!has_domain && report.n_quantized != 0) {
            out.fields([&](onnx::pbf_writer& w) {
                onnx::pbf_writer inner(w, onnx::field::model::opset_import);
                inner.add_string(onnx::field::opset::domain, onnx::microsoft);
                inner.add_int64(onnx::field::opset::version, 1);
            });
        }
        if (out.n_bytes() > onnx::largest_file) {
            return fail(
                error{errc::refused,
                      "the result would have " + std::to_string(out.n_bytes()) + " bytes, and an ONNX file ends at " + std::to_string(onnx::largest_file),
                      {},
                      {},
                      {},
                      "take fewer --bits, or quantize the checkpoint itself with `nibble export-onnx --external-data`"});
        }
        return out;
    }

private:
    struct plan {
        const onnx::read_tensor* weight;
        std::uint64_t k, n;
        std::uint64_t leading;  ///< dimensions of 1 that the result must have before those of MatMulNBits
    };

    [[nodiscard]] onnx::message message_of(onnx::byte_range at) {
        // The reader has seen these bytes; where the file is not mapped they are read again.
        const auto bytes = model_.from->bytes(at.begin, at.end - at.begin, scratch_.emplace_back());
        return {bytes ? *bytes : bytes_view{}, at.begin};
    }

    /// Which nodes are quantized, and which constants are then needed no more.
    result<void> choose(const onnx::read_graph& g, std::vector<const onnx::read_graph*>& scopes) {
        scopes.push_back(&g);
        for (const auto& n : g.nodes) {
            met_.insert(n.name);
            for (const auto& a : n.attributes)
                for (const auto& inner : a.graphs)
                    if (auto chosen = choose(inner, scopes); !chosen) return chosen;
            auto p = excluded_.contains(n.name) ? std::optional<plan>{} : plan_of(n, scopes);
            for (std::size_t i = 0; i < n.inputs.size(); ++i) {
                const auto* t = constant(n.inputs[i], scopes).first;
                if (t != nullptr && !(p && i == 1)) used_.insert(t);
            }
            if (!p) continue;
            plans_.emplace(&n, *p);
            ++report_->n_quantized;
            auto owner = constant(n.inputs[1], scopes).second;
            if (!quantized_.insert(p->weight).second) continue;
            auto where = files_.find(*p->weight);
            if (!where) return pass(where);
            const auto type = p->weight->type;
            const encoding stored = type == 1 ? encoding::f32 : type == 10 ? encoding::f16 : encoding::bf16;
            const auto from = where->from;
            matrix_source source{p->n,
                                 p->k,
                                 [at = *where, stored, k = p->k, n = p->n] { return std::make_unique<column_reader>(at, stored, k, n); },
                                 [from] { return from->check_unchanged(); },
                                 {}};
            for (auto& t : nbits_constants(p->weight->name, std::move(source), options_.weights, static_cast<onnx::element>(type), threads_)) {
                report_->bytes_after += t.n_bytes;
                added_[owner].push_back(std::move(t));
            }
            report_->bytes_before += p->weight->n_bytes;
        }
        for (const auto& v : g.outputs)
            if (const auto* t = constant(v.name, scopes).first) used_.insert(t);
        scopes.pop_back();
        return {};
    }

    [[nodiscard]] std::pair<const onnx::read_tensor*, const onnx::read_graph*> constant(const std::string& name,
                                                                                        const std::vector<const onnx::read_graph*>& scopes) {
        for (auto g = scopes.rbegin(); g != scopes.rend(); ++g) {
            auto [index, is_new] = constants_.try_emplace(*g);
            if (is_new)
                for (const auto& t : (*g)->initializers) index->second.emplace(t.name, &t);
            if (const auto at = index->second.find(name); at != index->second.end()) return {at->second, *g};
        }
        return {nullptr, nullptr};
    }
    [[nodiscard]] static std::optional<std::size_t> rank_of(const std::string& name, const std::vector<const onnx::read_graph*>& scopes) {
        for (auto g = scopes.rbegin(); g != scopes.rend(); ++g)
            for (const auto* list : {&(*g)->inputs, &(*g)->values, &(*g)->outputs})
                for (const auto& v : *list)
                    if (v.name == name) return v.rank;
        return {};
    }

    [[nodiscard]] std::optional<plan> plan_of(const onnx::read_node& n, const std::vector<const onnx::read_graph*>& scopes) {
        if (n.op_type != "MatMul" || !(n.domain.empty() || n.domain == "ai.onnx") || n.inputs.size() != 2) return {};
        const auto* w = constant(n.inputs[1], scopes).first;
        if (w == nullptr || w->dims.rank() < 2) return {};
        const auto left = [&](const std::string& why) {
            report_->notes.push_back((n.name.empty() ? "a MatMul" : "MatMul \"" + n.name.substr(0, 120) + "\"") + " is left as it is: " + why);
            return std::optional<plan>{};
        };
        const auto rank = w->dims.rank();
        for (std::size_t i = 0; i + 2 < rank; ++i)
            if (w->dims[i] != 1) return left("its weight has shape " + w->dims.text());
        if (w->type != 1 && w->type != 10 && w->type != 16) return left("its weight is of type " + w->type_text());
        if (w->data == onnx::read_tensor::place::typed) return left("its weight is not in raw_data: save the model with onnx.save first");
        const auto k = w->dims[rank - 2];
        const auto columns = w->dims[rank - 1];
        if (k == 0 || columns == 0) return left("its weight is empty");
        std::uint64_t leading = 0;
        if (rank > 2) {
            const auto other = rank_of(n.inputs[0], scopes);
            if (!other) return left("its weight has shape " + w->dims.text() + ", and the rank of its other input is not known");
            if (*other < 2) return left("its weight has shape " + w->dims.text() + ", and its other input is a vector");
            leading = *other < rank ? rank - *other : 0;
            if (leading != 0 && model_.opset("") < 13) return left("its weight has shape " + w->dims.text() + ", which needs opset 13");
        }
        return plan{w, k, columns, leading};
    }

    void write_quantized(onnx::assembly& out, const onnx::read_node& n, const plan& p) {
        const auto suffix = "_Q" + std::to_string(options_.weights.bits);
        const auto& name = p.weight->name;
        onnx::node q{"MatMulNBits", {n.inputs[0], name + suffix, name + "_scales"}, n.outputs, {}, onnx::microsoft, n.name.empty() ? "" : n.name + suffix};
        if (!options_.weights.symmetric) q.inputs.push_back(name + "_zero_points");
        q.attributes = {{"K", static_cast<std::int64_t>(p.k)},
                        {"N", static_cast<std::int64_t>(p.n)},
                        {"bits", std::int64_t{options_.weights.bits}},
                        {"block_size", static_cast<std::int64_t>(options_.weights.block)}};
        if (options_.accuracy_level != 0) q.attributes.insert(q.attributes.begin() + 2, {"accuracy_level", options_.accuracy_level});  // sorted by name
        const auto write = [&](const onnx::node& made) {
            out.fields([&](onnx::pbf_writer& w) {
                onnx::pbf_writer inner(w, onnx::field::graph::node);
                onnx::write_node(inner, made);
            });
        };
        if (p.leading == 0) return write(q);
        const auto before = n.outputs[0] + "_pre_reshape";
        const auto axes = n.outputs[0] + "_leading_axes";
        q.outputs = {before};
        write(q);
        write({"Unsqueeze", {before, axes}, n.outputs, {}, {}, q.name.empty() ? "" : q.name + "_unsqueeze"});
        std::vector<std::int64_t> list;
        for (std::uint64_t i = 0; i < p.leading; ++i) list.push_back(static_cast<std::int64_t>(i));
        onnx::graph constants;
        constants.int64s(axes, list);
        out.message(onnx::field::graph::initializer, onnx::tensor_message(constants.constants().front()));
    }

    result<onnx::assembly> rebuilt(const onnx::read_graph& g) {
        onnx::assembly out;
        auto m = message_of(g.message);
        std::size_t node = 0;
        std::size_t constant = 0;
        std::size_t input = 0;
        std::unordered_set<std::string> removed;
        for (const auto& t : g.initializers)
            if (gone(t)) removed.insert(t.name);
        while (m.next()) {
            const auto begin = m.begin();
            const auto number = m.number();
            m.skip();
            if (number == onnx::field::graph::node) {
                const auto& n = g.nodes[node++];
                const auto has_graphs = std::any_of(n.attributes.begin(), n.attributes.end(), [](const auto& a) { return !a.graphs.empty(); });
                if (const auto p = plans_.find(&n); p != plans_.end()) {
                    write_quantized(out, n, p->second);
                    continue;
                }
                if (has_graphs) {
                    auto inner = rebuilt(n);
                    if (!inner) return pass(inner);
                    out.message(number, std::move(*inner));
                    continue;
                }
            } else if (number == onnx::field::graph::initializer) {
                const auto& t = g.initializers[constant++];
                if (gone(t)) continue;
                if (t.data == onnx::read_tensor::place::external) {
                    auto inner = embedded(t);
                    if (!inner) return pass(inner);
                    out.message(number, std::move(*inner));
                    continue;
                }
            } else if (number == onnx::field::graph::input) {
                if (removed.contains(g.inputs[input++].name)) continue;
            }
            out.copy(model_.from, begin, m.end());
        }
        if (const auto at = added_.find(&g); at != added_.end()) {
            for (const auto& t : at->second) out.message(onnx::field::graph::initializer, onnx::tensor_message(t));
        }
        return out;
    }
    result<onnx::assembly> rebuilt(const onnx::read_node& n) {
        onnx::assembly out;
        auto m = message_of(n.message);
        std::size_t attribute = 0;
        while (m.next()) {
            const auto begin = m.begin();
            const bool changed = m.number() == onnx::field::node::attribute && !n.attributes[attribute].graphs.empty();
            if (m.number() == onnx::field::node::attribute) ++attribute;
            m.skip();
            if (!changed) {
                out.copy(model_.from, begin, m.end());
                continue;
            }
            const auto& a = n.attributes[attribute - 1];
            onnx::assembly inner;
            auto fields = message_of(a.message);
            std::size_t graph = 0;
            while (fields.next()) {
                const auto from = fields.begin();
                const auto number = fields.number();
                fields.skip();
                if (number == onnx::field::attribute::g || number == onnx::field::attribute::graphs) {
                    auto made = rebuilt(a.graphs[graph++]);
                    if (!made) return pass(made);
                    inner.message(number, std::move(*made));
                } else {
                    inner.copy(model_.from, from, fields.end());
                }
            }
            out.message(onnx::field::node::attribute, std::move(inner));
        }
        return out;
    }
    /// A constant whose bytes lie in another file, with its bytes.
    result<onnx::assembly> embedded(const onnx::read_tensor& t) {
        auto where = files_.find(t);
        if (!where) return pass(where);
        onnx::assembly out;
        auto m = message_of(t.message);
        while (m.next()) {
            const auto begin = m.begin();
            const auto number = m.number();
            m.skip();
            namespace f = onnx::field::tensor;
            if (number != f::external_data && number != f::data_location && number != f::raw_data) out.copy(model_.from, begin, m.end());
        }
        out.open(onnx::field::tensor::raw_data, t.n_bytes);
        out.copy(where->from, where->at.begin, where->at.end);
        return out;
    }

    /// Whether a constant is in the result no more: only quantized nodes needed it.
    [[nodiscard]] bool gone(const onnx::read_tensor& t) const { return quantized_.contains(&t) && !used_.contains(&t); }

    const onnx::model& model_;
    const onnx_quantize_options& options_;
    onnx::external_files files_;
    std::unordered_set<std::string> excluded_, met_;
    std::shared_ptr<parallel> threads_;
    onnx_quantize_report* report_ = nullptr;
    std::unordered_map<const onnx::read_graph*, std::unordered_map<std::string_view, const onnx::read_tensor*>> constants_;
    std::unordered_map<const onnx::read_node*, plan> plans_;
    std::unordered_set<const onnx::read_tensor*> quantized_, used_;
    std::unordered_map<const onnx::read_graph*, std::vector<onnx::initializer>> added_;
    std::vector<std::vector<std::byte>> scratch_;
};

}  // namespace detail

/// Writes an assembly to a file that has its name only when it is complete. Errors: those of shard::output_file.
[[nodiscard]] inline result<void> write_assembly(const onnx::assembly& content, const std::filesystem::path& path) {
    auto out = shard::output_file::create(path.parent_path().empty() ? "." : path.parent_path(), path.filename().string(), content.n_bytes());
    if (!out) return pass(out);
    auto written = content.write([&](bytes_view bytes) { return out->write(bytes); });
    if (!written) {
        std::error_code ec;
        std::filesystem::remove(path.string() + ".part", ec);
        return written;
    }
    return out->finish();
}

/// Quantizes a model's MatMul nodes. Errors: those of onnx::read_model and of its external data; refused, mismatch, no_space.
[[nodiscard]] inline result<onnx_quantize_report> quantize_onnx(const std::string& input, const std::string& output,
                                                                const onnx_quantize_options& options = {}) {
    namespace fs = std::filesystem;
    if (auto good = check_nbits_options(options.weights); !good) return pass(good);
    if (options.accuracy_level < 0 || options.accuracy_level > 4)
        return fail(error{errc::refused, "there is no accuracy level " + std::to_string(options.accuracy_level), {}, {}, {}, "take one of 0 to 4"});
    std::error_code ec;
    if (fs::equivalent(input, output, ec)) return fail(error{errc::refused, "the output is the model itself", output, {}, {}, "give another -o"});
    if (fs::is_directory(output, ec))
        return fail(error{errc::refused, "the output is a folder, a file is needed", output, {}, {}, "give the name of a file with -o"});
    if (fs::exists(output, ec) && !options.overwrite)
        return fail(error{errc::refused, "the output is there already", output, {}, {}, "give another -o, or allow it with --overwrite"});
    auto f = file::open(input);
    if (!f) return pass(f);
    std::vector<std::byte> scratch;
    auto m = onnx::read_model(*f, scratch);
    if (!m) return pass(m);
    onnx_quantize_report report;
    report.output = output;
    auto made = detail::onnx_quantizer(*m, options).run(report);
    if (!made) return fail(std::move(made.error()).in_file(input));
    report.n_bytes = made->n_bytes();
    if (auto written = write_assembly(*made, output); !written) return pass(written);
    if (auto same = (*f)->check_unchanged(); !same) {
        fs::remove(output, ec);
        return pass(same);
    }
    return report;
}

}  // namespace nibble::convert
