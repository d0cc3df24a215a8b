// SPDX-License-Identifier: Apache-2.0
// `nibble inspect`: what is in a checkpoint, in a folder of MLC weights or in an ONNX model.

#include "nibble/convert/inspect.hpp"

#include <memory>

#include "commands.hpp"
#include "terminal.hpp"

namespace nibble::command {

namespace {

json to_json(const convert::inspect_report& r) {
    json tensors = json::array();
    for (const auto& t : r.tensors) {
        tensors.push_back({{"name", t.name},
                           {"type", t.type},
                           {"shape", std::vector<std::uint64_t>(t.dims.begin(), t.dims.end())},
                           {"values", t.n_values},
                           {"bytes", t.n_bytes},
                           {"file", t.file}});
    }
    json types = json::object();
    for (const auto& [type, bytes] : r.by_type) types[type] = bytes;
    return {{"path", r.path},
            {"format", r.format},
            {"model_type", r.model_type},
            {"recognised", r.recognised},
            {"quantization", r.quantization},
            {"files", r.n_files},
            {"parameters", r.n_values},
            {"bytes", r.n_bytes},
            {"bits_per_parameter", r.bits_per_value()},
            {"bytes_by_type", std::move(types)},
            {"tensors", std::move(tensors)},
            {"notes", r.notes},
            {"problems", command::to_json(r.problems)},
            {"warnings", command::to_json(r.warnings)}};
}

void print(const convert::inspect_report& r) {
    table rows({"tensor", "type", "shape", "size"});
    for (const auto& t : r.tensors) rows.row({t.name, t.type, t.dims.text(), size_text(t.n_bytes)});
    rows.print();
    std::string types;
    for (const auto& [type, bytes] : r.by_type) types += (types.empty() ? "" : ", ") + size_text(bytes) + " " + type;
    std::string of = r.model_type.empty() ? ", model type not stated" : ", model type " + r.model_type;
    if (!r.model_type.empty() && !r.recognised) of += ", which cannot be converted";
    std::printf("\n%s%s\n", r.format.c_str(), r.format == "ONNX" ? "" : of.c_str());
    if (!r.quantization.empty()) std::printf("quantization %s\n", r.quantization.c_str());
    std::printf("%zu tensors in %zu file%s: %s (%s)\n", r.tensors.size(), r.n_files, r.n_files == 1 ? "" : "s", size_text(r.n_bytes).c_str(), types.c_str());
    std::printf("%s parameters, %.2f bits each\n", count_text(r.n_values).c_str(), r.bits_per_value());
}

}  // namespace

void add_inspect(CLI::App& app, context& shared) {
    struct arguments {
        std::string path;
        source::open_options open;
    };
    auto a = std::make_shared<arguments>();
    auto* sub = app.add_subcommand("inspect", "Show what is in a checkpoint, in a folder of MLC weights or in an ONNX model");
    sub->add_option("path", a->path, "A Hugging Face folder, a .safetensors, .gguf or .onnx file, or a folder of MLC weights")->required();
    sub->add_flag("--follow-links", a->open.follow_links, "Allow symbolic links that lead out of the folder");
    shared.add_flags(*sub);
    sub->callback([a, &shared] {
        auto report = convert::inspect(a->path, a->open);
        if (!report) return print_failure(shared, report.error());
        if (shared.json)
            print_json(to_json(*report));
        else if (!shared.quiet)
            print(*report);
        print_remarks(shared, report->notes, report->warnings, report->problems);
        if (!report->problems.empty()) shared.exit_code = exit_refused;
    });
}

}  // namespace nibble::command
