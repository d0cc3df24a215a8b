// SPDX-License-Identifier: Apache-2.0
#pragma once
// The filters, tests, functions and methods themselves; jinja_builtins.hpp says what they are. An argument or a name that is not known
// here is an error: a template is never rendered half.

#include "nibble/chat/jinja_builtins.hpp"

namespace nibble::chat::detail {

/// Arguments in the order of the parameters; absent ones are null.
template <std::size_t N>
std::array<const jinja_value*, N> jinja_builtins::bind(const std::string& what, const jinja_arguments& a, const std::array<const char*, N>& names) {
    std::array<const jinja_value*, N> bound{};
    if (a.positional.size() > N) state_.unsupported(what + " with " + std::to_string(a.positional.size()) + " arguments");
    for (std::size_t i = 0; i < a.positional.size() && i < N; ++i) bound[i] = &a.positional[i];
    for (const auto& [name, v] : a.named) {
        const auto at = std::find(names.begin(), names.end(), name);
        if (at == names.end())
            state_.unsupported("the argument '" + name + "' of " + what);
        else
            bound[static_cast<std::size_t>(at - names.begin())] = &v;
    }
    return bound;
}

/// The attribute of map, selectattr and join: names and indexes with dots between.
inline jinja_value jinja_builtins::get(const jinja_value& v, const jinja_value& attribute) {
    if (!attribute.string()) return index(v, attribute);
    jinja_value at = v;
    std::string_view path = *attribute.string();
    while (!state_.failure) {
        const auto dot = path.find('.');
        const std::string part(path.substr(0, dot));
        std::int64_t number = 0;
        const auto end = std::from_chars(part.data(), part.data() + part.size(), number);
        at = !part.empty() && end.ptr == part.data() + part.size() ? index(at, number) : member(at, part);
        if (dot == path.npos) break;
        path.remove_prefix(dot + 1);
    }
    return at;
}

/// select, reject, selectattr, rejectattr: the items whose test holds; without a test, those that are true.
inline jinja_value jinja_builtins::choose(const std::string& name, const jinja_value& v, const jinja_arguments& a) {
    const bool by_attribute = name.ends_with("attr"), wanted = name.starts_with("select");
    const std::size_t skip = by_attribute ? 1 : 0;
    if (a.positional.size() < skip || !a.named.empty()) return state_.unsupported("the filter '" + name + "' without an attribute, or with named arguments");
    jinja_arguments rest;
    std::string test_name;
    if (a.positional.size() > skip) {
        if (!a.positional[skip].string()) return state_.fail(errc::refused, "the filter '" + name + "' needs the name of a test");
        test_name = *a.positional[skip].string();
        rest.positional.assign(a.positional.begin() + static_cast<std::ptrdiff_t>(skip) + 1, a.positional.end());
    }
    jinja_list chosen;
    const auto all = items(v.truth() ? v : jinja_list());  // none has no items here
    for (const auto& item : *all) {
        if (!state_.step()) break;
        const auto subject = by_attribute ? get(item, a.positional[0]) : item;
        if ((test_name.empty() ? subject.truth() : test(test_name, subject, rest)) == wanted) chosen.push_back(item);
    }
    return state_.make(std::move(chosen));
}

inline jinja_value jinja_builtins::map(const jinja_value& v, const jinja_arguments& a) {
    jinja_list mapped;
    const auto all = items(v.truth() ? v : jinja_list());
    if (!a.named.empty()) {
        const auto [attribute, fallback] = bind<2>("the filter 'map'", a, {"attribute", "default"});
        if (!a.positional.empty() || !attribute) return state_.unsupported("the filter 'map' with these arguments");
        for (const auto& item : *all) {
            if (!state_.step()) break;
            auto got = get(item, *attribute);
            mapped.push_back(got.undefined() && fallback ? *fallback : std::move(got));
        }
        return state_.make(std::move(mapped));
    }
    if (a.positional.empty() || !a.positional[0].string()) return state_.fail(errc::refused, "the filter 'map' needs the name of a filter, or attribute=");
    const jinja_arguments rest{{a.positional.begin() + 1, a.positional.end()}, {}};
    if (*a.positional[0].string() == "map") return state_.unsupported("the filter 'map' inside itself");
    for (const auto& item : *all) {
        if (!state_.step()) break;
        mapped.push_back(filter(*a.positional[0].string(), item, rest));
    }
    return state_.make(std::move(mapped));
}

/// upper, lower, capitalize and title, of ASCII letters only: the rules for others are a table of their own.
inline std::string jinja_builtins::cased(const std::string& s, const std::string& how) {
    state_.charge(s.size());
    std::string to = s;
    bool inside = false;  // a word
    for (auto& c : to) {
        if (static_cast<unsigned char>(c) >= 0x80) {
            state_.unsupported("'" + how + "' of text that is not ASCII");
            break;
        }
        const bool is_lower = c >= 'a' && c <= 'z', is_upper = c >= 'A' && c <= 'Z';
        const bool raise = how == "upper" || (!inside && how != "lower");
        if (raise && is_lower) c = static_cast<char>(c - 'a' + 'A');
        if (!raise && is_upper) c = static_cast<char>(c - 'A' + 'a');
        inside = how == "title" ? is_lower || is_upper : true;
    }
    return to;
}

inline jinja_value jinja_builtins::replaced(const std::string& s, const std::string& from, const std::string& to, std::int64_t count) {
    std::string result;
    std::size_t at = 0;
    for (; count != 0 && at <= s.size() && !state_.failure; --count) {
        if (from.empty()) {  // before each character and at the end
            result += to;
            if (at == s.size()) break;
            const auto n = utf8_length(s[at]);
            result.append(s, at, n);
            at += n;
            state_.charge(to.size() + n);
            continue;
        }
        const auto found = s.find(from, at);
        if (found == s.npos) break;
        state_.charge(found - at + to.size());
        result.append(s, at, found - at).append(to);
        at = found + from.size();
    }
    if (at < s.size()) result.append(s, at);
    state_.charge(s.size());
    return result;
}

inline jinja_value jinja_builtins::tojson(const jinja_value& v, const jinja_arguments& a) {
    const auto [ascii, indent, separators, sorted] = bind<4>("the filter 'tojson'", a, {"ensure_ascii", "indent", "separators", "sort_keys"});
    json_style style;
    style.ascii = ascii && ascii->truth();
    style.sorted = sorted && sorted->truth();
    if (indent && !indent->none()) {
        style.lines = true;
        style.item = ",";
        if (indent->string()) {
            style.indent = *indent->string();
        } else {
            if (!indent->integral() || indent->integer() > 100) return state_.fail(errc::refused, "tojson's indent is not a small number");
            style.indent.assign(static_cast<std::size_t>(std::max<std::int64_t>(indent->integer(), 0)), ' ');
        }
    }
    if (separators && !separators->none()) {
        const auto* l = separators->list();
        if (!l || l->size() != 2 || !(*l)[0].string() || !(*l)[1].string()) return state_.fail(errc::refused, "tojson's separators are not two strings");
        style.item = *(*l)[0].string();
        style.key = *(*l)[1].string();
    }
    std::string to;
    append_json(to, v, style);
    return to;
}

inline jinja_value jinja_builtins::indent(const jinja_value& v, const jinja_arguments& a) {
    const auto [width, first, blank] = bind<3>("the filter 'indent'", a, {"width", "first", "blank"});
    std::string space(4, ' ');
    if (width && width->string()) space = *width->string();
    if (width && width->integral()) {
        if (width->integer() > 1000) return state_.fail(errc::refused, "indent's width is more than 1000");
        space.assign(static_cast<std::size_t>(std::max<std::int64_t>(width->integer(), 0)), ' ');
    }
    const bool blanks = blank && blank->truth();
    const auto s = text(v) + "\n";  // so does Jinja2, for a last empty line
    std::string to = first && first->truth() ? space : "";
    std::size_t at = 0;
    for (bool begin = true; at < s.size() && !state_.failure; begin = false) {
        const auto end = std::min(s.find('\n', at), s.size());
        if (!begin) {
            to += '\n';
            if (blanks || end > at) to += space;
        }
        to.append(s, at, end - at);
        state_.charge(end - at + space.size());
        at = end + 1;
    }
    return to;
}

inline jinja_value jinja_builtins::filter(const std::string& name, const jinja_value& v, const jinja_arguments& a) {
    const auto what = "the filter '" + name + "'";
    const auto none = [&] { (void)bind<0>(what, a, {}); };
    if (!state_.step()) return {};
    if (name == "trim" || name == "string" || name == "safe" || name == "upper" || name == "lower" || name == "capitalize" || name == "title") {
        auto s = text(v);
        if (name == "trim") {
            const auto [chars] = bind<1>(what, a, {"chars"});
            if (chars && !chars->none()) return string_method(s, "strip", {{*chars}, {}});
            return strip(s);
        }
        none();
        if (name == "string") return s;
        if (name == "safe") {
            jinja_value marked(std::move(s));
            marked.markup = true;
            return marked;
        }
        return cased(s, name);
    }
    if (name == "tojson") return tojson(v, a);
    if (name == "indent") return indent(v, a);
    if (name == "map") return map(v, a);
    if (name == "select" || name == "reject" || name == "selectattr" || name == "rejectattr") return choose(name, v, a);
    if (name == "length" || name == "count") {
        none();
        if (const auto* s = v.string()) return state_.charge(s->size() / 4) ? static_cast<std::int64_t>(utf8_count(*s)) : jinja_value();
        if (const auto* l = v.list()) return static_cast<std::int64_t>(l->size());
        if (const auto* d = v.dict()) return static_cast<std::int64_t>(d->items.size());
        if (v.undefined()) return std::int64_t{0};
        return state_.fail(errc::refused, described(v) + " has no length");
    }
    if (name == "default" || name == "d") {
        const auto [other, also_false] = bind<2>(what, a, {"default_value", "boolean"});
        if (v.undefined() || (also_false && also_false->truth() && !v.truth())) return other ? *other : jinja_value("");
        return v;
    }
    if (name == "first" || name == "last") {
        none();
        const auto all = items(v);
        if (all->empty()) return jinja_undefined{"the " + name + " item of nothing"};
        return name == "first" ? all->front() : all->back();
    }
    if (name == "list") {
        none();
        return state_.make(jinja_list(*items(v)));
    }
    if (name == "reverse") {
        none();
        auto all = jinja_list(*items(v));
        std::reverse(all.begin(), all.end());
        if (!v.string()) return state_.make(std::move(all));
        std::string s;
        for (const auto& c : all) s += *c.string();
        return s;
    }
    if (name == "join") {
        const auto [separator, attribute] = bind<2>(what, a, {"d", "attribute"});
        const auto all = items(v);
        std::string to;
        bool begin = true;
        for (const auto& item : *all) {
            if (!state_.step()) break;
            if (!std::exchange(begin, false) && separator) to += text(*separator);
            to += text(attribute ? get(item, *attribute) : item);
        }
        return to;
    }
    if (name == "replace") {
        const auto [from, to, count] = bind<3>(what, a, {"old", "new", "count"});
        if (!from || !to) return state_.fail(errc::refused, what + " needs what to replace, and by what");
        return replaced(text(v), text(*from), text(*to), count && count->integral() ? count->integer() : -1);
    }
    if (name == "items" || name == "dictsort") {
        none();
        jinja_list pairs;
        if (const auto* d = v.dict()) {
            for (const auto& [k, value] : d->items) {
                auto pair = state_.make(jinja_list{k, value});
                pair.tuple = true;
                pairs.push_back(std::move(pair));
            }
        } else if (!v.undefined()) {
            return state_.fail(errc::refused, what + " needs a mapping, not " + described(v));
        }
        if (name == "dictsort") {
            std::vector<std::pair<std::string, jinja_value>> sorted;
            for (auto& p : pairs) sorted.emplace_back(cased(*(*p.list())[0].string(), "lower"), std::move(p));
            std::stable_sort(sorted.begin(), sorted.end(), [](const auto& x, const auto& y) { return x.first < y.first; });
            pairs.clear();
            for (auto& [k, p] : sorted) pairs.push_back(std::move(p));
        }
        return state_.make(std::move(pairs));
    }
    if (name == "sort" || name == "min" || name == "max") {
        const auto [reverse, cased_too, attribute] = bind<3>(what, a, {"reverse", "case_sensitive", "attribute"});
        if (name != "sort" && (reverse || cased_too || attribute)) return state_.unsupported(what + " with arguments");
        struct keyed {
            std::string text;
            double number;
            jinja_value item;
        };
        std::vector<keyed> all;
        const auto given = items(v);
        for (const auto& item : *given) {
            if (!state_.step()) return {};
            const auto key = attribute ? get(item, *attribute) : item;
            if (!key.string() && !key.number()) return state_.unsupported(what + " by " + described(key));
            if (!all.empty() && (key.string() == nullptr) != all[0].text.empty()) return state_.fail(errc::refused, what + " of strings and numbers together");
            const bool exact = cased_too && cased_too->truth();
            all.push_back(
                {key.string() ? "s" + (exact ? *key.string() : cased(*key.string(), "lower")) : "", key.real(), item});  // a letter, so that no text is empty
        }
        const auto less = [](const keyed& x, const keyed& y) { return x.text != y.text ? x.text < y.text : x.number < y.number; };
        const bool down = reverse && reverse->truth();
        if (name != "sort") {
            if (all.empty()) return jinja_undefined{"the " + name + " of nothing"};
            return (name == "min" ? std::min_element(all.begin(), all.end(), less) : std::max_element(all.begin(), all.end(), less))->item;
        }
        std::stable_sort(all.begin(), all.end(), [&](const auto& x, const auto& y) { return down ? less(y, x) : less(x, y); });
        jinja_list sorted;
        for (auto& k : all) sorted.push_back(std::move(k.item));
        return state_.make(std::move(sorted));
    }
    if (name == "int" || name == "float") {
        const auto [fallback] = bind<1>(what, a, {"default"});
        double number = 0;
        bool read = v.number();
        if (read) number = v.real();
        if (name == "int" && v.integral()) return v.integer();
        if (const auto* s = v.string()) {
            auto trimmed = strip(*s);
            if (trimmed.starts_with('+')) trimmed.remove_prefix(1);
            std::int64_t whole = 0;
            const auto end = std::from_chars(trimmed.data(), trimmed.data() + trimmed.size(), whole);
            if (name == "int" && end.ec == std::errc() && end.ptr == trimmed.data() + trimmed.size()) return whole;
            const auto real_end = std::from_chars(trimmed.data(), trimmed.data() + trimmed.size(), number);
            read = real_end.ec == std::errc() && real_end.ptr == trimmed.data() + trimmed.size();
        }
        if (!read || (name == "int" && !(std::fabs(number) < 9e18)))
            return fallback ? *fallback : name == "int" ? jinja_value(std::int64_t{0}) : jinja_value(0.0);
        return name == "int" ? jinja_value(static_cast<std::int64_t>(number)) : jinja_value(number);
    }
    if (name == "abs") {
        none();
        if (v.integral()) return v.integer() == INT64_MIN ? state_.fail(errc::refused, "a number is too large") : jinja_value(std::abs(v.integer()));
        if (v.as<double>()) return std::fabs(*v.as<double>());
        return state_.fail(errc::refused, what + " needs a number, not " + described(v));
    }
    return state_.unsupported(what);
}

inline bool jinja_builtins::test(const std::string& name, const jinja_value& v, const jinja_arguments& a) {
    const auto what = "the test '" + name + "'";
    if (!state_.step()) return false;
    const auto one = [&]() -> jinja_value {
        const auto [other] = bind<1>(what, a, {"other"});
        return other ? *other : state_.fail(errc::refused, what + " needs an argument");
    };
    static constexpr std::array<std::string_view, 8> relations{"eq", "equalto", "==", "ne", "!=", "in", "sameas", "divisibleby"};
    static constexpr std::array<std::string_view, 10> orders{"lt", "lessthan", "<", "le", "<=", "gt", "greaterthan", ">", "ge", ">="};
    if (std::find(orders.begin(), orders.end(), name) != orders.end()) {
        const auto o = order(v, one());
        if (name.starts_with('l') || name.starts_with('<')) return name == "le" || name == "<=" ? o <= 0 : o < 0;
        return name == "ge" || name == ">=" ? o >= 0 : o > 0;
    }
    if (std::find(relations.begin(), relations.end(), name) != relations.end()) {
        const auto other = one();
        if (name == "in") return contains(other, v);
        if (name == "ne" || name == "!=") return !equal(v, other);
        if (name == "divisibleby") {
            if (!v.integral() || !other.integral() || other.integer() == 0) return state_.fail(errc::refused, what + " needs two numbers"), false;
            return other.integer() == -1 || v.integer() % other.integer() == 0;
        }
        if (name == "sameas") return v.is.index() == other.is.index() && equal(v, other);
        return equal(v, other);
    }
    (void)bind<0>(what, a, {});
    if (name == "defined") return !v.undefined();
    if (name == "undefined") return v.undefined();
    if (name == "none") return v.none();
    if (name == "string") return v.string() != nullptr;
    if (name == "mapping") return v.dict() != nullptr;
    if (name == "iterable") return v.string() || v.list() || v.dict() || v.undefined();
    if (name == "sequence") return v.string() || v.list() || v.dict() || v.undefined();
    if (name == "number") return v.number();
    if (name == "integer") return v.as<std::int64_t>() != nullptr;
    if (name == "float") return v.as<double>() != nullptr;
    if (name == "boolean") return v.as<bool>() != nullptr;
    if (name == "true") return v.as<bool>() && *v.as<bool>();
    if (name == "false") return v.as<bool>() && !*v.as<bool>();
    if (name == "callable") return v.as<jinja_macro>() || v.as<jinja_function>();
    if (name == "even" || name == "odd") {
        if (!v.integral()) return state_.fail(errc::refused, what + " needs an integer, not " + described(v)), false;
        return (v.integer() % 2 == 0) == (name == "even");
    }
    if (name == "lower" || name == "upper") {
        const auto s = text(v);
        return s == cased(s, name) && s != cased(s, name == "lower" ? "upper" : "lower");
    }
    state_.unsupported(what);
    return false;
}

inline jinja_value jinja_builtins::date(const jinja_arguments& a) {
    const auto [format] = bind<1>("strftime_now", a, {"format"});
    if (!format || !format->string()) return state_.fail(errc::refused, "strftime_now needs a format");
    static constexpr const char* months[] = {"January", "February", "March",     "April",   "May",      "June",
                                             "July",    "August",   "September", "October", "November", "December"};
    static constexpr const char* days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
    const auto padded = [](int n, std::size_t width) {
        auto s = std::to_string(n);
        return s.size() < width ? std::string(width - s.size(), '0') + s : s;
    };
    std::string to;
    const auto& f = *format->string();
    for (std::size_t i = 0; i < f.size(); ++i) {
        if (f[i] != '%' || i + 1 == f.size()) {
            to += f[i];
            continue;
        }
        const bool bare = f[i + 1] == '-' && i + 2 < f.size();
        if (bare) ++i;
        const auto number = [&](int n, std::size_t width) { to += padded(n, bare ? 1 : width); };
        switch (f[++i]) {
            case 'd':
                number(now_->tm_mday, 2);
                break;
            case 'm':
                number(now_->tm_mon + 1, 2);
                break;
            case 'Y':
                number(now_->tm_year + 1900, 4);
                break;
            case 'y':
                number((now_->tm_year + 1900) % 100, 2);
                break;
            case 'H':
                number(now_->tm_hour, 2);
                break;
            case 'I':
                number(now_->tm_hour % 12 == 0 ? 12 : now_->tm_hour % 12, 2);
                break;
            case 'M':
                number(now_->tm_min, 2);
                break;
            case 'S':
                number(now_->tm_sec, 2);
                break;
            case 'j':
                number(now_->tm_yday + 1, 3);
                break;
            case 'p':
                to += now_->tm_hour < 12 ? "AM" : "PM";
                break;
            case 'B':
                to += months[std::clamp(now_->tm_mon, 0, 11)];
                break;
            case 'b':
                to += std::string_view(months[std::clamp(now_->tm_mon, 0, 11)]).substr(0, 3);
                break;
            case 'A':
                to += days[std::clamp(now_->tm_wday, 0, 6)];
                break;
            case 'a':
                to += std::string_view(days[std::clamp(now_->tm_wday, 0, 6)]).substr(0, 3);
                break;
            case '%':
                to += '%';
                break;
            default:
                return state_.unsupported(std::string("%") + f[i] + " in strftime_now");
        }
    }
    return to;
}

inline jinja_value jinja_builtins::function(std::string_view name, const jinja_arguments& a) {
    if (name == "raise_exception") {
        const auto [message] = bind<1>("raise_exception", a, {"message"});
        return state_.fail(errc::refused, "the template refuses this conversation: " + (message ? text(*message) : std::string()));
    }
    if (name == "strftime_now") return date(a);
    if (name == "namespace" || name == "dict") {
        jinja_dict members;
        if (a.positional.size() > 1 || (a.positional.size() == 1 && !a.positional[0].dict()))
            return state_.unsupported(std::string(name) + " of anything but a mapping and named values");
        if (a.positional.size() == 1) members = *a.positional[0].dict();
        for (const auto& [k, v] : a.named) {
            state_.containable(v);
            members.set(k, v);
        }
        auto made = state_.make(std::move(members));
        if (name == "dict" || state_.failure) return made;
        return jinja_namespace{std::make_shared<jinja_dict>(*made.dict())};
    }
    if (name == "range") {
        std::int64_t bounds[3] = {0, 0, 1};
        if (a.positional.empty() || a.positional.size() > 3 || !a.named.empty()) return state_.unsupported("range with these arguments");
        for (std::size_t i = 0; i < a.positional.size(); ++i) {
            if (!a.positional[i].integral()) return state_.fail(errc::refused, "range needs integers, not " + described(a.positional[i]));
            bounds[a.positional.size() == 1 ? 1 : i] = a.positional[i].integer();
        }
        for (const auto b : bounds) {
            if (b > 1'000'000 || b < -1'000'000) return state_.fail(errc::refused, "a range goes beyond a million");
        }
        if (bounds[2] == 0) return state_.fail(errc::refused, "range's step is 0");
        jinja_list all;
        for (auto i = bounds[0]; bounds[2] > 0 ? i < bounds[1] : i > bounds[1]; i += bounds[2]) {
            if (!state_.charge(sizeof(jinja_value))) break;
            all.emplace_back(i);
        }
        return state_.make(std::move(all));
    }
    return state_.unsupported("the function '" + std::string(name) + "'");
}

inline jinja_value jinja_builtins::string_method(const jinja_value& object, const std::string& name, const jinja_arguments& a) {
    const auto& s = *object.string();
    const auto what = "the method '" + name + "' of a string";
    const auto text_of = [&](const jinja_value* v) -> const std::string& {
        static const std::string empty;
        if (v && v->string()) return *v->string();
        state_.fail(errc::refused, what + " needs a string" + (v ? ", not " + described(*v) : ""));
        return empty;
    };
    if (!state_.charge(s.size())) return {};
    if (name == "strip" || name == "lstrip" || name == "rstrip") {
        const auto [chars] = bind<1>(what, a, {"chars"});
        const bool left = name != "rstrip", right = name != "lstrip";
        if (!chars || chars->none()) return left && right ? strip(s) : left ? strip_left(s) : strip_right(s);
        const auto& set = text_of(chars);
        const auto all = code_points(s);
        const auto taken = [&](std::string_view c) { return state_.charge(set.size() / 4) && set.find(c) != set.npos; };
        std::size_t from = 0, to = all.size();
        while (left && from < to && taken(all[from])) ++from;
        while (right && to > from && taken(all[to - 1])) --to;
        std::string kept;
        for (; from < to; ++from) kept += all[from];
        return kept;
    }
    if (name == "split" || name == "rsplit") {
        const auto [separator, most] = bind<2>(what, a, {"sep", "maxsplit"});
        std::int64_t left = most && most->integral() && most->integer() >= 0 ? most->integer() : INT64_MAX;
        jinja_list parts;
        std::string_view rest = s;
        if (!separator || separator->none()) {
            if (name == "rsplit" && left != INT64_MAX) return state_.unsupported("rsplit at white space with a limit");
            for (rest = strip_left(rest); !rest.empty() && state_.charge(sizeof(jinja_value)); rest = strip_left(rest)) {
                std::size_t n = 0;
                while (left > 0 && n < rest.size() && !is_space(utf8_decode(rest.substr(n)))) n += utf8_length(rest[n]);
                if (left-- == 0) n = rest.size();
                parts.emplace_back(rest.substr(0, n));
                rest.remove_prefix(n);
            }
            return state_.make(std::move(parts));
        }
        const auto& by = text_of(separator);
        if (by.empty()) return state_.fail(errc::refused, "split by an empty string");
        for (; left > 0 && state_.charge(sizeof(jinja_value)); --left) {
            const auto at = name == "split" ? rest.find(by) : rest.rfind(by);
            if (at == rest.npos) break;
            parts.emplace_back(name == "split" ? rest.substr(0, at) : rest.substr(at + by.size()));
            rest = name == "split" ? rest.substr(at + by.size()) : rest.substr(0, at);
        }
        parts.emplace_back(rest);
        if (name == "rsplit") std::reverse(parts.begin(), parts.end());
        return state_.make(std::move(parts));
    }
    if (name == "splitlines") {
        (void)bind<0>(what, a, {});
        jinja_list lines;
        for (std::size_t at = 0; at < s.size() && state_.charge(sizeof(jinja_value));) {
            const auto end = std::min(s.find_first_of("\n\r", at), s.size());
            lines.emplace_back(std::string_view(s).substr(at, end - at));
            at = end + (s.compare(end, 2, "\r\n") == 0 ? 2 : 1);
        }
        return state_.make(std::move(lines));
    }
    if (name == "startswith" || name == "endswith") {
        const auto [affix] = bind<1>(what, a, {"prefix"});
        const auto has = [&](const std::string& t) { return name == "startswith" ? s.starts_with(t) : s.ends_with(t); };
        if (affix && affix->list()) return std::any_of(affix->list()->begin(), affix->list()->end(), [&](const auto& t) { return has(text_of(&t)); });
        const auto& t = text_of(affix);
        return has(t);
    }
    if (name == "removeprefix" || name == "removesuffix") {
        const auto [affix] = bind<1>(what, a, {"prefix"});
        const auto& t = text_of(affix);
        const bool front = name == "removeprefix";
        if (!(front ? s.starts_with(t) : s.ends_with(t))) return object;
        return front ? s.substr(t.size()) : s.substr(0, s.size() - t.size());
    }
    if (name == "replace") {
        const auto [from, to, count] = bind<3>(what, a, {"old", "new", "count"});
        const auto &old = text_of(from), &by = text_of(to);
        return replaced(s, old, by, count && count->integral() ? count->integer() : -1);
    }
    if (name == "upper" || name == "lower" || name == "title" || name == "capitalize") {
        (void)bind<0>(what, a, {});
        return cased(s, name);
    }
    if (name == "find" || name == "rfind") {
        const auto [needle] = bind<1>(what, a, {"sub"});
        const auto at = name == "find" ? s.find(text_of(needle)) : s.rfind(text_of(needle));
        return at == s.npos ? std::int64_t{-1} : static_cast<std::int64_t>(utf8_count(std::string_view(s).substr(0, at)));
    }
    if (name == "count") {
        const auto [needle] = bind<1>(what, a, {"sub"});
        const auto& t = text_of(needle);
        if (t.empty()) return static_cast<std::int64_t>(utf8_count(s) + 1);
        std::int64_t n = 0;
        for (auto at = s.find(t); at != s.npos; at = s.find(t, at + t.size())) ++n;
        return n;
    }
    if (name == "format") {  // {} and {0} alone
        std::string to;
        std::size_t next = 0;
        for (std::size_t i = 0; i < s.size() && state_.charge(1); ++i) {
            if ((s[i] == '{' || s[i] == '}') && i + 1 < s.size() && s[i + 1] == s[i]) {
                to += s[i++];
            } else if (s[i] == '{' || s[i] == '}') {
                const auto close = s.find('}', i);
                std::size_t at = next;
                const auto field = std::string_view(s).substr(i + 1, close == s.npos ? 0 : close - i - 1);
                const auto end = std::from_chars(field.data(), field.data() + field.size(), at);
                if (s[i] == '}' || close == s.npos || end.ptr != field.data() + field.size()) return state_.unsupported(what + " with anything but {} and {0}");
                if (field.empty()) ++next;
                if (at >= a.positional.size() || !a.named.empty()) return state_.fail(errc::refused, what + " lacks an argument");
                to += text(a.positional[at]);
                i = close;
            } else {
                to += s[i];
            }
        }
        return to;
    }
    if (name == "join") {
        const auto [list] = bind<1>(what, a, {"iterable"});
        if (!list) return state_.fail(errc::refused, what + " needs a list");
        const auto all = items(*list);
        std::string to;
        bool begin = true;
        for (const auto& item : *all) {
            if (!std::exchange(begin, false)) to += s;
            to += text_of(&item);
            if (!state_.charge(s.size() + sizeof(jinja_value)) || !state_.charge(item.string() ? item.string()->size() : 0)) break;
        }
        return to;
    }
    if (name == "isdigit" || name == "isspace" || name == "isalpha" || name == "isalnum" || name == "isupper" || name == "islower") {
        if (name == "isspace") {
            const auto all = code_points(s);
            return !all.empty() && std::all_of(all.begin(), all.end(), [](auto c) { return is_space(utf8_decode(c)); });
        }
        if (name == "isdigit" && std::all_of(s.begin(), s.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; }))
            return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
    }
    return state_.unsupported(what);
}

inline jinja_value jinja_builtins::method(const jinja_value& object, const std::string& name, const jinja_arguments& a) {
    if (!state_.step()) return {};
    if (object.string()) return string_method(object, name, a);
    if (const auto* d = object.dict()) {
        if (name == "items") {
            (void)bind<0>("the method 'items'", a, {});
            return filter("items", object, {});
        }
        if (name == "keys" || name == "values") {
            (void)bind<0>("the method '" + name + "'", a, {});
            jinja_list all;
            for (const auto& [k, v] : d->items) all.push_back(name == "keys" ? jinja_value(k) : v);
            return state_.make(std::move(all));
        }
        if (name == "get") {
            const auto [key, fallback] = bind<2>("the method 'get'", a, {"key", "default"});
            const auto* found = key && key->string() ? find(*d, *key->string()) : nullptr;
            return found ? *found : fallback ? *fallback : jinja_value(jinja_none{});
        }
    }
    if (const auto* l = object.list()) {
        if (name == "index" || name == "count") {
            const auto [item] = bind<1>("the method '" + name + "'", a, {"value"});
            std::int64_t n = 0;
            for (std::size_t i = 0; item && i < l->size(); ++i) {
                if (!equal((*l)[i], *item)) continue;
                if (name == "index") return static_cast<std::int64_t>(i);
                ++n;
            }
            if (name == "count") return n;
            return state_.fail(errc::refused, "the item is not in the list");
        }
    }
    if (const auto* l = object.as<jinja_loop>(); l && name == "cycle") {
        if (a.positional.empty()) return state_.fail(errc::refused, "loop.cycle needs values");
        return a.positional[l->at % a.positional.size()];
    }
    if (object.undefined()) return state_.fail(errc::refused, described(object) + ", has no method '" + name + "'");
    return state_.unsupported("the method '" + name + "' of " + described(object));
}

}  // namespace nibble::chat::detail
