#include "json_text.hpp"

#include <cmath>
#include <stdexcept>
#include <utility>
#include <vector>

#include "sha256.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

using nlohmann::json;

/// levels of lists and objects; our own files have at most eight
constexpr std::size_t deepest = 64;

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

/// Builds the value that is read, and refuses what Python could take differently: see
/// configs/formats/strict_json.py.
class StrictBuilder final : public nlohmann::json_sax<json> {
 public:
  json root;

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > INT64_MAX) throw std::runtime_error("a number that is too large");
    return add(static_cast<std::int64_t>(value));
  }
  bool number_float(number_float_t value, const string_t& digits) override {
    // an integer of more digits than an int64 has comes here too
    if (!std::isfinite(value) || digits.find_first_of(".eE") == std::string::npos) {
      throw std::runtime_error("a number that is too large");
    }
    return add(value);
  }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& value) override {
    if (open_.back()->contains(value)) throw std::runtime_error("a key twice");
    key_ = std::move(value);
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&,
                   const nlohmann::detail::exception& error) override {
    if (error.id == 406) throw std::runtime_error("a number that is too large");
    // its own words repeat bytes of the file, which need not be text
    throw std::runtime_error(text("no JSON from byte ", byte, " on"));
  }

 private:
  json& place(json value) {
    if (open_.empty()) return root = std::move(value);
    json& parent = *open_.back();
    if (parent.is_object()) return parent[std::move(key_)] = std::move(value);
    parent.push_back(std::move(value));
    return parent.back();
  }
  template <class Value>
  bool add(Value&& value) {
    place(std::forward<Value>(value));
    return true;
  }
  bool open(json empty) {
    if (open_.size() == deepest) throw std::runtime_error("nested too deep");
    open_.push_back(&place(std::move(empty)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  /// lists and objects that are not closed yet; adding to the last one moves none of them
  std::vector<json*> open_;
  std::string key_;
};

}  // namespace

std::string json_digest(json object) {
  object.erase("digest");
  std::string canonical;
  write_canonical(canonical, object);
  return sha256(canonical);
}

json parse_json(const std::string& json_text, std::size_t most) {
  if (json_text.size() > most) throw std::runtime_error(text("more than ", most, " bytes"));
  if (json_text.find_first_not_of(" \t\n\r\f\v") == std::string::npos) {
    throw std::runtime_error("empty");
  }
  // Python refuses one, the parser skips it
  if (json_text.compare(0, 3, "\xEF\xBB\xBF") == 0) throw std::runtime_error("a byte order mark");
  // the parser takes one for the end
  if (json_text.find('\0') != std::string::npos) throw std::runtime_error("a NUL byte");
  StrictBuilder builder;
  json::sax_parse(json_text, &builder);
  return std::move(builder.root);
}

}  // namespace sam2rt
