// SPDX-License-Identifier: Apache-2.0
#include "nibble/convert/inspect.hpp"

#include "support/catch.hpp"
#include "support/conversion.hpp"
#include "support/tiny_llama.hpp"

using namespace nibble;
using test::convert_to;

TEST_CASE("inspect tells the facts of a checkpoint and of a folder", "[inspect]") {
    const test::temp_folder home;
    const test::tiny_llama model;
    model.write(home / "model");
    const auto c = convert::inspect(home / "model");
    REQUIRE(c);
    std::uint64_t values = 0;
    for (const auto& t : model.tensors) values += t.values.size();
    CHECK(c->format == "safetensors");
    CHECK(c->model_type == "llama");
    CHECK(c->recognised);
    CHECK(c->n_values == values);
    CHECK(c->bits_per_value() == 32);
    CHECK(c->tensors.size() == model.tensors.size());
    CHECK(convert::inspect(home / "model/model.safetensors")->n_values == values);

    for (const auto& [name, label] : {std::pair{"q4f16_1", "4 bit x 32, f16"}, std::pair{"q3f16_0", "3 bit x 40, f16, transposed"},
                                      std::pair{"q4bf16_1", "4 bit x 32, bf16"}, std::pair{"e5m2_e5m2_f16", "f8_e5m2"}, std::pair{"q0f32", "f32"}}) {
        CAPTURE(name);
        const auto out = home / name;
        convert_to(home / "model", out, name);
        const auto f = convert::inspect(out);
        REQUIRE(f);
        CHECK(f->format == "MLC weights");
        CHECK(f->n_values == values);
        CHECK(f->by_type.contains(label));
        CHECK(f->problems.empty());
    }
    CHECK(convert::inspect(home / "q4f16_1/tensor-cache.json"));
    CHECK_FALSE(convert::inspect(home / "nothing"));
}
