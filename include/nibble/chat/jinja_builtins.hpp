// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a chat template can call without defining it: filters, tests, functions and the methods of strings, lists and mappings, as
// Jinja2 3.1 on Python 3 has them; tojson is the one of transformers. Everything that makes or reads long values is charged to a budget.

#include <array>
#include <ctime>
#include <initializer_list>
#include <optional>

#include "nibble/chat/jinja_syntax.hpp"

namespace nibble::chat {

/// What rendering may use; all of it far beyond what chat templates need. Going beyond is an error, never a crash.
struct jinja_limits {
    std::size_t source_bytes = std::size_t{1} << 20;
    std::size_t nesting = 250;                        ///< levels of statements and expressions
    std::size_t steps = 2'000'000;                    ///< evaluated expressions and statements
    std::size_t work_bytes = std::size_t{128} << 20;  ///< bytes of all values made on the way
    std::size_t output_bytes = std::size_t{16} << 20;
};

namespace detail {

inline constexpr std::size_t jinja_value_depth = 100;

/// What is left of the limits, and the first failure.
struct jinja_state {
    explicit jinja_state(const jinja_limits& l) : limits(l) {}
    jinja_limits limits;
    jinja_failure failure;
    std::size_t steps = 0;
    std::size_t work = 0;
    std::size_t line = 1;  // of what is being evaluated

    bool step() {
        if (++steps > limits.steps) fail(errc::refused, "rendering takes more than " + std::to_string(limits.steps) + " steps");
        return !failure;
    }
    bool charge(std::size_t bytes) {
        work += bytes;
        if (work > limits.work_bytes || bytes > limits.work_bytes)
            fail(errc::refused, "rendering makes values of more than " + std::to_string(limits.work_bytes) + " bytes");
        return !failure;
    }
    jinja_value fail(errc code, std::string rule) {
        failure.set(code, line, std::move(rule));
        return {};
    }
    jinja_value unsupported(const std::string& what) { return fail(errc::unsupported, what + " is not supported"); }
    /// A list or mapping as a value; `Container` is jinja_list or jinja_dict.
    template <class Container>
    jinja_value make(Container c) {
        if constexpr (std::is_same_v<Container, jinja_list>) {
            for (const auto& v : c) containable(v);
        } else {
            for (const auto& [k, v] : c.items) containable(v);
        }
        jinja_value v(std::move(c));
        if (v.depth > jinja_value_depth) return fail(errc::refused, "a value is nested deeper than " + std::to_string(jinja_value_depth) + " levels");
        return v;
    }
    void containable(const jinja_value& v) {
        charge(sizeof(jinja_value));
        if (v.as<jinja_namespace>() || v.as<jinja_loop>()) unsupported(std::string(v.type_name()) + " in a list or mapping");
    }
};

/// The arguments of one call.
struct jinja_arguments {
    std::vector<jinja_value> positional;
    std::vector<std::pair<std::string, jinja_value>> named;
};

class jinja_builtins {
public:
    explicit jinja_builtins(jinja_state& state, const std::optional<std::tm>& now) : state_(state), now_(now) {}

    // --- Text

    /// str(v).
    [[nodiscard]] std::string text(const jinja_value& v) {
        if (const auto* s = v.string()) {
            state_.charge(s->size());
            return *s;
        }
        std::string to;
        if (!v.undefined()) append_repr(to, v);
        return to;
    }
    void append_repr(std::string& to, const jinja_value& v) {
        if (!state_.step()) return;
        const auto before = to.size();
        if (v.none()) {
            to += "None";
        } else if (const auto* b = v.as<bool>()) {
            to += *b ? "True" : "False";
        } else if (const auto* i = v.as<std::int64_t>()) {
            to += std::to_string(*i);
        } else if (const auto* d = v.as<double>()) {
            to += float_text(*d);
        } else if (const auto* s = v.string()) {
            append_repr_string(to, *s);
        } else if (const auto* l = v.list()) {
            to += v.tuple ? '(' : '[';
            for (std::size_t k = 0; k < l->size() && !state_.failure; ++k) {
                if (k != 0) to += ", ";
                append_repr(to, (*l)[k]);
            }
            if (v.tuple && l->size() == 1) to += ',';
            to += v.tuple ? ')' : ']';
        } else if (const auto* m = v.dict()) {
            to += '{';
            for (std::size_t k = 0; k < m->items.size() && !state_.failure; ++k) {
                if (k != 0) to += ", ";
                append_repr_string(to, m->items[k].first);
                to += ": ";
                append_repr(to, m->items[k].second);
            }
            to += '}';
        } else if (v.undefined()) {
            to += "Undefined";
        } else {
            state_.unsupported(std::string("printing ") + v.type_name());
        }
        state_.charge(to.size() - before);
    }

    struct json_style {
        std::string indent;  // of one level; with `lines`
        bool lines = false;
        std::string item = ", ";
        std::string key = ": ";
        bool ascii = false;
        bool sorted = false;
    };
    /// json.dumps(v, ensure_ascii=False, ...).
    void append_json(std::string& to, const jinja_value& v, const json_style& style, std::size_t depth = 0) {
        if (!state_.step()) return;
        const auto before = to.size();
        const auto line = [&](std::size_t at) {
            if (!style.lines) return;
            to += '\n';
            for (std::size_t k = 0; k < at; ++k) to += style.indent;
            state_.charge(at * style.indent.size());
        };
        const auto between = [&](std::size_t k) {
            if (k != 0) to += style.item;
            line(depth + 1);
        };
        if (v.none()) {
            to += "null";
        } else if (const auto* b = v.as<bool>()) {
            to += *b ? "true" : "false";
        } else if (v.as<std::int64_t>()) {
            to += std::to_string(v.integer());
        } else if (const auto* d = v.as<double>()) {
            to += std::isnan(*d) ? "NaN" : std::isinf(*d) ? (*d < 0 ? "-Infinity" : "Infinity") : float_text(*d);
        } else if (const auto* s = v.string()) {
            append_json_text(to, *s, style);
        } else if (const auto* l = v.list()) {
            to += '[';
            for (std::size_t k = 0; k < l->size() && !state_.failure; ++k) {
                between(k);
                append_json(to, (*l)[k], style, depth + 1);
            }
            if (!l->empty()) line(depth);
            to += ']';
        } else if (const auto* m = v.dict()) {
            auto items = m->items;
            if (style.sorted) std::sort(items.begin(), items.end(), [](const auto& x, const auto& y) { return x.first < y.first; });
            to += '{';
            for (std::size_t k = 0; k < items.size() && !state_.failure; ++k) {
                between(k);
                append_json_text(to, items[k].first, style);
                to += style.key;
                append_json(to, items[k].second, style, depth + 1);
            }
            if (!items.empty()) line(depth);
            to += '}';
        } else {
            state_.fail(errc::refused,
                        std::string("tojson cannot write ") + v.type_name() + (v.undefined() ? " ('" + v.as<jinja_undefined>()->name + "')" : ""));
        }
        state_.charge(to.size() - before);
    }

    // --- Relations

    [[nodiscard]] bool equal(const jinja_value& a, const jinja_value& b) {
        if (!state_.step()) return false;
        if (a.number() && b.number()) return a.integral() && b.integral() ? a.integer() == b.integer() : a.real() == b.real();
        if (a.is.index() != b.is.index()) return false;
        if (const auto* s = a.string()) return state_.charge(s->size() / 16) && *s == *b.string();
        if (const auto* l = a.list()) {
            const auto* r = b.list();
            if (l->size() != r->size() || a.tuple != b.tuple) return false;
            for (std::size_t i = 0; i < l->size(); ++i) {
                if (!equal((*l)[i], (*r)[i])) return false;
            }
            return true;
        }
        if (const auto* m = a.dict()) {
            const auto* r = b.dict();
            if (m->items.size() != r->items.size()) return false;
            for (const auto& [k, v] : m->items) {
                const auto* other = find(*r, k);
                if (other == nullptr || !equal(v, *other)) return false;
            }
            return true;
        }
        if (const auto* f = a.as<jinja_macro>()) return f->definition == b.as<jinja_macro>()->definition;
        return a.undefined() || a.none();
    }
    [[nodiscard]] const jinja_value* find(const jinja_dict& d, std::string_view key) { return state_.charge(d.items.size()) ? d.find(key) : nullptr; }
    /// <0, 0, >0; an error for what Python cannot order.
    [[nodiscard]] int order(const jinja_value& a, const jinja_value& b) {
        if (a.number() && b.number()) {
            if (a.integral() && b.integral()) return a.integer() < b.integer() ? -1 : a.integer() > b.integer() ? 1 : 0;
            return a.real() < b.real() ? -1 : a.real() > b.real() ? 1 : 0;
        }
        if (a.string() && b.string()) return state_.charge(a.string()->size() / 16) ? a.string()->compare(*b.string()) : 0;
        state_.fail(errc::refused, std::string("cannot order ") + described(a) + " and " + described(b));
        return 0;
    }
    /// `item in container`.
    [[nodiscard]] bool contains(const jinja_value& container, const jinja_value& item) {
        if (const auto* s = container.string()) {
            if (!item.string()) return state_.fail(errc::refused, "only a string can be in a string, not " + described(item)), false;
            return state_.charge(s->size() / 4) && s->find(*item.string()) != s->npos;
        }
        if (const auto* l = container.list()) {
            for (const auto& v : *l) {
                if (equal(v, item)) return true;
            }
            return false;
        }
        if (const auto* d = container.dict()) return item.string() && find(*d, *item.string()) != nullptr;
        if (!container.undefined()) state_.fail(errc::refused, "nothing can be in " + described(container));
        return false;
    }
    [[nodiscard]] static std::string described(const jinja_value& v) {
        const auto* u = v.as<jinja_undefined>();
        return u ? (u->name.empty() ? "an undefined value" : "'" + u->name.substr(0, 60) + "', which is undefined") : v.type_name();
    }

    /// The items that a for goes over.
    [[nodiscard]] jinja_value::list_ptr items(const jinja_value& v) {
        if (v.list()) return *v.as<jinja_value::list_ptr>();
        jinja_list all;
        if (const auto* d = v.dict()) {
            for (const auto& [k, unused] : d->items) all.emplace_back(k);
        } else if (const auto* s = v.string()) {
            if (!state_.charge(s->size() * sizeof(jinja_value))) return std::make_shared<const jinja_list>();
            for (const auto c : code_points(*s)) all.emplace_back(c);
        } else if (!v.undefined()) {
            state_.fail(errc::refused, "cannot go over " + described(v));
        }
        state_.charge(all.size() * sizeof(jinja_value));
        return std::make_shared<const jinja_list>(std::move(all));
    }

    /// object.name and object['name'], where it is no call.
    [[nodiscard]] jinja_value member(const jinja_value& object, const std::string& name) {
        const jinja_value* found = nullptr;
        if (const auto* d = object.dict()) found = find(*d, name);
        if (const auto* n = object.as<jinja_namespace>()) found = find(*n->members, name);
        if (const auto* l = object.as<jinja_loop>()) return loop_member(*l, name);
        if (object.undefined()) return state_.fail(errc::refused, described(object) + ", has no '" + name + "'");
        return found ? *found : jinja_value(jinja_undefined{name});
    }
    [[nodiscard]] jinja_value index(const jinja_value& object, const jinja_value& at) {
        if (at.string()) return member(object, *at.string());
        if (object.undefined()) return state_.fail(errc::refused, described(object) + ", has no items");
        if (!at.integral()) return jinja_undefined{"an item"};
        const auto i = at.integer();
        if (const auto* l = object.list()) {
            const auto n = static_cast<std::int64_t>(l->size());
            if (i < -n || i >= n) return jinja_undefined{"item " + std::to_string(i)};
            return (*l)[static_cast<std::size_t>(i < 0 ? i + n : i)];
        }
        if (const auto* s = object.string()) {
            if (!state_.charge(s->size() * sizeof(std::string_view))) return {};
            const auto all = code_points(*s);
            const auto n = static_cast<std::int64_t>(all.size());
            if (i < -n || i >= n) return jinja_undefined{"item " + std::to_string(i)};
            return all[static_cast<std::size_t>(i < 0 ? i + n : i)];
        }
        return jinja_undefined{"item " + std::to_string(i)};
    }
    [[nodiscard]] jinja_value slice(const jinja_value& object, const jinja_value& from, const jinja_value& to, const jinja_value& step) {
        for (const auto* bound : {&from, &to, &step}) {
            if (!bound->none() && !bound->integral()) return state_.fail(errc::refused, "a slice's bound is " + described(*bound));
        }
        const auto by = step.none() ? 1 : step.integer();
        if (by == 0) return state_.fail(errc::refused, "a slice's step is 0");
        const auto pick = [&](auto n_items, auto&& take) {
            const auto n = static_cast<std::int64_t>(n_items);
            const auto clamp = [&](const jinja_value& v, std::int64_t absent) {
                if (v.none()) return absent;
                const auto i = v.integer() < 0 ? std::max<std::int64_t>(v.integer() + n, by < 0 ? -1 : 0) : v.integer();
                return std::min(i, by < 0 ? n - 1 : n);
            };
            const auto first = clamp(from, by < 0 ? n - 1 : 0), last = clamp(to, by < 0 ? -1 : n);
            const auto stride = std::clamp<std::int64_t>(by, -n - 1, n + 1);  // beyond the ends all steps are alike
            for (auto i = first; by < 0 ? i > last : i < last; i += stride) take(static_cast<std::size_t>(i));
        };
        if (const auto* l = object.list()) {
            jinja_list part;
            pick(l->size(), [&](std::size_t i) { part.push_back((*l)[i]); });
            auto v = state_.make(std::move(part));
            v.tuple = object.tuple;
            return v;
        }
        if (const auto* s = object.string()) {
            if (!state_.charge(s->size() * sizeof(std::string_view))) return {};
            const auto all = code_points(*s);
            std::string part;
            pick(all.size(), [&](std::size_t i) { part += all[i]; });
            return part;
        }
        return state_.fail(errc::refused, "cannot take a slice of " + described(object));
    }

    // --- What has a name: in jinja_library.hpp

    [[nodiscard]] jinja_value filter(const std::string& name, const jinja_value& v, const jinja_arguments& a);
    [[nodiscard]] bool test(const std::string& name, const jinja_value& v, const jinja_arguments& a);
    [[nodiscard]] jinja_value function(std::string_view name, const jinja_arguments& a);
    [[nodiscard]] jinja_value method(const jinja_value& object, const std::string& name, const jinja_arguments& a);

private:
    static void append_json_text(std::string& to, std::string_view s, const json_style& style) {
        if (!style.ascii) return append_json_string(to, s);
        std::string plain;
        append_json_string(plain, s);
        char escape[16];
        for (const auto point : code_points(plain)) {
            const auto c = utf8_decode(point);
            const auto add = [&](std::uint32_t unit) {
                std::snprintf(escape, sizeof escape, "\\u%04x", unit);
                to += escape;
            };
            if (c < 0x7f) {
                to += point;
            } else if (c < 0x10000) {
                add(c);
            } else {
                add(0xd800 + ((c - 0x10000) >> 10));
                add(0xdc00 + ((c - 0x10000) & 1023));
            }
        }
    }

    [[nodiscard]] jinja_value loop_member(const jinja_loop& l, const std::string& name) const {
        const auto at = static_cast<std::int64_t>(l.at), n = static_cast<std::int64_t>(l.items->size());
        if (name == "index") return at + 1;
        if (name == "index0") return at;
        if (name == "revindex") return n - at;
        if (name == "revindex0") return n - at - 1;
        if (name == "first") return at == 0;
        if (name == "last") return at + 1 == n;
        if (name == "length") return n;
        if (name == "depth") return static_cast<std::int64_t>(l.depth);
        if (name == "depth0") return static_cast<std::int64_t>(l.depth - 1);
        if (name == "previtem" && at > 0) return (*l.items)[l.at - 1];
        if (name == "nextitem" && at + 1 < n) return (*l.items)[l.at + 1];
        return jinja_undefined{"loop." + name};
    }

    template <std::size_t N>
    [[nodiscard]] std::array<const jinja_value*, N> bind(const std::string& what, const jinja_arguments& a, const std::array<const char*, N>& names);
    [[nodiscard]] jinja_value get(const jinja_value& v, const jinja_value& attribute);
    [[nodiscard]] jinja_value choose(const std::string& name, const jinja_value& v, const jinja_arguments& a);
    [[nodiscard]] jinja_value map(const jinja_value& v, const jinja_arguments& a);
    [[nodiscard]] jinja_value string_method(const jinja_value& object, const std::string& name, const jinja_arguments& a);
    [[nodiscard]] jinja_value replaced(const std::string& s, const std::string& from, const std::string& to, std::int64_t count);
    [[nodiscard]] std::string cased(const std::string& s, const std::string& how);
    [[nodiscard]] jinja_value tojson(const jinja_value& v, const jinja_arguments& a);
    [[nodiscard]] jinja_value indent(const jinja_value& v, const jinja_arguments& a);
    [[nodiscard]] jinja_value date(const jinja_arguments& a);

    jinja_state& state_;
    const std::optional<std::tm>& now_;
};

}  // namespace detail

}  // namespace nibble::chat
