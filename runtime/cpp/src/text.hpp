#ifndef SAM2RT_SRC_TEXT_HPP
#define SAM2RT_SRC_TEXT_HPP

#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace sam2rt {

/// The arguments one after the other, as `<<` writes them.
template <class... T>
std::string text(const T&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// A number as Python's repr() writes it: the fewest digits that give it back.
std::string repr(double value);

/// Text as Python's repr() writes it (for messages; non-ASCII bytes are kept).
std::string repr(std::string_view value);

/// Text as Python's ascii() writes it: nothing that a terminal could take for a command.
std::string ascii(std::string_view utf8);

/// The code points of valid UTF-8.
std::vector<char32_t> code_points(std::string_view utf8);

/// Values in brackets: [1, 2, 3].
template <class Container, class Write>
std::string listed(const Container& values, Write write) {
  std::string out = "[";
  for (const auto& value : values) {
    if (out.size() > 1) out += ", ";
    out += write(value);
  }
  return out + "]";
}

/// `listed`, cut off: the start of one line.
template <class Container, class Write>
std::string first_listed(const Container& values, Write write) {
  return listed(values, write).substr(0, 80);
}

}  // namespace sam2rt

#endif
