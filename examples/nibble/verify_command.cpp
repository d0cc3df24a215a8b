// SPDX-License-Identifier: Apache-2.0
// `nibble verify`: is a folder of MLC weights whole, and is it the model that it was made from?

#include "nibble/convert/inspect.hpp"
#include "nibble/convert/verify.hpp"

#include <memory>

#include "commands.hpp"
#include "terminal.hpp"

namespace nibble::command {

namespace {

/// JSON has no infinity.
json finite(double x) { return std::isfinite(x) ? json(x) : json(nullptr); }

json to_json(const convert::error_sums& s) {
    return {{"values", s.n},
            {"max_error", finite(s.max_error)},
            {"max_error_scales", finite(s.max_error_scales)},
            {"rms_error", finite(s.rms())},
            {"relative_rms", finite(s.relative_rms())},
            {"cosine", finite(s.cosine())},
            {"gain_over_absmax", finite(s.gain())}};
}

json to_json(const convert::verify_report& r, bool exact) {
    json j{{"good", r.good()},     {"folder", r.folder},         {"index", r.index},       {"interrupted", r.partial},
           {"shards", r.n_shards}, {"shards_with_md5", r.n_md5}, {"records", r.n_records}, {"bytes", r.n_bytes}};
    if (r.source) {
        json tensors = json::array();
        for (const auto& t : r.source->tensors) {
            json one{{"name", t.name}, {"shape", std::vector<std::uint64_t>(t.dims.begin(), t.dims.end())}, {"codec", convert::codec_label(t.codec)}};
            one.update(to_json(t.sums));
            one["nonfinite"] = t.n_nonfinite;
            one["groups"] = t.n_groups;
            one["groups_bad"] = t.groups_bad;
            one["groups_other_than_absmax"] = t.groups_other;
            if (exact) one["encoder"] = convert::text(t.encoder);
            one["good"] = t.problems.empty();
            tensors.push_back(std::move(one));
        }
        j["source"] = {{"model_type", r.source->model_type}, {"quantization", r.source->quantization}, {"quantized", to_json(r.source->quantized)},
                       {"nonfinite", r.source->n_nonfinite}, {"tensors", std::move(tensors)},          {"notes", r.source->notes}};
    }
    j["problems"] = command::to_json(r.problems);
    j["warnings"] = command::to_json(r.warnings);
    return j;
}

void print(const convert::verify_report& r, bool exact) {
    if (r.source && !r.source->tensors.empty()) {
        std::vector<std::string> head{"parameter", "codec", "max/scale", "rms", "rms %", "cosine", "to absmax"};
        if (exact) head.emplace_back("encoder");
        head.emplace_back("");
        table rows(head);
        for (const auto& t : r.source->tensors) {
            const auto& s = t.sums;
            std::vector<std::string> cells{t.name,
                                           convert::codec_label(t.codec),
                                           t.quantized && s.max_error_scales != 0 ? number_text("%.3f", s.max_error_scales) : "-",
                                           number_text("%.3g", s.rms()),
                                           number_text("%.2f", 100 * s.relative_rms()),
                                           number_text("%.6f", s.cosine()),
                                           t.quantized ? (s.gain() == 0 ? "=" : number_text("%+.2f %%", -100 * s.gain())) : "-"};
            if (exact) cells.emplace_back(convert::text(t.encoder));
            cells.emplace_back(t.problems.empty() ? "ok" : "BAD");
            rows.row(std::move(cells));
        }
        rows.print();
        std::printf("\n");
    }
    std::printf("%zu shard%s, %s, %zu records: sizes%s compared with the index\n", r.n_shards, r.n_shards == 1 ? "" : "s", size_text(r.n_bytes).c_str(),
                r.n_records, r.n_md5 == r.n_shards ? " and md5" : "");
    if (r.source && !r.source->tensors.empty()) {
        const auto& s = *r.source;
        std::printf("%s, %s%s", s.model_type.c_str(), s.quantization.c_str(), s.recognised ? " (recognised)" : "");
        if (s.quantized.n != 0) {
            std::printf(": %s quantized values, RMS error %.2f %% of the weights, cosine %.6f, no error above %.3f of a scale",
                        count_text(s.quantized.n).c_str(), 100 * s.quantized.relative_rms(), s.quantized.cosine(), s.quantized.max_error_scales);
            const double gain = 100 * s.quantized.gain();
            if (gain > 0.005) std::printf("\nRMS is %.2f %% lower than absmax's", gain);
            if (gain < -0.005) std::printf("\nRMS is %.2f %% higher than absmax's", -gain);
        }
        std::printf("\n");
        if (s.n_nonfinite != 0)
            std::printf("%s values of the source are NaN or infinite; their groups are left out of the numbers above\n", count_text(s.n_nonfinite).c_str());
    }
    if (!r.good())
        std::printf("NOT GOOD: %zu problem%s.\n", r.problems.size(), r.problems.size() == 1 ? "" : "s");
    else if (r.source)
        std::printf("Good: the folder is whole and is this model%s.\n", exact ? ", every parameter byte for byte what this version writes" : "");
    else
        std::printf("Good: the folder is whole. (With --source MODEL its values are compared too.)\n");
}

/// An ONNX model: all that can be said of it without its source.
void verify_onnx(const std::string& path, bool follow_links, context& shared) {
    source::open_options options;
    options.follow_links = follow_links;
    auto report = convert::inspect(path, options);
    if (!report) return print_failure(shared, report.error(), {{"good", false}});
    const bool good = report->problems.empty();
    if (shared.json)
        print_json({{"good", good},
                    {"path", path},
                    {"tensors", report->tensors.size()},
                    {"bytes", report->n_bytes},
                    {"problems", command::to_json(report->problems)}});
    else if (!shared.quiet && good)
        std::printf("Good: %s, %zu constants; each node's inputs are there, and MatMulNBits nodes fit their weights.\n", size_text(report->n_bytes).c_str(),
                    report->tensors.size());
    print_remarks(shared, report->notes, {}, report->problems);
    if (!good) shared.exit_code = exit_refused;
}

}  // namespace

void add_verify(CLI::App& app, context& shared) {
    struct arguments {
        std::string folder;
        std::string source;
        bool no_md5 = false;
        bool read_files = false;
        convert::verify_options options;
    };
    auto a = std::make_shared<arguments>();
    auto* sub = app.add_subcommand("verify", "Check a folder of MLC weights, and compare it with the model it was made from; or check an ONNX model");
    sub->add_option("folder", a->folder, "A folder of MLC weights, or a .onnx file")->required();
    sub->add_option("--source", a->source, "The checkpoint it was made from");
    sub->add_option("--quantization", a->options.quantization, "Its quantization; recognised by the records where not given");
    sub->add_option("--model-type", a->options.model_type, "Its model type, where config.json has none or a wrong one");
    sub->add_flag("--exact", a->options.exact, "Every byte must be what one of this version's encoders writes");
    sub->add_flag("--no-md5", a->no_md5, "Leave the shards' md5 sums unchecked");
    sub->add_flag("--follow-links", a->options.folder.follow_links, "Allow symbolic links that lead out of the folder");
    sub->add_flag("--read", a->read_files, "Read files instead of mapping them");
    sub->add_option("--threads", a->options.threads, "Threads to use; 0: as many as the machine has")->check(CLI::Range(0, 1024));
    shared.add_flags(*sub);
    sub->callback([a, &shared] {
        if (std::filesystem::path(a->folder).extension() == ".onnx") {
            if (a->source.empty() && !a->options.exact) return verify_onnx(a->folder, a->options.folder.follow_links, shared);
            return print_failure(shared,
                                 error{errc::unsupported, "an ONNX model is not compared with its source", a->folder, {}, {}, "leave out --source and --exact"},
                                 {{"good", false}});
        }
        auto options = a->options;
        options.md5 = !a->no_md5;
        options.source.follow_links = options.folder.follow_links;
        if (a->read_files) options.source.access = options.folder.access = file_access::read;
        progress_line line(!shared.quiet && !shared.json);
        options.on_progress = [&](std::uint64_t done, std::uint64_t total) { line.show(done, total); };
        auto report = convert::verify(a->folder, a->source, options);
        line.clear();
        if (!report) return print_failure(shared, report.error(), {{"good", false}});
        if (shared.json)
            print_json(to_json(*report, options.exact));
        else if (!shared.quiet)
            print(*report, options.exact);
        print_remarks(shared, report->source ? report->source->notes : std::vector<std::string>{}, report->warnings, report->problems);
        if (!report->good()) shared.exit_code = exit_refused;
    });
}

}  // namespace nibble::command
