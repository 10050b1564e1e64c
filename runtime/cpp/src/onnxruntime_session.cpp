#include <mutex>
#include <type_traits>
#include <vector>

#include "backends.hpp"
#include "cpu_operators.hpp"
#include "manifest.hpp"
#include "onnxruntime_library.hpp"
#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

ONNXTensorElementDataType element_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case DType::int32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    case DType::int64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    case DType::boolean: return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

std::size_t element_size(DType dtype) noexcept {
  return dtype == DType::int64 ? 8 : dtype == DType::boolean ? 1 : 4;
}

/// Graphs have at most eight inputs and six outputs.
constexpr std::size_t most_tensors = 8;

/// Runs a bundle's graphs with ONNX Runtime: CPU, or its CUDA and TensorRT execution providers. Of a
/// bf16 or int8 bundle with variants for CPUs it runs those on the CPU, in three calls a frame.
class OnnxRuntimeSession final : public Session {
 public:
  OnnxRuntimeSession(const Bundle& bundle, const SessionOptions& options)
      : library_(bundle, options),
        bundle_(bundle),
        bfloat16_(library_.device() == "cpu" && has_cpu_variants(bundle)) {
    for (std::size_t i = 0; i < graphs_.size(); ++i) {
      const auto graph = static_cast<Graph>(i);
      if (bundle_.has(graph) && graph != rare()) graphs_[i] = library_.open(entry(graph));
    }
    if (fused()) find_parts();
  }

  const Bundle& bundle() const noexcept override { return bundle_; }

  bool fused() const noexcept override {
    return library_.device() == "cpu" && !bfloat16_ && bundle_.has(Graph::track_step);
  }

  bool per_object() const noexcept override { return parts_[0].entry != nullptr; }

  void run(Graph graph, Span<const InputTensor> inputs,
           Span<const OutputTensor> outputs) override {
    if (bfloat16_ && graph == Graph::track_step) refuse_fused();
    const GraphSpec& spec = bundle_.graph(graph).spec;
    check_tensors(spec, inputs, outputs);
    if (graph == Graph::track_step && per_object() && outputs[0].shape.dims[0] > 1) {
      run_per_object(inputs, outputs);
    } else if (bfloat16_ && graph == Graph::memory_attention && outputs[0].shape.dims[0] > 1) {
      attend_per_object(inputs, outputs);
    } else {
      call(opened(graph), spec, inputs, outputs);
    }
  }

 private:
  /// One of the two graphs that do track_step's work per object; opened when several objects are
  /// first tracked.
  struct Part {
    const GraphEntry* entry = nullptr;
    OrtHandle<OrtSession> session;
    std::once_flag once;
  };

  void find_parts() {
    const auto specs = per_object_specs(bundle_.model());
    std::array<const GraphEntry*, 2> found{};
    for (std::size_t i = 0; i < specs.size(); ++i) {
      found[i] = bundle_.find_graph(specs[i].name);
      // variants of graphs have no contract that loading checks
      if (found[i] == nullptr || !(found[i]->spec == specs[i])) return;
    }
    for (std::size_t i = 0; i < found.size(); ++i) parts_[i].entry = found[i];
  }

  /// track_step per object, what they share once.
  void run_per_object(Span<const InputTensor> inputs, Span<const OutputTensor> outputs) {
    const InputTensor& embed = inputs[0];
    const std::int64_t area = embed.shape.dims[2] * embed.shape.dims[3];
    const Shape shape = Shape::of(embed.shape.dims[0], area, embed.shape.dims[1]);
    std::vector<float> tokens = take_scratch();
    tokens.resize(static_cast<std::size_t>(shape.elements()));
    run_part(parts_[0], {embed}, {{tokens.data(), DType::float32, shape}});
    std::array<InputTensor, most_tensors> in;
    std::array<OutputTensor, most_tensors> out;
    for (std::int64_t i = 0; i < outputs[0].shape.dims[0]; ++i) {
      in[0] = object_of(InputTensor{tokens.data(), DType::float32, shape}, i);
      for (std::size_t k = 0; k < inputs.size(); ++k) in[k + 1] = object_of(inputs[k], i);
      for (std::size_t k = 0; k < outputs.size(); ++k) out[k] = object_of(outputs[k], i);
      run_part(parts_[1], {in.data(), inputs.size() + 1}, {out.data(), outputs.size()});
    }
    const std::lock_guard<std::mutex> lock(scratch_mutex_);
    scratch_.push_back(std::move(tokens));
  }

  /// Memory attention of one object after another, in the memory of one.
  void attend_per_object(Span<const InputTensor> inputs, Span<const OutputTensor> outputs) {
    std::array<InputTensor, most_tensors> in;
    for (std::int64_t i = 0; i < outputs[0].shape.dims[0]; ++i) {
      for (std::size_t k = 0; k < inputs.size(); ++k) in[k] = object_of(inputs[k], i);
      call(opened(Graph::memory_attention), bundle_.graph(Graph::memory_attention).spec,
           {in.data(), inputs.size()}, {object_of(outputs[0], i)});
    }
  }

  /// Only the separate graphs have variants for CPUs.
  [[noreturn]] static void refuse_fused() {
    std::string known;
    for (int i = 0; i < graph_count; ++i) {
      known += (i ? ", " : "") + std::string(graph_name(static_cast<Graph>(i)));
    }
    throw InputError(text("unknown graph 'track_step': expected one of ", known));
  }

  /// What is run for a graph of the contract.
  const GraphEntry& entry(Graph graph) const {
    const GraphEntry* variant = bfloat16_ ? cpu_variant(bundle_, graph) : nullptr;
    return variant != nullptr ? *variant : bundle_.graph(graph);
  }

  void run_part(Part& part, Span<const InputTensor> inputs, Span<const OutputTensor> outputs) {
    std::call_once(part.once, [&] { part.session = library_.open(*part.entry); });
    call(part.session.get(), part.entry->spec, inputs, outputs);
  }

  /// Object i of a tensor, or what all of them share.
  template <class Tensor>
  static Tensor object_of(Tensor tensor, std::int64_t i) noexcept {
    if (tensor.shape.dims[0] == 1) return tensor;
    tensor.shape.dims[0] = 1;
    using Byte = std::conditional_t<std::is_same_v<Tensor, InputTensor>, const char, char>;
    const auto bytes = static_cast<std::int64_t>(element_size(tensor.dtype));
    if (tensor.data != nullptr) {
      tensor.data = static_cast<Byte*>(tensor.data) + i * tensor.shape.elements() * bytes;
    }
    return tensor;
  }

  /// Kept between calls, which would allocate it otherwise; as many as calls run at a time.
  std::vector<float> take_scratch() {
    const std::lock_guard<std::mutex> lock(scratch_mutex_);
    if (scratch_.empty()) return {};
    std::vector<float> taken = std::move(scratch_.back());
    scratch_.pop_back();
    return taken;
  }

  void call(OrtSession* session, const GraphSpec& spec, Span<const InputTensor> inputs,
            Span<const OutputTensor> outputs) const {
    const std::string& graph = spec.name;
    Values in(library_, graph);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      // ONNX Runtime does not write through it
      in.add(spec.inputs[i], const_cast<void*>(inputs[i].data), inputs[i].dtype, inputs[i].shape);
    }
    Values out(library_, graph);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].data == nullptr) continue;
      out.add(spec.outputs[i], outputs[i].data, outputs[i].dtype, outputs[i].shape);
    }
    library_.ran(graph, library_.api().Run(session, nullptr, in.names.data(), in.values.data(), in.count,
                         out.names.data(), out.count, out.values.data()));
  }

  /// Tensors of one call around memory that the caller owns.
  struct Values {
    Values(const OnnxRuntime& opened, const std::string& called)
        : library(opened), graph(called) {}
    Values(const Values&) = delete;
    Values& operator=(const Values&) = delete;
    ~Values() {
      for (std::size_t i = 0; i < count; ++i) library.api().ReleaseValue(values[i]);
    }
    void add(const TensorSpec& spec, void* data, DType dtype, const Shape& shape) {
      const auto bytes = static_cast<std::size_t>(shape.elements()) * element_size(dtype);
      // an empty tensor has no memory, yet a pointer is asked for
      void* start = data != nullptr ? data : static_cast<void*>(&nothing);
      library.ran(graph, library.api().CreateTensorWithDataAsOrtValue(
                             library.memory(), start, bytes, shape.dims.data(),
                           static_cast<std::size_t>(shape.rank), element_type(dtype),
                           &values[count]));
      names[count++] = spec.name.c_str();
    }
    const OnnxRuntime& library;
    const std::string& graph;
    std::array<const char*, most_tensors> names{};
    std::array<OrtValue*, most_tensors> values{};
    std::size_t count = 0;
    std::int64_t nothing = 0;
  };

  /// The graph that is opened when it is first run: memory attention on its own is for
  /// corrections alone where frames are tracked by one graph.
  Graph rare() const noexcept { return fused() ? Graph::memory_attention : Graph::track_step; }

  OrtSession* opened(Graph graph) {
    auto& session = graphs_[static_cast<std::size_t>(graph)];
    if (graph == rare()) std::call_once(rare_once_, [&] { session = library_.open(entry(graph)); });
    return session.get();
  }

  OnnxRuntime library_;
  Bundle bundle_;
  bool bfloat16_;  ///< whether the variants for CPUs are run
  std::array<OrtHandle<OrtSession>, graph_count + 1> graphs_;
  std::once_flag rare_once_;
  std::array<Part, 2> parts_;  ///< track_step.frame and track_step.object, or nothing
  std::mutex scratch_mutex_;
  std::vector<std::vector<float>> scratch_;
};

}  // namespace

std::shared_ptr<Session> open_onnxruntime(const Bundle& bundle, const SessionOptions& options) {
  return std::make_shared<OnnxRuntimeSession>(bundle, options);
}

}  // namespace sam2rt
