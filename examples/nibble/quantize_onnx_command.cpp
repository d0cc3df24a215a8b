// SPDX-License-Identifier: Apache-2.0
// `nibble quantize-onnx`: the weights of a model's MatMul nodes quantized, as ONNX Runtime's MatMulNBitsQuantizer does it.

#include "nibble/convert/onnx_quantize.hpp"

#include <memory>

#include "commands.hpp"
#include "terminal.hpp"

namespace nibble::command {

void add_quantize_onnx(CLI::App& app, context& shared) {
    struct arguments {
        std::string input, output;
        convert::onnx_quantize_options options;
    };
    auto a = std::make_shared<arguments>();
    auto& o = a->options;
    auto& c = *app.add_subcommand("quantize-onnx", "Quantize the MatMul weights of an ONNX model, as ONNX Runtime's MatMulNBitsQuantizer does");
    c.add_option("model", a->input, "A model (.onnx), with its external data beside it")->required();
    c.add_option("-o,--output", a->output, "File to write: one, with all weights in it")->required();
    c.add_option("--bits", o.weights.bits, "Bits of a weight: 2, 4 or 8")->capture_default_str();
    c.add_option("--block", o.weights.block, "Weights that share a scale: 16, 32, 64, 128 or 256")->capture_default_str();
    c.add_flag("--symmetric", o.weights.symmetric, "No stored zero points");
    c.add_option("--accuracy-level", o.accuracy_level, "In what ONNX Runtime multiplies: 0 not stated, 1 f32, 2 f16, 3 bf16, 4 int8")->capture_default_str();
    c.add_option("--exclude", o.excluded, "Names of nodes to leave as they are");
    c.add_option("--threads", o.threads, "Threads; 0: all")->capture_default_str();
    c.add_flag("--follow-links", o.follow_links, "Allow external data in files that are links out of the model's folder");
    c.add_flag("--overwrite", o.overwrite, "Replace the output if it is there");
    shared.add_flags(c);
    c.callback([a, &shared] {
        auto report = convert::quantize_onnx(a->input, a->output, a->options);
        if (!report) return print_failure(shared, report.error(), {{"done", false}});
        if (shared.json) {
            print_json({{"done", true},
                        {"output", report->output},
                        {"bytes", report->n_bytes},
                        {"quantized_nodes", report->n_quantized},
                        {"weights_before", report->bytes_before},
                        {"weights_after", report->bytes_after},
                        {"notes", report->notes}});
        } else if (!shared.quiet) {
            std::printf("%s: %s; %zu MatMul nodes quantized, their weights from %s to %s\n", report->output.c_str(), size_text(report->n_bytes).c_str(),
                        report->n_quantized, size_text(report->bytes_before).c_str(), size_text(report->bytes_after).c_str());
        }
        print_remarks(shared, report->notes, {}, {});
    });
}

}  // namespace nibble::command
