// SPDX-License-Identifier: Apache-2.0
#pragma once
// A checkpoint as the folder that Transformers.js loads: config.json with its own section, the tokenizer with the chat template inlined,
// and onnx/model*.onnx, one for each dtype.

#include <filesystem>

#include "nibble/convert/gguf_tokenizer.hpp"
#include "nibble/convert/onnx_decoder.hpp"
#include "nibble/convert/onnx_quantize.hpp"
#include "nibble/core/python_json.hpp"
#include "nibble/shard/output.hpp"
#include "nibble/version.hpp"

namespace nibble::convert {

/// What is exported, and how.
struct onnx_export_options {
    std::vector<std::string> dtypes{"q4"};
    std::string model_type{};  ///< empty: what config.json says
    std::string name{};        ///< base name of the files without a suffix, for one dtype; empty: "model" and the dtype's suffix
    std::uint64_t block = 32;
    bool symmetric = true;
    std::int64_t accuracy_level = 0;
    std::uint64_t max_context = 0;  ///< positions of the rope tables; 0: up to default_context
    bool external_data = false;     ///< a model above 2 GB: weights in files beside it
    std::size_t threads = 0;
    bool overwrite = false;
    source::open_options source;

    static constexpr std::uint64_t default_context = 8192;
};

/// What an export has written.
struct onnx_export_report {
    /// A file of it.
    struct file {
        std::string path;  ///< in the output folder
        std::uint64_t n_bytes = 0;
    };
    std::string output;
    std::string model_type;
    std::uint64_t positions = 0;
    std::vector<file> files;
    std::vector<std::string> notes;
    error_list problems;  ///< nothing was written while there are any
    double seconds = 0;
};

namespace detail {

/// The positions of the rope tables.
inline std::uint64_t chosen_positions(const model::decoder_facts& d, std::uint64_t wanted, std::vector<std::string>& notes) {
    auto positions = std::min(d.positions, wanted == 0 ? onnx_export_options::default_context : wanted);
    const auto cap = [&](std::uint64_t most, const std::string& why) {
        if (most == 0 || positions <= most) return;
        positions = most;
        notes.push_back("the context is " + std::to_string(most) + " tokens: " + why);
    };
    if (d.exact_positions) cap(*d.exact_positions, "beyond them this model scales its queries, which the graph does not do");
    if (d.rope.type == "longrope" && wanted == 0)
        cap(d.rope.original_positions, "for more this model turns positions otherwise, also the first ones; choose that with --max-context");
    if (positions < d.positions)
        notes.push_back("the rope tables end at " + std::to_string(positions) + " of " + std::to_string(d.positions) + " positions (--max-context)");
    return positions;
}

/// Tensors that would change the model if they were left out.
inline void refuse_lost_tensors(checkpoint_weights& w, const model::decoder_facts& d) {
    std::unordered_set<std::string> bases;
    for (const auto& t : w.checkpoint().tensors)
        if (const auto dot = t.name.rfind('.'); dot != t.name.npos && t.name.ends_with(".weight")) bases.insert(t.name.substr(0, dot));
    for (const auto* t : w.unused()) {
        if (d.tied && t->name.ends_with("lm_head.weight")) continue;
        const bool ours = t->name.starts_with(d.prefix + "model.") && !t->name.ends_with("rotary_emb.inv_freq");
        if (!ours && !belongs_to_parameter(t->name, bases)) continue;
        w.problems().push_back({errc::unsupported,
                                "the graph of model type \"" + d.model_type + "\" has no place for this tensor, and without it the model would be another one",
                                w.checkpoint().files[t->file]->path(),
                                t->name,
                                {},
                                "check --model-type, or merge adapters first"});
    }
}

/// A JSON file of the checkpoint's folder; nothing if it is not there. Errors: malformed.
inline result<std::optional<json>> read_json_beside(const std::filesystem::path& folder, const std::string& name, const source::open_options& options) {
    std::error_code ec;
    if (!std::filesystem::exists(folder / name, ec)) return std::optional<json>{};
    auto text = source::detail::read_inside(folder, name, 256 << 20, options);
    if (!text) return pass(text);
    auto parsed = parse_json(*text);
    if (!parsed) return fail(std::move(parsed.error()).in_file((folder / name).string()));
    return std::optional<json>(std::move(*parsed));
}

/// Appends the tokenizer's files: those beside the model, or what a GGUF says in its metadata.
inline result<void> add_tokenizer(const std::filesystem::path& folder, const source::checkpoint& c, const source::open_options& options,
                                  std::vector<std::pair<std::string, std::string>>& texts, std::vector<std::string>& notes) {
    namespace fs = std::filesystem;
    std::error_code ec;
    const auto text_of = [](const json& j) { return j.dump(2, ' ', false, json::error_handler_t::replace) + "\n"; };
    if (c.format == "gguf" && !fs::exists(folder / "tokenizer.json", ec)) {
        auto header = source::read_gguf_header(c.files[0]);
        auto made = header ? read_gguf_tokenizer(*header) : result<gguf_tokenizer>(pass(header));
        if (!made) {
            notes.push_back(made.error().message());
            return {};
        }
        texts.emplace_back("generation_config.json", text_of(made->generation));
        texts.emplace_back("tokenizer.json", made->tokenizer.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
        texts.emplace_back("tokenizer_config.json", text_of(made->config));
        return {};
    }
    for (const char* name : {"generation_config.json", "tokenizer.json"}) {
        if (!fs::exists(folder / name, ec)) {
            if (std::string_view(name) == "tokenizer.json")
                notes.emplace_back("there is no tokenizer.json beside the model: put one into the output, Transformers.js needs it");
            continue;
        }
        auto bytes = source::detail::read_inside(folder, name, 256 << 20, options);
        if (!bytes) return pass(bytes);
        texts.emplace_back(name, std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()));
    }
    auto config = read_json_beside(folder, "tokenizer_config.json", options);
    if (!config) return pass(config);
    if (!*config) {
        notes.emplace_back("there is no tokenizer_config.json beside the model: put one into the output, Transformers.js needs it");
        return {};
    }
    if (!(*config)->is_object())
        return fail(error{errc::malformed, "tokenizer_config.json must be a JSON object", (folder / "tokenizer_config.json").string(), {}, {}, {}});
    // Transformers.js reads the template nowhere else.
    if (!(*config)->contains("chat_template") && fs::exists(folder / "chat_template.jinja", ec)) {
        auto text = source::detail::read_inside(folder, "chat_template.jinja", 16 << 20, options);
        if (!text) return pass(text);
        (**config)["chat_template"] = std::string(reinterpret_cast<const char*>(text->data()), text->size());
    }
    texts.emplace_back("tokenizer_config.json", text_of(**config));
    return {};
}

}  // namespace detail

/// Writes the folder. Errors: those of opening the checkpoint; refused, unsupported; no_space. Faults of the checkpoint that can be listed
/// are in the report's problems.
[[nodiscard]] inline result<onnx_export_report> export_onnx(const std::string& model, const std::string& output, const onnx_export_options& options = {}) {
    namespace fs = std::filesystem;
    const auto start = std::chrono::steady_clock::now();
    onnx_export_report report;
    report.output = output;
    std::vector<const onnx_dtype*> dtypes;
    for (const auto& name : options.dtypes) {
        const auto* d = find_onnx_dtype(name);
        if (d == nullptr) return fail(error{errc::unsupported, "unknown dtype \"" + name + "\"", {}, {}, {}, "known are " + onnx_dtype_names()});
        if (std::find(dtypes.begin(), dtypes.end(), d) == dtypes.end()) dtypes.push_back(d);
    }
    if (dtypes.empty()) return fail(error{errc::refused, "no dtype is given", {}, {}, {}, "give one with --dtype"});
    if (!options.name.empty() && (dtypes.size() != 1 || !source::is_plain_file_name(options.name)))
        return fail(
            error{errc::refused, "a name of the model's file is a plain file name, and for one dtype", {}, {}, {}, "leave out --name, or give one --dtype"});
    if (auto good = check_nbits_options({dtypes[0]->bits == 0 ? 4 : dtypes[0]->bits, options.block, options.symmetric}); !good) return pass(good);
    if (options.accuracy_level < 0 || options.accuracy_level > 4)
        return fail(error{errc::refused, "there is no accuracy level " + std::to_string(options.accuracy_level), {}, {}, {}, "take one of 0 to 4"});

    auto opened = source::open_checkpoint(model, options.source);
    if (!opened) return pass(opened);
    report.notes = opened->notes;
    report.problems = opened->problems;
    detail::check_quantization_config(*opened, report.problems);
    model::config config(opened->config, opened->config_file);
    auto facts = model::read_facts(config, options.model_type);
    if (!facts) return pass(facts);
    report.model_type = facts->model_type;
    report.problems.insert(report.problems.end(), config.problems().begin(), config.problems().end());
    if (facts->sizes.head_dim % 16 != 0 || facts->rotary_dim % 16 != 0 || facts->rotary_dim == 0) {
        report.problems.push_back({errc::unsupported,
                                   "heads of " + std::to_string(facts->sizes.head_dim) + " values, " + std::to_string(facts->rotary_dim) +
                                       " of them turned: ONNX Runtime's GroupQueryAttention takes multiples of 16",
                                   opened->config_file,
                                   {},
                                   {},
                                   "this model cannot be exported"});
    }
    if (!report.problems.empty()) return report;
    report.positions = detail::chosen_positions(*facts, options.max_context, report.notes);

    checkpoint_weights weights(std::move(*opened));
    const auto threads = std::make_shared<detail::parallel>(options.threads);
    struct planned {
        std::string path;
        onnx::assembly content;
    };
    std::vector<planned> files;
    json external = json::object();
    for (const auto* dtype : dtypes) {
        auto graph = decoder_graph(*facts, weights, {dtype, options.block, options.symmetric, options.accuracy_level, report.positions}, threads).build();
        if (!weights.problems().empty()) break;
        const auto name = (options.name.empty() ? "model" + std::string(dtype->suffix) : options.name) + ".onnx";
        onnx::model_options form;
        form.producer_version = NIBBLE_VERSION;
        auto parts = onnx::model_writer::write(graph, form);
        if (!parts && options.external_data) {
            form.external_name = name + "_data";
            parts = onnx::model_writer::write(graph, form);
            if (parts) external[name] = parts->size() - 1;
        }
        if (!parts) return fail(std::move(parts.error()).in_file(output + "/onnx/" + name));
        for (auto& p : *parts) files.push_back({"onnx/" + (p.name.empty() ? name : p.name), std::move(p.content)});
    }
    if (weights.problems().empty()) detail::refuse_lost_tensors(weights, *facts);
    report.problems = weights.problems();
    report.notes.insert(report.notes.end(), weights.notes().begin(), weights.notes().end());
    if (!report.problems.empty()) return report;

    // The small files
    fs::path folder = model;
    std::error_code ec;
    if (!fs::is_directory(folder, ec)) folder = folder.parent_path();
    if (folder.empty()) folder = ".";
    json written = weights.checkpoint().config;
    if (facts->prefix.empty() || !written.contains("text_config")) {
        written["max_position_embeddings"] = report.positions;
    } else {
        json text = written["text_config"];
        text["max_position_embeddings"] = report.positions;
        if (facts->model_type == "gemma3") text["model_type"] = "gemma3_text";
        for (const char* key : {"eos_token_id", "bos_token_id", "pad_token_id"})
            if (written.contains(key) && !text.contains(key)) text[key] = written[key];
        written = std::move(text);
    }
    // Its dtype is but a file's suffix to the loader; and the type of the cache is asked for by older versions only.
    json section{{"kv_cache_dtype", {{"q4f16", "float16"}, {"fp16", "float16"}}}};
    for (const auto& d : onnx_dtypes)
        if (options.name.empty() ? &d == find_onnx_dtype(dtypes[0]->name) : options.name == "model" + std::string(d.suffix))
            section["dtype"] = std::string(d.name);
    if (!external.empty()) section["use_external_data_format"] = std::move(external);
    written["transformers.js_config"] = std::move(section);
    std::vector<std::pair<std::string, std::string>> texts{{"config.json", written.dump(2) + "\n"}};
    if (auto added = detail::add_tokenizer(folder, weights.checkpoint(), options.source, texts, report.notes); !added) return pass(added);

    // config.json last: without it the folder is no model
    if (fs::equivalent(folder, output, ec)) return fail(error{errc::refused, "the output is the model's own folder", output, {}, {}, "give another -o"});
    if (fs::exists(fs::path(output) / "config.json", ec) && !options.overwrite)
        return fail(
            error{errc::refused, "the output folder already holds a model (config.json)", output, {}, {}, "give another -o, or allow it with --overwrite"});
    std::uint64_t n_bytes = 1 << 20;
    for (const auto& f : files) n_bytes += f.content.n_bytes();
    for (const auto& t : texts) n_bytes += t.second.size();
    if (const auto free = shard::output_folder::free_bytes(output); free < n_bytes)
        return fail(error{errc::no_space,
                          std::to_string(n_bytes) + " bytes are needed, " + std::to_string(free) + " are free",
                          output,
                          {},
                          {},
                          "free some space, or give an output on another disk"});
    fs::remove(fs::path(output) / "config.json", ec);
    fs::create_directories(fs::path(output) / "onnx", ec);
    if (!fs::is_directory(fs::path(output) / "onnx", ec))
        return fail(error{errc::io, "the output folder cannot be made", output, {}, {}, "give an output folder that you may write to"});
    for (const auto& f : files) {
        if (auto done = write_assembly(f.content, fs::path(output) / f.path); !done) return pass(done);
        report.files.push_back({f.path, f.content.n_bytes()});
    }
    for (const auto& f : weights.checkpoint().files)
        if (auto same = f->check_unchanged(); !same) return pass(same);
    std::reverse(texts.begin(), texts.end());
    for (const auto& [name, text] : texts) {
        auto out = shard::output_file::create(output, name);
        if (!out) return pass(out);
        if (auto w = out->write(std::as_bytes(std::span(text))); !w) return pass(w);
        if (auto done = out->finish(); !done) return pass(done);
        report.files.push_back({name, text.size()});
    }
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
}

}  // namespace nibble::convert
