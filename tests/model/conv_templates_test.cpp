// SPDX-License-Identifier: Apache-2.0
// Every registered template as mlc_llm emits it: json.dumps(template, indent=2) has the recorded md5.

#include "nibble/model/conv_templates.hpp"

#include <fstream>
#include <span>
#include <string>

#include "nibble/core/md5.hpp"
#include "support/catch.hpp"

using namespace nibble;

TEST_CASE("each registered conversation template has mlc_llm's bytes", "[model][templates]") {
    std::ifstream recorded(NIBBLE_TEST_DATA "/mlc/conv_templates.tsv");
    std::string name, sum;
    std::size_t count = 0;
    while (recorded >> name >> sum) {
        INFO(name);
        const auto* found = model::find_conversation_template(name);
        REQUIRE(found != nullptr);
        const auto text = model::to_json(*found).dump(2, ' ', true);
        md5 of_text;
        of_text.update(std::as_bytes(std::span(text)));
        CHECK(of_text.hex() == sum);
        ++count;
    }
    CHECK(count == 53);
    CHECK(model::conversation_templates().size() == count);
    CHECK(model::find_conversation_template("llama_default") == nullptr);
}
