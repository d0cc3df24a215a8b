// SPDX-License-Identifier: Apache-2.0
#pragma once
// A Hugging Face checkpoint folder: config.json, and model.safetensors or its shards by model.safetensors.index.json.

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "nibble/source/safetensors.hpp"

namespace nibble::source {

/// Whether a name from an index may be opened: one plain file name that means the same on every system.
[[nodiscard]] inline bool is_plain_file_name(std::string_view name) {
    if (name.empty() || name.size() > 255 || name == "." || name == ".." || name.back() == '.' || name.back() == ' ') return false;
    for (const char c : name) {
        const auto u = static_cast<unsigned char>(c);
        if (u < 0x20 || u == 0x7F || std::string_view("/\\:*?\"<>|%").find(c) != std::string_view::npos) return false;
    }
    std::string stem(name.substr(0, name.find('.')));
    std::transform(stem.begin(), stem.end(), stem.begin(), [](unsigned char c) { return static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c); });
    static const std::set<std::string, std::less<>> devices{"CON",  "PRN",  "AUX",  "NUL",  "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7",
                                                            "COM8", "COM9", "LPT1", "LPT2", "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9"};
    return !devices.contains(stem);
}

namespace detail {

namespace fs = std::filesystem;

inline error leads_out(const fs::path& path) {
    return {errc::refused, "the file is a link that leads out of the model's folder", path.string(), {}, {}, "copy the file, or allow it with --follow-links"};
}

/// Reads a small file of the checkpoint's folder, unless a link leads out of the folder.
inline result<std::vector<std::byte>> read_inside(const fs::path& folder, const std::string& name, std::uint64_t limit, const open_options& options) {
    const fs::path path = folder / name;
    std::error_code ec;
    if (fs::exists(path, ec) && !options.follow_links && !stays_inside(path, folder)) return fail(leads_out(path));
    return read_file(path.string(), limit);
}

/// Opens a file that the checkpoint's folder names, unless a link leads out of the folder.
inline result<std::shared_ptr<const file>> open_inside(const fs::path& folder, const std::string& name, const open_options& options) {
    const fs::path path = folder / name;
    std::error_code ec;
    if (!fs::exists(path, ec))
        return fail(error{errc::missing, "the file is not there", path.string(), {}, {}, "download it, or correct the index that names it"});
    if (!options.follow_links && !stays_inside(path, folder)) return fail(leads_out(path));
    return file::open(path.string(), options.access);
}

}  // namespace detail

/// Opens a checkpoint folder (or one .safetensors file, with the config.json beside it). What makes it unreadable is the
/// returned error; faults of single entries are in checkpoint::problems, all of them.
[[nodiscard]] inline result<checkpoint> open_folder(const std::string& where, const open_options& options = {}) {
    namespace fs = std::filesystem;
    std::error_code ec;
    fs::path folder = where;
    std::string weights = options.weights;
    if (fs::is_regular_file(folder, ec)) {
        weights = where;
        folder = folder.parent_path();
        if (folder.empty()) folder = ".";
    } else if (!fs::is_directory(folder, ec)) {
        return fail(error{errc::missing, "no such file or folder", where, {}, {}, "give the folder of a Hugging Face checkpoint, or a .gguf file"});
    }
    checkpoint c;
    c.format = "safetensors";
    c.config_file = (folder / "config.json").string();
    {
        auto text = detail::read_inside(folder, "config.json", 16 << 20, options);
        if (!text) {
            auto e = std::move(text.error());
            if (e.code == errc::missing) e = std::move(e).advise("the folder of a Hugging Face checkpoint has a config.json: download it too");
            return fail(std::move(e));
        }
        auto parsed = parse_json(*text);
        if (!parsed) return fail(std::move(parsed.error()).in_file(c.config_file));
        if (!parsed->is_object()) return fail(error{errc::malformed, "config.json must be a JSON object", c.config_file, {}, {}, {}});
        c.config = std::move(*parsed);
    }
    if (!options.weights_folder.empty()) folder = options.weights_folder;

    const auto add_file = [&](result<std::shared_ptr<const file>> f) -> result<std::vector<tensor>> {
        if (!f) return pass(f);
        auto tensors = read_safetensors_header(**f, static_cast<std::uint32_t>(c.files.size()));
        if (tensors) c.files.push_back(std::move(*f));
        return tensors;
    };

    const fs::path index_path = folder / "model.safetensors.index.json";
    const bool has_index = weights.empty() && fs::exists(index_path, ec);
    const bool has_single = fs::exists(folder / "model.safetensors", ec);
    if (weights.empty() && (fs::exists(folder / "pytorch_model.bin", ec) || fs::exists(folder / "pytorch_model.bin.index.json", ec))) {
        if (has_index || has_single)
            c.notes.emplace_back(
                "the folder holds both safetensors and pytorch_model.bin: safetensors is taken (mlc_llm prefers the .bin, whose tensors may come in another "
                "order)");
    }
    if (!has_index) {
        std::string name = "model.safetensors";
        result<std::vector<tensor>> tensors;
        if (!weights.empty()) {
            tensors = add_file(file::open(weights, options.access));
            // The loader sorts by name when one file is given explicitly.
            if (tensors && !options.weights.empty())
                std::stable_sort(tensors->begin(), tensors->end(), [](const tensor& a, const tensor& b) { return a.name < b.name; });
        } else if (has_single) {
            tensors = add_file(detail::open_inside(folder, name, options));
        } else {
            std::string remedy = "download the model's .safetensors files";
            if (fs::exists(folder / "pytorch_model.bin", ec) || fs::exists(folder / "pytorch_model.bin.index.json", ec)) {
                remedy = "only pytorch_model.bin is there: save the model as safetensors (`save_pretrained(..., safe_serialization=True)`)";
            }
            return fail(error{errc::missing, "neither model.safetensors nor model.safetensors.index.json is in the folder", folder.string(), {}, {}, remedy});
        }
        if (!tensors) return pass(tensors);
        c.tensors = std::move(*tensors);
        return c;
    }

    if (has_single) c.notes.emplace_back("the folder holds both model.safetensors and model.safetensors.index.json: the index is taken");
    auto text = detail::read_inside(folder, index_path.filename().string(), 256 << 20, options);
    if (!text) return pass(text);
    auto index = parse_json(*text, 8);
    if (!index) return fail(std::move(index.error()).in_file(index_path.string()));
    const auto broken = [&](std::string rule) {
        return fail(error{errc::malformed, std::move(rule), index_path.string(), {}, {}, "download the index again"});
    };
    if (!index->is_object() || !index->contains("weight_map") || !(*index)["weight_map"].is_object())
        return broken("the index needs an object \"weight_map\" of tensor names and file names");
    const auto& map = (*index)["weight_map"];
    if (map.empty()) return broken("the index names no tensor");

    std::vector<std::string> order;                                    // files by first appearance
    std::unordered_map<std::string, std::vector<std::string>> listed;  // file -> its tensors in map order
    for (const auto& [name, value] : map.items()) {
        if (!value.is_string()) return broken("weight_map[\"" + name.substr(0, 80) + "\"] is not a file name");
        const auto& file_name = value.get_ref<const std::string&>();
        if (!is_plain_file_name(file_name)) {
            return fail(error{errc::refused,
                              "weight_map names the file \"" + file_name.substr(0, 120) + "\", which is not a plain file name",
                              index_path.string(),
                              name,
                              {},
                              "an index may only name files in its own folder"});
        }
        auto [at, is_new] = listed.try_emplace(file_name);
        if (is_new) order.push_back(file_name);
        at->second.push_back(name);
    }
    std::unordered_map<std::string, std::string> owner;
    for (const auto& file_name : order) {
        auto tensors = add_file(detail::open_inside(folder, file_name, options));
        if (!tensors) {
            c.problems.push_back(std::move(tensors.error()));
            continue;
        }
        std::unordered_map<std::string_view, std::size_t> present;
        for (std::size_t i = 0; i < tensors->size(); ++i) present.emplace((*tensors)[i].name, i);
        const auto path = (folder / file_name).string();
        std::vector<bool> taken(tensors->size());
        std::vector<tensor> in_order;
        for (const auto& name : listed[file_name]) {
            const auto at = present.find(name);
            if (at == present.end()) {
                c.problems.push_back({errc::missing,
                                      "the index says that the tensor is in this file, it is not",
                                      path,
                                      name,
                                      {},
                                      "download the file and the index from the same revision"});
                continue;
            }
            taken[at->second] = true;
            in_order.push_back((*tensors)[at->second]);
        }
        for (std::size_t i = 0; i < tensors->size(); ++i) {
            const auto& t = (*tensors)[i];
            if (const auto [at, is_new] = owner.try_emplace(t.name, file_name); !is_new) {
                c.problems.push_back({errc::mismatch, "the tensor is also in " + at->second, path, t.name, {}, "download the files again from one revision"});
            } else if (!taken[i]) {
                c.problems.push_back({errc::mismatch,
                                      "the tensor is in this file, but not in the index",
                                      path,
                                      t.name,
                                      {},
                                      "download the file and the index from the same revision"});
            }
        }
        std::move(in_order.begin(), in_order.end(), std::back_inserter(c.tensors));
    }
    for (const auto& entry : fs::directory_iterator(folder, ec)) {
        const auto name = entry.path().filename().string();
        if (name.starts_with("model-") && name.ends_with(".safetensors") && !listed.contains(name))
            c.notes.push_back("not in the index, and left out: " + name);
    }
    return c;
}

}  // namespace nibble::source
