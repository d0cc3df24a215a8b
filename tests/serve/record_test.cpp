// SPDX-License-Identifier: Apache-2.0
#include "nibble/serve/record.hpp"

#include "support/catch.hpp"

using namespace nibble;
using namespace nibble::serve;

TEST_CASE("a record has the names of today, or those of WebLLM before 0.2.40", "[serve]") {
    const json record{{"model", "https://h/me/my"}, {"model_id", "my"}, {"model_lib", "https://h/x.wasm"}, {"vram_required_MB", 1.5}, {"model_type", 0}};
    CHECK(older_record(record).dump() ==
          R"json({"model_url":"https://h/me/my/resolve/main/","local_id":"my","model_lib_url":"https://h/x.wasm","vram_required_MB":1.5})json");
    // One that has a revision in it is left as it is, in both worlds.
    CHECK(older_record({{"model", "https://h/me/my/resolve/v1"}, {"model_lib", "l"}}).dump() ==
          R"json({"model_url":"https://h/me/my/resolve/v1/","model_lib_url":"l"})json");
    // A library that is not known is asked for where it belongs.
    CHECK(pasteable_record({{"model_id", "my"}, {"model_type", 0}}).dump() ==
          R"json({"model_id":"my","model_lib":"URL OF THE MODEL LIBRARY (.wasm)","model_type":0})json");
    CHECK(pasteable_record(record) == record);
    CHECK(older_record(json::array()).dump() == R"json({"model_lib_url":"URL OF THE MODEL LIBRARY (.wasm)"})json");
}

TEST_CASE("a record moves with its folder, and its library with it where it lies in the folder", "[serve]") {
    json record{{"model", "https://h/me/my"}, {"model_lib", "https://h/me/my/resolve/main/x.wasm"}};
    CHECK(rebased(record, "http://localhost:1").dump() == R"json({"model":"http://localhost:1","model_lib":"http://localhost:1/resolve/main/x.wasm"})json");
    record["model_lib"] = "https://elsewhere/x.wasm";
    CHECK(rebased(record, "http://localhost:1")["model_lib"] == "https://elsewhere/x.wasm");
    CHECK(rebased(json::object(), "http://localhost:1").dump() == R"json({"model":"http://localhost:1"})json");
}

TEST_CASE("a snippet loads the record, and of a pair the one that the GPU can run", "[serve]") {
    const json half{{"model", "https://h/a"}, {"model_id", "a \"quoted\""}, {"model_lib", "l"}};
    const auto one = snippet({half});
    CHECK(one.find("const model = \"a \\\"quoted\\\"\";\n") != one.npos);
    CHECK(one.find("  model_list: [\n    {\n      \"model\": \"https://h/a\",\n") != one.npos);
    CHECK(one.find("shader-f16") == one.npos);
    CHECK(one.find("engine.chat.completions.create") != one.npos);
    json full = half;
    full["model_id"] = "b";
    const auto two = snippet({half, full});
    CHECK(two.find("adapter.features.has(\"shader-f16\")\n  ? \"a \\\"quoted\\\"\"\n  : \"b\";\n") != two.npos);
    full["model_type"] = 1;
    CHECK(snippet({full}).find("engine.embeddings.create") != std::string::npos);
    CHECK(older_snippet(half).find("\"local_id\": \"a \\\"quoted\\\"\"") != std::string::npos);
}
