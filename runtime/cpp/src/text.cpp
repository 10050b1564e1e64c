#include "text.hpp"

#include <charconv>
#include <cmath>
#include <cstdlib>

namespace sam2rt {

namespace {

/// Digits of a number in scientific form, "1.2345e-07", as a row of digits and an exponent.
struct Digits {
  std::string digits;
  int exponent = 0;
};

Digits shortest(double magnitude) {
  char buffer[40];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, magnitude, std::chars_format::scientific).ptr;
  const std::string_view written(buffer, static_cast<std::size_t>(end - buffer));
  const auto e = written.find('e');
  Digits found;
  for (const char c : written.substr(0, e)) {
    if (c != '.') found.digits += c;
  }
  found.exponent = std::atoi(std::string(written.substr(e + 1)).c_str());
  return found;
}

constexpr const char* hex = "0123456789abcdef";

/// The quotes that Python's repr puts around a text.
char quote_of(std::string_view value) {
  const bool single = value.find('\'') != std::string_view::npos;
  return single && value.find('"') == std::string_view::npos ? '"' : '\'';
}

void append_escape(std::string& out, char letter, char32_t code, int digits) {
  out += {'\\', letter};
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) out += hex[(code >> shift) & 15];
}

}  // namespace

std::vector<char32_t> code_points(std::string_view utf8) {
  std::vector<char32_t> codes;
  for (std::size_t i = 0; i < utf8.size();) {
    const auto first = static_cast<unsigned char>(utf8[i++]);
    const int more = first < 0x80 ? 0 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
    char32_t code = more == 0 ? first : first & (0x3FU >> more);
    for (int k = 0; k < more && i < utf8.size(); ++k) {
      code = (code << 6) | (static_cast<unsigned char>(utf8[i++]) & 0x3FU);
    }
    codes.push_back(code);
  }
  return codes;
}

std::string ascii(std::string_view value) {
  const char quote = quote_of(value);
  std::string out(1, quote);
  for (const char32_t code : code_points(value)) {
    if (code == '\n') {
      out += "\\n";
    } else if (code == '\r') {
      out += "\\r";
    } else if (code == '\t') {
      out += "\\t";
    } else if (code >= 0x10000) {
      append_escape(out, 'U', code, 8);
    } else if (code >= 0x100) {
      append_escape(out, 'u', code, 4);
    } else if (code < 0x20 || code >= 0x7F) {
      append_escape(out, 'x', code, 2);
    } else {
      if (code == static_cast<char32_t>(quote) || code == '\\') out += '\\';
      out += static_cast<char>(code);
    }
  }
  return out + quote;
}

std::string repr(double value) {
  if (std::isnan(value)) return "nan";
  std::string out = std::signbit(value) ? "-" : "";
  if (std::isinf(value)) return out + "inf";
  auto [digits, exponent] = shortest(std::fabs(value));
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits.substr(0, 1);
    if (count > 1) out += "." + digits.substr(1);
    const int size = std::abs(exponent);
    return out + (exponent < 0 ? "e-" : "e+") + (size < 10 ? "0" : "") + std::to_string(size);
  }
  if (exponent < 0) {
    return out + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  }
  if (count <= exponent + 1) {
    return out + digits + std::string(static_cast<std::size_t>(exponent + 1 - count), '0') + ".0";
  }
  const auto point = static_cast<std::size_t>(exponent + 1);
  return out + digits.substr(0, point) + "." + digits.substr(point);
}

std::string repr(std::string_view value) {
  const char quote = quote_of(value);
  std::string out(1, quote);
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7F) {
      out += {'\\', 'x', hex[byte >> 4], hex[byte & 15]};
    } else {
      out += c;
    }
  }
  return out + quote;
}

}  // namespace sam2rt
