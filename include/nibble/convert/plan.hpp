// SPDX-License-Identifier: Apache-2.0
#pragma once
// The plan of a conversion, made from headers alone: which parameter goes to which shard at which offset, from which source
// tensors, through which codec; and everything that stands in the way, all of it at once.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "nibble/codec/registry.hpp"
#include "nibble/model/architectures.hpp"
#include "nibble/shard/manifest.hpp"
#include "nibble/source/open.hpp"

namespace nibble::convert {

/// What is converted to what.
struct plan_options {
    std::string quantization = "q4f16_1";
    std::string model_type{};  ///< empty: what config.json says
    encode_options encode{};
    std::uint64_t shard_bytes = shard::default_shard_bytes;
    bool allow_unexpected = false;  ///< convert although the checkpoint holds tensors that belong to a parameter and have no place
    source::open_options source{};
};

/// A parameter with its codec and its sources found.
struct planned_parameter {
    model::parameter of;
    std::size_t codec = 0;             ///< index into nibble::codecs
    std::vector<std::size_t> sources;  ///< indices into checkpoint::tensors

    /// Its values as a matrix: rows that are stored one after another, and the K values of each. A vector is a column, so that
    /// concatenating and reordering mean the same for it.
    [[nodiscard]] std::uint64_t rows() const { return of.dims.rank() < 2 ? of.dims.columns() : of.dims.rows(); }
    [[nodiscard]] std::uint64_t columns() const { return of.dims.rank() < 2 ? 1 : of.dims.columns(); }
    /// The same as a shape, for the codec's planes.
    [[nodiscard]] shape matrix() const { return of.dims.rank() < 2 ? shape{of.dims.columns()} : of.dims; }
};

/// Which plane of which parameter a record of a shard holds.
struct planned_record {
    std::size_t parameter = 0;
    std::size_t plane = 0;
};

/// A conversion as it would be made.
struct plan {
    source::checkpoint model;
    std::string model_type;
    const scheme* quantization = nullptr;
    plan_options options;
    std::vector<planned_parameter> parameters;          ///< in the order in which they are written
    shard::manifest manifest;                           ///< complete but for the md5 sums
    std::vector<std::vector<planned_record>> contents;  ///< for each shard, for each of its records
    error_list problems;                                ///< nothing may be written while there are any
    std::vector<std::string> notes;

    [[nodiscard]] std::uint64_t output_bytes() const {
        std::uint64_t n = 0;
        for (const auto& s : manifest.shards) n += s.n_bytes;
        return n;
    }
    [[nodiscard]] std::uint64_t source_bytes() const {
        std::uint64_t n = 0;
        for (const auto& f : model.files) n += f->size();
        return n;
    }
};

namespace detail {

/// The codec of a parameter under a scheme; scheme::none where mlc_llm has none.
inline std::size_t codec_of(const model::parameter& p, const scheme& s) {
    if (p.keep_f32) return codec_index<q0f32>;
    switch (p.kind) {
        case model::role::linear:
            return s.linear;
        case model::role::final_linear:
            return s.final_linear;
        case model::role::embedding:
            return s.table;
        case model::role::experts:
            return s.experts;
        case model::role::other:
            break;
    }
    return s.cast;
}

/// "x.q_weight" for parameter "x.weight" and suffix "q_weight"; the name itself for an empty suffix.
inline std::string plane_name(const std::string& parameter, std::string_view suffix) {
    if (suffix.empty()) return parameter;
    constexpr std::string_view weight = ".weight";
    const std::string base = parameter.ends_with(weight) ? parameter.substr(0, parameter.size() - weight.size()) : parameter;
    return base + "." + std::string(suffix);
}

/// Order of writing: the checkpoint's tensors in turn, each calling up the parameters that it is part of, at first sight.
inline std::vector<std::size_t> writing_order(const std::vector<model::parameter>& parameters, const source::checkpoint& c) {
    std::unordered_map<std::string_view, std::vector<std::size_t>> users;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        for (const auto& s : parameters[i].sources) users[s].push_back(i);
    }
    std::vector<std::size_t> order;
    std::vector<bool> seen(parameters.size());
    for (const auto& t : c.tensors) {
        const auto at = users.find(t.name);
        if (at == users.end()) continue;
        for (const auto i : at->second) {
            if (!seen[i]) order.push_back(i);
            seen[i] = true;
        }
    }
    return order;
}

/// The number that mlc_llm divides by for BitsPerParam: the values of all tensors, but those left out on purpose, of each file it
/// loads, again each time it loads it. It drops files that a parameter does not need only when it must load another one.
inline std::uint64_t loaded_values(const std::vector<planned_parameter>& parameters, const source::checkpoint& c, const std::vector<std::string>& unused) {
    const std::unordered_set<std::string_view> left_out(unused.begin(), unused.end());
    std::vector<std::uint64_t> values(c.files.size());
    for (const auto& t : c.tensors) {
        if (!left_out.contains(t.name)) values[t.file] += t.dims.elements();
    }
    if (c.files.size() == 1) return values[0];
    std::uint64_t total = 0;
    std::set<std::uint32_t> cached;
    for (const auto& p : parameters) {
        std::set<std::uint32_t> needed;
        for (const auto i : p.sources) needed.insert(c.tensors[i].file);
        if (std::includes(cached.begin(), cached.end(), needed.begin(), needed.end())) continue;
        for (const auto f : needed) {
            if (!cached.contains(f)) total += values[f];
        }
        cached = std::move(needed);
    }
    return total;
}

/// Whether a tensor that no parameter uses is part of one that is used, so that dropping it would change the model: an unknown bias,
/// an adapter, the scales of weights that were quantized by somebody else.
inline bool belongs_to_parameter(const std::string& name, const std::unordered_set<std::string>& bases) {
    for (const std::string_view part : {".lora_", ".adapter", ".qweight", ".qzeros", ".scales", ".absmax", ".quant_state", "weight_scale", ".g_idx"}) {
        if (name.find(part) != name.npos) return true;
    }
    const auto dot = name.rfind('.');
    return dot != name.npos && name.compare(dot, name.npos, ".bias") == 0 && bases.contains(name.substr(0, dot));
}

inline void check_quantization_config(const source::checkpoint& c, error_list& problems) {
    const auto find_in = [](const json& scope) -> const json* {
        const auto at = scope.find("quantization_config");
        return at == scope.end() || at->is_null() ? nullptr : &*at;
    };
    const auto* found = find_in(c.config);
    if (const auto text = c.config.find("text_config"); found == nullptr && text != c.config.end()) found = find_in(*text);
    if (found == nullptr) return;
    std::string method = "unknown";
    if (found->is_object() && found->contains("quant_method") && (*found)["quant_method"].is_string()) method = (*found)["quant_method"].get<std::string>();
    problems.push_back({errc::unsupported,
                        "the checkpoint is already quantized (quantization_config, quant_method \"" + method.substr(0, 40) + "\")",
                        c.config_file,
                        {},
                        {},
                        "convert the original model in f32, f16 or bf16: reading quantized weights as if they were plain ones would give nonsense"});
}

/// The vocabulary is open in MLC: the rows that the checkpoint has are taken, and the difference is said.
inline void open_vocabulary(planned_parameter& p, const source::checkpoint& c, const source::tensor& t, plan& out) {
    const std::string rows = std::to_string(t.dims[0]);
    const std::string stated = std::to_string(p.of.dims[0]);
    if (t.dims[0] < p.of.dims[0]) {
        out.problems.push_back({errc::mismatch,
                                "it has " + rows + " rows, fewer than the vocab_size " + stated + " of config.json",
                                c.files[t.file]->path(),
                                t.name,
                                {},
                                "set \"vocab_size\" to " + rows + " if the vocabulary was cut, else download the weights again"});
        return;
    }
    out.notes.push_back(t.name + " has " + rows + " rows, config.json says vocab_size " + stated +
                        ": all rows are converted; if tokens were added, set \"vocab_size\" to " + rows);
    p.of.dims[0] = t.dims[0];
}

/// Sources of one parameter: found, convertible, and of shapes that add up to the parameter's.
inline void find_sources(planned_parameter& p, const source::checkpoint& c, const std::unordered_map<std::string_view, std::size_t>& index, plan& out) {
    std::uint64_t rows = 0;
    bool all = true;
    for (const auto& name : p.of.sources) {
        const auto at = index.find(name);
        if (at == index.end()) {
            all = false;
            std::string remedy = "download the complete checkpoint, or give another --model-type";
            if (name.ends_with("lm_head.weight")) remedy = "if its output layer is the embedding, set \"tie_word_embeddings\": true in config.json";
            out.problems.push_back(
                {errc::missing, "no such tensor in the checkpoint (parameter " + p.of.name + " is made of it)", c.config_file, name, {}, remedy});
            continue;
        }
        const auto& t = c.tensors[at->second];
        p.sources.push_back(at->second);
        const bool usable = t.stored_type.empty() && (is_float(t.type) || is_ggml_block(t.type));
        if (!usable) {
            const std::string type = t.stored_type.empty() ? std::string(info(t.type).name) : t.stored_type;
            out.problems.push_back({errc::unsupported, "no weight can be made of type " + type, c.files[t.file]->path(), name, t.offset,
                                    "weights may be F32, F16, BF16, F8_E4M3 or F8_E5M2"});
        }
        if (is_ggml_block(t.type) && (t.dims.rank() < 2 || p.of.transpose)) {
            out.problems.push_back(
                {errc::unsupported, "a " + std::string(info(t.type).name) + " tensor must be a matrix of rows", c.files[t.file]->path(), name, t.offset, {}});
        }
        const bool vector = p.of.dims.rank() < 2;
        shape seen = t.dims;
        if (p.of.free_rows && seen.rank() == 2 && seen[0] != p.of.dims[0]) open_vocabulary(p, c, t, out);
        if (p.of.transpose && seen.rank() == 2) seen = shape{t.dims[1], t.dims[0]};
        if (p.of.sources.size() == 1 ? seen != p.of.dims : (!vector && seen.columns() != p.of.dims.columns())) {
            out.problems.push_back({errc::mismatch,
                                    "shape " + t.dims.text() + " where config.json makes parameter " + p.of.name + " of shape " + p.of.dims.text(),
                                    c.files[t.file]->path(),
                                    name,
                                    {},
                                    "config.json and the weights are of different models, or the vocabulary was changed without config.json"});
            all = false;
        }
        rows += vector ? seen.elements() : seen.rows();
    }
    if (all && p.of.sources.size() > 1 && rows != p.rows()) {
        out.problems.push_back({errc::mismatch,
                                "its sources have " + std::to_string(rows) + " rows together, config.json makes it " + p.of.dims.text(),
                                c.config_file,
                                p.of.name,
                                {},
                                "config.json and the weights are of different models"});
    }
}

}  // namespace detail

/// Makes the plan for a checkpoint that has been opened. What is wrong with the checkpoint is in plan::problems.
[[nodiscard]] inline result<plan> make_plan(source::checkpoint checkpoint, const plan_options& options) {
    plan out;
    out.options = options;
    out.model = std::move(checkpoint);
    const auto& c = out.model;
    out.problems = c.problems;
    out.notes = c.notes;
    out.quantization = find_scheme(options.quantization);
    if (out.quantization == nullptr) {
        return fail(unknown_scheme(options.quantization));
    }
    detail::check_quantization_config(c, out.problems);

    model::config config(c.config, c.config_file);
    auto architecture = model::architecture_of(config, options.model_type);
    if (!architecture) {
        out.problems.push_back(std::move(architecture.error()));
        return out;
    }
    out.model_type = (*architecture)->model_type;
    if (out.quantization->fp8 && !(*architecture)->per_tensor_fp8) {
        out.problems.push_back({errc::unsupported,
                                options.quantization + " is not defined for model type \"" + out.model_type + "\"",
                                c.config_file,
                                {},
                                {},
                                "take one of the q schemes; mlc_llm has fp8 weights for llama, llama4 and mixtral"});
    }
    auto mapped = (*architecture)->map(config);
    for (const auto& p : config.problems()) out.problems.push_back(p);
    for (auto& n : mapped.notes) out.notes.push_back(std::move(n));
    if (!config.problems().empty()) return out;

    const auto index = c.by_name();
    std::unordered_set<std::string_view> used(mapped.unused.begin(), mapped.unused.end());
    std::unordered_set<std::string> bases;
    for (const auto& p : mapped.parameters) {
        for (const auto& s : p.sources) {
            used.insert(s);
            if (const auto dot = s.rfind('.'); dot != s.npos) bases.insert(s.substr(0, dot));
        }
    }
    std::vector<std::string> dropped;
    for (const auto& t : c.tensors) {
        const bool left_out =
            std::any_of(mapped.unused_prefixes.begin(), mapped.unused_prefixes.end(), [&](const auto& prefix) { return t.name.starts_with(prefix); });
        if (used.contains(t.name) || left_out) continue;
        if (!options.allow_unexpected && detail::belongs_to_parameter(t.name, bases)) {
            out.problems.push_back({errc::unsupported,
                                    "model type \"" + out.model_type + "\" has no place for this tensor, and without it the model would be another one",
                                    c.files[t.file]->path(),
                                    t.name,
                                    {},
                                    "check --model-type, merge adapters first, or drop it knowingly with --allow-unexpected"});
        } else {
            dropped.push_back(t.name);
        }
    }
    if (!dropped.empty()) {
        std::string text = std::to_string(dropped.size()) + " tensors are not part of model type \"" + out.model_type + "\" and are left out:";
        for (std::size_t i = 0; i < dropped.size() && i < 8; ++i) text += " " + dropped[i];
        if (dropped.size() > 8) text += " ...";
        out.notes.push_back(std::move(text));
    }

    std::vector<planned_parameter> all;
    for (auto& p : mapped.parameters) {
        planned_parameter planned{p, detail::codec_of(p, *out.quantization), {}};
        if (planned.codec == scheme::none) {
            out.problems.push_back({errc::unsupported,
                                    "stacked expert weights have no layout in " + options.quantization,
                                    c.config_file,
                                    p.name,
                                    {},
                                    "use the scheme of the same bits whose name ends in _1"});
            planned.codec = out.quantization->cast;
        }
        detail::find_sources(planned, c, index, out);
        all.push_back(std::move(planned));
    }
    if (!out.problems.empty()) return out;

    shard::packer packer(options.shard_bytes);
    std::unordered_map<std::string, planned_record> by_name;
    double bytes = 0;
    for (const auto i : detail::writing_order(mapped.parameters, c)) {
        const auto& p = all[i];
        visit_codec(p.codec, [&]<class C>() {
            for (std::size_t plane = 0; plane < stored_planes<C>.size(); ++plane) {
                shard::record r{detail::plane_name(p.of.name, stored_planes<C>[plane].suffix),
                                stored_shape<C>(plane, p.matrix()),
                                stored_planes<C>[plane].type,
                                0,
                                0,
                                false};
                const auto n = r.dims.elements();
                r.n_bytes = n * shard::stored_bytes(r.type);
                bytes += static_cast<double>(n * info(r.type).block_bytes);
                by_name.emplace(r.name, planned_record{out.parameters.size(), plane});
                ++out.manifest.n_parameters;
                packer.add(std::move(r));
            }
        });
        out.parameters.push_back(p);
    }
    out.manifest.shards = packer.finish();
    for (const auto& s : out.manifest.shards) {
        auto& records = out.contents.emplace_back();
        for (const auto& r : s.records) records.push_back(by_name.at(r.name));
    }
    out.manifest.parameter_bytes = bytes;
    const auto values = detail::loaded_values(out.parameters, c, mapped.unused);
    out.manifest.bits_per_parameter = values == 0 ? 0 : bytes * 8.0 / static_cast<double>(values);
    return out;
}

/// Opens a checkpoint (a folder, a .safetensors or a .gguf file) and plans its conversion.
[[nodiscard]] inline result<plan> make_plan(const std::string& model, const plan_options& options) {
    auto checkpoint = source::open_checkpoint(model, options.source);
    if (!checkpoint) return pass(checkpoint);
    return make_plan(std::move(*checkpoint), options);
}

}  // namespace nibble::convert
