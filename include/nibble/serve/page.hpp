// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a server shows at "/": the folder's files with their sizes and hashes, WebLLM's record for it, and the snippet to paste. As a page
// for people, as JSON for programs (Accept: application/json).

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/core/json.hpp"
#include "nibble/core/sha256.hpp"
#include "nibble/serve/files.hpp"
#include "nibble/serve/record.hpp"

namespace nibble::serve {

/// What the page tells beside the files.
struct page_options {
    json record = json::object();  ///< what is known of the record; "model" is set here, to where the page was asked for
    std::vector<std::string> notes;
    std::string host = "127.0.0.1";  ///< with its port: where no request says a usable one
};

/// A file of the list on the page.
struct listed_file {
    std::string name;
    std::uint64_t n_bytes = 0;
    std::string hash;  ///< "sha256 …" or "md5 …"; empty where none is known and the file is too long to read for it
};

/// The page at "/": the record, the snippet to paste, and the files.
class front_page {
public:
    front_page(std::filesystem::path home, page_options options) : home_(std::move(home)), options_(std::move(options)) {}

    [[nodiscard]] answer operator()(const request& r) {
        const auto origin = "http://" + host_of(r);
        // The record that a package brought names a place that is not this one.
        auto record = rebased(options_.record.is_object() ? options_.record : json::object(), origin);
        if (!record.contains("model_id")) record["model_id"] = home_.filename().string();
        const auto files = list();
        if (!record.contains("model_lib")) {
            for (const auto& f : files) {
                if (f.name.ends_with(".wasm")) record["model_lib"] = origin + "/" + f.name;
            }
        }
        record = pasteable_record(std::move(record));
        const auto accept = r.header("accept").value_or("");
        const bool as_json = accept.find("application/json") != accept.npos && accept.find("text/html") == accept.npos;
        answer a;
        a.headers.emplace_back("cache-control", "no-store");
        a.headers.emplace_back("vary", "accept, host");
        if (as_json) {
            json list = json::array();
            for (const auto& f : files) list.push_back({{"name", f.name}, {"bytes", f.n_bytes}, {"hash", f.hash.empty() ? json(nullptr) : json(f.hash)}});
            a.headers.emplace_back("content-type", "application/json");
            a.body = text_of({{"record", record}, {"files", std::move(list)}, {"notes", options_.notes}}) + "\n";
        } else {
            a.headers.emplace_back("content-type", "text/html; charset=utf-8");
            // Nothing on the page runs, and nothing comes from elsewhere.
            a.headers.emplace_back("content-security-policy",
                                   "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
            a.body = html(record, files);
        }
        return a;
    }

    /// Every file that is served, by name: at most 10,000 of them, and four folders deep.
    [[nodiscard]] std::vector<listed_file> list() {
        namespace fs = std::filesystem;
        std::vector<listed_file> files;
        std::error_code ec;
        for (fs::recursive_directory_iterator at(home_, ec), end; !ec && at != end && files.size() < 10000; at.increment(ec)) {
            const auto name = at->path().lexically_relative(home_).generic_string();
            std::error_code ignored;
            if (at->is_directory(ignored)) {
                if (at.depth() >= 4 || at->path().filename().string().starts_with('.')) at.disable_recursion_pending();
                continue;
            }
            if (!at->is_regular_file(ignored) || !stays_inside(at->path(), home_) || at->path().filename().string().starts_with('.')) continue;
            files.push_back({name, at->file_size(ignored), {}});
        }
        std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
        const auto known = known_hashes();
        for (auto& f : files) {
            const auto k = known.find(std::filesystem::path(f.name).filename().string());
            f.hash = k != known.end() ? k->second : computed(f.name);
        }
        return files;
    }

private:
    [[nodiscard]] static std::string text_of(const json& j) { return j.dump(2, ' ', false, json::error_handler_t::replace); }

    /// The Host of a request goes into the page: only what a host and a port can be made of.
    [[nodiscard]] std::string host_of(const request& r) const {
        const auto host = r.header("host").value_or("");
        const bool usable = !host.empty() && host.size() <= 255 && std::all_of(host.begin(), host.end(), [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == ':' || c == '[' || c == ']';
        });
        return usable ? std::string(host) : options_.host;
    }

    [[nodiscard]] std::optional<json> read_json(const std::string& name) const {
        const auto path = home_ / name;
        if (!stays_inside(path, home_)) return std::nullopt;
        const auto bytes = read_file(path.string(), 64u << 20);
        if (!bytes) return std::nullopt;
        auto value = parse_json(*bytes);
        if (!value || !value->is_object()) return std::nullopt;
        return std::move(*value);
    }

    /// What the manifest says of any file, or the index of the shards, by base names.
    [[nodiscard]] std::map<std::string, std::string> known_hashes() const {
        std::map<std::string, std::string> known;
        const auto text = [](const json& object, const char* key) {
            const auto at = object.is_object() ? object.find(key) : object.end();
            return object.is_object() && at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
        };
        for (const char* name : {"tensor-cache.json", "ndarray-cache.json", "resolve/main/tensor-cache.json", "params/ndarray-cache.json"}) {
            const auto index = read_json(name);
            if (!index || !index->contains("records") || !(*index)["records"].is_array()) continue;
            for (const auto& s : (*index)["records"]) {
                if (const auto sum = text(s, "md5sum"); !sum.empty()) known[text(s, "dataPath")] = "md5 " + sum;
            }
            break;
        }
        if (const auto manifest = read_json("nibble-manifest.json"); manifest && manifest->contains("files") && (*manifest)["files"].is_object()) {
            for (const auto& [name, f] : (*manifest)["files"].items()) {
                if (const auto sum = text(f, "sha256"); !sum.empty()) known[std::filesystem::path(name).filename().string()] = "sha256 " + sum;
            }
        }
        return known;
    }

    /// The SHA-256 of a small file, computed once for each state of it.
    [[nodiscard]] std::string computed(const std::string& name) {
        constexpr std::uint64_t small = 32 << 20;
        const auto f = file::open((home_ / name).string(), file_access::read);
        if (!f || (*f)->size() > small) return {};
        const auto key = name + "\n" + site::tag_of(**f);
        {
            const std::lock_guard hold(*mutex_);
            if (const auto at = computed_.find(key); at != computed_.end()) return at->second;
        }
        sha256 sum;
        std::vector<std::byte> scratch;
        constexpr std::uint64_t piece = 64 << 10;
        for (std::uint64_t at = 0; at < (*f)->size(); at += piece) {
            const auto bytes = (*f)->bytes(at, std::min(piece, (*f)->size() - at), scratch);
            if (!bytes) return {};
            sum.update(*bytes);
        }
        const std::lock_guard hold(*mutex_);
        if (computed_.size() > 20000) computed_.clear();
        return computed_[key] = "sha256 " + sum.hex();
    }

    [[nodiscard]] static std::string escaped(std::string_view text) {
        std::string out;
        for (const char c : text) {
            if (c == '&')
                out += "&amp;";
            else if (c == '<')
                out += "&lt;";
            else if (c == '>')
                out += "&gt;";
            else if (c == '"')
                out += "&quot;";
            else if (c == '\'')
                out += "&#39;";
            else
                out += c;
        }
        return out;
    }

    [[nodiscard]] std::string html(const json& record, const std::vector<listed_file>& files) const {
        const auto title = escaped(home_.filename().string());
        std::string out =
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>" + title +
            "</title><style>body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 "
            "1em}pre{background:#f4f4f4;padding:1em;overflow:auto}"
            "table{border-collapse:collapse}td,th{padding:.15em 1em .15em 0;text-align:left}td.n{text-align:right}code,pre,td.h{font:13px/1.4 monospace}"
            "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#282828}a{color:#8bf}}</style><h1>" +
            title + "</h1>\n";
        for (const auto& note : options_.notes) out += "<p>" + escaped(note) + "</p>\n";
        out += "<h2>For WebLLM</h2>\n<pre>" + escaped(snippet({record})) + "</pre>\n<details><summary>For WebLLM before 0.2.40</summary>\n<pre>" +
               escaped(older_snippet(record)) + "</pre></details>\n<h2>Files</h2>\n<table><tr><th>name<th>bytes<th>hash</tr>\n";
        for (const auto& f : files) {
            out += "<tr><td><a href=\"/" + url_path(f.name) + "\">" + escaped(f.name) + "</a><td class=n>" + std::to_string(f.n_bytes) + "<td class=h>" +
                   (f.hash.empty() ? "-" : escaped(f.hash)) + "</tr>\n";
        }
        return out + "</table></html>\n";
    }

    std::filesystem::path home_;
    page_options options_;
    std::shared_ptr<std::mutex> mutex_ = std::make_shared<std::mutex>();
    std::map<std::string, std::string> computed_;
};

}  // namespace nibble::serve
