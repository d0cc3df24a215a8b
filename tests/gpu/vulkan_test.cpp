// SPDX-License-Identifier: Apache-2.0
#include "nibble/gpu/vulkan.hpp"

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>

#include "nibble/core/file.hpp"
#include "nibble/core/number.hpp"
#include "support/catch.hpp"
#include "support/gpu_manifest.hpp"
#ifdef NIBBLE_TEST_SPIRV
#include "nibble/gpu/spirv.hpp"
#endif

using namespace nibble;
using namespace nibble::gpu;
using namespace std::string_literals;

namespace {

std::string kernel_file(const std::string& name) {
    const auto bytes = read_file(NIBBLE_TEST_DATA "/gpu/kernels/" + name, 1 << 20);
    REQUIRE(bytes);
    return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

manifest manifest_named(const std::string& name) { return test::manifest_of(json::parse(kernel_file(name + ".json"))); }

template <class T>
std::vector<std::byte> bytes_of_all(const std::vector<T>& values) {
    std::vector<std::byte> bytes(values.size() * sizeof(T));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
}

template <class T>
std::vector<T> values_of(const std::vector<std::byte>& bytes, std::size_t n) {
    REQUIRE(bytes.size() >= n * sizeof(T));
    std::vector<T> values(n);
    std::memcpy(values.data(), bytes.data(), n * sizeof(T));
    return values;
}

/// The device of the tests; none, and the reason on the console, where there is none.
std::optional<vulkan_device> device_here(bool validate = false) {
    auto device = vulkan_device::open({}, validate);
    if (device) return std::move(*device);
    INFO(device.error().message());
    REQUIRE(device.error().code == errc::missing);
    std::cerr << "skipped: " << device.error().message() << '\n';
    return std::nullopt;
}

}  // namespace

TEST_CASE("vulkan: devices say what they are") {
    const auto all = list_vulkan_devices();
    REQUIRE(all);
    for (const auto& d : *all) {
        CHECK(d.index == static_cast<std::size_t>(&d - all->data()));
        CHECK_FALSE(d.name.empty());
        CHECK(d.version >= VK_API_VERSION_1_1);
        // What Vulkan promises of every device.
        CHECK(d.limits.max_binding_bytes >= 1u << 27);
        CHECK(d.limits.max_workgroups >= 65535);
        CHECK(d.limits.max_workgroup_bytes >= 16384);
        CHECK(d.limits.max_invocations >= 128);
        CHECK(d.limits.max_storage_buffers >= 4);
        CHECK(d.limits.binding_alignment <= 256);
        CHECK(d.push_constant_bytes >= 128);
        CHECK(d.memory_bytes > 0);
        CHECK(d.subgroup_size >= 1);

        const auto by_index = vulkan_device::open(std::to_string(d.index));
        REQUIRE(by_index);
        CHECK(by_index->info().name == d.name);
        std::string loud = d.name;
        for (char& c : loud) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
        const auto by_name = vulkan_device::open(loud);
        REQUIRE(by_name);
        CHECK(by_name->info().name == d.name);
    }
    if (!all->empty()) {
        const auto none = vulkan_device::open("teapot");
        REQUIRE_FALSE(none);
        CHECK(none.error().code == errc::missing);
        CHECK(none.error().message().find("'teapot'; there are 0 " + all->front().name) != std::string::npos);
        CHECK_FALSE(vulkan_device::open(std::to_string(all->size())));
    }
}

TEST_CASE("vulkan: without a driver there is no device, and a sentence") {
    constexpr std::array<const char*, 2> variables{"VK_DRIVER_FILES", "VK_ICD_FILENAMES"};  // the second by older loaders
    std::array<std::optional<std::string>, 2> before;
    for (std::size_t i = 0; i < 2; ++i) {
        if (const char* value = std::getenv(variables[i])) before[i] = value;
        setenv(variables[i], "/nonexistent/driver.json", 1);
    }
    const auto all = list_vulkan_devices();
    const auto device = vulkan_device::open();
    for (std::size_t i = 0; i < 2; ++i) {
        before[i] ? setenv(variables[i], before[i]->c_str(), 1) : unsetenv(variables[i]);
    }
    REQUIRE(all);
    CHECK(all->empty());
    REQUIRE_FALSE(device);
    CHECK(device.error().code == errc::missing);
    CHECK(device.error().message().find("install a Vulkan driver") != std::string::npos);
}

TEST_CASE("vulkan: buffers are zero, and bytes come back") {
    const auto device = device_here();
    if (!device) return;
    const auto buffer = device->make_buffer(7);
    REQUIRE(buffer);
    CHECK(buffer->n_bytes() == 8);
    std::vector<std::byte> got(8, std::byte{1});
    REQUIRE(device->download(*buffer, got));
    CHECK(got == std::vector<std::byte>(8));
    const std::array<std::byte, 3> some{std::byte{1}, std::byte{2}, std::byte{3}};
    REQUIRE(device->upload(some, *buffer, 2));
    REQUIRE(device->download(*buffer, got));
    CHECK(got == std::vector<std::byte>{std::byte{0}, std::byte{0}, std::byte{1}, std::byte{2}, std::byte{3}, std::byte{0}, std::byte{0}, std::byte{0}});

    for (const auto& r : {device->upload(some, *buffer, 6), device->upload(some, *buffer, UINT64_MAX), device->download(*buffer, got, 1)}) {
        REQUIRE_FALSE(r);
        CHECK(r.error().code == errc::mismatch);
        CHECK(r.error().rule.find("in a buffer of 8 bytes") != std::string::npos);
    }

    // More than is copied at once.
    std::vector<std::uint32_t> many((40u << 20) / 4 + 1);
    for (std::size_t i = 0; i < many.size(); ++i) many[i] = static_cast<std::uint32_t>(i * 2654435761u);
    const auto large = device->make_buffer(many.size() * 4);
    REQUIRE(large);
    REQUIRE(device->upload(std::as_bytes(std::span(many)), *large));
    std::vector<std::uint32_t> back(many.size());
    REQUIRE(device->download(*large, std::as_writable_bytes(std::span(back))));
    CHECK((back == many));

    const auto absurd = device->make_buffer(std::uint64_t{1} << 60);
    REQUIRE_FALSE(absurd);
    CHECK(absurd.error().message().find("1152921504606846976 bytes") != std::string::npos);
    CHECK_FALSE(device->make_buffer(UINT64_MAX));
}

TEST_CASE("vulkan: what is no SPIR-V, or not for this device, is refused with a sentence") {
    const auto device = device_here();
    if (!device) return;
    manifest m = manifest_named("add");
    const auto refused = [&](const std::vector<std::uint32_t>& spirv, const constant_values& constants = {}) {
        const auto r = device->make_pipeline(m, spirv, constants);
        REQUIRE_FALSE(r);
        return r.error().message();
    };
    CHECK(refused({}).find("no SPIR-V") != std::string::npos);
    CHECK(refused({1, 2, 3, 4, 5, 6}).find("24 bytes that are no SPIR-V") != std::string::npos);
    CHECK(refused({0x07230203, 0x10900, 0, 1, 0}).find("SPIR-V 1.9") != std::string::npos);
    CHECK(refused({0x07230203, 0x10300, 0, 1, 0}, {{"teapot", 1}}) == "kernel 'add' has no constant 'teapot'");
    m.parameters.assign(device->info().push_constant_bytes / 4 + 1, {"p", scalar::u32, formula(1)});
    CHECK(refused({0x07230203, 0x10300, 0, 1, 0}).find(std::to_string(m.parameters.size() * 4) + " bytes of parameters") != std::string::npos);
    m.features = {true, true, true, true, true};
    if (const std::string names = lacking(m.features, device->info().features); !names.empty()) {
        CHECK(refused({0x07230203, 0x10300, 0, 1, 0}).find("needs " + names + ", which the device ") != std::string::npos);
    }
}

#ifdef NIBBLE_TEST_SPIRV
namespace {

std::vector<std::uint32_t> spirv_named(const std::string& name) {
    const auto words = compile_glsl(kernel_file(name + ".comp"), name);
    REQUIRE(words);
    return *words;
}

/// Runs `add` for n elements and compares.
void check_add(const vulkan_device& device, std::size_t n, const device_limits& limits) {
    INFO(n);
    std::vector<float> a(n);
    std::vector<float> b(n);
    for (std::size_t i = 0; i < n; ++i) {
        a[i] = static_cast<float>(i);
        b[i] = 0.5F * static_cast<float>(i % 7);
    }
    kernel_call call{{{"n", n}}, {}, {}, {bytes_of_all(a), bytes_of_all(b), {}}};
    const auto seconds = run_kernel(device, manifest_named("add"), spirv_named("add"), call, limits);
    INFO((seconds ? "" : seconds.error().message()));
    REQUIRE(seconds);
    CHECK(seconds->size() == (device.info().timestamps ? 1 : 0));
    const auto sum = values_of<float>(call.buffers[2], n);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < n; ++i) wrong += sum[i] == a[i] + b[i] ? 0 : 1;
    CHECK(wrong == 0);
}

/// y = 0.5 x + constant in f16.
void check_scale(const vulkan_device& device, std::size_t n, std::optional<std::uint32_t> offset) {
    std::vector<std::uint16_t> x(n);
    for (std::size_t i = 0; i < n; ++i) x[i] = to_f16(static_cast<float>(i % 512)).bits;
    kernel_call call{{{"n", n}}, {{"factor", 0.5}}, {}, {bytes_of_all(x), {}}};
    if (offset) call.constants = {{"offset", *offset}};
    const auto seconds = run_kernel(device, manifest_named("scale"), spirv_named("scale"), call);
    INFO((seconds ? "" : seconds.error().message()));
    REQUIRE(seconds);
    const auto y = values_of<std::uint16_t>(call.buffers[1], n);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < n; ++i) {
        wrong += y[i] == to_f16(0.5F * static_cast<float>(i % 512) + static_cast<float>(offset.value_or(1))).bits ? 0 : 1;
    }
    CHECK(wrong == 0);
}

/// Sums of rows; the seconds of each dispatch.
std::vector<double> check_row_sum(const vulkan_device& device, std::size_t n, std::size_t k, const device_limits& limits) {
    INFO(n << " x " << k);
    std::vector<std::uint32_t> w(n * k);
    std::vector<std::uint32_t> bias(n);
    std::vector<std::uint32_t> expected(n);
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<std::uint32_t>(i * 2654435761u);
    for (std::size_t row = 0; row < n; ++row) {
        bias[row] = static_cast<std::uint32_t>(row * 1000003u);
        expected[row] = bias[row];
        for (std::size_t i = 0; i < k; ++i) expected[row] += w[row * k + i];
    }
    kernel_call call{{{"n", n}, {"k", k}}, {}, {}, {bytes_of_all(w), bytes_of_all(bias), {}}};
    const auto seconds = run_kernel(device, manifest_named("row_sum"), spirv_named("row_sum"), call, limits);
    INFO((seconds ? "" : seconds.error().message()));
    REQUIRE(seconds);
    CHECK((values_of<std::uint32_t>(call.buffers[2], n) == expected));
    return *seconds;
}

}  // namespace

TEST_CASE("vulkan: kernels run as their manifests say, and the validation layer has nothing to say") {
    const auto device = device_here(true);
    if (!device) return;
    if (!device->is_validating()) std::cerr << "Vulkan's validation layer is not installed: nobody reads along\n";
    device_limits limits = device->info().limits;
    for (const std::size_t n : {1u, 63u, 64u, 65u, 10001u}) check_add(*device, n, limits);
    limits.max_workgroups = 7;
    for (const std::size_t n : {448u, 449u, 10001u}) check_add(*device, n, limits);

    if (device->info().features.f16) {
        for (const std::size_t n : {1u, 2u, 3u, 1001u}) check_scale(*device, n, std::nullopt);
        check_scale(*device, 33, 20u);
    } else {
        std::cerr << "skipped: kernels in f16, which " << device->info().name << " lacks\n";
    }

    if (device->info().features.subgroups) {
        check_row_sum(*device, 1, 4, device->info().limits);
        check_row_sum(*device, 33, 132, device->info().limits);
        limits.max_binding_bytes = 20000;
        limits.max_workgroups = 5;
        const auto seconds = check_row_sum(*device, 517, 100, limits);
        CHECK(seconds.size() == (device->info().timestamps ? (517 * 400 - 1) / 19200 + 1 : 0));
    } else {
        std::cerr << "skipped: kernels of subgroups, which " << device->info().name << " lacks\n";
    }
    for (const auto& message : device->validation_messages()) FAIL_CHECK(message);
}

TEST_CASE("vulkan: the validation layer is heard") {
    const auto device = device_here(true);
    if (!device || !device->is_validating()) return;
    manifest m = manifest_named("add");
    m.bindings.pop_back();  // the shader has one more
    (void)device->make_pipeline(m, spirv_named("add"));
    CHECK_FALSE(device->validation_messages().empty());
}

TEST_CASE("vulkan: a recording runs again, in order, and keeps alive what it uses") {
    auto device = device_here();
    if (!device) return;
    const manifest m = manifest_named("add");
    const auto dispatches = plan(m, {{"n", 100}}, device->info().limits);
    REQUIRE(dispatches);
    std::vector<vulkan_buffer> buffers;
    for (int i = 0; i < 2; ++i) {
        auto b = device->make_buffer(400);
        REQUIRE(b);
        REQUIRE(device->upload(bytes_of_all(std::vector<float>(100, 1.0F)), *b));
        buffers.push_back(*b);
    }
    std::optional<vulkan_recording> recording;
    {
        const auto pipeline = device->make_pipeline(m, spirv_named("add"));
        REQUIRE(pipeline);
        // b = a + b, twice, and then a = b + b.
        const vulkan_step step{*pipeline, dispatches->front(), {buffers[0], buffers[1], buffers[1]}};
        auto made = device->record({step, step, {*pipeline, dispatches->front(), {buffers[1], buffers[1], buffers[0]}}});
        REQUIRE(made);
        recording = std::move(*made);
    }
    for (int i = 0; i < 3; ++i) {
        const auto seconds = device->run(*recording);
        REQUIRE(seconds);
        if (!device->info().timestamps) continue;
        REQUIRE(seconds->size() == 3);
        for (const double s : *seconds) {
            CHECK(s >= 0);
            CHECK(s < 60);
        }
    }
    // (a, b) = (1, 1) -> (6, 3) -> (30, 15) -> (150, 75)
    std::vector<std::byte> got(400);
    REQUIRE(device->download(buffers[0], got));
    CHECK(values_of<float>(got, 100) == std::vector<float>(100, 150.0F));
    REQUIRE(device->download(buffers[1], got));
    CHECK(values_of<float>(got, 100) == std::vector<float>(100, 75.0F));
    device.reset();
}

TEST_CASE("vulkan: a step that does not fit is refused with a sentence") {
    const auto device = device_here();
    if (!device) return;
    const manifest m = manifest_named("add");
    const auto pipeline = device->make_pipeline(m, spirv_named("add"));
    REQUIRE(pipeline);
    const auto dispatches = plan(m, {{"n", 100}}, device->info().limits);
    REQUIRE(dispatches);
    const auto small = device->make_buffer(396);
    REQUIRE(small);
    const auto large = device->make_buffer(400);
    REQUIRE(large);
    const auto refused = [&](dispatch what, std::vector<vulkan_buffer> buffers) {
        const auto r = device->record({{*pipeline, std::move(what), std::move(buffers)}});
        REQUIRE_FALSE(r);
        CHECK(r.error().code == errc::mismatch);
        return r.error().message();
    };
    const dispatch good = dispatches->front();
    REQUIRE(device->record({{*pipeline, good, {*large, *large, *large}}}));
    REQUIRE(device->record({}));
    CHECK(refused(good, {*large, *large}).find("binds 2 buffers, the kernel takes 3") != std::string::npos);
    CHECK(refused(good, {*large, *large, *small}).find("cannot bind 400 bytes from byte 0 on of its buffer 2, which has 396") != std::string::npos);
    dispatch bad = good;
    bad.parameters.clear();
    CHECK(refused(bad, {*large, *large, *large}).find("has 0 parameters, the kernel takes 1") != std::string::npos);
    bad = good;
    bad.grid[1] = 0;
    CHECK(refused(bad, {*large, *large, *large}).find("grid of 0") != std::string::npos);
    bad = good;
    bad.bindings[1] = {1, 4};
    if (device->info().limits.binding_alignment > 1) CHECK(refused(bad, {*large, *large, *large}).find("from byte 1 on") != std::string::npos);

    kernel_call call{{{"n", 4}}, {}, {}, {{}, {}}};
    CHECK(run_kernel(*device, m, spirv_named("add"), call).error().message() == "kernel 'add' binds 3 buffers, 2 are given");
    call.buffers = {std::vector<std::byte>(20), {}, {}};
    CHECK(run_kernel(*device, m, spirv_named("add"), call).error().message() == "kernel 'add' reads 16 bytes of its buffer 'a', 20 are given");
    call.parameters = {{"n", 4}};
    CHECK(run_kernel(*device, m, spirv_named("add"), call).error().message().find("takes no parameter 'n'") != std::string::npos);
    call.sizes.clear();
    CHECK(run_kernel(*device, m, spirv_named("add"), call).error().code == errc::missing);
}

TEST_CASE("vulkan: nothing to compute is nothing to run") {
    const auto device = device_here();
    if (!device || !device->info().features.subgroups) return;
    kernel_call call{{{"n", 0}, {"k", 4}}, {}, {}, {{}, {}, {}}};
    const auto seconds = run_kernel(*device, manifest_named("row_sum"), spirv_named("row_sum"), call);
    REQUIRE(seconds);
    CHECK(seconds->empty());
}
#endif
