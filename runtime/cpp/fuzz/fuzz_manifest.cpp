// The manifest reader on any text. A wrong digest would stop nearly every input at the door, so the
// fuzzer's text also goes in with its digest made right.
#include <cstddef>
#include <cstdint>
#include <string>

#include "manifest.hpp"
#include "sam2rt/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const std::string& input : {text, sam2rt::with_digest(text)}) {
    try {
      const auto bundle = sam2rt::parse_manifest("folder", input);
      // all of them, track_step or not
      if (bundle.graphs.size() - sam2rt::graph_count > 1) __builtin_trap();
    } catch (const sam2rt::BundleError&) {
      // the only way to refuse
    }
  }
  return 0;
}
