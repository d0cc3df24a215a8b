// SPDX-License-Identifier: Apache-2.0
// `nibble doctor`: would WebLLM load this folder, or what is at this URL?

#include "nibble/convert/doctor.hpp"

#include <memory>

#include "commands.hpp"
#include "nibble/serve/client.hpp"
#include "terminal.hpp"

namespace nibble::command {

namespace {

const char* severity_text(convert::finding::severity level) {
    constexpr const char* names[] = {"error", "warning", "note"};
    return names[static_cast<std::size_t>(level)];
}

json to_json(const convert::doctor_report& r) {
    json findings = json::array();
    for (const auto& f : r.findings) {
        json one{{"severity", severity_text(f.level)}, {"code", f.code}};
        one.update(command::to_json(f.what));
        findings.push_back(std::move(one));
    }
    return {{"good", r.good()},
            {"where", r.where},
            {"index", r.index.empty() ? json(nullptr) : json(r.index)},
            {"shards", r.n_shards},
            {"shards_hashed", r.n_hashed},
            {"bytes", r.n_bytes},
            {"findings", std::move(findings)}};
}

void print(const convert::doctor_report& r) {
    std::printf("%s: %zu shard%s, %s\n", r.where.c_str(), r.n_shards, r.n_shards == 1 ? "" : "s", size_text(r.n_bytes).c_str());
    std::size_t errors = 0;
    std::size_t warnings = 0;
    for (const auto& f : r.findings) {
        errors += f.level == convert::finding::severity::error;
        warnings += f.level == convert::finding::severity::warning;
        auto what = f.what;
        what.remedy.clear();
        std::printf("\n%s (%s): %s\n", severity_text(f.level), f.code.c_str(), what.message().c_str());
        if (!f.what.remedy.empty()) std::printf("  -> %s\n", f.what.remedy.c_str());
    }
    if (!r.findings.empty()) std::printf("\n");
    if (r.n_hashed < r.n_shards)
        std::printf("%zu of %zu shards were compared with a hash%s.\n", r.n_hashed, r.n_shards, r.n_hashed == 0 ? " (--full reads every byte)" : "");
    if (errors != 0)
        std::printf("NOT GOOD: %zu error%s, %zu warning%s.\n", errors, errors == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s");
    else if (warnings != 0)
        std::printf("Good, with %zu warning%s.\n", warnings, warnings == 1 ? "" : "s");
    else
        std::printf("Good: nothing speaks against WebLLM loading it.\n");
}

}  // namespace

void add_doctor(CLI::App& app, context& shared) {
    struct arguments {
        std::string where;
        std::string webllm;
        bool full = false;
        bool quick = false;
        convert::doctor_options options;
    };
    auto a = std::make_shared<arguments>();
    auto* sub = app.add_subcommand("doctor", "Find out whether WebLLM would load a folder, or what a server has at a URL, and what to do if not");
    sub->add_option("where", a->where, "A folder, or the URL that a record's \"model\" names")->required();
    sub->add_option("--lib", a->options.library, "The model library (.wasm) that is to run it: a file or a URL");
    sub->add_option("--webllm", a->webllm, "The version of WebLLM that is to load it, as in 0.2.79; any where not given");
    auto* full = sub->add_flag("--full", a->full, "Read every shard whole (the default for a folder and for this machine's own servers)");
    sub->add_flag("--quick", a->quick, "Ask only for the shards' lengths")->excludes(full);
    shared.add_flags(*sub);
    sub->callback([a, &shared] {
        auto options = a->options;
        if (!a->webllm.empty()) {
            options.webllm = model::parse_webllm_version(a->webllm);
            if (!options.webllm) {
                print_failure(shared, {errc::malformed, "\"" + a->webllm + "\" is no version of WebLLM", {}, {}, {}, "give one as in 0.2.79"},
                              {{"good", false}});
                shared.exit_code = exit_usage;
                return;
            }
        }
        const auto url = serve::parse_url(a->where);
        const bool near = !url || url->host == "localhost" || url->host == "[::1]" || url->host.starts_with("127.");
        options.bytes = a->full || (near && !a->quick);
        progress_line line(!shared.quiet && !shared.json);
        options.on_progress = [&](std::uint64_t done, std::uint64_t total) { line.show(done, total); };
        auto report = url ? convert::look_at_url(a->where, serve::ask, options) : convert::look_at_folder(a->where, options, serve::ask);
        line.clear();
        if (!report) return print_failure(shared, report.error(), {{"good", false}});
        if (shared.json)
            print_json(to_json(*report));
        else if (!shared.quiet)
            print(*report);
        if (shared.quiet || shared.json) {
            for (const auto& f : report->findings) {
                if (f.level == convert::finding::severity::error) print_error(f.what);
            }
        }
        if (!report->good()) shared.exit_code = exit_refused;
    });
}

}  // namespace nibble::command
