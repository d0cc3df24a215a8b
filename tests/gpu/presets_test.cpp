// SPDX-License-Identifier: Apache-2.0
#include "nibble/gpu/presets.hpp"

#include <bit>
#include <set>

#include "nibble/codec/affine.hpp"
#include "nibble/gpu/gemv.hpp"
#include "support/catch.hpp"

using namespace nibble;
using namespace nibble::gpu;

namespace {

std::string vendor_of(std::uint32_t id, std::string_view name = {}) { return std::string(preset_of(id, name).vendor); }

}  // namespace

TEST_CASE("presets: a device is known by its vendor id") {
    CHECK(vendor_of(0x10DE) == "nvidia");
    CHECK(vendor_of(0x1002) == "amd");
    CHECK(vendor_of(0x1022) == "amd");
    CHECK(vendor_of(0x8086) == "intel");
    CHECK(vendor_of(0x106B) == "apple");
    CHECK(vendor_of(0x5143) == "qualcomm");
    CHECK(vendor_of(0x10005) == "software");
    CHECK(vendor_of(0x1AE0) == "software");
    CHECK(vendor_of(0) == "general");
    CHECK(vendor_of(0x13B5) == "general");
    CHECK(vendor_of(0x8086, "AMD Radeon RX 7900 XTX (RADV NAVI31)") == "intel");  // the id is the better witness
}

TEST_CASE("presets: where the id is not known, by a word of the name") {
    for (const auto& [name, vendor] :
         {std::pair("NVIDIA GeForce RTX 4070", "nvidia"), std::pair("Tesla T4", "nvidia"),
          std::pair("Microsoft Direct3D12 (NVIDIA GeForce RTX 3060)", "nvidia"), std::pair("AMD Radeon RX 7900 XTX", "amd"),
          std::pair("Radeon(TM) 780M", "amd"), std::pair("Intel(R) Arc(tm) A770 Graphics (DG2)", "intel"), std::pair("Apple M2 Pro", "apple"),
          std::pair("Adreno (TM) 740", "qualcomm"), std::pair("llvmpipe (LLVM 15.0.6, 256 bits)", "software"),
          std::pair("SwiftShader Device (Subzero)", "software"), std::pair("Microsoft Basic Render Driver", "software"), std::pair("qualcomm", "qualcomm"),
          std::pair("", "general"), std::pair("Mali-G715", "general"), std::pair("Pineapple", "general"), std::pair("Camd 3", "general"),
          std::pair("basic", "general"), std::pair("intern", "general")}) {
        INFO(name);
        CHECK(vendor_of(0, name) == vendor);
    }
}

TEST_CASE("presets: a device of software stays one under the id of another vendor") {
    CHECK(vendor_of(0x8086, "llvmpipe (LLVM 15.0.6, 256 bits)") == "software");
    CHECK(vendor_of(0x10DE, "SwiftShader Device (LLVM 10.0.0)") == "software");
}

TEST_CASE("presets: every vendor has one, by a name and ids that no other has") {
    std::set<std::string_view> vendors;
    std::set<std::uint32_t> ids;
    for (const preset& p : presets) {
        INFO(p.vendor);
        CHECK(vendors.insert(p.vendor).second);
        CHECK(find_preset(p.vendor) == &p);
        for (const auto id : p.ids) CHECK((id == 0 || ids.insert(id).second));
        for (const auto word : p.names) CHECK((word.empty() || &preset_of(0, word) == &p));
    }
    CHECK(find_preset("nobody") == nullptr);
    CHECK(presets.back().vendor == "general");
}

TEST_CASE("presets: subgroups are used where they are wished for and offered") {
    const preset& amd = *find_preset("amd");
    feature_set offered;
    CHECK_FALSE(tuned(amd, offered).subgroups);
    offered.subgroups = true;
    CHECK_FALSE(tuned(amd, offered).subgroups);  // the kernels ask for the number of a subgroup too
    offered.subgroup_id = true;
    CHECK(tuned(amd, offered).subgroups);
    CHECK(tuned(amd, offered).lanes_k == 64);
    CHECK_FALSE(tuned(*find_preset("intel"), offered).subgroups);
}

TEST_CASE("presets: kernels tuned so respect the limits that every device has") {
    feature_set offered;
    offered.subgroups = offered.subgroup_id = true;
    for (const preset& p : presets) {
        for (const feature_set& has : {feature_set{}, offered}) {
            INFO(p.vendor << (has.subgroups ? " with subgroups" : ""));
            kernel_spec spec;
            spec.tune = tuned(p, has);
            const tuning& t = spec.tune;
            CHECK(std::has_single_bit(t.lanes_k));
            CHECK(t.lanes_k >= t.rows_per_lane);
            CHECK((!t.subgroups || t.lanes_n == 1));
            CHECK(std::has_single_bit(t.workgroup));
            for (const std::uint32_t columns : {1u, 8u}) {
                spec.columns = columns;
                const auto built = gemv::build<q4f16_1>(spec, "q4f16_1");
                CHECK(lacking(built.manifest.features, has).empty());
                const auto dispatches = plan(built.manifest, {{"n", 4096}, {"k", 4096}});
                INFO((dispatches ? "" : dispatches.error().message()));
                REQUIRE(dispatches);
                CHECK(dispatches->size() == 1);
            }
        }
    }
}
