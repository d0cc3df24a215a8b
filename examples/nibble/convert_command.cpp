// SPDX-License-Identifier: Apache-2.0
// `nibble convert`: a checkpoint to MLC shards. Flags that mlc_llm convert_weight has carry its names.

#include <charconv>
#include <memory>
#include <optional>

#include "commands.hpp"
#include "nibble/convert.hpp"
#include "options.hpp"
#include "terminal.hpp"

namespace nibble::command {

namespace {

struct arguments {
    std::string model;
    std::string output;
    std::string source_format;
    std::string device;
    std::string only_shards;
    bool plan = false;
    bool join = false;
    weight_options weights;
};

std::optional<std::pair<std::size_t, std::size_t>> shard_range(const std::string& text) {
    std::pair<std::size_t, std::size_t> range;
    const char* end = text.data() + text.size();
    auto first = std::from_chars(text.data(), end, range.first);
    if (first.ec != std::errc{}) return std::nullopt;
    range.second = range.first;
    if (first.ptr != end) {
        if (*first.ptr != '-') return std::nullopt;
        const auto second = std::from_chars(first.ptr + 1, end, range.second);
        if (second.ec != std::errc{} || second.ptr != end) return std::nullopt;
    }
    if (range.first > range.second) return std::nullopt;
    return range;
}

/// Memory that a run needs besides mapped file pages: the lanes' buffers, and what is held of a parameter.
std::uint64_t memory_bound(const convert::plan& p, unsigned threads) {
    std::uint64_t largest = 0;
    for (const auto& s : p.manifest.shards) {
        for (const auto& r : s.records) largest = std::max(largest, r.n_bytes);
    }
    return (16 << 20) + threads * std::uint64_t{convert::lanes_per_thread} * (convert::lane_bytes + (1 << 18)) + largest;
}

json plan_json(const convert::plan& p, unsigned threads) {
    json shards = json::array();
    for (const auto& s : p.manifest.shards) {
        json records = json::array();
        for (const auto& r : s.records) {
            records.push_back({{"name", r.name},
                               {"shape", std::vector<std::uint64_t>(r.dims.begin(), r.dims.end())},
                               {"dtype", shard::dtype_text(r.type)},
                               {"nbytes", r.n_bytes},
                               {"byteOffset", r.offset}});
        }
        shards.push_back({{"path", s.path}, {"nbytes", s.n_bytes}, {"records", std::move(records)}});
    }
    return {{"model_type", p.model_type},
            {"quantization", p.quantization->name},
            {"source_bytes", p.source_bytes()},
            {"output_bytes", p.output_bytes()},
            {"parameters", p.manifest.n_parameters},
            {"bits_per_parameter", p.manifest.bits_per_parameter},
            {"memory_bytes", memory_bound(p, threads)},
            {"notes", p.notes},
            {"shards", std::move(shards)}};
}

void print_plan(const convert::plan& p, const std::string& output, unsigned threads) {
    table shards({"shard", "bytes", "records", "first"});
    for (const auto& s : p.manifest.shards) shards.row({s.path, std::to_string(s.n_bytes), std::to_string(s.records.size()), s.records.front().name});
    shards.print();
    std::printf("\nmodel type    %s (%s)\n", p.model_type.c_str(), p.model.format.c_str());
    std::printf("quantization  %s, %.3f bits per parameter\n", std::string(p.quantization->name).c_str(), p.manifest.bits_per_parameter);
    std::printf("reads         %s in %zu files\n", size_text(p.source_bytes()).c_str(), p.model.files.size());
    std::printf("writes        %s in %zu shards and the index", size_text(p.output_bytes()).c_str(), p.manifest.shards.size());
    if (!output.empty()) std::printf("; %s are free there", size_text(shard::output_folder::free_bytes(output)).c_str());
    std::printf("\nmemory        at most about %s besides mapped file pages\n", size_text(memory_bound(p, threads)).c_str());
}

int refuse(const error_list& problems, const context& shared) {
    if (shared.json) {
        print_json({{"done", false}, {"problems", to_json(problems)}});
    } else {
        for (const auto& e : problems) print_error(e);
        if (problems.size() > 1) std::fprintf(stderr, "nibble: %zu problems, nothing was written\n", problems.size());
    }
    return exit_refused;
}

int convert(arguments& a, const context& shared) {
    a.weights.settle();
    auto& options = a.weights.plan;
    auto& run_options = a.weights.run;
    if (!a.only_shards.empty()) run_options.only_shards = shard_range(a.only_shards);
    const unsigned threads = run_options.threads != 0 ? run_options.threads : std::max(1u, std::thread::hardware_concurrency());

    // mlc_llm takes a config.json or the folder that holds it, and the weights from --source.
    std::string model = a.model;
    if (std::filesystem::path(model).filename() == "config.json") model = std::filesystem::path(model).parent_path().string();
    if (model.empty()) model = ".";

    auto plan = convert::make_plan(model, options);
    if (!plan) return refuse({plan.error()}, shared);
    if (!shared.quiet && !shared.json) {
        for (const auto& n : plan->notes) print_note(n);
    }
    if (!plan->problems.empty()) return refuse(plan->problems, shared);
    if (a.plan) {
        if (!a.output.empty()) {
            if (auto room = convert::check_space(plan->output_bytes(), a.output); !room) return refuse({room.error()}, shared);
        }
        if (shared.json)
            print_json(plan_json(*plan, threads));
        else
            print_plan(*plan, a.output, threads);
        return exit_done;
    }

    stop_on_signals();
    progress_line line(!shared.quiet && !shared.json);
    run_options.on_progress = [&](const convert::progress& p) { line.show(p.bytes_done, p.bytes_total); };
    const auto report = a.join ? convert::join(*plan, a.output, run_options) : convert::run(*plan, a.output, run_options);
    line.clear();
    if (!report) return refuse({report.error()}, shared);
    if (shared.json) {
        json nonfinite = json::object();
        for (const auto& f : report->nonfinite) nonfinite[f.tensor] = f.count;
        print_json({{"done", true},
                    {"output", a.output},
                    {"model_type", plan->model_type},
                    {"quantization", plan->quantization->name},
                    {"files", report->files},
                    {"bytes", report->bytes},
                    {"bits_per_parameter", plan->manifest.bits_per_parameter},
                    {"seconds", report->seconds},
                    {"shards_kept", report->shards_kept},
                    {"nonfinite", nonfinite},
                    {"notes", plan->notes}});
    } else if (!shared.quiet) {
        if (!report->nonfinite.empty()) print_note(nonfinite_text(report->nonfinite));
        std::printf("%s: %s, %s -> %s in %zu shards, %.3f bits per parameter, %.2f s (%s/s read)\n", a.output.c_str(),
                    std::string(plan->quantization->name).c_str(), size_text(plan->source_bytes()).c_str(), size_text(report->bytes).c_str(),
                    plan->manifest.shards.size(), plan->manifest.bits_per_parameter, report->seconds,
                    size_text(static_cast<double>(plan->source_bytes()) / std::max(report->seconds, 1e-6)).c_str());
        if (report->shards_kept != 0 && !a.join) std::printf("%zu shards were there already and hold\n", report->shards_kept);
        if (run_options.only_shards) std::printf("a share: when all shares are in one folder, write the index with `nibble convert ... --join`\n");
    }
    return exit_done;
}

}  // namespace

void add_convert(CLI::App& app, context& shared) {
    auto a = std::make_shared<arguments>();
    auto& c = *app.add_subcommand("convert", "Convert a checkpoint to MLC shards, byte for byte as mlc_llm convert_weight does");
    c.add_option("model", a->model, "Folder of a Hugging Face checkpoint (or its config.json), a .safetensors or a .gguf file")->required();
    c.add_option("-q,--quantization", a->weights.plan.quantization, "One of " + scheme_names())->required();
    auto* output = c.add_option("-o,--output", a->output, "Folder to write");
    a->weights.add(c);
    c.add_option("--source-format", a->source_format, "Found by looking; accepted for mlc_llm's users")
        ->check(CLI::IsMember({"auto", "huggingface-safetensor"}));
    c.add_option("--device", a->device, "Ignored: the conversion runs on the CPU; accepted for mlc_llm's users");
    c.add_flag("--overwrite", a->weights.run.overwrite, "Replace a finished conversion in the output folder");
    auto* only = c.add_option("--only-shards", a->only_shards, "Make shards A-B only, as one share of a conversion (see --join)");
    only->check([](const std::string& text) { return shard_range(text) ? std::string() : "expected A-B, as in 0-3"; });
    c.add_flag("--join", a->join, "Write the index of an output whose shares are all there")->excludes(only);
    auto* plan = c.add_flag("--plan", a->plan, "Print what would be written, and what it needs, then stop");
    shared.add_flags(c);
    c.callback([a, output, plan, &shared] {
        if (output->count() == 0 && plan->count() == 0) throw CLI::RequiredError("--output");
        shared.exit_code = convert(*a, shared);
    });
}

}  // namespace nibble::command
