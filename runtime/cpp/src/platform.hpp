#ifndef SAM2RT_SRC_PLATFORM_HPP
#define SAM2RT_SRC_PLATFORM_HPP

#include <cstdint>
#include <filesystem>
#include <string>

/// All in which systems differ: platform_posix.cpp and platform_windows.cpp, one of which is built.
/// Paths shown in messages are UTF-8 on every system: `path.u8string()`.
namespace sam2rt {

/// A library opened at run time, with its symbols kept to itself; `name` is UTF-8. Null: there is
/// none.
void* open_library(const std::string& name) noexcept;
/// Null: the library has no such function.
void* library_function(void* library, const char* name) noexcept;
void close_library(void* library) noexcept;
/// The file names of NVIDIA's libraries: the driver, and TensorRT of a major version.
extern const char* const cuda_driver_file;
std::string tensorrt_file(int major);

/// The path as this system opens it, however long it is and whatever letters are in it.
std::filesystem::path openable(const std::filesystem::path& path);
/// Links followed; false for what is not there.
bool is_file(const std::filesystem::path& path) noexcept;
bool is_folder(const std::filesystem::path& path) noexcept;
/// Bytes; throws filesystem_error.
std::uint64_t size_of_file(const std::filesystem::path& path);
/// The file or folder that is meant, links resolved; what is not there keeps its name. Throws
/// filesystem_error.
std::filesystem::path real_path(const std::filesystem::path& path);

/// Where programs of this user keep what they can make again.
std::filesystem::path user_cache();

}  // namespace sam2rt

#endif
