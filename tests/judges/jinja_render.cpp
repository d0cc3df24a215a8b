// SPDX-License-Identifier: Apache-2.0
// Renders chat templates for jinja_equal.py: reads {"now": [Y, M, D, weekday, h, m, s, day of the year], "cases": [{"template", "context"}]} from a file and
// prints a list of {"text"} or {"error"}.

#include <fstream>
#include <iostream>
#include <sstream>

#include "nibble/chat/jinja.hpp"

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    std::stringstream text;
    text << std::ifstream(argv[1]).rdbuf();
    const auto input = nibble::json::parse(text.str());
    std::tm now{};
    now.tm_year = input["now"][0].get<int>() - 1900;
    now.tm_mon = input["now"][1].get<int>() - 1;
    now.tm_mday = input["now"][2].get<int>();
    now.tm_wday = input["now"][3].get<int>();
    now.tm_hour = input["now"][4].get<int>();
    now.tm_min = input["now"][5].get<int>();
    now.tm_sec = input["now"][6].get<int>();
    now.tm_yday = input["now"][7].get<int>() - 1;
    auto answers = nibble::json::array();
    for (const auto& c : input["cases"]) {
        const auto parsed = nibble::chat::jinja_template::parse(c["template"].get<std::string>());
        if (!parsed) {
            answers.push_back({{"error", parsed.error().message()}});
            continue;
        }
        const auto rendered = parsed->render(c["context"], now);
        answers.push_back(rendered ? nibble::json{{"text", *rendered}} : nibble::json{{"error", rendered.error().message()}});
    }
    std::cout << answers.dump();
    return 0;
}
