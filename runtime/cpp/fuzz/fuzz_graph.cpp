// The reader of graphs on any bytes: taken, or refused with its own error.
#include <cstddef>
#include <cstdint>
#include <string>

#include "graph_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    sam2rt::check_graph({reinterpret_cast<const char*>(data), size}, {{"w.bin", 4096}});
  } catch (const sam2rt::GraphError&) {
    // the only way to refuse
  }
  return 0;
}
