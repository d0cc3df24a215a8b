// SPDX-License-Identifier: Apache-2.0
#pragma once
// A package: everything that WebLLM loads of a model, in one folder that comes into being whole. Shards and index, mlc-chat-config.json
// and the tokenizer, the ModelRecord, a model card, and a manifest with the SHA-256 of every file.

#include <array>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/convert/model_card.hpp"
#include "nibble/convert/run.hpp"

namespace nibble::convert {

/// Where the files lie in the output.
enum class package_layout : std::uint8_t {
    flat,   ///< all in one folder
    hub,    ///< all in resolve/main/, where WebLLM looks on any server
    params  ///< shards and index in params/ beside the configuration, as in older MLC folders
};
inline constexpr std::array<std::pair<std::string_view, package_layout>, 3> package_layouts{
    {{"flat", package_layout::flat}, {"hub", package_layout::hub}, {"params", package_layout::params}}};
/// The schemes of a pair: for WebGPU with shader-f16, and for all of WebGPU. Their shards are alike, but for what is in them.
inline constexpr std::array<std::string_view, 2> pair_schemes{"q4f16_1", "q4f32_1"};

/// What is packaged, and how.
struct package_options {
    plan_options plan;          ///< its quantization is not looked at for a pair
    gen_config_options config;  ///< quantization, model type and source are those of `plan`
    run_options run;            ///< only_shards does not apply
    package_layout layout = package_layout::flat;
    bool pair = false;                               ///< both of pair_schemes, each in a folder of its name
    std::string model_id{};                          ///< empty: NAME-QUANTIZATION-MLC
    std::string base_model{};                        ///< "OWNER/NAME" on the Hub; empty: as far as the checkpoint tells
    std::string base_url = "http://127.0.0.1:8000";  ///< where the output will be served; the default is nibble serve's
    std::string library{};                           ///< a .wasm file, which becomes part of the package, or its URL
    model::webllm_version webllm = model::newest_webllm;
};

/// One folder of a package, all of it but the weights.
struct packaged_model {
    plan weights;
    webllm_folder folder;
    model_record record;
    std::string root;                ///< of the folder in the output: "" or "q4f16_1/"
    std::string home;                ///< of the files: the same, or with resolve/main/
    std::string shards;              ///< of shards and index
    std::vector<copied_file> files;  ///< beside them, as they will lie in `home`
};

/// A package as it would be written.
struct package_plan {
    package_options options;
    std::vector<packaged_model> models;
    error_list problems;  ///< nothing may be written while there are any
    std::vector<std::string> notes;
    std::vector<std::string> warnings;

    [[nodiscard]] std::uint64_t output_bytes() const {
        std::uint64_t n = 0;
        for (const auto& m : models) {
            n += m.weights.output_bytes();
            for (const auto& f : m.files) n += f.content.size();
        }
        return n;
    }
};

/// A file of a package.
struct packaged_file {
    std::string name;  ///< in the output
    std::uint64_t n_bytes = 0;
    std::string sha256;
};

/// What a package holds that has been written.
struct package_report {
    std::string output;
    std::vector<packaged_file> files;
    std::uint64_t bytes = 0;
    std::size_t shards_kept = 0;
    std::vector<std::vector<nonfinite_values>> nonfinite;  ///< for each model
    double seconds = 0;
};

namespace detail {

[[nodiscard]] inline bytes_view bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }
[[nodiscard]] inline copied_file text_file(std::string name, std::string_view text) {
    const auto bytes = bytes_of(text);
    return {std::move(name), {bytes.begin(), bytes.end()}};
}

/// Name of the model and what it was made of, from the folder's: "models--OWNER--NAME/snapshots/REVISION" is the Hub's cache.
struct model_name {
    std::string name;
    std::string hub_name;
};
[[nodiscard]] inline model_name name_of(const std::filesystem::path& folder, const json& config) {
    std::error_code ec;
    auto whole = std::filesystem::absolute(folder, ec).lexically_normal();
    if (!whole.has_filename()) whole = whole.parent_path();
    model_name out{whole.filename().string(), {}};
    const auto repository = whole.parent_path().parent_path().filename().string();
    if (whole.parent_path().filename() == "snapshots" && repository.starts_with("models--")) {
        const auto rest = repository.substr(8);
        if (const auto split = rest.find("--"); split != rest.npos) {
            out.hub_name = rest.substr(0, split) + "/" + rest.substr(split + 2);
            out.name = rest.substr(split + 2);
        }
    }
    if (const auto at = config.find("_name_or_path"); out.hub_name.empty() && at != config.end() && at->is_string() && is_hub_name(at->get<std::string>()))
        out.hub_name = at->get<std::string>();
    if (!is_hub_name(out.hub_name)) out.hub_name.clear();
    return out;
}

/// A name from a manifest that may mean a file in its folder: plain names, with slashes between them.
[[nodiscard]] inline bool is_inner_name(std::string_view name) {
    while (true) {
        const auto slash = name.find('/');
        if (!source::is_plain_file_name(name.substr(0, slash))) return false;
        if (slash == name.npos) return true;
        name.remove_prefix(slash + 1);
    }
}

/// The model library that the options name, read if it is a file.
struct given_library {
    std::optional<library_metadata> metadata;
    copied_file file;  ///< without a name if it is not part of the package
    std::string url;
    std::string hash;
};
[[nodiscard]] inline result<given_library> read_given_library(const std::string& where) {
    given_library out;
    if (where.empty()) return out;
    if (serve::parse_url(where)) {
        out.url = where;
        return out;
    }
    auto bytes = read_file(where, 256u << 20);
    if (!bytes) return pass(bytes);
    auto metadata = parse_library(*bytes, where);
    if (!metadata) return pass(metadata);
    out.metadata = std::move(*metadata);
    out.hash = integrity_of(*bytes);
    out.file = {std::filesystem::path(where).filename().string(), std::move(*bytes)};
    if (!source::is_plain_file_name(out.file.name) || out.file.name.front() == '.')
        return fail(error{errc::refused, "the library's file name cannot be part of a URL on every server", where, {}, {}, "rename it"});
    if (!out.file.name.ends_with(".wasm")) out.file.name += ".wasm";
    return out;
}

/// The vocabulary is open: what counts is how many rows the embedding has.
inline void take_vocabulary(packaged_model& m) {
    auto& config = m.folder.chat.config;
    for (const auto& p : m.weights.parameters) {
        if (p.of.kind != model::role::embedding || !p.of.free_rows || config["vocab_size"] == p.of.dims[0]) continue;
        m.folder.differences.push_back(
            {"vocab_size", config["vocab_size"], json(p.of.dims[0]), "the embedding has so many rows, and WebLLM samples among so many tokens"});
        config["vocab_size"] = p.of.dims[0];
        return;
    }
}

inline void add_model(package_plan& out, const std::string& model_folder, const std::string& config_path, const source::checkpoint& checkpoint,
                      std::string_view scheme, const given_library& library) {
    const auto& options = out.options;
    packaged_model m;
    m.root = options.pair ? std::string(scheme) + "/" : "";
    m.home = m.root + (options.layout == package_layout::hub ? "resolve/main/" : "");
    m.shards = m.home + (options.layout == package_layout::params ? "params/" : "");

    auto how = options.plan;
    how.quantization = scheme;
    auto weights = make_plan(checkpoint, how);
    if (!weights) {
        out.problems.push_back(std::move(weights.error()));
        return;
    }
    m.weights = std::move(*weights);
    auto settings = options.config;
    settings.quantization = scheme;
    settings.model_type = how.model_type;
    settings.source = how.source;
    auto folder = make_webllm_folder(config_path, settings);
    const auto keep = [](auto& list, const auto& value) {
        if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
    };
    const auto keep_problem = [&](const error& e) {
        if (std::none_of(out.problems.begin(), out.problems.end(), [&](const auto& p) { return p.message() == e.message(); })) out.problems.push_back(e);
    };
    for (const auto& e : m.weights.problems) keep_problem(e);
    if (!folder) return keep_problem(folder.error());
    for (const auto& e : folder->chat.problems) keep_problem(e);
    for (const auto& n : m.weights.notes) keep(out.notes, n);
    for (const auto& n : folder->chat.notes) keep(out.notes, n);
    for (const auto& w : folder->warnings) keep(out.warnings, w);
    if (!m.weights.problems.empty() || !folder->chat.problems.empty()) return;
    m.folder = std::move(*folder);
    take_vocabulary(m);
    const auto& config = m.folder.chat.config;

    const auto name = name_of(model_folder, checkpoint.config);
    record_options record;
    record.model_id =
        options.model_id.empty() ? name.name + "-" + std::string(scheme) + "-MLC" : options.model_id + (options.pair ? "-" + std::string(scheme) : "");
    record.base_url = options.base_url;
    while (record.base_url.ends_with('/')) record.base_url.pop_back();
    if (options.pair) record.base_url += "/" + std::string(scheme);
    record.context_window_size = options.config.context_window_size;
    record.webllm = options.webllm;
    record.library_url = library.url;
    if (library.metadata) {
        record.library = &*library.metadata;
        record.library_url = serve::model_base(record.base_url) + serve::url_path(library.file.name);
        record.library_hash = library.hash;
        // Before a byte is converted: a browser would find out at the first token.
        auto compared = compare_with_library(*library.metadata, m.weights.manifest, config, library.metadata->path, options.webllm);
        for (const auto& e : compared.problems) keep_problem(e);
        for (const auto& e : compared.warnings) keep(out.warnings, e.message());
    }

    const auto add = [&](std::string file, std::string_view text) { m.files.push_back(text_file(std::move(file), text)); };
    add(std::string(chat_config_name), m.folder.chat.config_text());
    json integrity = {{"config", integrity_of(m.files[0].content)}, {"tokenizer", json::object()}};
    for (const auto& f : m.folder.chat.files) {
        m.files.push_back(f);
        const bool is_json = f.name == "tokenizer.json";
        // WebLLM fetches the one, or else the other.
        if (is_json || (f.name == "tokenizer.model" && integrity["tokenizer"].empty())) integrity["tokenizer"] = {{f.name, integrity_of(f.content)}};
    }
    m.folder.chat.files.clear();
    if (library.metadata) m.files.push_back(library.file);
    m.record = make_record(m.weights.manifest, config, m.weights.quantization->model_type, std::move(integrity), record);
    for (const auto& n : m.record.notes) keep(out.notes, n);
    if (!source::is_plain_file_name(record.model_id))
        keep_problem({errc::refused, "\"" + record.model_id.substr(0, 80) + "\" is no name for a model", {}, {}, {}, "give another --model-id"});
    out.models.push_back(std::move(m));
}

/// The record's files and the card, which names the other half of a pair.
inline void add_cards(package_plan& out, const std::string& model_folder, const json& checkpoint_config, const source::open_options& source) {
    const auto name = name_of(model_folder, checkpoint_config);
    card_facts facts;
    facts.base_model = !out.options.base_model.empty() ? out.options.base_model : !name.hub_name.empty() ? name.hub_name : name.name;
    if (const auto card = source::detail::read_inside(model_folder, "README.md", 16 << 20, source))
        facts.license = license_of({reinterpret_cast<const char*>(card->data()), card->size()});
    facts.weights_of_mlc_llm = out.options.plan.encode.fit == fit::absmax;
    for (std::size_t i = 0; i < out.models.size(); ++i) {
        auto& m = out.models[i];
        const auto& record = m.record.record;
        facts.title = record["model_id"].get<std::string>();
        facts.quantization = std::string(m.weights.quantization->name);
        facts.bits_per_parameter = m.weights.manifest.bits_per_parameter;
        facts.n_shards = m.weights.manifest.shards.size();
        facts.shard_bytes = m.weights.output_bytes();
        facts.folder = &m.folder;
        facts.memory = m.record.memory;
        facts.params_layout = out.options.layout == package_layout::params;
        facts.record = record;
        facts.records.clear();
        for (const auto& each : out.models) facts.records.push_back(each.record.record);
        facts.notes = m.weights.notes;
        for (const auto* more : {&m.folder.chat.notes, &m.record.notes}) facts.notes.insert(facts.notes.end(), more->begin(), more->end());
        m.files.push_back(text_file(std::string(serve::record_file_name), serve::record_text(record) + "\n"));
        m.files.push_back(text_file("README.md", model_card(facts)));
    }
}

}  // namespace detail

/// Plans a package of a checkpoint: a Hugging Face folder, its config.json, or a .safetensors file beside it. Reads headers, the
/// configuration and the tokenizer. What is wrong with them is in package_plan::problems, all of it. Errors: what makes the checkpoint,
/// or the model library, unreadable.
[[nodiscard]] inline result<package_plan> plan_package(const std::string& model, const package_options& options) {
    namespace fs = std::filesystem;
    std::error_code ec;
    package_plan out;
    out.options = options;
    if (!serve::parse_url(options.base_url))
        return fail(error{errc::malformed,
                          "\"" + options.base_url.substr(0, 200) + "\" is not an http or https URL",
                          {},
                          {},
                          {},
                          "give --base-url as in https://example.org/models/mine"});
    auto library = detail::read_given_library(options.library);
    if (!library) return pass(library);
    fs::path folder = model.empty() ? "." : model;
    const bool one_file = fs::is_regular_file(model, ec) && model.ends_with(".safetensors");
    if (folder.filename() == "config.json" || one_file) folder = folder.parent_path();
    if (folder.empty()) folder = ".";
    if (!fs::is_directory(folder, ec) && source::detail::is_gguf(model)) {
        return fail(error{errc::unsupported,
                          "a .gguf file has no tokenizer.json, and WebLLM reads no other form of its tokenizer",
                          model,
                          {},
                          {},
                          "give the folder of the original checkpoint (config.json and the tokenizer are enough), and this file with --source"});
    }
    const auto& given = options.plan.source.weights;
    const bool gguf = !given.empty() && source::detail::is_gguf(given);
    auto checkpoint = source::open_checkpoint(gguf ? given : one_file ? model : folder.string(), options.plan.source);
    if (!checkpoint) return pass(checkpoint);
    if (options.pair) {
        for (const auto scheme : pair_schemes) detail::add_model(out, folder.string(), (folder / "config.json").string(), *checkpoint, scheme, *library);
    } else {
        detail::add_model(out, folder.string(), (folder / "config.json").string(), *checkpoint, options.plan.quantization, *library);
    }
    if (!out.problems.empty()) return out;
    if (out.models.size() == 2) {
        if (auto together = can_be_made_together({&out.models[0].weights, &out.models[1].weights}); !together) return pass(together);
    }
    detail::add_cards(out, folder.string(), checkpoint->config, options.plan.source);
    return out;
}

namespace detail {

/// Files of the package that an output folder holds already and that are not in `names`, by its manifest.
[[nodiscard]] inline std::vector<std::string> stale_files(const std::filesystem::path& output, const std::vector<std::string>& homes,
                                                          const std::vector<std::string>& names) {
    std::vector<std::string> stale;
    for (const auto& home : homes) {
        const auto text = read_file((output / (home + std::string(shard::output_folder::manifest_name))).string(), 64u << 20);
        const auto manifest = text ? parse_json(*text) : result<json>(fail(text.error()));
        if (!manifest || !manifest->is_object() || !manifest->contains("files") || !(*manifest)["files"].is_object()) continue;
        for (const auto& [name, facts] : (*manifest)["files"].items()) {
            if (is_inner_name(name) && std::find(names.begin(), names.end(), home + name) == names.end()) stale.push_back(home + name);
        }
    }
    return stale;
}

}  // namespace detail

/// Carries out a plan without problems. The output comes into being whole, as by run(); without run_options::overwrite no file that is
/// there is replaced. Errors: refused, busy, io, no_space, and as make_shards.
[[nodiscard]] inline result<package_report> write_package(const package_plan& p, const std::string& output) {
    const auto start = std::chrono::steady_clock::now();
    if (!p.problems.empty()) return fail(p.problems.front());
    std::error_code ec;
    std::vector<run_part> parts;
    std::vector<std::string> places;
    std::vector<std::string> names;
    for (const auto& m : p.models) {
        for (const auto& where : {output, (std::filesystem::path(output) / m.home).string()}) {
            if (auto good = check_output(m.weights, where); !good) return pass(good);
        }
        parts.push_back({&m.weights, m.shards});
        for (const auto* below : {"", "params/", "resolve/main/"}) places.push_back(m.root + below);
        for (const auto& f : m.files) names.push_back(m.home + f.name);
        for (const auto& s : m.weights.manifest.shards) names.push_back(m.shards + s.path);
        names.push_back(m.home + std::string(shard::output_folder::manifest_name));
    }
    auto folder = shard::output_folder::open(output, p.options.run.overwrite, {}, places);
    if (!folder) return pass(folder);
    for (const auto& name : names) {
        const bool shard = name.ends_with(".bin");  // left by nobody, where there is no index
        if (p.options.run.overwrite || folder->half_published() || shard || !std::filesystem::exists(folder->final_path() / name, ec)) continue;
        return fail(
            error{errc::refused, "the output folder already holds " + name, output, {}, {}, "give another -o, or allow it to be replaced with --overwrite"});
    }

    auto options = p.options.run;
    options.sha256 = true;
    options.only_shards.reset();
    auto made = make_shards(parts, *folder, output, options);
    if (!made) return pass(made);

    package_report report;
    report.output = output;
    report.shards_kept = made->shards_kept;
    std::vector<std::string> files = made->files;
    std::vector<std::string> index;
    const auto sum_of = [](bytes_view bytes) {
        sha256 sum;
        sum.update(bytes);
        return sum.hex();
    };
    for (std::size_t i = 0; i < p.models.size(); ++i) {
        const auto& m = p.models[i];
        const auto& weights = made->parts[i];
        std::vector<packaged_file> listed;
        const auto write = [&](const std::string& name, bytes_view content, std::vector<std::string>& to) -> result<void> {
            auto f = shard::output_file::create(folder->work(), name, content.size());
            if (!f) return pass(f);
            if (auto written = f->write(content); !written) return written;
            if (auto finished = f->finish(); !finished) return finished;
            listed.push_back({name, content.size(), sum_of(content)});
            to.push_back(name);
            return {};
        };
        for (const auto& made_folder : {m.home, m.shards}) {
            if (auto there = folder->make_folder(made_folder); !there) return pass(there);
        }
        for (const auto& f : m.files) {
            if (auto written = write(m.home + f.name, f.content, files); !written) return pass(written);
        }
        for (const auto& [name, text] : shard::index_files(weights.manifest, options.legacy_index)) {
            if (auto written = write(m.shards + name, detail::bytes_of(text), index); !written) return pass(written);
        }
        for (std::size_t s = 0; s < weights.manifest.shards.size(); ++s) {
            const auto& shard = weights.manifest.shards[s];
            listed.push_back({m.shards + shard.path, shard.n_bytes, weights.sha256[s]});
        }
        json manifest = json::object();
        for (const auto& f : listed) manifest[f.name.substr(m.home.size())] = {{"bytes", f.n_bytes}, {"sha256", f.sha256}};
        const auto text = json{{"files", std::move(manifest)}}.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
        if (auto written = write(m.home + std::string(shard::output_folder::manifest_name), detail::bytes_of(text), index); !written) return pass(written);
        report.files.insert(report.files.end(), listed.begin(), listed.end());
        report.nonfinite.push_back(weights.nonfinite);
    }
    std::vector<std::string> all = files;
    all.insert(all.end(), index.begin(), index.end());
    std::vector<std::string> homes;
    for (const auto& m : p.models) {
        homes.push_back(m.root);
        homes.push_back(m.root + "resolve/main/");
    }
    if (auto published = folder->publish(files, index, detail::stale_files(folder->final_path(), homes, all)); !published) return pass(published);
    for (const auto& f : report.files) report.bytes += f.n_bytes;
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
}

}  // namespace nibble::convert
