// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the command prints: errors and notes, sizes in words, aligned tables, and a progress line.

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include <unistd.h>

#include "commands.hpp"
#include "nibble/core/json.hpp"
#include "nibble/core/result.hpp"

namespace nibble::command {

/// "1.5 GB", with decimal prefixes.
[[nodiscard]] inline std::string size_text(double bytes) {
    const char* unit = "B";
    for (const char* next : {"kB", "MB", "GB", "TB"}) {
        if (bytes < 1000) break;
        bytes /= 1000;
        unit = next;
    }
    char text[32];
    std::snprintf(text, sizeof text, *unit == 'B' ? "%.0f %s" : bytes < 9.995 ? "%.2f %s" : "%.1f %s", bytes, unit);
    return text;
}
[[nodiscard]] inline std::string size_text(std::uint64_t bytes) { return size_text(static_cast<double>(bytes)); }

/// "1,234,567".
[[nodiscard]] inline std::string count_text(std::uint64_t n) {
    std::string text = std::to_string(n);
    for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > 0; at -= 3) text.insert(static_cast<std::size_t>(at), ",");
    return text;
}

[[nodiscard]] inline std::string number_text(const char* format, double value) {
    char text[64];
    std::snprintf(text, sizeof text, format, value);
    return text;
}

inline void print_error(const error& e) { std::fprintf(stderr, "nibble: error: %s\n", e.message().c_str()); }
inline void print_note(const std::string& text) { std::fprintf(stderr, "nibble: note: %s\n", text.c_str()); }

[[nodiscard]] inline json to_json(const error& e) {
    json j{{"rule", e.rule}};
    if (!e.file.empty()) j["file"] = e.file;
    if (!e.tensor.empty()) j["tensor"] = e.tensor;
    if (e.offset) j["offset"] = *e.offset;
    if (!e.remedy.empty()) j["remedy"] = e.remedy;
    return j;
}
[[nodiscard]] inline json to_json(const error_list& errors) {
    json list = json::array();
    for (const auto& e : errors) list.push_back(to_json(e));
    return list;
}

/// Bytes that are not UTF-8 (a file's name, say) are replaced, never thrown about.
inline void print_json(const json& j) { std::printf("%s\n", j.dump(2, ' ', false, json::error_handler_t::replace).c_str()); }

/// Ends a subcommand that could not make its report. `document` is what its JSON says beside the problem.
inline void print_failure(context& shared, const error& e, json document = json::object()) {
    document["problems"] = to_json(error_list{e});
    if (shared.json) print_json(document);
    print_error(e);
    shared.exit_code = exit_refused;
}

/// Prints a report's notes and warnings where they are not in a JSON document, and its problems in any case.
inline void print_remarks(const context& shared, const std::vector<std::string>& notes, const error_list& warnings, const error_list& problems) {
    if (!shared.quiet && !shared.json) {
        for (const auto& note : notes) print_note(note);
        for (const auto& w : warnings) print_note(w.message());
    }
    for (const auto& p : problems) print_error(p);
}

/// Rows of text in columns; the first column is aligned to the left, the others to the right.
class table {
public:
    explicit table(std::vector<std::string> head) { rows_.push_back(std::move(head)); }
    void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
    void print() const {
        std::vector<std::size_t> widths(rows_[0].size());
        for (const auto& r : rows_) {
            for (std::size_t i = 0; i < r.size(); ++i) widths[i] = std::max(widths[i], r[i].size());
        }
        for (const auto& r : rows_) {
            std::string line;
            for (std::size_t i = 0; i < r.size(); ++i) {
                const std::string space(widths[i] - r[i].size(), ' ');
                line += (i == 0 ? "" : "  ") + (i == 0 ? r[i] + space : space + r[i]);
            }
            line.erase(line.find_last_not_of(' ') + 1);
            std::printf("%s\n", line.c_str());
        }
    }

private:
    std::vector<std::vector<std::string>> rows_;
};

/// A progress bar that redraws itself on a terminal; elsewhere a plain line now and then.
class progress_line {
public:
    explicit progress_line(bool wanted) : wanted_(wanted), terminal_(::isatty(STDERR_FILENO) != 0) {}
    ~progress_line() { clear(); }
    progress_line(const progress_line&) = delete;
    progress_line& operator=(const progress_line&) = delete;

    void show(std::uint64_t done, std::uint64_t total) {
        if (!wanted_ || total == 0) return;
        const auto now = clock::now();
        const auto pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(5000);
        if (now - shown_ < pause) return;
        shown_ = now;
        const double seconds = std::chrono::duration<double>(now - start_).count();
        const double part = static_cast<double>(done) / static_cast<double>(total);
        const double speed = static_cast<double>(done) / std::max(seconds, 1e-3);
        const double left = speed > 0 ? static_cast<double>(total - done) / speed : 0;
        const std::string figures = number_text("%3.0f %%", 100 * part) + "  " + size_text(done) + " of " + size_text(total) + "  " + size_text(speed) +
                                    "/s  " + number_text("%.0f s left", left);
        if (terminal_) {
            std::string bar(30, '.');
            std::fill_n(bar.begin(), static_cast<std::size_t>(30 * part), '#');
            std::fprintf(stderr, "\r\033[K[%s] %s", bar.c_str(), figures.c_str());
            drawn_ = true;
        } else {
            std::fprintf(stderr, "%s\n", figures.c_str());
        }
    }
    void clear() {
        if (drawn_) std::fprintf(stderr, "\r\033[K");
        drawn_ = false;
    }

private:
    using clock = std::chrono::steady_clock;
    bool wanted_;
    bool terminal_;
    bool drawn_ = false;
    clock::time_point start_ = clock::now();
    clock::time_point shown_ = start_;
};

}  // namespace nibble::command
