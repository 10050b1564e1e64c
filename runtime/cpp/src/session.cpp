#include "sam2rt/session.hpp"

#include <algorithm>
#include <limits>

#include "backends.hpp"
#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

/// What each dynamic dimension was in this call; a contract has at most six of them.
struct Sizes {
  struct Entry {
    const std::string* symbol = nullptr;
    std::int64_t size = 0;
  };
  std::array<Entry, 8> entries;
  std::size_t count = 0;

  std::int64_t find_or_set(const std::string& symbol, std::int64_t size) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
      if (*entries[i].symbol == symbol) return entries[i].size;
    }
    if (count < entries.size()) entries[count++] = {&symbol, size};
    return size;
  }
  std::int64_t get(const char* symbol, std::int64_t fallback) const noexcept {
    for (std::size_t i = 0; i < count; ++i) {
      if (*entries[i].symbol == symbol) return entries[i].size;
    }
    return fallback;
  }
};

const char* dtype_name(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32: return "float32";
    case DType::int32: return "int32";
    case DType::int64: return "int64";
    case DType::boolean: return "bool";
  }
  return "unknown";
}

bool fits(const TensorSpec& spec, DType dtype, const Shape& shape, Sizes& sizes) {
  if (spec.dtype != dtype_name(dtype)) return false;
  if (spec.shape.size() != static_cast<std::size_t>(shape.rank)) return false;
  bool all = true;
  for (std::size_t i = 0; i < spec.shape.size(); ++i) {
    const auto size = shape.dims[i];
    const auto* symbol = std::get_if<std::string>(&spec.shape[i]);
    all &= size == (symbol ? sizes.find_or_set(*symbol, size)
                           : std::get<std::int64_t>(spec.shape[i]));
  }
  return all;
}

[[noreturn]] void refuse(const GraphSpec& graph, const TensorSpec& spec, DType dtype,
                         const Shape& shape, const Sizes& sizes) {
  const auto dim = [](const auto& d) {
    const auto* symbol = std::get_if<std::string>(&d);
    return symbol ? repr(std::string_view(*symbol)) : std::to_string(std::get<std::int64_t>(d));
  };
  std::string known = "{";
  for (std::size_t i = 0; i < sizes.count; ++i) {
    const auto& entry = sizes.entries[i];
    known += (i ? ", " : "") + repr(std::string_view(*entry.symbol)) + ": " +
             std::to_string(entry.size);
  }
  const Span<const std::int64_t> got(shape.dims.data(), static_cast<std::size_t>(shape.rank));
  throw InputError(text(graph.name, ".", spec.name, ": expected ", spec.dtype, " ",
                        listed(spec.shape, dim), " with ", known, "}, got ", dtype_name(dtype),
                        " ", listed(got, [](std::int64_t d) { return std::to_string(d); })));
}

template <class Tensor>
void check_all(const GraphSpec& graph, const std::vector<TensorSpec>& specs,
               Span<const Tensor> tensors, const char* kind, Sizes& sizes) {
  if (tensors.size() != specs.size()) {
    throw InputError(text("graph ", graph.name, " has ", specs.size(), " ", kind, ", got ",
                          tensors.size()));
  }
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (!fits(specs[i], tensors[i].dtype, tensors[i].shape, sizes)) {
      refuse(graph, specs[i], tensors[i].dtype, tensors[i].shape, sizes);
    }
  }
}

}  // namespace

void check_tensors(const GraphSpec& spec, Span<const InputTensor> inputs,
                   Span<const OutputTensor> outputs) {
  Sizes sizes;
  check_all(spec, spec.inputs, inputs, "inputs", sizes);
  const auto batch = sizes.get("N", 1);
  for (const char* symbol : {"I", "G"}) {
    const auto size = sizes.get(symbol, 1);
    if (size != 1 && size != batch) {
      throw InputError(text("graph ", spec.name, ": ", symbol, " = ", size,
                            " must be 1 or the number of objects ", batch));
    }
  }
  check_all(spec, spec.outputs, outputs, "outputs", sizes);
}

namespace {

class HostMemory final : public GraphMemory {
 public:
  explicit HostMemory(std::size_t count) : values_(count) {}
  float* data() noexcept override { return values_.data(); }
  MemoryKind kind() const noexcept override { return MemoryKind::host; }
  std::size_t size() const noexcept override { return values_.size(); }
  void write(std::size_t first, const float* values, std::size_t count) override {
    std::copy(values, values + count, values_.data() + first);
  }

 private:
  std::vector<float> values_;
};

}  // namespace

GraphMemory::~GraphMemory() = default;

void GraphMemory::copy(std::size_t first, GraphMemory& from, std::size_t from_first,
                       std::size_t count) {
  if (kind() != MemoryKind::host || from.kind() != MemoryKind::host) {
    throw SessionError("this session's memory cannot be copied: implement GraphMemory::copy");
  }
  std::copy_n(from.data() + from_first, count, data() + first);
}

std::unique_ptr<GraphMemory> Session::allocate(std::size_t count) {
  return std::make_unique<HostMemory>(count);
}

int Session::max_objects() const noexcept { return std::numeric_limits<int>::max(); }
int Session::max_images() const noexcept { return std::numeric_limits<int>::max(); }
bool Session::fused() const noexcept { return false; }
bool Session::keeps_memories() const noexcept { return false; }
bool Session::per_object() const noexcept { return false; }

std::shared_ptr<Session> open_session(const Bundle& bundle, const SessionOptions& options) {
  if (options.threads && *options.threads < 1) {
    throw InputError(text("threads is ", *options.threads,
                          ": expected at least 1, or None for all cores"));
  }
  if (options.backend == "onnxruntime") return open_onnxruntime(bundle, options);
  if (options.backend == "tensorrt") return open_tensorrt(bundle, options);
  throw InputError("unknown backend '" + options.backend +
                   "': expected one of onnxruntime, tensorrt");
}

#ifndef SAM2RT_WITH_TENSORRT
std::shared_ptr<Session> open_tensorrt(const Bundle&, const SessionOptions&) {
  throw SessionError(
      "this library was built without TensorRT: build it with -DTensorRT_ROOT=FOLDER, or use "
      "backend 'onnxruntime' with device 'tensorrt'");
}
#endif

}  // namespace sam2rt
