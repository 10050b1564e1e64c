#include "json_text.hpp"

#include <stdexcept>

#include "sha256.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

using nlohmann::json;

constexpr int deepest = 64;

void write_string(std::string& out, const std::string& value) {
  out += json(value).dump(-1, ' ', /*ensure_ascii=*/true);
}

void write_canonical(std::string& out, const json& value) {
  if (value.is_object()) {
    out += '{';
    bool first = true;
    for (const auto& [key, item] : value.items()) {
      if (!first) out += ',';
      first = false;
      write_string(out, key);
      out += ':';
      write_canonical(out, item);
    }
    out += '}';
  } else if (value.is_array()) {
    out += '[';
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (i > 0) out += ',';
      write_canonical(out, value[i]);
    }
    out += ']';
  } else if (value.is_number_float()) {
    out += repr(value.get<double>());
  } else if (value.is_string()) {
    write_string(out, value.get_ref<const std::string&>());
  } else {
    out += value.dump();
  }
}

}  // namespace

std::string json_digest(json object) {
  object.erase("digest");
  std::string canonical;
  write_canonical(canonical, object);
  return sha256(canonical);
}

std::string python_repr(const json& value) {
  if (value.is_null()) return "None";
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  if (value.is_string()) return repr(std::string_view(value.get_ref<const std::string&>()));
  if (value.is_number_float()) return repr(value.get<double>());
  return value.dump(-1, ' ', true, json::error_handler_t::replace);
}

json parse_json(const std::string& json_text) {
  const json::parser_callback_t shallow = [](int depth, json::parse_event_t, json&) {
    if (depth > deepest) throw std::runtime_error("nested too deep");
    return true;
  };
  // Python refuses one, the parser skips it
  if (json_text.compare(0, 3, "\xEF\xBB\xBF") == 0) throw std::runtime_error("a byte order mark");
  try {
    return json::parse(json_text, shallow);
  } catch (const json::parse_error& error) {
    // its own words repeat bytes of the file, which need not be text
    throw std::runtime_error(text("no JSON from byte ", error.byte, " on"));
  }
}

}  // namespace sam2rt
