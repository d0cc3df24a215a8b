// SPDX-License-Identifier: Apache-2.0
#include "nibble/onnx/reader.hpp"

#include <unistd.h>

#include "nibble/onnx/check.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"

using namespace nibble;
using namespace nibble::onnx;
using namespace nibble::test;

namespace {

/// A graph's bytes in a model's.
std::string model_bytes(const std::string& graph) {
    std::string bytes;
    pbf_writer w(bytes);
    w.add_int64(field::model::ir_version, 10);
    w.add_message(field::model::graph, graph);
    pbf_writer opset(w, field::model::opset_import);
    opset.add_int64(field::opset::version, 21);
    return bytes;
}

std::string read_error(const std::string& bytes) {
    const temp_folder folder;
    write_text(folder / "m.onnx", bytes);
    const auto f = file::open(folder / "m.onnx");
    REQUIRE(f);
    std::vector<std::byte> scratch;
    const auto m = read_model(*f, scratch);
    return m ? "" : m.error().message();
}

struct tensor_maker {
    std::string bytes;
    pbf_writer w{bytes};
    tensor_maker(std::vector<std::int64_t> dims, std::uint32_t type) {
        for (const auto d : dims) w.add_int64(field::tensor::dims, d);
        w.add_uint32(field::tensor::data_type, type);
        w.add_string(field::tensor::name, "w");
    }
    void external(const std::string& key, const std::string& value) {
        pbf_writer e(w, field::tensor::external_data);
        e.add_string(field::entry::key, key);
        e.add_string(field::entry::value, value);
    }
    [[nodiscard]] std::string model() const {
        std::string graph;
        pbf_writer g(graph);
        g.add_message(field::graph::initializer, bytes);
        return model_bytes(graph);
    }
};

/// What check_model finds in a model with one constant.
std::string check_error(const std::string& bytes, const temp_folder& folder, bool follow_links = false) {
    write_text(folder / "m.onnx", bytes);
    const auto f = file::open(folder / "m.onnx");
    std::vector<std::byte> scratch;
    const auto m = read_model(*f, scratch);
    if (!m) return m.error().message();
    external_files files(*m, follow_links);
    return all(check_model(*m, files));
}

}  // namespace

TEST_CASE("the wire format: what breaks a rule is an error with its byte", "[onnx]") {
    CHECK(has(read_error(""), "there is no graph"));
    CHECK(has(read_error("<!DOCTYPE html>"), "at byte"));
    const std::string eleven = "\x08" + std::string(10, '\xFF') + "\x01";
    CHECK(has(read_error(eleven), "more than 10 bytes"));
    CHECK(has(read_error(model_bytes("") + "\x42\x7F"), "longer than what is left"));
    CHECK(has(read_error(model_bytes("") + "\x42\xFF\xFF\xFF\xFF\x0F"), "longer than what is left"));
    CHECK(has(read_error(std::string("\x0B\x0C", 2)), "wire type"));  // a group
    CHECK(has(read_error(std::string("\x00", 1)), "number that cannot be"));
    CHECK(has(read_error("\x3D" + std::string(4, '\0')), "field 7 has wire type 5"));
    CHECK(has(read_error(model_bytes("") + model_bytes("")), "two graphs"));
    // The byte is the one in the file, not in the message
    const auto broken = model_bytes(std::string("\x0A\x02\x0A\x7F", 4));
    CHECK(has(read_error(broken), "at byte 6:"));
}

TEST_CASE("unknown fields are passed over, and all that is cut short is an error", "[onnx]") {
    tensor_maker t({2}, 1);
    t.w.add_bytes(field::tensor::raw_data, std::string(8, 'x'));
    auto bytes = t.model();
    pbf_writer w(bytes);
    w.add_string(999, "what nobody knows");
    w.add_fixed64(1000, 7);
    CHECK(read_error(bytes).empty());
    const auto whole = t.model();
    for (std::size_t n = 0; n < whole.size(); ++n) {
        INFO("cut to " << n << " bytes");
        CHECK(!read_error(whole.substr(0, n)).empty());
    }
}

TEST_CASE("graphs in graphs end somewhere", "[onnx]") {
    const auto nested = [](int depth) {
        std::string graph;
        for (int i = 0; i < depth; ++i) {
            std::string attribute;
            pbf_writer(attribute).add_message(field::attribute::g, graph);
            std::string node;
            pbf_writer(node).add_message(field::node::attribute, attribute);
            graph.clear();
            pbf_writer(graph).add_message(field::graph::node, node);
        }
        return model_bytes(graph);
    };
    CHECK(read_error(nested(60)).empty());
    CHECK(has(read_error(nested(64)), "nested deeper than 64"));
    CHECK(has(read_error(nested(2000)), "nested deeper than 64"));
}

TEST_CASE("a file of nothing but tiny fields does not fill the memory", "[onnx]") {
    std::string many;
    for (int i = 0; i < (1 << 24) + 2; ++i) many += std::string("\x0A\x00", 2);  // empty nodes
    CHECK(has(read_error(model_bytes(many)), "more than 16777216 nodes"));
    std::string ignored;
    for (int i = 0; i < 1 << 22; ++i) ignored += std::string("\xA0\x1F\x00", 3);  // unknown
    CHECK(read_error(model_bytes(ignored)).empty());
}

TEST_CASE("constants: their data are what shape and type promise", "[onnx]") {
    const auto error_of = [](const tensor_maker& t) { return read_error(t.model()); };
    const std::int64_t huge = std::int64_t{1} << 32;
    CHECK(has(error_of(tensor_maker({huge, huge, huge}, 1)), "more than 2^64"));
    CHECK(has(error_of(tensor_maker({huge, huge / 4}, 1)), "more than 2^64"));
    CHECK(has(error_of(tensor_maker({-1}, 1)), "negative"));
    CHECK(has(error_of(tensor_maker({1, 1, 1, 1, 1, 1, 1, 1, 1}, 1)), "more than 8 dimensions"));
    CHECK(has(error_of(tensor_maker({2}, 99)), "data_type 99 is unknown"));
    CHECK(has(error_of(tensor_maker({2}, 1)), "no data"));
    {
        tensor_maker t({2}, 1);
        t.w.add_bytes(field::tensor::raw_data, "1234567");
        CHECK(has(error_of(t), "raw_data has 7 bytes, shape [2] of f32 needs 8"));
    }
    {
        tensor_maker t({2}, 1);
        t.w.add_bytes(field::tensor::raw_data, "12345678");
        t.w.add_float(field::tensor::float_data, 1);
        CHECK(has(error_of(t), "more than one of"));
    }
    {
        tensor_maker t({2}, 1);
        t.w.add_bytes(field::tensor::raw_data, "12345678");
        t.w.add_bytes(field::tensor::raw_data, "12345678");
        CHECK(has(error_of(t), "raw_data twice"));
    }
    {
        tensor_maker t({3}, 1);
        t.w.add_float(field::tensor::float_data, 1);
        CHECK(has(error_of(t), "it has 1 values, shape [3] needs 3"));
        std::string packed;
        for (const float x : {2.0F, 3.0F}) packed.append(reinterpret_cast<const char*>(&x), 4);
        t.w.add_bytes(field::tensor::float_data, packed);
        CHECK(error_of(t).empty());
    }
    {
        tensor_maker t({3}, 22);  // INT4: three of them in two bytes
        t.w.add_bytes(field::tensor::raw_data, "ab");
        CHECK(error_of(t).empty());
    }
}

TEST_CASE("external data stay in the model's folder", "[onnx]") {
    const auto external = [](const std::string& location, const std::string& offset = "0", const std::string& length = "8") {
        tensor_maker t({2}, 1);
        t.external("location", location);
        if (!offset.empty()) t.external("offset", offset);
        if (!length.empty()) t.external("length", length);
        t.w.add_uint32(field::tensor::data_location, 1);
        return t.model();
    };
    const temp_folder folder;
    write_text(folder / "data/w.bin", "0123456789");
    write_text(folder / "outside.bin", "0123456789");
    const temp_folder model;
    write_text(model / "w.bin", "0123456789abcdef");
    CHECK(check_error(external("w.bin", "8"), model).empty());
    CHECK(check_error(external("w.bin", "", ""), model).empty());
    CHECK(has(check_error(external("w.bin", "9"), model), "end at byte 9 + 8 of w.bin, which has 16"));
    CHECK(has(check_error(external("w.bin", "18446744073709551615"), model), "end at byte"));
    CHECK(has(check_error(external("w.bin", "1x"), model), "\"1x\", is no number"));
    CHECK(has(check_error(external("w.bin", "-1"), model), "is no number"));
    CHECK(has(check_error(external("w.bin", "0", "7"), model), "length 7"));
    CHECK(has(check_error(external(""), model), "no location"));
    CHECK(has(check_error(external("none.bin"), model), "is not there"));
    for (const auto* path : {"../w.bin", "/etc/passwd", "a/../../w.bin", "C:\\w.bin", "..\\w.bin"}) {
        INFO(path);
        CHECK(has(check_error(external(path), model), "no path inside the model's folder"));
    }
    REQUIRE(::symlink((folder / "outside.bin").c_str(), (model / "link.bin").c_str()) == 0);
    CHECK(has(check_error(external("link.bin"), model), "leads out"));
    CHECK(check_error(external("link.bin"), model, true).empty());
    REQUIRE(::symlink(folder.path().c_str(), (model / "sub").c_str()) == 0);
    CHECK(has(check_error(external("sub/outside.bin"), model), "leads out"));
    REQUIRE(::link((folder / "outside.bin").c_str(), (model / "hard.bin").c_str()) == 0);
    CHECK(has(check_error(external("hard.bin"), model), "hard link"));
}

namespace {

/// A MatMulNBits node of K 40 and N 3 in blocks of 32, changed by f.
struct nbits_maker {
    std::int64_t k = 40, n = 3, bits = 4, block = 32;
    std::vector<std::uint64_t> b{3, 2, 16}, scales{3, 2}, zeros{3, 1};
    std::vector<std::int32_t> groups{};
    std::string unknown{};

    [[nodiscard]] std::string found() const {
        graph g;
        const auto bytes_of = [](std::uint64_t size) { return std::vector<std::uint8_t>(size); };
        const auto count = [](const std::vector<std::uint64_t>& dims) {
            std::uint64_t size = 1;
            for (const auto d : dims) size *= d;
            return size;
        };
        std::vector<std::string> inputs{g.input("x", element::f32, {1, k}), g.numbers("b", element::u8, b, bytes_of(count(b))),
                                        g.numbers("s", element::f32, scales, std::vector<float>(count(scales))),
                                        g.numbers("z", element::u8, zeros, bytes_of(count(zeros)))};
        if (!groups.empty()) inputs.push_back(g.numbers("g", element::i32, {groups.size()}, groups));
        if (!unknown.empty()) inputs[0] = unknown;
        g.add("MatMulNBits", inputs, "y", {{"K", k}, {"N", n}, {"bits", bits}, {"block_size", block}}, microsoft);
        g.output("y", element::f32, {1, n});
        const auto parts = model_writer::write(g);
        REQUIRE(parts);
        std::string bytes;
        REQUIRE(parts->back().content.write([&](bytes_view v) -> result<void> {
            bytes.append(reinterpret_cast<const char*>(v.data()), v.size());
            return {};
        }));
        CHECK(bytes.size() == parts->back().content.n_bytes());
        return check_error(bytes, temp_folder());
    }
};

}  // namespace

TEST_CASE("MatMulNBits' numbers fit its weights", "[onnx]") {
    CHECK(nbits_maker{}.found().empty());
    CHECK(has(nbits_maker{.k = 0}.found(), "K and N must be positive"));
    CHECK(has(nbits_maker{.n = -1}.found(), "K and N must be positive"));
    CHECK(has(nbits_maker{.bits = 3}.found(), "bits is 3"));
    CHECK(has(nbits_maker{.block = 8}.found(), "block_size is 8"));
    CHECK(has(nbits_maker{.block = 48}.found(), "block_size is 48"));
    CHECK(has(nbits_maker{.k = 65}.found(), "u8 [3, 3, 16] is needed"));
    CHECK(has(nbits_maker{.b = {3, 2, 8}}.found(), "u8 [3, 2, 16] is needed"));
    CHECK(has(nbits_maker{.scales = {3, 1}}.found(), "[3, 2] is needed"));
    CHECK(nbits_maker{.scales = {6}}.found().empty());
    CHECK(has(nbits_maker{.zeros = {3, 2}}.found(), "3 bytes are needed"));
    CHECK(nbits_maker{.groups = std::vector<std::int32_t>(40, 1)}.found().empty());
    CHECK(has(nbits_maker{.groups = std::vector<std::int32_t>(40, 2)}.found(), "names group 2"));
    CHECK(has(nbits_maker{.groups = std::vector<std::int32_t>(39, 0)}.found(), "i32 [40] is needed"));
    CHECK(has(nbits_maker{.unknown = "nobody"}.found(), "reads 'nobody'"));
}
