// SPDX-License-Identifier: Apache-2.0
#pragma once
// The subcommands of `nibble`. Each adds itself to the parser; its callback runs it and leaves the exit code in the context.

#include <CLI/CLI.hpp>

#include <string>

namespace nibble::command {

/// Exit codes: what was asked for is done; it was refused or failed, with reasons on stderr; the command line is wrong.
inline constexpr int exit_done = 0;
inline constexpr int exit_refused = 1;
inline constexpr int exit_usage = 2;

/// What all subcommands share.
struct context {
    bool json = false;   ///< one JSON document on stdout, for programs
    bool quiet = false;  ///< errors only
    int exit_code = exit_done;

    void add_flags(CLI::App& app) {
        app.add_flag("--json", json, "Print one JSON document instead of text");
        app.add_flag("--quiet", quiet, "Print errors only");
    }
};

void add_convert(CLI::App& app, context& shared);
void add_inspect(CLI::App& app, context& shared);
void add_verify(CLI::App& app, context& shared);
void add_diff(CLI::App& app, context& shared);
void add_gen_config(CLI::App& app, context& shared);
void add_package(CLI::App& app, context& shared);
void add_chat_template(CLI::App& app, context& shared);
void add_serve(CLI::App& app, context& shared);
void add_doctor(CLI::App& app, context& shared);
void add_check(CLI::App& app, context& shared);
void add_gpu(CLI::App& app, context& shared);
void add_export_onnx(CLI::App& app, context& shared);
void add_quantize_onnx(CLI::App& app, context& shared);

}  // namespace nibble::command
