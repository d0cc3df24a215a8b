// SPDX-License-Identifier: Apache-2.0
// `nibble export-onnx`: a checkpoint as the folder that Transformers.js loads.

#include "nibble/convert/onnx_export.hpp"

#include <memory>

#include "commands.hpp"
#include "terminal.hpp"

namespace nibble::command {

void add_export_onnx(CLI::App& app, context& shared) {
    struct arguments {
        std::string model, output;
        bool asymmetric = false;
        convert::onnx_export_options options;
    };
    auto a = std::make_shared<arguments>();
    auto& o = a->options;
    auto& c = *app.add_subcommand("export-onnx", "Write the ONNX folder of a checkpoint that Transformers.js loads");
    c.add_option("model", a->model, "A Hugging Face folder, a .safetensors or .gguf file")->required();
    c.add_option("-o,--output", a->output, "Folder to write")->required();
    c.add_option("--dtype", o.dtypes, "Which files: " + convert::onnx_dtype_names() + "; several with commas")->delimiter(',')->capture_default_str();
    c.add_option("--name", o.name, "Name of the model's file without .onnx (\"model\" for pages that load it without a dtype)");
    c.add_option("--max-context", o.max_context, "Positions of the rope tables, and so the longest context; at most those of the model")->default_str("8192");
    c.add_option("--block", o.block, "Quantized weights that share a scale: 16, 32, 64, 128 or 256")->capture_default_str();
    c.add_flag("--asymmetric", a->asymmetric, "Store zero points");
    c.add_option("--accuracy-level", o.accuracy_level, "In what ONNX Runtime multiplies: 0 not stated, 1 f32, 2 f16, 3 bf16, 4 int8")->capture_default_str();
    c.add_flag("--external-data", o.external_data, "Above 2 GB: weights in files beside the model, which a page cannot load from a local folder");
    c.add_option("--model-type", o.model_type, "Architecture, where config.json does not say it or says it wrongly: " + model::decoder_names());
    c.add_option("--threads", o.threads, "Threads; 0: all")->capture_default_str();
    c.add_flag("--overwrite", o.overwrite, "Replace a model in the output folder");
    c.add_flag("--follow-links", o.source.follow_links, "Read files that are links out of the model's folder");
    shared.add_flags(c);
    c.callback([a, &shared] {
        a->options.symmetric = !a->asymmetric;
        auto report = convert::export_onnx(a->model, a->output, a->options);
        if (!report) return print_failure(shared, report.error(), {{"done", false}});
        if (shared.json) {
            json files = json::array();
            for (const auto& f : report->files) files.push_back({{"path", f.path}, {"bytes", f.n_bytes}});
            print_json({{"done", report->problems.empty()},
                        {"output", report->output},
                        {"model_type", report->model_type},
                        {"max_context", report->positions},
                        {"files", std::move(files)},
                        {"seconds", report->seconds},
                        {"notes", report->notes},
                        {"problems", to_json(report->problems)}});
        } else if (!shared.quiet && report->problems.empty()) {
            for (const auto& f : report->files)
                if (f.path.starts_with("onnx/")) std::printf("%s/%s: %s\n", report->output.c_str(), f.path.c_str(), size_text(f.n_bytes).c_str());
            std::printf("%s, %llu tokens of context, %.1f s\n", report->model_type.c_str(), static_cast<unsigned long long>(report->positions),
                        report->seconds);
        }
        print_remarks(shared, report->notes, {}, report->problems);
        if (!report->problems.empty()) shared.exit_code = exit_refused;
    });
}

}  // namespace nibble::command
