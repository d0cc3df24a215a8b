// SPDX-License-Identifier: Apache-2.0
#pragma once
// Options that several subcommands have: how weights are converted, and what goes into mlc-chat-config.json. And the way to stop a
// conversion.

#include <atomic>
#include <csignal>
#include <filesystem>
#include <string>

#include "commands.hpp"
#include "nibble/convert/gen_config.hpp"
#include "nibble/convert/run.hpp"

namespace nibble::command {

/// Set by the first SIGINT or SIGTERM: the run then stops at the next stretch. A second one ends the process as usual.
inline std::atomic<bool> stop_asked{false};
static_assert(std::atomic<bool>::is_always_lock_free);

inline void stop_on_signals() {
    struct sigaction action {};
    action.sa_handler = [](int) { stop_asked.store(true, std::memory_order_relaxed); };
    action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
    for (const int signal : {SIGINT, SIGTERM}) {
        struct sigaction old {};
        // One that is ignored (by nohup, by a shell for its background jobs) stays ignored.
        if (::sigaction(signal, nullptr, &old) == 0 && old.sa_handler != SIG_IGN) ::sigaction(signal, &action, nullptr);
    }
}

/// How weights are read and converted.
struct weight_options {
    std::string model_type;
    std::string source;
    std::string ties = "even";
    std::string scales = "absmax";
    std::string nonfinite = "keep";
    bool read_files = false;
    bool no_legacy_index = false;
    convert::plan_options plan;
    convert::run_options run;

    void add(CLI::App& c) {
        c.add_option("--model-type", model_type, "Architecture, where config.json does not say it or says it wrongly")->default_str("auto");
        c.add_option("--source", source, "Weights, where they are not beside config.json")->default_str("auto");
        c.add_option("--rounding", ties, "Ties of codes: to even (today's mlc_llm) or away from zero (with TVM before 2026-04)")
            ->check(CLI::IsMember({"even", "away"}));
        c.add_option("--fit", scales, "Scales: absmax (mlc_llm's bytes) or mse (least squared error, same format)")->check(CLI::IsMember({"absmax", "mse"}));
        c.add_option("--threads", run.threads, "Threads (default: one for each core)")->check(CLI::Range(1, 1024));
        c.add_option("--shard-size", plan.shard_bytes, "Largest size of a shard, as in 32MiB")
            ->transform(CLI::AsSizeValue(false))
            ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40));
        c.add_option("--nonfinite", nonfinite, "Weights that are NaN, infinite or too large: keep them as mlc_llm does and name their tensors, or error")
            ->check(CLI::IsMember({"keep", "error"}));
        c.add_flag("--resume", run.resume, "Go on with an interrupted conversion: only shards that are missing or damaged are made");
        c.add_flag("--allow-unexpected", plan.allow_unexpected, "Drop tensors that belong to a parameter and have no place in the model");
        c.add_flag("--follow-links", plan.source.follow_links, "Read files that are links out of the model's folder");
        c.add_flag("--read", read_files, "Read files instead of mapping them: for files that other programs may change");
        c.add_flag("--no-legacy-index", no_legacy_index, "Write tensor-cache.json only, not ndarray-cache.json (WebLLM up to 0.2.79)");
    }

    /// After parsing: puts into `plan` and `run` what was said in words.
    void settle() {
        plan.model_type = model_type == "auto" ? "" : model_type;
        plan.encode.rounding = ties == "away" ? rounding::half_away : rounding::half_even;
        plan.encode.fit = scales == "mse" ? fit::mse : fit::absmax;
        plan.source.access = read_files ? file_access::read : file_access::map;
        run.legacy_index = !no_legacy_index;
        run.nonfinite = nonfinite == "error" ? convert::nonfinite_values_are::refused : convert::nonfinite_values_are::kept;
        run.cancelled = &stop_asked;
        if (source.empty() || source == "auto") return;
        std::error_code ec;
        if (std::filesystem::is_directory(source, ec))
            plan.source.weights_folder = source;
        else
            plan.source.weights = source;
    }
};

/// What goes into mlc-chat-config.json beside what the checkpoint says.
struct chat_options {
    std::string disaggregation;
    convert::gen_config_options config;

    void add(CLI::App& c) {
        auto& o = config;
        c.add_option("--conv-template", o.conv_template,
                     "How a conversation becomes a prompt: the name of one of mlc_llm's templates, or custom: one derived from the checkpoint; without it, the "
                     "template is found that renders as the checkpoint's chat_template does");
        c.add_option("--context-window-size", o.context_window_size, "Tokens that the model sees at once");
        c.add_option("--sliding-window-size", o.sliding_window_size, "Tokens of the sliding window");
        c.add_option("--prefill-chunk-size", o.prefill_chunk_size, "Tokens of a prompt that are worked on at a time");
        c.add_option("--attention-sink-size", o.attention_sink_size, "Tokens at the start that stay in the sliding window");
        c.add_option("--max-batch-size", o.max_batch_size, "Sequences at a time")->capture_default_str();
        c.add_option("--tensor-parallel-shards", o.tensor_parallel_shards, "Devices that share each layer");
        c.add_option("--pipeline-parallel-stages", o.pipeline_parallel_stages, "Devices that share the layers among them");
        c.add_option("--disaggregation", disaggregation, "Any text means yes, \"false\" too, as for mlc_llm");
    }
    void settle(const CLI::App& c) {
        if (c.count("--disaggregation") != 0) config.disaggregation = !disaggregation.empty();
    }
};

}  // namespace nibble::command
