// What a reader says of each case of a file: readers manifest|graph CASES. A case is a length (8 bytes,
// little endian) and as many bytes; the answer is one line, "ok" or the error's message.
#include <cstdint>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <string>

#include "graph_file.hpp"
#include "manifest.hpp"
#include "sam2rt/error.hpp"

namespace {

const std::map<std::string, std::function<void(const std::string&)>> readers{
    {"manifest", [](const std::string& content) { sam2rt::parse_manifest("bundle", content); }},
    {"graph", [](const std::string& content) { sam2rt::check_graph(content, {{"w.bin", 4096}}); }},
};

std::string answer(const std::function<void(const std::string&)>& read, const std::string& given) {
  try {
    read(given);
    return "ok";
  } catch (const sam2rt::BundleError& error) {
    return error.what();
  } catch (const sam2rt::GraphError& error) {
    return error.what();
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto reader = argc == 3 ? readers.find(argv[1]) : readers.end();
  if (reader == readers.end()) return 2;
  std::ifstream file(argv[2], std::ios::binary);
  const std::string cases{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  for (std::size_t at = 0; at + 8 <= cases.size();) {
    std::uint64_t size = 0;
    for (int i = 7; i >= 0; --i) {
      size = (size << 8) | static_cast<unsigned char>(cases[at + static_cast<std::size_t>(i)]);
    }
    at += 8;
    std::cout << answer(reader->second, cases.substr(at, size)) << '\n';
    at += size;
  }
  return 0;
}
