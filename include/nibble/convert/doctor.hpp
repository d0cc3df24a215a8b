// SPDX-License-Identifier: Apache-2.0
#pragma once
// Would WebLLM load this folder, from this URL? Asks for everything that a page asks for, in its way, and says for each thing that
// would stop it, or make it run wrong, what to do. A folder on disk is looked at by the same way, without a network.

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/convert/library.hpp"
#include "nibble/convert/template_check.hpp"
#include "nibble/core/md5.hpp"
#include "nibble/core/sha256.hpp"
#include "nibble/serve/local.hpp"
#include "nibble/serve/url.hpp"
#include "nibble/shard/reader.hpp"

namespace nibble::convert {

/// A manifest of a folder: {"files": {NAME: {"bytes": N, "sha256": HEX}}}.
inline constexpr std::string_view manifest_name = "nibble-manifest.json";

/// One thing that is wrong, or may be.
struct finding {
    enum class severity : std::uint8_t {
        error,    ///< WebLLM will not load it, or run it wrong
        warning,  ///< it fails on some devices, with some versions, or in some pages
        note
    };
    severity level = severity::error;
    std::string code;  ///< for programs: "cors", "shard-missing", ...
    error what;        ///< file, rule and remedy
};

/// What the doctor looks for, and how closely.
struct doctor_options {
    std::optional<model::webllm_version> webllm = {};  ///< nothing: any
    bool bytes = true;                                 ///< read every shard whole and compare the hashes that are known
    std::string library = {};                          ///< path or URL of the model library; empty: not looked at
    std::function<void(std::uint64_t done, std::uint64_t total)> on_progress = {};
};

/// What the doctor has found.
struct doctor_report {
    std::string where;  ///< what was looked at: a folder, or the URL that WebLLM would ask
    std::string index;  ///< name of the index that was read; empty if none was
    std::size_t n_shards = 0;
    std::size_t n_hashed = 0;   ///< shards whose bytes were compared with a hash
    std::uint64_t n_bytes = 0;  ///< of the shards, by the index
    std::vector<finding> findings;

    [[nodiscard]] bool good() const {
        return std::none_of(findings.begin(), findings.end(), [](const auto& f) { return f.level == finding::severity::error; });
    }
};

namespace detail {

class doctor {
public:
    /// `base` ends in a slash. `shown`: how names are shown: the folder's path with a slash, or the base.
    doctor(serve::asker ask, std::string base, std::string shown, bool remote, doctor_options options)
        : ask_(std::move(ask)), base_(std::move(base)), shown_(std::move(shown)), remote_(remote), options_(std::move(options)) {}

    [[nodiscard]] doctor_report run(const std::string& given) {
        report_.where = shown_;
        auto config = get_json("mlc-chat-config.json", "config", true);
        if (unreachable_) return finish();
        if (remote_ && !config && base_ != given) {
            // Is it where the user points, and not where WebLLM looks?
            serve::query q{.url = given + "mlc-chat-config.json"};
            if (const auto r = ask_(q); r && r->status == 200) {
                add(finding::severity::error, "resolve-path",
                    "the files are at " + given +
                        ", where WebLLM does not look: it appends resolve/main/ to a model's URL that has no /resolve/REVISION/ in it",
                    given, "put the files into resolve/main/ below it, serve the folder with nibble serve, or package it with --layout hub");
                drop("config-missing");
                base_ = shown_ = given;
                report_.where = given;
                config = get_json("mlc-chat-config.json", "config", true);
            }
        }
        look_at_index();
        if (index_text_) {
            look_at_manifest();
            look_at_shards();
            look_at_limits();
        }
        if (config) {
            look_at_config(*config);
            look_at_tokenizer(*config);
        }
        if (!options_.library.empty()) look_at_library(config ? *config : json(nullptr));
        return finish();
    }

private:
    using severity = finding::severity;
    static constexpr std::uint64_t slack = 1 << 20;  // what is read beyond a known length: a server may send without end

    void add(severity level, std::string code, std::string rule, std::string file = {}, std::string remedy = {}, std::string tensor = {}) {
        report_.findings.push_back({level, std::move(code), {errc::mismatch, std::move(rule), std::move(file), std::move(tensor), {}, std::move(remedy)}});
    }
    void drop(std::string_view code) {
        std::erase_if(report_.findings, [&](const auto& f) { return f.code == code; });
    }
    void add(severity level, std::string code, const error& e) { report_.findings.push_back({level, std::move(code), e}); }

    [[nodiscard]] doctor_report finish() {
        const auto some = [](const std::vector<std::string>& names) {
            return names.size() == 1 ? names[0] : names[0] + " and " + std::to_string(names.size() - 1) + " other file" + (names.size() == 2 ? "" : "s");
        };
        if (!no_cors_.empty()) {
            add(severity::error, "cors", "the server sends no Access-Control-Allow-Origin for " + some(no_cors_) + ": a page of another origin may not read it",
                shown_, "let the server send \"Access-Control-Allow-Origin: *\", or serve the folder with nibble serve");
        }
        if (!no_cors_on_the_way_.empty()) {
            add(severity::error, "cors-redirect", "a redirect on the way to " + some(no_cors_on_the_way_) + " has no Access-Control-Allow-Origin", shown_,
                "let the server that redirects send \"Access-Control-Allow-Origin: *\" too");
        }
        if (!no_ranges_.empty())
            add(severity::warning, "ranges", "the server does not answer byte ranges for " + some(no_ranges_) + ": a download that breaks off begins anew",
                shown_, "use a server that answers Range, as nibble serve does");
        if (hosts_.size() > 1) {
            std::string list;
            for (const auto& h : hosts_) list += (list.empty() ? "" : ", ") + h;
            add(severity::note, "hosts", "files come from " + list, shown_, "a page with a Content-Security-Policy must allow all of them in connect-src");
        }
        std::stable_sort(report_.findings.begin(), report_.findings.end(), [](const auto& a, const auto& b) { return a.level < b.level; });
        return std::move(report_);
    }

    [[nodiscard]] std::string named(std::string_view name) const { return shown_ + std::string(name); }

    /// The name as a URL's path.
    [[nodiscard]] static std::string encoded(std::string_view name) { return serve::url_path(name, "+@"); }

    /// Asks, and notes what is wrong with how the answer came. Nothing if there was none at all.
    [[nodiscard]] std::optional<serve::reply> ask(const std::string& name, serve::query q) {
        q.url = base_ + encoded(name);
        auto r = ask_(q);
        if (!r) {
            add(severity::error, "no-answer", r.error());
            unreachable_ = true;
            return std::nullopt;
        }
        if (!remote_) return std::move(*r);
        if (const auto u = serve::parse_url(r->url)) hosts_.insert(u->origin());
        for (const auto& h : r->hops) {
            if (const auto u = serve::parse_url(h.url)) hosts_.insert(u->origin());
            if (!allows(h.headers, q.origin)) note_once(no_cors_on_the_way_, name);
        }
        if (r->status < 300 && !allows(r->headers, q.origin)) note_once(no_cors_, name);
        return std::move(*r);
    }
    static void note_once(std::vector<std::string>& names, const std::string& name) {
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
    [[nodiscard]] static bool allows(const serve::header_list& headers, std::string_view origin) {
        const auto v = serve::find_header(headers, "access-control-allow-origin");
        return v && (*v == "*" || *v == origin);
    }

    [[nodiscard]] static bool found(const serve::reply& r) { return r.status >= 200 && r.status < 300; }

    /// A finding for a file that did not come.
    void not_there(const serve::reply& r, const std::string& name, const std::string& code, const std::string& remedy) {
        if (r.status == 404 || r.status == 410)
            add(severity::error, code + "-missing", "it is not there (" + std::to_string(r.status) + ")", named(name), remedy);
        else if (r.status == 401 || r.status == 403)
            add(severity::error, "forbidden", "the server does not give it to everybody (" + std::to_string(r.status) + ")", named(name),
                "make the repository or the file public");
        else
            add(severity::error, "status", "the server answers with status " + std::to_string(r.status), named(name), {});
    }

    /// A JSON file, whole. `code` begins the codes of what is wrong with it.
    [[nodiscard]] std::optional<json> get_json(const std::string& name, const std::string& code, bool needed, std::string* text = nullptr) {
        const auto r = ask(name, {});
        if (!r) return std::nullopt;
        if (!found(*r)) {
            if (needed) not_there(*r, name, code, "run the conversion again, or upload the whole folder");
            return std::nullopt;
        }
        const auto type = r->header("content-type").value_or("");
        if (r->too_long || !r->whole) {
            add(severity::error, code + "-bad", r->too_long ? "the file is too long to be what its name says" : "the file breaks off before its end",
                named(name), "upload it again");
            return std::nullopt;
        }
        auto value = parse_json(std::as_bytes(std::span(r->body)));
        if (!value) {
            const bool page = type.starts_with("text/html") || r->body.starts_with("<");
            if (page)
                add(severity::error, "html", "the server answers with a page instead of the file", named(name), "is the URL that of the files themselves?");
            else if (r->body.starts_with("version https://git-lfs"))
                add(severity::error, code + "-bad", "the file is a pointer of Git LFS", named(name), "run git lfs pull, or upload with LFS");
            else
                add(severity::error, code + "-bad", std::move(value.error()).in_file(named(name)).advise("run the conversion again, or upload it again"));
            return std::nullopt;
        }
        if (!type.starts_with("application/json") && !type.starts_with("text/plain") && !type.starts_with("application/octet-stream"))
            add(severity::warning, "content-type", "its content type is \"" + std::string(type) + "\"", named(name), "let the server send application/json");
        if (text != nullptr) *text = r->body;
        return std::move(*value);
    }

    void look_at_index() {
        const std::string names[2] = {std::string(shard::index_name), std::string(shard::legacy_index_name)};
        std::string texts[2];
        std::optional<json> values[2];
        for (int i = 0; i < 2; ++i) values[i] = get_json(names[i], "index", false, &texts[i]);
        if (unreachable_) return;
        const auto wanted = options_.webllm ? std::string(model::index_read_by(*options_.webllm)) : names[0];
        const int w = wanted == names[0] ? 0 : 1;
        if (!values[w] && !values[1 - w]) {
            if (std::none_of(report_.findings.begin(), report_.findings.end(), [](const auto& f) { return f.code == "index-bad" || f.code == "html"; }))
                add(severity::error, "index-missing", "there is neither tensor-cache.json nor ndarray-cache.json", shown_,
                    "run the conversion to its end, and upload the whole folder");
            return;
        }
        const auto copy = "copy " + names[values[0] ? 0 : 1] + " to " + names[values[0] ? 1 : 0] + ": they have the same contents";
        if (!values[w]) {
            const auto reader = options_.webllm ? "WebLLM " + options_.webllm->text() : "WebLLM from 0.2.80 on";
            add(severity::error, "index-name", reader + " reads " + wanted + ", and only " + names[1 - w] + " is there", named(wanted), copy);
        } else if (!values[1 - w] && !options_.webllm) {
            add(severity::warning, "index-name", "WebLLM up to 0.2.79 reads ndarray-cache.json, and only tensor-cache.json is there", named(names[1 - w]),
                copy);
        }
        const int i = values[w] ? w : 1 - w;
        report_.index = names[i];
        index_text_ = texts[i];
        const auto parse = [&](int k, error_list& problems, error_list& warnings, std::unordered_set<std::string>* all) {
            auto folder = shown_;
            if (folder.ends_with('/')) folder.pop_back();
            shard::detail::index_parser parser(folder, named(names[k]), problems, warnings);
            auto m = parser.parse(std::as_bytes(std::span(texts[k])));
            if (all != nullptr) *all = parser.names();
            return m;
        };
        error_list problems, warnings;
        std::unordered_set<std::string> all;
        auto m = parse(i, problems, warnings, &all);
        if (!m) {
            add(severity::error, "index-bad", m.error());
            index_text_.reset();
            return;
        }
        folder_.path = shown_;
        folder_.manifest = std::move(*m);
        for (std::size_t s = 0; s < folder_.manifest.shards.size(); ++s) {
            const auto& records = folder_.manifest.shards[s].records;
            for (std::size_t k = 0; k < records.size(); ++k) folder_.by_name.emplace(records[k].name, shard::place{s, k});
        }
        shard::detail::check_pairs(folder_, all);
        for (const auto& e : problems) add(severity::error, "index-bad", e);
        for (const auto& e : folder_.problems) add(severity::error, "index-bad", e);
        for (const auto& e : warnings) add(severity::warning, "index", e);
        if (values[0] && values[1] && texts[0] != texts[1]) {
            error_list ignored;
            auto other = parse(1 - i, ignored, ignored, nullptr);
            const auto difference = other ? shard::detail::difference(folder_.manifest, *other, false) : other.error().message();
            if (!difference.empty())
                add(severity::error, "index-differs", "it disagrees with " + names[i] + ": " + difference, named(names[1 - i]),
                    "remove the one that is not of these shards");
        }
        report_.n_shards = folder_.manifest.shards.size();
        for (const auto& s : folder_.manifest.shards) report_.n_bytes += s.n_bytes;
    }

    struct known_file {
        std::uint64_t n_bytes = 0;
        std::string sha256;
    };

    void look_at_manifest() {
        const auto value = get_json(std::string(manifest_name), "manifest", false);
        if (!value) return;
        const auto files = value->is_object() ? value->find("files") : value->end();
        if (!value->is_object() || files == value->end() || !files->is_object()) {
            add(severity::error, "manifest-bad", "the manifest needs an object \"files\"", named(manifest_name), "package the folder again");
            return;
        }
        for (const auto& [name, f] : files->items()) {
            const bool good = f.is_object() && f.contains("bytes") && f["bytes"].is_number_unsigned() && f.contains("sha256") && f["sha256"].is_string();
            if (!good || !serve::path_of("/" + encoded(name))) {
                add(severity::error, "manifest-bad", "its entry for \"" + name.substr(0, 80) + "\" is malformed", named(manifest_name),
                    "package the folder again");
                continue;
            }
            // The shards of older layouts lie in params/, and are asked for by the names that the index gives them.
            const bool below = name.starts_with("params/") && std::any_of(folder_.manifest.shards.begin(), folder_.manifest.shards.end(),
                                                                          [&, rest = name.substr(7)](const auto& s) { return s.path == rest; });
            known_[below ? name.substr(7) : name] = {f["bytes"].get<std::uint64_t>(), f["sha256"].get<std::string>()};
        }
        std::set<std::string> shards;
        for (const auto& s : folder_.manifest.shards) shards.insert(s.path);
        for (const auto& [name, k] : known_) {
            if (shards.contains(name)) continue;
            sha256 sum;
            std::uint64_t n = 0;
            const auto r = ask(name, {.limit = k.n_bytes + slack, .on_bytes = [&](bytes_view bytes) {
                                          sum.update(bytes);
                                          n += bytes.size();
                                      }});
            if (!r) return;
            if (!found(*r))
                not_there(*r, name, "manifest-file", "package the folder again, or upload the whole of it");
            else if (n != k.n_bytes || sum.hex() != k.sha256)
                add(severity::error, "hash", "it is not the file of the manifest: " + std::to_string(n) + " bytes, SHA-256 " + sum.hex(), named(name),
                    "upload it again, or package the folder again");
        }
    }

    void look_at_shards() {
        std::uint64_t done = 0;
        for (const auto& s : folder_.manifest.shards) {
            if (unreachable_) return;
            look_at_shard(s);
            done += s.n_bytes;
            if (options_.on_progress) options_.on_progress(done, report_.n_bytes);
        }
    }

    void look_at_shard(const shard::shard_file& s) {
        const auto damaged = "upload it again, or convert again";
        const auto wrong_length = [&](std::uint64_t n) {
            const bool shorter = n < s.n_bytes;
            add(severity::error, shorter ? "shard-truncated" : "shard-length",
                "the shard has " + std::to_string(n) + " bytes, the index says " + std::to_string(s.n_bytes) +
                    (shorter ? ": it is cut short" : ": something follows its data"),
                named(s.path), damaged);
        };
        const auto length_of = [](const serve::reply& r) -> std::optional<std::uint64_t> {
            const auto text = r.header("content-length");
            std::uint64_t n = 0;
            if (!text || std::from_chars(text->data(), text->data() + text->size(), n).ec != std::errc{}) return std::nullopt;
            return n;
        };
        const auto encoding = [&](const serve::reply& r) {
            if (const auto e = r.header("content-encoding"); e && *e != "identity")
                add(severity::warning, "encoding", "the server compresses it (" + std::string(*e) + "), which makes it slower and its length unknown",
                    named(s.path), "switch compression off for .bin");
        };
        if (options_.bytes) {
            md5 sum;
            sha256 strong;
            const auto known = known_.find(s.path);
            std::uint64_t n = 0;
            const auto r = ask(s.path, {.limit = s.n_bytes + slack, .on_bytes = [&](bytes_view bytes) {
                                            sum.update(bytes);
                                            if (known != known_.end()) strong.update(bytes);
                                            n += bytes.size();
                                        }});
            if (!r) return;
            if (!found(*r)) return not_there(*r, s.path, "shard", "upload it, or convert again");
            encoding(*r);
            if (!r->whole && !r->too_long && length_of(*r).value_or(0) >= s.n_bytes) {
                add(severity::error, "shard-truncated",
                    "the server promises " + std::to_string(length_of(*r).value_or(0)) + " bytes and stops after " + std::to_string(n), named(s.path),
                    "is the file still being written, or is there a limit in the server?");
                return;
            }
            if (r->too_long) return wrong_length(length_of(*r).value_or(s.n_bytes + slack));
            if (n != s.n_bytes) return wrong_length(n);
            const bool wrong_md5 = !s.md5.empty() && sum.hex() != s.md5;
            const bool wrong_sha = known != known_.end() && (strong.hex() != known->second.sha256 || known->second.n_bytes != n);
            if (!s.md5.empty() || known != known_.end()) ++report_.n_hashed;
            if (wrong_md5 || wrong_sha)
                add(severity::error, "hash",
                    wrong_md5 ? "its bytes are not those of the index: md5 " + sum.hex() + ", the index says " + s.md5
                              : "its bytes are not those of the manifest: SHA-256 " + strong.hex(),
                    named(s.path), damaged);
        } else {
            const auto r = ask(s.path, {.method = "HEAD"});
            if (!r) return;
            // Some servers know no HEAD; the range below tells as much.
            if (!found(*r) && r->status != 405 && r->status != 501) return not_there(*r, s.path, "shard", "upload it, or convert again");
            if (found(*r)) {
                encoding(*r);
                if (const auto n = length_of(*r); n && *n != s.n_bytes && !r->header("content-encoding")) return wrong_length(*n);
            }
        }
        if (!remote_ || s.n_bytes == 0) return;
        const auto last = std::to_string(s.n_bytes - 1);
        const auto r = ask(s.path, {.range = "bytes=" + last + "-" + last, .limit = 4096});
        if (!r) return;
        const auto range = r->header("content-range").value_or("");
        if (r->status == 416) {
            add(severity::error, "shard-truncated", "its last byte is not there (416)", named(s.path), damaged);
        } else if (r->status == 206 && range == "bytes " + last + "-" + last + "/" + std::to_string(s.n_bytes) && r->n_bytes == 1) {
        } else if (const auto slash = range.find('/'); r->status == 206 && slash != range.npos) {
            std::uint64_t n = 0;
            const auto total = range.substr(slash + 1);
            if (std::from_chars(total.data(), total.data() + total.size(), n).ec == std::errc{} && n != s.n_bytes)
                wrong_length(n);
            else
                note_once(no_ranges_, s.path);
        } else if (found(*r)) {
            note_once(no_ranges_, s.path);
        } else {
            not_there(*r, s.path, "shard", "upload it, or convert again");
        }
    }

    void look_at_limits() {
        constexpr std::uint64_t guaranteed = std::uint64_t{1} << 27;  // maxStorageBufferBindingSize of any device with WebGPU
        constexpr std::uint64_t asked_for = std::uint64_t{1} << 30;   // what WebLLM asks for, to be content with the former
        bool f16 = false;
        for (const auto& s : folder_.manifest.shards) {
            for (const auto& r : s.records) {
                f16 = f16 || r.type == encoding::f16;
                const auto n = r.dims.elements() * info(r.type).block_bytes;  // float32 takes four bytes there, though it is stored in two
                const auto mb = [](std::uint64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; };
                if (n > asked_for)
                    add(severity::error, "binding-limit", "it takes " + mb(n) + " on the GPU, and WebLLM binds at most 1024 MiB at once", named(s.path),
                        "use a quantization with fewer bits for it", r.name);
                else if (n > guaranteed)
                    add(severity::warning, "binding-limit",
                        "it takes " + mb(n) +
                            " on the GPU; a default WebGPU device binds at most 128 MiB at once (maxStorageBufferBindingSize), so that phones and old GPUs "
                            "cannot run it",
                        named(s.path),
                        "say \"buffer_size_required_bytes\": " + std::to_string(n) + " in the record, or use a quantization with fewer bits for it", r.name);
            }
        }
        if (f16)
            add(severity::note, "shader-f16", "the model computes in float16, which a device without shader-f16 cannot", shown_,
                "say \"required_features\": [\"shader-f16\"] in the record, and offer a q4f32_1 beside it");
    }

    void look_at_config(const json& config) {
        const auto file = named("mlc-chat-config.json");
        const auto integer = [&](const char* key) -> std::optional<std::int64_t> {
            const auto at = config.is_object() ? config.find(key) : config.end();
            return config.is_object() && at != config.end() && at->is_number_integer() ? std::optional(at->get<std::int64_t>()) : std::nullopt;
        };
        if (!config.is_object()) return add(severity::error, "config-bad", "it is not a JSON object", file, "run nibble gen-config again");
        const auto context = integer("context_window_size");
        const auto window = integer("sliding_window_size");
        vocab_ = integer("vocab_size");
        if (!vocab_ || *vocab_ <= 0) add(severity::error, "config-bad", "it has no vocab_size", file, "run nibble gen-config again");
        if (context && window && *context > 0 && *window > 0)
            add(severity::error, "windows", "context_window_size and sliding_window_size are both positive, and WebLLM takes only one", file,
                "set sliding_window_size to -1");
        if ((!context || *context <= 0) && (!window || *window <= 0))
            add(severity::error, "windows", "neither context_window_size nor sliding_window_size is positive", file, "set context_window_size, to 4096 say");
        if (window && *window > 0 && integer("attention_sink_size").value_or(-1) < 0)
            add(severity::error, "windows", "a sliding window needs an attention_sink_size of 0 or more", file, "set attention_sink_size to 0");
        for (const auto& s : folder_.manifest.shards) {
            for (const auto& r : s.records) {
                const bool embedding =
                    r.name.find("embed_tokens.") != r.name.npos || r.name.find("transformer.embd.") != r.name.npos || r.name.find(".wte.") != r.name.npos;
                if (embedding && vocab_ && r.dims.rank() == 2 && r.name.ends_with("weight") && r.dims[0] != static_cast<std::uint64_t>(*vocab_) && *vocab_ > 0)
                    add(severity::error, "vocab", "vocab_size is " + std::to_string(*vocab_) + ", the embedding has " + std::to_string(r.dims[0]) + " rows",
                        file, "the configuration is not of these weights: convert again", r.name);
            }
        }
    }

    void look_at_tokenizer(const json& config) {
        if (!config.is_object()) return;
        std::set<std::string> names;
        const auto file = named("mlc-chat-config.json");
        if (const auto at = config.find("tokenizer_files"); at != config.end() && at->is_array()) {
            for (const auto& n : *at) {
                if (n.is_string()) names.insert(n.get<std::string>());
            }
        }
        std::string chosen;
        if (names.contains("tokenizer.json")) chosen = "tokenizer.json";
        if (chosen.empty() && names.contains("tokenizer.model")) chosen = "tokenizer.model";
        if (chosen.empty()) {
            add(severity::error, "tokenizer-missing", "tokenizer_files names neither tokenizer.json nor tokenizer.model, and WebLLM reads nothing else", file,
                "bring the model's tokenizer.json, and run nibble gen-config again");
            return look_at_template(config, nullptr, {}, false);
        }
        std::set<std::string> tokens;
        bool read = false;
        if (chosen == "tokenizer.model") {
            const auto r = ask(chosen, {.method = "HEAD"});
            if (r && !found(*r)) not_there(*r, chosen, "tokenizer", "copy it from the checkpoint");
            add(severity::warning, "tokenizer-model", "without a tokenizer.json WebLLM reads tokenizer.model alone, and ignores added tokens", named(chosen),
                "convert it to a tokenizer.json, with transformers for example");
        } else if (const auto value = get_json(chosen, "tokenizer", true)) {
            read = true;
            tokens = look_at_tokens(*value, chosen);
        }
        if (unreachable_) return;
        for (const auto& n : names) {
            if (n == chosen || n == "tokenizer_config.json" || !serve::path_of("/" + encoded(n))) continue;
            const auto r = ask(n, {.method = "HEAD"});
            if (!r) return;
            if (!found(*r))
                add(severity::warning, "tokenizer-file", "tokenizer_files names it, and it is not there; WebLLM does not read it", named(n),
                    "remove its name, or bring the file");
        }
        const auto tokenizer_config = get_json("tokenizer_config.json", "tokenizer-config", false);
        look_at_template(config, tokenizer_config ? *tokenizer_config : json(nullptr), tokens, read);
    }

    /// Returns the texts of the added tokens.
    [[nodiscard]] std::set<std::string> look_at_tokens(const json& tokenizer, const std::string& name) {
        std::set<std::string> tokens;
        const auto file = named(name);
        const json* model = tokenizer.is_object() && tokenizer.contains("model") ? &tokenizer["model"] : nullptr;
        if (model == nullptr || !model->is_object() || !model->contains("vocab")) {
            add(severity::error, "tokenizer-bad", "it has no \"model\" with a \"vocab\": it is not a tokenizer of Hugging Face", file,
                "copy tokenizer.json from the checkpoint");
            return tokens;
        }
        std::uint64_t largest = 0;
        const auto see = [&](const json& id) {
            if (id.is_number_unsigned()) largest = std::max(largest, id.get<std::uint64_t>());
        };
        const auto& vocab = (*model)["vocab"];
        if (vocab.is_object()) {
            for (const auto& id : vocab) see(id);
        } else if (vocab.is_array() && !vocab.empty()) {
            largest = vocab.size() - 1;
        }
        if (tokenizer.contains("added_tokens") && tokenizer["added_tokens"].is_array()) {
            for (const auto& t : tokenizer["added_tokens"]) {
                if (!t.is_object() || !t.contains("content") || !t["content"].is_string()) continue;
                if (t.contains("id")) see(t["id"]);
                if (!tokens.insert(t["content"].get<std::string>()).second)
                    add(severity::error, "tokenizer-bad", "the added token \"" + t["content"].get<std::string>() + "\" stands twice", file,
                        "remove one of them");
            }
        }
        if (vocab_ && *vocab_ > 0 && largest >= static_cast<std::uint64_t>(*vocab_))
            add(severity::error, "tokenizer-vocab", "it gives ids up to " + std::to_string(largest) + ", the model has " + std::to_string(*vocab_) + " tokens",
                file, "the tokenizer is of another model, or the embedding was not resized for its added tokens");
        const bool pairs = model->contains("merges") && (*model)["merges"].is_array() && !(*model)["merges"].empty() && (*model)["merges"][0].is_array();
        if (pairs && (!options_.webllm || *options_.webllm < model::webllm_version{0, 2, 79}))
            add(options_.webllm ? severity::error : severity::warning, "tokenizer-merges",
                "its merges are pairs, which WebLLM 0.2.51 cannot read (0.2.79 and later can)", file, "write each pair as one text, \"a b\"");
        return tokens;
    }

    void look_at_template(const json& config, const json& tokenizer_config, const std::set<std::string>& tokens, bool tokens_known) {
        const auto file = named("mlc-chat-config.json");
        const auto at = config.find("conv_template");
        if (config.value("model_task", "chat") == "embedding") return;
        if (at == config.end() || !at->is_object()) {
            add(severity::error, "template",
                at == config.end() ? "it has no conv_template" : "its conv_template is not an object, and WebLLM knows no templates by name", file,
                "run nibble gen-config again");
            return;
        }
        const auto has = [&](const char* key, auto is) { return at->contains(key) && is((*at)[key]); };
        const auto object = [](const json& v) { return v.is_object(); };
        const bool roles = has("roles", object) && (*at)["roles"].contains("user") && (*at)["roles"].contains("assistant");
        const bool seps = has("seps", [](const json& v) { return v.is_array() && !v.empty(); });
        if (!roles) add(severity::error, "template", "its conv_template names no roles of user and assistant", file, "run nibble gen-config again");
        if (!seps) add(severity::error, "template", "its conv_template has no seps", file, "run nibble gen-config again");
        if (has("stop_token_ids", [](const json& v) { return v.is_array(); })) {
            for (const auto& id : (*at)["stop_token_ids"]) {
                if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || (vocab_ && id.get<std::int64_t>() >= *vocab_))
                    add(severity::error, "template",
                        "its conv_template stops at the token " + id.dump() + ", which the model does not have: it is the template of another model", file,
                        "run nibble gen-config again, without --conv-template");
            }
        }
        const auto template_read = model::read_conversation_template(*at);
        if (!template_read && roles && seps) add(severity::error, "template", template_read.error().rule, file, "run nibble gen-config again");
        if (!template_read) return;
        const auto what = "its conv_template \"" + (template_read->name.empty() ? "?" : template_read->name) + "\" ";
        const auto remedy = "run nibble gen-config again, without --conv-template";
        if (const auto compared = rendered_alike(*at, tokenizer_config)) {
            using kind = chat::template_comparison::kind;
            // A template that is named on purpose, as mlc_llm's own models have them, may differ in these.
            const auto small = compared->how == kind::default_system ? "in what it says where no system message is given"
                               : compared->how == kind::white_space  ? "in white space"
                                                                     : "";
            if (compared->how == kind::text)
                add(severity::error, "template", what + "is not that of the model: " + compared->difference, file, remedy);
            else if (compared->how != kind::same)
                add(severity::warning, "template", what + "differs from the model's " + small + ": " + compared->difference, file,
                    "if that is not wanted, run nibble gen-config again with --conv-template custom");
            for (const auto& note : compared->notes) add(severity::note, "template", note, file);
        } else if (const auto wrong = tokens_known ? template_mismatch(*at, chat_template_of(tokenizer_config), tokenizer_config, tokens) : std::nullopt) {
            add(severity::error, "template", what + "is not that of the model: " + *wrong, file, remedy);
        }
    }

    void look_at_library(const json& config) {
        result<library_metadata> library = fail(errc::missing, "");
        if (const auto u = serve::parse_url(options_.library)) {
            // The page fetches the library by itself, from wherever it lies.
            const auto base = std::exchange(base_, u->origin() + "/");
            const auto shown = std::exchange(shown_, u->origin() + "/");
            const auto was_remote = std::exchange(remote_, true);
            const auto path = u->path.substr(1);
            serve::query q{.limit = 256u << 20};
            q.url = options_.library;
            const auto r = ask_(q);
            if (!r) {
                library = fail(r.error());
            } else if (!found(*r)) {
                not_there(*r, path, "library", "take the URL of a .wasm that is there");
            } else {
                if (!allows(r->headers, q.origin)) note_once(no_cors_, path);
                if (const auto type = r->header("content-type").value_or("");
                    !type.starts_with("application/wasm") && !type.starts_with("application/octet-stream") && !type.starts_with("text/plain"))
                    add(severity::warning, "content-type", "its content type is \"" + std::string(type) + "\"", options_.library,
                        "let the server send application/wasm");
                library = parse_library(std::as_bytes(std::span(r->body)), options_.library);
            }
            base_ = base;
            shown_ = shown;
            remote_ = was_remote;
            if (r && !found(*r)) return;
        } else {
            library = read_library(options_.library);
        }
        if (!library) return add(severity::error, "library-bad", library.error());
        if (!index_text_) return;
        const auto r = compare_with_library(*library, folder_.manifest, config, shown_, options_.webllm);
        for (const auto& e : r.problems) add(severity::error, "library", e);
        for (const auto& e : r.warnings) add(severity::warning, "library", e);
    }

    serve::asker ask_;
    std::string base_;
    std::string shown_;
    bool remote_;
    doctor_options options_;
    doctor_report report_;
    bool unreachable_ = false;
    std::optional<std::string> index_text_;
    shard::folder folder_;
    std::map<std::string, known_file> known_;
    std::optional<std::int64_t> vocab_;
    std::set<std::string> hosts_;
    std::vector<std::string> no_cors_;
    std::vector<std::string> no_cors_on_the_way_;
    std::vector<std::string> no_ranges_;
};

}  // namespace detail

/// Looks at a folder on disk. Errors: missing (there is no such folder).
[[nodiscard]] inline result<doctor_report> look_at_folder(const std::string& folder, const doctor_options& options = {}, serve::asker network = {}) {
    auto site = serve::site::open(folder);
    if (!site) return pass(site);
    auto shown = folder;
    if (!shown.ends_with('/')) shown += '/';
    const auto local = serve::ask_site(std::make_shared<const serve::site>(std::move(*site)));
    const std::string base = "http://folder/";
    // A library may lie elsewhere, and then only the network has it.
    const auto ask = [local, network, base](const serve::query& q) -> result<serve::reply> {
        if (q.url.starts_with(base) || !network) return local(q);
        return network(q);
    };
    return detail::doctor(ask, base, shown, false, options).run(base);
}

/// Looks at what WebLLM would load from a model's URL. Errors: malformed (no URL).
[[nodiscard]] inline result<doctor_report> look_at_url(const std::string& url, const serve::asker& network, const doctor_options& options = {}) {
    if (!serve::parse_url(url)) return fail(error{errc::malformed, "not an http or https URL", url, {}, {}, {}});
    auto given = url;
    if (!given.ends_with('/')) given += '/';
    const auto base = serve::model_base(url);
    return detail::doctor(network, base, base, true, options).run(given);
}

}  // namespace nibble::convert
