// The operators for ONNX Runtime, in the domain sam2rt: MemoryCrossAttention, Attention, Linear,
// LinearRelu, LinearGelu, LinearTurned.
//
// All read and write float32; products are of bfloat16. They use ONNX Runtime's own threads.
#include <new>
#include <vector>

#include "onnxruntime_abi.hpp"
#include "operators.hpp"

namespace {

using namespace sam2rt_cpu;
using namespace sam2rt_cpu::ort;
using Sizes = std::vector<std::int64_t>;

struct Kernel {
  const Api* api;
  const Units* units;
};

Status* failed(const Api* api, Code code, const char* what) {
  return call<CREATE_STATUS>(api, static_cast<int>(code), what);
}

Size product(const Sizes& sizes, Size from, Size to) {
  Size made = 1;
  for (Size i = from; i < to; ++i) made *= static_cast<Size>(sizes[i]);
  return made;
}

Size last(const Sizes& sizes, Size back = 1) {
  return static_cast<Size>(sizes[sizes.size() - back]);
}

struct Tensor {
  const void* data = nullptr;
  Sizes sizes;
  const float* floats() const { return static_cast<const float*>(data); }
};

// a failed status of the interface is handed on; it belongs to who called us
#define SAM2RT_TRY(expression) \
  if (Status* const status = (expression)) return status

Status* read(const Api* api, const Value* value, Tensor& out) {
  Shape* shape = nullptr;
  std::size_t count = 0;
  void* data = nullptr;
  SAM2RT_TRY((call<GET_SHAPE, const Value*, Shape**>(api, value, &shape)));
  Status* given = call<GET_DIMENSION_COUNT, const Shape*, std::size_t*>(api, shape, &count);
  if (!given) {
    out.sizes.resize(count);
    given = call<GET_DIMENSIONS, const Shape*, std::int64_t*, std::size_t>(
        api, shape, out.sizes.data(), count);
  }
  using Release = void (*)(Shape*);
  reinterpret_cast<Release>(reinterpret_cast<void* const*>(api)[RELEASE_SHAPE])(shape);
  if (given) return given;
  SAM2RT_TRY((call<GET_DATA, Value*, void**>(api, const_cast<Value*>(value), &data)));
  out.data = data;
  return nullptr;
}

Status* input(const Api* api, const Context* context, Size index, Tensor& out) {
  const Value* value = nullptr;
  SAM2RT_TRY((call<GET_INPUT, const Context*, std::size_t, const Value**>(api, context, index,
                                                                         &value)));
  return value ? read(api, value, out) : nullptr;
}

Status* output(const Api* api, Context* context, Size index, const Sizes& sizes, float*& out) {
  Value* value = nullptr;
  void* data = nullptr;
  SAM2RT_TRY((call<GET_OUTPUT, Context*, std::size_t, const std::int64_t*, std::size_t, Value**>(
      api, context, index, sizes.data(), sizes.size(), &value)));
  out = nullptr;
  if (!value) return nullptr;  // an output that nothing reads
  SAM2RT_TRY((call<GET_DATA, Value*, void**>(api, value, &data)));
  out = static_cast<float*>(data);
  return nullptr;
}

struct Pool {
  const Api* api;
  const Context* context;
  Status* status;
};

void in_pool(void* pool, Size count, void (*task)(void*, Size), void* what) {
  Pool& here = *static_cast<Pool*>(pool);
  if (here.status || count == 0) return;
  here.status = call<PARALLEL_FOR, const Context*, void (*)(void*, std::size_t), std::size_t,
                     std::size_t, void*>(here.api, here.context, task, count, count, what);
}

// query [N or 1.., T, C], key [N.., L, C], value [N.., L, c]
Status* attention(const Kernel& kernel, Context* context, bool pieces) {
  const Api* const api = kernel.api;
  Tensor query, key, value;
  SAM2RT_TRY(input(api, context, 0, query));
  SAM2RT_TRY(input(api, context, 1, key));
  SAM2RT_TRY(input(api, context, 2, value));
  const Size rank = key.sizes.size();
  if (rank < 2 || query.sizes.size() != rank || value.sizes.size() != rank) {
    return failed(api, INVALID_ARGUMENT, "query, key and value differ in rank");
  }
  const Size objects = product(key.sizes, 0, rank - 2);
  const Size queries = product(query.sizes, 0, rank - 2);
  const bool fits = (queries == objects || queries == 1) &&
                    product(value.sizes, 0, rank - 2) == objects &&
                    last(query.sizes) == last(key.sizes) &&
                    last(value.sizes, 2) == last(key.sizes, 2) && last(key.sizes, 2) > 0;
  if (!fits) {
    return failed(api, INVALID_ARGUMENT,
                  "expected query [N or 1,T,C], key [N,L,C], value [N,L,c] with a key at least");
  }
  Sizes made(key.sizes.begin(), key.sizes.end() - 2), lines;
  if (pieces) made.push_back(1);
  made.push_back(query.sizes[rank - 2]);
  lines = made;
  made.push_back(value.sizes[rank - 1]);
  Attention work{query.floats(), key.floats(),        value.floats(),      nullptr,
                 nullptr,        last(query.sizes, 2), last(key.sizes, 2), last(key.sizes),
                 last(value.sizes)};
  SAM2RT_TRY(output(api, context, 0, made, work.output));
  if (pieces) SAM2RT_TRY(output(api, context, 1, lines, work.log_denominator));
  if (product(made, 0, made.size()) == 0 || !work.output) return nullptr;
  Pool pool{api, context, nullptr};
  const bool done =
      attend_all(*kernel.units, work, objects, queries == 1 && objects > 1, {in_pool, &pool});
  if (pool.status) return pool.status;
  return done ? nullptr : failed(api, FAIL, "bad allocation in an attention");
}

struct CrossAttention {
  static constexpr const char* NAME = "MemoryCrossAttention";
  static constexpr Size INPUTS = 3, OUTPUTS = 2;
  static Element input_type(Size) { return FLOAT; }
  struct State : Kernel {};
  static Status* prepare(State&, const Info*) { return nullptr; }
  static Status* compute(State& state, Context* context) { return attention(state, context, true); }
};

struct PlainAttention : CrossAttention {
  static constexpr const char* NAME = "Attention";
  static constexpr Size OUTPUTS = 1;
  static Status* compute(State& state, Context* context) {
    return attention(state, context, false);
  }
};

// input [.., K], weight [K, N] constant, bias [N]; TURNED: input [.., T, K], cos and sin [T, N]
template <Activation ACTIVATION, bool TURNED = false>
struct Linear {
  static constexpr const char* NAME = TURNED                           ? "LinearTurned"
                                      : ACTIVATION == Activation::relu ? "LinearRelu"
                                      : ACTIVATION == Activation::gelu ? "LinearGelu"
                                                                       : "Linear";
  static constexpr Size INPUTS = TURNED ? 5 : 3, OUTPUTS = 1;
  static Element input_type(Size index) { return index == 1 ? BFLOAT16 : FLOAT; }
  struct State : Kernel {
    Buffer packed;
    Size depth = 0, columns = 0;
  };

  static Status* prepare(State& state, const Info* info) {
    int constant = 0;
    const Value* value = nullptr;
    Tensor weight;
    SAM2RT_TRY((call<GET_CONSTANT_INPUT, const Info*, std::size_t, int*, const Value**>(
        state.api, info, 1, &constant, &value)));
    if (!constant || !value) {
      return failed(state.api, INVALID_ARGUMENT, "a dense layer needs a constant weight");
    }
    SAM2RT_TRY(read(state.api, value, weight));
    if (weight.sizes.size() != 2) {
      return failed(state.api, INVALID_ARGUMENT, "a dense layer needs a weight [K, N]");
    }
    state.depth = last(weight.sizes, 2);
    state.columns = last(weight.sizes);
    state.packed = Buffer(packed_dense_size(state.depth, state.columns) * sizeof(Bf16));
    if (!state.packed.get()) return failed(state.api, FAIL, "bad allocation of packed weights");
    pack_dense(static_cast<const Bf16*>(weight.data), state.depth, state.columns,
               state.packed.bf16());
    return nullptr;
  }

  static Status* turn(const State& state, Context* context, const Sizes& rows, Dense& dense) {
    Tensor cos, sin;
    SAM2RT_TRY(input(state.api, context, 3, cos));
    SAM2RT_TRY(input(state.api, context, 4, sin));
    const bool fits = cos.sizes.size() == 2 && sin.sizes == cos.sizes && rows.size() > 1 &&
                      last(cos.sizes) == state.columns && state.columns % 2 == 0 &&
                      last(cos.sizes, 2) == last(rows, 2);
    if (!fits) {
      return failed(state.api, INVALID_ARGUMENT, "expected input [.., T, K], cos and sin [T, N]");
    }
    dense.cos = cos.floats();
    dense.sin = sin.floats();
    dense.turn_rows = last(cos.sizes, 2);
    return nullptr;
  }

  static Status* compute(State& state, Context* context) {
    Tensor rows, bias;
    SAM2RT_TRY(input(state.api, context, 0, rows));
    SAM2RT_TRY(input(state.api, context, 2, bias));
    const bool fits = !rows.sizes.empty() && last(rows.sizes) == state.depth &&
                      product(bias.sizes, 0, bias.sizes.size()) == state.columns;
    if (!fits) return failed(state.api, INVALID_ARGUMENT, "expected input [.., K], bias [N]");
    Sizes made = rows.sizes;
    made.back() = static_cast<std::int64_t>(state.columns);
    Dense dense{rows.floats(), state.packed.bf16(), bias.floats(), nullptr, state.depth,
                state.columns, ACTIVATION};
    if (TURNED) SAM2RT_TRY(turn(state, context, rows.sizes, dense));
    SAM2RT_TRY(output(state.api, context, 0, made, dense.output));
    Pool pool{state.api, context, nullptr};
    const bool done = dense_all(*state.units, dense, product(made, 0, made.size() - 1),
                                {in_pool, &pool});
    if (pool.status) return pool.status;
    return done ? nullptr : failed(state.api, FAIL, "bad allocation in a product");
  }
};

// an operator's description, made of what differs between them
template <class Of>
const Operator* described() {
  using State = typename Of::State;
  static Operator made{};
  made.version = VERSION;
  made.name = [](const Operator*) { return Of::NAME; };
  made.provider = [](const Operator*) -> const char* { return nullptr; };
  made.input_type = [](const Operator*, std::size_t i) { return Of::input_type(i); };
  made.input_count = [](const Operator*) { return Of::INPUTS; };
  made.output_type = [](const Operator*, std::size_t) { return FLOAT; };
  made.output_count = [](const Operator*) { return Of::OUTPUTS; };
  made.input_presence = made.output_presence = [](const Operator*, std::size_t) {
    return REQUIRED;
  };
  made.input_memory = [](const Operator*, std::size_t) { return 0; };
  made.variadic_inputs = made.variadic_outputs = [](const Operator*) { return 1; };
  made.variadic_inputs_alike = made.variadic_outputs_alike = [](const Operator*) { return 0; };
  made.destroy = [](void* state) { delete static_cast<State*>(state); };
  made.create = [](const Operator*, const Api* api, const Info* info, void** kernel) -> Status* {
    const Units* const units = best_units();
    if (!units) return failed(api, FAIL, "this processor has no units for bfloat16");
    State* const state = new (std::nothrow) State();
    if (!state) return failed(api, FAIL, "bad allocation of an operator");
    state->api = api;
    state->units = units;
    if (Status* const status = Of::prepare(*state, info)) {
      delete state;
      return status;
    }
    *kernel = state;
    return nullptr;
  };
  made.compute = [](void* state, Context* context) -> Status* {
    try {
      return Of::compute(*static_cast<State*>(state), context);
    } catch (const std::bad_alloc&) {
      return failed(static_cast<State*>(state)->api, FAIL, "bad allocation in an operator");
    }
  };
  return &made;
}

}  // namespace

// what ONNX Runtime calls when it is told of the library
extern "C" __attribute__((visibility("default"))) Status* RegisterCustomOps(Options* options,
                                                                            const ApiBase* base) {
  const Api* const api = base->get(VERSION);
  // an older ONNX Runtime: it names its own version; there is no table to make a status with
  if (!api) return nullptr;
  // lives as long as the program: sessions keep pointers into it
  static Domain* domain = nullptr;
  if (!domain) {
    SAM2RT_TRY((call<CREATE_DOMAIN, const char*, Domain**>(api, "sam2rt", &domain)));
    for (const Operator* made :
         {described<CrossAttention>(), described<PlainAttention>(),
          described<Linear<Activation::none>>(), described<Linear<Activation::relu>>(),
          described<Linear<Activation::gelu>>(), described<Linear<Activation::none, true>>()}) {
      SAM2RT_TRY((call<ADD_OPERATOR, Domain*, const Operator*>(api, domain, made)));
    }
  }
  return call<ADD_DOMAIN, Options*, Domain*>(api, options, domain);
}
