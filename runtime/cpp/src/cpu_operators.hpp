#ifndef SAM2RT_SRC_CPU_OPERATORS_HPP
#define SAM2RT_SRC_CPU_OPERATORS_HPP

#include <filesystem>
#include <string>

#include "sam2rt/bundle.hpp"

namespace sam2rt {

/// The variant for CPUs of a separate graph, which runs in bfloat16; null where the bundle has none.
const GraphEntry* cpu_variant(const Bundle& bundle, Graph graph) noexcept;

/// Whether a bf16 or int8 bundle carries those variants of all separate graphs.
bool has_cpu_variants(const Bundle& bundle) noexcept;

/// The library of operators that the variants need, which `sam2rt plugins --cpu` compiles into the
/// user's cache. Throws SessionError, in one line, where this machine lacks it or the units; the
/// message names ONNX Runtime's `version` and the bundle.
std::filesystem::path cpu_operators(const Bundle& bundle, const std::string& version);

}  // namespace sam2rt

#endif
