#include "schema.hpp"

#include <algorithm>
#include <array>
#include <sstream>
#include <utility>

#include "manifest_schema.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

using nlohmann::json;
using Schema = nlohmann::ordered_json;

/// What a terminal or a reader's eye could take for something else, see configs/formats/schema.py.
constexpr std::array<std::pair<char32_t, char32_t>, 10> not_shown{{
    {0x00, 0x1F}, {0x7F, 0x9F}, {0xAD, 0xAD}, {0x61C, 0x61C}, {0x200B, 0x200F},
    {0x2028, 0x202E}, {0x2060, 0x206F}, {0xFEFF, 0xFEFF}, {0xFFF9, 0xFFFB}, {0xE0000, 0xE007F},
}};

bool is_line(const std::vector<char32_t>& codes) {
  return std::none_of(codes.begin(), codes.end(), [](char32_t code) {
    return std::any_of(not_shown.begin(), not_shown.end(), [&](const auto& range) {
      return range.first <= code && code <= range.second;
    });
  });
}

bool is_inside(const std::string& path) {
  if (path.empty() || path.front() == '/' || path.find('\\') != std::string::npos) return false;
  bool names_something = false;
  std::istringstream parts(path);
  for (std::string part; std::getline(parts, part, '/');) {
    if (part == "..") return false;
    names_something |= !part.empty() && part != ".";
  }
  return names_something && is_line(code_points(path));
}

bool is_sha256(const std::string& value) {
  return value.size() == 64 && value.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::size_t count_at(const Schema& schema, const char* key, std::size_t fallback) {
  const auto found = schema.find(key);
  return found == schema.end() ? fallback : found->get<std::size_t>();
}

bool counted(std::size_t count, const Schema& schema, const char* least, const char* most) {
  return count_at(schema, least, 0) <= count && count <= count_at(schema, most, count);
}

bool is_text(const json& value, const Schema& schema) {
  if (!value.is_string()) return false;
  const auto& content = value.get_ref<const std::string&>();
  const auto codes = code_points(content);
  if (!counted(codes.size(), schema, "minLength", "maxLength")) return false;
  const std::string format = schema.value("format", "");
  return format == "line"     ? is_line(codes)
         : format == "path"   ? is_inside(content)
         : format == "sha256" ? is_sha256(content)
                              : true;
}

template <class Number>
bool between(const json& value, const Schema& schema) {
  const auto number = value.get<Number>();
  return number >= schema.at("minimum").get<Number>() &&
         number <= schema.at("maximum").get<Number>();
}

bool is_a(const std::string& type, const json& value, const Schema& schema) {
  if (type == "integer") return value.is_number_integer() && between<std::int64_t>(value, schema);
  if (type == "number") return value.is_number() && between<double>(value, schema);
  if (type == "boolean") return value.is_boolean();
  if (type == "string") return is_text(value, schema);
  if (type == "array") {
    return value.is_array() && counted(value.size(), schema, "minItems", "maxItems");
  }
  return value.is_object() && counted(value.size(), schema, "minProperties", "maxProperties");
}

std::vector<std::string> types(const Schema& schema) {
  const auto found = schema.find("type");
  if (found == schema.end()) return {};
  if (found->is_string()) return {found->get<std::string>()};
  return found->get<std::vector<std::string>>();
}

bool allowed(const json& value, const Schema& schema) {
  if (const auto known = schema.find("enum"); known != schema.end()) {
    return std::any_of(known->begin(), known->end(), [&](const Schema& one) {
      if (one.is_string()) return value.is_string() && value.get<std::string>() == one;
      return value.is_number_integer() && value.get<std::int64_t>() == one.get<std::int64_t>();
    });
  }
  const auto names = types(schema);
  return names.empty() || std::any_of(names.begin(), names.end(), [&](const std::string& name) {
           return is_a(name, value, schema);
         });
}

std::string number(const Schema& value) {
  return value.is_number_float() ? repr(value.get<double>()) : value.dump();
}

std::string expected_type(const std::string& type, const Schema& schema) {
  if (type == "integer" || type == "number") {
    return text(type == "integer" ? "a whole number" : "a number", " from ",
                number(schema.at("minimum")), " to ", number(schema.at("maximum")));
  }
  if (type == "string") {
    const std::string format = schema.value("format", "");
    const char* kind = format == "line"     ? "one line of text"
                       : format == "path"   ? "a path inside the folder"
                       : format == "sha256" ? "a sha256 in hexadecimal"
                                            : "text";
    return text(kind, " of ", count_at(schema, "minLength", 0), " to ",
                count_at(schema, "maxLength", 0), " characters");
  }
  if (type == "array") {
    return text("a list of ", count_at(schema, "minItems", 0), " to ",
                count_at(schema, "maxItems", 0));
  }
  if (type == "boolean") return "true or false";
  const auto most = schema.find("maxProperties");
  return most == schema.end() ? "an object" : "an object of at most " + most->dump();
}

template <class Items, class Write>
std::string either(const Items& items, Write write) {
  std::string out;
  for (const auto& item : items) out += (out.empty() ? "" : " or ") + write(item);
  return out;
}

std::string expected(const Schema& schema) {
  if (const auto known = schema.find("enum"); known != schema.end()) {
    return either(*known, [](const Schema& one) {
      return one.is_string() ? ascii(one.get<std::string>()) : one.dump();
    });
  }
  return either(types(schema), [&](const std::string& name) {
    return expected_type(name, schema);
  });
}

std::string or_it(const std::string& where) { return where.empty() ? "it" : where; }

class Checker {
 public:
  explicit Checker(const Schema& root) : root_(root) {}

  void check(const json& value, const Schema& named, const std::string& where) const {
    const Schema& schema = target(named);
    if (!allowed(value, schema)) {
      throw SchemaError(text(or_it(where), " is ", described(value), ": expected ",
                             expected(schema)));
    }
    if (value.is_object()) check_object(value, schema, where);
    if (value.is_array()) {
      for (std::size_t i = 0; i < value.size(); ++i) {
        check(value[i], schema.at("items"), text(where, "[", i, "]"));
      }
    }
  }

 private:
  const Schema& target(const Schema& schema) const {
    const auto reference = schema.find("$ref");
    if (reference == schema.end()) return schema;
    const auto path = reference->get<std::string>();
    return root_.at("$defs").at(path.substr(path.rfind('/') + 1));
  }

  void check_object(const json& value, const Schema& schema, const std::string& where) const {
    if (const auto required = schema.find("required"); required != schema.end()) {
      for (const Schema& key : *required) {
        if (!value.contains(key.get<std::string>())) {
          throw SchemaError(text(or_it(where), " lacks '", key.get<std::string>(), "'"));
        }
      }
    }
    const Schema known = schema.value("properties", Schema::object());
    for (const auto& [key, inner] : known.items()) {
      const auto found = value.find(key);
      if (found != value.end()) check(*found, inner, where.empty() ? key : where + "." + key);
    }
    for (const auto& [key, item] : value.items()) {
      if (!known.contains(key)) check_other(key, item, schema, where);
    }
  }

  void check_other(const std::string& key, const json& value, const Schema& schema,
                   const std::string& where) const {
    const auto others = schema.find("additionalProperties");
    if (others != schema.end() && *others == false) {
      throw SchemaError(text(or_it(where), " has ", described(key), ", which is no part of it"));
    }
    if (const auto names = schema.find("propertyNames"); names != schema.end()) {
      check(key, *names, "a name in " + or_it(where));
    }
    if (others != schema.end()) {
      check(value, *others, text(or_it(where), "[", described(key), "]"));
    }
  }

  const Schema& root_;
};

}  // namespace

std::string described(const json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  if (value.is_null()) return "None";
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  std::string out = value.is_string()         ? ascii(value.get_ref<const std::string&>())
                    : value.is_number_float() ? repr(value.get<double>())
                                              : value.dump();
  return out.substr(0, 60);
}

void check_schema(const json& value, const Schema& root) { Checker(root).check(value, root, ""); }

const Schema& manifest_schema() {
  static const Schema schema = Schema::parse(manifest_schema_json);
  return schema;
}

}  // namespace sam2rt
