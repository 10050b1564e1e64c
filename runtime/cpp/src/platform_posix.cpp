#include <dlfcn.h>

#include <cstdlib>

#include "platform.hpp"

namespace sam2rt {

namespace fs = std::filesystem;

void* open_library(const std::string& name) noexcept {
  return dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
}

void* library_function(void* library, const char* name) noexcept { return dlsym(library, name); }

void close_library(void* library) noexcept { dlclose(library); }

const char* const cuda_driver_file = "libcuda.so.1";

std::string tensorrt_file(int major) { return "libnvinfer.so." + std::to_string(major); }

fs::path openable(const fs::path& path) { return path; }

bool is_file(const fs::path& path) noexcept {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool is_folder(const fs::path& path) noexcept {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

std::uint64_t size_of_file(const fs::path& path) { return fs::file_size(path); }

fs::path real_path(const fs::path& path) { return fs::weakly_canonical(path); }

fs::path user_cache() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache != '\0') return cache;
  const char* home = std::getenv("HOME");
  return fs::path(home != nullptr ? home : ".") / ".cache";
}

}  // namespace sam2rt
