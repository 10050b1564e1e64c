#ifndef SAM2RT_SRC_SCHEMA_HPP
#define SAM2RT_SRC_SCHEMA_HPP

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace sam2rt {

/// A value that the schema does not allow; the message says where it stands.
struct SchemaError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Refuse, with SchemaError, the first part of a value that the schema does not allow. The schema
/// is one of configs/formats/*_schema.json, the rules and the words are those of configs/formats/schema.py.
void check_schema(const nlohmann::json& value, const nlohmann::ordered_json& root);

/// The schema of manifest.json.
const nlohmann::ordered_json& manifest_schema();

/// A value as part of a line in plain ASCII, at most 60 characters.
std::string described(const nlohmann::json& value);

}  // namespace sam2rt

#endif
