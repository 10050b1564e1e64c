#ifndef SAM2RT_TESTS_NATIVE_HPP
#define SAM2RT_TESTS_NATIVE_HPP

#include <dlfcn.h>

#include <memory>

#include "doubles.hpp"
#include "sam2rt/sam2rt.hpp"

/// The native session on the doubles, and what these counted.

template <class Function>
Function* doubled(const char* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(dlopen(library, RTLD_NOW | RTLD_LOCAL), name));
}

inline long count(const char* what) {
  static auto* const counter = doubled<Count>("libcuda.so.1", "double_count");
  return counter(what);
}

inline std::shared_ptr<sam2rt::Session> open_native(const sam2rt::Bundle& bundle) {
  sam2rt::SessionOptions options;
  options.backend = "tensorrt";
  return sam2rt::open_session(bundle, options);
}

#endif
