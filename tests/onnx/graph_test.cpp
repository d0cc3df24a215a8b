// SPDX-License-Identifier: Apache-2.0
#include "nibble/onnx/graph.hpp"

#include "nibble/onnx/reader.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"

using namespace nibble;
using namespace nibble::onnx;
using namespace nibble::test;

namespace {

std::string bytes_of(const assembly& a) {
    std::string bytes;
    const auto written = a.write([&](bytes_view v) -> result<void> {
        bytes.append(reinterpret_cast<const char*>(v.data()), v.size());
        return {};
    });
    REQUIRE(written);
    CHECK(bytes.size() == a.n_bytes());
    return bytes;
}

initializer constant_of(std::string name, std::uint64_t n, char fill) {
    return {std::move(name), element::u8, {n}, n, [n, fill](const sink& to) {
                const std::string bytes(n, fill);
                return to(std::as_bytes(std::span(bytes)));
            }};
}

graph small_graph() {
    graph g;
    const auto x = g.input("x", element::f32, {std::string("batch_size"), 4});
    const auto y = g.add("Mul", {x, g.numbers<float>("two", element::f32, {}, {2.0F})}, "layer.0.y");
    g.add(node{"Odd",
               {y, "", g.int64s("ends", {7, -1})},
               {"z", "", "w"},
               {{"axis", std::int64_t{-1}}, {"eps", 0.5F}, {"mode", std::string("tanh")}},
               microsoft,
               "odd"});
    g.output("z", element::f16, {});
    return g;
}

}  // namespace

TEST_CASE("a graph is read as it was described", "[onnx]") {
    auto g = small_graph();
    g.constant(constant_of("weights", 5000, 'w'));
    g.constant(constant_of("weights", 3, 'v'));  // there already
    const auto parts = model_writer::write(g, {.producer_version = "1.2"});
    REQUIRE(parts);
    REQUIRE(parts->size() == 1);
    const temp_folder folder;
    write_text(folder / "m.onnx", bytes_of(parts->front().content));
    std::vector<std::byte> scratch;
    const auto m = read_model(*file::open(folder / "m.onnx"), scratch);
    REQUIRE(m);
    CHECK(m->ir_version == 10);
    CHECK(m->producer == "nibble");
    CHECK(m->producer_version == "1.2");
    CHECK(m->opset("") == 21);
    CHECK(m->opset(microsoft) == 1);
    REQUIRE(m->graph.nodes.size() == 2);
    CHECK(m->graph.nodes[0].name == "/layer/0/y");
    const auto& odd = m->graph.nodes[1];
    CHECK(odd.op_type == "Odd");
    CHECK(odd.domain == microsoft);
    CHECK(odd.inputs == std::vector<std::string>{"layer.0.y", "", "ends"});
    CHECK(odd.outputs == std::vector<std::string>{"z", "", "w"});
    CHECK(odd.find("axis")->i == -1);
    CHECK(odd.find("eps")->f == 0.5F);
    CHECK(odd.find("mode")->s == "tanh");
    REQUIRE(m->graph.initializers.size() == 3);
    CHECK(m->graph.initializers[0].dims.rank() == 0);
    const auto& w = m->graph.initializers[2];
    CHECK(w.n_bytes == 5000);
    std::vector<std::byte> copy;
    CHECK(static_cast<char>((*m->from->bytes(w.raw.begin, w.n_bytes, copy))[4999]) == 'w');
    CHECK(m->graph.inputs[0].rank == 2);
    CHECK(m->graph.outputs[0].rank == 0);
}

TEST_CASE("what is too long for one file goes to several, or is refused", "[onnx]") {
    auto g = small_graph();
    g.constant(constant_of("a", 70000, 'a'));
    g.constant(constant_of("b", 70000, 'b'));
    g.constant(constant_of("c", 2000, 'c'));
    const auto parts = model_writer::write(g, {.external_name = "m.onnx_data", .external_limit = 150000});
    REQUIRE(parts);
    REQUIRE(parts->size() == 3);
    CHECK((*parts)[0].name == "m.onnx_data");
    CHECK((*parts)[1].name == "m.onnx_data_1");
    CHECK((*parts)[0].content.n_bytes() == 70000);  // b would begin at 131072
    CHECK((*parts)[1].content.n_bytes() == 131072 + 2000);
    const temp_folder folder;
    for (const auto& p : *parts) write_text(folder / (p.name.empty() ? "m.onnx" : p.name), bytes_of(p.content));
    std::vector<std::byte> scratch;
    const auto m = read_model(*file::open(folder / "m.onnx"), scratch);
    REQUIRE(m);
    external_files files(*m);
    for (const auto& t : m->graph.initializers) {
        INFO(t.name);
        const auto at = files.find(t);
        REQUIRE(at);
        std::vector<std::byte> copy;
        const auto bytes = at->from->bytes(at->at.begin, t.n_bytes, copy);
        REQUIRE(bytes);
        if (t.name.size() == 1) CHECK(static_cast<char>((*bytes)[t.n_bytes - 1]) == t.name[0]);
    }
    CHECK(has(model_writer::write(g, {.external_name = "m.onnx_data", .external_limit = 60000}).error().message(), "of a would have 70000 bytes"));
    g.constant({"huge", element::u8, {largest_file}, largest_file, [](const sink&) -> result<void> { return {}; }});
    CHECK(has(model_writer::write(g).error().message(), "--external-data"));
}

TEST_CASE("a producer keeps its promise", "[onnx]") {
    for (const std::uint64_t promised : {2u, 4u}) {
        assembly a;
        a.make(promised, [](const sink& to) { return to(std::as_bytes(std::span("abc", 3))); });
        CHECK(!a.write([](bytes_view) -> result<void> { return {}; }));
    }
}

TEST_CASE("pieces of messages in messages are counted before they are made", "[onnx]") {
    const temp_folder folder;
    write_text(folder / "f", "0123456789");
    const auto f = *file::open(folder / "f");
    assembly inner;
    inner.fields([](pbf_writer& w) { w.add_string(1, "text"); });
    inner.copy(f, 2, 4);
    inner.copy(f, 4, 6);
    inner.make(1, [](const sink& to) { return to(std::as_bytes(std::span("x", 1))); });
    assembly outer;
    outer.fields([](pbf_writer& w) { w.add_int64(2, 5); });
    outer.message(3, std::move(inner));
    outer.fields([](pbf_writer& w) { w.add_int64(4, 6); });
    CHECK(bytes_of(outer) == std::string("\x10\x05\x1A\x0B\x0A\x04text2345x\x20\x06"));
}
