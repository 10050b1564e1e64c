#include "cpu_operators.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>

#include "cpu_operators_identity.hpp"
#include "sam2rt/error.hpp"
#include "text.hpp"

#ifdef __linux__
#  include <dlfcn.h>
#endif

namespace sam2rt {

namespace {

namespace fs = std::filesystem;

constexpr const char* command = "run 'sam2rt plugins --cpu'";

#ifdef __linux__

/// Whether /proc/cpuinfo names units with bfloat16 products.
bool has_units() {
#  ifdef __x86_64__
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, 5, "flags") != 0) continue;
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      if (word == "avx512_bf16") return true;
    }
    return false;
  }
#  endif
  return false;
}

fs::path library_path() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const fs::path root = cache != nullptr && *cache != '\0'
                            ? fs::path(cache)
                            : fs::path(home != nullptr ? home : ".") / ".cache";
  const auto folder = std::string_view(cpu_operators_identity).substr(0, 16);
  return root / "sam2rt" / "cpu-operators" / folder / "libsam2rt_cpu.so";
}

/// What the system said of a library that was not loaded, as one line.
std::string why_not(const fs::path& path) {
  const char* said = dlerror();
  std::istringstream words(said != nullptr ? said : "unknown error");
  std::string line;
  for (std::string word; words >> word;) line += (line.empty() ? "" : " ") + word;
  return text("cannot load the operators ", path.string(), " (", line, "): ", command);
}

/// Why the library is not the one that belongs to these sources; "" where it is.
std::string wrong(const fs::path& path) {
  // it stays loaded: ONNX Runtime runs its code for as long as a session lives
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return why_not(path);
  void* const symbol = dlsym(library, "sam2rt_cpu_identity");
  if (symbol == nullptr || dlsym(library, "sam2rt_cpu_units") == nullptr) {
    std::string why = why_not(path);
    dlclose(library);
    return why;
  }
  const std::string_view found = reinterpret_cast<const char* (*)()>(symbol)();
  const std::string_view wanted = cpu_operators_identity;
  if (found == wanted) return "";
  return text("the operators ", path.string(), " were made from other sources (expected ",
              wanted.substr(0, 12), ", found ", found.substr(0, 12), "): ", command);
}

/// Why the operators do not run here, and what fixes it; "" where they do.
std::string lacking() {
  if (!has_units()) {
    return "this processor has no units for bfloat16 (AVX-512 BF16, AMX): use an fp32 bundle";
  }
  const fs::path path = library_path();
  if (!fs::is_regular_file(path)) {
    return text("the operators for bfloat16 are not compiled on this machine: ", command);
  }
  return wrong(path);
}

#else

#  ifdef _WIN32
constexpr const char* system_name = "Windows";
#  elif defined(__APPLE__)
constexpr const char* system_name = "Darwin";
#  else
constexpr const char* system_name = "this system";
#  endif

fs::path library_path() { return {}; }

std::string lacking() {
  return text("the operators for bfloat16 run on Linux, not on ", system_name,
              ": use an fp32 bundle");
}

#endif

}  // namespace

const GraphEntry* cpu_variant(const Bundle& bundle, Graph graph) noexcept {
  try {
    return bundle.find_graph(std::string(graph_name(graph)) + ".cpu");
  } catch (...) {  // no memory for a name
    return nullptr;
  }
}

bool has_cpu_variants(const Bundle& bundle) noexcept {
  if (bundle.precision() != "bf16" && bundle.precision() != "int8") return false;
  for (int i = 0; i < graph_count; ++i) {
    if (cpu_variant(bundle, static_cast<Graph>(i)) == nullptr) return false;
  }
  return true;
}

fs::path cpu_operators(const Bundle& bundle, const std::string& version) {
  const std::string missing = lacking();
  if (missing.empty()) return library_path();
  const auto colon = missing.rfind(": ");
  throw SessionError(text("onnxruntime ", version, " cannot run the ", bundle.precision(), " bundle ",
                          bundle.path().string(), " on the CPU (", missing.substr(0, colon),
                          "): ", missing.substr(colon + 2)));
}

}  // namespace sam2rt
