// SPDX-License-Identifier: Apache-2.0
// `nibble package`: a checkpoint to all that WebLLM loads, in one folder.

#include "nibble/convert/package.hpp"

#include <memory>

#include "commands.hpp"
#include "options.hpp"
#include "terminal.hpp"

namespace nibble::command {

namespace {

json to_json(const convert::package_plan& p) {
    json models = json::array();
    for (const auto& m : p.models) {
        json differences = json::array();
        for (const auto& d : m.folder.differences) {
            json one{{"field", d.field}};
            one["mlc_llm"] = d.mlc_llm.value_or(json(nullptr));
            if (!d.mlc_llm) one["mlc_llm_fails"] = true;
            one["here"] = d.here;
            one["reason"] = d.reason;
            differences.push_back(std::move(one));
        }
        const auto& need = m.record.memory;
        models.push_back({{"folder", m.home},
                          {"model_type", m.weights.model_type},
                          {"quantization", m.weights.quantization->name},
                          {"weight_bytes", m.weights.output_bytes()},
                          {"bits_per_parameter", m.weights.manifest.bits_per_parameter},
                          {"gpu_bytes", {{"weights", need.weights}, {"cache", need.cache}, {"activations", need.activations}}},
                          {"record", m.record.record},
                          {"differences", std::move(differences)}});
    }
    return {{"models", std::move(models)}, {"notes", p.notes}, {"warnings", p.warnings}};
}

void print_plan(const convert::package_plan& p) {
    for (const auto& m : p.models) {
        const auto& need = m.record.memory;
        const auto& record = m.record.record;
        const auto mib = [](std::uint64_t bytes) { return number_text("%.1f MiB", static_cast<double>(bytes) / (1 << 20)); };
        std::printf("%s: %s in %zu shard%s, %.3f bits per parameter\n", record["model_id"].get<std::string>().c_str(),
                    size_text(m.weights.output_bytes()).c_str(), m.weights.manifest.shards.size(), m.weights.manifest.shards.size() == 1 ? "" : "s",
                    m.weights.manifest.bits_per_parameter);
        std::printf("  GPU memory  %s: weights %s, cache %s (%llu tokens), activations %s; largest buffer %s\n", mib(need.total()).c_str(),
                    mib(need.weights).c_str(), mib(need.cache).c_str(), static_cast<unsigned long long>(need.context), mib(need.activations).c_str(),
                    mib(need.largest_buffer).c_str());
        if (m.folder.chat.config["conv_template"].contains("name"))
            std::printf("  template    %s\n", m.folder.chat.config["conv_template"]["name"].get<std::string>().c_str());
        std::printf("  library     %s\n", record.contains("model_lib") ? record["model_lib"].get<std::string>().c_str() : "none is known");
        for (const auto& d : m.folder.differences) std::printf("  not as mlc_llm writes it: %s\n", d.message().c_str());
    }
}

int refuse(const error_list& problems, const json& document, const context& shared) {
    json whole{{"done", false}};
    whole.update(document);
    whole["problems"] = command::to_json(problems);
    if (shared.json) {
        print_json(whole);
    } else {
        for (const auto& e : problems) print_error(e);
        if (problems.size() > 1) std::fprintf(stderr, "nibble: %zu problems, nothing was written\n", problems.size());
    }
    return exit_refused;
}

int package(const std::string& model, const std::string& output, bool plan_only, const convert::package_options& options, const context& shared) {
    auto plan = convert::plan_package(model, options);
    if (!plan) return refuse({plan.error()}, json::object(), shared);
    const auto document = to_json(*plan);
    if (!shared.quiet && !shared.json) {
        for (const auto& w : plan->warnings) std::fprintf(stderr, "nibble: WARNING: %s\n", w.c_str());
        for (const auto& n : plan->notes) print_note(n);
    }
    if (!plan->problems.empty()) return refuse(plan->problems, document, shared);
    if (plan_only) {
        if (shared.json)
            print_json(document);
        else
            print_plan(*plan);
        return exit_done;
    }

    stop_on_signals();
    progress_line line(!shared.quiet && !shared.json);
    plan->options.run.on_progress = [&](const convert::progress& p) { line.show(p.bytes_done, p.bytes_total); };
    const auto report = convert::write_package(*plan, output);
    line.clear();
    if (!report) return refuse({report.error()}, document, shared);
    if (shared.json) {
        json files = json::object();
        for (const auto& f : report->files) files[f.name] = {{"bytes", f.n_bytes}, {"sha256", f.sha256}};
        json nonfinite = json::array();
        for (const auto& list : report->nonfinite) {
            json found = json::object();
            for (const auto& f : list) found[f.tensor] = f.count;
            nonfinite.push_back(std::move(found));
        }
        json whole{{"done", true}, {"output", output}};
        whole.update(document);
        whole.update({{"files", std::move(files)},
                      {"bytes", report->bytes},
                      {"seconds", report->seconds},
                      {"shards_kept", report->shards_kept},
                      {"nonfinite", nonfinite}});
        print_json(whole);
    } else if (!shared.quiet) {
        for (const auto& list : report->nonfinite) {
            if (!list.empty()) print_note(nonfinite_text(list));
        }
        print_plan(*plan);
        std::printf("%s: %zu files, %s, %.2f s\n", output.c_str(), report->files.size(), size_text(report->bytes).c_str(), report->seconds);
        if (report->shards_kept != 0) std::printf("%zu shards were there already and hold\n", report->shards_kept);
        std::printf("\nnibble doctor %s      would WebLLM load it?\nnibble serve %s       serves it at %s; the page there has the snippet to paste\n",
                    (output + (plan->models.size() > 1 ? "/" + std::string(convert::pair_schemes[0]) : "")).c_str(), output.c_str(), options.base_url.c_str());
    }
    return exit_done;
}

}  // namespace

void add_package(CLI::App& app, context& shared) {
    struct arguments {
        std::string model, output, layout = "flat", webllm;
        bool plan = false;
        weight_options weights;
        chat_options chat;
        convert::package_options options;
    };
    auto a = std::make_shared<arguments>();
    auto& c = *app.add_subcommand("package", "Make a folder that WebLLM runs: weights, configuration, tokenizer, record, model card and manifest");
    c.add_option("model", a->model, "Folder of a Hugging Face checkpoint, its config.json, or a .safetensors file beside it")->required();
    auto* quantization =
        c.add_option("-q,--quantization", a->weights.plan.quantization, "q4f16_1 (needs shader-f16), q4f32_1, or another of " + scheme_names());
    auto* output = c.add_option("-o,--output", a->output, "Folder to write");
    c.add_flag("--pair", a->options.pair, "Both q4f16_1 and q4f32_1, each in a folder of its name, in one reading of the model")->excludes(quantization);
    c.add_option("--layout", a->layout, "flat: all files in one folder; hub: in resolve/main/; params: shards and index in params/")
        ->check(CLI::IsMember({"flat", "hub", "params"}))
        ->capture_default_str();
    c.add_option("--model-id", a->options.model_id, "Name of the model in WebLLM; without it the folder's name, the quantization and MLC");
    c.add_option("--base-model", a->options.base_model, "OWNER/NAME of the original on the Hugging Face Hub, for the model card");
    c.add_option("--base-url", a->options.base_url, "Where the output will be served")->capture_default_str();
    c.add_option("--lib", a->options.library, "Model library (.wasm): a file, which is compared with the weights and becomes part of the package, or a URL");
    c.add_option("--webllm", a->webllm, "Version of WebLLM that is to run it, as in 0.2.79: decides on the prebuilt library")
        ->default_str(model::newest_webllm.text());
    a->chat.add(c);
    a->weights.add(c);
    c.add_flag("--overwrite", a->weights.run.overwrite, "Replace what is in the output folder");
    auto* plan = c.add_flag("--plan", a->plan, "Print what would be written, and what it needs, then stop");
    shared.add_flags(c);
    c.callback([a, &c, quantization, output, plan, &shared] {
        if (output->count() == 0 && plan->count() == 0) throw CLI::RequiredError("--output");
        if (quantization->count() == 0 && !a->options.pair) throw CLI::RequiredError("--quantization (or --pair)");
        auto& options = a->options;
        a->weights.settle();
        a->chat.settle(c);
        options.plan = a->weights.plan;
        options.run = a->weights.run;
        options.config = a->chat.config;
        for (const auto& [name, layout] : convert::package_layouts) {
            if (name == a->layout) options.layout = layout;
        }
        if (!a->webllm.empty()) {
            const auto version = model::parse_webllm_version(a->webllm);
            if (!version) throw CLI::ValidationError("--webllm", "\"" + a->webllm + "\" is no version of WebLLM: give one as in 0.2.79");
            options.webllm = *version;
        }
        shared.exit_code = package(a->model, a->output, a->plan, options, shared);
    });
}

}  // namespace nibble::command
