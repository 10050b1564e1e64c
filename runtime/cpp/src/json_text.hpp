#ifndef SAM2RT_SRC_JSON_TEXT_HPP
#define SAM2RT_SRC_JSON_TEXT_HPP

#include <nlohmann/json.hpp>
#include <string>

namespace sam2rt {

/// sha256 of an object without its "digest", written as Python's json.dumps does with sorted keys
/// and without spaces.
std::string json_digest(nlohmann::json object);

/// A value as Python would print it in a message.
std::string python_repr(const nlohmann::json& value);

/// Read JSON; what nests too deep for any file of ours is refused as what is no JSON at all. Throws
/// std::exception of some type.
nlohmann::json parse_json(const std::string& json_text);

}  // namespace sam2rt

#endif
