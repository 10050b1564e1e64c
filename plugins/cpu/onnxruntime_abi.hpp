// The few entries of ONNX Runtime's C interface that a custom operator needs, by their place.
//
// The interface is a table to which releases only append, so that a place never changes. Declared
// here, the library is compiled where ONNX Runtime came as a Python package, which has no headers;
// onnxruntime_abi_check.cpp compares every place with the vendor's header where that is there.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sam2rt_cpu::ort {

// the first release of the interface with all entries below: ONNX Runtime 1.17
constexpr std::uint32_t VERSION = 17;

struct Status;
struct Options;
struct Domain;
struct Info;
struct Context;
struct Value;
struct Shape;

enum Place : std::size_t {
  CREATE_STATUS = 0,
  GET_DATA = 51,
  GET_DIMENSION_COUNT = 61,
  GET_DIMENSIONS = 62,
  GET_SHAPE = 65,
  GET_INPUT = 90,
  GET_OUTPUT = 91,
  RELEASE_SHAPE = 99,
  CREATE_DOMAIN = 26,
  ADD_OPERATOR = 27,
  ADD_DOMAIN = 28,
  GET_CONSTANT_INPUT = 249,
  PARALLEL_FOR = 274,
};

struct Api;

template <Place PLACE, class... Arguments>
Status* call(const Api* api, Arguments... arguments) {
  using Function = Status* (*)(Arguments...);
  return reinterpret_cast<Function>(reinterpret_cast<void* const*>(api)[PLACE])(arguments...);
}

struct ApiBase {
  const Api* (*get)(std::uint32_t version);
  const char* (*version)();
};

// element types and kinds of inputs, as the interface numbers them
enum Element : int { FLOAT = 1, BFLOAT16 = 16 };
enum Presence : int { REQUIRED = 0 };
enum Code : int { FAIL = 1, INVALID_ARGUMENT = 2 };

// what describes an operator
struct Operator {
  std::uint32_t version;
  void* (*create_kernel)(const Operator*, const Api*, const Info*);
  const char* (*name)(const Operator*);
  const char* (*provider)(const Operator*);
  Element (*input_type)(const Operator*, std::size_t);
  std::size_t (*input_count)(const Operator*);
  Element (*output_type)(const Operator*, std::size_t);
  std::size_t (*output_count)(const Operator*);
  void (*compute_kernel)(void*, Context*);
  void (*destroy)(void*);
  Presence (*input_presence)(const Operator*, std::size_t);
  Presence (*output_presence)(const Operator*, std::size_t);
  int (*input_memory)(const Operator*, std::size_t);
  int (*variadic_inputs)(const Operator*);
  int (*variadic_inputs_alike)(const Operator*);
  int (*variadic_outputs)(const Operator*);
  int (*variadic_outputs_alike)(const Operator*);
  Status* (*create)(const Operator*, const Api*, const Info*, void**);
  Status* (*compute)(void*, Context*);
  Status* (*infer_shape)(const Operator*, void*);
  int (*start_version)(const Operator*);
  int (*end_version)(const Operator*);
  // of releases after VERSION: never called
  void* later[4];
};

}  // namespace sam2rt_cpu::ort
