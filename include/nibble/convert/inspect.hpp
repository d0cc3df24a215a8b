// SPDX-License-Identifier: Apache-2.0
#pragma once
// The facts of a checkpoint, of a folder of MLC weights or of an ONNX model, from headers alone.

#include <filesystem>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "nibble/convert/stored.hpp"
#include "nibble/model/architectures.hpp"
#include "nibble/onnx/check.hpp"
#include "nibble/source/open.hpp"

namespace nibble::convert {

/// One tensor of a report.
struct tensor_facts {
    std::string name;
    std::string type;  ///< of a quantized parameter of an MLC folder: codec_label
    shape dims;        ///< as stored; of a quantized parameter its codes' shape
    std::uint64_t n_values = 0;
    std::uint64_t n_bytes = 0;
    std::string file;
};

/// What is in a checkpoint, a folder of weights or a model.
struct inspect_report {
    std::string path;
    std::string format;  ///< "safetensors", "gguf", "MLC weights", "ONNX"
    std::string index;   ///< of an MLC folder: the index that was read
    std::vector<tensor_facts> tensors;
    std::size_t n_files = 0;
    std::uint64_t n_values = 0;                    ///< (of an MLC folder from BitsPerParam, where that is right)
    std::uint64_t n_bytes = 0;                     ///< of all tensors as stored
    std::map<std::string, std::uint64_t> by_type;  ///< bytes of each type
    std::string model_type;
    bool recognised = false;   ///< the model type is one that can be converted
    std::string quantization;  ///< of an MLC folder: what its configuration says
    std::vector<std::string> notes;
    error_list problems;
    error_list warnings;

    [[nodiscard]] double bits_per_value() const { return n_values == 0 ? 0 : 8.0 * static_cast<double>(n_bytes) / static_cast<double>(n_values); }
};

namespace detail {

inline inspect_report inspect_folder(const shard::folder& f) {
    inspect_report r;
    r.path = f.path;
    r.format = "MLC weights";
    r.index = f.index;
    r.n_files = f.manifest.shards.size();
    r.problems = f.problems;
    r.warnings = f.warnings;
    for (const auto& p : stored_parameters(f)) {
        const auto& first = f.at(p.planes[0]);
        tensor_facts t{p.name, p.codec == scheme::none ? std::string(shard::dtype_text(first.type)) : codec_label(p.codec), first.dims, p.rows * p.columns, 0,
                       {}};
        for (const auto& at : p.planes) {
            t.n_bytes += f.at(at).n_bytes;
            const auto& file = f.manifest.shards[at.shard].path;
            if (t.file.find(file) == t.file.npos) t.file += (t.file.empty() ? "" : " ") + file;
        }
        r.n_values += t.n_values;
        r.n_bytes += t.n_bytes;
        r.by_type[t.type] += t.n_bytes;
        r.tensors.push_back(std::move(t));
    }
    if (const auto bits = f.manifest.bits_per_parameter; bits > 0) r.n_values = static_cast<std::uint64_t>(std::llround(f.manifest.parameter_bytes * 8 / bits));
    auto text = read_file(f.path + "/mlc-chat-config.json", 64 << 20);
    auto config = text ? parse_json(*text) : result<json>(pass(text));
    if (config && config->is_object()) {
        const auto value = [&](const char* key) {
            const auto at = config->find(key);
            return at != config->end() && at->is_string() ? at->get<std::string>() : std::string{};
        };
        r.model_type = value("model_type");
        r.quantization = value("quantization");
        r.recognised = model::find_architecture(r.model_type) != nullptr;
    } else {
        r.notes.emplace_back("there is no mlc-chat-config.json to tell the model type");
    }
    return r;
}

inline inspect_report inspect_checkpoint(const std::string& where, const source::checkpoint& c) {
    inspect_report r;
    r.path = where;
    r.format = c.format;
    r.n_files = c.files.size();
    r.problems = c.problems;
    r.notes = c.notes;
    for (const auto& t : c.tensors) {
        tensor_facts facts{t.name, t.stored_type.empty() ? std::string(info(t.type).name) : t.stored_type, t.dims, t.dims.elements(), t.n_bytes, {}};
        facts.file = std::filesystem::path(c.files[t.file]->path()).filename().string();
        r.n_values += facts.n_values;
        r.n_bytes += facts.n_bytes;
        r.by_type[facts.type] += facts.n_bytes;
        r.tensors.push_back(std::move(facts));
    }
    model::config config(c.config, c.config_file);
    r.model_type = model::stated_model_type(config);
    const auto architecture = model::architecture_of(config);
    r.recognised = architecture.has_value();
    if (!architecture) r.notes.push_back(architecture.error().message());
    return r;
}

/// What a MatMulNBits weight is to the model: "q4 in 32s" and its values, by the name of its codes; and the names of its other parts.
struct onnx_weights {
    struct weight {
        std::string type;
        shape dims;
    };
    std::unordered_map<std::string, weight> codes;
    std::unordered_set<std::string> parts;

    void add(const onnx::read_graph& g) {
        for (const auto& n : g.nodes) {
            for (const auto& a : n.attributes)
                for (const auto& inner : a.graphs) add(inner);
            if (n.op_type != "MatMulNBits" || n.inputs.size() < 3) continue;
            const auto number = [&](const char* name, std::int64_t fallback) {
                const auto* a = n.find(name);
                return a == nullptr || a->i < 0 ? fallback : a->i;
            };
            codes[n.inputs[1]] = {"q" + std::to_string(number("bits", 4)) + " in " + std::to_string(number("block_size", 0)) + "s",
                                  {static_cast<std::uint64_t>(number("N", 0)), static_cast<std::uint64_t>(number("K", 0))}};
            parts.insert(n.inputs.begin() + 2, n.inputs.end());
        }
    }
};

inline void add_constants(inspect_report& r, const onnx::read_graph& g, const onnx_weights& weights, const std::string& file) {
    for (const auto& t : g.initializers) {
        tensor_facts facts{t.name, t.type_text(), t.dims, t.dims.elements(), t.n_bytes, t.location.empty() ? file : t.location};
        if (const auto at = weights.codes.find(t.name); at != weights.codes.end()) {
            facts.type = at->second.type;
            facts.dims = at->second.dims;
            facts.n_values = at->second.dims.checked_elements().value_or(0);
        } else if (weights.parts.contains(t.name)) {
            facts.n_values = 0;
        }
        r.n_values += facts.n_values;
        r.n_bytes += facts.n_bytes;
        r.by_type[facts.type] += facts.n_bytes;
        r.tensors.push_back(std::move(facts));
    }
    for (const auto& n : g.nodes)
        for (const auto& a : n.attributes)
            for (const auto& inner : a.graphs) add_constants(r, inner, weights, file);
}

inline result<inspect_report> inspect_onnx(const std::string& where, const source::open_options& options) {
    auto f = file::open(where, options.access);
    if (!f) return pass(f);
    std::vector<std::byte> scratch;
    auto m = onnx::read_model(*f, scratch);
    if (!m) return pass(m);
    inspect_report r;
    r.path = where;
    r.format = "ONNX";
    onnx_weights weights;
    weights.add(m->graph);
    add_constants(r, m->graph, weights, std::filesystem::path(where).filename().string());
    std::set<std::string> files;
    for (const auto& t : r.tensors) files.insert(t.file);
    files.insert(std::filesystem::path(where).filename().string());
    r.n_files = files.size();
    std::map<std::string, std::size_t> ops;
    for (const auto& n : m->graph.nodes) ++ops[n.op_type];
    std::string text = "IR version " + std::to_string(m->ir_version) + ", ";
    for (const auto& [domain, version] : m->opsets) text += (domain.empty() ? "opset" : domain) + " " + std::to_string(version) + ", ";
    text += std::to_string(m->graph.nodes.size()) + " nodes:";
    for (const auto& [op, n] : ops) text += " " + std::to_string(n) + " " + op.substr(0, 60);
    r.notes.push_back(text + (m->producer.empty() ? "" : "; made by " + m->producer.substr(0, 60) + " " + m->producer_version.substr(0, 40)));
    onnx::external_files external(*m, options.follow_links);
    r.problems = onnx::check_model(*m, external);
    return r;
}

}  // namespace detail

/// Looks at whatever `where` names: a folder of MLC weights (or one of its indexes), a Hugging Face folder, a .safetensors, .gguf or .onnx
/// file. Errors: those of shard::open_folder, source::open_checkpoint and onnx::read_model.
[[nodiscard]] inline result<inspect_report> inspect(const std::string& where, const source::open_options& options = {}) {
    std::error_code ec;
    const std::filesystem::path path = where;
    const auto has = [&](std::string_view name) { return std::filesystem::exists(path / name, ec); };
    if (path.extension() == ".onnx" && std::filesystem::is_regular_file(path, ec)) return detail::inspect_onnx(where, options);
    const bool is_index = std::filesystem::is_regular_file(path, ec) && path.extension() == ".json";
    const bool unfinished = has(".nibble-work") || (!std::filesystem::exists(path, ec) && std::filesystem::exists(where + ".nibble-work", ec));
    const bool checkpoint = has("config.json");
    if (is_index || has(shard::index_name) || has(shard::legacy_index_name) || (unfinished && !checkpoint)) {
        auto f = shard::open_folder(where, {.access = options.access, .follow_links = options.follow_links});
        if (!f) return pass(f);
        return detail::inspect_folder(*f);
    }
    auto c = source::open_checkpoint(where, options);
    if (!c) return pass(c);
    return detail::inspect_checkpoint(where, *c);
}

}  // namespace nibble::convert
