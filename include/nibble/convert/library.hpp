// SPDX-License-Identifier: Apache-2.0
#pragma once
// Model libraries of WebLLM (.wasm, compiled by mlc_llm): the metadata that they carry, and whether a folder of weights is what one of
// them expects. A browser would find out at the first token, without a word. The metadata is a JSON text in a data segment.

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/core/file.hpp"
#include "nibble/core/json.hpp"
#include "nibble/model/model_libs.hpp"
#include "nibble/shard/manifest.hpp"

namespace nibble::convert {

/// A parameter that a library asks for.
struct library_parameter {
    /// A dimension: a number, or a name for one that is left open.
    struct dim {
        std::uint64_t n = 0;
        std::string symbol;  ///< "vocab_size": any number, the same wherever it stands
    };
    std::string name;
    std::vector<dim> dims;
    std::string dtype;

    [[nodiscard]] std::string shape_text() const {
        std::string text = "[";
        for (const auto& d : dims) text += (text.size() == 1 ? "" : ", ") + (d.symbol.empty() ? std::to_string(d.n) : d.symbol);
        return text + "]";
    }
};

/// What a model library says of itself.
struct library_metadata {
    std::string path;
    std::string model_type;
    std::string quantization;
    std::int64_t context_window_size = -1;
    std::int64_t sliding_window_size = -1;
    std::int64_t attention_sink_size = -1;
    std::int64_t prefill_chunk_size = -1;
    std::int64_t max_batch_size = -1;
    std::vector<library_parameter> parameters;

    /// How it calls the page that runs it, by its imports: what a library of one line cannot link in another for.
    enum class calls : std::uint8_t {
        unknown,
        packed,  ///< TVMWasmPackedCFunc: WebLLM up to 0.2.79
        ffi      ///< TVMFFIWasmSafeCall: WebLLM from 0.2.80
    };
    calls interface = calls::unknown;
};

/// Reads a library's metadata from its bytes. Errors: malformed (not a WebAssembly module, or cut short), missing (no metadata in it).
[[nodiscard]] result<library_metadata> parse_library(bytes_view wasm, const std::string& path);

/// The same from a file, of up to 256 MB.
[[nodiscard]] inline result<library_metadata> read_library(const std::string& path) {
    const auto bytes = read_file(path, 256u << 20);
    if (!bytes) return tl::unexpected(bytes.error());
    return parse_library(*bytes, path);
}

/// What a folder's index and configuration are compared in, with a library.
struct library_report {
    error_list problems;  ///< it will not run, or run wrong
    error_list warnings;
    std::size_t n_matching = 0;  ///< parameters that are as the library wants them
};

/// `config`: mlc-chat-config.json, or null. `version`: the WebLLM that is to run it, where one is asked about.
[[nodiscard]] library_report compare_with_library(const library_metadata& library, const shard::manifest& manifest, const json& config,
                                                  const std::string& folder, std::optional<model::webllm_version> version = std::nullopt);

namespace detail {

/// Walks a WebAssembly module (binary format 1), never past its end.
class wasm_reader {
public:
    explicit wasm_reader(bytes_view bytes) : bytes_(bytes) {}

    [[nodiscard]] bool at_end() const { return at_ == bytes_.size(); }
    [[nodiscard]] std::size_t position() const { return at_; }
    [[nodiscard]] std::optional<std::uint8_t> byte() {
        if (at_end()) return std::nullopt;
        return static_cast<std::uint8_t>(bytes_[at_++]);
    }
    /// An unsigned LEB128 of 32 bits.
    [[nodiscard]] std::optional<std::uint32_t> number() {
        std::uint64_t n = 0;
        for (unsigned shift = 0; shift < 35; shift += 7) {
            const auto b = byte();
            if (!b) return std::nullopt;
            n |= std::uint64_t{*b & 0x7Fu} << shift;
            if ((*b & 0x80) == 0) return n <= 0xFFFFFFFF ? std::optional(static_cast<std::uint32_t>(n)) : std::nullopt;
        }
        return std::nullopt;
    }
    [[nodiscard]] std::optional<bytes_view> bytes(std::uint64_t n) {
        if (!in_range(at_, n, bytes_.size())) return std::nullopt;
        const auto view = bytes_.subspan(at_, static_cast<std::size_t>(n));
        at_ += static_cast<std::size_t>(n);
        return view;
    }
    /// A length and that many bytes.
    [[nodiscard]] std::optional<bytes_view> vector() {
        const auto n = number();
        return n ? bytes(*n) : std::nullopt;
    }
    [[nodiscard]] std::optional<std::string_view> name() {
        const auto v = vector();
        if (!v) return std::nullopt;
        return std::string_view(reinterpret_cast<const char*>(v->data()), v->size());
    }
    /// Skips a constant expression of one instruction, which is all that the offsets of data are in practice.
    [[nodiscard]] bool skip_offset() {
        const auto op = byte();
        if (!op || (*op != 0x41 && *op != 0x42 && *op != 0x23)) return false;
        for (int i = 0; i < 10; ++i) {
            const auto b = byte();
            if (!b) return false;
            if ((*b & 0x80) == 0) return byte() == 0x0B;
        }
        return false;
    }
    [[nodiscard]] bool skip_limits() {
        const auto flags = number();
        if (!flags || !number()) return false;
        return (*flags & 1) == 0 || number().has_value();
    }

private:
    bytes_view bytes_;
    std::size_t at_ = 0;
};

/// The field names of a module's imports; nothing if the section is broken.
[[nodiscard]] inline std::optional<std::vector<std::string_view>> import_names(bytes_view section) {
    wasm_reader r(section);
    const auto count = r.number();
    if (!count) return std::nullopt;
    std::vector<std::string_view> names;
    for (std::uint32_t i = 0; i < *count; ++i) {
        if (!r.name()) return std::nullopt;
        const auto field = r.name();
        const auto kind = r.byte();
        if (!field || !kind) return std::nullopt;
        const bool skipped = *kind == 0   ? r.number().has_value()                          // a function's type
                             : *kind == 1 ? r.byte().has_value() && r.skip_limits()         // a table
                             : *kind == 2 ? r.skip_limits()                                 // a memory
                             : *kind == 3 ? r.bytes(2).has_value()                          // a global
                             : *kind == 4 ? r.byte().has_value() && r.number().has_value()  // a tag
                                          : false;
        if (!skipped) return std::nullopt;
        names.push_back(*field);
    }
    return names;
}

/// The JSON object that begins `text`, up to its closing brace; empty if there is none.
[[nodiscard]] inline std::string_view object_at_start(std::string_view text) {
    int depth = 0;
    bool in_text = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_text) {
            if (c == '\\')
                ++i;
            else if (c == '"')
                in_text = false;
        } else if (c == '"') {
            in_text = true;
        } else if (c == '{' || c == '[') {
            ++depth;
        } else if (c == '}' || c == ']') {
            if (--depth == 0) return text.substr(0, i + 1);
        } else if (c == '\0') {
            return {};
        }
    }
    return {};
}

[[nodiscard]] inline result<library_metadata> metadata_of(const json& root, const std::string& path) {
    library_metadata m;
    m.path = path;
    const auto bad = [&](const std::string& rule) { return fail(error{errc::malformed, "its metadata: " + rule, path, {}, {}, {}}); };
    const auto text = [&](const char* key) {
        const auto at = root.find(key);
        return at != root.end() && at->is_string() ? at->get<std::string>() : std::string();
    };
    const auto integer = [&](const char* key) {
        const auto at = root.find(key);
        return at != root.end() && at->is_number_integer() ? at->get<std::int64_t>() : std::int64_t{-1};
    };
    m.model_type = text("model_type");
    m.quantization = text("quantization");
    m.context_window_size = integer("context_window_size");
    m.sliding_window_size = integer("sliding_window_size");
    m.attention_sink_size = integer("attention_sink_size");
    m.prefill_chunk_size = integer("prefill_chunk_size");
    m.max_batch_size = integer("max_batch_size");
    const auto parameters = root.find("params");
    if (parameters == root.end() || !parameters->is_array()) return bad("\"params\" is not an array");
    std::set<std::string> names;
    for (const auto& p : *parameters) {
        library_parameter one;
        if (!p.is_object() || !p.contains("name") || !p["name"].is_string() || !p.contains("dtype") || !p["dtype"].is_string() || !p.contains("shape") ||
            !p["shape"].is_array() || p["shape"].size() > shape::max_rank)
            return bad("a parameter needs a name, a shape and a dtype");
        one.name = p["name"].get<std::string>();
        one.dtype = p["dtype"].get<std::string>();
        for (const auto& d : p["shape"]) {
            if (d.is_string())
                one.dims.push_back({0, d.get<std::string>()});
            else if (d.is_number_unsigned())
                one.dims.push_back({d.get<std::uint64_t>(), {}});
            else
                return bad("the shape of '" + one.name + "' holds " + d.dump());
        }
        if (!names.insert(one.name).second) return bad("the parameter '" + one.name + "' stands twice");
        m.parameters.push_back(std::move(one));
    }
    return m;
}

}  // namespace detail

inline result<library_metadata> parse_library(bytes_view wasm, const std::string& path) {
    const auto bad = [&](std::string rule, std::size_t at) {
        return fail(error{errc::malformed, std::move(rule), path, {}, at, "download the library again"});
    };
    constexpr std::string_view magic("\0asm\1\0\0\0", 8);
    if (wasm.size() < 8 || std::memcmp(wasm.data(), magic.data(), 8) != 0) return bad("not a WebAssembly module", 0);
    detail::wasm_reader r(wasm.subspan(8));
    auto calls = library_metadata::calls::unknown;
    std::optional<json> found;
    int n_tried = 0;
    while (!r.at_end()) {
        const auto at = 8 + r.position();
        const auto id = r.byte();
        const auto section = r.vector();
        if (!section) return bad("the module is cut short: a section ends beyond the file", at);
        if (*id == 2) {
            const auto names = detail::import_names(*section);
            if (!names) return bad("the module's imports are malformed", at);
            for (const auto name : *names) {
                if (name == "TVMWasmPackedCFunc") calls = library_metadata::calls::packed;
                if (name == "TVMFFIWasmSafeCall") calls = library_metadata::calls::ffi;
            }
        }
        if (*id != 11) continue;
        detail::wasm_reader segments(*section);
        const auto count = segments.number();
        if (!count) return bad("the module's data is malformed", at);
        for (std::uint32_t i = 0; i < *count; ++i) {
            const auto kind = segments.number();
            const bool placed = kind && (*kind == 1 || (*kind == 0 && segments.skip_offset()) || (*kind == 2 && segments.number() && segments.skip_offset()));
            const auto bytes = placed ? segments.vector() : std::nullopt;
            if (!bytes) return bad("the module's data is malformed", at);
            std::string_view text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
            constexpr std::string_view begin = "{\"model_type\"";
            // A file made to waste time could hold the beginning very often.
            for (auto place = text.find(begin); place != text.npos && !found && n_tried < 64; place = text.find(begin, place + 1), ++n_tried) {
                const auto object = detail::object_at_start(text.substr(place, 16u << 20));
                if (object.empty()) continue;
                auto parsed = parse_json(std::as_bytes(std::span(object)), 16);
                if (parsed && parsed->is_object() && parsed->contains("params")) found = std::move(*parsed);
            }
        }
    }
    if (!found) {
        return fail(error{errc::missing,
                          "the module carries no metadata of a model: it is not a model library",
                          path,
                          {},
                          {},
                          "give a .wasm that mlc_llm compiled, such as those of mlc-ai/binary-mlc-llm-libs"});
    }
    auto m = detail::metadata_of(*found, path);
    if (m) m->interface = calls;
    return m;
}

inline library_report compare_with_library(const library_metadata& library, const shard::manifest& manifest, const json& config, const std::string& folder,
                                           std::optional<model::webllm_version> version) {
    library_report report;
    const auto problem = [&](std::string rule, std::string tensor = {}, std::string remedy = {}) {
        report.problems.push_back({errc::mismatch, std::move(rule), folder, std::move(tensor), {}, std::move(remedy)});
    };
    const auto warn = [&](std::string rule, std::string tensor = {}, std::string remedy = {}) {
        report.warnings.push_back({errc::mismatch, std::move(rule), folder, std::move(tensor), {}, std::move(remedy)});
    };
    constexpr const char* another = "use the library of this model, its sizes and its quantization";

    if (version) {
        const bool ffi = *version >= model::webllm_version{0, 2, 80};
        using calls = library_metadata::calls;
        if (library.interface != calls::unknown && (library.interface == calls::ffi) != ffi) {
            const auto line = model::line_of(*version);
            problem("the library is of another line: it is for WebLLM " + std::string(ffi ? "up to 0.2.79" : "from 0.2.80 on") + ", and does not link in " +
                        version->text(),
                    {}, line ? "take the library from the folder " + std::string(model::library_lines[*line].folder) + " of mlc-ai/binary-mlc-llm-libs" : "");
        }
        // Where the path says the folder, lines with the same way of calling are told apart as well.
        for (std::size_t i = 0; i < model::library_lines.size(); ++i) {
            const auto& line = model::library_lines[i];
            const auto name = line.folder.substr(0, line.folder.find('/'));
            if (library.path.find("/" + std::string(name) + "/") == library.path.npos || model::line_of(*version) == i || !report.problems.empty()) continue;
            problem("the library is of the line " + std::string(name) + ", for WebLLM " + line.first.text() + " to " + line.last.text() + ", not " +
                        version->text(),
                    {}, model::line_of(*version) ? "take it from the folder " + std::string(model::library_lines[*model::line_of(*version)].folder) : "");
        }
    }

    std::map<std::string, const shard::record*> records;
    for (const auto& s : manifest.shards) {
        for (const auto& r : s.records) records.emplace(r.name, &r);
    }
    std::map<std::string, std::pair<std::uint64_t, std::string>> symbols;  // name, value, and the parameter that gave it
    std::set<std::string> wanted;
    for (const auto& p : library.parameters) {
        wanted.insert(p.name);
        const auto at = records.find(p.name);
        if (at == records.end()) {
            problem("the library wants it, " + p.shape_text() + " " + p.dtype + ", and the folder does not have it", p.name, another);
            continue;
        }
        const auto& r = *at->second;
        bool same = r.dims.rank() == p.dims.size();
        for (std::size_t i = 0; same && i < p.dims.size(); ++i) {
            const auto& d = p.dims[i];
            if (d.symbol.empty()) {
                same = d.n == r.dims[i];
                continue;
            }
            const auto [known, is_new] = symbols.emplace(d.symbol, std::pair(r.dims[i], p.name));
            if (!is_new && known->second.first != r.dims[i]) {
                problem("its " + d.symbol + " is " + std::to_string(r.dims[i]) + ", that of '" + known->second.second + "' is " +
                            std::to_string(known->second.first),
                        p.name, "convert again");
            }
        }
        if (!same) problem("the library wants the shape " + p.shape_text() + ", the folder has " + r.dims.text(), p.name, another);
        const auto dtype = shard::dtype_text(r.type);
        if (dtype != p.dtype) problem("the library wants " + p.dtype + ", the folder has " + std::string(dtype), p.name, another);
        if (same && dtype == p.dtype) ++report.n_matching;
    }
    std::size_t n_extra = 0;
    std::string extra;
    for (const auto& [name, r] : records) {
        if (wanted.contains(name)) continue;
        if (n_extra++ == 0) extra = name;
    }
    if (n_extra != 0)
        warn(std::to_string(n_extra) + " record" + (n_extra == 1 ? "" : "s") + " of the folder, '" + extra +
             "' first, are not used by the library, and are loaded all the same");

    const auto text = [&](const char* key) -> std::string {
        const auto at = config.is_object() ? config.find(key) : config.end();
        return config.is_object() && at != config.end() && at->is_string() ? at->get<std::string>() : std::string();
    };
    const auto integer = [&](const char* key) -> std::optional<std::int64_t> {
        if (!config.is_object()) return std::nullopt;
        const auto at = config.find(key);
        return at != config.end() && at->is_number_integer() ? std::optional(at->get<std::int64_t>()) : std::nullopt;
    };
    if (const auto q = text("quantization"); !q.empty() && !library.quantization.empty() && q != library.quantization)
        problem("the library is for " + library.quantization + ", mlc-chat-config.json says " + q, {}, another);
    if (const auto t = text("model_type"); !t.empty() && !library.model_type.empty() && t != library.model_type)
        warn("the library is for a " + library.model_type + ", mlc-chat-config.json says " + t);
    const auto context = integer("context_window_size");
    const auto window = integer("sliding_window_size");
    const auto chunk = integer("prefill_chunk_size");
    if (window && (*window > 0) != (library.sliding_window_size > 0))
        problem("the library was compiled " +
                    std::string(library.sliding_window_size > 0 ? "with a sliding window of " + std::to_string(library.sliding_window_size)
                                                                : "without a sliding window") +
                    ", mlc-chat-config.json has sliding_window_size " + std::to_string(*window),
                {},
                "set sliding_window_size to " + std::to_string(library.sliding_window_size) +
                    (library.sliding_window_size > 0 ? " and context_window_size to -1" : ""));
    const bool embedding = library.model_type.starts_with("bert");
    if (embedding && context && *context != library.prefill_chunk_size)
        problem("an embedding model's context_window_size must be the library's prefill chunk of " + std::to_string(library.prefill_chunk_size) +
                    ", mlc-chat-config.json has " + std::to_string(*context),
                {}, "set context_window_size to " + std::to_string(library.prefill_chunk_size));
    if (!embedding && context && library.context_window_size > 0 && *context > library.context_window_size)
        warn("the library was compiled for a context of " + std::to_string(library.context_window_size) + ", mlc-chat-config.json has " +
                 std::to_string(*context),
             {}, "say \"overrides\": {\"context_window_size\": " + std::to_string(library.context_window_size) + "} in the record, or less");
    if (!embedding && chunk && library.prefill_chunk_size > 0 && *chunk != library.prefill_chunk_size)
        warn("the library's prefill chunk is " + std::to_string(library.prefill_chunk_size) + ", and is what counts; mlc-chat-config.json has " +
             std::to_string(*chunk));
    if (const auto vocab = integer("vocab_size"); vocab && symbols.contains("vocab_size") && static_cast<std::uint64_t>(*vocab) != symbols["vocab_size"].first)
        problem(
            "mlc-chat-config.json has vocab_size " + std::to_string(*vocab) + ", the embedding has " + std::to_string(symbols["vocab_size"].first) + " rows",
            {}, "convert again");
    return report;
}

}  // namespace nibble::convert
