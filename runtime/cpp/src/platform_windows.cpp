#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>

#include <vector>

#include "platform.hpp"

namespace sam2rt {

namespace fs = std::filesystem;

namespace {

/// Windows refuses paths of 260 characters and more unless they begin with this. The limit is
/// kept away from: ONNX Runtime opens weights by longer names beside the graph.
constexpr std::size_t long_path = 180;
constexpr const wchar_t* prefix = L"\\\\?\\";
constexpr const wchar_t* share_prefix = L"\\\\?\\UNC\\";

std::error_code last_error() noexcept {
  return {static_cast<int>(GetLastError()), std::system_category()};
}

/// Absolute, with backslashes and without "." and "..": behind the prefix nothing is interpreted.
std::wstring full_path(const std::wstring& path) {
  const DWORD size = GetFullPathNameW(path.c_str(), 0, nullptr, nullptr);
  std::wstring full(size, L'\0');
  const DWORD length = GetFullPathNameW(path.c_str(), size, full.data(), nullptr);
  full.resize(length < size ? length : 0);
  return full;
}

bool attributes(const fs::path& path, WIN32_FILE_ATTRIBUTE_DATA& found) {
  return GetFileAttributesExW(openable(path).c_str(), GetFileExInfoStandard, &found) != 0;
}

std::wstring environment(const wchar_t* name) {
  const DWORD size = GetEnvironmentVariableW(name, nullptr, 0);
  if (size == 0) return {};
  std::wstring value(size, L'\0');
  const DWORD length = GetEnvironmentVariableW(name, value.data(), size);
  value.resize(length < size ? length : 0);
  return value;
}

/// Open for as long as the name of a file is asked for.
class Opened {
 public:
  explicit Opened(const fs::path& path)
      : handle_(CreateFileW(openable(path).c_str(), 0,
                            FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, nullptr,
                            OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, nullptr)) {}
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened() {
    if (*this) CloseHandle(handle_);
  }
  explicit operator bool() const noexcept { return handle_ != INVALID_HANDLE_VALUE; }
  std::wstring name() const {
    const DWORD size = GetFinalPathNameByHandleW(handle_, nullptr, 0, 0);
    std::wstring name(size, L'\0');
    const DWORD length = GetFinalPathNameByHandleW(handle_, name.data(), size, 0);
    name.resize(length < size ? length : 0);
    return name;
  }

 private:
  HANDLE handle_;
};

}  // namespace

void* open_library(const std::string& name) noexcept {
  try {
    return LoadLibraryW(fs::u8path(name).c_str());
  } catch (...) {  // no memory, or no UTF-8: no such library
    return nullptr;
  }
}

void* library_function(void* library, const char* name) noexcept {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}

void close_library(void* library) noexcept { FreeLibrary(static_cast<HMODULE>(library)); }

const char* const cuda_driver_file = "nvcuda.dll";

std::string tensorrt_file(int major) { return "nvinfer_" + std::to_string(major) + ".dll"; }

fs::path openable(const fs::path& path) {
  const std::wstring& given = path.native();
  if (given.compare(0, 4, prefix) == 0 || given.compare(0, 4, L"\\\\.\\") == 0) return path;
  const std::wstring full = full_path(given);
  if (full.size() < long_path) return path;
  if (full.compare(0, 2, L"\\\\") == 0) return share_prefix + full.substr(2);
  return prefix + full;
}

bool is_file(const fs::path& path) noexcept {
  try {
    WIN32_FILE_ATTRIBUTE_DATA found;
    return attributes(path, found) && (found.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) == 0;
  } catch (...) {
    return false;
  }
}

bool is_folder(const fs::path& path) noexcept {
  try {
    WIN32_FILE_ATTRIBUTE_DATA found;
    return attributes(path, found) && (found.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
  } catch (...) {
    return false;
  }
}

std::uint64_t size_of_file(const fs::path& path) {
  WIN32_FILE_ATTRIBUTE_DATA found;
  if (!attributes(path, found)) throw fs::filesystem_error("no size", path, last_error());
  return (std::uint64_t{found.nFileSizeHigh} << 32) | found.nFileSizeLow;
}

fs::path real_path(const fs::path& path) {
  const Opened file(path);
  const std::wstring name = file ? file.name() : std::wstring();
  return name.empty() ? fs::path(full_path(path.native())) : fs::path(name);
}

fs::path user_cache() {
  const std::wstring cache = environment(L"XDG_CACHE_HOME");
  return cache.empty() ? fs::path(environment(L"USERPROFILE")) / ".cache" : fs::path(cache);
}

}  // namespace sam2rt
