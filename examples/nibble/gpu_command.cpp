// SPDX-License-Identifier: Apache-2.0
// `nibble gpu`: kernels as text or SPIR-V with their manifests, checked and timed on a device.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <variant>

#include "commands.hpp"
#include "gpu_catalog.hpp"
#include "gpu_device.hpp"
#include "nibble/gpu/glsl.hpp"
#include "nibble/gpu/job.hpp"
#include "nibble/gpu/presets.hpp"
#include "nibble/gpu/wgsl.hpp"
#include "terminal.hpp"

namespace nibble::command {

namespace {

/// A kernel's text, or its SPIR-V, in the form that the user names.
result<std::string> kernel_text(const gpu::program& p, const std::string& form) {
    if (form == "wgsl") return gpu::to_wgsl(p);
    if (form == "wgsl-wgpu") return gpu::to_wgsl(p, gpu::wgsl_flavour::wgpu);
    if (form == "glsl") return gpu::to_glsl(p);
    const auto words = gpu_spirv(p);
    if (!words) return fail(words.error());
    return std::string(reinterpret_cast<const char*>(words->data()), words->size() * 4);
}

result<void> write_text(const std::filesystem::path& path, std::string_view text) {
    std::ofstream file(path, std::ios::binary);
    file.write(text.data(), static_cast<std::streamsize>(text.size()));
    file.close();
    if (!file) return fail(error{errc::io, "it cannot be written: " + std::string(std::strerror(errno)), path.string(), {}, {}, {}});
    return {};
}

void add_list(CLI::App& app, context& shared) {
    auto* sub = app.add_subcommand("list", "List kernels, codecs, and the Vulkan devices of this machine");
    shared.add_flags(*sub);
    sub->callback([&shared] {
        const auto devices = gpu_devices();
        if (shared.json) {
            json document{{"kernels", json::array()}, {"codecs", gpu::catalog_codecs()}, {"devices", json::array()}};
            for (const auto& k : gpu::catalog_kernels())
                document["kernels"].push_back({{"name", k.name}, {"purpose", k.purpose}, {"reads_weights", k.reads_weights}});
            if (devices) {
                for (const auto& d : *devices)
                    document["devices"].push_back({{"name", d.name}, {"driver", d.driver}, {"kind", d.kind}, {"features", d.features}});
            } else {
                document["devices_problem"] = devices.error().message();
            }
            return print_json(document);
        }
        if (shared.quiet) return;
        for (const auto& k : gpu::catalog_kernels()) std::printf("%-22s %s\n", k.name.c_str(), k.purpose.c_str());
        std::string codecs;
        for (const auto& c : gpu::catalog_codecs()) codecs += (codecs.empty() ? "" : " ") + c;
        std::printf("\ncodecs: %s\n", codecs.c_str());
        if (!devices) return print_note(devices.error().message());
        std::size_t at = 0;
        for (const auto& d : *devices) {
            std::string features;
            for (const auto& f : d.features) features += ", " + f;
            std::printf("device %zu: %s (%s)%s\n", at++, d.name.c_str(), d.kind.c_str(), features.c_str());
        }
        if (devices->empty()) std::printf("no Vulkan device\n");
    });
}

[[nodiscard]] std::string preset_names() {
    std::string names;
    for (const auto& p : gpu::presets) names += (names.empty() ? "" : ", ") + std::string(p.vendor);
    return names;
}

/// Options for the members of kernel_spec, from its table: a member is a row there and an option here.
void add_spec_options(CLI::App& sub, const std::shared_ptr<gpu::kernel_spec>& spec, const std::shared_ptr<std::string>& preset) {
    for (const auto& field : gpu::spec_fields) {
        std::string flag(field.name);
        std::replace(flag.begin(), flag.end(), '_', '-');
        const auto add = [&](auto& value) {
            if constexpr (std::is_same_v<std::remove_reference_t<decltype(value)>, bool>)
                sub.add_flag("--" + flag, value, std::string(field.meaning));
            else
                sub.add_option("--" + flag, value, std::string(field.meaning));
        };
        std::visit(
            [&](auto member) {
                if constexpr (std::is_invocable_v<decltype(member), gpu::kernel_spec&>)
                    add(std::invoke(member, *spec));
                else
                    add(std::invoke(member, spec->tune));
            },
            field.member);
    }
    static const std::map<std::string, gpu::scalar> types{{"f16", gpu::scalar::f16}, {"f32", gpu::scalar::f32}};
    static const std::map<std::string, gpu::activation> activations{
        {"none", gpu::activation::none}, {"silu", gpu::activation::silu}, {"gelu", gpu::activation::gelu}};
    sub.add_option("--type", spec->activations, "The type of what is no weight: f32 or f16")->transform(CLI::CheckedTransformer(types));
    sub.add_option("--activation", spec->act, "What is applied to sums: none, silu or gelu")->transform(CLI::CheckedTransformer(activations));
    sub.add_option("--preset", *preset, "Tuning for a vendor: " + preset_names());
}

void add_emit(CLI::App& app, context& shared) {
    struct emit_arguments {
        std::string kernel, codec = "q4f16_1", form = "wgsl", out;
    };
    auto a = std::make_shared<emit_arguments>();
    auto spec = std::make_shared<gpu::kernel_spec>();
    auto preset = std::make_shared<std::string>();
    auto* sub = app.add_subcommand("emit", "Print a kernel, or write it beside its manifest");
    sub->add_option("kernel", a->kernel, "Its name, see `nibble gpu list`")->required();
    sub->add_option("--codec", a->codec, "The codec of the weights")->capture_default_str();
    sub->add_option("--to", a->form, "wgsl (browsers), wgsl-wgpu (naga), glsl or spirv")
        ->check(CLI::IsMember({"wgsl", "wgsl-wgpu", "glsl", "spirv"}))
        ->capture_default_str();
    sub->add_option("-o,--output", a->out, "Write it to this file, and its manifest to FILE.json");
    add_spec_options(*sub, spec, preset);
    shared.add_flags(*sub);
    sub->callback([a, spec, preset, &shared] {
        if (!preset->empty()) {
            const auto* known = gpu::find_preset(*preset);
            if (known == nullptr)
                return print_failure(shared, error{errc::unsupported, "there is no preset \"" + *preset + "\"", {}, {}, {}, "known are " + preset_names()});
            spec->tune = known->tune;
        }
        const auto program = gpu::catalog_build(a->kernel, a->codec, *spec);
        if (!program) return print_failure(shared, program.error());
        const auto text = kernel_text(*program, a->form);
        if (!text) return print_failure(shared, text.error());
        if (a->out.empty()) {
            if (shared.json) return print_json({{"text", *text}, {"manifest", json::parse(program->manifest.json())}});
            std::fwrite(text->data(), 1, text->size(), stdout);
            return;
        }
        for (const auto& [path, content] : {std::pair(a->out, *text), std::pair(a->out + ".json", program->manifest.json() + "\n")}) {
            if (auto written = write_text(path, content); !written) return print_failure(shared, std::move(written.error()));
        }
    });
}

struct selection {
    std::vector<std::string> kernels, codecs;
    bool quick = false;

    void add_options(CLI::App& sub) {
        sub.add_option("--kernel", kernels, "Only these kernels");
        sub.add_option("--codec", codecs, "Only these codecs (kernels without weights are taken all the same)");
        sub.add_flag("--quick", quick, "One trial of each kernel and codec");
    }
    [[nodiscard]] result<std::vector<gpu::catalog_entry>> entries() const {
        const auto wanted = [](const std::vector<std::string>& names, const std::string& name) {
            return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
        };
        std::vector<gpu::catalog_entry> chosen;
        for (const auto& e : gpu::catalog()) {
            if (!wanted(kernels, e.kernel) || !(e.codec.empty() || wanted(codecs, e.codec))) continue;
            if (quick && !chosen.empty() && chosen.back().kernel == e.kernel && chosen.back().codec == e.codec) continue;
            chosen.push_back(e);
        }
        if (chosen.empty()) return fail(error{errc::unsupported, "there is nothing of that name", {}, {}, {}, "`nibble gpu list` names kernels and codecs"});
        return chosen;
    }
};

/// Everything that a runner in another language needs: texts, a list of jobs with manifests, inputs and expected outputs.
void add_trials(CLI::App& app, context& shared) {
    struct trial_arguments {
        std::string out;
        selection only;
        bool texts_only = false;
    };
    auto a = std::make_shared<trial_arguments>();
    auto* sub = app.add_subcommand("trials", "Write every kernel that is tried, with its inputs and what it must give, for a runner of yours");
    sub->add_option("-o,--output", a->out, "A folder")->required();
    a->only.add_options(*sub);
    sub->add_flag("--texts-only", a->texts_only, "Texts and manifests, no data");
    shared.add_flags(*sub);
    sub->callback([a, &shared] {
        const auto entries = a->only.entries();
        if (!entries) return print_failure(shared, entries.error());
        const std::filesystem::path folder = a->out;
        std::error_code ec;
        std::filesystem::create_directories(folder, ec);
        if (ec) return print_failure(shared, error{errc::io, ec.message(), folder.string(), {}, {}, {}});
        json jobs = json::array();
        std::size_t number = 0;
        for (const auto& entry : *entries) {
            const auto program = entry.build();
            const std::string base = entry.kernel + (entry.codec.empty() ? "" : "-" + entry.codec) + "-" + std::to_string(number++);
            const auto example = a->texts_only ? gpu::example{} : entry.make_example();
            auto made = gpu::make_job(entry.text(), base, program, a->texts_only ? nullptr : &example);
            auto job = json::parse(made.json);
            if (const auto words = gpu_spirv(program)) {
                job["spirv"] = base + ".spv";
                made.files.emplace_back(base + ".spv", std::string(reinterpret_cast<const char*>(words->data()), words->size() * 4));
            } else if (words.error().code != errc::unsupported) {
                return print_failure(shared, error(words.error()).in_tensor(entry.text()));
            }
            for (const auto& [name, content] : made.files) {
                if (auto written = write_text(folder / name, content); !written) return print_failure(shared, std::move(written.error()));
            }
            jobs.push_back(std::move(job));
        }
        if (auto written = write_text(folder / "jobs.json", jobs.dump(1) + "\n"); !written) return print_failure(shared, std::move(written.error()));
        if (shared.json) return print_json({{"jobs", jobs.size()}, {"file", (folder / "jobs.json").string()}});
        if (!shared.quiet) std::printf("%zu kernels in %s\n", jobs.size(), (folder / "jobs.json").c_str());
    });
}

void add_check(CLI::App& app, context& shared, const std::shared_ptr<std::string>& device) {
    auto only = std::make_shared<selection>();
    auto* sub = app.add_subcommand("check", "Run all kernels on a device and compare them with the scalar law");
    only->add_options(*sub);
    sub->add_option("--device", *device, "Its number, or a part of its name");
    shared.add_flags(*sub);
    sub->callback([only, device, &shared] {
        const auto entries = only->entries();
        if (!entries) return print_failure(shared, entries.error());
        struct line {
            std::size_t ran = 0, skipped = 0, wrong = 0;
            std::map<double, double> worst;  // by tolerance
        };
        std::vector<std::pair<std::string, line>> lines;
        error_list problems;
        progress_line progress(!shared.quiet && !shared.json);
        const auto checked = gpu_check(*device, *entries, [&](const gpu_checked& c) {
            if (lines.empty() || lines.back().first != c.kernel) lines.emplace_back(c.kernel, line{});
            auto& l = lines.back().second;
            if (!c.skipped.empty()) {
                ++l.skipped;
                return;
            }
            ++l.ran;
            auto& worst = l.worst[c.tolerance];
            worst = std::max(worst, c.deviation.error);
            if (c.deviation.error <= c.tolerance) return;
            ++l.wrong;
            problems.push_back({errc::mismatch,
                                number_text("its error is %.3g", c.deviation.error) + number_text(", at most %.3g is right", c.tolerance) + ": " +
                                    c.deviation.output + "[" + std::to_string(c.deviation.index) + "]",
                                {},
                                c.text,
                                {},
                                "the driver or the kernel is wrong: try another driver, and report it"});
        });
        if (!checked) return print_failure(shared, checked.error());
        json document{{"kernels", json::array()}, {"problems", command::to_json(problems)}};
        table rows({"kernel", "ran", "skipped", "wrong", "error (bound)"});
        for (const auto& [name, l] : lines) {
            std::string errors;
            json by_bound = json::array();
            for (const auto& [bound, worst] : l.worst) {
                errors += (errors.empty() ? "" : ", ") + number_text("%.1e", worst) + number_text(" (%.0e)", bound);
                by_bound.push_back({{"bound", bound}, {"error", worst}});
            }
            rows.row({name, std::to_string(l.ran), std::to_string(l.skipped), std::to_string(l.wrong), errors});
            document["kernels"].push_back({{"name", name}, {"ran", l.ran}, {"skipped", l.skipped}, {"wrong", l.wrong}, {"errors", by_bound}});
        }
        if (shared.json)
            print_json(document);
        else if (!shared.quiet)
            rows.print();
        print_remarks(shared, {}, {}, problems);
        if (!problems.empty()) shared.exit_code = exit_refused;
    });
}

void add_bench(CLI::App& app, context& shared, const std::shared_ptr<std::string>& device) {
    struct bench_arguments {
        std::vector<std::string> shapes{"4096x4096", "14336x4096", "4096x14336"};
        std::uint64_t working_set_mb = 512;
        gpu_bench_options options;
    };
    auto a = std::make_shared<bench_arguments>();
    a->options.codecs = {"q4f16_1"};
    a->options.batches = {512};
    static const std::map<std::string, gpu::scalar> types{{"f16", gpu::scalar::f16}, {"f32", gpu::scalar::f32}};
    auto* sub = app.add_subcommand("bench", "Time products on a device, beside what it reads in a second");
    sub->add_option("--device", *device, "Its number, or a part of its name");
    sub->add_option("--codec", a->options.codecs, "Codecs")->capture_default_str();
    sub->add_option("--shape", a->shapes, "Rows x columns of the weights")->capture_default_str();
    sub->add_option("--batch", a->options.batches, "Vectors of a GEMM")->capture_default_str();
    sub->add_option("--type", a->options.activations, "The type of activations: f32 or f16")->transform(CLI::CheckedTransformer(types));
    sub->add_option("--working-set", a->working_set_mb, "Megabytes that calls rotate over, more than caches hold")->capture_default_str();
    sub->add_flag("--tune", a->options.tune, "Try a grid of tunings, and show the fastest");
    shared.add_flags(*sub);
    sub->callback([a, device, &shared] {
        for (const auto& text : a->shapes) {
            unsigned n = 0, k = 0;
            int end = 0;
            if (std::sscanf(text.c_str(), "%ux%u%n", &n, &k, &end) != 2 || static_cast<std::size_t>(end) != text.size() || n == 0 || k == 0) {
                return print_failure(shared, error{errc::malformed, "\"" + text + "\" is no shape", {}, {}, {}, "write it as 4096x4096"});
            }
            a->options.shapes.emplace_back(n, k);
        }
        a->options.device = *device;
        a->options.working_set = a->working_set_mb << 20;
        const auto report = gpu_bench(a->options, [&](const gpu_timed& row) {
            if (!shared.quiet && !shared.json)
                std::fprintf(stderr, "%s %s %s: %.3f ms\n", row.kernel.c_str(), row.codec.c_str(), row.shape.c_str(), row.seconds * 1e3);
        });
        if (!report) return print_failure(shared, report.error());
        const double roof = report->stream_bytes_per_second;
        json document{{"device", report->device}, {"software", report->software}, {"stream_bytes_per_second", roof}, {"rows", json::array()}};
        table rows({"kernel", "codec", "shape", "ms", "GB/s", "of stream_read", "GFLOP/s", "tuning"});
        for (const auto& r : report->rows) {
            const double rate = r.bytes / r.seconds;
            rows.row({r.kernel, r.codec, r.shape, number_text("%.3f", r.seconds * 1e3), number_text("%.1f", rate / 1e9),
                      number_text("%.0f %%", 100 * rate / roof), number_text("%.1f", r.operations / r.seconds / 1e9), r.tuning});
            document["rows"].push_back({{"kernel", r.kernel},
                                        {"codec", r.codec},
                                        {"shape", r.shape},
                                        {"seconds", r.seconds},
                                        {"bytes", r.bytes},
                                        {"operations", r.operations},
                                        {"tuning", r.tuning}});
        }
        if (shared.json) return print_json(document);
        if (shared.quiet) return;
        std::printf("%s reads %.1f GB/s (stream_read)\n", report->device.c_str(), roof / 1e9);
        rows.print();
        if (report->software) print_note("this device is a CPU: its figures say nothing about GPUs");
    });
}

}  // namespace

void add_gpu(CLI::App& app, context& shared) {
    auto* sub = app.add_subcommand("gpu", "Generate GPU kernels, check and time them");
    sub->require_subcommand(1);
    auto device = std::make_shared<std::string>();
    add_list(*sub, shared);
    add_emit(*sub, shared);
    add_trials(*sub, shared);
    add_check(*sub, shared, device);
    add_bench(*sub, shared, device);
}

}  // namespace nibble::command
