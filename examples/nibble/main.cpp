// SPDX-License-Identifier: Apache-2.0
// nibble: from a Hugging Face checkpoint to what a browser loads.

#include "commands.hpp"
#include "nibble/version.hpp"

int main(int argc, char** argv) {
    namespace command = nibble::command;
    CLI::App app{"Converts Hugging Face checkpoints to quantized formats that browsers load, and checks the result.", "nibble"};
    app.set_version_flag("--version", NIBBLE_VERSION);
    app.require_subcommand(1);
    app.failure_message(CLI::FailureMessage::help);

    command::context shared;
    command::add_convert(app, shared);
    command::add_inspect(app, shared);
    command::add_verify(app, shared);
    command::add_diff(app, shared);
    command::add_gen_config(app, shared);
    command::add_package(app, shared);
    command::add_chat_template(app, shared);
    command::add_serve(app, shared);
    command::add_doctor(app, shared);
    command::add_check(app, shared);
    command::add_gpu(app, shared);
    command::add_export_onnx(app, shared);
    command::add_quantize_onnx(app, shared);

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? command::exit_done : command::exit_usage;
    } catch (const std::exception& e) {  // no memory, most likely
        std::fprintf(stderr, "nibble: error: %s\n", e.what());
        return command::exit_refused;
    }
    return shared.exit_code;
}
