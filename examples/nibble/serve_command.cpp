// SPDX-License-Identifier: Apache-2.0
// `nibble serve`: a folder for WebLLM, over HTTP.

#include <csignal>
#include <memory>

#include "commands.hpp"
#include "nibble/model/model_libs.hpp"
#include "nibble/serve/page.hpp"
#include "nibble/serve/server.hpp"
#include "terminal.hpp"

namespace nibble::command {

namespace {

/// Reads a JSON object of the folder, wherever its layout has it.
std::optional<json> folder_json(const serve::site& site, const std::string& name) {
    const auto slash = name.find('/') + 1;  // of a pair's halves the hub layout lies below each
    for (const auto& place : {name, name.substr(0, slash) + "resolve/main/" + name.substr(slash)}) {
        const auto f = site.find(place);
        if (f == nullptr || f->size() > (16u << 20)) continue;
        std::vector<std::byte> scratch;
        const auto bytes = f->bytes(0, f->size(), scratch);
        auto value = bytes ? parse_json(*bytes) : result<json>(fail(bytes.error()));
        if (value && value->is_object()) return std::move(*value);
    }
    return std::nullopt;
}

/// The record that lies in the folder, or what its configuration tells of one.
void describe(const serve::site& site, serve::page_options& page) {
    if (const auto record = folder_json(site, "webllm-record.json")) {
        page.record = *record;
        return;
    }
    const auto config = folder_json(site, "mlc-chat-config.json");
    if (!config) {
        for (const auto* half : {"q4f16_1/", "q4f32_1/"}) {
            if (const auto record = folder_json(site, std::string(half) + "webllm-record.json"); record && record->contains("model_id"))
                page.notes.push_back("A package is below: " + std::string(half) + ", with a record and a card of its own.");
        }
        if (!page.notes.empty()) return;
        page.notes.push_back("There is no mlc-chat-config.json in the folder: WebLLM will not load it.");
        return;
    }
    const auto quantization =
        config->contains("quantization") && (*config)["quantization"].is_string() ? (*config)["quantization"].get<std::string>() : std::string();
    if (const auto query = model::library_query_of(*config)) {
        if (const auto library = model::find_library(*query, quantization)) {
            page.record["model_lib"] = library->url();
            page.notes.push_back("The library is the one for WebLLM " + model::newest_webllm.text() + "; other versions need another.");
        } else {
            page.notes.push_back("About the library: " + library.error().message() + ".");
        }
    }
    if (quantization.find("f16") != quantization.npos && quantization.find("bf16") == quantization.npos)
        page.record["required_features"] = json::array({"shader-f16"});
}

}  // namespace

void add_serve(CLI::App& app, context& shared) {
    struct arguments {
        std::string folder;
        serve::server_options server;
        bool isolate = false;
        bool log = false;
    };
    auto a = std::make_shared<arguments>();
    auto* sub = app.add_subcommand("serve", "Serve a folder to WebLLM: CORS, byte ranges, the Hub's paths, and a page with the record at /");
    sub->add_option("folder", a->folder, "A folder of MLC weights with its configuration")->required();
    sub->add_option("--port", a->server.port, "Port; 0: any that is free")->check(CLI::Range(0, 65535))->capture_default_str();
    sub->add_option("--host", a->server.host, "Address to listen on; 0.0.0.0 lets the whole network in")->capture_default_str();
    sub->add_flag("--cross-origin-isolate", a->isolate, "Send COOP and COEP, for pages that need SharedArrayBuffer");
    sub->add_flag("--log", a->log, "Print each request on stderr");
    shared.add_flags(*sub);
    sub->callback([a, &shared] {
        auto plain = serve::site::open(a->folder);
        if (!plain) return print_failure(shared, plain.error());
        serve::page_options options;
        describe(*plain, options);
        options.host = a->server.host + ":" + std::to_string(a->server.port);
        const auto page = std::make_shared<serve::front_page>(plain->home(), options);
        auto site = serve::site::open(a->folder, {.isolate = a->isolate, .front = [page](const serve::request& r) { return (*page)(r); }});
        if (!site) return print_failure(shared, site.error());
        if (a->log) {
            a->server.log = [](const serve::request& r, const serve::answer& answer) {
                std::fprintf(stderr, "%d %s %s %llu\n", answer.status, r.method.c_str(), r.target.c_str(), static_cast<unsigned long long>(answer.length()));
            };
        }
        // Every thread inherits the mask: the signals wait for sigwait below, wherever they arrive.
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGTERM);
        pthread_sigmask(SIG_BLOCK, &signals, nullptr);
        serve::server server(std::move(*site), a->server);
        if (auto started = server.start(); !started) return print_failure(shared, started.error());
        const auto host = a->server.host == "0.0.0.0"                     ? std::string("127.0.0.1")
                          : a->server.host.find(':') != std::string::npos ? "[" + a->server.host + "]"
                                                                          : a->server.host;
        const auto url = "http://" + host + ":" + std::to_string(server.port());
        if (shared.json)
            print_json({{"url", url}, {"folder", server.content().home().string()}});
        else if (!shared.quiet)
            std::printf("%s is served at %s (Ctrl-C ends it)\n", a->folder.c_str(), url.c_str());
        std::fflush(stdout);
        const bool loopback = a->server.host == "localhost" || a->server.host.starts_with("127.") || a->server.host == "::1";
        if (!loopback && !shared.quiet) print_note("anybody who reaches " + a->server.host + " may read the folder");
        int signal = 0;
        sigwait(&signals, &signal);
        server.stop();
    });
}

}  // namespace nibble::command
