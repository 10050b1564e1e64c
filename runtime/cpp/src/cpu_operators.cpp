#include "cpu_operators.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string_view>

#include "cpu_operators_identity.hpp"
#include "platform.hpp"
#include "sam2rt/error.hpp"
#include "sha256.hpp"
#include "text.hpp"

#ifdef __linux__
#  include <dlfcn.h>
#  include <sys/stat.h>
#  include <unistd.h>
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
  const auto folder = std::string_view(cpu_operators_identity).substr(0, 16);
  return user_cache() / "sam2rt" / "cpu-operators" / folder / "libsam2rt_cpu.so";
}

/// What the system said of a library that was not loaded, as one line.
std::string why_not(const fs::path& path) {
  const char* said = dlerror();
  std::istringstream words(said != nullptr ? said : "unknown error");
  std::string line;
  for (std::string word; words >> word;) line += (line.empty() ? "" : " ") + word;
  return text("cannot load the operators ", path.string(), " (", line, "): ", command);
}

/// Whether a file ends in the hash of all that lies in front of it, as Python's build leaves it.
bool is_whole(const fs::path& path) {
  constexpr std::string_view seal = "sam2rt sealed ";
  constexpr std::size_t digest = 32;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream read;
  read << file.rdbuf();
  const std::string content = read.str();
  if (content.size() < seal.size() + digest) return false;
  const std::string_view body(content.data(), content.size() - seal.size() - digest);
  std::string wanted(seal);
  const std::string found = sha256(body);
  for (std::size_t i = 0; i < found.size(); i += 2) {
    wanted += static_cast<char>(std::stoi(found.substr(i, 2), nullptr, 16));
  }
  return content.compare(body.size(), std::string::npos, wanted) == 0;
}

/// Why a file must not be loaded, since loading executes it; "" where nothing speaks against it.
std::string refusal(const fs::path& path) {
  for (const fs::path& place : {path.parent_path(), path}) {
    struct stat found {};
    if (stat(place.c_str(), &found) != 0) return text(place.string(), " cannot be looked at");
    if (found.st_uid != 0 && found.st_uid != geteuid()) {
      return text(place.string(), " belongs to another user");
    }
    if ((found.st_mode & S_IWOTH) != 0) {
      return text("everybody may write to ", place.string(), ": take that right away");
    }
  }
  return is_whole(path) ? "" : "it is not whole";
}

/// Why the library is not the one that belongs to these sources; "" where it is.
std::string wrong(const fs::path& path) {
  if (const std::string why = refusal(path); !why.empty()) {
    return text("cannot load the operators ", path.string(), " (", why, "): ", command);
  }
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
                          bundle.path().u8string(), " on the CPU (", missing.substr(0, colon),
                          "): ", missing.substr(colon + 2)));
}

}  // namespace sam2rt
