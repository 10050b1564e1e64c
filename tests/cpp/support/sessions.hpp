#ifndef SAM2RT_TESTS_SESSIONS_HPP
#define SAM2RT_TESTS_SESSIONS_HPP

#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "sam2rt/sam2rt.hpp"
#include "support/mixing.hpp"

/// What one object of one call was given.
struct SeenCall {
  bool multimask = false;
  std::int64_t memories = -1;  ///< -1: no memory attention went before
  std::int64_t pointers = -1;
};

/// Passes calls on, notes what decoder and attention were given, and the time they took.
class WatchedSession final : public sam2rt::Session {
 public:
  explicit WatchedSession(std::shared_ptr<sam2rt::Session> inner) : inner_(std::move(inner)) {}

  const sam2rt::Bundle& bundle() const noexcept override { return inner_->bundle(); }
  std::unique_ptr<sam2rt::GraphMemory> allocate(std::size_t count) override {
    return inner_->allocate(count);
  }
  int max_objects() const noexcept override { return inner_->max_objects(); }
  int max_images() const noexcept override { return inner_->max_images(); }
  bool fused() const noexcept override { return inner_->fused(); }
  bool per_object() const noexcept override { return inner_->per_object(); }

  void run(sam2rt::Graph graph, sam2rt::Span<const sam2rt::InputTensor> inputs,
           sam2rt::Span<const sam2rt::OutputTensor> outputs) override {
    const auto began = std::chrono::steady_clock::now();
    inner_->run(graph, inputs, outputs);
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    if (graph == sam2rt::Graph::memory_attention) {
      groups.push_back(inputs[1].shape.dims[0]);
      memories_ = inputs[1].shape.dims[1];
      pointers_ = inputs[3].shape.dims[1];
    }
    if (graph == sam2rt::Graph::mask_decoder) {
      for (std::int64_t i = 0; i < inputs[0].shape.dims[0]; ++i) {
        calls.push_back({*static_cast<const bool*>(inputs[7].data), memories_, pointers_});
      }
      memories_ = pointers_ = -1;
    }
    if (graph == sam2rt::Graph::track_step) {
      const SeenCall seen{true, inputs[3].shape.dims[1], inputs[5].shape.dims[1]};
      calls.insert(calls.end(), static_cast<std::size_t>(inputs[3].shape.dims[0]), seen);
    }
  }

  std::vector<SeenCall> calls;
  std::vector<std::int64_t> groups;  ///< objects of each call of memory attention
  double seconds = 0;  ///< spent in the session

 private:
  std::shared_ptr<sam2rt::Session> inner_;
  std::int64_t memories_ = -1, pointers_ = -1;
};

/// Answers at once with numbers that depend on every input: for what needs no model. Allocates
/// nothing.
class MixingSession final : public sam2rt::Session {
 public:
  /// `most`: objects and images one call takes; `fused`: frames are tracked by one graph;
  /// `per_object`: which says that it works per object.
  explicit MixingSession(const sam2rt::Bundle& bundle, int most = 1000, bool fused = false,
                         bool per_object = false)
      : bundle_(bundle), most_(most), fused_(fused), per_object_(per_object) {}

  const sam2rt::Bundle& bundle() const noexcept override { return bundle_; }
  int max_objects() const noexcept override { return most_; }
  int max_images() const noexcept override { return most_; }
  bool fused() const noexcept override { return fused_; }
  bool per_object() const noexcept override { return per_object_; }

  void run(sam2rt::Graph graph, sam2rt::Span<const sam2rt::InputTensor> inputs,
           sam2rt::Span<const sam2rt::OutputTensor> outputs) override {
    sam2rt::check_tensors(bundle_.graph(graph).spec, inputs, outputs);
    Mixer mixer(static_cast<int>(graph));
    for (const auto& input : inputs) {
      const auto dtype = input.dtype;
      const std::size_t bytes = dtype == sam2rt::DType::int64     ? 8
                                : dtype == sam2rt::DType::boolean ? 1
                                                                  : 4;
      mixer.take(input.data, bytes, input.shape.elements());
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      auto* values = static_cast<float*>(outputs[i].data);
      if (values != nullptr) mixer.give(i, values, outputs[i].shape.elements());
    }
  }

 private:
  sam2rt::Bundle bundle_;
  int most_;
  bool fused_;
  bool per_object_;
};

#endif
