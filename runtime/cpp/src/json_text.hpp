#ifndef SAM2RT_SRC_JSON_TEXT_HPP
#define SAM2RT_SRC_JSON_TEXT_HPP

#include <nlohmann/json.hpp>
#include <string>

namespace sam2rt {

/// sha256 of an object without its "digest", written as Python's json.dumps does with sorted keys
/// and without spaces.
std::string json_digest(nlohmann::json object);

/// The value of a JSON text of at most `most` bytes in UTF-8. What other readers could take
/// differently is refused as what is no JSON at all. Throws std::exception of some type, one line.
nlohmann::json parse_json(const std::string& json_text, std::size_t most);

}  // namespace sam2rt

#endif
