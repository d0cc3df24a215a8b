// SPDX-License-Identifier: Apache-2.0
#pragma once
// WebLLM's ModelRecord as what a user pastes: with the field names of today, and with those of WebLLM before 0.2.40.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nibble/core/json.hpp"
#include "nibble/serve/url.hpp"

namespace nibble::serve {

inline constexpr std::string_view record_file_name = "webllm-record.json";
inline constexpr std::string_view no_library_url = "URL OF THE MODEL LIBRARY (.wasm)";

[[nodiscard]] inline std::string record_text(const json& j) { return j.dump(2, ' ', false, json::error_handler_t::replace); }

/// The record with a "model_lib" in any case: where none is known, words that say what belongs there.
[[nodiscard]] inline json pasteable_record(json record) {
    if (!record.is_object()) record = json::object();
    if (record.contains("model_lib")) return record;
    json whole = json::object();
    for (const auto& [key, value] : record.items()) {
        whole[key] = value;
        if (key == "model_id") whole["model_lib"] = no_library_url;
    }
    if (!whole.contains("model_lib")) whole["model_lib"] = no_library_url;
    return whole;
}

/// The record as WebLLM before 0.2.40 reads it: other names, and a URL to which nothing is appended.
[[nodiscard]] inline json older_record(const json& record) {
    json older = json::object();
    const json whole = pasteable_record(record);
    for (const auto& [key, value] : whole.items()) {
        if (key == "model")
            older["model_url"] = value.is_string() ? json(model_base(value.get<std::string>())) : value;
        else if (key == "model_id")
            older["local_id"] = value;
        else if (key == "model_lib")
            older["model_lib_url"] = value;
        else if (key == "vram_required_MB" || key == "low_resource_required" || key == "required_features" || key == "buffer_size_required_bytes")
            older[key] = value;
    }
    return older;
}

/// `text` with every line but the first moved to the right.
[[nodiscard]] inline std::string indented(std::string text, std::size_t n) {
    const std::string space(n, ' ');
    for (std::size_t at = 0; (at = text.find('\n', at)) != text.npos; at += n + 1) text.insert(at + 1, space);
    return text;
}

/// A program that loads records and asks one question. With two records, for WebGPU with shader-f16 and without, it takes the one
/// that the device can run.
[[nodiscard]] inline std::string snippet(const std::vector<json>& records) {
    std::string list;
    const auto id = [](const json& r) { return r.contains("model_id") && r["model_id"].is_string() ? record_text(r["model_id"]) : std::string("\"\""); };
    for (const auto& r : records) list += "    " + indented(record_text(pasteable_record(r)), 4) + ",\n";
    std::string text = "import { CreateMLCEngine } from \"@mlc-ai/web-llm\";\n\nconst appConfig = {\n  model_list: [\n" + list + "  ],\n};\n";
    if (records.size() == 2) {
        text += "const adapter = await navigator.gpu.requestAdapter();\nconst model = adapter.features.has(\"shader-f16\")\n  ? " + id(records[0]) +
                "\n  : " + id(records[1]) + ";\n";
    } else {
        text += "const model = " + id(records.at(0)) + ";\n";
    }
    const bool embedding = records[0].contains("model_type") && records[0]["model_type"] == 1;
    text += "const engine = await CreateMLCEngine(model, { appConfig });\n";
    text += embedding ? "const reply = await engine.embeddings.create({ input: [\"Hello\"] });\nconsole.log(reply.data[0].embedding);\n"
                      : "const reply = await engine.chat.completions.create({\n  messages: [{ role: \"user\", content: \"Hello\" }],\n});\n"
                        "console.log(reply.choices[0].message.content);\n";
    return text;
}

/// The record's place in the configuration of an older WebLLM.
[[nodiscard]] inline std::string older_snippet(const json& record) {
    return "const appConfig = {\n  model_list: [\n    " + indented(record_text(older_record(record)), 4) + ",\n  ],\n};\n";
}

/// The record for a folder that is served from elsewhere than it says: its library moves along where it lies in the folder.
[[nodiscard]] inline json rebased(json record, const std::string& origin) {
    const auto text = [&](const char* key) { return record.contains(key) && record[key].is_string() ? record[key].get<std::string>() : std::string(); };
    const auto old = model_base(text("model"));
    const auto library = text("model_lib");
    if (!text("model").empty() && library.starts_with(old)) record["model_lib"] = model_base(origin) + library.substr(old.size());
    record["model"] = origin;
    return record;
}

}  // namespace nibble::serve
