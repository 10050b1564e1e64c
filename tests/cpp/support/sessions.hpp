#ifndef SAM2RT_TESTS_SESSIONS_HPP
#define SAM2RT_TESTS_SESSIONS_HPP

#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "sam2rt/sam2rt.hpp"

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

  void run(sam2rt::Graph graph, sam2rt::Span<const sam2rt::InputTensor> inputs,
           sam2rt::Span<const sam2rt::OutputTensor> outputs) override {
    const auto began = std::chrono::steady_clock::now();
    inner_->run(graph, inputs, outputs);
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    if (graph == sam2rt::Graph::memory_attention) {
      memories_ = inputs[1].shape.dims[1];
      pointers_ = inputs[3].shape.dims[1];
    }
    if (graph == sam2rt::Graph::mask_decoder) {
      for (std::int64_t i = 0; i < inputs[0].shape.dims[0]; ++i) {
        calls.push_back({*static_cast<const bool*>(inputs[7].data), memories_, pointers_});
      }
      memories_ = pointers_ = -1;
    }
  }

  std::vector<SeenCall> calls;
  double seconds = 0;  ///< spent in the session

 private:
  std::shared_ptr<sam2rt::Session> inner_;
  std::int64_t memories_ = -1, pointers_ = -1;
};

/// Answers at once with numbers that depend on every input: for what needs no model. Allocates
/// nothing.
class MixingSession final : public sam2rt::Session {
 public:
  explicit MixingSession(const sam2rt::Bundle& bundle) : bundle_(bundle) {}

  const sam2rt::Bundle& bundle() const noexcept override { return bundle_; }

  void run(sam2rt::Graph graph, sam2rt::Span<const sam2rt::InputTensor> inputs,
           sam2rt::Span<const sam2rt::OutputTensor> outputs) override {
    sam2rt::check_tensors(bundle_.graph(graph).spec, inputs, outputs);
    std::uint32_t state = 2166136261U + static_cast<std::uint32_t>(graph);
    for (const auto& input : inputs) {
      if (input.dtype != sam2rt::DType::float32) continue;
      const auto* values = static_cast<const float*>(input.data);
      for (std::int64_t i = 0; i < input.shape.elements(); i += 7) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, values + i, sizeof bits);
        state = (state ^ bits) * 16777619U;
      }
    }
    for (const auto& output : outputs) {
      auto* values = static_cast<float*>(output.data);
      for (std::int64_t i = 0; values != nullptr && i < output.shape.elements(); ++i) {
        state = state * 1664525U + 1013904223U;
        values[i] = static_cast<float>(state >> 8) / 16777216.0F - 0.3F;
      }
    }
  }

 private:
  sam2rt::Bundle bundle_;
};

#endif
